//! What follows the convolutions: the mean over all positions, linear maps and the simplex's logits.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use perennial_core::Simplex;
use perennial_kernels as kernels;

use super::Addend;
use super::memory_order::{Primitive, contiguous, into_values, primitive, recycle, values};

/// The fused head; called through burn's dispatch on `flex` devices only.
#[backend_extension(Flex, Autodiff)]
pub trait FusedHead: Backend {
    /// Mean over all positions.
    ///
    /// # Shapes
    ///
    /// - map: `[height, width, batch, channels]`
    /// - result: `[batch, channels]`
    fn global_mean(map: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `x * weight^T`, plus the bias.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, inputs]`, weight: `[outputs, inputs]`, bias: `[outputs]`
    /// - result: `[batch, outputs]`
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Addend<Self>,
    ) -> FloatTensor<Self>;

    /// Logits of the simplex's `K` prototypes.
    ///
    /// # Shapes
    ///
    /// - features: `[batch, K - 1]`
    /// - result: `[batch, K]`
    fn simplex_logits(features: FloatTensor<Self>, simplex: Simplex) -> FloatTensor<Self>;
}

/// The transposed matrix, as a view: products read either order.
fn transposed(matrix: &Primitive) -> Primitive {
    matrix.permute(&[1, 0])
}

fn mean(map: Primitive) -> Primitive {
    let map = contiguous(map);
    let [_, _, batch, channels] = map.shape().dims();
    let mean = kernels::global_mean(values(&map), batch * channels);
    primitive(mean, &[batch, channels])
}

fn product(x: Primitive, weight: &Primitive, bias: Option<Primitive>) -> Primitive {
    let product = Flex::float_matmul(x, transposed(weight));
    let Some(bias) = bias else {
        return product;
    };
    let shape: [usize; 2] = product.shape().dims();
    let mut sum = into_values(product);
    kernels::add_row(&mut sum, values(&contiguous(bias)));
    primitive(sum, &shape)
}

fn logits(features: Primitive, simplex: Simplex) -> Primitive {
    let features = contiguous(features);
    let [batch, _] = features.shape().dims();
    let mut logits = kernels::buffer(batch * simplex.vertices());
    simplex.logits(values(&features), &mut logits);
    primitive(logits, &[batch, simplex.vertices()])
}

impl FusedHead for Flex {
    fn global_mean(map: Primitive) -> Primitive {
        mean(map)
    }

    fn linear(x: Primitive, weight: Primitive, bias: Addend<Self>) -> Primitive {
        product(x, &weight, bias.into_option())
    }

    fn simplex_logits(features: Primitive, simplex: Simplex) -> Primitive {
        logits(features, simplex)
    }
}

#[derive(Debug)]
struct MeanBackward;

impl Backward<Flex, 1> for MeanBackward {
    /// Height and width.
    type State = [usize; 2];

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(grads.consume::<Flex>(&ops.node));
        let [height, width] = ops.state;
        let [batch, channels]: [usize; 2] = gradient.shape().dims();
        if let [Some(node)] = ops.parents {
            let result = kernels::global_mean_backward(values(&gradient), height * width);
            let shape = [height, width, batch, channels];
            grads.register::<Flex>(node.id, primitive(result, &shape));
        }
        recycle(gradient);
    }
}

#[derive(Debug)]
struct LinearBackward;

/// Registers the gradients of x, weight and, where there was one, the bias.
fn linear_backward<const N: usize>(ops: Ops<(Primitive, Primitive), N>, grads: &mut Gradients) {
    let gradient = contiguous(grads.consume::<Flex>(&ops.node));
    let (x, weight) = ops.state;
    let parent = |at: usize| {
        let node = ops.parents.get(at).and_then(Option::as_ref);
        node.map(|node| node.id)
    };
    if let Some(id) = parent(0) {
        grads.register::<Flex>(id, Flex::float_matmul(gradient.clone(), weight));
    }
    if let Some(id) = parent(1) {
        let result = Flex::float_matmul(transposed(&gradient), x.clone());
        grads.register::<Flex>(id, result);
    }
    if let Some(id) = parent(2) {
        let [_, outputs]: [usize; 2] = gradient.shape().dims();
        let result = kernels::channel_sums(values(&gradient), outputs);
        grads.register::<Flex>(id, primitive(result, &[outputs]));
    }
    recycle(gradient);
    recycle(x);
}

impl Backward<Flex, 2> for LinearBackward {
    type State = (Primitive, Primitive);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        linear_backward(ops, grads);
    }
}

impl Backward<Flex, 3> for LinearBackward {
    type State = (Primitive, Primitive);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        linear_backward(ops, grads);
    }
}

#[derive(Debug)]
struct LogitsBackward;

impl Backward<Flex, 1> for LogitsBackward {
    type State = Simplex;

    fn backward(self, ops: Ops<Simplex, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(grads.consume::<Flex>(&ops.node));
        let [batch, _]: [usize; 2] = gradient.shape().dims();
        if let [Some(node)] = ops.parents {
            let mut result = kernels::buffer(batch * ops.state.dim());
            ops.state.logits_backward(values(&gradient), &mut result);
            grads.register::<Flex>(node.id, primitive(result, &[batch, ops.state.dim()]));
        }
        recycle(gradient);
    }
}

impl<C: CheckpointStrategy> FusedHead for Autodiff<Flex, C> {
    fn global_mean(map: FloatTensor<Self>) -> FloatTensor<Self> {
        let (map, node) = map.into_parts();
        let [height, width, _, _] = map.shape().dims();
        let output = mean(map);
        match MeanBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish([height, width], output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Addend<Self>,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (bias, bias_node) = bias.into_option().map(|bias| bias.into_parts()).unzip();
        let output = product(x.clone(), &weight, bias);
        match bias_node {
            None => {
                let nodes = [x_node, weight_node];
                let prepared = Backward::<Flex, 2>::prepare::<C>(LinearBackward, nodes);
                match prepared.compute_bound().stateful() {
                    OpsKind::Tracked(prepared) => prepared.finish((x, weight), output),
                    OpsKind::UnTracked(prepared) => prepared.finish(output),
                }
            }
            Some(bias_node) => {
                let nodes = [x_node, weight_node, bias_node];
                let prepared = Backward::<Flex, 3>::prepare::<C>(LinearBackward, nodes);
                match prepared.compute_bound().stateful() {
                    OpsKind::Tracked(prepared) => prepared.finish((x, weight), output),
                    OpsKind::UnTracked(prepared) => prepared.finish(output),
                }
            }
        }
    }

    fn simplex_logits(features: FloatTensor<Self>, simplex: Simplex) -> FloatTensor<Self> {
        let (features, node) = features.into_parts();
        let output = logits(features, simplex);
        match LogitsBackward
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => prepared.finish(simplex, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

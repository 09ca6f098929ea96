//! The layers of a transformer as nodes of the autodiff graph: convolution with bias, layer norm, attention.
//!
//! Tokens lie as maps of one column do, `[tokens, 1, batch, dim]`; a linear layer is a convolution over one position.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use perennial_kernels as kernels;

use super::memory_order::{CHANNELS_FIRST, TAPS_FIRST, contiguous, recycle, taps_first};
use super::{
    Addend, Fork, FusedOptions, Primitive, geometry, into_values, output_shape, primitive, values,
};

/// What ends a convolution with bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// The exact Gaussian error linear unit.
    Gelu,
}

/// Transformer layers; called through burn's dispatch on `flex` devices only.
#[backend_extension(Flex, Autodiff)]
pub trait TokenLayers: Backend {
    /// Convolution without padding, bias, optional residual, optional activation. Other layers that read the residual share its fork.
    ///
    /// # Shapes
    ///
    /// - x: `[height, width, batch, in_channels]`, weight: `[out_channels, in_channels, kernel, kernel]`, bias: `[out_channels]`
    /// - residual, result: `[out_height, out_width, batch, out_channels]`
    fn conv_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        #[extension_type] residual: Addend<Self>,
        residual_fork: Fork,
        stride: usize,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// Every token normalised by its own mean and deviation, then scaled and shifted. Other layers that read x share its fork.
    ///
    /// # Shapes
    ///
    /// - x, result: `[tokens, 1, batch, dim]`, gamma, beta: `[dim]`
    fn layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        input_fork: Fork,
    ) -> FloatTensor<Self>;

    /// Attention between the tokens of an image.
    ///
    /// # Shapes
    ///
    /// - projected: `[tokens, 1, batch, 3 * dim]`, queries, keys and values
    /// - result: `[tokens, 1, batch, dim]`
    fn attention(projected: FloatTensor<Self>, heads: usize) -> FloatTensor<Self>;
}

/// Everything that the backward pass of a convolution with bias reads again.
#[derive(Clone, Debug)]
struct SavedConv {
    x: Primitive,
    weight: Primitive,
    /// Before the activation, where there is one.
    before: Option<Primitive>,
    stride: usize,
    residual_fork: Fork,
}

impl SavedConv {
    fn geometry(&self) -> kernels::Convolution {
        geometry(&self.x, &self.weight, &options(self.stride))
    }
}

fn options(stride: usize) -> FusedOptions {
    FusedOptions {
        stride,
        padding: 0,
        relu: false,
        epsilon: 0.0,
        input_fork: Fork::default(),
        residual_fork: Fork::default(),
    }
}

fn conv_bias(
    x: Primitive,
    weight: Primitive,
    bias: Primitive,
    residual: Option<Primitive>,
    residual_fork: Fork,
    stride: usize,
    activation: Activation,
) -> (SavedConv, Primitive) {
    let (x, bias, residual) = (contiguous(x), contiguous(bias), residual.map(contiguous));
    let taps = taps_first(&weight);
    let convolution = geometry(&x, &weight, &options(stride));
    let shape = output_shape(&convolution);
    let mut result = kernels::buffer(convolution.output_len());
    let epilogue = kernels::Epilogue {
        shift: values(&bias),
        residual: residual.as_ref().map(values),
        relu: false,
    };
    convolution.forward(values(&x), values(&taps), Some(epilogue), &mut result);
    let (before, output) = match activation {
        Activation::None => (None, result),
        Activation::Gelu => {
            let mut output = kernels::buffer(result.len());
            kernels::gelu(&result, &mut output);
            (Some(primitive(result, &shape)), output)
        }
    };
    let saved = SavedConv {
        x,
        weight,
        before,
        stride,
        residual_fork,
    };
    (saved, primitive(output, &shape))
}

/// What the backward pass of a layer norm reads again.
#[derive(Clone, Debug)]
struct SavedNorm {
    x: Primitive,
    gamma: Primitive,
    statistics: Arc<Vec<[f32; 2]>>,
    input_fork: Fork,
}

fn layer_norm(
    x: Primitive,
    gamma: Primitive,
    beta: Primitive,
    epsilon: f64,
    input_fork: Fork,
) -> (SavedNorm, Primitive) {
    let (x, gamma, beta) = (contiguous(x), contiguous(gamma), contiguous(beta));
    let mut output = kernels::buffer(values(&x).len());
    let factors = [values(&gamma), values(&beta)];
    let statistics = kernels::layer_norm(values(&x), factors, epsilon, &mut output);
    let shape: [usize; 4] = x.shape().dims();
    let saved = SavedNorm {
        x,
        gamma,
        statistics: statistics.into(),
        input_fork,
    };
    (saved, primitive(output, &shape))
}

/// What the backward pass of attention reads again.
#[derive(Clone, Debug)]
struct SavedAttention {
    projected: Primitive,
    geometry: kernels::Attention,
    weights: Arc<Vec<f32>>,
}

fn attention(projected: Primitive, heads: usize) -> (SavedAttention, Primitive) {
    let projected = contiguous(projected);
    let [tokens, _, batch, width] = projected.shape().dims();
    let geometry = kernels::Attention {
        tokens,
        batch,
        heads,
        dim: width / 3,
    };
    let mut output = kernels::buffer(tokens * batch * geometry.dim);
    let weights = geometry.forward(values(&projected), &mut output);
    let output = primitive(output, &[tokens, 1, batch, geometry.dim]);
    let saved = SavedAttention {
        projected,
        geometry,
        weights: weights.into(),
    };
    (saved, output)
}

impl TokenLayers for Flex {
    fn conv_bias(
        x: Primitive,
        weight: Primitive,
        bias: Primitive,
        residual: Addend<Self>,
        residual_fork: Fork,
        stride: usize,
        activation: Activation,
    ) -> Primitive {
        let residual = residual.into_option();
        conv_bias(x, weight, bias, residual, residual_fork, stride, activation).1
    }

    fn layer_norm(
        x: Primitive,
        gamma: Primitive,
        beta: Primitive,
        epsilon: f64,
        input_fork: Fork,
    ) -> Primitive {
        layer_norm(x, gamma, beta, epsilon, input_fork).1
    }

    fn attention(projected: Primitive, heads: usize) -> Primitive {
        attention(projected, heads).1
    }
}

/// Registers the gradients of x, weight, bias and, where there was one, the residual.
fn conv_backward<const N: usize>(ops: Ops<SavedConv, N>, grads: &mut Gradients) {
    let mut gradient = into_values(grads.consume::<Flex>(&ops.node));
    let saved = ops.state;
    let ops = Ops::new(ops.parents, ops.node, ());
    let convolution = saved.geometry();
    if let Some(before) = &saved.before {
        kernels::gelu_backward(values(before), &mut gradient);
    }
    let parent = |at: usize| {
        ops.parents
            .get(at)
            .and_then(Option::as_ref)
            .map(|node| node.id)
    };
    if let Some(id) = parent(0) {
        let mut result = kernels::buffer(convolution.input_len());
        let taps = taps_first(&saved.weight);
        convolution.input_gradient(&gradient, values(&taps), None, &mut result);
        let shape: [usize; 4] = saved.x.shape().dims();
        grads.register::<Flex>(id, primitive(result, &shape));
    }
    if let Some(id) = parent(1) {
        let mut result = kernels::buffer(convolution.weight_len());
        convolution.weight_gradient(values(&saved.x), &gradient, &mut result);
        let shape: [usize; 4] = saved.weight.shape().dims();
        let shape = TAPS_FIRST.map(|axis| shape[axis]);
        grads.register::<Flex>(id, primitive(result, &shape).permute(&CHANNELS_FIRST));
    }
    if let Some(id) = parent(2) {
        let channels = convolution.out_channels;
        let sums = kernels::channel_sums(&gradient, channels);
        grads.register::<Flex>(id, primitive(sums, &[channels]));
    }
    if parent(3).is_some() {
        let shape = output_shape(&convolution);
        let fork = &saved.residual_fork;
        fork.register(&ops, 3, gradient, &shape, grads);
    } else {
        kernels::recycle(gradient);
    }
    saved.before.into_iter().for_each(recycle);
    recycle(saved.x);
}

#[derive(Debug)]
struct ConvBackward;

impl Backward<Flex, 3> for ConvBackward {
    type State = SavedConv;

    fn backward(self, ops: Ops<SavedConv, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        conv_backward(ops, grads);
    }
}

impl Backward<Flex, 4> for ConvBackward {
    type State = SavedConv;

    fn backward(self, ops: Ops<SavedConv, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        conv_backward(ops, grads);
    }
}

#[derive(Debug)]
struct NormBackward;

impl Backward<Flex, 3> for NormBackward {
    type State = SavedNorm;

    fn backward(self, ops: Ops<SavedNorm, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(grads.consume::<Flex>(&ops.node));
        let SavedNorm {
            x,
            gamma,
            statistics,
            input_fork,
        } = ops.state;
        let ops = Ops::new(ops.parents, ops.node, ());
        let found = kernels::layer_norm_backward(
            values(&x),
            &statistics,
            values(&gamma),
            values(&gradient),
        );
        let (shape, dim): ([usize; 4], _) = (x.shape().dims(), found.gamma.len());
        input_fork.register(&ops, 0, found.values, &shape, grads);
        let factors = [found.gamma, found.beta];
        for (parent, gradient) in ops.parents.iter().skip(1).zip(factors) {
            if let Some(node) = parent {
                grads.register::<Flex>(node.id, primitive(gradient, &[dim]));
            }
        }
        for tensor in [gradient, x] {
            recycle(tensor);
        }
    }
}

#[derive(Debug)]
struct AttentionBackward;

impl Backward<Flex, 1> for AttentionBackward {
    type State = SavedAttention;

    fn backward(self, ops: Ops<SavedAttention, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(grads.consume::<Flex>(&ops.node));
        let SavedAttention {
            projected,
            geometry,
            weights,
        } = ops.state;
        if let [Some(node)] = ops.parents {
            let result = geometry.backward(values(&projected), &weights, values(&gradient));
            let shape: [usize; 4] = projected.shape().dims();
            grads.register::<Flex>(node.id, primitive(result, &shape));
        }
        if let Some(weights) = Arc::into_inner(weights) {
            kernels::recycle(weights);
        }
        for tensor in [gradient, projected] {
            recycle(tensor);
        }
    }
}

impl<C: CheckpointStrategy> TokenLayers for Autodiff<Flex, C> {
    fn conv_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: Addend<Self>,
        residual_fork: Fork,
        stride: usize,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (bias, bias_node) = bias.into_parts();
        let (residual, residual_node) = residual
            .into_option()
            .map(|tensor| tensor.into_parts())
            .unzip();
        let (saved, output) =
            conv_bias(x, weight, bias, residual, residual_fork, stride, activation);
        match residual_node {
            None => {
                let nodes = [x_node, weight_node, bias_node];
                let prepared = Backward::<Flex, 3>::prepare::<C>(ConvBackward, nodes);
                match prepared.compute_bound().stateful() {
                    OpsKind::Tracked(prepared) => prepared.finish(saved, output),
                    OpsKind::UnTracked(prepared) => prepared.finish(output),
                }
            }
            Some(residual) => {
                let nodes = [x_node, weight_node, bias_node, residual];
                let prepared = Backward::<Flex, 4>::prepare::<C>(ConvBackward, nodes);
                match prepared.compute_bound().stateful() {
                    OpsKind::Tracked(prepared) => prepared.finish(saved, output),
                    OpsKind::UnTracked(prepared) => prepared.finish(output),
                }
            }
        }
    }

    fn layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        input_fork: Fork,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (gamma, gamma_node) = gamma.into_parts();
        let (beta, beta_node) = beta.into_parts();
        let (saved, output) = layer_norm(x, gamma, beta, epsilon, input_fork);
        let nodes = [x_node, gamma_node, beta_node];
        match NormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(saved, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn attention(projected: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        let (projected, node) = projected.into_parts();
        let (saved, output) = attention(projected, heads);
        match AttentionBackward
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => prepared.finish(saved, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

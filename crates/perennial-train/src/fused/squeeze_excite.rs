//! Squeeze and excitation as one node: means, both layers, gates, and the residual and ReLU that may follow.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use perennial_kernels as kernels;

use super::memory_order::{
    CHANNELS_FIRST, Primitive, contiguous, into_values, primitive, recycle, taps_first, values,
};
use super::{Addend, Fork};

/// Squeeze and excitation; called through burn's dispatch on `flex` devices only.
#[backend_extension(Flex, Autodiff)]
pub trait SqueezeExciteLayer: Backend {
    /// Scales every channel of an image by a gate that the channels' means decide; adds the residual, and with one ends with a ReLU.
    /// Other layers that read the residual share its fork.
    ///
    /// # Shapes
    ///
    /// - x, residual, result: `[height, width, batch, channels]`
    /// - first: `[squeezed, channels, 1, 1]`, first_bias: `[squeezed]`
    /// - second: `[channels, squeezed, 1, 1]`, second_bias: `[channels]`
    fn squeeze_excite(
        x: FloatTensor<Self>,
        first: FloatTensor<Self>,
        first_bias: FloatTensor<Self>,
        second: FloatTensor<Self>,
        second_bias: FloatTensor<Self>,
        #[extension_type] residual: Addend<Self>,
        residual_fork: Fork,
    ) -> FloatTensor<Self>;
}

/// The layers as the kernels read them.
#[derive(Clone, Debug)]
struct Layers {
    first: Primitive,
    first_bias: Primitive,
    second: Primitive,
    second_bias: Primitive,
}

impl Layers {
    fn new([first, first_bias, second, second_bias]: [Primitive; 4]) -> Self {
        Self {
            first: taps_first(&first),
            first_bias: contiguous(first_bias),
            second: taps_first(&second),
            second_bias: contiguous(second_bias),
        }
    }

    fn slices(&self) -> kernels::GateLayers<'_> {
        kernels::GateLayers {
            first: values(&self.first),
            first_bias: values(&self.first_bias),
            second: values(&self.second),
            second_bias: values(&self.second_bias),
        }
    }
}

/// Everything that the backward pass reads again.
#[derive(Clone, Debug)]
struct Saved {
    x: Primitive,
    layers: Layers,
    gates: std::sync::Arc<kernels::Gates>,
    output: Primitive,
    residual_fork: Fork,
}

fn geometry(x: &Primitive, layers: &Layers) -> kernels::SqueezeExcite {
    let [height, width, batch, channels] = x.shape().dims();
    let [squeezed] = layers.first_bias.shape().dims();
    kernels::SqueezeExcite {
        positions: height * width,
        batch,
        channels,
        squeezed,
    }
}

fn forward(
    x: Primitive,
    layers: [Primitive; 4],
    residual: Option<Primitive>,
    residual_fork: Fork,
) -> Saved {
    let (x, residual) = (contiguous(x), residual.map(contiguous));
    let layers = Layers::new(layers);
    let mut output = kernels::buffer(values(&x).len());
    let gates = geometry(&x, &layers).forward(
        values(&x),
        layers.slices(),
        residual.as_ref().map(values),
        residual.is_some(),
        &mut output,
    );
    let shape: [usize; 4] = x.shape().dims();
    Saved {
        x,
        layers,
        gates: gates.into(),
        output: primitive(output, &shape),
        residual_fork,
    }
}

impl SqueezeExciteLayer for Flex {
    fn squeeze_excite(
        x: Primitive,
        first: Primitive,
        first_bias: Primitive,
        second: Primitive,
        second_bias: Primitive,
        residual: Addend<Self>,
        residual_fork: Fork,
    ) -> Primitive {
        let layers = [first, first_bias, second, second_bias];
        forward(x, layers, residual.into_option(), residual_fork).output
    }
}

#[derive(Debug)]
struct SqueezeExciteBackward;

/// Registers the gradients of x, both layers and, where there was one, the residual.
fn backward<const N: usize>(ops: Ops<Saved, N>, grads: &mut Gradients) {
    let gradient = into_values(grads.consume::<Flex>(&ops.node));
    let Saved {
        x,
        layers,
        gates,
        output,
        residual_fork,
    } = ops.state;
    let ops = Ops::new(ops.parents, ops.node, ());
    let geometry = geometry(&x, &layers);
    let (shape, channels, squeezed): ([usize; 4], _, _) =
        (x.shape().dims(), geometry.channels, geometry.squeezed);
    let found = geometry.backward(
        values(&x),
        &gates,
        layers.slices(),
        (N == 6).then(|| values(&output)),
        gradient,
    );
    let weight = |values, [inputs, outputs]: [usize; 2]| {
        primitive(values, &[1, 1, inputs, outputs]).permute(&CHANNELS_FIRST)
    };
    let gradients = [
        primitive(found.map, &shape),
        weight(found.first, [channels, squeezed]),
        primitive(found.first_bias, &[squeezed]),
        weight(found.second, [squeezed, channels]),
        primitive(found.second_bias, &[channels]),
    ];
    for (parent, gradient) in ops.parents.iter().zip(gradients) {
        if let Some(node) = parent {
            grads.register::<Flex>(node.id, gradient);
        }
    }
    residual_fork.register(&ops, 5, found.residual, &shape, grads);
    for tensor in [output, x] {
        recycle(tensor);
    }
}

impl Backward<Flex, 5> for SqueezeExciteBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 5>, grads: &mut Gradients, _: &mut Checkpointer) {
        backward(ops, grads);
    }
}

impl Backward<Flex, 6> for SqueezeExciteBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 6>, grads: &mut Gradients, _: &mut Checkpointer) {
        backward(ops, grads);
    }
}

impl<C: CheckpointStrategy> SqueezeExciteLayer for Autodiff<Flex, C> {
    fn squeeze_excite(
        x: FloatTensor<Self>,
        first: FloatTensor<Self>,
        first_bias: FloatTensor<Self>,
        second: FloatTensor<Self>,
        second_bias: FloatTensor<Self>,
        residual: Addend<Self>,
        residual_fork: Fork,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (first, first_node) = first.into_parts();
        let (first_bias, first_bias_node) = first_bias.into_parts();
        let (second, second_node) = second.into_parts();
        let (second_bias, second_bias_node) = second_bias.into_parts();
        let (residual, residual_node) = residual
            .into_option()
            .map(|tensor| tensor.into_parts())
            .unzip();
        let saved = forward(
            x,
            [first, first_bias, second, second_bias],
            residual,
            residual_fork,
        );
        let output = saved.output.clone();
        let nodes = [
            x_node,
            first_node,
            first_bias_node,
            second_node,
            second_bias_node,
        ];
        match residual_node {
            None => {
                let prepared = Backward::<Flex, 5>::prepare::<C>(SqueezeExciteBackward, nodes);
                match prepared.compute_bound().stateful() {
                    OpsKind::Tracked(prepared) => prepared.finish(saved, output),
                    OpsKind::UnTracked(prepared) => prepared.finish(output),
                }
            }
            Some(residual) => {
                let [x, first, first_bias, second, second_bias] = nodes;
                let nodes = [x, first, first_bias, second, second_bias, residual];
                let prepared = Backward::<Flex, 6>::prepare::<C>(SqueezeExciteBackward, nodes);
                match prepared.compute_bound().stateful() {
                    OpsKind::Tracked(prepared) => prepared.finish(saved, output),
                    OpsKind::UnTracked(prepared) => prepared.finish(output),
                }
            }
        }
    }
}

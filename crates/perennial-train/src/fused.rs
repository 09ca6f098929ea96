//! Fused CPU layers as a burn backend extension, with their own backward passes.
//!
//! They exist because the plain path runs one small matrix product per image and a dozen passes per batch norm. The
//! kernels themselves are plain-slice functions in `perennial-kernels`; here they become nodes of the autodiff graph.
//! Feature maps are batch-inner: `[height, width, batch, channels]`. Weights have the usual shape `[out_channels, in_channels,
//! kernel, kernel]`, but from the first step on they lie in memory as the kernels read them, output channels innermost: gradients are
//! such views, and parameters take on their gradients' order.

mod fork;
mod head;
mod loss;
mod memory_order;
mod squeeze_excite;
mod tokens;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, AutodiffBackend, Backend, ExtensionType, Flex, TensorMetadata, backend_extension,
};
use perennial_kernels as kernels;

pub use fork::Fork;
pub use head::FusedHead;
pub use loss::{ContrastiveOptions, FusedLosses};
pub use squeeze_excite::SqueezeExciteLayer;
pub use tokens::{Activation, TokenLayers};

use memory_order::{
    CHANNELS_FIRST, Primitive, TAPS_FIRST, channels_first, contiguous, dense, into_values,
    lies_taps_first, primitive, recycle, taps_first, values,
};

/// What a fused convolution layer does besides the convolution.
#[derive(Clone, Debug)]
pub struct FusedOptions {
    /// Step between output positions.
    pub stride: usize,
    /// Zeros around the map.
    pub padding: usize,
    /// Whether a ReLU ends the layer.
    pub relu: bool,
    /// Batch norm's epsilon.
    pub epsilon: f64,
    /// Of the input, with other layers that read it.
    pub input_fork: Fork,
    /// Of the residual, with other layers that read it.
    pub residual_fork: Fork,
}

/// A shortcut or a bias that not every layer has; an enum because an extension's inputs cannot be `Option`s.
#[derive(ExtensionType)]
pub enum Addend<B: Backend> {
    /// To be added.
    Present(FloatTensor<B>),
    /// The layer has none.
    Absent,
}

impl<B: Backend> Addend<B> {
    fn into_option(self) -> Option<FloatTensor<B>> {
        match self {
            Self::Present(tensor) => Some(tensor),
            Self::Absent => None,
        }
    }
}

/// The fused layers; called through burn's dispatch on `flex` devices only.
#[backend_extension(Flex, Autodiff)]
pub trait FusedLayers: Backend {
    /// Convolution, batch norm with the batch's own statistics, optional residual, optional ReLU.
    ///
    /// # Shapes
    ///
    /// - x: `[height, width, batch, in_channels]`, weight: `[out_channels, in_channels / groups, kernel, kernel]`
    /// - gamma, beta: `[out_channels]`, residual: the shape of the output
    /// - results: output `[out_height, out_width, batch, out_channels]`, the batch's mean and biased variance
    fn conv_norm_train(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        #[extension_type] residual: Addend<Self>,
        options: FusedOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// 3x3 max-pooling of stride 2 and padding 1.
    fn max_pool_3x3(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// A weight that lies in memory in the order of its axes, whatever the order that it lay in.
    ///
    /// # Shapes
    ///
    /// - weight, result: `[out_channels, in_channels, kernel, kernel]`
    fn usual_order(weight: FloatTensor<Self>) -> FloatTensor<Self>;

    /// One step of SGD in one pass over memory: `velocity = momentum * velocity + gradient + weight_decay * parameter`, then
    /// `parameter -= learning_rate * velocity`. Tensors without other references are changed in place.
    ///
    /// # Shapes
    ///
    /// All the same; results: parameter, velocity.
    fn sgd_step(
        parameter: FloatTensor<Self>,
        velocity: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        rates: SgdRates,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// The numbers of a step of SGD.
#[derive(Clone, Copy, Debug)]
pub struct SgdRates {
    /// Share of the velocity that is kept.
    pub momentum: f32,
    /// Share of the parameter that is added to its gradient.
    pub weight_decay: f32,
    /// Length of the step.
    pub learning_rate: f32,
}

/// Everything that the backward pass of [`FusedLayers::conv_norm_train`] reads again.
#[derive(Clone, Debug)]
struct SavedForward {
    x: Primitive,
    weight: Primitive,
    gamma: Primitive,
    beta: Primitive,
    convolved: Primitive,
    mean: Primitive,
    inverse_deviation: Primitive,
    output: Primitive,
    options: FusedOptions,
}

fn geometry(x: &Primitive, weight: &Primitive, options: &FusedOptions) -> kernels::Convolution {
    let ([height, width, batch, in_channels], [out_channels, of_group, kernel_y, kernel_x]) =
        (x.shape().dims(), weight.shape().dims());
    kernels::Convolution {
        batch,
        in_channels,
        out_channels,
        input: [height, width],
        kernel: [kernel_y, kernel_x],
        stride: options.stride,
        padding: options.padding,
        dilation: 1,
        groups: in_channels / of_group,
    }
}

fn output_shape(convolution: &kernels::Convolution) -> [usize; 4] {
    let [height, width] = convolution.output();
    [height, width, convolution.batch, convolution.out_channels]
}

fn forward(
    x: Primitive,
    weight: Primitive,
    gamma: Primitive,
    beta: Primitive,
    residual: Option<Primitive>,
    options: FusedOptions,
) -> (SavedForward, Primitive) {
    let (x, residual) = (contiguous(x), residual.map(contiguous));
    let taps = taps_first(&weight);
    let (gamma, beta) = (contiguous(gamma), contiguous(beta));
    let convolution = geometry(&x, &weight, &options);
    let shape = output_shape(&convolution);
    let channels = convolution.out_channels;
    let mut convolved = kernels::buffer(convolution.output_len());
    convolution.forward(values(&x), values(&taps), None, &mut convolved);
    let (mean, variance) = kernels::batch_statistics(&convolved, channels);
    let inverse_deviation: Vec<f32> = variance
        .iter()
        .map(|&variance| (1.0 / (f64::from(variance) + options.epsilon).sqrt()) as f32)
        .collect();
    let mut output = kernels::buffer(convolved.len());
    kernels::normalize(
        &convolved,
        [&mean, &inverse_deviation, values(&gamma), values(&beta)],
        residual.as_ref().map(values),
        options.relu,
        &mut output,
    );
    let saved = SavedForward {
        x,
        weight,
        gamma,
        beta,
        convolved: primitive(convolved, &shape),
        mean: primitive(mean, &[channels]),
        inverse_deviation: primitive(inverse_deviation, &[channels]),
        output: primitive(output, &shape),
        options,
    };
    (saved, primitive(variance, &[channels]))
}

impl FusedLayers for Flex {
    fn conv_norm_train(
        x: Primitive,
        weight: Primitive,
        gamma: Primitive,
        beta: Primitive,
        residual: Addend<Self>,
        options: FusedOptions,
    ) -> (Primitive, Primitive, Primitive) {
        let (saved, variance) = forward(x, weight, gamma, beta, residual.into_option(), options);
        (saved.output, saved.mean, variance)
    }

    fn max_pool_3x3(x: Primitive) -> Primitive {
        pool(&contiguous(x)).0
    }

    fn usual_order(weight: Primitive) -> Primitive {
        channels_first(weight)
    }

    fn sgd_step(
        parameter: Primitive,
        velocity: Primitive,
        gradient: Primitive,
        rates: SgdRates,
    ) -> (Primitive, Primitive) {
        let as_kernels_read = lies_taps_first(&gradient);
        let gradient = dense(gradient, as_kernels_read);
        let mut parameter = dense(parameter, as_kernels_read);
        let mut velocity = dense(velocity, as_kernels_read);
        kernels::sgd_step(
            parameter.storage_mut(),
            velocity.storage_mut(),
            gradient.storage(),
            [rates.momentum, rates.weight_decay, rates.learning_rate],
        );
        recycle(gradient);
        (parameter, velocity)
    }
}

/// The geometry of the one pooling that networks here use.
pub(crate) fn max_pool_3x3(input: [usize; 2]) -> kernels::MaxPool {
    kernels::MaxPool {
        input,
        kernel: 3,
        stride: 2,
        padding: 1,
    }
}

fn pool(x: &Primitive) -> (Primitive, kernels::MaxPool, Vec<u8>) {
    let [height, width, batch, channels] = x.shape().dims();
    let geometry = max_pool_3x3([height, width]);
    let (output, winners) = kernels::max_pool(&geometry, values(x), batch * channels);
    let [out_height, out_width] = geometry.output();
    (
        primitive(output, &[out_height, out_width, batch, channels]),
        geometry,
        winners,
    )
}

#[derive(Debug)]
struct ConvNormBackward;

/// Registers the gradients of x, weight, gamma, beta and, where there was one, the residual.
fn conv_norm_backward<const N: usize>(ops: Ops<SavedForward, N>, grads: &mut Gradients) {
    let gradient = into_values(grads.consume::<Flex>(&ops.node));
    let saved = ops.state;
    let ops = Ops::new(ops.parents, ops.node, ());
    let convolution = geometry(&saved.x, &saved.weight, &saved.options);
    let channels = convolution.out_channels;
    let rectified = match (saved.options.relu, N == 5) {
        (false, _) => kernels::Rectified::Nowhere,
        (true, false) => kernels::Rectified::Shift(values(&saved.beta)),
        (true, true) => kernels::Rectified::Output(values(&saved.output)),
    };
    let norm = kernels::normalize_backward(
        values(&saved.convolved),
        [
            values(&saved.mean),
            values(&saved.inverse_deviation),
            values(&saved.gamma),
        ],
        rectified,
        gradient,
        N == 5,
    );
    let shape = output_shape(&convolution);
    let parent = |at: usize| {
        ops.parents
            .get(at)
            .and_then(Option::as_ref)
            .map(|node| node.id)
    };
    if let Some(id) = parent(0) {
        let mut result = kernels::buffer(convolution.input_len());
        let taps = taps_first(&saved.weight);
        let fork = &saved.options.input_fork;
        let earlier = fork.earlier(&ops, 0, grads);
        convolution.input_gradient(&norm.values, values(&taps), earlier.as_deref(), &mut result);
        if let Some(earlier) = earlier {
            kernels::recycle(earlier);
        }
        let [height, width] = convolution.input;
        let shape = [height, width, convolution.batch, convolution.in_channels];
        grads.register::<Flex>(id, primitive(result, &shape));
    }
    if let Some(id) = parent(1) {
        let mut result = kernels::buffer(convolution.weight_len());
        convolution.weight_gradient(values(&saved.x), &norm.values, &mut result);
        let shape: [usize; 4] = saved.weight.shape().dims();
        let shape = TAPS_FIRST.map(|axis| shape[axis]);
        grads.register::<Flex>(id, primitive(result, &shape).permute(&CHANNELS_FIRST));
    }
    if let Some(id) = parent(2) {
        grads.register::<Flex>(id, primitive(norm.gamma, &[channels]));
    }
    if let Some(id) = parent(3) {
        grads.register::<Flex>(id, primitive(norm.beta, &[channels]));
    }
    if let Some(residual) = norm.residual {
        let fork = &saved.options.residual_fork;
        fork.register(&ops, 4, residual, &shape, grads);
    }
    kernels::recycle(norm.values);
    for tensor in [saved.convolved, saved.output, saved.x] {
        recycle(tensor);
    }
}

impl Backward<Flex, 4> for ConvNormBackward {
    type State = SavedForward;

    fn backward(self, ops: Ops<SavedForward, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        conv_norm_backward(ops, grads);
    }
}

impl Backward<Flex, 5> for ConvNormBackward {
    type State = SavedForward;

    fn backward(self, ops: Ops<SavedForward, 5>, grads: &mut Gradients, _: &mut Checkpointer) {
        conv_norm_backward(ops, grads);
    }
}

#[derive(Debug)]
struct MaxPoolBackward;

impl Backward<Flex, 1> for MaxPoolBackward {
    type State = (kernels::MaxPool, std::sync::Arc<Vec<u8>>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(grads.consume::<Flex>(&ops.node));
        let (geometry, winners) = ops.state;
        let [_, _, batch, channels]: [usize; 4] = gradient.shape().dims();
        if let [Some(node)] = ops.parents {
            let result = kernels::max_pool_backward(
                &geometry,
                values(&gradient),
                &winners,
                batch * channels,
            );
            let [height, width] = geometry.input;
            grads.register::<Flex>(
                node.id,
                primitive(result, &[height, width, batch, channels]),
            );
        }
    }
}

impl<C: CheckpointStrategy> FusedLayers for Autodiff<Flex, C> {
    fn conv_norm_train(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        residual: Addend<Self>,
        options: FusedOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (gamma, gamma_node) = gamma.into_parts();
        let (beta, beta_node) = beta.into_parts();
        let (residual, residual_node) = residual
            .into_option()
            .map(|tensor| tensor.into_parts())
            .unzip();
        let (saved, variance) = forward(x, weight, gamma, beta, residual, options);
        let (output, mean) = (saved.output.clone(), saved.mean.clone());
        let nodes = [x_node, weight_node, gamma_node, beta_node];
        let output = match residual_node {
            None => {
                let prepared = Backward::<Flex, 4>::prepare::<C>(ConvNormBackward, nodes);
                match prepared.compute_bound().stateful() {
                    OpsKind::Tracked(prepared) => prepared.finish(saved, output),
                    OpsKind::UnTracked(prepared) => prepared.finish(output),
                }
            }
            Some(residual) => {
                let [x, weight, gamma, beta] = nodes;
                let nodes = [x, weight, gamma, beta, residual];
                let prepared = Backward::<Flex, 5>::prepare::<C>(ConvNormBackward, nodes);
                match prepared.compute_bound().stateful() {
                    OpsKind::Tracked(prepared) => prepared.finish(saved, output),
                    OpsKind::UnTracked(prepared) => prepared.finish(output),
                }
            }
        };
        (output, Self::from_inner(mean), Self::from_inner(variance))
    }

    fn max_pool_3x3(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let (output, geometry, winners) = pool(&contiguous(x));
        match MaxPoolBackward
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => {
                prepared.finish((geometry, std::sync::Arc::new(winners)), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn usual_order(weight: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::from_inner(channels_first(weight.into_primitive()))
    }

    fn sgd_step(
        parameter: FloatTensor<Self>,
        velocity: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        rates: SgdRates,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (parameter, velocity) = Flex::sgd_step(
            parameter.into_primitive(),
            velocity.into_primitive(),
            gradient.into_primitive(),
            rates,
        );
        (Self::from_inner(parameter), Self::from_inner(velocity))
    }
}

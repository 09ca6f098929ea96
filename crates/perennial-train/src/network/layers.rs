//! Convolution and batch norm, on the fused CPU kernels where they apply and on burn's own operations elsewhere.

use burn::backend::{Dispatch, DispatchDevice};
use burn::module::{Module, Param, RunningState};
use burn::tensor::{
    Device, Tensor, TensorData, activation, module as ops, ops::ConvOptions, ops::MaxPoolOptions,
};
use perennial_kernels::{Convolution, FrozenConvolution};

use super::start::Start;
use crate::fused::{FusedLayers, FusedOptions, Residual};

/// Whether batch norm uses the batch's statistics (and moves its running ones) or the running statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics; gradients flow.
    Train,
    /// Running statistics; the fused path lets no gradient through.
    Evaluate,
}

/// Which implementation the layers run on, and with it how feature maps lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Fused CPU kernels; maps are `[height, width, batch, channels]`.
    Fused,
    /// burn's own operations, on any device; maps are `[batch, channels, height, width]`.
    Plain,
}

impl Path {
    /// The fastest path that the device has.
    pub fn for_device(device: &Device) -> Self {
        match device.clone().without_autodiff().as_dispatch() {
            DispatchDevice::Flex(_) => Self::Fused,
            #[allow(
                unreachable_patterns,
                reason = "other variants exist only with GPU features"
            )]
            _ => Self::Plain,
        }
    }

    /// Brings images `[batch, channels, height, width]` into the path's layout.
    pub fn enter(self, images: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Fused => images.permute([2, 3, 0, 1]),
            Self::Plain => images,
        }
    }

    /// Mean over all positions: `[batch, channels]`.
    pub fn global_mean(self, map: Tensor<4>) -> Tensor<2> {
        match self {
            Self::Fused => {
                let [height, width, batch, channels] = map.dims();
                let slabs: Tensor<3> = map.reshape([height * width, batch, channels]);
                slabs.mean_dim(0).reshape([batch, channels])
            }
            Self::Plain => {
                let [batch, channels, height, width] = map.dims();
                let rows: Tensor<3> = map.reshape([batch, channels, height * width]);
                rows.mean_dim(2).reshape([batch, channels])
            }
        }
    }

    /// 3x3 max-pooling of stride 2 and padding 1.
    pub fn max_pool(self, map: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Fused => {
                Tensor::from_dispatch(<Dispatch as FusedLayers>::max_pool_3x3(map.into_dispatch()))
            }
            Self::Plain => ops::max_pool2d(
                map,
                MaxPoolOptions::new([3, 3])
                    .with_stride([2, 2])
                    .with_padding([1, 1]),
            ),
        }
    }
}

/// A square convolution without bias.
#[derive(Module, Debug)]
pub struct Conv {
    /// `[out_channels, in_channels / groups, kernel, kernel]`.
    pub weight: Param<Tensor<4>>,
    stride: usize,
    padding: usize,
    groups: usize,
}

impl Conv {
    /// Weights from a normal distribution of variance `2 / fan_out`, the usual start of a ResNet.
    pub fn new(channels: [usize; 2], geometry: [usize; 3], start: &mut Start) -> Self {
        Self::grouped(1, channels, geometry, start)
    }

    /// The same with channels cut into as many parts, each of which is read by the same part of the output only.
    pub fn grouped(
        groups: usize,
        [in_channels, out_channels]: [usize; 2],
        [kernel, stride, padding]: [usize; 3],
        start: &mut Start,
    ) -> Self {
        let fan_out = out_channels / groups * kernel * kernel;
        let deviation = (2.0 / fan_out as f64).sqrt();
        let shape = [out_channels, in_channels / groups, kernel, kernel];
        Self {
            weight: start.normal(shape, deviation),
            stride,
            padding,
            groups,
        }
    }

    /// Channels written.
    pub fn out_channels(&self) -> usize {
        self.weight.lazy_shape()[0]
    }
}

/// Batch norm with PyTorch's conventions: the batch is normalised by its biased variance, while the running variance
/// follows the unbiased one.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// Scale, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// Running mean, `[channels]`.
    pub running_mean: RunningState<Tensor<1>>,
    /// Running unbiased variance, `[channels]`.
    pub running_var: RunningState<Tensor<1>>,
}

const EPSILON: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

impl BatchNorm {
    /// Scale 1, shift 0, running mean 0, running variance 1.
    pub fn new(channels: usize, start: &mut Start) -> Self {
        let buffer = start.device().clone().without_autodiff();
        Self {
            weight: start.filled([channels], 1.0),
            bias: start.filled([channels], 0.0),
            running_mean: RunningState::new(Tensor::zeros([channels], &buffer)),
            running_var: RunningState::new(Tensor::ones([channels], &buffer)),
        }
    }

    /// Moves the running statistics towards a batch of `count` values per channel.
    fn observe(&self, mean: Tensor<1>, biased_variance: Tensor<1>, count: usize) {
        let unbiased = count as f64 / (count as f64 - 1.0).max(1.0);
        for (state, value) in [
            (&self.running_mean, mean),
            (&self.running_var, biased_variance.mul_scalar(unbiased)),
        ] {
            let old = state.value().mul_scalar(1.0 - MOMENTUM);
            state.update(old + value.without_autodiff().mul_scalar(MOMENTUM));
            // An update stays pending until it is read back on its thread.
            state.value_sync();
        }
    }

    /// Scale and shift that equal this norm with its running statistics.
    fn folded(&self) -> (Tensor<1>, Tensor<1>) {
        let weight = self.weight.val().without_autodiff();
        let scale = weight
            / self
                .running_var
                .value()
                .without_autodiff()
                .add_scalar(EPSILON)
                .sqrt();
        let shift = self.bias.val().without_autodiff()
            - self.running_mean.value().without_autodiff() * scale.clone();
        (scale, shift)
    }
}

/// A convolution and its batch norm, where PyTorch only numbers them: `0` and `1`.
#[derive(Module, Debug)]
pub struct ConvNorm {
    conv: Conv,
    norm: BatchNorm,
}

impl ConvNorm {
    /// As [`Conv::new`] and [`BatchNorm::new`].
    pub fn new(channels: [usize; 2], geometry: [usize; 3], start: &mut Start) -> Self {
        Self::grouped(1, channels, geometry, start)
    }

    /// As [`Conv::grouped`] and [`BatchNorm::new`].
    pub fn grouped(
        groups: usize,
        channels: [usize; 2],
        geometry: [usize; 3],
        start: &mut Start,
    ) -> Self {
        Self {
            conv: Conv::grouped(groups, channels, geometry, start),
            norm: BatchNorm::new(channels[1], start),
        }
    }

    /// As [`conv_norm`].
    pub fn forward(
        &self,
        x: Tensor<4>,
        residual: Option<Tensor<4>>,
        relu: bool,
        mode: Mode,
        path: Path,
    ) -> Tensor<4> {
        conv_norm(&self.conv, &self.norm, x, residual, relu, mode, path)
    }

    /// As [`frozen`].
    pub(super) fn frozen(&self, input: [usize; 2], relu: bool) -> FrozenConvolution {
        frozen(&self.conv, &self.norm, input, relu)
    }
}

/// A convolution with its batch norm folded in, for maps of the given height and width.
pub(super) fn frozen(
    conv: &Conv,
    norm: &BatchNorm,
    input: [usize; 2],
    relu: bool,
) -> FrozenConvolution {
    let (scale, shift) = norm.folded();
    let weight = conv.weight.val().without_autodiff();
    let [out_channels, of_group, kernel_y, kernel_x] = weight.dims();
    let geometry = Convolution {
        batch: 0,
        in_channels: of_group * conv.groups,
        out_channels,
        input,
        kernel: [kernel_y, kernel_x],
        stride: conv.stride,
        padding: conv.padding,
        dilation: 1,
        groups: conv.groups,
    };
    let weight = weight.permute([2, 3, 1, 0]) * scale.reshape([1, 1, 1, out_channels]);
    FrozenConvolution::new(geometry, &values(weight), values(shift), relu)
}

/// The values of a tensor on the CPU.
pub(super) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    data.try_into_vec()
        .expect("a tensor on the CPU can be read, and was converted to f32")
}

/// A shortcut as the fused layers take it.
pub(super) fn fused_residual(residual: Option<Tensor<4>>) -> Residual<Dispatch> {
    match residual {
        Some(tensor) => Residual::Added(tensor.into_dispatch()),
        None => Residual::Absent,
    }
}

/// Convolution, batch norm, optional residual, optional ReLU: the one layer that a ResNet is made of.
///
/// # Shapes
///
/// In the layout of `path`: input map, residual of the output's shape, output map.
pub fn conv_norm(
    conv: &Conv,
    norm: &BatchNorm,
    x: Tensor<4>,
    residual: Option<Tensor<4>>,
    relu: bool,
    mode: Mode,
    path: Path,
) -> Tensor<4> {
    let options = FusedOptions {
        stride: conv.stride,
        padding: conv.padding,
        relu,
        epsilon: EPSILON,
    };
    match (path, mode) {
        (Path::Fused, Mode::Train) => {
            let (output, mean, variance) = <Dispatch as FusedLayers>::conv_norm_train(
                x.into_dispatch(),
                conv.weight.val().into_dispatch(),
                norm.weight.val().into_dispatch(),
                norm.bias.val().into_dispatch(),
                fused_residual(residual),
                options,
            );
            let output = Tensor::<4>::from_dispatch(output);
            let [height, width, batch, _] = output.dims();
            norm.observe(
                Tensor::from_dispatch(mean),
                Tensor::from_dispatch(variance),
                height * width * batch,
            );
            output
        }
        (Path::Fused, Mode::Evaluate) => {
            let (device, [height, width, batch, _]) = (x.device(), x.dims());
            let convolution = frozen(conv, norm, [height, width], relu);
            let residual = residual.map(values);
            let output = convolution.forward(batch, &values(x), residual.as_deref());
            let [height, width] = convolution.output();
            let shape = [height, width, batch, convolution.out_channels()];
            Tensor::from_data(TensorData::new(output, shape), &device)
        }
        (Path::Plain, _) => {
            let geometry =
                ConvOptions::new([conv.stride; 2], [conv.padding; 2], [1, 1], conv.groups);
            let convolved = ops::conv2d(x, conv.weight.val(), None, geometry);
            let normalized = match mode {
                Mode::Train => {
                    let [batch, _, height, width] = convolved.dims();
                    let result = ops::batch_norm_train(
                        convolved,
                        norm.weight.val(),
                        norm.bias.val(),
                        EPSILON,
                    );
                    norm.observe(
                        result.mean.detach(),
                        result.variance.detach(),
                        height * width * batch,
                    );
                    result.output
                }
                Mode::Evaluate => {
                    let associate = |buffer: Tensor<1>| {
                        if convolved.device().is_autodiff() {
                            Tensor::from_inner(buffer)
                        } else {
                            buffer
                        }
                    };
                    let mean = associate(norm.running_mean.value().without_autodiff());
                    let variance = associate(norm.running_var.value().without_autodiff());
                    ops::batch_norm(
                        convolved,
                        norm.weight.val(),
                        norm.bias.val(),
                        mean,
                        variance,
                        EPSILON,
                    )
                }
            };
            let sum = match residual {
                Some(residual) => normalized + residual,
                None => normalized,
            };
            if relu { activation::relu(sum) } else { sum }
        }
    }
}

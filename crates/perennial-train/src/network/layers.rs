//! Convolution and batch norm, on the fused CPU kernels where they apply and on burn's own operations elsewhere.

use burn::backend::{Dispatch, DispatchDevice};
use burn::module::{Module, Param, RunningState};
use burn::tensor::{
    Device, Tensor, TensorData, activation, module as ops, ops::ConvOptions, ops::MaxPoolOptions,
};
use perennial_kernels::{Convolution, taps_first};

use super::folded::FoldedConvolution;
use super::start::Start;
use crate::fused::{Addend, Fork, FusedHead, FusedLayers, FusedOptions};

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
                Tensor::from_dispatch(<Dispatch as FusedHead>::global_mean(map.into_dispatch()))
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
        x: impl Into<SharedMap>,
        residual: Option<SharedMap>,
        relu: bool,
        mode: Mode,
        path: Path,
    ) -> Tensor<4> {
        conv_norm(&self.conv, &self.norm, x, residual, relu, mode, path)
    }

    /// As [`frozen`].
    pub(super) fn folded(&self, input: [usize; 2], relu: bool) -> FoldedConvolution {
        folded(&self.conv, &self.norm, input, relu)
    }
}

/// A convolution with its batch norm folded in, for maps of the given height and width.
pub(super) fn folded(
    conv: &Conv,
    norm: &BatchNorm,
    input: [usize; 2],
    relu: bool,
) -> FoldedConvolution {
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
    let mut weight = taps_first(
        &values(weight),
        [out_channels, of_group, kernel_y * kernel_x],
    );
    let scale = values(scale);
    for row in weight.chunks_exact_mut(out_channels) {
        for (weight, scale) in row.iter_mut().zip(&scale) {
            *weight *= scale;
        }
    }
    FoldedConvolution {
        geometry,
        weight,
        shift: values(shift),
        relu,
    }
}

/// The values of a tensor on the CPU.
pub(super) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    data.try_into_vec()
        .expect("a tensor on the CPU can be read, and was converted to f32")
}

/// A shortcut or a bias as the fused layers take it.
pub(super) fn addend<const D: usize>(tensor: Option<Tensor<D>>) -> Addend<Dispatch> {
    match tensor {
        Some(tensor) => Addend::Present(tensor.into_dispatch()),
        None => Addend::Absent,
    }
}

/// A linear map with an optional bias.
///
/// # Shapes
///
/// - x: `[batch, inputs]`, weight: `[outputs, inputs]`, bias: `[outputs]`
/// - result: `[batch, outputs]`
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    match Path::for_device(&x.device()) {
        Path::Fused => Tensor::from_dispatch(<Dispatch as FusedHead>::linear(
            x.into_dispatch(),
            weight.into_dispatch(),
            addend(bias),
        )),
        Path::Plain => plain_linear(x, weight, bias),
    }
}

/// [`linear`] in burn's own operations.
pub(super) fn plain_linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let product = x.matmul(weight.transpose());
    match bias {
        Some(bias) => product + bias.reshape([1, -1]),
        None => product,
    }
}

/// A map that several layers read.
#[derive(Clone)]
pub struct SharedMap {
    map: Tensor<4>,
    fork: Fork,
}

impl From<Tensor<4>> for SharedMap {
    fn from(map: Tensor<4>) -> Self {
        Self {
            map,
            fork: Fork::default(),
        }
    }
}

impl SharedMap {
    /// The map, and what its readers share.
    pub(super) fn into_parts(self) -> (Tensor<4>, Fork) {
        (self.map, self.fork)
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
    x: impl Into<SharedMap>,
    residual: Option<SharedMap>,
    relu: bool,
    mode: Mode,
    path: Path,
) -> Tensor<4> {
    let (x, input_fork) = x.into().into_parts();
    let (residual, residual_fork) = residual.map(SharedMap::into_parts).unzip();
    let options = FusedOptions {
        stride: conv.stride,
        padding: conv.padding,
        relu,
        epsilon: EPSILON,
        input_fork,
        residual_fork: residual_fork.unwrap_or_default(),
    };
    match (path, mode) {
        (Path::Fused, Mode::Train) => {
            let (output, mean, variance) = <Dispatch as FusedLayers>::conv_norm_train(
                x.into_dispatch(),
                conv.weight.val().into_dispatch(),
                norm.weight.val().into_dispatch(),
                norm.bias.val().into_dispatch(),
                addend(residual),
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
            let convolution = folded(conv, norm, [height, width], relu).frozen();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_into_vec().unwrap()
    }

    fn assert_close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= 1e-5 * (1.0 + expected.abs()));
        }
    }

    /// Values within 1 of 0, in no order.
    fn scattered<const D: usize>(shape: [usize; D], factor: usize, device: &Device) -> Tensor<D> {
        let values: Vec<f32> = (1..=shape.iter().product())
            .map(|at: usize| (at * factor % 1009) as f32 / 504.5 - 1.0)
            .collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    type Linear = fn(Tensor<2>, Tensor<2>, Option<Tensor<1>>) -> Tensor<2>;

    #[test]
    fn both_paths_compute_the_same_linear_map() {
        let device = Device::flex().autodiff();
        for (batch, inputs, outputs) in [(1, 1, 1), (5, 3, 7), (16, 33, 2)] {
            let x = scattered([batch, inputs], 7919, &device).require_grad();
            let weight = scattered([outputs, inputs], 7907, &device).require_grad();
            let bias = scattered([outputs], 7901, &device).require_grad();
            let factors = scattered([batch, outputs], 7883, &device);
            for with_bias in [false, true] {
                let run = |linear: Linear| {
                    let bias_if_any = with_bias.then(|| bias.clone());
                    let output = linear(x.clone(), weight.clone(), bias_if_any);
                    let gradients = (output.clone() * factors.clone()).sum().backward();
                    vec![
                        host(output.inner()),
                        host(x.grad(&gradients).unwrap()),
                        host(weight.grad(&gradients).unwrap()),
                        bias.grad(&gradients).map(host).unwrap_or_default(),
                    ]
                };
                for (fused, plain) in run(linear).iter().zip(run(plain_linear)) {
                    assert_close(fused, &plain);
                }
            }
        }
    }

    #[test]
    fn both_paths_compute_the_same_mean_over_positions() {
        let device = Device::flex().autodiff();
        let images = scattered([3, 5, 2, 4], 7879, &device).require_grad();
        let factors = scattered([3, 5], 7877, &device);
        let run = |path: Path| {
            let mean = path.global_mean(path.enter(images.clone()));
            let gradients = (mean.clone() * factors.clone()).sum().backward();
            [host(mean.inner()), host(images.grad(&gradients).unwrap())]
        };
        for (fused, plain) in run(Path::Fused).iter().zip(run(Path::Plain)) {
            assert_close(fused, &plain);
        }
    }
}

//! Squeeze and excitation: every channel of an image is scaled by a gate that the channels' means decide.

use perennial_core::instructions::arch;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::buffers;
use crate::gather_product::Epilogue;
use crate::geometry::Convolution;
use crate::normalization::{channel_sums, rectify};

/// Values that one task scales.
const TASK_VALUES: usize = 1 << 14;

/// `gate = sigmoid(second(relu(first(mean over positions))))`, `output = map * gate`, then an optional residual and ReLU.
///
/// **Source**: Hu et al., Squeeze-and-Excitation Networks, arXiv 1709.01507, equations 2 to 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqueezeExcite {
    /// Positions of a map.
    pub positions: usize,
    /// Images in the batch.
    pub batch: usize,
    /// Channels of the map.
    pub channels: usize,
    /// Channels between the two layers.
    pub squeezed: usize,
}

/// The two layers: weights `[inputs, outputs]`, biases `[outputs]`.
#[derive(Clone, Copy, Debug)]
pub struct GateLayers<'a> {
    /// `[channels, squeezed]`
    pub first: &'a [f32],
    /// `[squeezed]`
    pub first_bias: &'a [f32],
    /// `[squeezed, channels]`
    pub second: &'a [f32],
    /// `[channels]`
    pub second_bias: &'a [f32],
}

/// What the forward pass leaves for the backward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Gates {
    /// Means over the positions, `[batch, channels]`.
    pub mean: Vec<f32>,
    /// Between the layers, after the ReLU, `[batch, squeezed]`.
    pub hidden: Vec<f32>,
    /// `[batch, channels]`
    pub gate: Vec<f32>,
}

/// Gradients of the inputs.
#[derive(Debug)]
pub struct SqueezeExciteGradients {
    /// With respect to the map, `[positions, batch, channels]`.
    pub map: Vec<f32>,
    /// With respect to the residual, `[positions, batch, channels]`.
    pub residual: Vec<f32>,
    /// `[channels, squeezed]`
    pub first: Vec<f32>,
    /// `[squeezed]`
    pub first_bias: Vec<f32>,
    /// `[squeezed, channels]`
    pub second: Vec<f32>,
    /// `[channels]`
    pub second_bias: Vec<f32>,
}

impl SqueezeExcite {
    fn slab(&self) -> usize {
        self.batch * self.channels
    }

    fn layer(&self, [inputs, outputs]: [usize; 2]) -> Convolution {
        Convolution {
            batch: self.batch,
            in_channels: inputs,
            out_channels: outputs,
            input: [1, 1],
            kernel: [1, 1],
            stride: 1,
            padding: 0,
            dilation: 1,
            groups: 1,
        }
    }

    fn layers(&self) -> [Convolution; 2] {
        [
            self.layer([self.channels, self.squeezed]),
            self.layer([self.squeezed, self.channels]),
        ]
    }

    /// Positions that one task takes, so that small maps are not cut into pieces too small to be worth it.
    fn task(&self) -> usize {
        let slab = self.slab().max(1);
        slab * TASK_VALUES.div_ceil(slab)
    }

    /// Scales a map.
    ///
    /// # Shapes
    ///
    /// - map, residual, output (written): `[positions, batch, channels]`
    pub fn forward(
        &self,
        map: &[f32],
        layers: GateLayers<'_>,
        residual: Option<&[f32]>,
        relu: bool,
        output: &mut [f32],
    ) -> Gates {
        let slab = self.slab();
        assert_eq!(map.len(), self.positions * slab, "map length");
        assert_eq!(output.len(), map.len(), "output length");
        assert!(
            residual.is_none_or(|residual| residual.len() == map.len()),
            "residual length"
        );
        let mut mean = self.sums(map, None);
        let count = self.positions.max(1) as f32;
        mean.iter_mut().for_each(|sum| *sum /= count);
        let [first, second] = self.layers();
        let mut hidden = vec![0.0; self.batch * self.squeezed];
        let epilogue = Epilogue {
            shift: layers.first_bias,
            residual: None,
            relu: true,
        };
        first.forward(&mean, layers.first, Some(epilogue), &mut hidden);
        let mut gate = vec![0.0; slab];
        let epilogue = Epilogue {
            shift: layers.second_bias,
            residual: None,
            relu: false,
        };
        second.forward(&hidden, layers.second, Some(epilogue), &mut gate);
        gate.iter_mut()
            .for_each(|value| *value = 1.0 / (1.0 + (-*value).exp()));
        let task = self.task();
        output
            .par_chunks_mut(task)
            .enumerate()
            .for_each(|(at, output)| {
                let range = at * task..at * task + output.len();
                arch().dispatch(Scale {
                    map: &map[range.clone()],
                    gate: &gate,
                    residual: residual.map(|residual| &residual[range]),
                    floor: if relu { 0.0 } else { f32::NEG_INFINITY },
                    output,
                });
            });
        Gates { mean, hidden, gate }
    }

    /// Gradient of [`forward`](Self::forward). `output` is what it wrote, where a ReLU ended it.
    ///
    /// # Shapes
    ///
    /// - map, output, gradient: `[positions, batch, channels]`; the gradient is taken over and becomes the residual's
    pub fn backward(
        &self,
        map: &[f32],
        gates: &Gates,
        layers: GateLayers<'_>,
        output: Option<&[f32]>,
        mut gradient: Vec<f32>,
    ) -> SqueezeExciteGradients {
        assert_eq!(gradient.len(), map.len(), "gradient length");
        let task = self.task();
        if let Some(output) = output {
            gradient
                .par_chunks_mut(task)
                .zip(output.par_chunks(task))
                .for_each(|(gradient, output)| {
                    arch().dispatch(Shut { output, gradient });
                });
        }
        let mut of_gate = self.sums(&gradient, Some(map));
        for (gradient, gate) in of_gate.iter_mut().zip(&gates.gate) {
            *gradient *= gate * (1.0 - gate);
        }
        let [first, second] = self.layers();
        let mut of_second = vec![0.0; second.weight_len()];
        second.weight_gradient(&gates.hidden, &of_gate, &mut of_second);
        let mut of_hidden = vec![0.0; self.batch * self.squeezed];
        second.input_gradient(&of_gate, layers.second, None, &mut of_hidden);
        for (gradient, hidden) in of_hidden.iter_mut().zip(&gates.hidden) {
            *gradient = if *hidden > 0.0 { *gradient } else { 0.0 };
        }
        let mut of_first = vec![0.0; first.weight_len()];
        first.weight_gradient(&gates.mean, &of_hidden, &mut of_first);
        let mut of_mean = vec![0.0; self.slab()];
        first.input_gradient(&of_hidden, layers.first, None, &mut of_mean);
        let count = self.positions.max(1) as f32;
        of_mean.iter_mut().for_each(|value| *value /= count);
        let mut of_map = buffers::buffer(map.len());
        of_map
            .par_chunks_mut(task)
            .zip(gradient.par_chunks(task))
            .for_each(|(result, gradient)| {
                arch().dispatch(MapGradient {
                    gradient,
                    gate: &gates.gate,
                    mean: &of_mean,
                    result,
                });
            });
        SqueezeExciteGradients {
            map: of_map,
            residual: gradient,
            first: of_first,
            first_bias: channel_sums(&of_hidden, self.squeezed),
            second: of_second,
            second_bias: channel_sums(&of_gate, self.channels),
        }
    }

    /// Sums over the positions, of the values or of their products with others, `[batch, channels]`.
    fn sums(&self, values: &[f32], factors: Option<&[f32]>) -> Vec<f32> {
        let slab = self.slab();
        let mut sums = vec![0.0; slab];
        // Enough for several tasks a thread, whole cache lines each.
        let part = (slab / 16).next_multiple_of(64).max(64);
        sums.par_chunks_mut(part)
            .enumerate()
            .for_each(|(at, sums)| {
                arch().dispatch(PositionSums {
                    values,
                    factors,
                    slab,
                    first: at * part,
                    sums,
                });
            });
        sums
    }
}

struct PositionSums<'a> {
    values: &'a [f32],
    factors: Option<&'a [f32]>,
    slab: usize,
    first: usize,
    sums: &'a mut [f32],
}

impl WithSimd for PositionSums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let len = self.sums.len();
        for start in (self.first..self.values.len()).step_by(self.slab.max(1)) {
            let values = &self.values[start..start + len];
            match self.factors {
                None => {
                    for (sum, value) in self.sums.iter_mut().zip(values) {
                        *sum += value;
                    }
                }
                Some(factors) => {
                    let factors = &factors[start..start + len];
                    for ((sum, value), factor) in self.sums.iter_mut().zip(values).zip(factors) {
                        *sum += value * factor;
                    }
                }
            }
        }
    }
}

struct Scale<'a> {
    map: &'a [f32],
    gate: &'a [f32],
    residual: Option<&'a [f32]>,
    floor: f32,
    output: &'a mut [f32],
}

impl WithSimd for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let slab = self.gate.len().max(1);
        let positions = self.output.chunks_exact_mut(slab);
        for (at, (output, map)) in positions.zip(self.map.chunks_exact(slab)).enumerate() {
            let columns = output.iter_mut().zip(map).zip(self.gate);
            match self.residual {
                None => {
                    for ((output, value), gate) in columns {
                        *output = rectify(value * gate, self.floor);
                    }
                }
                Some(residual) => {
                    let residual = &residual[at * slab..(at + 1) * slab];
                    for (((output, value), gate), residual) in columns.zip(residual) {
                        *output = rectify(value * gate + residual, self.floor);
                    }
                }
            }
        }
    }
}

/// Shuts the gradient where the ReLU was shut.
struct Shut<'a> {
    output: &'a [f32],
    gradient: &'a mut [f32],
}

impl WithSimd for Shut<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (gradient, output) in self.gradient.iter_mut().zip(self.output) {
            *gradient = if *output > 0.0 { *gradient } else { 0.0 };
        }
    }
}

struct MapGradient<'a> {
    gradient: &'a [f32],
    gate: &'a [f32],
    mean: &'a [f32],
    result: &'a mut [f32],
}

impl WithSimd for MapGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let slab = self.gate.len().max(1);
        let positions = self.result.chunks_exact_mut(slab);
        for (result, gradient) in positions.zip(self.gradient.chunks_exact(slab)) {
            let factors = self.gate.iter().zip(self.mean);
            for ((result, gradient), (gate, mean)) in result.iter_mut().zip(gradient).zip(factors) {
                *result = gradient * gate + mean;
            }
        }
    }
}

//! What is multiplied and added, and how much of it the processor could do.

use std::hint::black_box;

use perennial_core::instructions::arch;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::geometry::Convolution;
use crate::two_by_two;
use crate::winograd;

/// Multiplications and additions of one convolution over the whole batch, two for every product. Transforms are not among them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Operations {
    /// In each direction, of the direct sum, padding counted as if it were pixels: what is usually quoted.
    pub direct: f64,
    /// Those that [`Convolution::forward`] does.
    pub forward: f64,
    /// Those that [`Convolution::input_gradient`] does.
    pub input_gradient: f64,
    /// Those that [`Convolution::weight_gradient`] does.
    pub weight_gradient: f64,
}

impl Convolution {
    /// How much there is to compute, and how much is computed.
    pub fn operations(&self) -> Operations {
        let [height, width] = self.output();
        // One product of a position of the output with the weights of one tap.
        let tap =
            2.0 * (self.batch * self.out_channels) as f64 * (self.in_channels / self.groups) as f64;
        let taps = (self.kernel[0] * self.kernel[1]) as f64;
        let direct = tap * taps * (height * width) as f64;
        let pairs = || -> usize { self.connections().iter().map(|tap| tap.pairs.len()).sum() };
        let summed = tap * pairs() as f64;
        let [forward, input_gradient, weight_gradient] = if self.groups > 1 {
            [summed; 3]
        } else if self.takes_rows() {
            [direct, summed, direct]
        } else {
            let transformed = tap * winograd::products(self) as f64;
            let once = match two_by_two::suits_once(self) {
                true => tap * two_by_two::PLACES as f64,
                false => summed,
            };
            let choose = |winograd: bool| if winograd { transformed } else { once };
            let suits = winograd::suits(self, self.batch);
            [suits, suits, winograd::suits_weight_gradient(self)].map(choose)
        };
        Operations {
            direct,
            forward,
            input_gradient,
            weight_gradient,
        }
    }
}

/// Lets all threads multiply and add in registers, as fast as the processor can, and returns how many operations that were: two for every
/// product. `rounds` is per thread.
pub fn multiply_adds(rounds: usize) -> f64 {
    let work = |_| arch().dispatch(InRegisters { rounds });
    (0..rayon::current_num_threads())
        .into_par_iter()
        .with_max_len(1)
        .map(work)
        .sum()
}

struct InRegisters {
    rounds: usize,
}

impl WithSimd for InRegisters {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        if S::REGISTER_COUNT >= 32 {
            rounds::<S, 24>(simd, self.rounds)
        } else {
            rounds::<S, 12>(simd, self.rounds)
        }
    }
}

/// As many sums at a time as hide how long one takes.
#[inline(always)]
fn rounds<S: Simd, const SUMS: usize>(simd: S, rounds: usize) -> f64 {
    let (factor, added) = (
        simd.splat_f32s(black_box(0.5)),
        simd.splat_f32s(black_box(1.0)),
    );
    let mut sums = [simd.splat_f32s(black_box(2.0)); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = simd.mul_add_e_f32s(*sum, factor, added);
        }
    }
    let mut total = simd.splat_f32s(0.0);
    for sum in sums {
        total = simd.add_f32s(total, sum);
    }
    black_box(simd.reduce_sum_f32s(total));
    (2 * SUMS * S::F32_LANES * rounds) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_computed_is_less_than_the_direct_sum() {
        let plain = Convolution {
            batch: 128,
            in_channels: 64,
            out_channels: 128,
            input: [8, 8],
            kernel: [3, 3],
            stride: 2,
            padding: 1,
            dilation: 1,
            groups: 1,
        };
        let tap = 2.0 * 128.0 * 64.0 * 128.0;
        // 4 x 4 positions, of which one in each direction reads padding once.
        let found = plain.operations();
        assert_eq!([found.direct, found.forward], [tap * 144.0, tap * 121.0]);
        let transformed = Convolution { stride: 1, ..plain };
        // Four tiles of 36 products.
        let found = transformed.operations();
        assert_eq!([found.direct, found.forward], [tap * 576.0, tap * 144.0]);
        let small = Convolution {
            input: [2, 2],
            ..transformed
        };
        assert_eq!(small.operations().weight_gradient, tap * 9.0);
        let grouped = Convolution { groups: 4, ..plain };
        assert_eq!(grouped.operations().forward, tap * 121.0 / 4.0);
        let first = Convolution {
            in_channels: 3,
            ..plain
        };
        let found = first.operations();
        assert_eq!(found.forward, found.direct);
        assert!(found.input_gradient < found.direct);
    }

    #[test]
    fn every_thread_multiplies() {
        let one = multiply_adds(10);
        assert!(one > 0.0);
        assert_eq!(multiply_adds(30), 3.0 * one);
    }
}

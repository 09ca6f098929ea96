//! Max-pooling on batch-inner maps.

use perennial_core::instructions::arch;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::buffers;

/// The geometry of a square max-pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool {
    /// Height and width of the input map.
    pub input: [usize; 2],
    /// Side of the window.
    pub kernel: usize,
    /// Step between windows.
    pub stride: usize,
    /// Positions around the map that never win.
    pub padding: usize,
}

impl MaxPool {
    /// Height and width of the output map.
    pub fn output(&self) -> [usize; 2] {
        self.input
            .map(|side| (side + 2 * self.padding - self.kernel) / self.stride + 1)
    }

    /// The input positions under every output position, in scan order.
    fn windows(&self) -> Vec<Vec<usize>> {
        let [height, width] = self.output();
        let reach = |out: usize, limit: usize| {
            let start = out * self.stride;
            (start..start + self.kernel)
                .filter_map(move |at| at.checked_sub(self.padding))
                .filter(move |&at| at < limit)
        };
        (0..height * width)
            .map(|at| {
                reach(at / width, self.input[0])
                    .flat_map(|y| {
                        reach(at % width, self.input[1]).map(move |x| y * self.input[1] + x)
                    })
                    .collect()
            })
            .collect()
    }
}

/// The largest value under each window, and which of the window's positions (in scan order, padding left out) held it;
/// the first wins a tie, and NaN wins over everything.
///
/// # Shapes
///
/// - input: `[in_height, in_width, slab]` with `slab = batch * channels`
/// - results: `[out_height, out_width, slab]`
pub fn max_pool(geometry: &MaxPool, input: &[f32], slab: usize) -> (Vec<f32>, Vec<u8>) {
    assert_eq!(
        input.len(),
        geometry.input[0] * geometry.input[1] * slab,
        "input length"
    );
    let windows = geometry.windows();
    let mut output = buffers::buffer(windows.len() * slab);
    let mut winners = vec![0_u8; output.len()];
    output
        .par_chunks_mut(slab.max(1))
        .zip(winners.par_chunks_mut(slab.max(1)))
        .zip(&windows)
        .for_each(|((output, winners), window)| {
            output.fill(f32::NEG_INFINITY);
            arch().dispatch(Largest {
                input,
                window,
                output,
                winners,
            });
        });
    (output, winners)
}

/// One position of the output.
struct Largest<'a> {
    input: &'a [f32],
    window: &'a [usize],
    output: &'a mut [f32],
    winners: &'a mut [u8],
}

impl WithSimd for Largest<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let slab = self.output.len();
        for (rank, &from) in self.window.iter().enumerate() {
            let input = &self.input[from * slab..(from + 1) * slab];
            let lines = self.output.iter_mut().zip(self.winners.iter_mut());
            for ((best, winner), value) in lines.zip(input) {
                // Chosen, not branched to, so that values are compared side by side.
                let wins = *value > *best || value.is_nan();
                *best = if wins { *value } else { *best };
                *winner = if wins { rank as u8 } else { *winner };
            }
        }
    }
}

/// Sends every output gradient to the position that won.
///
/// # Shapes
///
/// - output_gradient, winners: `[out_height, out_width, slab]`
/// - result: `[in_height, in_width, slab]`
pub fn max_pool_backward(
    geometry: &MaxPool,
    output_gradient: &[f32],
    winners: &[u8],
    slab: usize,
) -> Vec<f32> {
    let [height, width] = geometry.output();
    assert_eq!(
        [output_gradient.len(), winners.len()],
        [height * width * slab; 2],
        "output length"
    );
    let mut sources = vec![Vec::new(); geometry.input[0] * geometry.input[1]];
    for (out, window) in geometry.windows().iter().enumerate() {
        for (rank, &at) in window.iter().enumerate() {
            sources[at].push((out, rank as u8));
        }
    }
    let mut result = buffers::buffer(sources.len() * slab);
    result
        .par_chunks_mut(slab.max(1))
        .zip(&sources)
        .for_each(|(result, sources)| {
            result.fill(0.0);
            arch().dispatch(Sum {
                output_gradient,
                winners,
                sources,
                result,
            });
        });
    result
}

/// One position of the input.
struct Sum<'a> {
    output_gradient: &'a [f32],
    winners: &'a [u8],
    sources: &'a [(usize, u8)],
    result: &'a mut [f32],
}

impl WithSimd for Sum<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let slab = self.result.len();
        for &(out, rank) in self.sources {
            let range = out * slab..(out + 1) * slab;
            let lines = self
                .result
                .iter_mut()
                .zip(&self.output_gradient[range.clone()])
                .zip(&self.winners[range]);
            for ((result, gradient), winner) in lines {
                *result += if *winner == rank { *gradient } else { 0.0 };
            }
        }
    }
}

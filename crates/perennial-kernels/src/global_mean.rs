//! The mean over all positions of a map, with which a backbone ends.

use perennial_core::instructions::arch;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::buffers;

/// Values of the result that one task computes.
const BLOCK: usize = 1 << 12;

/// The mean over all positions, summed in their order.
///
/// # Shapes
///
/// - map: `[positions, slab]` with `slab = batch * channels`
/// - result: `[slab]`
pub fn global_mean(map: &[f32], slab: usize) -> Vec<f32> {
    assert!(map.len().is_multiple_of(slab.max(1)), "whole slabs");
    let mut mean = buffers::buffer(slab);
    mean.par_chunks_mut(BLOCK)
        .enumerate()
        .for_each(|(block, mean)| {
            arch().dispatch(Mean {
                map,
                slab,
                first: block * BLOCK,
                mean,
            });
        });
    mean
}

/// Some values of the result.
struct Mean<'a> {
    map: &'a [f32],
    slab: usize,
    first: usize,
    mean: &'a mut [f32],
}

impl WithSimd for Mean<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.mean.fill(0.0);
        for position in self.map.chunks_exact(self.slab) {
            let position = &position[self.first..self.first + self.mean.len()];
            for (mean, value) in self.mean.iter_mut().zip(position) {
                *mean += value;
            }
        }
        let positions = (self.map.len() / self.slab) as f32;
        self.mean.iter_mut().for_each(|value| *value /= positions);
    }
}

/// Gradient of [`global_mean`]: every position gets an equal share.
///
/// # Shapes
///
/// - gradient: `[slab]`
/// - result: `[positions, slab]`
pub fn global_mean_backward(gradient: &[f32], positions: usize) -> Vec<f32> {
    let mut result = buffers::buffer(positions * gradient.len());
    if gradient.is_empty() {
        return result;
    }
    result.par_chunks_mut(gradient.len()).for_each(|result| {
        arch().dispatch(Share {
            gradient,
            positions: positions as f32,
            result,
        });
    });
    result
}

struct Share<'a> {
    gradient: &'a [f32],
    positions: f32,
    result: &'a mut [f32],
}

impl WithSimd for Share<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (result, gradient) in self.result.iter_mut().zip(self.gradient) {
            *result = gradient / self.positions;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_shares_are_those_of_the_definition() {
        // More than one block, and a last one that is not full.
        for (positions, slab) in [(1, 3), (4, 5), (3, BLOCK + 7)] {
            let map: Vec<f32> = (0..positions * slab)
                .map(|at| ((at * 7) % 23) as f32)
                .collect();
            let mean = global_mean(&map, slab);
            for (column, mean) in mean.iter().enumerate() {
                let sum: f32 = (0..positions)
                    .map(|position| map[position * slab + column])
                    .sum();
                assert_eq!(*mean, sum / positions as f32);
            }
            let shares = global_mean_backward(&mean, positions);
            assert_eq!(shares.len(), map.len());
            for (at, share) in shares.iter().enumerate() {
                assert_eq!(*share, mean[at % slab] / positions as f32);
            }
        }
        assert!(global_mean(&[], 0).is_empty());
        assert!(global_mean_backward(&[], 4).is_empty());
    }
}

//! The weight gradient in the transformed domain: per place of a tile, the product of transposed transformed inputs and transformed
//! gradients, summed over tiles and images; the sums are taken back to the nine taps.
//!
//! Some rows, images of tiles, are transformed at a time, of all channels of a block. Then every place adds their product to its sums, which
//! are read and written once for all these rows.

use std::cell::RefCell;

use perennial_core::instructions::arch;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::transforms::{self, GAP, PLACES};
use super::{Tile, at_places, grown, tiles};
use crate::buffers;
use crate::gather_product::Source;
use crate::geometry::Convolution;
use crate::weight_gradient::SlabProducts;

/// Input and output channels of a block: all places' sums take 9 MiB, and stay in a last cache.
const BLOCK: usize = 256;
/// Transformed values of a block that lie between both phases, 4 MiB.
const TRANSFORMED: usize = 1 << 20;
/// Rows that are transformed before they are multiplied: so many that it does not matter that sums are read and written each time.
const FEWEST_ROWS: usize = 64;
/// Rows that one task transforms, and that lie together.
const TASK_ROWS: usize = 8;
/// Input channels whose products are one task.
const TASK_CHANNELS: usize = 96;
/// Values of every place that are taken back to the taps together: all places' stay in the second-level cache.
const TAKEN_BACK: usize = 2048;

thread_local! {
    /// What lies between the passes of a transform.
    static BETWEEN: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Some channels of the input or of the output's gradient, and the transformed values of some rows of them:
/// `[row / TASK_ROWS][place][row % TASK_ROWS][channel]`, with a gap after each place.
struct Side<'a> {
    geometry: &'a Convolution,
    tiles: &'a [Tile],
    values: &'a [f32],
    /// Channels of the whole map, the first of the block, and how many.
    of_map: usize,
    first: usize,
    channels: usize,
    is_input: bool,
    transformed: Vec<f32>,
}

impl Side<'_> {
    fn of_place(&self) -> usize {
        TASK_ROWS * self.channels + GAP
    }

    fn of_rows(&self) -> usize {
        PLACES * self.of_place()
    }

    fn transform(&mut self, first_row: usize, rows: usize) {
        let of_rows = self.of_rows();
        let mut transformed = std::mem::take(&mut self.transformed);
        transformed[..rows.div_ceil(TASK_ROWS) * of_rows]
            .par_chunks_exact_mut(of_rows)
            .enumerate()
            .for_each(|(at, target)| {
                let done = at * TASK_ROWS;
                BETWEEN.with_borrow_mut(|between| {
                    arch().dispatch(Transform {
                        side: self,
                        first_row: first_row + done,
                        rows: TASK_ROWS.min(rows - done),
                        between: grown(between, transforms::BETWEEN),
                        target,
                    });
                });
            });
        self.transformed = transformed;
    }
}

struct Transform<'a, 'b> {
    side: &'a Side<'b>,
    first_row: usize,
    rows: usize,
    between: &'a mut [f32],
    target: &'a mut [f32],
}

impl WithSimd for Transform<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            side,
            first_row,
            rows,
            between,
            target,
        } = self;
        let (batch, channels, of_place) = (side.geometry.batch, side.channels, side.of_place());
        if rows < TASK_ROWS {
            // Rows beyond the last are multiplied as well.
            target.fill(0.0);
        }
        let source = Source::dense(&side.values[side.first..], batch, side.of_map);
        let zeros = [0.0; BLOCK];
        let zeros = &zeros[..channels];
        for at in 0..rows {
            let row = first_row + at;
            let (tile, image) = (&side.tiles[row / batch], row % batch);
            let target = &mut target[at * channels..];
            if side.is_input {
                let sources = at_places(&tile.inputs, source, image, zeros);
                transforms::input(simd, &sources, between, target, of_place);
            } else {
                let sources = at_places(&tile.outputs, source, image, zeros);
                transforms::gradient(simd, &sources, between, target, of_place);
            }
        }
    }
}

/// Gradient with respect to the weights.
///
/// # Shapes
///
/// As [`Convolution::weight_gradient`].
pub(crate) fn weight_gradient(
    geometry: &Convolution,
    input: &[f32],
    gradient: &[f32],
    result: &mut [f32],
) {
    let (inputs, outputs) = (geometry.in_channels, geometry.out_channels);
    let tiles = tiles(geometry.input);
    for first_input in (0..inputs).step_by(BLOCK) {
        for first_output in (0..outputs).step_by(BLOCK) {
            let side = |values, of_map: usize, first: usize, is_input| Side {
                geometry,
                tiles: &tiles,
                values,
                of_map,
                first,
                channels: BLOCK.min(of_map - first),
                is_input,
                transformed: Vec::new(),
            };
            block(
                side(input, inputs, first_input, true),
                side(gradient, outputs, first_output, false),
                result,
            );
        }
    }
}

/// The gradient of a block's weights.
fn block<'a>(mut input: Side<'a>, mut gradient: Side<'a>, result: &mut [f32]) {
    let (inputs, outputs) = (input.channels, gradient.channels);
    let rows = input.tiles.len() * input.geometry.batch;
    let fitting = TRANSFORMED / (PLACES * (inputs + outputs));
    let at_a_time = fitting
        .max(FEWEST_ROWS)
        .min(rows)
        .next_multiple_of(TASK_ROWS);
    for side in [&mut input, &mut gradient] {
        side.transformed = buffers::buffer(at_a_time / TASK_ROWS * side.of_rows());
    }
    let mut sums = buffers::buffer(PLACES * inputs * outputs);
    let tile = crate::tile_columns(outputs);
    let pairs: Vec<(usize, usize)> = (0..at_a_time / TASK_ROWS).map(|at| (at, at)).collect();
    for first in (0..rows).step_by(at_a_time) {
        let count = at_a_time.min(rows - first);
        rayon::join(
            || input.transform(first, count),
            || gradient.transform(first, count),
        );
        let pairs = &pairs[..count.div_ceil(TASK_ROWS)];
        let of_place = inputs * outputs;
        sums.par_chunks_exact_mut(of_place)
            .enumerate()
            .for_each(|(place, sums)| {
                let source = Source {
                    values: &input.transformed[place * input.of_place()..],
                    slab_stride: input.of_rows(),
                    image_stride: inputs,
                };
                sums.par_chunks_mut(TASK_CHANNELS * outputs)
                    .enumerate()
                    .for_each(|(at, result)| {
                        arch().dispatch(SlabProducts {
                            source,
                            gradient: &gradient.transformed[place * gradient.of_place()..],
                            gradient_stride: gradient.of_rows(),
                            batch: TASK_ROWS,
                            first_channel: at * TASK_CHANNELS,
                            columns: outputs,
                            tile,
                            pairs,
                            together: pairs.len(),
                            fresh: first == 0,
                            result,
                        });
                    });
            });
    }
    take_back(&sums, &input, &gradient, result);
    for buffer in [sums, input.transformed, gradient.transformed] {
        buffers::recycle(buffer);
    }
}

/// Takes a block's sums back to the taps, some of its rows at a time.
///
/// # Shapes
///
/// - sums: `[places, inputs, outputs]` of the block
/// - result: `[taps, inputs, outputs]` of all
fn take_back(sums: &[f32], input: &Side<'_>, gradient: &Side<'_>, result: &mut [f32]) {
    let (inputs, outputs) = (input.channels, gradient.channels);
    let rows = (TAKEN_BACK / outputs).max(1);
    let mut of_taps: Vec<_> = result
        .chunks_exact_mut(input.of_map * gradient.of_map)
        .map(|tap| {
            let of_block = &mut tap[input.first * gradient.of_map..];
            of_block[..inputs * gradient.of_map].chunks_mut(rows * gradient.of_map)
        })
        .collect();
    let parts: Vec<(usize, Vec<&mut [f32]>)> = (0..inputs)
        .step_by(rows)
        .map(|row| (row, of_taps.iter_mut().filter_map(Iterator::next).collect()))
        .collect();
    parts.into_par_iter().for_each(|(row, of_taps)| {
        let len = rows.min(inputs - row) * outputs;
        let mut taps = buffers::buffer(9 * len);
        let places: Vec<&[f32]> = sums
            .chunks_exact(inputs * outputs)
            .map(|place| &place[row * outputs..][..len])
            .collect();
        transforms::weight_gradient(&places, &mut taps);
        for (of_tap, values) in of_taps.into_iter().zip(taps.chunks_exact(len)) {
            let rows = of_tap.chunks_exact_mut(gradient.of_map);
            for (target, values) in rows.zip(values.chunks_exact(outputs)) {
                target[gradient.first..][..outputs].copy_from_slice(values);
            }
        }
        buffers::recycle(taps);
    });
}

//! The weight gradient in the transformed domain: per place of a tile, the product of transposed transformed inputs and transformed
//! gradients, summed over tiles and images; the sums are taken back to the nine taps.

use std::cell::RefCell;

use perennial_core::instructions::arch;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::transforms::{self, GAP, PLACES};
use super::{Tile, at_places, grown, tiles};
use crate::gather_product::Source;
use crate::geometry::Convolution;
use crate::weight_gradient::SlabProducts;

/// Input and output channels of a task: all places' sums stay in the second-level cache.
const BLOCK: usize = 64;
/// Rows, images of tiles, that are transformed at a time.
const ROWS: usize = 32;
/// Tasks that rows are spread over where channels make fewer: fixed, so that sums do not depend on the number of threads.
const TASKS: usize = 8;
/// Rows that are worth sums of their own.
const PART_ROWS: usize = 64;

thread_local! {
    /// Sums, transformed inputs, transformed gradients, and what lies between the passes of a transform.
    static SCRATCH: RefCell<[Vec<f32>; 4]> = const { RefCell::new([const { Vec::new() }; 4]) };
}

/// Channels and rows of a task.
#[derive(Clone, Copy)]
struct Part {
    input: usize,
    inputs: usize,
    output: usize,
    outputs: usize,
    first_row: usize,
    rows: usize,
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
    let rows = tiles.len() * geometry.batch;
    let blocks = inputs.div_ceil(BLOCK) * outputs.div_ceil(BLOCK);
    let shares = TASKS.div_ceil(blocks).min(rows.div_ceil(PART_ROWS)).max(1);
    let share = rows.div_ceil(shares);
    let mut parts = Vec::with_capacity(blocks * shares);
    for input in (0..inputs).step_by(BLOCK) {
        for output in (0..outputs).step_by(BLOCK) {
            for first_row in (0..rows).step_by(share.max(1)) {
                parts.push(Part {
                    input,
                    inputs: BLOCK.min(inputs - input),
                    output,
                    outputs: BLOCK.min(outputs - output),
                    first_row,
                    rows: share.min(rows - first_row),
                });
            }
        }
    }
    let gradients: Vec<Vec<f32>> = parts
        .par_iter()
        .map(|part| {
            SCRATCH.with_borrow_mut(|scratch| {
                let mut task = PartTask {
                    geometry,
                    tiles: &tiles,
                    input,
                    gradient,
                    part: *part,
                    scratch,
                };
                arch().dispatch(&mut task);
                let mut taps = vec![0.0; 9 * part.inputs * part.outputs];
                let len = PLACES * part.inputs * part.outputs;
                transforms::weight_gradient(&scratch[0][..len], &mut taps);
                taps
            })
        })
        .collect();
    for (part, gradient) in parts.iter().zip(&gradients) {
        let rows = gradient.chunks_exact(part.outputs).enumerate();
        for (at, values) in rows {
            let (tap, channel) = (at / part.inputs, part.input + at % part.inputs);
            let target = &mut result[(tap * inputs + channel) * outputs + part.output..];
            let target = &mut target[..part.outputs];
            if part.first_row == 0 {
                target.copy_from_slice(values);
            } else {
                for (total, value) in target.iter_mut().zip(values) {
                    *total += value;
                }
            }
        }
    }
}

struct PartTask<'a> {
    geometry: &'a Convolution,
    tiles: &'a [Tile],
    input: &'a [f32],
    gradient: &'a [f32],
    part: Part,
    scratch: &'a mut [Vec<f32>; 4],
}

impl WithSimd for &mut PartTask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (part, batch) = (self.part, self.geometry.batch);
        let [sums, inputs, gradients, between] = &mut *self.scratch;
        let between = grown(between, transforms::BETWEEN);
        let of_place = part.inputs * part.outputs;
        let sums = grown(sums, PLACES * of_place);
        let tile = crate::tile_columns(part.outputs);
        let zeros = [0.0; BLOCK];
        let from_input = Source::dense(&self.input[part.input..], batch, self.geometry.in_channels);
        let from_output = Source::dense(
            &self.gradient[part.output..],
            batch,
            self.geometry.out_channels,
        );
        for first in (0..part.rows).step_by(ROWS) {
            let count = ROWS.min(part.rows - first);
            let of_inputs = count * part.inputs + GAP;
            let of_outputs = count * part.outputs + GAP;
            let inputs = grown(inputs, PLACES * of_inputs);
            let gradients = grown(gradients, PLACES * of_outputs);
            for at in 0..count {
                let row = part.first_row + first + at;
                let (tile, image) = (&self.tiles[row / batch], row % batch);
                let sources = at_places(&tile.inputs, from_input, image, &zeros[..part.inputs]);
                let target = &mut inputs[at * part.inputs..];
                transforms::input(simd, &sources, between, target, of_inputs);
                let sources = at_places(&tile.outputs, from_output, image, &zeros[..part.outputs]);
                let target = &mut gradients[at * part.outputs..];
                transforms::gradient(simd, &sources, between, target, of_outputs);
            }
            for (place, sums) in sums.chunks_exact_mut(of_place).enumerate() {
                SlabProducts {
                    source: Source {
                        values: inputs,
                        slab_stride: of_inputs,
                        image_stride: part.inputs,
                    },
                    gradient: &gradients[place * of_outputs..],
                    batch: count,
                    first_channel: 0,
                    columns: part.outputs,
                    tile,
                    pairs: &[(place, 0)],
                    fresh: first == 0,
                    result: sums,
                }
                .with_simd(simd);
            }
        }
    }
}

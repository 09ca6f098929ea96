//! Winograd's F(4x4, 3x3): sixteen outputs of a 3x3 convolution by 36 products where the direct sum takes 144.
//!
//! A tile of 4x4 outputs reads 6x6 inputs. Both are transformed by few operations per value; in between, each of the 36 places of a
//! tile is a matrix product of its own, over all tiles and images. The gradients are computed in the same transformed domain.
//!
//! # Source
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308), section 4; the points of interpolation are
//! our own choice ([`transforms`]).

mod transforms;
mod weight_gradient;

use std::cell::RefCell;

use perennial_core::instructions::arch;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::gather_product::Epilogue;
use crate::gather_product::{self, Source, Term};
use crate::geometry::Convolution;
use crate::packed_weights::PackedWeights;
use transforms::{GAP, OUTPUTS, PLACES, SIDE, STEP};

pub(crate) use weight_gradient::weight_gradient;

/// Channels come in multiples of this: whole tiles of any processor's vectors.
const CHANNELS: usize = 32;
/// Transforming and reading the weights takes as long as multiplying so many rows with them.
const WEIGHT_ROWS: usize = 64;
/// Reading weights that are transformed already takes as long as multiplying so many rows, as long as they are few enough to stay in a cache.
const LASTING_ROWS: usize = 12;
/// Transformed values that are so few, 4 MiB.
const LASTING_VALUES: usize = 1 << 20;
/// Transforming the weights' gradient back takes as long as multiplying so many rows.
const GRADIENT_ROWS: usize = 16;
/// Rows of a task, images of tiles: few enough that the transformed values of up to 256 channels stay in the second-level cache, enough
/// to share the weights that they are multiplied with. A multiple of a tile's six.
const TASK_ROWS: usize = 24;

thread_local! {
    /// Transformed inputs, products, what lies between the passes of a transform, and what lies outside the maps.
    static SCRATCH: RefCell<[Vec<f32>; 4]> = const { RefCell::new([const { Vec::new() }; 4]) };
}

/// Whether the transform computes this convolution, and at that batch faster than the sum over taps.
pub(crate) fn suits(geometry: &Convolution, batch: usize) -> bool {
    pays(geometry, batch, WEIGHT_ROWS)
}

/// The same for weights that are transformed once for all batches, at the batch that is to be expected.
pub(crate) fn suits_lasting(geometry: &Convolution, batch: usize) -> bool {
    let values = PLACES * geometry.in_channels * geometry.out_channels;
    let rows = if values <= LASTING_VALUES {
        LASTING_ROWS
    } else {
        WEIGHT_ROWS
    };
    pays(geometry, batch, rows)
}

/// The same for the weight gradient.
pub(crate) fn suits_weight_gradient(geometry: &Convolution) -> bool {
    pays(geometry, geometry.batch, GRADIENT_ROWS)
}

fn pays(geometry: &Convolution, batch: usize, weight_rows: usize) -> bool {
    let whole = |channels: usize| channels > 0 && channels.is_multiple_of(CHANNELS);
    if geometry.kernel != [3, 3]
        || (geometry.stride, geometry.dilation, geometry.padding) != (1, 1, 1)
        || !whole(geometry.in_channels)
        || !whole(geometry.out_channels)
    {
        return false;
    }
    // Along a side of n positions, three taps read 3 n - 2 times something other than padding.
    let [products, tiles] = geometry
        .output()
        .iter()
        .fold([1, 1], |[products, tiles], side| {
            [
                products * (3 * side).saturating_sub(2),
                tiles * side.div_ceil(STEP),
            ]
        });
    PLACES * (tiles * batch + weight_rows) < products * batch
}

/// Products of one image's values with weights of one place.
pub(crate) fn products(geometry: &Convolution) -> usize {
    let tiles = geometry.output().map(|side| side.div_ceil(STEP));
    PLACES * tiles[0] * tiles[1]
}

/// A 3x3 convolution of stride 1 with transformed weights.
pub(crate) struct Winograd {
    geometry: Convolution,
    weights: PackedWeights,
}

/// Where a tile reads and writes; nothing outside the maps.
struct Tile {
    inputs: [Option<usize>; PLACES],
    outputs: [Option<usize>; OUTPUTS],
}

/// Some images of a tile, rows of a task.
struct Run<'a> {
    tile: usize,
    first_image: usize,
    images: usize,
    outputs: [Option<&'a mut [f32]>; OUTPUTS],
}

/// The tiles of a map of `[height, width]` positions that is convolved with a padding of one.
fn tiles([height, width]: [usize; 2]) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let slab = |y: usize, x: usize| (y < height && x < width).then_some(y * width + x);
    for y in (0..height).step_by(STEP) {
        for x in (0..width).step_by(STEP) {
            let input = |place: usize| {
                let y = (y + place / SIDE).checked_sub(1)?;
                let x = (x + place % SIDE).checked_sub(1)?;
                slab(y, x)
            };
            let output = |place: usize| slab(y + place / STEP, x + place % STEP);
            tiles.push(Tile {
                inputs: std::array::from_fn(input),
                outputs: std::array::from_fn(output),
            });
        }
    }
    tiles
}

/// What lies at the places of some images of a tile, zeros outside the maps.
///
/// # Shapes
///
/// - slabs: `[batch, channels]` each
/// - zeros, results: `[images, channels]`
fn at_places<'a, const N: usize>(
    slabs: &[Option<usize>; N],
    source: Source<'a>,
    first_image: usize,
    zeros: &'a [f32],
) -> [&'a [f32]; N] {
    let mut sources = [zeros; N];
    for (values, slab) in sources.iter_mut().zip(slabs) {
        if let Some(slab) = slab {
            *values = &source.values[source.row(*slab, first_image)..][..zeros.len()];
        }
    }
    sources
}

impl Winograd {
    /// The convolution itself.
    ///
    /// # Shapes
    ///
    /// - weight: `[3, 3, in_channels, out_channels]`
    pub(crate) fn forward(geometry: &Convolution, weight: &[f32]) -> Self {
        let channels = [geometry.in_channels, geometry.out_channels];
        let taps: Vec<usize> = (0..9).collect();
        Self {
            weights: transforms::transformed_weights(&PackedWeights::forward(
                weight, channels, &taps,
            )),
            geometry: *geometry,
        }
    }

    /// The convolution that takes the output's gradient to the input's: taps turned round, channels exchanged.
    pub(crate) fn input_gradient(geometry: &Convolution, weight: &[f32]) -> Self {
        let [inputs, outputs] = [geometry.in_channels, geometry.out_channels];
        let taps: Vec<usize> = (0..9).rev().collect();
        let turned = PackedWeights::transposed(weight, [outputs, inputs], &taps);
        Self {
            weights: transforms::transformed_weights(&turned),
            geometry: Convolution {
                in_channels: outputs,
                out_channels: inputs,
                ..*geometry
            },
        }
    }

    /// The same for weights that last.
    pub(crate) fn lasting(self) -> Self {
        Self {
            weights: self.weights.lasting(),
            ..self
        }
    }

    /// Applies it to a batch of any size.
    ///
    /// # Shapes
    ///
    /// - input: `[height, width, batch, in_channels]`
    /// - output (written): `[height, width, batch, out_channels]`
    pub(crate) fn apply(
        &self,
        batch: usize,
        input: &[f32],
        epilogue: Option<Epilogue<'_>>,
        output: &mut [f32],
    ) {
        let width = self.geometry.out_channels;
        if batch == 0 {
            return;
        }
        let tiles = tiles(self.geometry.input);
        let mut slabs: Vec<&mut [f32]> = output.chunks_exact_mut(batch * width).collect();
        let rows = tiles.len() * batch;
        let threads = rayon::current_num_threads();
        let task_rows = TASK_ROWS.min(rows.div_ceil(threads).next_multiple_of(6));
        let mut tasks: Vec<(usize, Vec<Run<'_>>)> = Vec::with_capacity(rows / task_rows + 1);
        for (at, tile) in tiles.iter().enumerate() {
            let mut first_image = 0;
            while first_image < batch {
                if tasks.last().is_none_or(|(rows, _)| *rows == task_rows) {
                    tasks.push((0, Vec::new()));
                }
                let Some((rows, runs)) = tasks.last_mut() else {
                    break;
                };
                let images = (batch - first_image).min(task_rows - *rows);
                *rows += images;
                let mut outputs = [const { None }; OUTPUTS];
                for (output, slab) in outputs.iter_mut().zip(tile.outputs) {
                    *output = slab.and_then(|slab| slabs[slab].split_off_mut(..images * width));
                }
                runs.push(Run {
                    tile: at,
                    first_image,
                    images,
                    outputs,
                });
                first_image += images;
            }
        }
        tasks.into_par_iter().for_each(|(rows, runs)| {
            SCRATCH.with_borrow_mut(|scratch| {
                arch().dispatch(Task {
                    winograd: self,
                    tiles: &tiles,
                    source: Source::dense(input, batch, self.geometry.in_channels),
                    batch,
                    epilogue,
                    rows,
                    runs,
                    scratch,
                });
            });
        });
    }
}

struct Task<'a, 'b> {
    winograd: &'a Winograd,
    tiles: &'a [Tile],
    source: Source<'a>,
    batch: usize,
    epilogue: Option<Epilogue<'a>>,
    rows: usize,
    runs: Vec<Run<'b>>,
    scratch: &'a mut [Vec<f32>; 4],
}

/// The first values of a buffer that grows as needed and is never emptied.
fn grown(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(buffer.len().max(len), 0.0);
    &mut buffer[..len]
}

impl WithSimd for Task<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            winograd: Winograd { geometry, weights },
            tiles,
            source,
            batch,
            epilogue,
            rows,
            mut runs,
            scratch: [transformed, products, between, spare],
        } = self;
        let (depth, columns) = (geometry.in_channels, weights.columns);
        let (of_place, of_products) = (rows * depth + GAP, rows * columns + GAP);
        let transformed = grown(transformed, PLACES * of_place);
        let products = grown(products, PLACES * of_products);
        let between = grown(between, transforms::BETWEEN);
        let spare = grown(spare, (OUTPUTS * columns).max(rows * depth));
        let zeros = &mut spare[..rows * depth];
        zeros.fill(0.0);
        let mut first_row = 0;
        for run in &runs {
            let zeros = &zeros[..run.images * depth];
            let sources = at_places(&tiles[run.tile].inputs, source, run.first_image, zeros);
            let target = &mut transformed[first_row * depth..];
            transforms::input(simd, &sources, between, target, of_place);
            first_row += run.images;
        }
        let source = Source {
            values: transformed,
            slab_stride: of_place,
            image_stride: depth,
        };
        for panel in 0..geometry.out_channels / columns {
            multiply(simd, source, weights, panel, rows, products);
            let first = panel * columns;
            let mut row = 0;
            for run in &mut runs {
                for image in 0..run.images {
                    let at = image * geometry.out_channels + first;
                    let mut absent = spare.chunks_exact_mut(columns);
                    let mut outputs: [&mut [f32]; OUTPUTS] = Default::default();
                    for (target, output) in outputs.iter_mut().zip(&mut run.outputs) {
                        *target = match output {
                            Some(output) => &mut output[at..at + columns],
                            None => absent.next().unwrap_or_default(),
                        };
                    }
                    let products = &products[row * columns..];
                    transforms::output(simd, products, of_products, between, &mut outputs);
                    row += 1;
                    let Some(epilogue) = epilogue else {
                        continue;
                    };
                    for (output, slab) in outputs.iter_mut().zip(tiles[run.tile].outputs) {
                        if let Some(slab) = slab {
                            let image = slab * batch + run.first_image + image;
                            let start = image * geometry.out_channels + first;
                            gather_product::apply(epilogue, first, start, output);
                        }
                    }
                }
            }
        }
    }
}

/// The products of one panel at every place.
#[inline(always)]
fn multiply<S: Simd>(
    simd: S,
    source: Source<'_>,
    weights: &PackedWeights,
    panel: usize,
    rows: usize,
    products: &mut [f32],
) {
    let columns = weights.columns;
    let places = products.chunks_exact_mut(rows * columns + GAP);
    for (place, products) in places.enumerate() {
        let terms = [Term {
            slab: place,
            tap: place,
        }];
        let values = products.chunks_exact_mut(columns).take(rows).enumerate();
        let mut rows: Vec<gather_product::Row<'_>> = values
            .map(|(image, values)| gather_product::Row {
                terms: &terms,
                image,
                start: 0,
                values,
            })
            .collect();
        simd.vectorize(gather_product::Task {
            source,
            weights,
            first_panel: panel,
            rows: &mut rows,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(side: usize, channels: usize, batch: usize) -> Convolution {
        Convolution {
            batch,
            in_channels: channels,
            out_channels: channels,
            input: [side, side],
            kernel: [3, 3],
            stride: 1,
            padding: 1,
            dilation: 1,
            groups: 1,
        }
    }

    #[test]
    fn the_transform_is_taken_where_it_saves_more_than_its_weights_cost() {
        assert!(suits(&square(8, 64, 128), 128));
        assert!(suits(&square(4, 128, 128), 128));
        // The weights' transform would cost more than the products.
        assert!(!suits(&square(4, 512, 32), 32));
        assert!(suits_weight_gradient(&square(4, 512, 32)));
        // Weights that last are transformed once, unless there are so many that a single image would wait for them.
        assert!(suits_lasting(&square(4, 128, 1), 8) && !suits(&square(4, 128, 8), 8));
        assert!(!suits_lasting(&square(4, 256, 1), 8));
        // Small maps read so much padding that the plain sum has fewer products.
        assert!(!suits(&square(2, 256, 4096), 4096));
        // Channels in whole tiles, 3x3, stride 1, padding 1 only.
        assert!(!suits(&square(32, 48, 128), 128));
        let strided = Convolution {
            stride: 2,
            ..square(32, 64, 128)
        };
        assert!(!suits(&strided, 128));
        // The smallest and the largest of what the property test compares with the direct sums.
        let tested = |input| Convolution {
            input,
            ..square(0, 64, 6)
        };
        assert!(suits(&tested([12, 10]), 6) && suits(&tested([13, 13]), 6));
    }
}

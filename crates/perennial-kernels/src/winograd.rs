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

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::convolution::{Convolution, Epilogue};
use crate::gather_product::{self, Source, Term};
use crate::packed_weights::PackedWeights;
use transforms::{Finish, OUTPUTS, PLACES, SIDE, STEP};

pub(crate) use weight_gradient::weight_gradient;

/// Channels come in multiples of this: whole tiles of any processor's vectors.
const CHANNELS: usize = 32;
/// Rows that transforming and reading the weights are worth.
const WEIGHT_ROWS: usize = 20;
/// Rows of a task: few enough that transformed values stay in the second-level cache, enough to share the weights that they are
/// multiplied with. A multiple of a tile's six.
const TASK_ROWS: usize = 48;

thread_local! {
    /// Transformed inputs and products of the task at hand.
    static SCRATCH: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Whether the transform computes this convolution, and at that batch faster than the sum over taps.
pub(crate) fn suits(geometry: &Convolution, batch: usize) -> bool {
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
            [products * (3 * side - 2), tiles * side.div_ceil(STEP)]
        });
    PLACES * (tiles * batch + WEIGHT_ROWS) < products * batch
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

/// One image of a tile.
struct Row<'a> {
    tile: usize,
    image: usize,
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

/// What lies at the places of one image of a tile, zeros outside the maps.
fn at_places<'a, const N: usize>(
    slabs: &[Option<usize>; N],
    source: Source<'a>,
    image: usize,
    zeros: &'a [f32],
) -> [&'a [f32]; N] {
    let mut sources = [zeros; N];
    for (values, slab) in sources.iter_mut().zip(slabs) {
        if let Some(slab) = slab {
            *values = &source.values[source.row(*slab, image)..][..zeros.len()];
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
        let mut images: Vec<_> = output
            .chunks_exact_mut(batch * width)
            .map(|slab| slab.chunks_exact_mut(width))
            .collect();
        let mut rows = Vec::with_capacity(tiles.len() * batch);
        for (at, tile) in tiles.iter().enumerate() {
            for image in 0..batch {
                let mut output = |place: usize| images[tile.outputs[place]?].next();
                rows.push(Row {
                    tile: at,
                    image,
                    outputs: std::array::from_fn(&mut output),
                });
            }
        }
        let threads = rayon::current_num_threads();
        let task_rows = TASK_ROWS.min(rows.len().div_ceil(threads).next_multiple_of(6));
        rows.par_chunks_mut(task_rows).for_each(|rows| {
            SCRATCH.with_borrow_mut(|scratch| {
                Arch::new().dispatch(TileTask {
                    winograd: self,
                    tiles: &tiles,
                    source: Source::dense(input, batch, self.geometry.in_channels),
                    batch,
                    epilogue,
                    rows,
                    scratch,
                });
            });
        });
    }
}

struct TileTask<'a, 'b> {
    winograd: &'a Winograd,
    tiles: &'a [Tile],
    source: Source<'a>,
    batch: usize,
    epilogue: Option<Epilogue<'a>>,
    rows: &'a mut [Row<'b>],
    scratch: &'a mut [Vec<f32>; 2],
}

/// The first values of a buffer that grows as needed and is never emptied.
fn grown(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(buffer.len().max(len), 0.0);
    &mut buffer[..len]
}

impl WithSimd for TileTask<'_, '_> {
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
            scratch: [transformed, products],
        } = self;
        let (depth, columns, count) = (geometry.in_channels, weights.columns, rows.len());
        let transformed = grown(transformed, PLACES * count * depth);
        let products = grown(products, PLACES * count * columns);
        let zeros = vec![0.0; depth];
        for (at, row) in rows.iter().enumerate() {
            let sources = at_places(&tiles[row.tile].inputs, source, row.image, &zeros);
            let target = &mut transformed[at * depth..];
            transforms::input(simd, &sources, target, count * depth);
        }
        let source = Source::dense(transformed, count, depth);
        let terms: [[Term; 1]; PLACES] = std::array::from_fn(|place| {
            [Term {
                slab: place,
                tap: place,
            }]
        });
        for panel in 0..geometry.out_channels / columns {
            let of_places = products.chunks_exact_mut(count * columns).zip(&terms);
            for (products, terms) in of_places {
                let mut rows: Vec<gather_product::Row<'_>> = products
                    .chunks_exact_mut(columns)
                    .enumerate()
                    .map(|(image, values)| gather_product::Row {
                        terms,
                        image,
                        start: 0,
                        values,
                    })
                    .collect();
                gather_product::Task {
                    source,
                    weights,
                    first_panel: panel,
                    rows: &mut rows,
                }
                .with_simd(simd);
            }
            let first = panel * columns;
            for (at, row) in rows.iter_mut().enumerate() {
                let finish = epilogue.map(|epilogue| Finish {
                    shift: &epilogue.shift[first..first + columns],
                    residual: tiles[row.tile].outputs.map(|slab| {
                        let start = (slab? * batch + row.image) * geometry.out_channels + first;
                        Some(&epilogue.residual?[start..start + columns])
                    }),
                    relu: epilogue.relu,
                });
                let outputs = row.outputs.each_mut();
                let outputs = outputs.map(|output| Some(&mut output.as_mut()?[first..][..columns]));
                let products = &products[at * columns..];
                transforms::output(simd, products, count * columns, finish, outputs);
            }
        }
    }
}

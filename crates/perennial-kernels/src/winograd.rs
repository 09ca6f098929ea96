//! Winograd's F(2x2, 3x3): four outputs of a 3x3 convolution by 16 products where the direct sum takes 36.
//!
//! A tile of 2x2 outputs reads 4x4 inputs. Both are transformed by additions alone; in between, each of the 16 places of a tile
//! is a matrix product of its own, over all tiles and images.
//!
//! # Source
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308), section 4.1.

use std::cell::RefCell;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::convolution::{Connection, Convolution, Epilogue};
use crate::gather_product::{self, Source, Term};
use crate::packed_weights::PackedWeights;

/// Channels come in multiples of this: whole tiles of any processor's vectors.
const CHANNELS: usize = 64;
/// Places of a tile, 4 x 4.
const PLACES: usize = 16;
/// Values of the transformed input that a task holds: they stay in the second-level cache.
const TASK_VALUES: usize = 100_000;
/// Rows of a task, whatever its channels: fewer would read the weights too often for what they compute. Multiples of a tile's six.
const TASK_ROWS: (usize, usize) = (48, 96);

thread_local! {
    /// Transformed inputs and products of the task at hand.
    static SCRATCH: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// A 3x3 convolution of stride 1 with transformed weights.
pub(crate) struct Winograd {
    geometry: Convolution,
    weights: PackedWeights,
}

/// Where a tile reads and writes; nothing outside the maps.
struct Tile {
    inputs: [Option<usize>; PLACES],
    outputs: [Option<usize>; 4],
}

/// One image of a tile.
struct Row<'a> {
    tile: usize,
    image: usize,
    outputs: [Option<&'a mut [f32]>; 4],
}

impl Winograd {
    /// Whether it computes this convolution, and faster than the sum over taps. The batch does not count, so that an image has the
    /// same embedding in any batch.
    ///
    /// Transformed weights are 16 / 9 as large, and every task reads them all: only where maps have as many positions as channels do
    /// the products saved weigh more.
    pub(crate) fn suits(geometry: &Convolution) -> bool {
        let [height, width] = geometry.output();
        let channels = geometry.in_channels.max(geometry.out_channels);
        let whole = |channels: usize| channels > 0 && channels.is_multiple_of(CHANNELS);
        geometry.kernel == [3, 3]
            && (geometry.stride, geometry.dilation, geometry.padding) == (1, 1, 1)
            && whole(geometry.in_channels)
            && whole(geometry.out_channels)
            && height * width >= channels
    }

    /// The convolution itself.
    ///
    /// # Shapes
    ///
    /// - weight: `[out_channels, in_channels, 3, 3]`
    pub(crate) fn forward(geometry: &Convolution, weight: &[f32]) -> Self {
        let [outputs, inputs] = [geometry.out_channels, geometry.in_channels];
        let tap = |out: usize, input: usize, tap: usize| weight[(out * inputs + input) * 9 + tap];
        Self::new(*geometry, [outputs, inputs], tap)
    }

    /// The convolution that takes the output's gradient to the input's: taps turned round, channels exchanged.
    pub(crate) fn input_gradient(geometry: &Convolution, weight: &[f32]) -> Self {
        let [outputs, inputs] = [geometry.out_channels, geometry.in_channels];
        let transposed = Convolution {
            in_channels: outputs,
            out_channels: inputs,
            input: geometry.output(),
            padding: 2 - geometry.padding,
            ..*geometry
        };
        let tap =
            |input: usize, out: usize, tap: usize| weight[(out * inputs + input) * 9 + 8 - tap];
        Self::new(transposed, [inputs, outputs], tap)
    }

    fn new(
        geometry: Convolution,
        [outputs, inputs]: [usize; 2],
        tap: impl Fn(usize, usize, usize) -> f32 + Sync,
    ) -> Self {
        let mut transformed = vec![0.0; outputs * inputs * PLACES];
        transformed
            .par_chunks_mut((inputs * PLACES).max(1))
            .enumerate()
            .for_each(|(out, row)| {
                for (input, places) in row.chunks_exact_mut(PLACES).enumerate() {
                    let taps: [f32; 9] = std::array::from_fn(|at| tap(out, input, at));
                    places.copy_from_slice(&transformed_taps(&taps));
                }
            });
        let used: Vec<Connection> = (0..PLACES)
            .map(|tap| Connection {
                tap,
                pairs: Vec::new(),
            })
            .collect();
        Self {
            weights: PackedWeights::forward(&transformed, outputs, inputs, PLACES, &used),
            geometry,
        }
    }

    fn tiles(&self) -> Vec<Tile> {
        let [out_height, out_width] = self.geometry.output();
        let [in_height, in_width] = self.geometry.input;
        let padding = self.geometry.padding;
        let mut tiles = Vec::new();
        for y in (0..out_height).step_by(2) {
            for x in (0..out_width).step_by(2) {
                let input = |place: usize| {
                    let y = (y + place / 4).checked_sub(padding)?;
                    let x = (x + place % 4).checked_sub(padding)?;
                    (y < in_height && x < in_width).then_some(y * in_width + x)
                };
                let output = |place: usize| {
                    let (y, x) = (y + place / 2, x + place % 2);
                    (y < out_height && x < out_width).then_some(y * out_width + x)
                };
                tiles.push(Tile {
                    inputs: std::array::from_fn(input),
                    outputs: std::array::from_fn(output),
                });
            }
        }
        tiles
    }

    /// Applies it to a batch of any size.
    ///
    /// # Shapes
    ///
    /// - input: `[in_height, in_width, batch, in_channels]`
    /// - output: `[out_height, out_width, batch, out_channels]`
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
        let tiles = self.tiles();
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
        let most =
            (TASK_VALUES / (PLACES * self.geometry.in_channels)).clamp(TASK_ROWS.0, TASK_ROWS.1);
        let threads = rayon::current_num_threads();
        let task_rows = most.min(rows.len().div_ceil(threads)).next_multiple_of(6);
        rows.par_chunks_mut(task_rows).for_each(|rows| {
            SCRATCH.with_borrow_mut(|scratch| {
                Arch::new().dispatch(TileTask {
                    winograd: self,
                    tiles: &tiles,
                    batch,
                    input,
                    epilogue,
                    rows,
                    scratch,
                });
            });
        });
    }
}

/// `G g G^T`
fn transformed_taps(taps: &[f32; 9]) -> [f32; PLACES] {
    let along = |a: f32, b: f32, c: f32| [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c];
    let columns: [[f32; 4]; 3] = std::array::from_fn(|x| along(taps[x], taps[3 + x], taps[6 + x]));
    let mut transformed = [0.0; PLACES];
    for y in 0..4 {
        let row = along(columns[0][y], columns[1][y], columns[2][y]);
        transformed[4 * y..4 * y + 4].copy_from_slice(&row);
    }
    transformed
}

struct TileTask<'a, 'b> {
    winograd: &'a Winograd,
    tiles: &'a [Tile],
    batch: usize,
    input: &'a [f32],
    epilogue: Option<Epilogue<'a>>,
    rows: &'a mut [Row<'b>],
    scratch: &'a mut [Vec<f32>; 2],
}

impl WithSimd for TileTask<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            winograd: Winograd { geometry, weights },
            tiles,
            batch,
            input,
            epilogue,
            rows,
            scratch: [transformed, products],
        } = self;
        let (depth, columns, count) = (geometry.in_channels, weights.columns, rows.len());
        transformed.resize(transformed.len().max(PLACES * count * depth), 0.0);
        products.resize(products.len().max(PLACES * count * columns), 0.0);
        let transformed = &mut transformed[..PLACES * count * depth];
        let products = &mut products[..PLACES * count * columns];
        let mut places = transformed.chunks_exact_mut(count * depth);
        let mut places: [&mut [f32]; PLACES] =
            [(); PLACES].map(|()| places.next().unwrap_or_default());
        for (at, row) in rows.iter().enumerate() {
            let mut sources: [&[f32]; PLACES] = [&[]; PLACES];
            for (source, slab) in sources.iter_mut().zip(tiles[row.tile].inputs) {
                if let Some(slab) = slab {
                    *source = &input[(slab * batch + row.image) * depth..][..depth];
                }
            }
            transform_input(simd, &sources, &mut places, at * depth..(at + 1) * depth);
        }
        let source = Source {
            values: transformed,
            batch: count,
            depth,
        };
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
                let products: [&[f32]; PLACES] = std::array::from_fn(|place| {
                    &products[(place * count + at) * columns..][..columns]
                });
                let finish = epilogue.map(|epilogue| {
                    let residual = tiles[row.tile].outputs.map(|slab| {
                        let residual = epilogue.residual?;
                        let start = (slab? * batch + row.image) * geometry.out_channels + first;
                        Some(&residual[start..start + columns])
                    });
                    Finish {
                        shift: &epilogue.shift[first..first + columns],
                        residual,
                        relu: epilogue.relu,
                    }
                });
                let outputs = row.outputs.each_mut();
                let outputs = outputs.map(|output| {
                    output
                        .as_mut()
                        .map(|output| &mut output[first..first + columns])
                });
                transform_output(simd, &products, finish, outputs);
            }
        }
    }
}

/// An epilogue for the four outputs of a tile.
struct Finish<'a> {
    shift: &'a [f32],
    residual: [Option<&'a [f32]>; 4],
    relu: bool,
}

/// `B^T d B`, for every channel of one image.
#[inline(always)]
fn transform_input<S: Simd>(
    simd: S,
    sources: &[&[f32]; PLACES],
    places: &mut [&mut [f32]; PLACES],
    range: std::ops::Range<usize>,
) {
    let zero = simd.splat_f32s(0.0);
    for at in 0..range.len() / S::F32_LANES {
        let mut values = [zero; PLACES];
        for (value, source) in values.iter_mut().zip(sources) {
            if let Some(source) = S::as_simd_f32s(source).0.get(at) {
                *value = *source;
            }
        }
        let along = |a, b, c, d| {
            [
                simd.sub_f32s(a, c),
                simd.add_f32s(b, c),
                simd.sub_f32s(c, b),
                simd.sub_f32s(b, d),
            ]
        };
        let mut columns = [[zero; 4]; 4];
        for (x, column) in columns.iter_mut().enumerate() {
            *column = along(values[x], values[4 + x], values[8 + x], values[12 + x]);
        }
        let [a, b, c, d] = columns;
        for y in 0..4 {
            let row = along(a[y], b[y], c[y], d[y]);
            for (x, value) in row.into_iter().enumerate() {
                let place = &mut places[4 * y + x][range.clone()];
                S::as_mut_simd_f32s(place).0[at] = value;
            }
        }
    }
}

/// `A^T m A`, and what follows a convolution.
#[inline(always)]
fn transform_output<S: Simd>(
    simd: S,
    products: &[&[f32]; PLACES],
    finish: Option<Finish<'_>>,
    mut outputs: [Option<&mut [f32]>; 4],
) {
    let zero = simd.splat_f32s(0.0);
    let along = |a, b, c, d| {
        [
            simd.add_f32s(simd.add_f32s(a, b), c),
            simd.sub_f32s(simd.sub_f32s(b, c), d),
        ]
    };
    for at in 0..products[0].len() / S::F32_LANES {
        let value = |place: usize| S::as_simd_f32s(products[place]).0[at];
        let mut columns = [[zero; 2]; 4];
        for (x, column) in columns.iter_mut().enumerate() {
            *column = along(value(x), value(4 + x), value(8 + x), value(12 + x));
        }
        let [a, b, c, d] = columns;
        for y in 0..2 {
            let row = along(a[y], b[y], c[y], d[y]);
            for (x, mut sum) in row.into_iter().enumerate() {
                let place = 2 * y + x;
                let Some(output) = &mut outputs[place] else {
                    continue;
                };
                if let Some(finish) = &finish {
                    sum = simd.add_f32s(sum, S::as_simd_f32s(finish.shift).0[at]);
                    if let Some(residual) = finish.residual[place] {
                        sum = simd.add_f32s(sum, S::as_simd_f32s(residual).0[at]);
                    }
                    if finish.relu {
                        // NaN is handed on, as in `rectify`.
                        let below = simd.less_than_f32s(sum, zero);
                        sum = simd.select_f32s(below, zero, sum);
                    }
                }
                S::as_mut_simd_f32s(output).0[at] = sum;
            }
        }
    }
}

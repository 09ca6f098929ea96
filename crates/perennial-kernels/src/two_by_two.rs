//! 3x3 convolutions of maps of 2x2 positions by 9 products where the direct sum takes 16.
//!
//! Along one side, two outputs are `g1 d0 + g2 d1` and `g0 d0 + g1 d1`: both have `g1 (d0 + d1)` in them, and what is missing are
//! `(g2 - g1) d1` and `(g0 - g1) d0`, three products instead of four. Along both sides, that is nine instead of sixteen. In between,
//! each of the nine places is a matrix product of its own over all images. The gradients are computed in the same way.
//!
//! # Source
//!
//! Winograd's F(2, 2), with the kernel's three taps in the place of the signal: Lavin and Gray, "Fast Algorithms for Convolutional Neural
//! Networks" (arXiv 1509.09308), section 4.

use perennial_core::instructions::arch;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::buffers;
use crate::combination::Combination;
use crate::gather_product::{self, Epilogue, Row, Source, Term};
use crate::geometry::{Connection, Convolution};
use crate::packed_weights::PackedWeights;
use crate::weight_gradient;

/// Products along a side, and of a map.
const SIDE: usize = 3;
pub(crate) const PLACES: usize = SIDE * SIDE;
/// Positions of a map.
const POSITIONS: usize = 4;
/// Transforming the weights takes as long as multiplying so many rows with them.
const WEIGHT_ROWS: usize = 24;
/// Rows of a task, images: few enough that the transformed values of 256 channels stay in the second-level cache, enough to share the
/// weights that they are multiplied with. A multiple of a tile's six.
const TASK_ROWS: usize = 36;
/// A cache line between what lies at one place and at the next, so that the places do not compete for the same lines.
const GAP: usize = 16;

/// Which of the two inputs along a side are summed at each place.
const INPUTS: [&[usize]; SIDE] = [&[0, 1], &[1], &[0]];
/// Which of the two outputs along a side each place is summed into.
const OUTPUTS: [&[usize]; SIDE] = [&[0, 1], &[0], &[1]];
/// Which places along a side are summed for each of the two positions.
const PLACES_OF: [[usize; 2]; 2] = [[0, 1], [0, 2]];
/// What the three taps along a side count at each place.
const TAPS: [[f32; 3]; SIDE] = [[0.0, 1.0, 0.0], [0.0, -1.0, 1.0], [1.0, -1.0, 0.0]];

/// What every tap counts at a place, where that is anything.
fn factors(place: usize) -> impl Iterator<Item = (usize, f32)> {
    let (y, x) = (TAPS[place / SIDE], TAPS[place % SIDE]);
    (0..9)
        .map(move |tap| (tap, y[tap / 3] * x[tap % 3]))
        .filter(|(_, factor)| *factor != 0.0)
}

/// The positions whose values are summed at a place, by those along a side.
fn positions(side: [&'static [usize]; SIDE], place: usize) -> impl Iterator<Item = usize> {
    let [y, x] = [side[place / SIDE], side[place % SIDE]];
    y.iter().flat_map(move |y| x.iter().map(move |x| 2 * y + x))
}

/// The places that a position is summed from.
fn places(position: usize) -> [usize; 4] {
    let [y, x] = [PLACES_OF[position / 2], PLACES_OF[position % 2]];
    [
        SIDE * y[0] + x[0],
        SIDE * y[0] + x[1],
        SIDE * y[1] + x[0],
        SIDE * y[1] + x[1],
    ]
}

/// Whether this is such a convolution.
pub(crate) fn suits(geometry: &Convolution) -> bool {
    geometry.input == [2, 2]
        && geometry.kernel == [3, 3]
        && (geometry.stride, geometry.dilation, geometry.padding) == (1, 1, 1)
        && geometry.groups == 1
        && whole_tiles(geometry.in_channels)
        && whole_tiles(geometry.out_channels)
}

/// Whether it pays to transform weights that are multiplied with one batch only.
pub(crate) fn suits_once(geometry: &Convolution) -> bool {
    suits(geometry) && PLACES * (geometry.batch + WEIGHT_ROWS) < 16 * geometry.batch
}

fn whole_tiles(channels: usize) -> bool {
    channels > 0 && channels.is_multiple_of(crate::tile_columns(channels))
}

/// A convolution with transformed weights.
pub(crate) struct TwoByTwo {
    weights: PackedWeights,
}

impl TwoByTwo {
    /// The convolution itself.
    ///
    /// # Shapes
    ///
    /// - weight: `[3, 3, in_channels, out_channels]`
    pub(crate) fn forward(geometry: &Convolution, weight: &[f32]) -> Self {
        let channels = [geometry.in_channels, geometry.out_channels];
        let taps: Vec<usize> = (0..9).collect();
        Self::transformed(&PackedWeights::forward(weight, channels, &taps))
    }

    /// The convolution that takes the output's gradient to the input's: taps turned round, channels exchanged.
    pub(crate) fn input_gradient(geometry: &Convolution, weight: &[f32]) -> Self {
        let channels = [geometry.out_channels, geometry.in_channels];
        let taps: Vec<usize> = (0..9).rev().collect();
        Self::transformed(&PackedWeights::transposed(weight, channels, &taps))
    }

    fn transformed(taps: &PackedWeights) -> Self {
        let channels = [taps.depth, taps.outputs];
        let fill = |first: usize, place: usize, target: &mut [f32]| {
            let panel = first / taps.columns;
            let sources: Vec<(f32, &[f32])> = factors(place)
                .map(|(tap, factor)| (factor, taps.panel(panel, tap)))
                .collect();
            arch().dispatch(Combination {
                sources: &sources,
                target,
            });
        };
        Self {
            weights: PackedWeights::new(channels, PLACES, fill),
        }
    }

    /// The same for weights that last.
    pub(crate) fn lasting(self) -> Self {
        Self {
            weights: self.weights.lasting(),
        }
    }

    /// Applies it to a batch of any size.
    ///
    /// # Shapes
    ///
    /// - input: `[2, 2, batch, in_channels]`
    /// - output (written): `[2, 2, batch, out_channels]`
    pub(crate) fn apply(
        &self,
        batch: usize,
        input: &[f32],
        epilogue: Option<Epilogue<'_>>,
        output: &mut [f32],
    ) {
        let (depth, width) = (self.weights.depth, self.weights.outputs);
        if batch == 0 {
            return;
        }
        let mut slabs = output
            .chunks_exact_mut(batch * width)
            .map(|slab| slab.chunks_mut(TASK_ROWS * width));
        let mut slabs: [_; POSITIONS] =
            std::array::from_fn(|_| slabs.next().expect("a map has four positions"));
        let mut tasks = Vec::with_capacity(batch.div_ceil(TASK_ROWS));
        for first in (0..batch).step_by(TASK_ROWS) {
            let outputs = slabs.each_mut().map(|slab| slab.next().unwrap_or_default());
            tasks.push((first, outputs));
        }
        tasks.into_par_iter().for_each(|(first, mut outputs)| {
            let rows = outputs[0].len() / width;
            let of_place = rows * depth + GAP;
            let mut transformed = buffers::buffer(PLACES * of_place);
            for (place, target) in transformed.chunks_exact_mut(of_place).enumerate() {
                let positions = positions(INPUTS, place);
                let target = &mut target[..rows * depth];
                sum_positions(input, [batch, depth], first, positions, target);
            }
            // Channels are shared out as well: of few images there is one task, and the last task may be the smaller one.
            let columns = self.weights.columns;
            let of_products = rows * columns + GAP;
            let mut products = buffers::buffer(width / columns * PLACES * of_products);
            products
                .par_chunks_exact_mut(PLACES * of_products)
                .enumerate()
                .for_each(|(panel, products)| {
                    let source = Source {
                        values: &transformed,
                        slab_stride: of_place,
                        image_stride: depth,
                    };
                    arch().dispatch(Products {
                        source,
                        weights: &self.weights,
                        panel,
                        rows,
                        products,
                    });
                });
            for (position, output) in outputs.iter_mut().enumerate() {
                arch().dispatch(Sums {
                    products: &products,
                    columns,
                    of_products,
                    places: places(position),
                    epilogue,
                    start: (position * batch + first) * width,
                    width,
                    output,
                });
            }
            buffers::recycle(transformed);
            buffers::recycle(products);
        });
    }
}

/// The sum of a map's values at some of its positions, for some images.
///
/// # Shapes
///
/// - map: `[4, batch, channels]`
/// - target (written): `[images, channels]`
fn sum_positions(
    map: &[f32],
    [batch, channels]: [usize; 2],
    first_image: usize,
    positions: impl Iterator<Item = usize>,
    target: &mut [f32],
) {
    let mut sources = [(1.0, &map[..0]); POSITIONS];
    let mut count = 0;
    for (source, position) in sources.iter_mut().zip(positions) {
        let start = (position * batch + first_image) * channels;
        *source = (1.0, &map[start..start + target.len()]);
        count += 1;
    }
    arch().dispatch(Combination {
        sources: &sources[..count],
        target,
    });
}

/// The same at every place, for all images, in a buffer to be recycled: `[places, batch, channels]`.
fn summed(map: &[f32], [batch, channels]: [usize; 2], side: [&'static [usize]; SIDE]) -> Vec<f32> {
    let mut summed = buffers::buffer(PLACES * batch * channels);
    summed
        .par_chunks_exact_mut(batch * channels)
        .enumerate()
        .for_each(|(place, target)| {
            sum_positions(map, [batch, channels], 0, positions(side, place), target);
        });
    summed
}

/// The products of one panel at every place.
struct Products<'a> {
    source: Source<'a>,
    weights: &'a PackedWeights,
    panel: usize,
    rows: usize,
    /// `[places, rows, columns]` with a gap after each place.
    products: &'a mut [f32],
}

impl WithSimd for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let columns = self.weights.columns;
        let places = self.products.chunks_exact_mut(self.rows * columns + GAP);
        for (place, products) in places.enumerate() {
            let terms = [Term {
                slab: place,
                tap: place,
            }];
            let values = products.chunks_exact_mut(columns).take(self.rows);
            let mut rows: Vec<Row<'_>> = values
                .enumerate()
                .map(|(image, values)| Row {
                    terms: &terms,
                    image,
                    start: 0,
                    values,
                })
                .collect();
            simd.vectorize(gather_product::Task {
                source: self.source,
                weights: self.weights,
                first_panel: self.panel,
                rows: &mut rows,
            });
        }
    }
}

/// One position of some images from the products, with what follows.
struct Sums<'a> {
    /// `[panels, places, rows, columns]` with a gap after each place.
    products: &'a [f32],
    columns: usize,
    of_products: usize,
    places: [usize; 4],
    epilogue: Option<Epilogue<'a>>,
    /// Place of the first value in the whole output.
    start: usize,
    width: usize,
    /// `[rows, width]`
    output: &'a mut [f32],
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (row, output) in self.output.chunks_exact_mut(self.width).enumerate() {
            for (panel, output) in output.chunks_exact_mut(self.columns).enumerate() {
                let from = self.places.map(|place| {
                    let at = (panel * PLACES + place) * self.of_products + row * self.columns;
                    &self.products[at..at + self.columns]
                });
                let [a, b, c, d] = from;
                let above = output.iter_mut().zip(a).zip(b);
                for (((output, a), b), (c, d)) in above.zip(c.iter().zip(d)) {
                    *output = (a + b) + (c + d);
                }
                if let Some(epilogue) = self.epilogue {
                    let channel = panel * self.columns;
                    let start = self.start + row * self.width + channel;
                    gather_product::apply(epilogue, channel, start, output);
                }
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
    let (batch, channels) = (
        geometry.batch,
        [geometry.in_channels, geometry.out_channels],
    );
    let [inputs, outputs] = channels;
    let input = summed(input, [batch, inputs], INPUTS);
    let gradient = summed(gradient, [batch, outputs], OUTPUTS);
    let mut products = buffers::buffer(result.len());
    let connections: Vec<Connection> = (0..PLACES)
        .map(|place| Connection {
            tap: place,
            pairs: vec![(place, place)],
        })
        .collect();
    let source = Source::dense(&input, batch, inputs);
    weight_gradient::sums(
        source,
        &gradient,
        batch,
        channels,
        &connections,
        &mut products,
    );
    let len = inputs * outputs;
    result
        .par_chunks_exact_mut(len)
        .enumerate()
        .for_each(|(tap, target)| {
            let mut sources = Vec::with_capacity(PLACES);
            for (place, values) in products.chunks_exact(len).enumerate() {
                if let Some((_, factor)) = factors(place).find(|(at, _)| *at == tap) {
                    sources.push((factor, values));
                }
            }
            arch().dispatch(Combination {
                sources: &sources,
                target,
            });
        });
    for buffer in [input, gradient, products] {
        buffers::recycle(buffer);
    }
}

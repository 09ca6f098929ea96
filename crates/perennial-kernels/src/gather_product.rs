//! Sums of slab-times-matrix products: the shared heart of the forward and the input-gradient convolution.

use perennial_core::instructions::arch;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::normalization::rectify;
use crate::packed_weights::PackedWeights;

/// One summand of an output slab: the input slab it reads and the weight tap it is multiplied with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    pub slab: usize,
    pub tap: usize,
}

/// Rows that one task computes: few enough that its sums stay in the first-level cache, and whole tiles of any height.
const TASK_ROWS: usize = 48;

/// Tasks for each thread, so that none waits long for the last one.
const TASKS: usize = 4;

/// Depths of a product that are read together.
const DEPTHS: usize = 4;

/// One row of the output: an image at a position, or a stretch of its channels.
pub(crate) struct Row<'a> {
    pub terms: &'a [Term],
    pub image: usize,
    /// Place of its first value in the whole output.
    pub start: usize,
    pub values: &'a mut [f32],
}

/// `output[slab] = sum over terms of source[term.slab] x weights[term.tap]`, then the epilogue.
///
/// # Shapes
///
/// - source: slabs of `[batch, depth]`
/// - output: `[terms.len(), batch, outputs]`
pub(crate) fn product(
    source: Source<'_>,
    batch: usize,
    terms: &[Vec<Term>],
    weights: &PackedWeights,
    epilogue: Option<Epilogue<'_>>,
    output: &mut [f32],
) {
    let width = weights.outputs;
    if width == 0 || batch == 0 || terms.is_empty() {
        return;
    }
    // Rows whose slabs sum over the same taps can share tiles, so that a batch of one still fills them.
    let mut order: Vec<usize> = (0..terms.len()).collect();
    let taps = |slab: usize| terms[slab].iter().map(|term| term.tap);
    order.sort_by(|&a, &b| taps(a).cmp(taps(b)).then(a.cmp(&b)));
    let mut slabs: Vec<Option<&mut [f32]>> =
        output.chunks_exact_mut(batch * width).map(Some).collect();
    let rows = terms.len() * batch;
    let panels = width.div_ceil(weights.columns);
    // With few rows, channels are spread over the tasks as well. Neither choice changes any sum.
    let threads = rayon::current_num_threads();
    let task_rows = TASK_ROWS.min(rows.div_ceil(threads).next_multiple_of(6));
    let stretch = match rows.div_ceil(task_rows) {
        tasks if tasks < TASKS * threads => {
            let parts = (TASKS * threads).div_ceil(tasks);
            panels.div_ceil(parts) * weights.columns
        }
        _ => width,
    };
    let stretches = width.div_ceil(stretch);
    let mut tasks: Vec<PieceTask<'_>> = Vec::with_capacity((rows / task_rows + 1) * stretches);
    let mut last: Option<usize> = None;
    for &slab in &order {
        let Some(mut values) = slabs[slab].take() else {
            continue;
        };
        let same = last.is_some_and(|last| taps(last).eq(taps(slab)));
        last = Some(slab);
        let mut first_image = 0;
        while first_image < batch {
            let free = tasks.last().map_or(0, |task| task_rows - task.rows);
            let begins = free == 0 || first_image == 0 && !same;
            if begins {
                tasks.extend((0..stretches).map(|at| PieceTask {
                    channel: at * stretch,
                    rows: 0,
                    pieces: Vec::new(),
                }));
            }
            let images = if begins { task_rows } else { free }.min(batch - first_image);
            let (now, rest) = std::mem::take(&mut values).split_at_mut(images * width);
            values = rest;
            let piece = |image: usize, images: usize, channel: usize, values| Piece {
                terms: &terms[slab],
                image,
                images,
                start: (slab * batch + image) * width + channel,
                values,
            };
            let first = tasks.len() - stretches;
            tasks[first..]
                .iter_mut()
                .for_each(|task| task.rows += images);
            match &mut tasks[first..] {
                [task] => task.pieces.push(piece(first_image, images, 0, now)),
                parts => {
                    for (image, values) in now.chunks_exact_mut(width).enumerate() {
                        for (task, values) in parts.iter_mut().zip(values.chunks_mut(stretch)) {
                            let piece = piece(first_image + image, 1, task.channel, values);
                            task.pieces.push(piece);
                        }
                    }
                }
            }
            first_image += images;
        }
    }
    tasks.into_par_iter().for_each(|task| {
        let mut rows: Vec<Row<'_>> = task.pieces.into_iter().flat_map(Piece::rows).collect();
        arch().dispatch(Task {
            source,
            weights,
            first_panel: task.channel / weights.columns,
            rows: &mut rows,
        });
        if let Some(epilogue) = epilogue {
            arch().dispatch(ApplyEpilogue {
                epilogue,
                channel: task.channel,
                rows: &mut rows,
            });
        }
    });
}

/// Rows that one task computes, for channels from `channel` on.
struct PieceTask<'a> {
    channel: usize,
    rows: usize,
    pieces: Vec<Piece<'a>>,
}

/// Some images at one position of the output.
struct Piece<'a> {
    terms: &'a [Term],
    image: usize,
    images: usize,
    start: usize,
    values: &'a mut [f32],
}

impl<'a> Piece<'a> {
    fn rows(self) -> impl Iterator<Item = Row<'a>> {
        let width = self.values.len() / self.images;
        let rows = self.values.chunks_exact_mut(width).enumerate();
        rows.map(move |(at, values)| Row {
            terms: self.terms,
            image: self.image + at,
            start: self.start + at * width,
            values,
        })
    }
}

/// What happens to a convolution's output while it is still in cache: a shift per channel, a residual, a ReLU.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a> {
    /// Added to every position, `[out_channels]`.
    pub shift: &'a [f32],
    /// Added element by element, the shape of the output.
    pub residual: Option<&'a [f32]>,
    /// Whether negative results become zero.
    pub relu: bool,
}

/// What follows a product, for channels from `channel` on.
pub(crate) struct ApplyEpilogue<'a, 'b> {
    pub epilogue: Epilogue<'a>,
    pub channel: usize,
    pub rows: &'a mut [Row<'b>],
}

impl WithSimd for ApplyEpilogue<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for row in self.rows {
            apply(self.epilogue, self.channel, row.start, row.values);
        }
    }
}

/// Applies an epilogue to values from `channel` on, which begin at `start` in the whole output.
#[inline(always)]
pub(crate) fn apply(epilogue: Epilogue<'_>, channel: usize, start: usize, values: &mut [f32]) {
    let floor = if epilogue.relu {
        0.0
    } else {
        f32::NEG_INFINITY
    };
    let shift = &epilogue.shift[channel..channel + values.len()];
    match epilogue.residual {
        None => {
            for (value, shift) in values.iter_mut().zip(shift) {
                *value = rectify(*value + shift, floor);
            }
        }
        Some(residual) => {
            let residual = &residual[start..start + values.len()];
            for ((value, shift), residual) in values.iter_mut().zip(shift).zip(residual) {
                *value = rectify(*value + shift + residual, floor);
            }
        }
    }
}

/// Where rows of the input lie: `slab_stride` values from slab to slab, `image_stride` from image to image. Rows may overlap.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub values: &'a [f32],
    pub slab_stride: usize,
    pub image_stride: usize,
}

impl<'a> Source<'a> {
    /// Rows one after the other, `[slabs, batch, depth]`.
    pub fn dense(values: &'a [f32], batch: usize, depth: usize) -> Self {
        Self {
            values,
            slab_stride: batch * depth,
            image_stride: depth,
        }
    }

    /// Where a row begins.
    #[inline(always)]
    pub fn row(&self, slab: usize, image: usize) -> usize {
        slab * self.slab_stride + image * self.image_stride
    }
}

pub(crate) struct Task<'a, 'b> {
    pub source: Source<'a>,
    pub weights: &'a PackedWeights,
    pub first_panel: usize,
    pub rows: &'a mut [Row<'b>],
}

impl WithSimd for Task<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // As many sums as registers hold beside what they are made from; the wider tile needs fewer broadcasts.
        match (self.weights.columns / S::F32_LANES, S::REGISTER_COUNT >= 32) {
            (4, _) => self.run::<S, 4>(simd, 6),
            (_, true) => self.run::<S, 2>(simd, 8),
            (_, false) => self.run::<S, 2>(simd, 6),
        }
    }
}

impl Task<'_, '_> {
    #[inline(always)]
    fn run<S: Simd, const VECTORS: usize>(self, simd: S, most: usize) {
        let columns = self.weights.columns;
        let Some(first) = self.rows.first() else {
            return;
        };
        let width = first.values.len();
        for panel in 0..width.div_ceil(columns) {
            let weights = &|tap: usize| self.weights.panel(self.first_panel + panel, tap);
            let first = panel * columns;
            let kept = columns.min(width - first);
            for rows in self.rows.chunks_mut(most) {
                match rows.len() {
                    8 => tile::<S, 8, VECTORS>(
                        simd,
                        &self.source,
                        weights,
                        rows,
                        first..first + kept,
                    ),
                    7 => tile::<S, 7, VECTORS>(
                        simd,
                        &self.source,
                        weights,
                        rows,
                        first..first + kept,
                    ),
                    6 => tile::<S, 6, VECTORS>(
                        simd,
                        &self.source,
                        weights,
                        rows,
                        first..first + kept,
                    ),
                    5 => tile::<S, 5, VECTORS>(
                        simd,
                        &self.source,
                        weights,
                        rows,
                        first..first + kept,
                    ),
                    4 => tile::<S, 4, VECTORS>(
                        simd,
                        &self.source,
                        weights,
                        rows,
                        first..first + kept,
                    ),
                    3 => tile::<S, 3, VECTORS>(
                        simd,
                        &self.source,
                        weights,
                        rows,
                        first..first + kept,
                    ),
                    2 => tile::<S, 2, VECTORS>(
                        simd,
                        &self.source,
                        weights,
                        rows,
                        first..first + kept,
                    ),
                    _ => tile::<S, 1, VECTORS>(
                        simd,
                        &self.source,
                        weights,
                        rows,
                        first..first + kept,
                    ),
                }
            }
        }
    }
}

/// `ROWS` rows by `VECTORS` vectors of the output, summed over every term without leaving the registers.
#[inline(always)]
fn tile<'a, S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    source: &Source<'_>,
    weights: &dyn Fn(usize) -> &'a [f32],
    rows: &mut [Row<'_>],
    columns: std::ops::Range<usize>,
) {
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    let terms: [&[Term]; ROWS] = std::array::from_fn(|at| &rows[at].terms[..rows[0].terms.len()]);
    let images: [usize; ROWS] = std::array::from_fn(|at| rows[at].image);
    for (term, Term { tap, .. }) in terms[0].iter().enumerate() {
        let (vectors, _) = S::as_simd_f32s(weights(*tap));
        let weights = vectors.as_chunks::<VECTORS>().0;
        // Slices of exactly as many values, so that the compiler drops the bounds checks of the innermost loop.
        let inputs: [&[f32]; ROWS] = std::array::from_fn(|at| {
            &source.values[source.row(terms[at][term].slab, images[at])..][..weights.len()]
        });
        // Some depths at a time, read through arrays: with a check of bounds at every depth, sums were found in memory, not in registers.
        let (blocks, rest) = weights.as_chunks::<DEPTHS>();
        for (at, weights) in blocks.iter().enumerate() {
            let values: [&[f32; DEPTHS]; ROWS] =
                std::array::from_fn(|row| &inputs[row].as_chunks().0[at]);
            for (depth, weights) in weights.iter().enumerate() {
                for (sums, values) in sums.iter_mut().zip(&values) {
                    let value = simd.splat_f32s(values[depth]);
                    for (sum, weights) in sums.iter_mut().zip(weights) {
                        *sum = simd.mul_add_e_f32s(value, *weights, *sum);
                    }
                }
            }
        }
        let done = blocks.len() * DEPTHS;
        for (at, weights) in rest.iter().enumerate() {
            for (sums, values) in sums.iter_mut().zip(&inputs) {
                let value = simd.splat_f32s(values[done + at]);
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = simd.mul_add_e_f32s(value, *weights, *sum);
                }
            }
        }
    }
    for (row, sums) in rows.iter_mut().zip(&sums) {
        let target = &mut row.values[columns.clone()];
        if target.len() == VECTORS * S::F32_LANES {
            for (target, sum) in S::as_mut_simd_f32s(target).0.iter_mut().zip(sums) {
                *target = *sum;
            }
        } else {
            // A copy: sums whose address is taken would live in memory, not in registers.
            let sums = *sums;
            let sums: &[f32] = pulp::bytemuck::cast_slice(&sums);
            target.copy_from_slice(&sums[..columns.len()]);
        }
    }
}

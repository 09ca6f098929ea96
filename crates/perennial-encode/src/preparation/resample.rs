//! Scaling in two passes, along the rows and then along the columns, with bytes in between, as Pillow does.
//!
//! All arithmetic is on integers, so the result is the same on every processor.

use perennial_core::outside_encoder::Interpolation;
use pulp::{Arch, Simd, WithSimd};

use super::geometry::Axis;
use super::weights::{self, PRECISION, Weights};

/// Half of a byte's last bit: what is added before the bits behind the point are cut off.
const HALF: i32 = 1 << (PRECISION - 1);
/// Bytes of a row that are added up together: 4 registers of 8.
const LANES: usize = 32;

/// Rows of three colours that are added up together along the rows.
const ROWS: usize = 4;

/// The pixels of a picture.
pub(super) struct View<'a> {
    /// `[height, width, channels]`.
    pub pixels: &'a [u8],
    /// In pixels.
    pub width: usize,
    /// 1 or 3.
    pub channels: usize,
}

impl View<'_> {
    fn row(&self, row: usize) -> &[u8] {
        let length = self.width * self.channels;
        &self.pixels[row * length..][..length]
    }
}

/// The pixels that `vertical` and `horizontal` keep.
///
/// **Shapes**: the result is `[rows, columns, channels]`.
pub(super) fn resample(
    view: &View<'_>,
    vertical: &Axis,
    horizontal: &Axis,
    interpolation: Interpolation,
) -> Vec<u8> {
    let filter = match interpolation {
        Interpolation::Nearest => return nearest(view, vertical, horizontal),
        Interpolation::Box => weights::BOX,
        Interpolation::Bilinear => weights::BILINEAR,
        Interpolation::Bicubic => weights::BICUBIC,
        Interpolation::Lanczos => weights::LANCZOS,
    };
    let columns = horizontal.kept_len() * view.channels;
    // A side that keeps its length keeps its pixels.
    let down = scaled(vertical).then(|| Weights::new(vertical, filter));
    let rows = match &down {
        Some(weights) => weights.reach(),
        None => {
            let first = vertical.source.start + vertical.kept.start as usize;
            first..first + vertical.kept_len()
        }
    };
    let mut lines = vec![0; rows.len() * columns];
    if scaled(horizontal) {
        let weights = Weights::new(horizontal, filter);
        let (first_row, target) = (rows.start, lines.as_mut_slice());
        Arch::new().dispatch(AlongRows {
            view,
            first_row,
            weights: &weights,
            columns,
            target,
        });
    } else {
        let first = (horizontal.source.start + horizontal.kept.start as usize) * view.channels;
        for (row, line) in rows.clone().zip(lines.chunks_exact_mut(columns)) {
            line.copy_from_slice(&view.row(row)[first..][..columns]);
        }
    }
    let Some(weights) = down else {
        return lines;
    };
    let mut target = vec![0; vertical.kept_len() * columns];
    Arch::new().dispatch(AlongColumns {
        lines: &lines,
        first_row: rows.start,
        weights: &weights,
        columns,
        target: &mut target,
    });
    target
}

fn scaled(axis: &Axis) -> bool {
    axis.resized != axis.source.len() as u64
}

fn nearest(view: &View<'_>, vertical: &Axis, horizontal: &Axis) -> Vec<u8> {
    let columns = weights::nearest(horizontal);
    let mut target = Vec::with_capacity(vertical.kept_len() * columns.len() * view.channels);
    for row in weights::nearest(vertical) {
        let row = view.row(row);
        for column in &columns {
            target.extend_from_slice(&row[column * view.channels..][..view.channels]);
        }
    }
    target
}

#[inline(always)]
fn byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// The first pass: rows get their new length.
struct AlongRows<'a> {
    view: &'a View<'a>,
    /// The first row that the second pass needs.
    first_row: usize,
    weights: &'a Weights,
    /// Bytes of a row of `target`.
    columns: usize,
    target: &'a mut [u8],
}

impl WithSimd for AlongRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let mut rows = (self.first_row..).map(|row| self.view.row(row));
        if self.view.channels == 1 {
            // The lines come first where both are walked along: they end, and rows beyond the last one there are none.
            let lines = self.target.chunks_exact_mut(self.columns);
            for (line, row) in lines.zip(rows) {
                for ((first, weights), target) in self.weights.windows().zip(line) {
                    let pixels = &row[first..][..weights.len()];
                    let products = pixels.iter().zip(weights);
                    *target = byte(
                        HALF + products
                            .map(|(&pixel, weight)| i32::from(pixel) * weight)
                            .sum::<i32>(),
                    );
                }
            }
            return;
        }
        // Pixels of three bytes are read as four, the fourth of which counts for nothing, and four rows are added up together: one
        // register instead of twelve sums.
        let reach = self.weights.reach();
        let mut four = vec![[0; 4 * ROWS]; reach.len()];
        for lines in self.target.chunks_mut(ROWS * self.columns) {
            for (index, row) in (0..lines.len() / self.columns).zip(rows.by_ref()) {
                let row = &row[3 * reach.start..3 * reach.end];
                let cells = four.iter_mut().map(|cell| &mut cell[4 * index..][..4]);
                for (cell, pixel) in cells.zip(row.windows(4).step_by(3)) {
                    cell.copy_from_slice(pixel);
                }
                // Behind the last pixel there is no fourth byte.
                if let (Some(cell), Some(pixel)) = (four.last_mut(), row.last_chunk::<3>()) {
                    cell[4 * index..][..3].copy_from_slice(pixel);
                }
            }
            for (column, (first, weights)) in self.weights.windows().enumerate() {
                let window = &four[first - reach.start..][..weights.len()];
                let mut sums = [HALF; 4 * ROWS];
                for (cell, &weight) in window.iter().zip(weights) {
                    for (sum, &value) in sums.iter_mut().zip(cell) {
                        *sum += i32::from(value) * weight;
                    }
                }
                let bytes = sums.map(byte);
                for (line, pixel) in lines
                    .chunks_exact_mut(self.columns)
                    .zip(bytes.chunks_exact(4))
                {
                    line[3 * column..][..3].copy_from_slice(&pixel[..3]);
                }
            }
        }
    }
}

/// The second pass: columns get their new length.
struct AlongColumns<'a> {
    /// The rows from `first_row` on.
    lines: &'a [u8],
    first_row: usize,
    weights: &'a Weights,
    /// Bytes of a row.
    columns: usize,
    target: &'a mut [u8],
}

impl WithSimd for AlongColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let lines = self.target.chunks_exact_mut(self.columns);
        for ((first, weights), line) in self.weights.windows().zip(lines) {
            let source = &self.lines[(first - self.first_row) * self.columns..]
                [..weights.len() * self.columns];
            let (blocks, rest) = line.as_chunks_mut::<LANES>();
            let start_of_rest = blocks.len() * LANES;
            for (index, block) in blocks.iter_mut().enumerate() {
                let mut sums = [HALF; LANES];
                for (row, &weight) in source.chunks_exact(self.columns).zip(weights) {
                    let values = &row[index * LANES..][..LANES];
                    for (sum, &value) in sums.iter_mut().zip(values) {
                        *sum += i32::from(value) * weight;
                    }
                }
                for (target, sum) in block.iter_mut().zip(sums) {
                    *target = byte(sum);
                }
            }
            for (column, target) in (start_of_rest..).zip(rest) {
                let values = source.iter().skip(column).step_by(self.columns);
                let products = values.zip(weights);
                *target = byte(
                    HALF + products
                        .map(|(&value, weight)| i32::from(value) * weight)
                        .sum::<i32>(),
                );
            }
        }
    }
}

//! Convolutions of few input channels, the first layer of a network: a tap's product alone would be too short to be worth starting.
//!
//! In an image stored `[height, width, channels]`, all taps of a kernel row read one run of values. With zeros written around the
//! images, a convolution is a sum over kernel rows alone, each a product of runs that are read where they lie.

use rayon::prelude::*;

use crate::buffers;
use crate::gather_product::Epilogue;
use crate::gather_product::{self, Source, Term};
use crate::geometry::Convolution;
use crate::packed_weights::PackedWeights;
use crate::weight_gradient;

/// The most input channels for which kernel rows are taken whole.
const FEW_CHANNELS: usize = 4;
/// Parts in which weight gradients are summed: fixed, so that sums do not depend on the number of threads.
const PARTS: usize = 16;
/// Images that one task surrounds with zeros.
const IMAGES: usize = 8;

/// Images with zeros around them, `[batch, padded height, padded width, channels]`.
struct Padded {
    values: Vec<f32>,
    image_len: usize,
}

impl Drop for Padded {
    fn drop(&mut self) {
        buffers::recycle(std::mem::take(&mut self.values));
    }
}

impl Padded {
    fn source(&self) -> Source<'_> {
        Source {
            values: &self.values,
            slab_stride: 1,
            image_stride: self.image_len,
        }
    }
}

impl Convolution {
    /// Whether whole kernel rows are taken at a time.
    pub(crate) fn takes_rows(&self) -> bool {
        self.in_channels <= FEW_CHANNELS && self.kernel[1] > 1 && self.dilation == 1
    }

    /// Kernel rows as taps, kernel columns and input channels as channels.
    fn row_channels(&self) -> usize {
        self.kernel[1] * self.in_channels
    }

    fn padded_width(&self) -> usize {
        self.input[1] + 2 * self.padding
    }

    fn padded(&self, input: &[f32]) -> Padded {
        let ([height, width], channels) = (self.input, self.in_channels);
        let image_len = (height + 2 * self.padding) * self.padded_width() * channels;
        let mut values = buffers::buffer(self.batch * image_len);
        // Several images at a time, because their pixels lie side by side in the input.
        values
            .par_chunks_mut((IMAGES * image_len).max(1))
            .enumerate()
            .for_each(|(block, padded)| {
                padded.fill(0.0);
                for at in 0..height * width {
                    let (y, x) = (at / width + self.padding, at % width + self.padding);
                    let start = (y * self.padded_width() + x) * channels;
                    let pixels = &input[(at * self.batch + block * IMAGES) * channels..];
                    let images = padded.chunks_exact_mut(image_len);
                    for (image, pixel) in images.zip(pixels.chunks_exact(channels)) {
                        for (target, value) in image[start..start + channels].iter_mut().zip(pixel)
                        {
                            *target = *value;
                        }
                    }
                }
            });
        Padded { values, image_len }
    }

    /// Kernel rows and, for every output position, where each begins in a padded image.
    fn row_starts(&self) -> impl Iterator<Item = impl Iterator<Item = (usize, usize)>> {
        let ([out_height, out_width], geometry) = (self.output(), *self);
        (0..out_height * out_width).map(move |at| {
            let (y, x) = (at / out_width, at % out_width);
            (0..geometry.kernel[0]).map(move |row| {
                let line = (y * geometry.stride + row) * geometry.padded_width();
                (row, (line + x * geometry.stride) * geometry.in_channels)
            })
        })
    }

    /// What every output position is summed from, and the weights for it.
    pub(crate) fn prepared_rows(&self, weight: &[f32]) -> (Vec<Vec<Term>>, PackedWeights) {
        let rows: Vec<usize> = (0..self.kernel[0]).collect();
        let channels = [self.row_channels(), self.out_channels];
        let term = |(tap, slab)| Term { slab, tap };
        (
            self.row_starts()
                .map(|rows| rows.map(term).collect())
                .collect(),
            PackedWeights::forward(weight, channels, &rows),
        )
    }

    /// Applies the convolution with weights and terms of [`prepared_rows`](Self::prepared_rows).
    pub(crate) fn row_product(
        &self,
        input: &[f32],
        terms: &[Vec<Term>],
        weights: &PackedWeights,
        epilogue: Option<Epilogue<'_>>,
        output: &mut [f32],
    ) {
        let padded = self.padded(input);
        gather_product::product(
            padded.source(),
            self.batch,
            terms,
            weights,
            epilogue,
            output,
        );
    }

    pub(crate) fn row_weight_gradient(&self, input: &[f32], gradient: &[f32], result: &mut [f32]) {
        let padded = self.padded(input);
        let starts: Vec<Vec<(usize, usize)>> = self.row_starts().map(Iterator::collect).collect();
        let slab = (self.batch * self.out_channels).max(1);
        let part = starts.len().div_ceil(PARTS).max(1);
        // All kernel rows at one position after the other, while the position's gradient is in cache.
        let parts: Vec<Vec<f32>> = starts
            .par_chunks(part)
            .zip(gradient.par_chunks(part * slab))
            .map(|(starts, gradient)| {
                weight_gradient::sums_by_position(
                    padded.source(),
                    gradient,
                    self.batch,
                    [self.row_channels(), self.out_channels],
                    starts,
                )
            })
            .collect();
        result.fill(0.0);
        for part in &parts {
            for (total, value) in result.iter_mut().zip(part) {
                *total += value;
            }
        }
    }
}

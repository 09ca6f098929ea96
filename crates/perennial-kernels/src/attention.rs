//! Self-attention between the tokens of an image.

use perennial_core::instructions::arch;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::buffers;
use crate::exponential::{SIDE_BY_SIDE, exp, sum};

/// For every image and head, `softmax(queries keys^T / sqrt(dim of a head)) values`.
///
/// **Source**: Vaswani et al., Attention Is All You Need, arXiv 1706.03762, equation 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// Tokens of an image.
    pub tokens: usize,
    /// Images in the batch.
    pub batch: usize,
    /// Heads, which divide `dim`.
    pub heads: usize,
    /// Numbers of a token.
    pub dim: usize,
}

impl Attention {
    fn of_head(&self) -> usize {
        self.dim / self.heads
    }

    /// Tokens in whole vectors.
    fn wide_tokens(&self) -> usize {
        self.tokens.next_multiple_of(SIDE_BY_SIDE)
    }

    /// Numbers of a head in whole vectors.
    fn wide_head(&self) -> usize {
        self.of_head().next_multiple_of(SIDE_BY_SIDE)
    }

    /// How much attention every token pays to every other; the columns are filled up with zeros.
    ///
    /// `[batch, heads, tokens, tokens]`
    pub fn weights_len(&self) -> usize {
        self.batch * self.heads * self.tokens * self.wide_tokens()
    }

    fn check(&self, projected: &[f32]) {
        let expected = self.tokens * self.batch * 3 * self.dim;
        assert_eq!(projected.len(), expected, "projections' length");
        assert!(self.dim.is_multiple_of(self.heads), "whole heads");
    }

    /// Applies it. Returns how much attention was paid to what, which the backward pass needs.
    ///
    /// # Shapes
    ///
    /// - projected: `[tokens, batch, 3 * dim]`, queries, keys and values
    /// - output (written): `[tokens, batch, dim]`
    pub fn forward(&self, projected: &[f32], output: &mut [f32]) -> Vec<f32> {
        self.check(projected);
        assert_eq!(output.len() * 3, projected.len(), "output length");
        let mut weights = buffers::buffer(self.weights_len());
        let of_image = (self.weights_len() / self.batch.max(1)).max(1);
        let images = weights
            .par_chunks_mut(of_image)
            .enumerate()
            .map(|(image, weights)| self.image(projected, image, weights))
            .collect();
        self.interleave(images, self.dim, output);
        weights
    }

    /// [`forward`](Self::forward) for embedding alone: keeps nothing, so that many tokens cost little memory.
    ///
    /// # Shapes
    ///
    /// - projected: `[tokens, batch, 3 * dim]`, output (written): `[tokens, batch, dim]`
    pub fn apply(&self, projected: &[f32], output: &mut [f32]) {
        self.check(projected);
        assert_eq!(output.len() * 3, projected.len(), "output length");
        let of_image = self.weights_len() / self.batch.max(1);
        let images = (0..self.batch)
            .into_par_iter()
            .map(|image| {
                let mut weights = buffers::buffer(of_image);
                let output = self.image(projected, image, &mut weights);
                buffers::recycle(weights);
                output
            })
            .collect();
        self.interleave(images, self.dim, output);
    }

    /// One image's output, `[tokens, dim]`.
    fn image(&self, projected: &[f32], image: usize, weights: &mut [f32]) -> Vec<f32> {
        let mut output = buffers::buffer(self.tokens * self.dim);
        arch().dispatch(Forward {
            geometry: *self,
            projected,
            image,
            weights,
            output: &mut output,
        });
        output
    }

    /// Gradient of [`forward`](Self::forward) with respect to the projections.
    ///
    /// # Shapes
    ///
    /// - projected: `[tokens, batch, 3 * dim]`, weights: what [`forward`](Self::forward) returned
    /// - gradient: `[tokens, batch, dim]`, result: `[tokens, batch, 3 * dim]`
    pub fn backward(&self, projected: &[f32], weights: &[f32], gradient: &[f32]) -> Vec<f32> {
        self.check(projected);
        assert_eq!(gradient.len() * 3, projected.len(), "gradient length");
        assert_eq!(weights.len(), self.weights_len(), "weights length");
        let of_image = (self.weights_len() / self.batch.max(1)).max(1);
        let images: Vec<Vec<f32>> = weights
            .par_chunks(of_image)
            .enumerate()
            .map(|(image, weights)| {
                let mut result = buffers::buffer(self.tokens * 3 * self.dim);
                arch().dispatch(Backward {
                    geometry: *self,
                    projected,
                    image,
                    weights,
                    gradient,
                    result: &mut result,
                });
                result
            })
            .collect();
        let mut result = buffers::buffer(projected.len());
        self.interleave(images, 3 * self.dim, &mut result);
        result
    }

    /// From `[tokens, width]` of every image to `[tokens, batch, width]`.
    fn interleave(&self, images: Vec<Vec<f32>>, width: usize, output: &mut [f32]) {
        output
            .par_chunks_mut((self.batch * width).max(1))
            .enumerate()
            .for_each(|(token, output)| {
                let rows = output.chunks_exact_mut(width);
                for (row, image) in rows.zip(&images) {
                    row.copy_from_slice(&image[token * width..(token + 1) * width]);
                }
            });
        images.into_iter().for_each(buffers::recycle);
    }

    /// One image's part of a head, `[tokens, wide head]`, filled up with zeros.
    #[inline(always)]
    fn gather(&self, values: &[f32], width: usize, image: usize, first: usize, to: &mut [f32]) {
        let (of_head, wide) = (self.of_head(), self.wide_head());
        for (token, row) in to.chunks_exact_mut(wide).enumerate() {
            let from = (token * self.batch + image) * width + first;
            row[..of_head].copy_from_slice(&values[from..from + of_head]);
            row[of_head..].fill(0.0);
        }
    }
}

/// `[rows, columns]` to `[columns, wide]`, filled up with zeros.
#[inline(always)]
fn transpose(from: &[f32], columns: usize, wide: usize, to: &mut [f32]) {
    for (column, row) in to.chunks_exact_mut(wide).enumerate() {
        let values = from.chunks_exact(columns).map(|from| from[column]);
        let mut count = 0;
        for (to, value) in row.iter_mut().zip(values) {
            *to = value;
            count += 1;
        }
        row[count..].fill(0.0);
    }
}

/// `result = a b` with `a` `[rows, stride]` of which the first `depth` columns count, `b` `[depth, width]`, width in whole vectors.
#[inline(always)]
fn product(a: &[f32], [stride, depth]: [usize; 2], b: &[f32], width: usize, result: &mut [f32]) {
    const ROWS: usize = 4;
    let blocks = result.chunks_mut(ROWS * width).zip(a.chunks(ROWS * stride));
    for (result, a) in blocks {
        if result.len() == ROWS * width {
            tiles::<ROWS>(a, [stride, depth], b, width, result);
        } else {
            let rows = result.chunks_exact_mut(width).zip(a.chunks_exact(stride));
            for (result, a) in rows {
                tiles::<1>(a, [stride, depth], b, width, result);
            }
        }
    }
}

#[inline(always)]
fn tiles<const ROWS: usize>(
    a: &[f32],
    [stride, depth]: [usize; 2],
    b: &[f32],
    width: usize,
    result: &mut [f32],
) {
    let rows: [&[f32]; ROWS] = std::array::from_fn(|row| &a[row * stride..][..depth]);
    for start in (0..width).step_by(SIDE_BY_SIDE) {
        let mut sums = [[0.0_f32; SIDE_BY_SIDE]; ROWS];
        for (at, b) in b.chunks_exact(width).take(depth).enumerate() {
            let b: &[f32; SIDE_BY_SIDE] = b[start..].first_chunk().expect("rows are whole vectors");
            for (sums, a) in sums.iter_mut().zip(&rows) {
                let a = a[at];
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum += a * b;
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            result[row * width + start..][..SIDE_BY_SIDE].copy_from_slice(sums);
        }
    }
}

/// One image, all heads.
struct Forward<'a> {
    geometry: Attention,
    projected: &'a [f32],
    image: usize,
    weights: &'a mut [f32],
    output: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let g = self.geometry;
        let (tokens, wide, of_head, wide_head) =
            (g.tokens, g.wide_tokens(), g.of_head(), g.wide_head());
        let scale = 1.0 / (of_head as f32).sqrt();
        let mut parts = [(); 3].map(|()| vec![0.0; tokens * wide_head]);
        let mut transposed = vec![0.0; wide_head * wide];
        let mut result = vec![0.0; tokens * wide_head];
        let heads = self.weights.chunks_exact_mut((tokens * wide).max(1));
        for (head, weights) in heads.enumerate() {
            for (which, part) in parts.iter_mut().enumerate() {
                let first = which * g.dim + head * of_head;
                g.gather(self.projected, 3 * g.dim, self.image, first, part);
            }
            let [queries, keys, values] = &parts;
            transpose(keys, wide_head, wide, &mut transposed);
            product(queries, [wide_head, of_head], &transposed, wide, weights);
            for row in weights.chunks_exact_mut(wide) {
                let (row, beyond) = row.split_at_mut(tokens);
                let largest =
                    row.iter().fold(
                        f32::NEG_INFINITY,
                        |most, value| {
                            if *value > most { *value } else { most }
                        },
                    );
                for value in row.iter_mut() {
                    *value = exp(scale * (*value - largest));
                }
                let inverse = 1.0 / sum(row, row, |value, _| value);
                row.iter_mut().for_each(|value| *value *= inverse);
                beyond.fill(0.0);
            }
            product(weights, [wide, tokens], values, wide_head, &mut result);
            for (token, row) in result.chunks_exact(wide_head).enumerate() {
                let to = token * g.dim + head * of_head;
                self.output[to..to + of_head].copy_from_slice(&row[..of_head]);
            }
        }
    }
}

/// One image, all heads.
struct Backward<'a> {
    geometry: Attention,
    projected: &'a [f32],
    image: usize,
    weights: &'a [f32],
    gradient: &'a [f32],
    result: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let g = self.geometry;
        let (tokens, wide, of_head, wide_head) =
            (g.tokens, g.wide_tokens(), g.of_head(), g.wide_head());
        let scale = 1.0 / (of_head as f32).sqrt();
        let mut parts = [(); 3].map(|()| vec![0.0; tokens * wide_head]);
        let mut gradient = vec![0.0; tokens * wide_head];
        let mut transposed = vec![0.0; wide_head * wide];
        let mut of_scores = vec![0.0; tokens * wide];
        let mut turned = vec![0.0; tokens * wide];
        let mut result = vec![0.0; tokens * wide_head];
        let heads = self.weights.chunks_exact((tokens * wide).max(1));
        for (head, weights) in heads.enumerate() {
            for (which, part) in parts.iter_mut().enumerate() {
                let first = which * g.dim + head * of_head;
                g.gather(self.projected, 3 * g.dim, self.image, first, part);
            }
            g.gather(
                self.gradient,
                g.dim,
                self.image,
                head * of_head,
                &mut gradient,
            );
            let [queries, keys, values] = &parts;
            transpose(values, wide_head, wide, &mut transposed);
            product(
                &gradient,
                [wide_head, of_head],
                &transposed,
                wide,
                &mut of_scores,
            );
            let rows = of_scores.chunks_exact_mut(wide);
            for (of_scores, weights) in rows.zip(weights.chunks_exact(wide)) {
                let along = sum(of_scores, weights, |gradient, weight| gradient * weight);
                for (gradient, weight) in of_scores.iter_mut().zip(weights) {
                    *gradient = scale * weight * (*gradient - along);
                }
            }
            for which in 0..3 {
                match which {
                    0 => product(&of_scores, [wide, tokens], keys, wide_head, &mut result),
                    1 => {
                        transpose(&of_scores, wide, wide, &mut turned);
                        product(&turned, [wide, tokens], queries, wide_head, &mut result);
                    }
                    _ => {
                        transpose(weights, wide, wide, &mut turned);
                        product(&turned, [wide, tokens], &gradient, wide_head, &mut result);
                    }
                }
                for (token, row) in result.chunks_exact(wide_head).enumerate() {
                    let to = token * 3 * g.dim + which * g.dim + head * of_head;
                    self.result[to..to + of_head].copy_from_slice(&row[..of_head]);
                }
            }
        }
    }
}

//! The product of rows with a fixed matrix, in f32.
//!
//! Every element of the result is one chain of fused multiply-adds over the inner dimension, from first to last, whatever the number of
//! rows, of threads, or of lanes in a vector register. So a row's result is the same alone and in a batch, and on every machine; a general
//! matrix product picks its order of addition by the sizes.

use pulp::{Arch, Simd, WithSimd};

/// Columns that lie together in memory.
const PANEL: usize = 16;
/// Panels that a single row is multiplied with at once, so that enough sums are under way to hide the latency of each.
const PANELS_PER_ROW: usize = 4;

/// A matrix, stored by panels of [`PANEL`] columns: each panel row after row, the last one filled up with zeros.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Matrix {
    rows: usize,
    columns: usize,
    panels: Vec<f32>,
}

impl Matrix {
    /// From row-major `values` of shape `[rows, columns]`; both above 0.
    pub(crate) fn new(rows: usize, columns: usize, values: &[f32]) -> Self {
        assert!(rows > 0 && columns > 0, "a matrix without elements");
        assert_eq!(values.len(), rows * columns);
        let mut panels = vec![0.0; columns.div_ceil(PANEL) * PANEL * rows];
        for (index, panel) in panels.chunks_exact_mut(rows * PANEL).enumerate() {
            let first = index * PANEL;
            let width = PANEL.min(columns - first);
            for (target, row) in panel
                .chunks_exact_mut(PANEL)
                .zip(values.chunks_exact(columns))
            {
                target[..width].copy_from_slice(&row[first..first + width]);
            }
        }
        Self {
            rows,
            columns,
            panels,
        }
    }

    /// Its rows: the length of the vectors that it is multiplied with.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Its columns: the length of the products.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Its values, row-major `[rows, columns]`.
    pub(crate) fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.columns];
        for (index, panel) in self.panels.chunks_exact(self.rows * PANEL).enumerate() {
            let first = index * PANEL;
            let width = PANEL.min(self.columns - first);
            for (row, source) in values
                .chunks_exact_mut(self.columns)
                .zip(panel.chunks_exact(PANEL))
            {
                row[first..first + width].copy_from_slice(&source[..width]);
            }
        }
        values
    }

    /// `vectors` times the matrix, on the calling thread.
    ///
    /// **Shapes**: `vectors` `[n, rows]`, `products` `[n, columns]`.
    pub(crate) fn multiply(&self, vectors: &[f32], products: &mut [f32]) {
        let count = vectors.len() / self.rows;
        assert_eq!(vectors.len(), count * self.rows);
        assert_eq!(products.len(), count * self.columns);
        Arch::new().dispatch(Product {
            matrix: self,
            vectors,
            products,
        });
    }
}

struct Product<'a> {
    matrix: &'a Matrix,
    vectors: &'a [f32],
    products: &'a mut [f32],
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // As many sums as the registers hold: vectors per panel, rows at once.
        match S::F32_LANES {
            16 => self.run::<S, 1, 12>(simd),
            8 => self.run::<S, 2, 6>(simd),
            4 => self.run::<S, 4, 6>(simd),
            _ => self.run_plainly(),
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn run<S: Simd, const VECTORS: usize, const ROWS: usize>(mut self, simd: S) {
        let (depth, columns) = (self.matrix.rows, self.matrix.columns);
        let count = self.vectors.len() / depth;
        let whole = count - count % ROWS;
        let panels = columns.div_ceil(PANEL);
        for panel in 0..panels {
            for row in (0..whole).step_by(ROWS) {
                self.tile::<S, VECTORS, ROWS, 1>(simd, row, panel);
            }
        }
        let quads = panels - panels % PANELS_PER_ROW;
        for row in whole..count {
            for panel in (0..quads).step_by(PANELS_PER_ROW) {
                self.tile::<S, VECTORS, 1, PANELS_PER_ROW>(simd, row, panel);
            }
            for panel in quads..panels {
                self.tile::<S, VECTORS, 1, 1>(simd, row, panel);
            }
        }
    }

    /// The products of `ROWS` rows with `PANELS` panels.
    #[inline(always)]
    fn tile<S: Simd, const VECTORS: usize, const ROWS: usize, const PANELS: usize>(
        &mut self,
        simd: S,
        first_row: usize,
        first_panel: usize,
    ) {
        let (depth, columns) = (self.matrix.rows, self.matrix.columns);
        let mut rows: [&[f32]; ROWS] = [&[]; ROWS];
        for (at, row) in rows.iter_mut().enumerate() {
            *row = &self.vectors[(first_row + at) * depth..][..depth];
        }
        let mut panels: [&[[S::f32s; VECTORS]]; PANELS] = [&[]; PANELS];
        for (at, panel) in panels.iter_mut().enumerate() {
            let values = &self.matrix.panels[(first_panel + at) * depth * PANEL..][..depth * PANEL];
            *panel = &S::as_simd_f32s(values).0.as_chunks::<VECTORS>().0[..depth];
        }
        let mut sums = [[[simd.splat_f32s(0.0); VECTORS]; PANELS]; ROWS];
        for k in 0..depth {
            for (row, sums) in rows.iter().zip(&mut sums) {
                let factor = simd.splat_f32s(row[k]);
                for (panel, sums) in panels.iter().zip(sums) {
                    for (value, sum) in panel[k].iter().zip(sums) {
                        *sum = simd.mul_add_f32s(factor, *value, *sum);
                    }
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            let products = &mut self.products[(first_row + row) * columns..][..columns];
            for (panel, sums) in sums.iter().enumerate() {
                let first = (first_panel + panel) * PANEL;
                let mut values = [0.0f32; PANEL];
                S::as_mut_simd_f32s(&mut values).0.copy_from_slice(sums);
                let width = PANEL.min(columns - first);
                products[first..first + width].copy_from_slice(&values[..width]);
            }
        }
    }

    /// For processors without vector registers that are known here.
    fn run_plainly(self) {
        let (depth, columns) = (self.matrix.rows, self.matrix.columns);
        let rows = self.vectors.chunks_exact(depth);
        for (row, products) in rows.zip(self.products.chunks_exact_mut(columns)) {
            for (index, panel) in self.matrix.panels.chunks_exact(depth * PANEL).enumerate() {
                let mut sums = [0.0f32; PANEL];
                for (factor, values) in row.iter().zip(panel.chunks_exact(PANEL)) {
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum = factor.mul_add(*value, *sum);
                    }
                }
                let first = index * PANEL;
                let width = PANEL.min(columns - first);
                products[first..first + width].copy_from_slice(&sums[..width]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    proptest! {
        #[test]
        fn every_element_is_the_chain_of_multiply_adds(
            count in 0usize..30, depth in 1usize..40, columns in 1usize..90, seed: u32,
        ) {
            let (vectors, matrix) = (values(count * depth, seed), values(depth * columns, seed ^ 1));
            let packed = Matrix::new(depth, columns, &matrix);
            prop_assert_eq!(&packed.values(), &matrix);
            let mut products = vec![f32::NAN; count * columns];
            packed.multiply(&vectors, &mut products);
            let mut plain = vec![f32::NAN; count * columns];
            Product { matrix: &packed, vectors: &vectors, products: &mut plain }.run_plainly();
            for (at, product) in products.iter().enumerate() {
                let (row, column) = (at / columns, at % columns);
                let chain = (0..depth).fold(0.0f32, |sum, k| {
                    vectors[row * depth + k].mul_add(matrix[k * columns + column], sum)
                });
                prop_assert_eq!(product.to_bits(), chain.to_bits());
                prop_assert_eq!(plain[at].to_bits(), chain.to_bits());
            }
        }
    }
}

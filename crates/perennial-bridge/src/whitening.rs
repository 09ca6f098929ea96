//! Whitening without centring: the linear map after which unit rows have the same mean square in every direction.

use faer::Mat;
use rayon::prelude::*;

use crate::centring::{CentredRows, unit_row};
use crate::error::{BridgeError, Side};
use crate::linear_algebra::{
    add_cross_product, cholesky, from_f32, shrunk, solve_lower, solve_lower_transposed, to_f32,
};
use crate::pairs::whole_rows;
use crate::product::Matrix;

/// Rows that are held in f64, or mapped by one thread, at a time.
const BLOCK_ROWS: usize = 1536;

/// A whitening of rows, for training a linear layer behind them: a layer on whitened rows learns as fast in every direction, and folds back
/// into one on the rows themselves ([`fold`](Self::fold)).
///
/// With `C = (1 - shrinkage) X^T X / n + shrinkage tr / d I` for unit rows `X`, and `C = L L^T`, a row `x` becomes `L^-1 unit(x)`. Nothing is
/// subtracted, so that all of it stays linear. Directions whose mean square is far below that of the average one are left small by the
/// shrinkage, since what they hold is mostly noise.
#[derive(Debug)]
pub struct Whitening {
    lower: Mat<f64>,
    /// `L^-T`, for rows.
    map: Matrix,
}

impl Whitening {
    /// Fits to rows of any length above 0. The result does not depend on the number of threads.
    ///
    /// **Shapes**: `rows` is `[n, dim]`; `shrinkage` above 0 and at most 1.
    ///
    /// # Errors
    /// [`BridgeError::NoPairs`] without rows, [`BridgeError::Recipe`] for another shrinkage, and rows without a direction.
    pub fn fit(rows: &[f32], dim: usize, shrinkage: f64) -> Result<Self, BridgeError> {
        let refused = |problem: &str| BridgeError::Recipe {
            recipe: format!("whitening:{shrinkage}"),
            problem: problem.to_owned(),
        };
        let count = whole_rows(Side::From, rows, dim)?;
        if count == 0 {
            return Err(BridgeError::NoPairs);
        }
        if !(shrinkage > 0.0 && shrinkage <= 1.0) {
            return Err(refused("the shrinkage must be above 0 and at most 1"));
        }
        let source = CentredRows {
            side: Side::From,
            rows,
            dim,
            mean: None,
        };
        let (mut gram, mut block) = (Mat::zeros(dim, dim), Vec::new());
        for first in (0..count).step_by(BLOCK_ROWS) {
            source.fill(first, BLOCK_ROWS.min(count - first), &mut block)?;
            add_cross_product(&mut gram, &block, &block);
        }
        let lower = cholesky(shrunk(&gram, count, shrinkage))
            .ok_or_else(|| refused("the rows' products are not finite; check the embeddings"))?;
        let inverse = solve_lower(lower.as_ref(), Mat::identity(dim, dim));
        let map = Matrix::new(dim, dim, &to_f32(inverse.transpose()));
        Ok(Self { lower, map })
    }

    /// Scales rows to unit length and whitens them, in place.
    ///
    /// **Shapes**: `rows` is `[n, dim]`.
    ///
    /// # Errors
    /// The first row of a block without a direction; rows may already be changed then.
    pub fn apply(&self, rows: &mut [f32]) -> Result<(), BridgeError> {
        let dim = self.map.rows();
        whole_rows(Side::From, rows, dim)?;
        let failed = rows
            .par_chunks_mut(BLOCK_ROWS * dim)
            .enumerate()
            .map_init(Vec::new, |units: &mut Vec<f32>, (block, rows)| {
                for (row, values) in (block * BLOCK_ROWS..).zip(rows.chunks_exact_mut(dim)) {
                    unit_row(Side::From, row, values)?;
                }
                units.clear();
                units.extend_from_slice(rows);
                self.map.multiply(units, rows);
                Ok(())
            })
            .filter_map(Result::err)
            .min_by_key(BridgeError::row);
        failed.map_or(Ok(()), Err)
    }

    /// The layer on rows as they are that computes what `weight` computes on whitened ones: `V L^-1`.
    ///
    /// **Shapes**: `weight` and the result are `[outputs, dim]`, row-major.
    ///
    /// # Errors
    /// [`BridgeError::Recipe`] for weights of another shape.
    pub fn fold(&self, weight: &[f32]) -> Result<Vec<f32>, BridgeError> {
        let dim = self.lower.nrows();
        if weight.is_empty() || !weight.len().is_multiple_of(dim) {
            return Err(BridgeError::Recipe {
                recipe: "whitening".to_owned(),
                problem: format!("the layer behind it must have weights [outputs, {dim}]"),
            });
        }
        let layer = from_f32(weight.len() / dim, dim, weight);
        let folded = solve_lower_transposed(self.lower.as_ref(), layer.transpose().to_owned());
        Ok(to_f32(folded.transpose()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIM: usize = 5;

    /// Rows with a common direction and unequal spread.
    fn rows(count: usize) -> Vec<f32> {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count * DIM)
            .map(|at| next() * [0.1, 0.5, 1.0, 0.02, 0.3][at % DIM] + 1.0)
            .collect()
    }

    #[test]
    fn every_direction_has_the_same_mean_square() {
        let rows = rows(2000);
        let whitening = Whitening::fit(&rows, DIM, 1e-6).unwrap();
        let mut white = rows.clone();
        whitening.apply(&mut white).unwrap();
        for i in 0..DIM {
            for j in 0..=i {
                let products = white.chunks_exact(DIM).map(|row| row[i] * row[j]);
                let mean = products.map(f64::from).sum::<f64>() / 2000.0;
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((mean - expected).abs() < 0.02, "{i} {j}: {mean}");
            }
        }
    }

    #[test]
    fn a_folded_layer_computes_the_same_on_the_rows_themselves() {
        let rows = rows(300);
        let whitening = Whitening::fit(&rows, DIM, 0.1).unwrap();
        let weight: Vec<f32> = (0..2 * DIM).map(|at| at as f32 - 4.5).collect();
        let folded = whitening.fold(&weight).unwrap();
        let mut white = rows.clone();
        whitening.apply(&mut white).unwrap();
        for (row, white) in rows.chunks_exact(DIM).zip(white.chunks_exact(DIM)) {
            let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
            for (weight, folded) in weight.chunks_exact(DIM).zip(folded.chunks_exact(DIM)) {
                let expected = perennial_core::dot(white, weight);
                let found = perennial_core::dot(row, folded) / length;
                assert!((found - expected).abs() < 1e-4 * (1.0 + expected.abs()));
            }
        }
    }

    #[test]
    fn what_cannot_be_whitened_is_refused() {
        assert!(matches!(
            Whitening::fit(&[], DIM, 0.1),
            Err(BridgeError::NoPairs)
        ));
        assert!(Whitening::fit(&[0.0; DIM], DIM, 0.1).is_err());
        for shrinkage in [0.0, -1.0, 1.5, f64::NAN] {
            assert!(Whitening::fit(&rows(9), DIM, shrinkage).is_err());
        }
        let whitening = Whitening::fit(&rows(9), DIM, 0.1).unwrap();
        let error = whitening.apply(&mut [0.0; 2 * DIM]).unwrap_err();
        assert_eq!(error.row(), 0);
        assert!(whitening.fold(&[1.0; 3]).is_err());
    }
}

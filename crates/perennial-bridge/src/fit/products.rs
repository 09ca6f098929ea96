//! What every recipe is computed from.

use faer::Mat;

use crate::centring::CentredRows;
use crate::error::BridgeError;
use crate::linear_algebra::add_cross_product;
use crate::recipe::Recipe;

/// Rows that are held in f64 at a time.
const BLOCK_ROWS: usize = 2048;

/// Products of the centred rows `X` of the source and `Y` of the target.
pub(super) struct Products {
    pub(super) count: usize,
    /// `X^T Y`
    pub(super) cross: Mat<f64>,
    /// `X^T X`, where it is needed.
    pub(super) from_gram: Mat<f64>,
    /// `Y^T Y`, where it is needed.
    pub(super) to_gram: Mat<f64>,
}

impl Products {
    pub(super) fn new(from_dim: usize, to_dim: usize, recipe: &Recipe) -> Self {
        let from_size = match recipe {
            Recipe::Identity | Recipe::Centring | Recipe::Orthogonal => 0,
            _ => from_dim,
        };
        let to_size = match recipe {
            Recipe::Whitened { .. } => to_dim,
            _ => 0,
        };
        Self {
            count: 0,
            cross: Mat::zeros(from_dim, to_dim),
            from_gram: Mat::zeros(from_size, from_size),
            to_gram: Mat::zeros(to_size, to_size),
        }
    }

    pub(super) fn of_rows(
        from: &CentredRows<'_>,
        to: &CentredRows<'_>,
        recipe: &Recipe,
    ) -> Result<Self, BridgeError> {
        let mut products = Self::new(from.dim, to.dim, recipe);
        let count = from.rows.len() / from.dim;
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for first in (0..count).step_by(BLOCK_ROWS) {
            let rows = BLOCK_ROWS.min(count - first);
            from.fill(first, rows, &mut x)?;
            to.fill(first, rows, &mut y)?;
            products.add(&x, &y);
        }
        Ok(products)
    }

    pub(super) fn add(&mut self, x: &[f64], y: &[f64]) {
        self.count += x.len() / self.cross.nrows();
        add_cross_product(&mut self.cross, x, y);
        if self.from_gram.nrows() > 0 {
            add_cross_product(&mut self.from_gram, x, x);
        }
        if self.to_gram.nrows() > 0 {
            add_cross_product(&mut self.to_gram, y, y);
        }
    }
}

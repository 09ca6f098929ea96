//! A fitted linear map.

use faer::Mat;

/// The product of its factors, which are none for the identity.
#[derive(Default)]
pub(super) struct Map {
    pub(super) factors: Vec<Mat<f64>>,
    pub(super) warning: Option<String>,
    /// Of the product of the two sides, where a rotation is fitted: directions beyond it are mapped arbitrarily.
    pub(super) rank: Option<usize>,
}

/// Singular values below this share of the largest are rounding errors of embeddings in f32.
const ZERO: f64 = 1e-7;

impl Map {
    pub(super) fn with_rank(mut self, singular_values: &[f64]) -> Self {
        let least = singular_values.iter().copied().fold(0.0, f64::max) * ZERO;
        let above = singular_values.iter().filter(|&&value| value > least);
        self.rank = Some(above.count());
        self
    }
}

impl From<Mat<f64>> for Map {
    fn from(matrix: Mat<f64>) -> Self {
        Self {
            factors: vec![matrix],
            warning: None,
            rank: None,
        }
    }
}

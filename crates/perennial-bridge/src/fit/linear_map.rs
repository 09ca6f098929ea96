//! A fitted linear map.

use faer::Mat;

/// The product of its factors, which are none for the identity.
#[derive(Default)]
pub(super) struct Map {
    pub(super) factors: Vec<Mat<f64>>,
    pub(super) warning: Option<String>,
}

impl From<Mat<f64>> for Map {
    fn from(matrix: Mat<f64>) -> Self {
        Self {
            factors: vec![matrix],
            warning: None,
        }
    }
}

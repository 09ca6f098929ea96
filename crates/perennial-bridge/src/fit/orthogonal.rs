//! The orthogonal map.

use faer::Mat;

use super::Products;
use crate::linear_algebra::{product, thin_svd};

/// `U V^T` of the singular value decomposition of `X^T Y`, and the singular values. It minimises `|X R - Y|` over the maps with
/// `R^T R = 1` (or `R R^T = 1`, where the target has more dimensions).
///
/// **Source**: P. Schönemann, A generalized solution of the orthogonal Procrustes problem, Psychometrika 31 (1966), equation 1.10.
pub(super) fn fit(products: &Products) -> Option<(Mat<f64>, Vec<f64>)> {
    let svd = thin_svd(products.cross.as_ref())?;
    Some((product(svd.u.as_ref(), svd.v.transpose()), svd.values))
}

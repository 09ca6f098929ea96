//! The orthogonal map.

use faer::Mat;

use super::products::Products;
use crate::linear_algebra::{product, thin_svd};

/// `U V^T` of the singular value decomposition of `X^T Y`, and the singular values. It maximises the
/// sum of the inner products of mapped rows and their partners over the maps with orthonormal columns (rows, where the target has more
/// dimensions). Between equal dimensions it also minimises `|X R - Y|`.
///
/// **Source**: P. Schönemann, A generalized solution of the orthogonal Procrustes problem, Psychometrika 31 (1966), equation 1.10.
pub(super) fn fit(products: &Products) -> Option<(Mat<f64>, Vec<f64>)> {
    let svd = thin_svd(products.cross.as_ref())?;
    Some((product(svd.u.as_ref(), svd.v.transpose()), svd.values))
}

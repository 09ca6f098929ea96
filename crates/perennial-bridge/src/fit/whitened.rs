//! A rotation between whitened spaces.

use faer::Mat;

use super::products::Products;
use crate::linear_algebra::{
    cholesky, product, shrunk, solve_lower, solve_lower_transposed, thin_svd,
};

/// Whitening of both sides with shrunk covariances, rotation, re-weighting by the singular values' power, de-whitening.
///
/// With `C = (1 - shrinkage) C + shrinkage tr(C) / d I` for both covariances, `C_x = L_x L_x^T`, `C_y = L_y L_y^T` and
/// `U S V^T = L_x^-1 C_xy L_y^-T`, the map is `L_x^-T U S^power V^T L_y^T`. Every whitening gives the same map, so the triangular one serves.
/// At power 1 it is least squares with the shrunk covariance, at power 0 a rotation between the whitened spaces.
///
/// **Source**: M. Artetxe, G. Labaka and E. Agirre, Generalizing and improving bilingual word embedding mappings with a multi-step framework
/// of linear transformations, AAAI 2018, steps 1 to 4, with the shrinkage added.
pub(super) fn fit(products: &Products, shrinkage: f64, power: f64) -> Option<Mat<f64>> {
    let l_x = cholesky(shrunk(&products.from_gram, products.count, shrinkage))?;
    let l_y = cholesky(shrunk(&products.to_gram, products.count, shrinkage))?;
    let cross = products.cross.as_ref() * faer::Scale(1.0 / products.count as f64);
    let half = solve_lower(l_x.as_ref(), cross);
    let whitened = solve_lower(l_y.as_ref(), half.transpose().to_owned());
    let mut svd = thin_svd(whitened.transpose())?;
    for (j, value) in svd.values.iter().enumerate() {
        let factor = value.powf(power);
        for i in 0..svd.u.nrows() {
            svd.u[(i, j)] *= factor;
        }
    }
    let left = solve_lower_transposed(l_x.as_ref(), svd.u);
    let right = product(l_y.as_ref(), svd.v.as_ref());
    Some(product(left.as_ref(), right.transpose()))
}

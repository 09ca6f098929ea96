//! Ridge regression, also restricted to few directions of the target.

use faer::Mat;

use super::linear_map::Map;
use super::products::Products;
use crate::linear_algebra::{cholesky, product, solve_lower, solve_lower_transposed, thin_svd};

/// `(X^T X + penalty n I)^-1 X^T Y`; nothing if the matrix is singular.
///
/// **Source**: A. Hoerl and R. Kennard, Ridge regression, Technometrics 12 (1970), equation 2.1.
pub(super) fn ridge(products: &Products, penalty: f64) -> Option<Mat<f64>> {
    let mut gram = products.from_gram.clone();
    for i in 0..gram.nrows() {
        gram[(i, i)] += penalty * products.count as f64;
    }
    let l = cholesky(gram)?;
    let half = solve_lower(l.as_ref(), products.cross.clone());
    Some(solve_lower_transposed(l.as_ref(), half))
}

/// The ridge map `W`, projected on the leading right singular vectors `V` of its fitted values `X W`: `W V V^T`.
///
/// **Source**: A. Izenman, Reduced-rank regression for the multivariate linear model, J. Multivariate Analysis 5 (1975), with the identity
/// as weights and the ridge map in the place of least squares.
pub(super) fn low_rank(products: &Products, rank: usize, penalty: f64) -> Option<Map> {
    let map = ridge(products, penalty)?;
    let fitted_gram = product(
        map.transpose(),
        product(products.from_gram.as_ref(), map.as_ref()).as_ref(),
    );
    let directions = thin_svd(fitted_gram.as_ref())?.v;
    let rank = rank.min(map.nrows()).min(map.ncols());
    let directions = directions.subcols(0, rank);
    let narrow = product(map.as_ref(), directions);
    // Two narrow factors are less work than their product, up to about half of the dimensions.
    if rank * (map.nrows() + map.ncols()) < map.nrows() * map.ncols() {
        return Some(Map {
            factors: vec![narrow, directions.transpose().to_owned()],
            warning: None,
            rank: None,
        });
    }
    Some(product(narrow.as_ref(), directions.transpose()).into())
}

//! Dense linear algebra in f64: the few operations that fits need, with one place that knows `faer`'s interface.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{
    LltParams, cholesky_in_place, cholesky_in_place_scratch,
};
use faer::linalg::matmul::matmul;
use faer::linalg::svd::{ComputeSvdVectors, SvdParams, svd, svd_scratch};
use faer::linalg::triangular_solve::{
    solve_lower_triangular_in_place, solve_upper_triangular_in_place,
};
use faer::{Accum, Mat, MatRef, Par, Spec};

/// Parts that work is split into, whatever the number of threads: some sums are added up part by part, and a map must not depend on the
/// machine's number of cores.
const PARTS: usize = 16;

fn parallel() -> Par {
    Par::rayon(PARTS)
}

/// `[rows, columns]`, from row-major f32 values.
pub(crate) fn from_f32(rows: usize, columns: usize, values: &[f32]) -> Mat<f64> {
    Mat::from_fn(rows, columns, |i, j| f64::from(values[i * columns + j]))
}

/// Row-major f32 values.
pub(crate) fn to_f32(matrix: MatRef<'_, f64>) -> Vec<f32> {
    let mut values = Vec::with_capacity(matrix.nrows() * matrix.ncols());
    for i in 0..matrix.nrows() {
        values.extend((0..matrix.ncols()).map(|j| matrix[(i, j)] as f32));
    }
    values
}

/// `a b`.
pub(crate) fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let mut result = Mat::zeros(a.nrows(), b.ncols());
    matmul(result.as_mut(), Accum::Replace, a, b, 1.0, parallel());
    result
}

/// Adds `a^T b` of row-major `[n, _]` values to `sum`, where `n` is given by the lengths.
pub(crate) fn add_cross_product(sum: &mut Mat<f64>, a: &[f64], b: &[f64]) {
    let count = a.len() / sum.nrows();
    let a = MatRef::from_row_major_slice(a, count, sum.nrows());
    let b = MatRef::from_row_major_slice(b, count, sum.ncols());
    matmul(sum.as_mut(), Accum::Add, a.transpose(), b, 1.0, parallel());
}

/// A thin singular value decomposition `u diag(values) v^T`; values fall.
pub(crate) struct Svd {
    pub(crate) u: Mat<f64>,
    pub(crate) values: Vec<f64>,
    pub(crate) v: Mat<f64>,
}

/// Nothing if the iteration does not converge, which finite input does not cause in practice.
///
/// Divide and conquer, which is the faster way, was seen to give NaN without an error for the product of 500 pairs in 1,023 dimensions,
/// whose rank is less than half of its size. QR iteration takes its place then.
pub(crate) fn thin_svd(matrix: MatRef<'_, f64>) -> Option<Svd> {
    divided_or_by_iteration(|params| svd_by(matrix, params))
}

fn divided_or_by_iteration<T>(decompose: impl Fn(Spec<SvdParams, f64>) -> Option<T>) -> Option<T> {
    let params = Spec::<SvdParams, f64>::default();
    decompose(params).or_else(|| decompose(by_iteration(params)))
}

/// The same decomposition without dividing the matrix.
fn by_iteration(params: Spec<SvdParams, f64>) -> Spec<SvdParams, f64> {
    let mut params = params;
    params.config.recursion_threshold = usize::MAX;
    params
}

/// Nothing without convergence, or with a result that is not finite.
fn svd_by(matrix: MatRef<'_, f64>, params: Spec<SvdParams, f64>) -> Option<Svd> {
    let (rows, columns) = matrix.shape();
    let size = rows.min(columns);
    let (mut u, mut v) = (Mat::zeros(rows, size), Mat::zeros(columns, size));
    let mut values = faer::Col::<f64>::zeros(size);
    let thin = ComputeSvdVectors::Thin;
    let scratch = svd_scratch::<f64>(rows, columns, thin, thin, parallel(), params);
    let mut memory = MemBuffer::new(scratch);
    let (u_out, v_out) = (u.as_mut(), v.as_mut());
    let diagonal = values.as_mut().as_diagonal_mut();
    let stack = MemStack::new(&mut memory);
    svd(
        matrix,
        diagonal,
        Some(u_out),
        Some(v_out),
        parallel(),
        stack,
        params,
    )
    .ok()?;
    let finite = u.is_all_finite() && v.is_all_finite() && values.is_all_finite();
    let values = (0..size).map(|i| values[i]).collect();
    finite.then_some(Svd { u, values, v })
}

/// The lower triangle `l` of `l l^T`; nothing if the matrix is not positive definite.
pub(crate) fn cholesky(mut matrix: Mat<f64>) -> Option<Mat<f64>> {
    let size = matrix.nrows();
    // Rounding leaves tiny positive pivots in a singular matrix; a factor of them is noise.
    let least =
        (0..size).map(|i| matrix[(i, i)]).fold(0.0, f64::max) * size as f64 * 10.0 * f64::EPSILON;
    let params = Spec::<LltParams, f64>::default();
    let scratch = cholesky_in_place_scratch::<f64>(size, parallel(), params);
    let mut memory = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut memory);
    cholesky_in_place(
        matrix.as_mut(),
        Default::default(),
        parallel(),
        stack,
        params,
    )
    .ok()?;
    for j in 0..size {
        let pivot = matrix[(j, j)].powi(2);
        if pivot.is_nan() || pivot <= least {
            return None;
        }
        for i in 0..j {
            matrix[(i, j)] = 0.0;
        }
    }
    Some(matrix)
}

/// `l^-1 b`.
pub(crate) fn solve_lower(l: MatRef<'_, f64>, mut b: Mat<f64>) -> Mat<f64> {
    solve_lower_triangular_in_place(l, b.as_mut(), parallel());
    b
}

/// `l^-T b`.
pub(crate) fn solve_lower_transposed(l: MatRef<'_, f64>, mut b: Mat<f64>) -> Mat<f64> {
    solve_upper_triangular_in_place(l.transpose(), b.as_mut(), parallel());
    b
}

/// The sum of the products of corresponding elements.
pub(crate) fn inner(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
    let mut sum = 0.0;
    for j in 0..a.ncols() {
        sum += (0..a.nrows()).map(|i| a[(i, j)] * b[(i, j)]).sum::<f64>();
    }
    sum
}

/// `a + factor b`.
pub(crate) fn add(a: &Mat<f64>, factor: f64, b: &Mat<f64>) -> Mat<f64> {
    Mat::from_fn(a.nrows(), a.ncols(), |i, j| a[(i, j)] + factor * b[(i, j)])
}

/// The Moore-Penrose inverse; singular values below `1e-6` of the largest count as 0, as stored maps are f32.
pub(crate) fn pseudo_inverse(matrix: MatRef<'_, f64>) -> Option<Mat<f64>> {
    let Svd { u, values, mut v } = thin_svd(matrix)?;
    let least = values.first().copied().unwrap_or_default() * 1e-6;
    for (j, value) in values.iter().enumerate() {
        let factor = if *value > least { value.recip() } else { 0.0 };
        for i in 0..v.nrows() {
            v[(i, j)] *= factor;
        }
    }
    Some(product(v.as_ref(), u.transpose()))
}

/// `(1 - shrinkage) gram / count + shrinkage m I`, where `m` is the mean of the diagonal of `gram / count`.
pub(crate) fn shrunk(gram: &Mat<f64>, count: usize, shrinkage: f64) -> Mat<f64> {
    let (dim, count) = (gram.nrows(), count as f64);
    let trace: f64 = (0..dim).map(|i| gram[(i, i)]).sum();
    let mean = trace / count / dim as f64;
    Mat::from_fn(dim, dim, |i, j| {
        let target = if i == j { mean } else { 0.0 };
        (1.0 - shrinkage) * gram[(i, j)] / count + shrinkage * target
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A matrix of a given rank, from a small generator.
    fn of_rank(rank: usize, rows: usize, columns: usize) -> Mat<f64> {
        let mut state = 7_u64;
        let mut draw = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / f64::from(1 << 23) - 1.0
        };
        let left = Mat::from_fn(rows, rank, |_, _| draw());
        let right = Mat::from_fn(rank, columns, |_, _| draw());
        product(left.as_ref(), right.as_ref())
    }

    fn largest_difference(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
        let places = (0..a.nrows()).flat_map(|i| (0..a.ncols()).map(move |j| (i, j)));
        places.fold(0.0, |most, place| (a[place] - b[place]).abs().max(most))
    }

    #[test]
    fn both_ways_decompose_matrices_of_full_and_of_low_rank() {
        let divided = Spec::<SvdParams, f64>::default();
        for (rank, rows, columns) in [(150, 150, 150), (60, 150, 150), (40, 150, 140), (3, 9, 5)] {
            let matrix = of_rank(rank, rows, columns);
            for params in [divided, by_iteration(divided)] {
                let svd = svd_by(matrix.as_ref(), params).unwrap();
                let size = rows.min(columns);
                let scaled = Mat::from_fn(rows, size, |i, j| svd.u[(i, j)] * svd.values[j]);
                let again = product(scaled.as_ref(), svd.v.transpose());
                assert!(largest_difference(&again, &matrix) < 1e-10, "{rank}");
                for vectors in [&svd.u, &svd.v] {
                    let products = product(vectors.transpose(), vectors.as_ref());
                    let identity = Mat::identity(size, size);
                    assert!(largest_difference(&products, &identity) < 1e-10, "{rank}");
                }
            }
        }
    }

    #[test]
    fn where_division_fails_iteration_takes_its_place() {
        let matrix = of_rank(60, 150, 150);
        let divided = Spec::<SvdParams, f64>::default();
        let found = divided_or_by_iteration(|params| {
            let divides = params.config.recursion_threshold == divided.config.recursion_threshold;
            (!divides)
                .then(|| svd_by(matrix.as_ref(), params))
                .flatten()
        });
        let direct = thin_svd(matrix.as_ref()).unwrap();
        let found = found.unwrap();
        for (one, other) in found.values.iter().zip(&direct.values) {
            assert!((one - other).abs() < 1e-10, "{one} {other}");
        }
        assert!(divided_or_by_iteration(|_| None::<()>).is_none());
    }

    #[test]
    fn what_is_not_finite_has_no_decomposition() {
        let mut matrix = of_rank(4, 6, 6);
        matrix[(2, 3)] = f64::NAN;
        assert!(thin_svd(matrix.as_ref()).is_none());
    }
}

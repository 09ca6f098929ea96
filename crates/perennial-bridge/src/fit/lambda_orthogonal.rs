//! Least squares with a penalty on the distance from a rotation.

use faer::Mat;

use super::linear_map::Map;
use super::orthogonal;
use super::products::Products;
use crate::linear_algebra::{add, inner, product};

const MOST_STEPS: usize = 200;
/// The gradient's length at which the fit ends, as a share of that of `X^T Y / n`.
const TOLERANCE: f64 = 1e-5;

/// The map `W` that minimises `|X W - Y|^2 / n + lambda |W^T W - I|^2` (Frobenius norms; `W W^T` where the target has more dimensions),
/// descended to from the orthogonal map by conjugate gradients with exact line searches.
///
/// **Source**: arXiv 2509.16664. The paper trains an affine adapter with gradient steps and relaxes orthogonality by a threshold lambda; this is the
/// same trade-off with the penalty's weight as the parameter, in closed form but for the descent. The rows are centred, so there is no bias
/// term. A large lambda gives orthonormal columns (a rotation between equal dimensions), 0 gives least squares.
pub(super) fn fit(products: &Products, lambda: f64) -> Option<Map> {
    let (start, singular_values) = orthogonal::fit(products)?;
    let scale = 1.0 / products.count as f64;
    let problem = Problem {
        gram: products.from_gram.as_ref() * faer::Scale(scale),
        cross: products.cross.as_ref() * faer::Scale(scale),
        lambda,
        tall: start.nrows() >= start.ncols(),
    };
    let (map, converged) = problem.descend(start);
    let warning = (!converged).then(|| {
        format!("the descent of lambda_orthogonal was stopped after {MOST_STEPS} steps; the map is close to the optimum, not at it")
    });
    let map = Map {
        warning,
        ..Map::from(map)
    };
    Some(map.with_rank(&singular_values))
}

struct Problem {
    gram: Mat<f64>,
    cross: Mat<f64>,
    lambda: f64,
    /// Whether the columns, and not the rows, can be orthonormal.
    tall: bool,
}

impl Problem {
    /// The smaller one of `a^T b` and `a b^T`.
    fn small_product(&self, a: &Mat<f64>, b: &Mat<f64>) -> Mat<f64> {
        if self.tall {
            product(a.transpose(), b.as_ref())
        } else {
            product(a.as_ref(), b.transpose())
        }
    }

    fn descend(&self, mut map: Mat<f64>) -> (Mat<f64>, bool) {
        let size = map.nrows().min(map.ncols());
        let least = TOLERANCE * inner(&self.cross, &self.cross).sqrt();
        // G W and W^T W - I follow the map along the line, so a step costs four products.
        let mut fitted = product(self.gram.as_ref(), map.as_ref());
        let identity = Mat::<f64>::identity(size, size);
        let mut excess = add(&self.small_product(&map, &map), -1.0, &identity);
        let mut gradient = self.gradient(&map, &fitted, &excess);
        let mut direction = add(&gradient, -2.0, &gradient);
        let mut squared = inner(&gradient, &gradient);
        for _ in 0..MOST_STEPS {
            if squared.sqrt() <= least {
                return (map, true);
            }
            let fitted_step = product(self.gram.as_ref(), direction.as_ref());
            let half = self.small_product(&map, &direction);
            let linear = Mat::from_fn(size, size, |i, j| half[(i, j)] + half[(j, i)]);
            let square = self.small_product(&direction, &direction);
            let residue = add(&fitted, -1.0, &self.cross);
            // The objective at `map + t direction` is a polynomial of degree 4 in t; these are its coefficients from degree 1 on.
            let step = lowest_point([
                2.0 * inner(&direction, &residue) + 2.0 * self.lambda * inner(&excess, &linear),
                inner(&direction, &fitted_step)
                    + self.lambda * (inner(&linear, &linear) + 2.0 * inner(&excess, &square)),
                2.0 * self.lambda * inner(&linear, &square),
                self.lambda * inner(&square, &square),
            ]);
            if step == 0.0 {
                return (map, false);
            }
            map = add(&map, step, &direction);
            fitted = add(&fitted, step, &fitted_step);
            excess = add(&add(&excess, step, &linear), step * step, &square);
            let before = std::mem::replace(&mut gradient, self.gradient(&map, &fitted, &excess));
            // Polak and Ribière's factor; at 0 the direction starts anew.
            let factor =
                ((inner(&gradient, &gradient) - inner(&gradient, &before)) / squared).max(0.0);
            squared = inner(&gradient, &gradient);
            direction = add(&add(&gradient, -2.0, &gradient), factor, &direction);
            if inner(&direction, &gradient) >= 0.0 {
                direction = add(&gradient, -2.0, &gradient);
            }
        }
        (map, false)
    }

    /// `2 (G W - C) + 4 lambda W (W^T W - I)`
    fn gradient(&self, map: &Mat<f64>, fitted: &Mat<f64>, excess: &Mat<f64>) -> Mat<f64> {
        let penalty = if self.tall {
            product(map.as_ref(), excess.as_ref())
        } else {
            product(excess.as_ref(), map.as_ref())
        };
        Mat::from_fn(map.nrows(), map.ncols(), |i, j| {
            2.0 * (fitted[(i, j)] - self.cross[(i, j)]) + 4.0 * self.lambda * penalty[(i, j)]
        })
    }
}

/// The first minimum above 0 of a polynomial with these coefficients from degree 1 to 4, of which the first is negative.
fn lowest_point(c: [f64; 4]) -> f64 {
    let slope = |t: f64| c[0] + t * (2.0 * c[1] + t * (3.0 * c[2] + t * 4.0 * c[3]));
    if c[0].is_nan() || c[0] >= 0.0 {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    while slope(high) < 0.0 {
        low = high;
        high *= 2.0;
        if high > 1e30 {
            return 0.0;
        }
    }
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if slope(middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_point_of_a_parabola() {
        assert!((lowest_point([-4.0, 1.0, 0.0, 0.0]) - 2.0).abs() < 1e-12);
        assert_eq!(lowest_point([1.0, 1.0, 0.0, 0.0]), 0.0);
        assert_eq!(lowest_point([-1.0, 0.0, 0.0, 0.0]), 0.0);
    }
}

//! The two directions in which embeddings differ most, for pictures of a space.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Vectors that are iterated together: two are wanted, the others speed up their convergence.
const BLOCK: usize = 6;
/// Iterations at most; a picture needs no more.
const ITERATIONS: usize = 200;
/// Relative change of the variances at which the iteration ends.
const TOLERANCE: f64 = 1e-10;
/// Coordinates that one thread sums at a time.
const STRIPE: usize = 64;

/// Why there is no plane.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PcaError {
    /// No rows or no dimensions.
    #[error("{values} numbers are no rows of dimension {dim}; give whole rows, at least one")]
    Shape {
        /// Numbers given.
        values: usize,
        /// Their dimension.
        dim: usize,
    },
    /// A number is NaN or infinite.
    #[error("row {row} holds a number that is not finite; leave such rows out")]
    NotFinite {
        /// Position of the row, counted from 0.
        row: usize,
    },
}

/// The plane of the first two principal components.
///
/// The same rows give the same plane to the last bit, whatever the number of threads. Directions without variance are zero, so
/// that everything lies at 0 along them.
///
/// **Source.** Subspace iteration with Rayleigh-Ritz: Golub and Van Loan, Matrix Computations, 4th edition, 8.2.4. The covariance
/// matrix is never formed.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    mean: Vec<f64>,
    directions: [Vec<f64>; 2],
    explained: [f64; 2],
}

impl Plane {
    /// The plane of these rows. A few thousand are enough for a picture.
    ///
    /// **Shapes.** `rows` `[n, dim]`, row by row.
    ///
    /// # Errors
    /// [`PcaError`] where that is no table of finite numbers.
    pub fn fit(rows: &[f32], dim: usize) -> Result<Self, PcaError> {
        if dim == 0 || rows.is_empty() || !rows.len().is_multiple_of(dim) {
            return Err(PcaError::Shape {
                values: rows.len(),
                dim,
            });
        }
        if let Some(at) = rows.iter().position(|value| !value.is_finite()) {
            return Err(PcaError::NotFinite { row: at / dim });
        }
        let count = rows.len() / dim;
        let mut mean = vec![0.0; dim];
        for row in rows.chunks_exact(dim) {
            for (sum, value) in mean.iter_mut().zip(row) {
                *sum += f64::from(*value) / count as f64;
            }
        }
        let centred: Vec<f64> = rows
            .chunks_exact(dim)
            .flat_map(|row| {
                row.iter()
                    .zip(&mean)
                    .map(|(value, mean)| f64::from(*value) - mean)
            })
            .collect();
        let total = centred.iter().map(|value| value * value).sum::<f64>();
        let (variances, directions) = leading(&centred, dim);
        let explained = variances.map(|variance| if total > 0.0 { variance / total } else { 0.0 });
        Ok(Self {
            mean,
            directions,
            explained,
        })
    }

    /// Shares of the variance along the first and the second direction.
    pub fn explained(&self) -> [f64; 2] {
        self.explained
    }

    /// Where a row lies on the plane.
    ///
    /// **Shapes.** `row` `[dim]`, as the rows of the fit; further numbers are passed over.
    pub fn project(&self, row: &[f32]) -> [f64; 2] {
        [0, 1].map(|axis| {
            let differences = row
                .iter()
                .zip(&self.mean)
                .map(|(value, mean)| f64::from(*value) - mean);
            differences
                .zip(&self.directions[axis])
                .map(|(value, along)| value * along)
                .sum()
        })
    }
}

/// The two largest sums of squares along directions, and these directions.
fn leading(centred: &[f64], dim: usize) -> ([f64; 2], [Vec<f64>; 2]) {
    let width = BLOCK.min(dim);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut block: Vec<Vec<f64>> = (0..width)
        .map(|_| (0..dim).map(|_| rng.random_range(-1.0..1.0)).collect())
        .collect();
    orthonormalise(&mut block);
    let mut variances = vec![0.0; width];
    for _ in 0..ITERATIONS {
        let images = scatter(centred, dim, &block);
        // Rayleigh-Ritz: within the block's span the directions are exact.
        let projected: Vec<Vec<f64>> = block
            .iter()
            .map(|left| images.iter().map(|right| dot(left, right)).collect())
            .collect();
        let (values, rotation) = jacobi(projected);
        let before = std::mem::replace(&mut variances, values);
        block = rotation
            .iter()
            .map(|weights| combine(weights, &images))
            .collect();
        orthonormalise(&mut block);
        let moved = (0..width.min(2))
            .any(|at| (variances[at] - before[at]).abs() > TOLERANCE * variances[0].abs());
        if !moved {
            break;
        }
    }
    let mut block = block.into_iter();
    let directions = [0, 1].map(|_| upright(block.next().unwrap_or_else(|| vec![0.0; dim])));
    // Measured once more along the final directions.
    let images = scatter(centred, dim, &directions);
    let variances = [0, 1].map(|axis: usize| dot(&directions[axis], &images[axis]).max(0.0));
    (variances, directions)
}

/// X^T X applied to each vector, rows of X being `centred`.
fn scatter(centred: &[f64], dim: usize, vectors: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let along: Vec<Vec<f64>> = centred
        .par_chunks_exact(dim)
        .map(|row| vectors.iter().map(|vector| dot(row, vector)).collect())
        .collect();
    let mut images = vec![vec![0.0; dim]; vectors.len()];
    // Each coordinate is summed over the rows in their order, whichever thread has it.
    for (index, image) in images.iter_mut().enumerate() {
        image
            .par_chunks_mut(STRIPE)
            .enumerate()
            .for_each(|(stripe, part)| {
                let start = stripe * STRIPE;
                for (row, along) in centred.chunks_exact(dim).zip(&along) {
                    for (sum, value) in part.iter_mut().zip(&row[start..]) {
                        *sum += value * along[index];
                    }
                }
            });
    }
    images
}

/// Gram-Schmidt, twice for accuracy. What lies in the span of those before becomes zero.
fn orthonormalise(block: &mut [Vec<f64>]) {
    for index in 0..block.len() {
        let (before, rest) = block.split_at_mut(index);
        let vector = &mut rest[0];
        let length = dot(vector, vector).sqrt();
        for _ in 0..2 {
            for other in before.iter() {
                let along = dot(vector, other);
                for (value, other) in vector.iter_mut().zip(other) {
                    *value -= along * other;
                }
            }
        }
        let left = dot(vector, vector).sqrt();
        let scale = if left > 1e-12 * length && left > 0.0 {
            1.0 / left
        } else {
            0.0
        };
        for value in vector.iter_mut() {
            *value *= scale;
        }
    }
}

/// Eigenvalues of a small symmetric matrix in descending order, and the eigenvectors as rows: cyclic Jacobi rotations.
fn jacobi(mut matrix: Vec<Vec<f64>>) -> (Vec<f64>, Vec<Vec<f64>>) {
    let size = matrix.len();
    let mut vectors: Vec<Vec<f64>> = (0..size)
        .map(|row| {
            (0..size)
                .map(|column| f64::from(u8::from(row == column)))
                .collect()
        })
        .collect();
    for _ in 0..30 {
        for p in 0..size {
            for q in p + 1..size {
                let off = (matrix[p][q] + matrix[q][p]) / 2.0;
                let difference = matrix[q][q] - matrix[p][p];
                if off.abs() <= f64::EPSILON * (matrix[p][p].abs() + matrix[q][q].abs()) {
                    continue;
                }
                // The smaller of the two angles that make the entry zero.
                let angle = (2.0 * off / difference).atan() / 2.0;
                let (sin, cos) = angle.sin_cos();
                for row in &mut matrix {
                    (row[p], row[q]) = (cos * row[p] - sin * row[q], sin * row[p] + cos * row[q]);
                }
                for rows in [&mut matrix, &mut vectors] {
                    let (upper, lower) = rows.split_at_mut(q);
                    for (a, b) in upper[p].iter_mut().zip(&mut lower[0]) {
                        (*a, *b) = (cos * *a - sin * *b, sin * *a + cos * *b);
                    }
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|&a, &b| matrix[b][b].total_cmp(&matrix[a][a]));
    let values = order.iter().map(|&at| matrix[at][at]).collect();
    (
        values,
        order.iter().map(|&at| vectors[at].clone()).collect(),
    )
}

fn combine(weights: &[f64], vectors: &[Vec<f64>]) -> Vec<f64> {
    let mut sum = vec![0.0; vectors[0].len()];
    for (weight, vector) in weights.iter().zip(vectors) {
        for (sum, value) in sum.iter_mut().zip(vector) {
            *sum += weight * value;
        }
    }
    sum
}

/// With its largest coordinate positive, so that a picture is never mirrored by chance.
fn upright(mut direction: Vec<f64>) -> Vec<f64> {
    let largest = direction.iter().copied().fold(0.0_f64, |largest, value| {
        if value.abs() > largest.abs() {
            value
        } else {
            largest
        }
    });
    if largest < 0.0 {
        direction.iter_mut().for_each(|value| *value = -*value);
    }
    direction
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_distr::{Distribution, StandardNormal};

    /// Rows with these deviations along coordinates, rotated by 30 degrees in the first two.
    fn cloud(deviations: &[f64], count: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let (sin, cos) = (0.5, 0.75_f64.sqrt());
        (0..count)
            .flat_map(|_| {
                let mut row: Vec<f64> = deviations
                    .iter()
                    .map(|deviation| {
                        let normal: f64 = StandardNormal.sample(&mut rng);
                        deviation * normal
                    })
                    .collect();
                (row[0], row[1]) = (cos * row[0] - sin * row[1], sin * row[0] + cos * row[1]);
                row.into_iter().map(|value| (value + 7.0) as f32)
            })
            .collect()
    }

    #[test]
    fn the_directions_of_a_known_cloud_are_found() {
        let deviations = [3.0, 2.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5];
        let rows = cloud(&deviations, 20_000);
        let plane = Plane::fit(&rows, 9).unwrap();
        let total: f64 = deviations
            .iter()
            .map(|deviation| deviation * deviation)
            .sum();
        for (axis, expected) in [(0, 9.0 / total), (1, 4.0 / total)] {
            assert!(
                (plane.explained()[axis] - expected).abs() < 0.01,
                "{:?}",
                plane.explained()
            );
        }
        let [first, second] = &plane.directions;
        assert!(
            (first[0] - 0.75_f64.sqrt()).abs() < 0.02 && (first[1] - 0.5).abs() < 0.02,
            "{first:?}"
        );
        assert!(dot(first, second).abs() < 1e-9 && (dot(second, second) - 1.0).abs() < 1e-9);
        assert!(
            plane
                .project(&[7.0; 9])
                .iter()
                .all(|value| value.abs() < 0.1)
        );
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let rows = cloud(&[1.0; 200], 300);
        let fit = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| Plane::fit(&rows, 200).unwrap())
        };
        assert_eq!(fit(1), fit(5));
    }

    #[test]
    fn flat_and_short_tables_work() {
        let still = Plane::fit(&[1.5; 12], 4).unwrap();
        assert_eq!(still.explained(), [0.0, 0.0]);
        assert_eq!(still.project(&[1.5; 4]), [0.0, 0.0]);
        let line = Plane::fit(&[1.0, 2.0, 4.0], 1).unwrap();
        assert_eq!(line.explained(), [1.0, 0.0]);
        assert_eq!(line.project(&[4.0])[1], 0.0);
        let one = Plane::fit(&[0.3, 0.4], 2).unwrap();
        assert_eq!(one.project(&[0.3, 0.4]), [0.0, 0.0]);
        // All variance in one direction of many.
        let ray: Vec<f32> = (0..50)
            .flat_map(|at| [at as f32, 0.0, -(at as f32)])
            .collect();
        let plane = Plane::fit(&ray, 3).unwrap();
        assert!((plane.explained()[0] - 1.0).abs() < 1e-9 && plane.explained()[1] < 1e-9);
    }

    #[test]
    fn what_is_no_table_is_refused() {
        assert!(matches!(Plane::fit(&[], 3), Err(PcaError::Shape { .. })));
        assert!(matches!(
            Plane::fit(&[1.0; 4], 3),
            Err(PcaError::Shape { .. })
        ));
        assert!(matches!(Plane::fit(&[1.0], 0), Err(PcaError::Shape { .. })));
        let error = Plane::fit(&[1.0, 2.0, f32::NAN, 0.0], 2).unwrap_err();
        assert_eq!(error, PcaError::NotFinite { row: 1 });
    }
}

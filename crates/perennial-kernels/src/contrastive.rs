//! The parts of the contrastive term between two models' features that are no matrix products: rows of unit length, and the loss
//! of a matrix of similarities with its gradient.

use perennial_core::instructions::arch;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::softmax::softmax;

/// Rows that one task handles, so that tasks are not shorter than their overhead.
const ROWS_PER_TASK: usize = 16;

/// Sums run over this many lanes side by side: fixed, so that they do not depend on the processor.
const LANES: usize = 32;

/// The square of the least length that a row is divided by.
const LEAST_SQUARE: f32 = 1e-24;

/// Far below any logit, yet finite: a row in which every column is left out stays free of NaN.
const LEFT_OUT: f32 = -1e9;

/// Rows scaled to length 1, and their lengths, which are at least 1e-12. A row with NaN becomes NaN.
///
/// # Shapes
///
/// - rows: `[rows, dim]`
/// - results: `[rows, dim]`, `[rows]`
pub fn unit_rows(rows: &[f32], dim: usize) -> (Vec<f32>, Vec<f32>) {
    assert!(rows.len().is_multiple_of(dim), "values are whole rows");
    let mut unit = rows.to_vec();
    let lengths = unit
        .par_chunks_mut(dim)
        .with_min_len(ROWS_PER_TASK)
        .map(|row| {
            let square = dot(row, row);
            // Clamped before the root, whose gradient at 0 is infinite. Unlike `f32::max` it hands NaN on.
            let length = if square < LEAST_SQUARE {
                LEAST_SQUARE.sqrt()
            } else {
                square.sqrt()
            };
            row.iter_mut().for_each(|value| *value /= length);
            length
        })
        .collect();
    (unit, lengths)
}

/// Gradient of [`unit_rows`]: the gradient with respect to the unit rows becomes the one with respect to the rows.
///
/// # Shapes
///
/// - unit, gradient: `[rows, dim]`, lengths: `[rows]`; unit and lengths as [`unit_rows`] returned them
pub fn unit_rows_backward(unit: &[f32], lengths: &[f32], gradient: &mut [f32]) {
    assert!(
        unit.len() == gradient.len() && unit.len().is_multiple_of(lengths.len().max(1)),
        "values are whole rows"
    );
    let dim = (unit.len() / lengths.len().max(1)).max(1);
    gradient
        .par_chunks_mut(dim)
        .zip(unit.par_chunks(dim))
        .zip(lengths)
        .with_min_len(ROWS_PER_TASK)
        .for_each(|((gradient, unit), &length)| {
            // A length that was clamped does not change with the row.
            let along = if length <= LEAST_SQUARE.sqrt() {
                0.0
            } else {
                dot(unit, gradient)
            };
            for (gradient, unit) in gradient.iter_mut().zip(unit) {
                *gradient = (*gradient - unit * along) / length;
            }
        });
}

fn dot(left: &[f32], right: &[f32]) -> f32 {
    arch().dispatch(Dot { left, right })
}

struct Dot<'a> {
    left: &'a [f32],
    right: &'a [f32],
}

impl WithSimd for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        let mut lanes = [0.0; LANES];
        let (left, left_rest) = self.left.as_chunks::<LANES>();
        let (right, right_rest) = self.right.as_chunks::<LANES>();
        for (left, right) in left.iter().zip(right) {
            for ((lane, left), right) in lanes.iter_mut().zip(left).zip(right) {
                *lane += left * right;
            }
        }
        for ((lane, left), right) in lanes.iter_mut().zip(left_rest).zip(right_rest) {
            *lane += left * right;
        }
        lanes.iter().sum()
    }
}

/// The mean over all rows n of `-s[n][n] + log sum exp s[n][m]`, `s = mu * cosines`, with the sum over the columns m of another
/// label. A row whose label every other row has adds nothing. The cosines become the loss's gradient with respect to them.
///
/// # Shapes
///
/// - cosines: `[rows, rows]`, row: old feature, column: new feature
/// - labels: `[rows]`
/// - zeroed: whether `s` of columns of the same label becomes 0 and stays in the sum, in place of being left out
///
/// **Source**: arXiv 2405.02581, the contrastive term of the HOC loss.
pub fn contrastive(cosines: &mut [f32], labels: &[u32], mu: f32, zeroed: bool) -> f32 {
    let rows = labels.len();
    assert_eq!(cosines.len(), rows * rows, "one row and column per label");
    let losses: Vec<f64> = cosines
        .par_chunks_mut(rows.max(1))
        .enumerate()
        .with_min_len(ROWS_PER_TASK)
        .map(|(at, row)| {
            let is_same = |column: usize| labels[column] == labels[at];
            row.iter_mut().for_each(|value| *value *= mu);
            let positive = row[at];
            let mut counted = 0.0;
            for (column, value) in row.iter_mut().enumerate() {
                // Products and sums rather than assignments: NaN is handed on.
                match (is_same(column), zeroed) {
                    (false, _) => counted = 1.0,
                    (true, true) => *value *= 0.0,
                    (true, false) => *value += LEFT_OUT,
                }
            }
            let log_sum = softmax(row);
            let scale = counted * mu / rows as f32;
            for (column, value) in row.iter_mut().enumerate() {
                *value *= if zeroed && is_same(column) {
                    0.0
                } else {
                    scale
                };
            }
            row[at] -= scale;
            f64::from((log_sum - positive) * counted)
        })
        .collect();
    (losses.iter().sum::<f64>() / rows as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition in double precision.
    fn expected(cosines: &[f64], labels: &[u32], mu: f64, zeroed: bool) -> f64 {
        let rows = labels.len();
        let row_loss = |at: usize| {
            let columns = (0..rows).filter(|&column| zeroed || labels[column] != labels[at]);
            let sum: f64 = columns
                .map(|column| {
                    if labels[column] == labels[at] {
                        1.0
                    } else {
                        (mu * cosines[at * rows + column]).exp()
                    }
                })
                .sum();
            if labels.iter().all(|label| *label == labels[at]) {
                0.0
            } else {
                sum.ln() - mu * cosines[at * rows + at]
            }
        };
        (0..rows).map(row_loss).sum::<f64>() / rows as f64
    }

    proptest! {
        #[test]
        fn loss_and_gradient_are_those_of_the_definition(
            (labels, cosines) in prop::collection::vec(0u32..4, 1..9).prop_flat_map(|labels| {
                let count = labels.len() * labels.len();
                (Just(labels), prop::collection::vec(-1.0f32..1.0, count))
            }),
            mu in 0.5f32..20.0,
            zeroed in any::<bool>(),
        ) {
            let exact: Vec<f64> = cosines.iter().map(|&value| f64::from(value)).collect();
            let loss = |cosines: &[f64]| expected(cosines, &labels, f64::from(mu), zeroed);
            let mut gradient = cosines.clone();
            let found = contrastive(&mut gradient, &labels, mu, zeroed);
            prop_assert!((f64::from(found) - loss(&exact)).abs() <= 1e-5 * (1.0 + loss(&exact).abs()));
            for at in 0..exact.len() {
                let moved = |by: f64| {
                    let mut moved = exact.clone();
                    moved[at] += by;
                    loss(&moved)
                };
                let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                prop_assert!((f64::from(gradient[at]) - slope).abs() <= 1e-4 * (1.0 + slope.abs()));
            }
        }

        #[test]
        fn gradient_of_unit_rows_is_that_of_finite_differences(
            row in prop::collection::vec(-2.0f32..2.0, 1..70),
            seed in any::<u32>(),
        ) {
            prop_assume!(row.iter().any(|value| value.abs() > 0.1));
            let weights: Vec<f32> = (0..row.len() as u32)
                .map(|at| (seed.wrapping_mul(at * 2 + 1) % 17) as f32 / 8.0 - 1.0)
                .collect();
            let value = |row: &[f64]| {
                let length = row.iter().map(|value| value * value).sum::<f64>().sqrt();
                row.iter().zip(&weights).map(|(value, weight)| value / length * f64::from(*weight)).sum::<f64>()
            };
            let (unit, lengths) = unit_rows(&row, row.len());
            let mut gradient = weights.clone();
            unit_rows_backward(&unit, &lengths, &mut gradient);
            let exact: Vec<f64> = row.iter().map(|&value| f64::from(value)).collect();
            for at in 0..row.len() {
                let moved = |by: f64| {
                    let mut moved = exact.clone();
                    moved[at] += by;
                    value(&moved)
                };
                let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                prop_assert!((f64::from(gradient[at]) - slope).abs() <= 1e-4 * (1.0 + slope.abs()));
            }
        }
    }

    #[test]
    fn a_row_of_zeros_stays_finite() {
        let (unit, lengths) = unit_rows(&[0.0; 4], 2);
        assert_eq!(unit, [0.0; 4]);
        let mut gradient = [1.0, -1.0, 0.0, 2.0];
        unit_rows_backward(&unit, &lengths, &mut gradient);
        assert!(gradient.iter().all(|value| value.is_finite()));
    }

    #[test]
    fn nan_is_handed_on() {
        let (unit, lengths) = unit_rows(&[1.0, f32::NAN, 1.0, 0.0], 2);
        assert!(unit[0].is_nan() && unit[1].is_nan() && lengths[0].is_nan());
        assert_eq!(unit[2..], [1.0, 0.0]);
        for zeroed in [false, true] {
            for at in 0..4 {
                let mut cosines = [0.5; 4];
                cosines[at] = f32::NAN;
                let loss = contrastive(&mut cosines, &[1, 2], 10.0, zeroed);
                assert!(loss.is_nan());
                assert!(
                    cosines[at / 2 * 2..at / 2 * 2 + 2]
                        .iter()
                        .any(|value| value.is_nan())
                );
                let mut cosines = [f32::NAN; 4];
                assert!(contrastive(&mut cosines, &[1, 1], 10.0, zeroed).is_nan());
            }
        }
    }
}

//! The softmax of rows of logits, and the cross-entropy on it with its gradient in the same pass.

use perennial_core::instructions::arch;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::buffers;

/// Rows that one task handles, so that tasks are not shorter than their overhead.
const ROWS_PER_TASK: usize = 16;

/// What [`cross_entropy`] returns.
#[derive(Debug)]
pub struct CrossEntropy {
    /// The mean over all rows.
    pub loss: f32,
    /// Rows whose first largest logit is the target's; a row with NaN is none of them.
    pub correct: usize,
    /// The loss's gradient with respect to the logits, `[rows, classes]`.
    pub gradient: Vec<f32>,
}

/// Mean cross-entropy of rows of logits, `log sum exp logits - logits[target]`. A row with NaN or an infinite largest logit makes
/// the loss and the row's gradient NaN.
///
/// # Shapes
///
/// - logits: `[rows, classes]`, targets: `[rows]`, each below `classes`
pub fn cross_entropy(logits: &[f32], classes: usize, targets: &[usize]) -> CrossEntropy {
    assert_eq!(
        logits.len(),
        targets.len() * classes,
        "one row of logits per target"
    );
    assert!(
        targets.iter().all(|&target| target < classes),
        "every target is one of the classes"
    );
    let rows = targets.len();
    let mut gradient = buffers::buffer(logits.len());
    let found: Vec<(f64, bool)> = gradient
        .par_chunks_mut(classes.max(1))
        .zip(logits.par_chunks(classes.max(1)))
        .zip(targets)
        .with_min_len(ROWS_PER_TASK)
        .map(|((gradient, logits), &target)| {
            gradient.copy_from_slice(logits);
            let log_sum = softmax(gradient);
            gradient[target] -= 1.0;
            gradient.iter_mut().for_each(|value| *value /= rows as f32);
            let loss = f64::from(log_sum) - f64::from(logits[target]);
            (loss, is_first_largest(logits, target))
        })
        .collect();
    CrossEntropy {
        loss: (found.iter().map(|(loss, _)| loss).sum::<f64>() / rows as f64) as f32,
        correct: found.iter().filter(|(_, correct)| *correct).count(),
        gradient,
    }
}

fn is_first_largest(row: &[f32], at: usize) -> bool {
    let (before, after) = (&row[..at], &row[at..]);
    before.iter().all(|value| *value < row[at]) && after.iter().all(|value| *value <= row[at])
}

/// Turns a row of logits into its softmax and returns the logarithm of the sum of the exponentials.
pub(crate) fn softmax(row: &mut [f32]) -> f32 {
    arch().dispatch(Softmax { row })
}

struct Softmax<'a> {
    row: &'a mut [f32],
}

impl WithSimd for Softmax<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        let mut highest = f32::NEG_INFINITY;
        for value in &*self.row {
            // A NaN that is skipped here comes back in the sum.
            highest = if *value > highest { *value } else { highest };
        }
        let mut sum = 0.0_f64;
        for value in self.row.iter_mut() {
            *value = (*value - highest).exp();
            sum += f64::from(*value);
        }
        let scale = (1.0 / sum) as f32;
        for value in self.row.iter_mut() {
            *value *= scale;
        }
        highest + sum.ln() as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition in double precision.
    fn expected(logits: &[f32], classes: usize, targets: &[usize]) -> (f64, Vec<f64>) {
        let rows = targets.len() as f64;
        let mut gradient = Vec::new();
        let mut loss = 0.0;
        for (row, &target) in logits.chunks_exact(classes).zip(targets) {
            let sum: f64 = row.iter().map(|&value| f64::from(value).exp()).sum();
            loss += (sum.ln() - f64::from(row[target])) / rows;
            gradient.extend(row.iter().enumerate().map(|(at, &value)| {
                let hit = if at == target { 1.0 } else { 0.0 };
                (f64::from(value).exp() / sum - hit) / rows
            }));
        }
        (loss, gradient)
    }

    proptest! {
        #[test]
        fn loss_and_gradient_are_those_of_the_definition(
            (classes, rows) in (1usize..40).prop_flat_map(|classes| {
                let row = (prop::collection::vec(-30.0f32..30.0, classes), 0..classes);
                (Just(classes), prop::collection::vec(row, 1..40))
            }),
        ) {
            let (logits, targets): (Vec<Vec<f32>>, Vec<usize>) = rows.into_iter().unzip();
            let logits = logits.concat();
            let found = cross_entropy(&logits, classes, &targets);
            let (loss, gradient) = expected(&logits, classes, &targets);
            prop_assert!((f64::from(found.loss) - loss).abs() <= 1e-5 * (1.0 + loss));
            for (found, expected) in found.gradient.iter().zip(gradient) {
                prop_assert!((f64::from(*found) - expected).abs() <= 1e-6);
            }
        }
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let found = cross_entropy(&[1e30, 0.0, -1e30, -1e30], 2, &[0, 1]);
        assert_eq!(found.loss, 0.0);
        assert_eq!(found.correct, 1);
        assert_eq!(found.gradient, [0.0, 0.0, 0.25, -0.25]);
    }

    #[test]
    fn the_first_of_equal_logits_counts() {
        let rows = [1.0, 2.0, 2.0, 1.0, 2.0, 2.0, 3.0, 0.0, 1.0];
        assert_eq!(cross_entropy(&rows, 3, &[1, 2, 0]).correct, 2);
    }

    #[test]
    fn nan_and_infinity_are_handed_on() {
        for broken in [f32::NAN, f32::INFINITY] {
            for at in 0..3 {
                let mut row = [0.5; 6];
                row[at] = broken;
                let found = cross_entropy(&row, 3, &[1, 0]);
                assert!(found.loss.is_nan());
                assert!(found.gradient[..3].iter().all(|value| value.is_nan()));
                assert!(found.gradient[3..].iter().all(|value| value.is_finite()));
            }
        }
        assert!(
            cross_entropy(&[f32::NEG_INFINITY; 2], 2, &[0])
                .loss
                .is_nan()
        );
        assert_eq!(cross_entropy(&[f32::NAN, 0.0], 2, &[1]).correct, 0);
    }
}

//! Metrics of a compatibility matrix.

use serde::{Deserialize, Serialize};

use crate::{CompatibilityMatrix, TieRule};

/// Every metric of one matrix `M` with `T` models. Fractions; metrics that compare models are `None` (`null`) for `T = 1`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// `T`.
    pub tasks: usize,
    /// AC: the compatible share of the pairs `k < t`.
    pub average_compatibility: Option<f64>,
    /// AA: the mean of the lower triangle, diagonal included.
    pub average_accuracy: f64,
    /// ACA: the sum of the compatible cross-tests over the number of pairs.
    pub average_compatible_accuracy: Option<f64>,
    /// BC: the mean of `M[T-1][k] - M[k][k]` over `k < T-1`: what the last model keeps of every old self-test.
    pub backward_compatibility: Option<f64>,
    /// FC: the mean of `M[t][t-1] - M[t][t]` over `t > 0`: what one skipped re-indexing costs.
    pub forward_compatibility: Option<f64>,
    /// Pairs that are not compatible.
    pub incompatible_pairs_count: usize,
    /// AA of the leading `t x t` block for `t = 1..=T`.
    pub average_accuracy_per_task: Vec<f64>,
    /// AC of the leading `t x t` block for `t = 1..=T`; the first is `None`.
    pub average_compatibility_per_task: Vec<Option<f64>>,
}

impl Metrics {
    /// Whether two sets of metrics are equal up to the rounding of different orders of addition.
    pub(crate) fn agree_with(&self, other: &Self) -> bool {
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-9;
        let near_option = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => near(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let pairs = [
            (self.average_compatibility, other.average_compatibility),
            (
                self.average_compatible_accuracy,
                other.average_compatible_accuracy,
            ),
            (self.backward_compatibility, other.backward_compatibility),
            (self.forward_compatibility, other.forward_compatibility),
        ];
        let (accuracy, compatibility) = (
            &self.average_accuracy_per_task,
            &self.average_compatibility_per_task,
        );
        self.tasks == other.tasks
            && self.incompatible_pairs_count == other.incompatible_pairs_count
            && near(self.average_accuracy, other.average_accuracy)
            && pairs.iter().all(|&(a, b)| near_option(a, b))
            && accuracy.len() == other.average_accuracy_per_task.len()
            && accuracy
                .iter()
                .zip(&other.average_accuracy_per_task)
                .all(|(&a, &b)| near(a, b))
            && compatibility.len() == other.average_compatibility_per_task.len()
            && compatibility
                .iter()
                .zip(&other.average_compatibility_per_task)
                .all(|(&a, &b)| near_option(a, b))
    }
}

/// AC, AA and ACA of the rows of a lower triangle, diagonal included, which are added one after the other.
#[derive(Debug, Clone, Default)]
pub struct Averages {
    self_tests: Vec<f64>,
    cells: usize,
    sum: f64,
    pairs: usize,
    compatible: usize,
    compatible_sum: f64,
}

impl Averages {
    /// Of all rows.
    pub fn of<R: AsRef<[f64]>>(rows: &[R], tie_rule: TieRule) -> Self {
        let mut averages = Self::default();
        for row in rows {
            averages.add_row(row.as_ref(), tie_rule);
        }
        averages
    }

    /// Adds the next row: the cross-tests of one more model, and at its end its self-test.
    fn add_row(&mut self, row: &[f64], tie_rule: TieRule) {
        self.cells += row.len();
        self.sum += row.iter().sum::<f64>();
        self.self_tests.extend(row.last());
        for (&cross, &self_old) in row.iter().zip(&self.self_tests).take(row.len().max(1) - 1) {
            self.pairs += 1;
            if tie_rule.is_compatible(cross, self_old) {
                self.compatible += 1;
                self.compatible_sum += cross;
            }
        }
    }

    /// AC: the compatible share of the pairs; none of one model.
    pub fn compatibility(&self) -> Option<f64> {
        self.over_pairs(self.compatible as f64)
    }

    /// AA: the mean of all cells; 0 without any.
    pub fn accuracy(&self) -> f64 {
        self.sum / self.cells.max(1) as f64
    }

    /// ACA: the sum of the compatible cross-tests over the number of pairs; none of one model.
    pub fn compatible_accuracy(&self) -> Option<f64> {
        self.over_pairs(self.compatible_sum)
    }

    fn over_pairs(&self, value: f64) -> Option<f64> {
        (self.pairs > 0).then(|| value / self.pairs as f64)
    }
}

/// Computes every metric of a matrix.
///
/// **Source.** AC, AA: CoReS and CL²R; BC, FC: CL²R; ACA: the extended IAM-CL²R article, by the formula that reproduces its table.
pub fn metrics(matrix: &CompatibilityMatrix, tie_rule: TieRule) -> Metrics {
    let tasks = matrix.tasks();
    let mut averages = Averages::default();
    let self_tests: Vec<f64> = matrix.self_tests().collect();
    let mut accuracy_per_task = Vec::with_capacity(tasks);
    let mut compatibility_per_task = Vec::with_capacity(tasks);
    for row in matrix.rows() {
        averages.add_row(row, tie_rule);
        accuracy_per_task.push(averages.accuracy());
        compatibility_per_task.push(averages.compatibility());
    }
    let rows = matrix.rows();
    let backward = mean((0..tasks - 1).map(|k| rows[tasks - 1][k] - self_tests[k]));
    let forward = mean((1..tasks).map(|t| rows[t][t - 1] - self_tests[t]));
    Metrics {
        tasks,
        average_compatibility: averages.compatibility(),
        average_accuracy: averages.accuracy(),
        average_compatible_accuracy: averages.compatible_accuracy(),
        backward_compatibility: backward,
        forward_compatibility: forward,
        incompatible_pairs_count: averages.pairs - averages.compatible,
        average_accuracy_per_task: accuracy_per_task,
        average_compatibility_per_task: compatibility_per_task,
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let count = values.len();
    (count > 0).then(|| values.sum::<f64>() / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_model_has_no_pairs() {
        let matrix = CompatibilityMatrix::new(vec![vec![0.4]]).unwrap();
        let found = metrics(&matrix, TieRule::Strict);
        assert_eq!(
            serde_json::to_string(&found).unwrap(),
            "{\"tasks\":1,\"average_compatibility\":null,\"average_accuracy\":0.4,\"average_compatible_accuracy\":null,\
             \"backward_compatibility\":null,\"forward_compatibility\":null,\"incompatible_pairs_count\":0,\
             \"average_accuracy_per_task\":[0.4],\"average_compatibility_per_task\":[null]}"
        );
    }

    #[test]
    fn the_rule_decides_ties() {
        let matrix = CompatibilityMatrix::new(vec![vec![0.6], vec![0.6, 0.7]]).unwrap();
        let strict = metrics(&matrix, TieRule::Strict);
        assert_eq!(
            (
                strict.average_compatibility,
                strict.incompatible_pairs_count
            ),
            (Some(0.0), 1)
        );
        let ties = metrics(&matrix, TieRule::TiesCount);
        assert_eq!(
            (
                ties.average_compatible_accuracy,
                ties.incompatible_pairs_count
            ),
            (Some(0.6), 0)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn per_task_values_are_those_of_the_leading_blocks(cells in prop::collection::vec(0.0..=1.0f64, 21)) {
            let mut cells = cells.into_iter();
            let rows: Vec<Vec<f64>> = (1..=6).map(|row| cells.by_ref().take(row).collect()).collect();
            let whole = metrics(&CompatibilityMatrix::new(rows.clone()).unwrap(), TieRule::Strict);
            for t in 1..=6 {
                let block = metrics(&CompatibilityMatrix::new(rows[..t].to_vec()).unwrap(), TieRule::Strict);
                prop_assert_eq!(block.average_accuracy, whole.average_accuracy_per_task[t - 1]);
                prop_assert_eq!(block.average_compatibility, whole.average_compatibility_per_task[t - 1]);
            }
            prop_assert!(whole.agree_with(&whole));
        }
    }
}

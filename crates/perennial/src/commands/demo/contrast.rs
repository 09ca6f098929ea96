//! What a replacement did to the galleries stored before it, in three numbers.

use std::collections::BTreeSet;

use perennial_eval::CompatibilityMatrix;
use serde::Serialize;

/// A gallery is broken when queries find at most this many times what guessing finds.
const BROKEN_AT_CHANCE_TIMES: f64 = 2.0;
/// A gallery is kept when queries find at least this share of what its own model found.
const KEPT_SHARE: f64 = 0.8;

/// Accuracies around a replacement, fractions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Crossing {
    /// The earlier models on their own galleries, on average.
    pub before: f64,
    /// The models since the replacement on those galleries, on average.
    pub across: f64,
    /// The models since the replacement on galleries of their own, on average.
    pub after: f64,
    /// Guessing.
    pub chance: f64,
}

impl Crossing {
    /// `replaced` is the first model (0-based) that descends from the replacement.
    pub fn of(matrix: &CompatibilityMatrix, replaced: usize, gallery_labels: &[u32]) -> Self {
        let rows = matrix.rows();
        let self_test = |model: usize| rows[model][model];
        let crossing = rows[replaced..]
            .iter()
            .flat_map(|row| &row[..replaced])
            .copied();
        let classes = gallery_labels.iter().collect::<BTreeSet<_>>().len();
        Self {
            before: mean((0..replaced).map(self_test)),
            across: mean(crossing),
            after: mean((replaced..rows.len()).map(self_test)),
            chance: 1.0 / classes.max(1) as f64,
        }
    }

    /// Whether the replacement made the old galleries useless.
    pub fn is_broken(&self) -> bool {
        self.across <= BROKEN_AT_CHANCE_TIMES * self.chance
    }

    /// Whether the old galleries stayed in use.
    pub fn is_kept(&self) -> bool {
        self.across >= KEPT_SHARE * self.before && !self.is_broken()
    }

    /// The numbers in words.
    pub fn describe(&self) -> String {
        let verdict = if self.is_broken() {
            "no better than guessing: the gallery is lost, all of it must be embedded again"
        } else if self.across > self.before {
            "more than before the replacement: the gallery profits from the better model"
        } else if self.is_kept() {
            "close to what it was: the gallery stays in use"
        } else {
            "clearly less than before"
        };
        format!(
            "Galleries stored before the replacement: their own models found {:.1} %, the models since then find {:.1} %,\n\
             {verdict}. On a gallery of their own the new models find {:.1} %.",
            100.0 * self.before,
            100.0 * self.across,
            100.0 * self.after
        )
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crossing(across: f64) -> Crossing {
        let rows = vec![
            vec![0.4],
            vec![0.4, 0.5],
            vec![across, across, 0.7],
            vec![across, across, 0.7, 0.8],
        ];
        let labels = [3, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        Crossing::of(&CompatibilityMatrix::new(rows).unwrap(), 2, &labels)
    }

    #[test]
    fn means_are_taken_on_the_right_sides() {
        let found = crossing(0.1);
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        close(found.before, 0.45);
        close(found.across, 0.1);
        close(found.after, 0.75);
        close(found.chance, 0.1);
    }

    #[test]
    fn verdicts_follow_the_numbers() {
        assert!(crossing(0.12).is_broken() && !crossing(0.12).is_kept());
        assert!(!crossing(0.3).is_broken() && !crossing(0.3).is_kept());
        assert!(crossing(0.4).is_kept());
        assert!(crossing(0.3).describe().contains("clearly less"));
        assert!(crossing(0.6).describe().contains("profits"));
    }
}

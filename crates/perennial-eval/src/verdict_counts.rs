//! How many pairs of a report are decided by the intervals of their margins.

use serde::Serialize;

use crate::{PairComparison, Verdict};

/// How many pairs are decided, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct VerdictCounts {
    /// Compatible pairs.
    pub compatible: usize,
    /// Pairs that the queries do not decide.
    pub undecided: usize,
    /// Incompatible pairs.
    pub incompatible: usize,
}

impl VerdictCounts {
    /// Counts the pairs of a report.
    pub fn of(pairs: &[PairComparison]) -> Self {
        let mut counts = Self::default();
        for pair in pairs {
            match pair.verdict {
                Verdict::Compatible => counts.compatible += 1,
                Verdict::Undecided => counts.undecided += 1,
                Verdict::Incompatible => counts.incompatible += 1,
            }
        }
        counts
    }

    /// All pairs.
    pub fn pairs(&self) -> usize {
        self.compatible + self.undecided + self.incompatible
    }

    /// The counts as a sentence without its full stop. Undecided pairs never count as compatible.
    pub fn sentence(&self) -> String {
        let pairs = self.pairs();
        match *self {
            _ if pairs == 0 => "One model version, no pairs to compare".to_owned(),
            Self { compatible: 1, .. } if pairs == 1 => "The new version is compatible".to_owned(),
            Self {
                incompatible: 1, ..
            } if pairs == 1 => "The new version is incompatible".to_owned(),
            _ if pairs == 1 => "It is undecided whether the new version is compatible".to_owned(),
            Self { compatible, .. } if compatible == pairs => {
                format!("All {pairs} version pairs are compatible")
            }
            Self { incompatible, .. } if incompatible == pairs => {
                format!("All {pairs} version pairs are incompatible")
            }
            Self { undecided, .. } if undecided == pairs => {
                format!("All {pairs} version pairs are undecided")
            }
            _ => {
                let counted = [
                    (self.compatible, "compatible"),
                    (self.undecided, "undecided"),
                    (self.incompatible, "incompatible"),
                ];
                let parts: Vec<String> = counted
                    .iter()
                    .filter(|(count, _)| *count > 0)
                    .map(|(count, word)| {
                        format!("{count} {} {word}", if *count == 1 { "is" } else { "are" })
                    })
                    .collect();
                let (last, first) = parts
                    .split_last()
                    .map_or(("", &[][..]), |(last, first)| (last.as_str(), first));
                format!("Of {pairs} version pairs, {} and {last}", first.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_never_counts_undecided_pairs_as_compatible() {
        let sentence = |compatible, undecided, incompatible| {
            VerdictCounts {
                compatible,
                undecided,
                incompatible,
            }
            .sentence()
        };
        for (counts, expected) in [
            ((0, 0, 0), "One model version, no pairs to compare"),
            ((1, 0, 0), "The new version is compatible"),
            (
                (0, 1, 0),
                "It is undecided whether the new version is compatible",
            ),
            ((0, 0, 1), "The new version is incompatible"),
            ((3, 0, 0), "All 3 version pairs are compatible"),
            ((0, 3, 0), "All 3 version pairs are undecided"),
            ((0, 0, 3), "All 3 version pairs are incompatible"),
            (
                (1, 5, 15),
                "Of 21 version pairs, 1 is compatible, 5 are undecided and 15 are incompatible",
            ),
            (
                (2, 1, 0),
                "Of 3 version pairs, 2 are compatible and 1 is undecided",
            ),
        ] {
            assert_eq!(sentence(counts.0, counts.1, counts.2), expected);
        }
    }
}

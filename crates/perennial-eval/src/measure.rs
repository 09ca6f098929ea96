//! The measures by which a retrieval test is judged, with their names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::outcomes::Outcomes;

/// What counts as a good answer. As text: `ncm`, `recall@1`, `mrr`, `mrr@10`, `map`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Measure {
    /// 1 where the nearest class mean has the query's class, otherwise 0.
    NearestClassMean,
    /// 1 where a relevant item is among the first this many, otherwise 0. Also called CMC and hit rate.
    RecallAt(u32),
    /// One divided by the rank of the first relevant item; 0 where that is beyond the cutoff, if there is one.
    MeanReciprocalRank(Option<u32>),
    /// Mean, over the relevant items, of the precision at their ranks.
    MeanAveragePrecision,
}

/// A text that names no measure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no measure; known are ncm, recall@K, mrr, mrr@K and map, with K from 1 to {}",
    u32::MAX
)]
pub struct MeasureError {
    /// What was given.
    pub text: String,
}

impl Measure {
    /// Whether a query's score is either 0 or 1.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::NearestClassMean | Self::RecallAt(_))
    }

    /// Whether it looks at single items. Class means say nothing about whether single items are found.
    pub fn looks_at_items(self) -> bool {
        self != Self::NearestClassMean
    }

    /// The score of every query; nothing where the test has none of this kind.
    ///
    /// **Shapes.** `[n]`, fractions.
    pub fn scores(self, outcomes: &Outcomes) -> Option<Vec<f32>> {
        let of_rank = |score: &dyn Fn(u32) -> f32| -> Vec<f32> {
            let ranks = outcomes.first_match.iter();
            ranks
                .map(|&rank| if rank == 0 { 0.0 } else { score(rank) })
                .collect()
        };
        match self {
            Self::NearestClassMean => outcomes.nearest_class_correct.as_ref().map(|correct| {
                let one = |&right: &bool| if right { 1.0 } else { 0.0 };
                correct.iter().map(one).collect()
            }),
            Self::RecallAt(k) => Some(of_rank(&|rank| if rank <= k { 1.0 } else { 0.0 })),
            Self::MeanReciprocalRank(cutoff) => Some(of_rank(&|rank| {
                if cutoff.is_none_or(|most| rank <= most) {
                    (1.0 / f64::from(rank)) as f32
                } else {
                    0.0
                }
            })),
            Self::MeanAveragePrecision => Some(outcomes.average_precision.clone()),
        }
    }

    /// The mean over all queries, a fraction; nothing where the test has no scores of this kind or no queries.
    pub fn mean(self, outcomes: &Outcomes) -> Option<f64> {
        mean(&self.scores(outcomes)?)
    }
}

/// The mean in double precision; nothing of no values.
pub(crate) fn mean(scores: &[f32]) -> Option<f64> {
    if scores.is_empty() {
        return None;
    }
    Some(scores.iter().copied().map(f64::from).sum::<f64>() / scores.len() as f64)
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NearestClassMean => f.write_str("ncm"),
            Self::RecallAt(k) => write!(f, "recall@{k}"),
            Self::MeanReciprocalRank(None) => f.write_str("mrr"),
            Self::MeanReciprocalRank(Some(k)) => write!(f, "mrr@{k}"),
            Self::MeanAveragePrecision => f.write_str("map"),
        }
    }
}

impl FromStr for Measure {
    type Err = MeasureError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || MeasureError {
            text: text.chars().take(60).collect(),
        };
        let (name, cutoff) = match text.split_once('@') {
            None => (text, None),
            Some((name, digits)) => {
                // Parsing alone would take a leading plus sign.
                let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
                let cutoff = digits.parse().ok().filter(|&k: &u32| plain && k > 0);
                (name, Some(cutoff.ok_or_else(unknown)?))
            }
        };
        match (name.to_ascii_lowercase().as_str(), cutoff) {
            ("ncm", None) => Ok(Self::NearestClassMean),
            ("recall", Some(k)) => Ok(Self::RecallAt(k)),
            ("mrr", cutoff) => Ok(Self::MeanReciprocalRank(cutoff)),
            ("map", None) => Ok(Self::MeanAveragePrecision),
            _ => Err(unknown()),
        }
    }
}

impl TryFrom<String> for Measure {
    type Error = MeasureError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Measure> for String {
    fn from(measure: Measure) -> Self {
        measure.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outcomes() -> Outcomes {
        Outcomes {
            nearest_class_correct: Some(vec![true, false, false, true]),
            first_match: vec![1, 4, 0, 20],
            average_precision: vec![0.5, 0.25, 0.0, 0.05],
            queries_without_relevant: 1,
        }
    }

    #[test]
    fn scores_are_those_of_the_definitions() {
        let scores = |text: &str| {
            text.parse::<Measure>()
                .unwrap()
                .scores(&outcomes())
                .unwrap()
        };
        assert_eq!(scores("ncm"), [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(scores("recall@1"), [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(scores("recall@20"), [1.0, 1.0, 0.0, 1.0]);
        assert_eq!(scores("mrr"), [1.0, 0.25, 0.0, 0.05]);
        assert_eq!(scores("MRR@10"), [1.0, 0.25, 0.0, 0.0]);
        assert_eq!(scores("map"), [0.5, 0.25, 0.0, 0.05]);
        assert_eq!(
            Measure::MeanAveragePrecision
                .mean(&outcomes())
                .map(|mean| mean as f32),
            Some(0.2)
        );
    }

    #[test]
    fn what_was_not_measured_has_no_score() {
        let items = Outcomes {
            nearest_class_correct: None,
            ..outcomes()
        };
        assert_eq!(Measure::NearestClassMean.scores(&items), None);
        assert_eq!(Measure::NearestClassMean.mean(&items), None);
        assert_eq!(Measure::RecallAt(1).mean(&Outcomes::default()), None);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "ncm@1",
            "recall",
            "recall@",
            "recall@0",
            "recall@+1",
            "recall@-1",
            "map@10",
            "mrr@",
            "recall@4294967296",
            "recall@1@2",
        ] {
            let error = text.parse::<Measure>().unwrap_err();
            assert_eq!(error.text, text);
        }
        assert!(
            "recall@0"
                .parse::<Measure>()
                .unwrap_err()
                .to_string()
                .contains("recall@K")
        );
    }

    proptest! {
        #[test]
        fn text_is_read_back(k in 1u32.., kind in 0..5) {
            let measure = match kind {
                0 => Measure::NearestClassMean,
                1 => Measure::RecallAt(k),
                2 => Measure::MeanReciprocalRank(None),
                3 => Measure::MeanReciprocalRank(Some(k)),
                _ => Measure::MeanAveragePrecision,
            };
            prop_assert_eq!(measure.to_string().parse::<Measure>(), Ok(measure));
            let json = serde_json::to_string(&measure).unwrap();
            prop_assert_eq!(serde_json::from_str::<Measure>(&json).unwrap(), measure);
        }

        #[test]
        fn no_text_panics(text in ".{0,20}") {
            let _ = text.parse::<Measure>();
        }
    }
}

//! Two results of the same queries, compared with all the evidence: margin, intervals, flips, tests.

use serde::{Deserialize, Serialize};

use crate::measure::mean;
use crate::{
    Bootstrap, BootstrapError, ConfidenceInterval, Interval, McNemar, Measure, Verdict, decide,
};

/// A new result against an old one, on the same queries. Fractions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairedComparison {
    /// What was measured.
    pub measure: Measure,
    /// Number of queries.
    pub queries: u64,
    /// Mean score of the new result.
    pub new: f64,
    /// Mean score of the old result.
    pub old: f64,
    /// `new - old`.
    pub margin: f64,
    /// Paired-bootstrap intervals of the margin at [`Bootstrap::CONFIDENCES`].
    pub intervals: Vec<ConfidenceInterval>,
    /// Share of the queries whose score rose; of a binary measure, those that only the new result has right.
    pub positive_flips: f64,
    /// Share of the queries whose score fell; of a binary measure, those that only the old result has right.
    pub negative_flips: f64,
    /// The exact test of the flips; of binary measures only.
    pub mcnemar: Option<McNemar>,
    /// Small where the new result is not worse. Binary measures: [`McNemar::exact_one_sided_not_worse`]. Others: the share of resamples
    /// in which the new result is not better.
    pub p_not_worse: f64,
}

/// Why two results cannot be compared.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ScoresError {
    /// A score is no fraction.
    #[error("{side} score of query {query} is {score}; {measure} lies between 0 and 1")]
    NoFraction {
        /// What was measured.
        measure: Measure,
        /// `new` or `old`.
        side: &'static str,
        /// The query, counted from 0.
        query: usize,
        /// Its score.
        score: f32,
    },
    /// A measure that is right or wrong has something between.
    #[error("{side} score of query {query} is {score}; {measure} is either 0 or 1")]
    NotBinary {
        /// What was measured.
        measure: Measure,
        /// `new` or `old`.
        side: &'static str,
        /// The query, counted from 0.
        query: usize,
        /// Its score.
        score: f32,
    },
    /// There is nothing to resample.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
}

impl PairedComparison {
    /// The 95 % interval of the margin.
    pub fn interval(&self) -> Interval {
        let usual = self.intervals.iter().find(|one| one.confidence == 0.95);
        // A file may have come without it; then nothing is settled.
        usual.map_or(
            Interval {
                low: -1.0,
                high: 1.0,
            },
            |one| one.bounds,
        )
    }

    /// The verdict of the 95 % interval, as [`decide`] gives it. `least` is the smallest margin that counts as compatible.
    pub fn verdict(&self, least: f64) -> Verdict {
        decide(self.interval(), least, 0.95, self.mcnemar.as_ref())
    }

    /// About how many queries of the same kind would settle on which side of `least` the margin lies, if it stays what it is: the width
    /// of the 95 % interval falls with the square root of their number. Nothing where the margin is `least` itself.
    pub fn queries_to_decide(&self, least: f64) -> Option<u64> {
        let distance = (self.margin - least).abs();
        let Interval { low, high } = self.interval();
        let half = (high - low) / 2.0;
        let needed = (self.queries as f64 * (half / distance).powi(2)).ceil();
        // The conversion saturates.
        (distance > 0.0 && needed.is_finite()).then_some(needed as u64)
    }
}

/// Compares the scores of two results, query by query. `stream` separates the draws of comparisons that share a seed.
///
/// **Shapes.** Both `[n]`, in the same order of the queries.
///
/// **Source.** Paired percentile bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap, section 13.3.
///
/// # Errors
/// [`ScoresError`] where the results are not about the same queries, there are none, or a score is not what the measure gives.
pub fn compare_scores(
    measure: Measure,
    new: &[f32],
    old: &[f32],
    bootstrap: &Bootstrap,
    stream: u64,
) -> Result<PairedComparison, ScoresError> {
    if new.len() != old.len() {
        return Err(ScoresError::Bootstrap(BootstrapError::Unpaired {
            cross: new.len(),
            self_old: old.len(),
        }));
    }
    check_scores(measure, "new", new)?;
    check_scores(measure, "old", old)?;
    let (Some(mean_new), Some(mean_old)) = (mean(new), mean(old)) else {
        return Err(ScoresError::Bootstrap(BootstrapError::NoQueries));
    };
    let pairs = || new.iter().zip(old);
    let rose = pairs().filter(|(new, old)| new > old).count() as u64;
    let fell = pairs().filter(|(new, old)| new < old).count() as u64;
    let queries = new.len() as f64;

    let (intervals, mcnemar, p_not_worse, margin);
    if measure.is_binary() {
        let right =
            |scores: &[f32]| -> Vec<bool> { scores.iter().map(|&one| one == 1.0).collect() };
        let test = McNemar::new(rose, fell);
        intervals = bootstrap.intervals(&right(new), &right(old), stream)?;
        margin = (rose as f64 - fell as f64) / queries;
        (mcnemar, p_not_worse) = (Some(test), test.exact_one_sided_not_worse);
    } else {
        let differences: Vec<f64> = pairs()
            .map(|(&new, &old)| f64::from(new) - f64::from(old))
            .collect();
        (intervals, p_not_worse) = bootstrap.graded_intervals(&differences, stream)?;
        margin = differences.iter().sum::<f64>() / queries;
        mcnemar = None;
    }
    Ok(PairedComparison {
        measure,
        queries: new.len() as u64,
        new: mean_new,
        old: mean_old,
        margin,
        intervals: intervals.to_vec(),
        positive_flips: rose as f64 / queries,
        negative_flips: fell as f64 / queries,
        mcnemar,
        p_not_worse,
    })
}

fn check_scores(measure: Measure, side: &'static str, scores: &[f32]) -> Result<(), ScoresError> {
    for (query, &score) in scores.iter().enumerate() {
        if !(0.0..=1.0).contains(&score) {
            return Err(ScoresError::NoFraction {
                measure,
                side,
                query,
                score,
            });
        }
        if measure.is_binary() && score != 0.0 && score != 1.0 {
            return Err(ScoresError::NotBinary {
                measure,
                side,
                query,
                score,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_scores_are_compared_by_flips() {
        let scores = |right: std::ops::Range<usize>| -> Vec<f32> {
            (0..200)
                .map(|query| if right.contains(&query) { 1.0 } else { 0.0 })
                .collect()
        };
        let (new, old) = (scores(0..118), scores(20..130));
        let bootstrap = Bootstrap::new(1);
        let found = compare_scores(Measure::RecallAt(1), &new, &old, &bootstrap, 3).unwrap();
        assert_eq!((found.new, found.old, found.margin), (0.59, 0.55, 0.04));
        assert_eq!((found.positive_flips, found.negative_flips), (0.1, 0.06));
        assert_eq!(found.mcnemar, Some(McNemar::new(20, 12)));
        assert_eq!(
            found.p_not_worse,
            McNemar::new(20, 12).exact_one_sided_not_worse
        );
        let right = |scores: &[f32]| -> Vec<bool> { scores.iter().map(|&one| one > 0.0).collect() };
        let expected = bootstrap.intervals(&right(&new), &right(&old), 3).unwrap();
        assert_eq!(found.intervals, expected);
        assert_eq!(found.verdict(0.0), Verdict::Undecided);
        assert_eq!(found.verdict(-0.2), Verdict::Compatible);
        // An interval half as wide needs four times the queries; 0.04 is 1.42 standard deviations here.
        let needed = found.queries_to_decide(0.0).unwrap();
        assert!((330..440).contains(&needed), "{needed}");
        assert_eq!(found.queries_to_decide(found.margin), None);
        let json = serde_json::to_string(&found).unwrap();
        assert_eq!(
            serde_json::from_str::<PairedComparison>(&json).unwrap(),
            found
        );
    }

    #[test]
    fn graded_scores_are_compared_by_their_differences() {
        let old: Vec<f32> = (0..400).map(|query| query as f32 / 1000.0).collect();
        let new: Vec<f32> = old
            .iter()
            .zip(0..)
            .map(|(&score, query)| score + [0.1, -0.05, 0.0][query % 3])
            .map(|score| score.clamp(0.0, 1.0))
            .collect();
        let found = compare_scores(
            Measure::MeanAveragePrecision,
            &new,
            &old,
            &Bootstrap::new(2),
            0,
        )
        .unwrap();
        assert!((found.margin - (found.new - found.old)).abs() < 1e-12);
        assert_eq!(found.mcnemar, None);
        assert_eq!(found.positive_flips, 134.0 / 400.0);
        assert!(found.p_not_worse < 0.001 && found.verdict(0.0) == Verdict::Compatible);
        let Interval { low, high } = found.interval();
        assert!(low < found.margin && found.margin < high);
        let back = compare_scores(
            Measure::MeanAveragePrecision,
            &old,
            &new,
            &Bootstrap::new(2),
            0,
        )
        .unwrap();
        let mirrored = back.interval();
        assert!((mirrored.low + high).abs() < 1e-9 && (mirrored.high + low).abs() < 1e-9);
        assert!(back.p_not_worse > 0.99 && back.verdict(0.0) == Verdict::Incompatible);
    }

    #[test]
    fn unusable_scores_are_named() {
        let error = |measure: Measure, new: &[f32], old: &[f32]| {
            compare_scores(measure, new, old, &Bootstrap::new(0), 0)
                .unwrap_err()
                .to_string()
        };
        let recall = Measure::RecallAt(1);
        assert!(error(recall, &[1.0], &[]).contains("found 1 and 0"));
        assert!(error(recall, &[], &[]).contains("no queries"));
        assert_eq!(
            error(recall, &[1.0, 0.5], &[0.0, 1.0]),
            "new score of query 1 is 0.5; recall@1 is either 0 or 1"
        );
        let map = Measure::MeanAveragePrecision;
        assert_eq!(
            error(map, &[0.5], &[1.5]),
            "old score of query 0 is 1.5; map lies between 0 and 1"
        );
        assert!(error(map, &[f32::NAN], &[0.5]).contains("NaN"));
    }
}

//! Every new model against every older one, with the evidence: margins, intervals, verdicts.

use serde::{Deserialize, Serialize};

use crate::{
    Bootstrap, BootstrapError, ConfidenceInterval, Flips, Interval, McNemar, Requirements, Verdict,
    decide,
};

/// A new query model on the gallery of an older model, against that older model on the same gallery. Fractions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairComparison {
    /// The new model, which embedded the queries.
    pub query_version: String,
    /// The older model, which embedded the gallery.
    pub gallery_version: String,
    /// Accuracy of the cross-test, `M[t][k]`.
    pub cross: f64,
    /// Accuracy of the old self-test, `M[k][k]`.
    pub self_old: f64,
    /// `cross - self_old`.
    pub margin: f64,
    /// 95 % paired-bootstrap interval of the margin.
    pub interval: Interval,
    /// The same at all of [`Bootstrap::CONFIDENCES`]; empty in reports of programs before 0.2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intervals: Vec<ConfidenceInterval>,
    /// Bootstrap intervals of `cross` at the same confidences, over the queries of the margin's; empty in reports of programs that did not compute
    /// them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cross_intervals: Vec<ConfidenceInterval>,
    /// Queries whose answer changed; none in reports of programs that did not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flips: Option<Flips>,
    /// Where the 95 % interval lies: at or above 0, below, or on both sides. Undecided where there are too few queries, or where so few of them
    /// changed that chance alone may have done it ([`decide`]).
    pub verdict: Verdict,
    /// Whether other queries of the same kind would be expected to give the same sign.
    pub interval_excludes_zero: bool,
}

/// Why results cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ComparisonError {
    /// The results are not one row per version with one entry for itself and each older version.
    #[error("results of query version {row}: found {actual} galleries, expected {expected}")]
    Shape {
        /// Row, counted from 0.
        row: usize,
        /// Entries found.
        actual: usize,
        /// Entries expected.
        expected: usize,
    },
    /// One comparison failed.
    #[error("query version {query} on the gallery of {gallery}: {source}")]
    Pair {
        /// The new version.
        query: String,
        /// The older version.
        gallery: String,
        /// What the bootstrap says.
        source: BootstrapError,
    },
}

/// Compares all pairs `k < t`, row by row, each with its own bootstrap draws.
///
/// **Shapes.** `versions` `[T]`, oldest first; `correct[t][k]` for `k <= t` holds one entry per query, in one common order.
///
/// # Errors
/// [`ComparisonError`] where `correct` is not a lower triangle or a pair does not cover the same queries.
pub fn compare_pairs<C: AsRef<[bool]>>(
    versions: &[String],
    correct: &[Vec<C>],
    bootstrap: &Bootstrap,
) -> Result<Vec<PairComparison>, ComparisonError> {
    for row in 0..versions.len().max(correct.len()) {
        let actual = correct.get(row).map_or(0, Vec::len);
        let expected = if row < versions.len() { row + 1 } else { 0 };
        if actual != expected {
            return Err(ComparisonError::Shape {
                row,
                actual,
                expected,
            });
        }
    }
    let pairs = (0..versions.len()).flat_map(|t| (0..t).map(move |k| (t, k)));
    (0..)
        .zip(pairs)
        .map(|(stream, (t, k))| {
            let names = [versions[t].as_str(), versions[k].as_str()];
            compare_pair(
                names,
                [correct[t][k].as_ref(), correct[k][k].as_ref()],
                bootstrap,
                stream,
            )
        })
        .collect()
}

/// Compares one pair: is what the query version finds in the other version's gallery less than what that version finds itself?
///
/// `stream` separates the draws of comparisons that share a seed.
///
/// **Shapes.** `[cross, self_old]`, both `[n]`: per query, whether the cross-test and the gallery version's self-test found it.
///
/// # Errors
/// [`ComparisonError::Pair`] where the tests are not about the same queries.
pub fn compare_pair(
    [query, gallery]: [&str; 2],
    [cross, self_old]: [&[bool]; 2],
    bootstrap: &Bootstrap,
    stream: u64,
) -> Result<PairComparison, ComparisonError> {
    let failed = |source| ComparisonError::Pair {
        query: query.to_owned(),
        gallery: gallery.to_owned(),
        source,
    };
    let intervals = bootstrap.intervals(cross, self_old, stream);
    let intervals = intervals.map_err(failed)?;
    // The mean of one test is its difference to nothing.
    let nothing = vec![false; cross.len()];
    let of_cross = bootstrap.intervals(cross, &nothing, stream);
    let of_cross = of_cross.map_err(failed)?;
    let [
        _,
        ConfidenceInterval {
            bounds: interval, ..
        },
        _,
    ] = intervals;
    let flips = Flips::of(cross, self_old);
    let (right_cross, right_old) = (count_true(cross), count_true(self_old));
    let queries = cross.len() as f64;
    Ok(PairComparison {
        query_version: query.to_owned(),
        gallery_version: gallery.to_owned(),
        cross: right_cross as f64 / queries,
        self_old: right_old as f64 / queries,
        margin: (right_cross as f64 - right_old as f64) / queries,
        interval,
        intervals: intervals.to_vec(),
        cross_intervals: of_cross.to_vec(),
        flips: Some(flips),
        verdict: match Requirements::default().lacks_queries(cross.len()) {
            Some(_) => Verdict::Undecided,
            None => {
                let test = McNemar::new(flips.positive, flips.negative);
                decide(interval, 0.0, 0.95, Some(&test))
            }
        },
        interval_excludes_zero: interval.excludes_zero(),
    })
}

pub(crate) fn count_true(values: &[bool]) -> usize {
    values.iter().filter(|&&value| value).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(count: usize) -> Vec<bool> {
        (0..200).map(|query| query < count).collect()
    }

    fn versions(count: usize) -> Vec<String> {
        (1..=count).map(|number| format!("v{number:04}")).collect()
    }

    #[test]
    fn every_pair_gets_its_verdict() {
        let correct = vec![
            vec![right(100)],
            vec![right(100), right(120)],
            vec![right(150), right(118), right(130)],
        ];
        let pairs = compare_pairs(&versions(3), &correct, &Bootstrap::new(1)).unwrap();
        let summary: Vec<_> = pairs
            .iter()
            .map(|pair| {
                (
                    pair.query_version.as_str(),
                    pair.gallery_version.as_str(),
                    pair.verdict,
                    pair.interval_excludes_zero,
                )
            })
            .collect();
        assert_eq!(
            summary,
            [
                ("v0002", "v0001", Verdict::Compatible, false),
                ("v0003", "v0001", Verdict::Compatible, true),
                ("v0003", "v0002", Verdict::Undecided, false),
            ]
        );
        assert_eq!(
            (pairs[1].cross, pairs[1].self_old, pairs[1].margin),
            (0.75, 0.5, 0.25)
        );
        assert!(pairs[1].interval.low < 0.25 && pairs[1].interval.high > 0.25);
        // The cross-test's own intervals, at every confidence and about as wide as the binomial's: 1.96 * sqrt(0.75 * 0.25 / 200).
        let of_cross = &pairs[1].cross_intervals;
        assert!(
            of_cross
                .iter()
                .map(|one| one.confidence)
                .eq(Bootstrap::CONFIDENCES)
        );
        let Interval { low, high } = of_cross[1].bounds;
        assert!(low < 0.75 && high > 0.75, "{low} {high}");
        assert!(((high - low) / 2.0 - 0.06).abs() < 0.01, "{low} {high}");
    }

    #[test]
    fn few_queries_and_few_changes_decide_nothing() {
        let verdict = |queries: usize, gained: usize, lost: usize| {
            // The first ones are gained, the last ones lost.
            let cross: Vec<bool> = (0..queries).map(|at| at < queries - lost).collect();
            let own: Vec<bool> = (0..queries).map(|at| at >= gained).collect();
            let bootstrap = Bootstrap::new(1);
            let pair = compare_pair(["new", "old"], [&cross, &own], &bootstrap, 0).unwrap();
            assert_eq!(
                pair.flips,
                Some(Flips {
                    positive: gained as u64,
                    negative: lost as u64
                })
            );
            (pair.verdict, pair.interval.low)
        };
        // Two queries that both versions get right.
        assert_eq!(verdict(2, 0, 0), (Verdict::Undecided, 0.0));
        assert_eq!(verdict(29, 0, 0).0, Verdict::Undecided);
        assert_eq!(verdict(30, 0, 0).0, Verdict::Compatible);
        assert_eq!(verdict(29, 0, 29).0, Verdict::Undecided);
        // One query of a thousand gained: the interval alone would pass.
        assert_eq!(verdict(1000, 1, 0), (Verdict::Undecided, 0.0));
        assert_eq!(verdict(1000, 6, 0).0, Verdict::Compatible);
    }

    #[test]
    fn a_single_version_has_no_pairs() {
        assert!(
            compare_pairs(&versions(1), &[vec![right(3)]], &Bootstrap::new(1))
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn holes_and_unpaired_queries_are_named() {
        let bootstrap = Bootstrap::new(1);
        let error =
            compare_pairs(&versions(2), &[vec![right(1)], vec![right(1)]], &bootstrap).unwrap_err();
        assert_eq!(
            error,
            ComparisonError::Shape {
                row: 1,
                actual: 1,
                expected: 2
            }
        );
        let extra = compare_pairs(&versions(0), &[vec![right(1)]], &bootstrap).unwrap_err();
        assert_eq!(
            extra,
            ComparisonError::Shape {
                row: 0,
                actual: 1,
                expected: 0
            }
        );
        let error = compare_pairs(
            &versions(2),
            &[vec![vec![true]], vec![vec![true, false], vec![true]]],
            &bootstrap,
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "query version v0002 on the gallery of v0001: a paired comparison needs the same queries on both sides, found 2 and 1"
        );
    }
}

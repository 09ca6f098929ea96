//! Drift along a chain: what is left of a search when several upgrades lie between the query's version and the gallery's.
//!
//! All pairs of versions with the same number of upgrades between them are taken together. They share their queries, so a query is drawn into a
//! resample with its scores on all of these pairs.

use perennial_eval::{Bootstrap, ConfidenceInterval, Measure, Outcomes, Recovery, ScoresError};
use serde::{Deserialize, Serialize};

use crate::measured::MeasureError;

/// Streams of the bootstrap below this belong to single pairs.
const FIRST_STREAM: u64 = 1 << 16;

/// A measure over all pairs with the same number of upgrades between query and gallery version. Means over queries and pairs, fractions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HopDrift {
    /// The measure.
    pub measure: Measure,
    /// Upgrades between the gallery's version and the query's.
    pub hops: usize,
    /// Pairs of versions so far apart.
    pub pairs: usize,
    /// The old self-tests, each the better of raw and centred.
    pub old_self_test: f64,
    /// The cross-tests.
    pub cross_test: f64,
    /// The new self-tests, each the better of raw and centred: everything embedded again.
    pub new_self_test: f64,
    /// The cross-test less the old self-test.
    pub margin: f64,
    /// Paired-bootstrap intervals of the margin.
    pub intervals: Vec<ConfidenceInterval>,
    /// The margin as a share of what embedding everything again gains; none where it gains nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
}

/// A route's cross-tests less those of another route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteDifference {
    /// The other route, in words.
    pub other: String,
    /// By measure and number of upgrades.
    pub hops: Vec<HopDifference>,
}

/// One measure of a [`RouteDifference`] over all pairs with the same number of upgrades between query and gallery version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HopDifference {
    /// The measure.
    pub measure: Measure,
    /// Upgrades between the gallery's version and the query's.
    pub hops: usize,
    /// Mean difference over queries and pairs.
    pub difference: f64,
    /// Its paired-bootstrap intervals.
    pub intervals: Vec<ConfidenceInterval>,
}

/// The self-test of a version by every measure: `[measures][n]`.
pub(super) type SelfScores = Vec<Vec<f32>>;

/// Each query's scores, added up over the pairs with the same number of upgrades in between.
pub(super) struct HopScores {
    measures: Vec<Measure>,
    /// Row `h - 1`: `h` upgrades; `[hops][measures][n]`.
    sums: Vec<Vec<Vec<f64>>>,
    pairs: Vec<usize>,
}

impl HopScores {
    pub(super) fn new(measures: &[Measure], versions: usize, queries: usize) -> Self {
        let hops = versions.saturating_sub(1);
        Self {
            measures: measures.to_vec(),
            sums: vec![vec![vec![0.0; queries]; measures.len()]; hops],
            pairs: vec![0; hops],
        }
    }

    /// Adds the cross-test of a pair, `hops` upgrades apart.
    pub(super) fn add(&mut self, hops: usize, found: &Outcomes) {
        let scores = self
            .measures
            .iter()
            .map(|measure| measure.scores(found).unwrap_or_default());
        let scores: SelfScores = scores.collect();
        self.add_scores(hops, &scores);
    }

    fn add_scores(&mut self, hops: usize, scores: &[Vec<f32>]) {
        self.pairs[hops - 1] += 1;
        for (sums, scores) in self.sums[hops - 1].iter_mut().zip(scores) {
            for (sum, score) in sums.iter_mut().zip(scores) {
                *sum += f64::from(*score);
            }
        }
    }

    /// The self-tests of the older and of the newer version of every pair.
    fn of_selves(measures: &[Measure], selves: &[SelfScores]) -> [Self; 2] {
        let queries = selves.first().and_then(|scores| scores.first());
        let queries = queries.map_or(0, Vec::len);
        let [mut older, mut newer] = [0, 1].map(|_| Self::new(measures, selves.len(), queries));
        for (old, scores) in selves.iter().enumerate() {
            for (new, newer_scores) in selves.iter().enumerate().skip(old + 1) {
                older.add_scores(new - old, scores);
                newer.add_scores(new - old, newer_scores);
            }
        }
        [older, newer]
    }

    /// Each query's mean over the pairs, for every number of upgrades and every measure.
    fn means(&self) -> impl Iterator<Item = Mean> + '_ {
        let rows = self.sums.iter().zip(&self.pairs).zip(1..);
        rows.flat_map(move |((sums, &pairs), hops)| {
            let measures = self.measures.iter().zip(sums).enumerate();
            measures.map(move |(number, (&measure, sums))| Mean {
                measure,
                hops,
                pairs,
                stream: FIRST_STREAM + (hops * self.measures.len() + number) as u64,
                scores: sums.iter().map(|sum| sum / pairs.max(1) as f64).collect(),
            })
        })
    }

    /// The drift of a route whose cross-tests these are.
    pub(super) fn drift(
        &self,
        selves: &[SelfScores],
        bootstrap: &Bootstrap,
    ) -> Result<Vec<HopDrift>, MeasureError> {
        let [older, newer] = Self::of_selves(&self.measures, selves);
        let rows = self.means().zip(older.means()).zip(newer.means());
        rows.map(|((cross, old), new)| {
            let (margin, intervals) = difference(&cross, &old, bootstrap)?;
            let scores = [&cross, &old, &new].map(|mean| mean.scores.as_slice());
            Ok(HopDrift {
                measure: cross.measure,
                hops: cross.hops,
                pairs: cross.pairs,
                old_self_test: old.mean(),
                cross_test: cross.mean(),
                new_self_test: new.mean(),
                margin,
                intervals,
                recovery: Recovery::of(scores, bootstrap, cross.stream)
                    .map_err(ScoresError::from)?,
            })
        })
        .collect()
    }

    /// These cross-tests less those of another route.
    pub(super) fn less(
        &self,
        other: &Self,
        bootstrap: &Bootstrap,
    ) -> Result<Vec<HopDifference>, MeasureError> {
        let rows = self.means().zip(other.means());
        rows.map(|(one, other)| {
            let (difference, intervals) = difference(&one, &other, bootstrap)?;
            Ok(HopDifference {
                measure: one.measure,
                hops: one.hops,
                difference,
                intervals,
            })
        })
        .collect()
    }
}

struct Mean {
    measure: Measure,
    hops: usize,
    pairs: usize,
    stream: u64,
    scores: Vec<f64>,
}

impl Mean {
    fn mean(&self) -> f64 {
        self.scores.iter().sum::<f64>() / self.scores.len().max(1) as f64
    }
}

fn difference(
    one: &Mean,
    other: &Mean,
    bootstrap: &Bootstrap,
) -> Result<(f64, Vec<ConfidenceInterval>), MeasureError> {
    let pairs = one.scores.iter().zip(&other.scores);
    let differences: Vec<f64> = pairs.map(|(one, other)| one - other).collect();
    let found = bootstrap.graded_intervals(&differences, one.stream);
    let (intervals, _) = found.map_err(ScoresError::from)?;
    Ok((one.mean() - other.mean(), intervals.to_vec()))
}

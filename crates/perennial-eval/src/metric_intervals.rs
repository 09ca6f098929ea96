//! Intervals of the metrics of a matrix over the queries: how far AC, AA and ACA of one run depend on which queries were asked.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::bootstrap::{quantile, sorted};
use crate::metrics::Averages;
use crate::{Bootstrap, BootstrapError, Interval, TieRule};

/// The share of resamples that lies in an interval.
const CONFIDENCE: f64 = 0.95;
/// Random words that are drawn at a time.
const WORDS: usize = 1024;
/// Pairs draw from the streams below this.
const STREAM: u64 = u64::MAX;

/// 95 % percentile intervals over the queries. Fractions; those of pairs are `None` for one model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MetricIntervals {
    /// Of AC.
    pub average_compatibility: Option<Interval>,
    /// Of AA.
    pub average_accuracy: Interval,
    /// Of ACA.
    pub average_compatible_accuracy: Option<Interval>,
}

/// AC, AA and ACA of one resample.
type Resampled = (f64, f64, f64);

/// Draws the queries anew, computes the metrics of each resample's matrix, and gives their percentile intervals. A query keeps its results in
/// all tests together. The share of compatible pairs jumps where a margin is near 0, so the interval of AC is wide where margins are thin.
///
/// **Shapes.** `correct[t][k]` for `k <= t`, each `[n]`, in one common order of the queries.
///
/// **Source.** Efron and Tibshirani, An Introduction to the Bootstrap, section 13.3 (percentile interval).
///
/// # Errors
/// [`BootstrapError`] for no queries, no resamples, or tests of different numbers of queries.
pub fn metric_intervals(
    correct: &[Vec<&[bool]>],
    tie_rule: TieRule,
    bootstrap: &Bootstrap,
) -> Result<MetricIntervals, BootstrapError> {
    let queries = correct.first().and_then(|row| row.first());
    let queries = queries.map_or(0, |test| test.len());
    if queries == 0 {
        return Err(BootstrapError::NoQueries);
    }
    if bootstrap.resamples == 0 {
        return Err(BootstrapError::NoResamples);
    }
    let lengths = correct.iter().flatten().map(|test| test.len());
    if let Some(other) = lengths.into_iter().find(|&length| length != queries) {
        return Err(BootstrapError::Unpaired {
            cross: other,
            self_old: queries,
        });
    }
    let resamples: Vec<Resampled> = (0..bootstrap.resamples as u64)
        .into_par_iter()
        .map(|resample| {
            let times = draw(queries, bootstrap.seed, resample);
            resampled(correct, &times, tie_rule)
        })
        .collect();
    let interval = |value: fn(&Resampled) -> f64| {
        let values = sorted(resamples.iter().map(value).collect());
        let outside = (1.0 - CONFIDENCE) / 2.0;
        Interval {
            low: quantile(&values, outside),
            high: quantile(&values, 1.0 - outside),
        }
    };
    let pairs = correct.len() > 1;
    Ok(MetricIntervals {
        average_compatibility: pairs.then(|| interval(|found| found.0)),
        average_accuracy: interval(|found| found.1),
        average_compatible_accuracy: pairs.then(|| interval(|found| found.2)),
    })
}

/// How often each query occurs in a resample, `[queries]`.
fn draw(queries: usize, seed: u64, resample: u64) -> Vec<u32> {
    // Each resample has a stretch of the generator's words of its own, so threads may share them out as they like.
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(STREAM);
    rng.set_word_pos(u128::from(resample) << 36);
    let mut times = vec![0u32; queries];
    let mut words = [0u32; WORDS];
    let mut left = queries;
    while left > 0 {
        let count = left.min(WORDS);
        rng.fill(&mut words[..count]);
        for word in &words[..count] {
            // The high half of the product is uniform but for 1 in 2^32 / n, far below what resamples can show.
            times[((u64::from(*word) * queries as u64) >> 32) as usize] += 1;
        }
        left -= count;
    }
    times
}

fn resampled(correct: &[Vec<&[bool]>], times: &[u32], tie_rule: TieRule) -> Resampled {
    let share = |test: &[bool]| {
        let right = test.iter().zip(times);
        let right: u64 = right
            .map(|(&right, &times)| if right { u64::from(times) } else { 0 })
            .sum();
        right as f64 / times.len() as f64
    };
    let rows: Vec<Vec<f64>> = correct
        .iter()
        .map(|row| row.iter().map(|test| share(test)).collect())
        .collect();
    let averages = Averages::of(&rows, tie_rule);
    (
        averages.compatibility().unwrap_or(0.0),
        averages.accuracy(),
        averages.compatible_accuracy().unwrap_or(0.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tests: &[Vec<Vec<bool>>]) -> MetricIntervals {
        let tests: Vec<Vec<&[bool]>> = tests
            .iter()
            .map(|row| row.iter().map(Vec::as_slice).collect())
            .collect();
        metric_intervals(&tests, TieRule::Strict, &Bootstrap::new(3)).unwrap()
    }

    fn right(count: usize) -> Vec<bool> {
        (0..400).map(|query| query < count).collect()
    }

    #[test]
    fn a_clear_margin_leaves_no_doubt_and_a_thin_one_all_of_it() {
        // A gain of 100 of 400 queries, and none lost.
        let clear = of(&[vec![right(200)], vec![right(300), right(320)]]);
        let compatibility = clear.average_compatibility.unwrap();
        assert_eq!((compatibility.low, compatibility.high), (1.0, 1.0));
        let accuracy = clear.average_accuracy;
        let mean = (200.0 + 300.0 + 320.0) / 1200.0;
        assert!(accuracy.low < mean && mean < accuracy.high);
        assert!(accuracy.high - accuracy.low < 0.1, "{accuracy:?}");
        let compatible = clear.average_compatible_accuracy.unwrap();
        assert!(compatible.low < 0.75 && 0.75 < compatible.high);

        let mut thin = right(200);
        thin[0] = false;
        thin[399] = true;
        let thin = of(&[vec![right(200)], vec![thin, right(320)]]);
        let compatibility = thin.average_compatibility.unwrap();
        assert_eq!((compatibility.low, compatibility.high), (0.0, 1.0));
    }

    #[test]
    fn the_interval_of_a_share_is_the_binomial_one() {
        let found = of(&[vec![right(100)]]).average_accuracy;
        // 1.96 standard errors of a quarter of 400.
        let half = 1.96 * (0.25f64 * 0.75 / 400.0).sqrt();
        assert!((found.low - (0.25 - half)).abs() < 0.006, "{found:?}");
        assert!((found.high - (0.25 + half)).abs() < 0.006, "{found:?}");
    }

    #[test]
    fn one_model_has_no_pairs_and_nothing_has_no_intervals() {
        let found = of(&[vec![right(100)]]);
        assert_eq!(found.average_compatibility, None);
        assert_eq!(found.average_compatible_accuracy, None);
        let ask = |tests: &[Vec<&[bool]>], resamples| {
            let bootstrap = Bootstrap { resamples, seed: 0 };
            metric_intervals(tests, TieRule::Strict, &bootstrap).unwrap_err()
        };
        assert_eq!(ask(&[], 10), BootstrapError::NoQueries);
        let (four, three) = ([true; 4], [true; 3]);
        assert_eq!(ask(&[vec![&four]], 0), BootstrapError::NoResamples);
        assert!(matches!(
            ask(&[vec![&four], vec![&four, &three]], 10),
            BootstrapError::Unpaired { cross: 3, .. }
        ));
    }
}

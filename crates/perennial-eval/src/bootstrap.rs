//! Paired bootstrap: how far does a difference of two accuracies depend on which queries happened to be asked?

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{ConfidenceInterval, Interval};

/// Random words that are drawn at a time.
const WORDS: usize = 1024;
/// Sums under way at once in a resample.
const SUMS: usize = 4;

/// Why there is no interval.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BootstrapError {
    /// The two results are not about the same queries.
    #[error(
        "a paired comparison needs the same queries on both sides, found {cross} and {self_old}"
    )]
    Unpaired {
        /// Queries of the cross-test.
        cross: usize,
        /// Queries of the old self-test.
        self_old: usize,
    },
    /// There are no queries.
    #[error("there are no queries to resample")]
    NoQueries,
    /// No resamples were asked for.
    #[error("the number of bootstrap resamples is 0; 2000 is usual")]
    NoResamples,
    /// More resamples than [`Bootstrap::MAX_RESAMPLES`].
    #[error(
        "resamples {found}: use at most {}; 2000 is usual",
        Bootstrap::MAX_RESAMPLES
    )]
    TooManyResamples {
        /// What was asked for.
        found: usize,
    },
}

/// Settings of the bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Resamples drawn per comparison.
    pub resamples: usize,
    /// Seed; equal seeds give equal intervals.
    pub seed: u64,
}

impl Bootstrap {
    /// Resamples drawn unless told otherwise.
    pub const DEFAULT_RESAMPLES: usize = 2000;

    /// The most resamples that [`limited`](Self::limited) takes; their means are held in memory, and their scatter is far below that of any queries.
    pub const MAX_RESAMPLES: usize = 1_000_000;

    /// Settings that were passed from outside.
    ///
    /// # Errors
    /// [`BootstrapError::TooManyResamples`].
    pub fn limited(resamples: usize, seed: u64) -> Result<Self, BootstrapError> {
        if resamples > Self::MAX_RESAMPLES {
            return Err(BootstrapError::TooManyResamples { found: resamples });
        }
        Ok(Self { resamples, seed })
    }

    /// The default number of resamples with this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            resamples: Self::DEFAULT_RESAMPLES,
            seed,
        }
    }

    /// The same with at least the default number of resamples: a handful would make any interval narrow enough to certify.
    #[must_use]
    pub fn to_record(self) -> Self {
        Self {
            resamples: self.resamples.max(Self::DEFAULT_RESAMPLES),
            ..self
        }
    }

    /// Confidences for which a comparison has intervals.
    pub const CONFIDENCES: [f64; 3] = [0.9, 0.95, 0.99];

    /// The percentile intervals at [`CONFIDENCES`](Self::CONFIDENCES) of `mean(cross) - mean(self_old)` over resampled queries. `stream` separates the draws of
    /// comparisons that share a seed.
    ///
    /// A resample draws `n` of the `n` queries with replacement and keeps each query's two results together. Only three kinds
    /// of query matter to the difference: gained (right only in the cross-test), lost (right only in the self-test), unchanged.
    /// How many of each a resample holds is multinomial, so two binomial draws replace `n` draws of queries.
    ///
    /// **Shapes.** Both `[n]`, one entry per query, in the same order.
    ///
    /// **Source.** Efron and Tibshirani, An Introduction to the Bootstrap, section 13.3 (percentile interval).
    ///
    /// # Errors
    /// [`BootstrapError`] for different lengths, no queries or no resamples.
    pub fn intervals(
        &self,
        cross: &[bool],
        self_old: &[bool],
        stream: u64,
    ) -> Result<[ConfidenceInterval; 3], BootstrapError> {
        if cross.len() != self_old.len() {
            return Err(BootstrapError::Unpaired {
                cross: cross.len(),
                self_old: self_old.len(),
            });
        }
        if cross.is_empty() {
            return Err(BootstrapError::NoQueries);
        }
        if self.resamples == 0 {
            return Err(BootstrapError::NoResamples);
        }
        let queries = cross.len() as u64;
        let pairs = || cross.iter().zip(self_old);
        let gained = pairs().filter(|&(&new, &old)| new && !old).count() as u64;
        let lost = pairs().filter(|&(&new, &old)| !new && old).count() as u64;

        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(stream);
        let draw_gained = binomial(queries, gained, queries);
        let margins = (0..self.resamples).map(|_| {
            let more = draw_gained.sample(&mut rng);
            let fewer = binomial(queries - more, lost, queries - gained).sample(&mut rng);
            (more as f64 - fewer as f64) / queries as f64
        });
        Ok(percentiles(&sorted(margins.collect())))
    }

    /// The same for scores that are not only right or wrong, from the differences `cross - self_old` of the queries. Also the share of
    /// resamples, the measured one counted as one of them, in which the mean difference is not above 0.
    ///
    /// **Shapes.** `differences` `[n]`, finite.
    ///
    /// **Source.** As [`intervals`](Self::intervals); the share as in Davison and Hinkley, Bootstrap Methods and their Application,
    /// equation 4.11.
    ///
    /// # Errors
    /// [`BootstrapError`] for no queries or no resamples.
    pub fn graded_intervals(
        &self,
        differences: &[f64],
        stream: u64,
    ) -> Result<([ConfidenceInterval; 3], f64), BootstrapError> {
        if differences.is_empty() {
            return Err(BootstrapError::NoQueries);
        }
        if self.resamples == 0 {
            return Err(BootstrapError::NoResamples);
        }
        let rows: Vec<[f64; 1]> = differences.iter().map(|&one| [one]).collect();
        let queries = differences.len() as f64;
        let sums = self.resampled_sums(&rows, stream);
        let margins = sorted(sums.into_iter().map(|[sum]| sum / queries).collect());
        let not_above = margins.partition_point(|&margin| margin <= 0.0);
        let share = (not_above + 1) as f64 / (margins.len() + 1) as f64;
        Ok((percentiles(&margins), share))
    }

    /// The same for the ratio of two sums over the queries; nothing where the lower sum is not above 0 in some resample, since a ratio to
    /// something that may be 0 has no bounds.
    ///
    /// **Shapes.** `[n]`, finite: each query's part of the upper and of the lower sum.
    ///
    /// # Errors
    /// [`BootstrapError`] for no queries or no resamples.
    pub fn ratio_intervals(
        &self,
        parts: &[[f64; 2]],
        stream: u64,
    ) -> Result<Option<[ConfidenceInterval; 3]>, BootstrapError> {
        if parts.is_empty() {
            return Err(BootstrapError::NoQueries);
        }
        if self.resamples == 0 {
            return Err(BootstrapError::NoResamples);
        }
        let sums = self.resampled_sums(parts, stream);
        let bounded = sums.iter().all(|&[_, lower]| lower > 0.0);
        let ratios = || sums.iter().map(|[upper, lower]| upper / lower).collect();
        Ok(bounded.then(|| percentiles(&sorted(ratios()))))
    }

    /// The sums of each resample of as many rows as there are. Rows of zeros add nothing, so only how many others a resample holds is
    /// drawn, and then which.
    fn resampled_sums<const N: usize>(&self, rows: &[[f64; N]], stream: u64) -> Vec<[f64; N]> {
        let of_zeros = |row: &&[f64; N]| row.iter().all(|&value| value == 0.0);
        let changed: Vec<[f64; N]> = rows.iter().filter(|row| !of_zeros(row)).copied().collect();
        let queries = rows.len() as u64;
        let draw_changed = binomial(queries, changed.len() as u64, queries);
        let resamples = (0..self.resamples as u64).into_par_iter().map(|resample| {
            // Each resample has a stretch of the generator's words of its own, so threads may share them out as they like.
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(stream);
            rng.set_word_pos(u128::from(resample) << 36);
            let mut left = draw_changed.sample(&mut rng) as usize;
            let mut words = [0u32; WORDS];
            // Sums that do not wait for one another.
            let mut sums = [[0.0; N]; SUMS];
            while left > 0 {
                let count = left.min(WORDS);
                rng.fill(&mut words[..count]);
                for words in words[..count].chunks(SUMS) {
                    for (word, sums) in words.iter().zip(&mut sums) {
                        // The high half of the product is uniform but for 1 in 2^32 / n, far below what resamples can show.
                        let at = (u64::from(*word) * changed.len() as u64) >> 32;
                        for (sum, value) in sums.iter_mut().zip(&changed[at as usize]) {
                            *sum += value;
                        }
                    }
                }
                left -= count;
            }
            std::array::from_fn(|column| sums.iter().map(|sums| sums[column]).sum())
        });
        resamples.collect()
    }
}

pub(crate) fn sorted(mut margins: Vec<f64>) -> Vec<f64> {
    margins.sort_unstable_by(f64::total_cmp);
    margins
}

fn percentiles(sorted: &[f64]) -> [ConfidenceInterval; 3] {
    Bootstrap::CONFIDENCES.map(|confidence| {
        let outside = (1.0 - confidence) / 2.0;
        ConfidenceInterval {
            confidence,
            bounds: Interval {
                low: quantile(sorted, outside),
                high: quantile(sorted, 1.0 - outside),
            },
        }
    })
}

/// Successes of `trials` draws from `total` queries of which `hits` count.
fn binomial(trials: u64, hits: u64, total: u64) -> Binomial {
    let probability = if total == 0 {
        0.0
    } else {
        hits as f64 / total as f64
    };
    Binomial::new(trials, probability).expect("a share of a whole is a probability")
}

/// Linear interpolation between the order statistics around `(n - 1) * level`.
pub(crate) fn quantile(sorted: &[f64], level: f64) -> f64 {
    let position = (sorted.len() - 1) as f64 * level;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::RngExt;

    /// The 95 % interval.
    fn interval(
        bootstrap: Bootstrap,
        cross: &[bool],
        self_old: &[bool],
        stream: u64,
    ) -> Result<Interval, BootstrapError> {
        let [_, usual, _] = bootstrap.intervals(cross, self_old, stream)?;
        Ok(usual.bounds)
    }

    /// `n` queries of which `gained` are right only in the cross-test and `lost` only in the self-test.
    fn results(n: usize, gained: usize, lost: usize) -> (Vec<bool>, Vec<bool>) {
        let cross = (0..n)
            .map(|i| i < gained || i >= gained + lost + (n - gained - lost) / 2)
            .collect();
        let self_old = (0..n).map(|i| {
            i >= gained && (i < gained + lost || i >= gained + lost + (n - gained - lost) / 2)
        });
        (cross, self_old.collect())
    }

    #[test]
    fn agrees_with_resampling_the_queries_one_by_one() {
        let (n, gained, lost) = (300, 45, 25);
        let (cross, self_old) = results(n, gained, lost);
        let bootstrap = Bootstrap {
            resamples: 20_000,
            seed: 3,
        };
        let found = interval(bootstrap, &cross, &self_old, 0).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let mut margins: Vec<f64> = (0..4000)
            .map(|_| {
                let sum: i64 = (0..n)
                    .map(|_| {
                        let query = rng.random_range(0..n);
                        i64::from(cross[query]) - i64::from(self_old[query])
                    })
                    .sum();
                sum as f64 / n as f64
            })
            .collect();
        margins.sort_unstable_by(f64::total_cmp);
        // One query is 0.0033; the quantiles of 4000 resamples scatter by less.
        assert!(
            (found.low - quantile(&margins, 0.025)).abs() <= 0.005,
            "{found:?}"
        );
        assert!(
            (found.high - quantile(&margins, 0.975)).abs() <= 0.005,
            "{found:?}"
        );
    }

    #[test]
    fn graded_and_binary_results_agree() {
        let (cross, self_old) = results(2000, 300, 250);
        let differences: Vec<f64> = cross
            .iter()
            .zip(&self_old)
            .map(|(&new, &old)| f64::from(i8::from(new) - i8::from(old)))
            .collect();
        let bootstrap = Bootstrap {
            resamples: 20_000,
            seed: 5,
        };
        let binary = bootstrap.intervals(&cross, &self_old, 0).unwrap();
        let (graded, share) = bootstrap.graded_intervals(&differences, 0).unwrap();
        for (graded, binary) in graded.iter().zip(&binary) {
            // One query is 0.0005.
            assert!(
                (graded.bounds.low - binary.bounds.low).abs() <= 0.001,
                "{graded:?} {binary:?}"
            );
            assert!(
                (graded.bounds.high - binary.bounds.high).abs() <= 0.001,
                "{graded:?} {binary:?}"
            );
        }
        // 50 of 2000 queries are 2.13 standard deviations.
        assert!((share - 0.0175).abs() < 0.004, "{share}");
    }

    #[test]
    fn graded_draws_do_not_depend_on_threads() {
        let differences: Vec<f64> = (0..500).map(|i| f64::from(i % 7) - 3.0).collect();
        let draw = |seed, stream| {
            Bootstrap::new(seed)
                .graded_intervals(&differences, stream)
                .unwrap()
        };
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| draw(1, 0))
        };
        assert_eq!(on(1), on(3));
        assert_ne!(draw(1, 0), draw(2, 0));
        assert_ne!(draw(1, 0), draw(1, 1));
        let (none, share) = Bootstrap::new(0).graded_intervals(&[0.0; 9], 0).unwrap();
        assert_eq!(
            (none[0].bounds.low, none[2].bounds.high, share),
            (0.0, 0.0, 1.0)
        );
        assert_eq!(
            Bootstrap::new(0).graded_intervals(&[], 0).unwrap_err(),
            BootstrapError::NoQueries
        );
    }

    #[test]
    fn seeds_and_streams_decide_the_draws() {
        let (cross, self_old) = results(5000, 300, 280);
        let draw =
            |seed, stream| interval(Bootstrap::new(seed), &cross, &self_old, stream).unwrap();
        assert_eq!(draw(1, 0), draw(1, 0));
        assert_ne!(draw(1, 0), draw(2, 0));
        assert_ne!(draw(1, 0), draw(1, 1));
    }

    #[test]
    fn extremes_have_no_width() {
        let point = |value| Interval {
            low: value,
            high: value,
        };
        let all = vec![true; 50];
        let none = vec![false; 50];
        let bootstrap = Bootstrap::new(0);
        assert_eq!(interval(bootstrap, &all, &none, 0).unwrap(), point(1.0));
        assert_eq!(interval(bootstrap, &none, &all, 0).unwrap(), point(-1.0));
        assert_eq!(interval(bootstrap, &all, &all, 0).unwrap(), point(0.0));
        assert!(!point(0.0).excludes_zero());
        assert!(point(1.0).excludes_zero() && point(-1.0).excludes_zero());
    }

    #[test]
    fn higher_confidence_is_wider() {
        let (cross, self_old) = results(2000, 200, 150);
        let found = Bootstrap::new(1).intervals(&cross, &self_old, 0).unwrap();
        assert_eq!(found.map(|one| one.confidence), Bootstrap::CONFIDENCES);
        for [narrow, wide] in [[found[0], found[1]], [found[1], found[2]]] {
            assert!(wide.bounds.low < narrow.bounds.low && narrow.bounds.high < wide.bounds.high);
        }
    }

    #[test]
    fn unusable_input_is_refused() {
        let bootstrap = Bootstrap::new(0);
        assert_eq!(
            interval(bootstrap, &[true], &[], 0).unwrap_err(),
            BootstrapError::Unpaired {
                cross: 1,
                self_old: 0
            }
        );
        assert_eq!(
            interval(bootstrap, &[], &[], 0).unwrap_err(),
            BootstrapError::NoQueries
        );
        let none = Bootstrap {
            resamples: 0,
            seed: 0,
        };
        assert_eq!(
            interval(none, &[true], &[true], 0).unwrap_err(),
            BootstrapError::NoResamples
        );
        let most = Bootstrap::MAX_RESAMPLES;
        assert_eq!(Bootstrap::limited(most, 3).unwrap().resamples, most);
        let found = most + 1;
        assert_eq!(
            Bootstrap::limited(found, 3).unwrap_err(),
            BootstrapError::TooManyResamples { found }
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn matches_the_normal_approximation(gained in 100usize..900, lost in 100usize..900) {
            let n = 4000;
            let (cross, self_old) = results(n, gained, lost);
            let found = interval(Bootstrap::new(7), &cross, &self_old, 0).unwrap();
            let count = n as f64;
            let margin = (gained as f64 - lost as f64) / count;
            let spread = (((gained + lost) as f64 / count - margin * margin) / count).sqrt();
            prop_assert!((found.low - (margin - 1.96 * spread)).abs() < 0.3 * spread);
            prop_assert!((found.high - (margin + 1.96 * spread)).abs() < 0.3 * spread);
        }
    }
}

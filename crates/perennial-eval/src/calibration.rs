//! From similarities to probabilities, and thresholds for a rate of false accepts.

use serde::{Deserialize, Serialize};

/// Newton steps before giving up; a problem with a solution needs fewer than 20.
const MOST_STEPS: usize = 100;

/// The probability that two items belong together, as a logistic function of their similarity: `1 / (1 + exp(-(slope s + intercept)))`.
///
/// **Source.** Platt, Probabilistic Outputs for Support Vector Machines, 1999, without his change of the targets: maximum likelihood.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LogisticCalibration {
    /// Change of the log-odds per unit of similarity.
    pub slope: f64,
    /// Log-odds at similarity 0.
    pub intercept: f64,
    /// Mean negative log-likelihood of the pairs that it was fitted on, in nats.
    pub log_loss: f64,
}

/// Why similarities cannot be calibrated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrationError {
    /// There is not one mark per similarity.
    #[error("{scores} similarities and {marks} marks; each similarity needs one mark")]
    Lengths {
        /// Similarities.
        scores: usize,
        /// Marks.
        marks: usize,
    },
    /// A similarity is infinite or not a number.
    #[error("similarity {position} is not finite")]
    NonFinite {
        /// Its position.
        position: usize,
    },
    /// There are no matches or no others.
    #[error("{matches} matching and {others} other pairs; both kinds are needed")]
    OneKind {
        /// Pairs that belong together.
        matches: usize,
        /// Pairs that do not.
        others: usize,
    },
    /// A threshold separates both kinds, so the best slope is infinite.
    #[error(
        "one threshold separates matching pairs from the others, so no finite slope is best; give more pairs"
    )]
    Separable,
    /// Newton's method did not settle.
    #[error(
        "the fit did not settle in {MOST_STEPS} steps; the similarities may differ too little from one another"
    )]
    NoSolution,
    /// A rate outside of its range.
    #[error("the false-accept rate is {rate}; it must be at least 0 and below 1")]
    Rate {
        /// The rate.
        rate: f64,
    },
    /// There are no impostors.
    #[error("there are no impostor similarities to set a threshold by")]
    NoImpostors,
}

impl LogisticCalibration {
    /// Fits to pairs of items of which is known whether they belong together, by maximum likelihood (Newton's method, which is iteratively
    /// reweighted least squares here, with shortened steps where a full one would not improve).
    ///
    /// **Shapes.** `scores` and `is_match`: `[pairs]`.
    ///
    /// # Errors
    /// [`CalibrationError`] where the arguments do not fit, one kind is missing, or no finite solution exists.
    pub fn fit<S: Copy + Into<f64>>(
        scores: &[S],
        is_match: &[bool],
    ) -> Result<Self, CalibrationError> {
        if scores.len() != is_match.len() {
            return Err(CalibrationError::Lengths {
                scores: scores.len(),
                marks: is_match.len(),
            });
        }
        let scores = finite(scores)?;
        let of_kind = |kind| {
            let pairs = scores.iter().zip(is_match);
            pairs
                .filter(move |&(_, &mark)| mark == kind)
                .map(|(&score, _)| score)
        };
        let (matches, others) = (of_kind(true).count(), of_kind(false).count());
        if matches == 0 || others == 0 {
            return Err(CalibrationError::OneKind { matches, others });
        }
        let lowest = |kind| of_kind(kind).fold(f64::INFINITY, f64::min);
        let highest = |kind| of_kind(kind).fold(f64::NEG_INFINITY, f64::max);
        if lowest(true) >= highest(false) || lowest(false) >= highest(true) {
            return Err(CalibrationError::Separable);
        }

        // Standardised, so that the steps are well conditioned whatever the scale.
        let count = scores.len() as f64;
        let centre = scores.iter().sum::<f64>() / count;
        let spread = (scores
            .iter()
            .map(|score| (score - centre).powi(2))
            .sum::<f64>()
            / count)
            .sqrt();
        let pairs: Vec<(f64, f64)> = scores
            .iter()
            .zip(is_match)
            .map(|(score, &mark)| ((score - centre) / spread, if mark { 1.0 } else { 0.0 }))
            .collect();
        if pairs.iter().any(|(x, _)| !x.is_finite()) {
            return Err(CalibrationError::NoSolution);
        }
        let [slope, intercept] = newton(&pairs)?;
        let (slope, intercept) = (slope / spread, intercept - slope * centre / spread);
        let fitted = Self {
            slope,
            intercept,
            log_loss: 0.0,
        };
        let losses = scores
            .iter()
            .zip(is_match)
            .map(|(&score, &mark)| loss(fitted.log_odds(score), mark));
        Ok(Self {
            log_loss: losses.sum::<f64>() / count,
            ..fitted
        })
    }

    /// The log-odds of a match. Orders like the probability and does not round to 1.
    pub fn log_odds(&self, score: f64) -> f64 {
        self.slope * score + self.intercept
    }

    /// The probability of a match.
    pub fn probability(&self, score: f64) -> f64 {
        logistic(self.log_odds(score))
    }
}

/// Slope and intercept of the maximum likelihood for `(x, 0 or 1)`.
fn newton(pairs: &[(f64, f64)]) -> Result<[f64; 2], CalibrationError> {
    let count = pairs.len() as f64;
    let mean_loss = |[slope, intercept]: [f64; 2]| {
        let losses = pairs
            .iter()
            .map(|&(x, y)| loss(slope * x + intercept, y > 0.5));
        losses.sum::<f64>() / count
    };
    let mut at = [0.0; 2];
    let mut best = mean_loss(at);
    for _ in 0..MOST_STEPS {
        let (mut gradient, mut curvature) = ([0.0; 2], [0.0; 3]);
        for &(x, y) in pairs {
            let p = logistic(at[0] * x + at[1]);
            let (error, weight) = (p - y, p * (1.0 - p));
            gradient[0] += error * x;
            gradient[1] += error;
            curvature[0] += weight * x * x;
            curvature[1] += weight * x;
            curvature[2] += weight;
        }
        let determinant = curvature[0] * curvature[2] - curvature[1] * curvature[1];
        let step = [
            (curvature[2] * gradient[0] - curvature[1] * gradient[1]) / determinant,
            (curvature[0] * gradient[1] - curvature[1] * gradient[0]) / determinant,
        ];
        if !step.iter().all(|value| value.is_finite()) {
            return Err(CalibrationError::NoSolution);
        }
        let after = |length: f64| [at[0] - length * step[0], at[1] - length * step[1]];
        let mut length = 1.0;
        while mean_loss(after(length)) > best && length > 1e-10 {
            length /= 2.0;
        }
        let size = at[0].hypot(at[1]).max(1.0);
        // Each step squares the error, so after one this small nothing but rounding is left; the likelihood no longer shows it.
        if step[0].hypot(step[1]) <= 1e-6 * size {
            return Ok(after(1.0));
        }
        if length <= 1e-10 {
            // No step improves the likelihood any more: that is the solution, if the gradient agrees.
            let flat = gradient[0].hypot(gradient[1]) <= 1e-9 * count;
            return if flat {
                Ok(at)
            } else {
                Err(CalibrationError::NoSolution)
            };
        }
        at = after(length);
        best = mean_loss(at);
    }
    Err(CalibrationError::NoSolution)
}

fn logistic(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

/// Negative log-likelihood of one pair.
fn loss(log_odds: f64, is_match: bool) -> f64 {
    let against = if is_match { -log_odds } else { log_odds };
    // ln(1 + exp(against)) without overflow.
    against.max(0.0) + (-against.abs()).exp().ln_1p()
}

/// A threshold on similarities, with what it lets through.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// Similarities at or above it are accepted.
    pub threshold: f64,
    /// Impostors accepted.
    pub accepted_impostors: usize,
    /// Their share, a fraction.
    pub false_accept_rate: f64,
}

impl Threshold {
    /// The smallest threshold at which the share of accepted impostors is at most `rate`.
    ///
    /// **Shapes.** `impostors`: `[pairs]`, similarities of pairs that do not belong together.
    ///
    /// # Errors
    /// [`CalibrationError`] where there are no impostors, a similarity is not finite, or the rate is not in `[0, 1)`.
    pub fn for_false_accept_rate<S: Copy + Into<f64>>(
        impostors: &[S],
        rate: f64,
    ) -> Result<Self, CalibrationError> {
        let mut found = Self::for_false_accept_rates(impostors, &[rate])?;
        Ok(found.swap_remove(0))
    }

    /// As [`for_false_accept_rate`](Self::for_false_accept_rate) for several rates, in their order.
    ///
    /// # Errors
    /// The same.
    pub fn for_false_accept_rates<S: Copy + Into<f64>>(
        impostors: &[S],
        rates: &[f64],
    ) -> Result<Vec<Self>, CalibrationError> {
        if let Some(&rate) = rates.iter().find(|rate| !(0.0..1.0).contains(*rate)) {
            return Err(CalibrationError::Rate { rate });
        }
        let mut impostors = finite(impostors)?;
        if impostors.is_empty() {
            return Err(CalibrationError::NoImpostors);
        }
        impostors.sort_unstable_by(|a, b| b.total_cmp(a));
        Ok(rates
            .iter()
            .map(|&rate| Self::at_rate(&impostors, rate))
            .collect())
    }

    /// `impostors`: at least one, the highest first.
    fn at_rate(impostors: &[f64], rate: f64) -> Self {
        let count = impostors.len();
        // The product may round either way of a whole number, so the share decides.
        let share = |accepted: usize| accepted as f64 / count as f64;
        let mut allowed = (rate * count as f64) as usize;
        while allowed > 0 && share(allowed) > rate {
            allowed -= 1;
        }
        while share(allowed + 1) <= rate {
            allowed += 1;
        }
        // Just above the best impostor that must be refused, and so above all that equal it.
        let threshold = impostors[allowed].next_up();
        let accepted = impostors.partition_point(|&score| score >= threshold);
        Self {
            threshold,
            accepted_impostors: accepted,
            false_accept_rate: share(accepted),
        }
    }

    /// Share of similarities at or above the threshold, such as the true-accept rate of genuine pairs; nothing of no similarities.
    pub fn accepted<S: Copy + Into<f64>>(&self, scores: &[S]) -> Option<f64> {
        let accepted = scores
            .iter()
            .filter(|&&score| score.into() >= self.threshold)
            .count();
        (!scores.is_empty()).then(|| accepted as f64 / scores.len() as f64)
    }
}

fn finite<S: Copy + Into<f64>>(scores: &[S]) -> Result<Vec<f64>, CalibrationError> {
    let scores: Vec<f64> = scores.iter().map(|&score| score.into()).collect();
    match scores.iter().position(|score| !score.is_finite()) {
        Some(position) => Err(CalibrationError::NonFinite { position }),
        None => Ok(scores),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn two_kinds_at_two_similarities_are_solved_by_hand() {
        // Odds 1:3 at 0 and 3:1 at 1.
        let scores = [0.0f32, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0];
        let marks = [true, false, false, false, true, true, true, false];
        let found = LogisticCalibration::fit(&scores, &marks).unwrap();
        assert!((found.intercept + 3f64.ln()).abs() < 1e-12, "{found:?}");
        assert!((found.slope - 2.0 * 3f64.ln()).abs() < 1e-12, "{found:?}");
        assert!((found.probability(1.0) - 0.75).abs() < 1e-12);
    }

    #[test]
    fn what_cannot_be_fitted_is_named() {
        let fit =
            |scores: &[f64], marks: &[bool]| LogisticCalibration::fit(scores, marks).unwrap_err();
        assert_eq!(
            fit(&[0.1], &[]),
            CalibrationError::Lengths {
                scores: 1,
                marks: 0
            }
        );
        assert_eq!(
            fit(&[0.1, f64::NAN], &[true, false]),
            CalibrationError::NonFinite { position: 1 }
        );
        assert_eq!(
            fit(&[0.1], &[true]),
            CalibrationError::OneKind {
                matches: 1,
                others: 0
            }
        );
        assert_eq!(
            fit(&[0.1, 0.2], &[false, true]),
            CalibrationError::Separable
        );
        assert_eq!(
            fit(&[0.2, 0.2], &[false, true]),
            CalibrationError::Separable
        );
        let far = [1e308, -1e308, 1e308, -1e308];
        assert_eq!(
            fit(&far, &[true, true, false, false]),
            CalibrationError::NoSolution
        );
        let threshold =
            |scores: &[f64], rate| Threshold::for_false_accept_rate(scores, rate).unwrap_err();
        assert_eq!(threshold(&[0.1], 1.0), CalibrationError::Rate { rate: 1.0 });
        assert_eq!(threshold(&[], 0.1), CalibrationError::NoImpostors);
    }

    proptest! {
        #[test]
        fn the_fit_is_flat_in_both_directions(
            pairs in prop::collection::vec((-1.0f64..1.0, any::<bool>()), 8..60), scale in -12i32..12,
        ) {
            let scale = 10f64.powi(scale);
            let (scores, marks): (Vec<f64>, Vec<bool>) =
                pairs.iter().map(|&(score, mark)| (score * scale, mark)).unzip();
            if let Ok(found) = LogisticCalibration::fit(&scores, &marks) {
                let residual = |weight: &dyn Fn(f64) -> f64| -> f64 {
                    let pairs = scores.iter().zip(&marks);
                    pairs.map(|(&s, &mark)| (found.probability(s) - f64::from(u8::from(mark))) * weight(s)).sum()
                };
                prop_assert!(residual(&|_| 1.0).abs() < 1e-6);
                prop_assert!((residual(&|s| s) / scale).abs() < 1e-6);
                prop_assert!(found.log_loss <= 2f64.ln() + 1e-12);
            }
        }

        #[test]
        fn the_threshold_is_the_smallest(
            scores in prop::collection::vec(-8i8..8, 1..60), rate in 0.0f64..1.0, hundredths in 0u32..100,
        ) {
            let scores: Vec<f32> = scores.into_iter().map(|score| f32::from(score) / 8.0).collect();
            for rate in [rate, f64::from(hundredths) / 100.0, 0.0] {
                let found = Threshold::for_false_accept_rate(&scores, rate).unwrap();
                prop_assert_eq!(found.accepted(&scores), Some(found.false_accept_rate));
                prop_assert!(found.false_accept_rate <= rate);
                let lower = Threshold { threshold: found.threshold.next_down(), ..found };
                prop_assert!(lower.accepted(&scores).unwrap() > rate);
            }
        }
    }
}

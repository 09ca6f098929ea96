//! Upgrade recovery: what share of the gain of embedding everything again an upgrade has without it.

use serde::{Deserialize, Serialize};

use crate::{Bootstrap, BootstrapError, ConfidenceInterval};

/// What share of the gain of embedding everything again an upgrade has without it: `(cross - old_self) / (new_self - old_self)`.
/// 1 is as good as embedding everything again, 0 is as before, below 0 is worse than doing nothing. Nothing where the new model is no
/// better than the old one: then there is no gain to share.
pub fn upgrade_recovery(cross: f64, old_self: f64, new_self: f64) -> Option<f64> {
    let recovery = (cross - old_self) / (new_self - old_self);
    (new_self > old_self && recovery.is_finite()).then_some(recovery)
}

/// Upgrade recovery with its intervals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// As [`upgrade_recovery`] gives it from the means.
    pub value: f64,
    /// Paired-bootstrap intervals at [`Bootstrap::CONFIDENCES`]; none where some resample has no gain to share, since a ratio to
    /// something that may be 0 has no bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intervals: Option<Vec<ConfidenceInterval>>,
}

impl Recovery {
    /// From the scores of each query; nothing where the new model is no better than the old one. `stream` separates the draws of
    /// measurements that share a seed.
    ///
    /// **Shapes.** All `[n]`, finite, in the same order of the queries: cross-test, old self-test, new self-test.
    ///
    /// # Errors
    /// [`BootstrapError`] for different lengths, no queries or no resamples.
    pub fn of(
        [cross, old, new]: [&[f64]; 3],
        bootstrap: &Bootstrap,
        stream: u64,
    ) -> Result<Option<Self>, BootstrapError> {
        for other in [old, new] {
            if cross.len() != other.len() {
                return Err(BootstrapError::Unpaired {
                    cross: cross.len(),
                    self_old: other.len(),
                });
            }
        }
        let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len() as f64;
        let Some(value) = upgrade_recovery(mean(cross), mean(old), mean(new)) else {
            return Ok(None);
        };
        let gains: Vec<[f64; 2]> = (cross.iter().zip(old).zip(new))
            .map(|((cross, old), new)| [cross - old, new - old])
            .collect();
        let intervals = bootstrap.ratio_intervals(&gains, stream)?;
        Ok(Some(Self {
            value,
            intervals: intervals.map(Vec::from),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_needs_a_gain() {
        assert_eq!(upgrade_recovery(0.5, 0.25, 0.75), Some(0.5));
        assert_eq!(upgrade_recovery(0.125, 0.25, 0.75), Some(-0.25));
        assert_eq!(upgrade_recovery(0.5, 0.75, 0.75), None);
        assert_eq!(upgrade_recovery(0.5, 0.75, 0.25), None);
        assert_eq!(upgrade_recovery(f64::NAN, 0.25, 0.75), None);
    }

    #[test]
    fn intervals_contain_the_recovery_of_a_clear_gain_and_are_left_out_of_a_doubtful_one() {
        let scores = |right: &dyn Fn(usize) -> bool| -> Vec<f64> {
            (0..600)
                .map(|query| f64::from(u8::from(right(query))))
                .collect()
        };
        let old = scores(&|query| query % 3 == 0);
        let new = scores(&|query| query % 3 != 2);
        let cross = scores(&|query| query % 3 == 0 || query % 6 == 1);
        let bootstrap = Bootstrap::new(1);
        let of = |cross: &[f64], new: &[f64]| Recovery::of([cross, &old, new], &bootstrap, 0);
        let found = of(&cross, &new).unwrap().unwrap();
        assert!((found.value - 0.5).abs() < 1e-12);
        let intervals = found.intervals.unwrap();
        for (one, confidence) in intervals.iter().zip(Bootstrap::CONFIDENCES) {
            assert_eq!(one.confidence, confidence);
            assert!(one.bounds.low < 0.5 && 0.5 < one.bounds.high, "{one:?}");
        }
        // Of 200 gained queries half are recovered: a binomial share.
        let half = 1.96 * (0.25f64 / 200.0).sqrt();
        let bounds = intervals[1].bounds;
        assert!((bounds.high - 0.5 - half).abs() < 0.3 * half, "{bounds:?}");
        // All of the gain, in every resample.
        let all = of(&new, &new).unwrap().unwrap().intervals.unwrap();
        assert!(
            all.iter()
                .all(|one| one.bounds.low == 1.0 && one.bounds.high == 1.0)
        );
        // A gain of two queries more than were lost.
        let doubtful = scores(&|query| (query % 3 == 0 && query > 9) || query == 1 || query > 593);
        let found = of(&cross, &doubtful).unwrap();
        assert!(found.is_some_and(|found| found.intervals.is_none()));
        assert_eq!(of(&cross, &old).unwrap(), None);
        assert!(of(&cross[1..], &new).is_err());
    }
}

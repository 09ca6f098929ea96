//! What a measured margin decides.

use crate::{Interval, McNemar, Verdict};

/// The verdict of a margin whose interval at `confidence` is known. `least` is the smallest margin that counts as compatible.
///
/// Where few queries change, the bootstrap's interval is too narrow: with 100 queries of which a twentieth change, it would pass 11 % of upgrades
/// of equal quality at 95 % confidence (`examples/false_pass.rs`). A measure that is right or wrong, whose `flips` are known, therefore passes
/// only if McNemar's exact one-sided test passes as well. That test knows no margin but 0, so it does not speak where a loss is allowed.
pub fn decide(interval: Interval, least: f64, confidence: f64, flips: Option<&McNemar>) -> Verdict {
    let doubtful = flips.is_some_and(|flips| {
        let changed = flips.positive_flips.saturating_add(flips.negative_flips);
        changed > 0 && flips.exact_one_sided_not_worse > (1.0 - confidence) / 2.0
    });
    match Verdict::of(interval, least) {
        Verdict::Compatible if least >= 0.0 && doubtful => Verdict::Undecided,
        verdict => verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_changed_queries_decide_nothing() {
        let at = |low, high, least, [positive, negative]: [u64; 2]| {
            let flips = McNemar::new(positive, negative);
            decide(Interval { low, high }, least, 0.95, Some(&flips))
        };
        // One query of a thousand gained: the interval begins at 0, and chance alone does it every other time.
        assert_eq!(at(0.0, 0.003, 0.0, [1, 0]), Verdict::Undecided);
        assert_eq!(at(0.001, 0.012, 0.0, [5, 0]), Verdict::Undecided);
        assert_eq!(at(0.001, 0.012, 0.0, [6, 0]), Verdict::Compatible);
        // Nothing changed, nothing was measured of flips, or a loss is allowed.
        assert_eq!(at(0.0, 0.0, 0.0, [0, 0]), Verdict::Compatible);
        assert_eq!(at(0.0, 0.003, -0.01, [1, 0]), Verdict::Compatible);
        let interval = Interval {
            low: 0.0,
            high: 0.003,
        };
        assert_eq!(decide(interval, 0.0, 0.95, None), Verdict::Compatible);
        assert_eq!(at(-0.3, -0.1, 0.0, [1, 9]), Verdict::Incompatible);
    }
}

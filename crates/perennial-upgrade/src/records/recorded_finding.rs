//! What a compatibility record decides.

use perennial_core::{CompatibilityRecord, Flips};
use perennial_eval::{McNemar, Requirements, decide};

use crate::finding::Finding;

/// What a record says at a confidence: by the rules of a certificate, it passes only with queries enough, and only if the flips say so as well.
/// Nothing where it has no interval at that confidence.
///
/// A record of a program that did not count flips stays readable, but is not taken at its interval's word: it counts as compatible only if the
/// flips would say so whatever they were, and otherwise as undecided, which the default policy allows with a warning.
pub fn recorded_finding(
    record: &CompatibilityRecord,
    confidence: f64,
    least: f64,
) -> Option<Finding> {
    let interval = record.interval_at(confidence)?;
    let needed = Requirements::default();
    if needed.lacks_queries(record.queries.count).is_some() {
        return Some(Finding::CannotTell);
    }
    let Flips { positive, negative } = record.flips.unwrap_or_else(|| most_flips(record));
    let flips = McNemar::new(positive, negative);
    Some(decide(interval, least, confidence, Some(&flips)).into())
}

/// The most flips that a record's figures allow, among which its margin says least. No more queries can be lost than the self-test has right, nor
/// than the cross-test has wrong.
fn most_flips(record: &CompatibilityRecord) -> Flips {
    let queries = record.queries.count as f64;
    let negative = (record.self_test.min(1.0 - record.cross_test) * queries).round();
    let positive = (negative + record.margin * queries).round();
    // The conversion takes what is below 0 as 0.
    Flips {
        positive: positive as u64,
        negative: negative as u64,
    }
}

#[cfg(test)]
mod tests {
    use perennial_core::{Interval, ProbeSet, TieRule};

    use super::*;

    /// Half of the queries right in the self-test.
    fn record(queries: usize, margin: f64, low: f64, flips: Option<[u64; 2]>) -> Finding {
        let set = || ProbeSet {
            name: "set".to_owned(),
            argument: None,
            count: queries,
            sha256: "00".repeat(32),
        };
        let record = CompatibilityRecord {
            query_version: "v0002".to_owned(),
            gallery_version: "v0001".to_owned(),
            query_weights: None,
            gallery_weights: None,
            self_test: 0.5,
            cross_test: 0.5 + margin,
            margin,
            interval: Interval {
                low,
                high: low + 2.0 * (margin - low),
            },
            intervals: Vec::new(),
            cross_test_intervals: Vec::new(),
            flips: flips.map(|[positive, negative]| Flips { positive, negative }),
            queries: set(),
            gallery: set(),
            tie_rule: TieRule::Strict,
            created: "2026-11-22T21:35:00Z".to_owned(),
        };
        assert_eq!(recorded_finding(&record, 0.99, 0.0), None);
        recorded_finding(&record, 0.95, 0.0).unwrap()
    }

    #[test]
    fn few_queries_cannot_tell() {
        assert_eq!(record(2, 0.0, 0.0, Some([0, 0])), Finding::CannotTell);
        assert_eq!(record(29, 0.0, 0.0, Some([0, 0])), Finding::CannotTell);
        assert_eq!(record(30, 0.0, 0.0, Some([0, 0])), Finding::Compatible);
        assert_eq!(record(29, -0.2, -0.3, None), Finding::CannotTell);
    }

    #[test]
    fn flips_decide_beside_the_interval() {
        assert_eq!(record(1000, 0.001, 0.0, Some([1, 0])), Finding::Undecided);
        assert_eq!(
            record(1000, 0.01, 0.004, Some([10, 0])),
            Finding::Compatible
        );
        assert_eq!(
            record(1000, -0.1, -0.15, Some([0, 100])),
            Finding::Incompatible
        );
    }

    #[test]
    fn without_flips_only_what_no_flips_could_change_is_compatible() {
        // At most 490 of 1,000 queries are lost and 510 gained, or 4,000 and 6,000 of 10,000.
        assert_eq!(record(1000, 0.02, 0.01, None), Finding::Undecided);
        assert_eq!(record(10_000, 0.1, 0.09, None), Finding::Compatible);
        assert_eq!(record(1000, -0.1, -0.15, None), Finding::Incompatible);
    }
}

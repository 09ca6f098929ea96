//! The measures of a run that methods are compared by.

use std::collections::BTreeMap;

use super::WorstPair;
use crate::{
    Compatibility, CompatibilityMatrix, Interval, MatrixError, RetrievalScores, VerdictCounts,
    metrics,
};

/// The measures in the order in which they are shown.
///
/// Those without a prefix are of nearest class means; `recall@1` and `mAP` are of single items. The shares of pairs are those whose
/// verdict is compatible, undecided or incompatible by the interval of their margin.
pub const MEASURES: [&str; 21] = [
    "AC",
    "AA",
    "ACA",
    "BC",
    "FC",
    "compatible pairs",
    "undecided pairs",
    "incompatible pairs",
    "last self-test",
    "mean cross-test",
    "worst margin",
    "recall@1 AC",
    "recall@1 AA",
    "recall@1 last self-test",
    "recall@1 mean cross-test",
    "recall@1 worst margin",
    "mAP AC",
    "mAP AA",
    "mAP last self-test",
    "mAP mean cross-test",
    "mAP worst margin",
];

/// The measures of the short table.
pub const HEADLINE: [&str; 7] = [
    "AC",
    "AA",
    "ACA",
    "recall@1 AC",
    "recall@1 AA",
    "mAP AC",
    "mAP AA",
];

/// Whether a measure is a difference of fractions, which is shown with its sign.
pub fn is_difference(measure: &str) -> bool {
    measure == "BC" || measure == "FC" || measure.ends_with("margin")
}

type Score = fn(&RetrievalScores) -> f64;

/// Measures of single items: the prefix of their names, and the score that they are made of.
const OF_ITEMS: [(&str, Score); 2] = [
    ("recall@1 ", |scores| scores.cmc1),
    ("mAP ", |scores| scores.map),
];

/// Every measure of a report, by its name in [`MEASURES`]. Reports of one version have no measures of pairs.
///
/// # Errors
/// None for the scores of a report that was read, which are fractions.
pub fn measures_of(report: &Compatibility) -> Result<BTreeMap<String, f64>, MatrixError> {
    let mut values = BTreeMap::new();
    let found = report.metrics();
    let counts = VerdictCounts::of(report.pairs());
    let share = |count: usize| {
        let pairs = counts.pairs();
        (pairs > 0).then(|| count as f64 / pairs as f64)
    };
    for (name, value) in [
        ("ACA", found.average_compatible_accuracy),
        ("BC", found.backward_compatibility),
        ("FC", found.forward_compatibility),
        ("compatible pairs", share(counts.compatible)),
        ("undecided pairs", share(counts.undecided)),
        ("incompatible pairs", share(counts.incompatible)),
    ] {
        values.extend(value.map(|value| (name.to_owned(), value)));
    }
    add_matrix(&mut values, "", report, report.matrix());
    for (prefix, score) in OF_ITEMS {
        let matrix = CompatibilityMatrix::new(scores(report, score))?;
        add_matrix(&mut values, prefix, report, &matrix);
    }
    Ok(values)
}

/// `[t][k]` for `k <= t`.
fn scores(report: &Compatibility, score: Score) -> Vec<Vec<f64>> {
    let rows = report.retrieval().iter();
    rows.map(|row| row.iter().map(score).collect()).collect()
}

/// The 95 % intervals over the queries of the measures that have one: AC, AA and ACA.
pub fn intervals_of(report: &Compatibility) -> BTreeMap<String, Interval> {
    let found = report.metric_intervals();
    let all = found.into_iter().flat_map(|found| {
        [
            ("AC", found.average_compatibility),
            ("AA", Some(found.average_accuracy)),
            ("ACA", found.average_compatible_accuracy),
        ]
    });
    all.filter_map(|(name, interval)| Some((name.to_owned(), interval?)))
        .collect()
}

/// The pair with the smallest margin, by class means and by each measure of single items.
pub fn worst_pairs_of(report: &Compatibility) -> BTreeMap<String, WorstPair> {
    let of_items = OF_ITEMS.map(|(prefix, score)| (prefix, WorstPair::of(&scores(report, score))));
    std::iter::once(("", WorstPair::of(report.matrix().rows())))
        .chain(of_items)
        .filter_map(|(prefix, pair)| Some((prefix.to_owned(), pair?)))
        .collect()
}

fn add_matrix(
    values: &mut BTreeMap<String, f64>,
    prefix: &str,
    report: &Compatibility,
    matrix: &CompatibilityMatrix,
) {
    let found = metrics(matrix, report.tie_rule());
    let tests: Vec<(f64, f64)> = matrix
        .cross_tests()
        .map(|(_, _, cross, self_old)| (cross, self_old))
        .collect();
    let mean_cross = (!tests.is_empty())
        .then(|| tests.iter().map(|(cross, _)| cross).sum::<f64>() / tests.len() as f64);
    let worst = tests
        .iter()
        .map(|(cross, self_old)| cross - self_old)
        .min_by(f64::total_cmp);
    for (name, value) in [
        ("AC", found.average_compatibility),
        ("AA", Some(found.average_accuracy)),
        ("last self-test", matrix.self_tests().last()),
        ("mean cross-test", mean_cross),
        ("worst margin", worst),
    ] {
        values.extend(value.map(|value| (format!("{prefix}{name}"), value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bootstrap, ProbeSet, Retrieval, TieRule};

    fn test(right: usize, cmc1: f64, map: f64) -> Retrieval {
        Retrieval {
            ncm_top1: right as f64 / 10.0,
            cmc1,
            cmc5: 0.9,
            cmc10: 0.95,
            map,
            per_query_ncm_correct: (0..10).map(|query| query < right).collect(),
            queries_without_match: 0,
        }
    }

    fn report(tests: &[Vec<Retrieval>]) -> Compatibility {
        let probe = ProbeSet {
            name: "generated".to_owned(),
            argument: None,
            count: 10,
            sha256: "00".repeat(32),
        };
        let versions = (0..tests.len()).map(|number| format!("v{number}"));
        Compatibility::new(
            versions.collect(),
            tests,
            probe.clone(),
            probe,
            TieRule::Strict,
            Bootstrap::new(1),
        )
        .unwrap()
    }

    #[test]
    fn every_measure_of_two_versions() {
        let tests = [
            vec![test(5, 0.4, 0.2)],
            vec![test(6, 0.3, 0.25), test(8, 0.6, 0.5)],
        ];
        let found = measures_of(&report(&tests)).unwrap();
        let expected = [
            ("AC", 1.0),
            ("AA", 1.9 / 3.0),
            ("ACA", 0.6),
            ("BC", 0.1),
            ("FC", -0.2),
            ("last self-test", 0.8),
            ("mean cross-test", 0.6),
            ("worst margin", 0.1),
            ("recall@1 AC", 0.0),
            ("recall@1 AA", 1.3 / 3.0),
            ("recall@1 last self-test", 0.6),
            ("recall@1 mean cross-test", 0.3),
            ("recall@1 worst margin", -0.1),
            ("mAP AC", 1.0),
            ("mAP AA", 0.95 / 3.0),
            ("mAP last self-test", 0.5),
            ("mAP mean cross-test", 0.25),
            ("mAP worst margin", 0.05),
        ];
        for (name, value) in expected {
            assert!(
                (found[name] - value).abs() < 1e-12,
                "{name}: {}",
                found[name]
            );
        }
        let shares = ["compatible pairs", "undecided pairs", "incompatible pairs"];
        let sum: f64 = shares.iter().map(|name| found[*name]).sum();
        assert_eq!(sum, 1.0);
        let mut names: Vec<&str> = MEASURES.to_vec();
        names.sort_unstable();
        assert!(found.keys().map(String::as_str).eq(names));
        assert!(HEADLINE.iter().all(|name| MEASURES.contains(name)));

        let report = report(&tests);
        let intervals = intervals_of(&report);
        assert!(intervals.keys().eq(["AA", "AC", "ACA"]));
        let compatibility = intervals["AC"];
        assert!(compatibility.low <= 1.0 && compatibility.high == 1.0);
        let worst = worst_pairs_of(&report);
        assert_eq!(
            (worst["recall@1 "].query, worst["recall@1 "].gallery),
            (2, 1)
        );
        assert!((worst["recall@1 "].margin + 0.1).abs() < 1e-12);
        assert!(worst[""].margin > 0.0 && worst["mAP "].margin > 0.0);
    }

    #[test]
    fn one_version_has_no_measures_of_pairs() {
        let found = measures_of(&report(&[vec![test(5, 0.4, 0.2)]])).unwrap();
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "AA",
                "last self-test",
                "mAP AA",
                "mAP last self-test",
                "recall@1 AA",
                "recall@1 last self-test"
            ]
        );
    }
}

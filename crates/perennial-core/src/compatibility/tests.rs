use super::*;
use crate::Registry;

fn record(cross_test: f64, tie_rule: TieRule) -> CompatibilityRecord {
    let probe = |name: &str| ProbeSet {
        name: name.to_owned(),
        argument: None,
        count: 10,
        sha256: crate::sha256_hex(name.as_bytes()),
    };
    CompatibilityRecord {
        query_version: "v0002".to_owned(),
        gallery_version: "v0001".to_owned(),
        query_weights: Some("2".repeat(64)),
        gallery_weights: Some("1".repeat(64)),
        self_test: 0.5,
        cross_test,
        margin: cross_test - 0.5,
        interval: Interval {
            low: -0.1,
            high: 0.1,
        },
        intervals: Vec::new(),
        cross_test_intervals: Vec::new(),
        flips: None,
        queries: probe("queries"),
        gallery: probe("gallery"),
        tie_rule,
        created: "2026-11-22T21:35:00Z".to_owned(),
    }
}

#[test]
fn a_new_measurement_replaces_the_same_and_joins_others() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::create(folder.path()).unwrap();
    let add = |record| CompatibilityRecords::add(&registry, [record]);
    add(record(0.4, TieRule::Strict)).unwrap();
    add(record(0.5, TieRule::TiesCount)).unwrap();
    add(record(0.6, TieRule::Strict)).unwrap();
    let records = CompatibilityRecords::of(&registry).unwrap();
    let pair = records.of_pair("v0002", "v0001");
    let crosses: Vec<f64> = pair.map(|record| record.cross_test).collect();
    assert_eq!(crosses, [0.6, 0.5]);
    assert!(
        records
            .records
            .iter()
            .all(CompatibilityRecord::is_compatible)
    );
    assert_eq!(records.of_pair("v0001", "v0002").count(), 0);
    assert!(registry.list().unwrap().is_empty());
}

#[test]
fn later_measurements_do_not_move_the_first_set() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::create(folder.path()).unwrap();
    let first = record(0.4, TieRule::Strict);
    let mut other = record(0.9, TieRule::Strict);
    other.queries.sha256 = crate::sha256_hex(b"others");
    CompatibilityRecords::add(&registry, [first.clone(), other]).unwrap();
    CompatibilityRecords::add(&registry, [first.clone()]).unwrap();
    let records = CompatibilityRecords::of(&registry).unwrap();
    assert_eq!(records.records.len(), 2);
    let (queries, _) = records.first_set_of(&"1".repeat(64), 0).unwrap();
    assert_eq!(queries, &first.queries);
    assert!(records.first_set_of(&"2".repeat(64), 0).is_none());
    // A set that is too small to decide gives way to the first that is not, if there is one.
    let mut large = first.clone();
    large.queries.sha256 = crate::sha256_hex(b"many");
    large.queries.count = 30;
    CompatibilityRecords::add(&registry, [large.clone()]).unwrap();
    let records = CompatibilityRecords::of(&registry).unwrap();
    let first_of = |least| records.first_set_of(&"1".repeat(64), least).unwrap().0;
    assert_eq!(first_of(10), &first.queries);
    assert_eq!(first_of(30), &large.queries);
    assert_eq!(first_of(31), &first.queries);
}

#[test]
fn records_of_the_first_program_are_read_and_name_no_weights() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::create(folder.path()).unwrap();
    let set = r#"{"name": "s", "count": 1, "sha256": "00"}"#;
    let text = format!(
        r#"{{"schema_version": 1, "records": [{{"query_version": "v0002", "gallery_version": "v0001",
        "self_test": 0.5, "cross_test": 0.6, "margin": 0.1, "interval": {{"low": 0.0, "high": 0.2}},
        "queries": {set}, "gallery": {set}, "tie_rule": "strict", "verdict": "tie", "created": "2026-11-22T21:35:00Z"}}]}}"#
    );
    std::fs::write(folder.path().join(FILE), text).unwrap();
    let records = CompatibilityRecords::of(&registry).unwrap();
    let [record] = records.records.as_slice() else {
        panic!("{records:?}");
    };
    assert_eq!(record.query_weights, None);
    assert_eq!(record.interval_at(0.95), Some(record.interval));
    assert_eq!(record.interval_at(0.99), None);
    assert_eq!(record.flips, None);
}

#[test]
fn flips_are_counted_by_direction_and_kept() {
    let flips = Flips::of(&[true, true, false, true], &[true, false, true, false]);
    assert_eq!(
        flips,
        Flips {
            positive: 2,
            negative: 1
        }
    );
    let counted = CompatibilityRecord {
        flips: Some(flips),
        ..record(0.6, TieRule::Strict)
    };
    let text = serde_json::to_string(&counted).unwrap();
    assert!(
        text.contains(r#""flips":{"positive":2,"negative":1}"#),
        "{text}"
    );
    let read: CompatibilityRecord = serde_json::from_str(&text).unwrap();
    assert_eq!(read, counted);
}

#[test]
fn verdicts_follow_the_interval() {
    let verdict = |low, high, least| Verdict::of(Interval { low, high }, least);
    assert_eq!(verdict(0.0, 0.0, 0.0), Verdict::Compatible);
    assert_eq!(verdict(0.01, 0.02, 0.0), Verdict::Compatible);
    assert_eq!(verdict(-0.01, 0.02, 0.0), Verdict::Undecided);
    assert_eq!(verdict(-0.02, 0.0, 0.0), Verdict::Undecided);
    assert_eq!(verdict(-0.02, -0.01, 0.0), Verdict::Incompatible);
    assert_eq!(verdict(-0.02, -0.01, -0.05), Verdict::Compatible);
}

#[test]
fn a_damaged_file_is_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::create(folder.path()).unwrap();
    let path = folder.path().join(FILE);
    for (content, problem) in [
        ("[]", "is damaged"),
        (
            r#"{"schema_version": 2, "records": []}"#,
            "schema_version is 2",
        ),
        (
            r#"{"schema_version": 2, "records": [{"versions": ["v0001"]}]}"#,
            "schema_version is 2",
        ),
    ] {
        std::fs::write(&path, content).unwrap();
        let error = CompatibilityRecords::add(&registry, [record(0.4, TieRule::Strict)])
            .unwrap_err()
            .to_string();
        assert!(error.contains(FILE) && error.contains(problem), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
    }
}

//! Values computed by independent implementations, reproduced to the printed digits.
#![allow(clippy::unwrap_used)]

use perennial_core::Embeddings;
use perennial_eval::{
    CompatibilityMatrix, LogisticCalibration, McNemar, Threshold, TieRule, evaluate, metrics,
};
use serde_json::Value;

const TOLERANCE: f64 = 1e-12;

#[test]
fn metrics_of_the_published_hoc_matrix() {
    check_matrix(include_str!("../testdata/matrix_hoc_7tasks.json"));
}

#[test]
fn metrics_of_the_published_er_matrix() {
    check_matrix(include_str!("../testdata/matrix_er_7tasks.json"));
}

fn check_matrix(text: &str) {
    let golden: Value = serde_json::from_str(text).unwrap();
    let matrix = CompatibilityMatrix::from_json(text).unwrap();
    let found = serde_json::to_value(metrics(&matrix, TieRule::Strict)).unwrap();
    let expected = golden["metrics"].as_object().unwrap();
    assert!(expected.len() >= 8);
    for (key, expected) in expected {
        assert_near(&found[key], expected, key);
    }
    let per_task = found["average_compatibility_per_task"].as_array().unwrap();
    assert_eq!(per_task.len(), matrix.tasks());
    assert!(per_task[0].is_null());
    assert_eq!(per_task.last(), Some(&found["average_compatibility"]));
}

fn assert_near(found: &Value, expected: &Value, key: &str) {
    match (found, expected) {
        (Value::Array(found), Value::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "{key}");
            found
                .iter()
                .zip(expected)
                .for_each(|(found, expected)| assert_near(found, expected, key));
        }
        _ => {
            let difference = found.as_f64().unwrap() - expected.as_f64().unwrap();
            assert!(
                difference.abs() <= TOLERANCE,
                "{key}: {found} instead of {expected}"
            );
        }
    }
}

#[test]
fn retrieval_on_raw_features() {
    let golden: Value = serde_json::from_str(include_str!("../testdata/retrieval.json")).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 2);
    for case in cases {
        let queries = embeddings(&case["query"], &case["query_labels"]);
        let gallery = embeddings(&case["gallery"], &case["gallery_labels"]);
        let found = evaluate(&queries, &gallery).unwrap();
        for (value, expected) in [
            (found.ncm_top1, &case["nearest_class_mean_accuracy"]),
            (found.cmc1, &case["cmc"]["1"]),
            (found.cmc5, &case["cmc"]["5"]),
            (found.cmc10, &case["cmc"]["10"]),
            (found.map, &case["mean_average_precision"]),
        ] {
            let expected = expected.as_f64().unwrap();
            assert!(
                (value - expected).abs() <= TOLERANCE,
                "{value} instead of {expected}"
            );
        }
    }
}

fn paired() -> Value {
    serde_json::from_str(include_str!("../testdata/paired_and_calibration.json")).unwrap()
}

#[test]
fn the_exact_test_of_flips() {
    let golden = &paired()["mcnemar"];
    let count = |key: &str| golden[key].as_u64().unwrap();
    let test = McNemar::new(count("positive_flips"), count("negative_flips"));
    let found = serde_json::to_value(test).unwrap();
    for (key, expected) in golden.as_object().unwrap() {
        assert_near(&found[key], expected, key);
    }
}

#[test]
fn calibration_of_similarities() {
    let golden = &paired()["logistic_calibration"];
    let scores: Vec<f64> = serde_json::from_value(golden["scores"].clone()).unwrap();
    let marks: Vec<u8> = serde_json::from_value(golden["is_match"].clone()).unwrap();
    let marks: Vec<bool> = marks.into_iter().map(|mark| mark == 1).collect();
    let found = LogisticCalibration::fit(&scores, &marks).unwrap();
    for (value, key) in [
        (found.slope, "slope"),
        (found.intercept, "intercept"),
        (found.log_loss, "log_loss"),
    ] {
        let expected = golden[key].as_f64().unwrap();
        assert!(
            // The reference stopped where its gradient was 2e-6.
            (value - expected).abs() <= 2e-6,
            "{key}: {value} instead of {expected}"
        );
    }
}

#[test]
fn thresholds_for_a_rate_of_false_accepts() {
    let golden = &paired()["threshold"];
    let scores = |key: &str| -> Vec<f64> { serde_json::from_value(golden[key].clone()).unwrap() };
    let (impostors, genuine) = (scores("impostor_scores"), scores("genuine_scores"));
    let cases = golden["at"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let rate = case["false_accept_rate"].as_f64().unwrap();
        let found = Threshold::for_false_accept_rate(&impostors, rate).unwrap();
        assert_eq!(found.threshold, case["threshold"].as_f64().unwrap());
        assert_eq!(
            found.accepted_impostors as u64,
            case["accepted_impostors"].as_u64().unwrap()
        );
        assert_eq!(found.accepted(&genuine), case["true_accept_rate"].as_f64());
    }
}

fn embeddings(features: &Value, labels: &Value) -> Embeddings {
    let rows: Vec<Vec<f32>> = serde_json::from_value(features.clone()).unwrap();
    let labels: Vec<u32> = serde_json::from_value(labels.clone()).unwrap();
    let ids = (0..rows.len() as u64).collect();
    Embeddings::normalized("golden", rows[0].len(), rows.concat(), ids, Some(labels)).unwrap()
}

//! `certify` and `advise` on files of other programs.

use serde_json::{Value, json};

use crate::bench::{Bench, Ended};
use crate::encoders::{files, lines};

const EVALUATION: [&str; 10] = [
    "--old-queries",
    "old-queries.jsonl",
    "--old-gallery",
    "old-gallery.jsonl",
    "--new-queries",
    "new-queries.jsonl",
    "--new-gallery",
    "new-gallery.jsonl",
    "--resamples",
    "500",
];
const FIT: [&str; 4] = ["--fit-from", "new-fit.jsonl", "--fit-to", "old-fit.jsonl"];

fn certify(bench: &Bench, more: &[&str]) -> Ended {
    bench.run(&[&["certify", "--json"], &EVALUATION[..], more].concat())
}

fn document(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"))
}

#[test]
fn a_certificate_says_what_may_be_searched() {
    let bench = files();
    let swapped = certify(&bench, &[]);
    assert_eq!(swapped.code, Some(3), "{swapped:?}");
    let document_of = document(&swapped);
    assert_eq!(
        (&document_of["finding"], &document_of["route"]["kind"]),
        (&json!("incompatible"), &json!("own"))
    );
    let bridged = certify(
        &bench,
        &[&FIT[..], &["--kind", "orthogonal", "--out", "c.json"]].concat(),
    );
    assert_eq!(bridged.code, Some(0), "{bridged:?}");
    let found = document(&bridged);
    assert_eq!(found["finding"], "compatible", "{bridged:?}");
    let measures = found["tasks"][0]["measures"].as_array().unwrap();
    let recall = measures
        .iter()
        .find(|one| one["measure"] == "recall@1")
        .unwrap();
    assert!(recall["margin"].as_f64().unwrap() > 0.1, "{recall}");
    assert!(
        recall["upgrade_recovery"].as_f64().unwrap() > 0.5,
        "{recall}"
    );
    assert!(recall["mcnemar"]["exact_two_sided"].as_f64().unwrap() < 0.01);
    assert!(found["agreement_at_10"].as_f64().unwrap() > 0.1);
    assert_eq!(found["bridge"]["pairs"], 400);
    assert_eq!(bench.read("c.json"), bridged.stdout);
    let text = bench.succeed(
        &[
            &["certify"],
            &EVALUATION[..],
            &FIT[..],
            &["--route", "dual", "--weight", "0.5"],
        ]
        .concat(),
    );
    assert!(text.starts_with("compatible: queries of"), "{text}");
    for gate in [["--min-margin", "0.9"], ["--max-negative-flips", "0"]] {
        assert_eq!(
            certify(&bench, &[&FIT[..], &gate].concat()).code,
            Some(3),
            "{gate:?}"
        );
    }
}

#[test]
fn nothing_is_certified_without_evidence() {
    let bench = files();
    // Fitted on what it is measured on.
    let same = [
        "--fit-from",
        "new-queries.jsonl",
        "--fit-to",
        "old-queries.jsonl",
        "--kind",
        "orthogonal",
    ];
    let ended = certify(&bench, &same);
    assert_eq!(ended.code, Some(3));
    let found = document(&ended);
    assert_eq!(found["finding"], "cannot-tell");
    let reasons = found["tasks"][0]["reasons"].to_string();
    assert!(
        reasons.contains("300 queries") && reasons.contains("fit"),
        "{reasons}"
    );
    // No labels.
    for encoder in ["old", "new"] {
        bench.write(
            &format!("{encoder}-plain.jsonl"),
            &lines(encoder, 20, 300, false),
        );
    }
    let ended = bench.run(&[
        "certify",
        "--json",
        "--old-queries",
        "old-plain.jsonl",
        "--old-gallery",
        "old-gallery.jsonl",
        "--new-queries",
        "new-plain.jsonl",
    ]);
    assert_eq!(ended.code, Some(3));
    let found = document(&ended);
    assert_eq!(found["finding"], "cannot-tell");
    assert!(
        found["warnings"].to_string().contains("--relevance"),
        "{found}"
    );
    // Too few queries.
    for encoder in ["old", "new"] {
        bench.write(
            &format!("{encoder}-few.jsonl"),
            &lines(encoder, 20, 12, true),
        );
    }
    let ended = bench.run(&[
        "certify",
        "--json",
        "--old-queries",
        "old-few.jsonl",
        "--old-gallery",
        "old-gallery.jsonl",
        "--new-queries",
        "new-few.jsonl",
    ]);
    assert_eq!(
        (ended.code, &document(&ended)["finding"]),
        (Some(3), &json!("cannot-tell"))
    );
}

#[test]
fn item_like_retrieval_is_measured_by_judgements() {
    let bench = files();
    // Each query's right answer is the gallery item of its row: a different input of the same class, found by chance only.
    let judgements: String = (0..300)
        .map(|row| format!("20-{row} 0 30-{row} 1\n"))
        .collect();
    bench.write("judgements.qrels", &judgements);
    let ended = certify(
        &bench,
        &[&FIT[..], &["--relevance", "judgements.qrels"]].concat(),
    );
    let found = document(&ended);
    let tasks: Vec<&str> = found["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["task"].as_str().unwrap())
        .collect();
    assert_eq!(tasks, ["class-like", "item-like"]);
    assert_eq!(found["tasks"][1]["answerable_queries"], 300);
}

#[test]
fn advice_names_a_way_that_pays_and_one_that_does_not() {
    let bench = files();
    let arguments = [
        &["advise"],
        &EVALUATION[..],
        &FIT[..],
        &[
            "--items",
            "1000000",
            "--items-per-second",
            "500",
            "--price-per-thousand",
            "0.02",
        ],
    ]
    .concat();
    let advice = bench.answer(&arguments);
    let task = &advice["tasks"][0];
    let ways = task["ways"].as_array().unwrap();
    let kinds: Vec<&str> = ways
        .iter()
        .map(|way| way["kind"].as_str().unwrap())
        .collect();
    for kind in [
        "do-nothing",
        "swap-as-it-is",
        "bridge",
        "dual-queries",
        "map-stored",
        "two-stage",
        "reembed-all",
    ] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    let recommended = task["recommendation"]["kind"].as_str().unwrap();
    assert!(
        ["bridge", "dual-queries", "map-stored"].contains(&recommended),
        "{}",
        task["recommendation"]
    );
    let everything = ways
        .iter()
        .find(|way| way["kind"] == "reembed-all")
        .unwrap();
    assert_eq!(
        (&everything["cost"]["seconds"], &everything["cost"]["price"]),
        (&json!(2000.0), &json!(20.0))
    );
    assert!(!task["curve"].as_array().unwrap().is_empty());
    let text = bench.succeed(&arguments);
    assert!(text.contains("->"), "{text}");

    // The other way round, the "new" encoder is the worse one.
    let backwards = [
        "advise",
        "--old-queries",
        "new-queries.jsonl",
        "--old-gallery",
        "new-gallery.jsonl",
        "--new-queries",
        "old-queries.jsonl",
        "--new-gallery",
        "old-gallery.jsonl",
        "--fit-from",
        "old-fit.jsonl",
        "--fit-to",
        "new-fit.jsonl",
    ];
    let advice = bench.answer(&backwards);
    assert_ne!(
        advice["tasks"][0]["recommendation"]["kind"], "reembed-all",
        "{advice}"
    );
    assert_ne!(
        advice["tasks"][0]["recommendation"]["kind"], "swap-as-it-is",
        "{advice}"
    );
}

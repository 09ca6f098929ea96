//! `certify` and `advise` on files of other programs.

use base64::prelude::{BASE64_STANDARD, Engine};
use perennial_bridge::{Pairs, Recipe};
use perennial_core::SpaceRef;
use perennial_encode::encode_png;
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

/// The first file's lines with vectors of one value less.
fn shorter(bench: &Bench, file: &str) -> String {
    let mut lines = String::new();
    for line in bench.read(file).lines() {
        let mut row: Value = serde_json::from_str(line).unwrap();
        for value in row.as_object_mut().unwrap().values_mut() {
            if let Value::Array(vector) = value {
                vector.pop();
            }
        }
        lines += &format!("{row}\n");
    }
    lines
}

#[test]
fn a_document_on_standard_output_is_alone_there() {
    let bench = files();
    for (command, kind) in [("certify", "certificate"), ("advise", "advice")] {
        for more in [&["--out", "-"][..], &["--out", "-", "--json"]] {
            let ended = bench.run(&[&[command], &EVALUATION[..], &FIT, more].concat());
            let found = document(&ended);
            assert_eq!(found["kind"], format!("perennial-{kind}"));
            assert!(ended.stderr.contains("class-like retrieval"), "{ended:?}");
        }
    }
}

#[test]
fn pairs_of_the_wrong_encoder_are_refused_before_the_work() {
    let bench = files();
    for part in ["queries", "gallery", "fit"] {
        let file = format!("old-{part}.jsonl");
        bench.write(&file, &shorter(&bench, &file));
    }
    for command in ["certify", "advise"] {
        let swapped = ["--fit-from", "old-fit.jsonl", "--fit-to", "new-fit.jsonl"];
        let ended = bench.run(&[&[command], &EVALUATION[..], &swapped].concat());
        ended.assert_wrong_usage(&[
            "--fit-from old-fit.jsonl",
            "--new-queries",
            "--fit-from takes the new encoder's, --fit-to the old one's",
        ]);
        assert!(!ended.stderr.contains("fitting"), "{}", ended.stderr);
    }
    let ended = bench.run(&[&["advise"], &EVALUATION[..], &FIT].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn advice_to_embed_again_names_no_certificate() {
    let bench = files();
    for part in ["queries", "gallery"] {
        let file = format!("old-{part}.jsonl");
        bench.write(&file, &shorter(&bench, &file));
    }
    let ended = bench.run(&[&["advise"], &EVALUATION[..]].concat());
    assert!(ended.stdout.contains("->re-embed everything"), "{ended:?}");
    assert!(!ended.stdout.contains("certify --record"), "{ended:?}");
}

#[test]
fn what_is_recorded_rests_on_resamples_enough() {
    let bench = files();
    let resamples = |more: &[&str]| {
        let document = document(&certify(&bench, more));
        document["demands"]["bootstrap"]["resamples"].clone()
    };
    assert_eq!(resamples(&[]), 500);
    assert_eq!(resamples(&["--record"]), 2000);
}

#[test]
fn more_resamples_than_memory_holds_are_refused() {
    let bench = files();
    for count in ["1000001", "8589934592", "4611686018427387904"] {
        bench
            .run(&[&["certify"], &EVALUATION[..8], &["--resamples", count]].concat())
            .assert_wrong_usage(&["--resamples", count, "1000000"]);
        let ended = bench.run(&["evaluate", "run", "--resamples", count]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains("from 1 to 1000000"), "{ended:?}");
    }
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
    assert!(
        text.contains("decides; map by the interval alone"),
        "{text}"
    );
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
fn a_stored_bridge_knows_what_it_was_fitted_on() {
    let bench = files();
    let fit = |from: &str, to: &str, out: &str| {
        bench.succeed(&[
            "bridge",
            "fit",
            "--kind",
            "orthogonal",
            "--from",
            from,
            "--to",
            to,
            "--out",
            out,
        ]);
    };
    let certified = |more: &[&str]| {
        let ended = certify(&bench, more);
        (ended.code, document(&ended))
    };
    let reasons = |found: &Value| found["tasks"][0]["reasons"].to_string();
    // Other inputs, as they should be.
    fit("new-fit.jsonl", "old-fit.jsonl", "other");
    let (code, found) = certified(&["--bridge", "other", "--route", "dual"]);
    assert_eq!((code, &found["finding"]), (Some(0), &json!("compatible")));
    assert_eq!(found.get("warnings"), None, "{found}");
    // What a route has no use for is refused, not ignored.
    for (more, problem) in [
        (["--bridge", "other", "--route", "own"], "--bridge"),
        (["--bridge", "other", "--weight", "0.5"], "--weight"),
    ] {
        certify(&bench, &more).assert_wrong_usage(&[problem]);
    }
    // The same values.
    fit("new-queries.jsonl", "old-queries.jsonl", "seen");
    let (code, found) = certified(&["--bridge", "seen", "--route", "dual"]);
    assert_eq!((code, &found["finding"]), (Some(3), &json!("cannot-tell")));
    assert!(
        reasons(&found).contains("300 queries of the evaluation set were used"),
        "{found}"
    );
    // Stored vectors mapped: from the old to the new space.
    fit("old-gallery.jsonl", "new-gallery.jsonl", "back");
    let (_, found) = certified(&["--bridge", "back", "--route", "mapped"]);
    assert!(reasons(&found).contains("300 gallery items"), "{found}");
    // The same inputs by id, embedded somewhat differently.
    for encoder in ["old", "new"] {
        let moved = lines(encoder, 10, 100, false).replace("\"10-", "\"20-");
        bench.write(&format!("{encoder}-moved.jsonl"), &moved);
    }
    fit("new-moved.jsonl", "old-moved.jsonl", "moved");
    let (_, found) = certified(&["--bridge", "moved"]);
    assert_eq!(found["finding"], "cannot-tell");
    assert!(
        reasons(&found).contains("100 queries") && reasons(&found).contains("ids"),
        "{found}"
    );
    // A bridge that does not say what it was fitted on, as earlier programs wrote them.
    let read = |name: &str| perennial_formats::read(&bench.path(name)).unwrap();
    let (new, old) = (read("new-fit.jsonl"), read("old-fit.jsonl"));
    let pairs = Pairs::new(new.vectors(), new.dim(), old.vectors(), old.dim()).unwrap();
    let spaces = [new.dim(), old.dim()].map(SpaceRef::unnamed);
    let [from, to] = spaces;
    let bridge = perennial_bridge::fit(&pairs, &Recipe::Orthogonal, from, to).unwrap();
    bridge.write(bench.path("early")).unwrap();
    let (code, found) = certified(&["--bridge", "early"]);
    assert_eq!((code, &found["finding"]), (Some(0), &json!("compatible")));
    assert!(
        found["warnings"]
            .to_string()
            .contains("cannot tell whether fit and evaluation overlap"),
        "{found}"
    );
    // Advice fits its own bridges.
    let advice = bench.answer(
        &[
            &["advise"],
            &EVALUATION[..],
            &[
                "--fit-from",
                "new-gallery.jsonl",
                "--fit-to",
                "old-gallery.jsonl",
            ],
        ]
        .concat(),
    );
    let task = &advice["tasks"][0];
    for way in task["ways"].as_array().unwrap() {
        let bridged = way.get("bridge").is_some();
        assert_eq!(way["finding"] == "cannot-tell", bridged, "{way}");
    }
    let reason = task["recommendation"]["reason"].as_str().unwrap();
    assert!(
        reason.contains("cannot tell") && reason.contains("300 gallery items"),
        "{reason}"
    );
}

#[test]
fn flips_are_shown_with_pictures_where_there_are_some() {
    let bench = files();
    let page = |name: &str, more: &[&str]| {
        certify(&bench, &[&["--html", name], more].concat());
        bench.read(name)
    };
    // Without pictures: ids and classes.
    let plain = page("plain.html", &[]);
    assert!(
        plain.contains("id=\"flips\"") && !plain.contains("<img"),
        "{plain}"
    );
    assert!(plain.contains("<b>20-"), "{plain}");
    // With a thumbnail in the payload of each query, larger than it is shown, and a file beside the gallery's.
    let png = |side: usize| encode_png(&vec![120; 3 * side * side], [3, side, side]).unwrap();
    let uri = format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png(200)));
    let with = |file: &str, key: &str, text: &str| {
        let lines = bench.read(file);
        let lines = lines.lines().map(|line| {
            let mut row: Value = serde_json::from_str(line).unwrap();
            row[key] = json!(text);
            format!("{row}\n")
        });
        bench.write(file, &lines.collect::<String>());
    };
    with("old-queries.jsonl", "thumbnail", &uri);
    with("new-gallery.jsonl", "file", "one.png");
    std::fs::write(bench.path("one.png"), png(64)).unwrap();
    let pictured = page("pictured.html", &[]);
    let shown = pictured.matches("src=\"data:image/jpeg;base64,").count();
    // At most twelve flips of each kind, with a query and two hits each.
    assert!(shown > 0 && shown % 3 == 0 && shown <= 72, "{shown}");
    assert!(!pictured.contains("data:image/png"));
    assert!(pictured.len() < 1 << 20, "{}", pictured.len());
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
    assert!(task["curve_merge"]["kind"].is_string(), "{task}");
    let text = bench.succeed(&arguments);
    assert!(text.contains("->") && text.contains("merged by"), "{text}");

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
    let recommendation = &advice["tasks"][0]["recommendation"];
    if recommendation["kind"] == "do-nothing" {
        let reason = recommendation["reason"].as_str().unwrap();
        assert!(reason.contains("150 of the 300 queries"), "{reason}");
    }
}

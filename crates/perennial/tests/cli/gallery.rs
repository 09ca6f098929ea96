//! `gallery` and `models promote`, without a server.

use serde_json::{Value, json};

use crate::bench::{Bench, Ended};

/// Three versions, the first of which has embedded 2,000 images for the gallery.
pub fn stocked() -> Bench {
    let bench = Bench::new();
    bench.succeed(&["train", "toy.toml", "--set", "training.epochs=1"]);
    bench.succeed(&["models", "alias", "live", "v0001"]);
    let added = bench.answer(&["gallery", "add", "--set", "generated:test"]);
    assert_eq!(
        [&added["model_version"], &added["inserted"], &added["items"]],
        [&json!("v0001"), &json!(2000), &json!(2000)]
    );
    bench
}

fn search(bench: &Bench, arguments: &[&str]) -> Vec<Value> {
    let answer = bench.answer(&[&["gallery", "search"], arguments].concat());
    answer["hits"].as_array().unwrap().clone()
}

#[test]
fn what_is_added_is_found_counted_and_deleted() {
    let bench = stocked();
    let hits = search(&bench, &["--id", "generated/7", "--limit", "3"]);
    assert_eq!(hits.len(), 3);
    assert_eq!(hits[0]["id"], "generated/7");
    assert!((hits[0]["score"].as_f64().unwrap() - 1.0).abs() < 1e-4);
    let labelled = search(&bench, &["--id", "generated/7", "--label", "3"]);
    assert!(labelled.iter().all(|hit| hit["label"] == 3), "{labelled:?}");

    for (mistaken, parts) in [
        (
            &["search", "--id", "generated/7", "--limit", "0"][..],
            &["limit must be 1 to 1000"][..],
        ),
        (
            &["search", "--id", "generated/7", "--label", "cats"],
            &["--label", "whole numbers"],
        ),
        (
            &["delete", "--label", "cats"],
            &["--label", "whole numbers"],
        ),
        (&["search", "--text", "a cat"], &["pictures, not texts"]),
        (&["add", "toy.toml"], &["toy.toml: is not a folder"]),
    ] {
        let ended = bench.run(&[&["gallery"], mistaken].concat());
        assert_eq!(ended.code, Some(2), "{ended:?}");
        for part in parts {
            assert!(ended.stderr.contains(part), "{part}: {ended:?}");
        }
    }

    // So it is with fewer instructions than the processor has, and with none that nobody knows.
    let arguments = [
        "gallery",
        "search",
        "--id",
        "generated/7",
        "--limit",
        "3",
        "--json",
    ];
    let limited_to = |instructions: &str| {
        let mut command = bench.command(&arguments);
        let ended = command.env("PERENNIAL_INSTRUCTIONS", instructions).output();
        Ended::from(ended.unwrap())
    };
    let answer: Value = serde_json::from_str(&limited_to("avx2").stdout).unwrap();
    assert_eq!(answer["hits"].as_array(), Some(&hits));
    limited_to("avx3").assert_wrong_usage(&["PERENNIAL_INSTRUCTIONS", "avx2", "got avx3"]);

    // Adding again replaces.
    let again = bench.answer(&["gallery", "add", "--set", "generated:test"]);
    assert_eq!(
        [&again["inserted"], &again["replaced"]],
        [&json!(0), &json!(2000)]
    );

    let snapshot = bench.answer(&["gallery", "snapshot", "all.snapshot"]);
    assert_eq!(snapshot["items"], 2000);
    let deleted = bench.answer(&["gallery", "delete", "generated/7", "generated/8", "none"]);
    assert_eq!(deleted["deleted"], 2);
    let stats = bench.answer(&["gallery", "stats"]);
    assert_eq!(stats["per_version"], json!({ "v0001": 1998 }));
    assert_eq!(stats["dim"], 15);
    bench.succeed(&["gallery", "--gallery", "other", "restore", "all.snapshot"]);
    let restored = bench.answer(&["gallery", "--gallery", "other", "stats"]);
    assert_eq!(restored["items"], 2000);
    bench
        .run(&["gallery", "delete"])
        .assert_wrong_usage(&["--all"]);
}

#[test]
fn an_image_file_is_a_query() {
    let bench = stocked();
    let png = perennial_encode::encode_png(&[200; 3 * 40 * 50], [3, 40, 50]).unwrap();
    std::fs::write(bench.path("query.png"), png).unwrap();
    let hits = search(&bench, &["query.png", "--limit", "2"]);
    assert_eq!(hits.len(), 2);
    bench.write("query.png", "no image");
    let ended = bench.run(&["gallery", "search", "query.png"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("query.png"), "{}", ended.stderr);
    bench
        .run(&["gallery", "--gallery", "nowhere", "stats"])
        .assert_wrong_usage(&["nowhere", "gallery add"]);
}

#[test]
fn versions_that_were_never_measured_do_not_meet() {
    let bench = stocked();
    bench
        .run(&[
            "gallery",
            "add",
            "--set",
            "generated:train",
            "--model",
            "v0002",
        ])
        .assert_gate_missed(&[
            "v0002",
            "v0001",
            "never measured",
            "perennial evaluate --versions v0001 v0002",
            "--force",
        ]);
    let mixed = |more: &[&str]| bench.run(&[&["gallery", "--gallery", "mixed"], more].concat());
    for (model, prefix) in [("v0001", "old"), ("v0002", "new")] {
        let added = mixed(&[
            "add",
            "--set",
            "generated:test",
            "--model",
            model,
            "--prefix",
            prefix,
            "--force",
        ]);
        assert_eq!(added.code, Some(0), "{}", added.stderr);
    }
    // What was forced in may be searched from then on; of a pair that nobody forced, the other's items are left out.
    let found = mixed(&["search", "--id", "new/7"]);
    assert!(found.stdout.contains("new/7"), "{}", found.stderr);
    std::fs::remove_file(bench.path("mixed/accepted.toml")).unwrap();
    let apart = mixed(&["search", "--id", "new/7", "--limit", "50"]).stdout;
    assert!(
        apart.contains("new/7") && !apart.contains("old/"),
        "{apart}"
    );
    assert!(
        apart.contains("2000 stored items of v0001 were not searched"),
        "{apart}"
    );
    assert!(
        apart.contains("run `perennial evaluate --versions v0001 v0002"),
        "{apart}"
    );
    mixed(&["search", "--id", "new/7", "--model-version", "v0001"])
        .assert_gate_missed(&["v0002", "v0001", "--force"]);
    for allowed in [&["--model-version", "v0002"][..], &["--force"]] {
        let found = mixed(&[&["search", "--id", "new/7"], allowed].concat());
        assert!(found.stdout.contains("new/7"), "{}", found.stderr);
    }

    // A key in the environment is the service's; without one it is not needed.
    let refused = bench
        .command(&["models", "promote", "v0002"])
        .env("PERENNIAL_WRITE_KEY", "not needed without a service")
        .output();
    let refused = Ended::from(refused.unwrap());
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(
        refused.stdout.contains("FAILED  compatibility with v0001"),
        "{}",
        refused.stdout
    );
    let aliases = || bench.read("registry/aliases.toml");
    assert!(!aliases().contains("previous"));

    // A measurement decides, whichever way it goes; force overrules it.
    bench.succeed(&["evaluate", "toy"]);
    let pairs = bench.json("registry/compatibility.json")["records"].clone();
    let pairs = pairs.as_array().unwrap();
    let pair = pairs
        .iter()
        .find(|pair| pair["query_version"] == "v0002" && pair["gallery_version"] == "v0001");
    let high = pair.unwrap()["interval"]["high"].as_f64().unwrap();
    // An undecided pair passes with a warning.
    let compatible = high >= 0.0;
    let asked = bench.run(&["models", "promote", "v0002", "--dry-run"]);
    assert_eq!(asked.code, Some(if compatible { 0 } else { 3 }));
    let forced = bench.answer(&["models", "promote", "v0002", "--force"]);
    assert_eq!(
        [&forced["moved"], &forced["previous"]],
        [&json!(true), &json!("v0001")]
    );
    assert!(aliases().contains("live = \"v0002\""));
    let back = bench.answer(&["models", "rollback"]);
    assert_eq!(back["version"], "v0001");
    assert!(aliases().contains("live = \"v0001\""));
    bench.succeed(&[
        "gallery",
        "add",
        "--set",
        "generated:train",
        "--model",
        "v0002",
        "--prefix",
        "more",
        "--force",
    ]);
    let stats = bench.answer(&["gallery", "stats"]);
    assert_eq!(
        stats["per_version"],
        json!({ "v0001": 2000, "v0002": 2000 })
    );
}

#[test]
fn what_force_overruled_counts_once_items_are_stored() {
    let bench = stocked();
    for version in ["v0001", "v0002"] {
        let file = format!("{version}.safetensors");
        bench.succeed(&["embed", version, "--set", "generated:test", "--out", &file]);
    }
    let accepted = bench.path("gallery/accepted.toml");
    let add = |more: &[&str]| bench.run(&[&["gallery", "add", "--force"], more].concat());
    // No id may be so long, which the store notices when it is to write.
    let long = "x".repeat(1100);
    let failed = add(&["--embeddings", "v0002.safetensors", "--prefix", &long]);
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    assert!(failed.stderr.contains("1024"), "{}", failed.stderr);
    assert!(!accepted.exists());
    let versions = |bench: &Bench| bench.answer(&["gallery", "stats"])["per_version"].clone();
    assert_eq!(versions(&bench), json!({ "v0001": 2000 }));
    bench
        .run(&["gallery", "add", "--embeddings", "v0002.safetensors"])
        .assert_gate_missed(&["v0002", "v0001", "--force"]);

    let stored = add(&["--embeddings", "v0002.safetensors", "--prefix", "new"]);
    assert_eq!(stored.code, Some(0), "{}", stored.stderr);
    let both = json!({ "v0001": 2000, "v0002": 2000 });
    assert_eq!(versions(&bench), both);
    // The pairs without the time at which each was accepted: the record is written anew below, perhaps within another second.
    let pairs = || {
        let mut content: toml::Table =
            toml::from_str(&std::fs::read_to_string(&accepted).unwrap()).unwrap();
        for pair in content["pair"].as_array_mut().unwrap() {
            pair.as_table_mut().unwrap().remove("accepted").unwrap();
        }
        content
    };
    let kept = pairs();
    assert!(kept.to_string().contains("v0002"), "{kept}");

    // Where the process ended between the write and the record, the same command makes up for it, also where nothing is left to store.
    std::fs::remove_file(&accepted).unwrap();
    std::fs::create_dir(bench.path("photos")).unwrap();
    let png = perennial_encode::encode_png(&[200; 3 * 40 * 50], [3, 40, 50]).unwrap();
    std::fs::write(bench.path("photos/grey.png"), png).unwrap();
    let photos = ["photos", "--model", "v0002"];
    assert_eq!(add(&photos).code, Some(0));
    std::fs::remove_file(&accepted).unwrap();
    let again = add(&photos);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(again.stdout.contains("1  unchanged"), "{}", again.stdout);
    assert_eq!(pairs(), kept);
}

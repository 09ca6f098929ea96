//! `evaluate` and `embed`: caching, reports, gates, embeddings from elsewhere.

use std::collections::BTreeMap;
use std::time::SystemTime;

use perennial_core::Registry;
use perennial_encode::{EncodeError, Encoder, Input};
use perennial_train::state_dict::{from_safetensors, to_safetensors};
use perennial_train::{Device, SetConfig, TrainedEncoder};
use serde_json::json;

use crate::bench::Bench;

fn trained() -> Bench {
    let bench = Bench::new();
    bench.succeed(&["train", "toy.toml", "--set", "training.epochs=1"]);
    bench
}

fn modification_times(bench: &Bench) -> BTreeMap<String, SystemTime> {
    let entries = std::fs::read_dir(bench.path("runs/toy/embeddings")).unwrap();
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, entry.metadata().unwrap().modified().unwrap())
        })
        .collect()
}

#[test]
fn a_second_evaluation_reuses_every_embedding() {
    let bench = trained();
    let first = bench.answer(&["evaluate", "toy"]);
    assert_eq!(first["versions"], json!(["v0001", "v0002", "v0003"]));
    assert_eq!(first["pairs"].as_array().unwrap().len(), 3);
    let files = modification_times(&bench);
    assert_eq!(files.len(), 6, "3 versions on 2 sets: {files:?}");

    let ended = bench.run(&["evaluate", "runs/toy", "--json"]);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&ended.stdout).unwrap(),
        first
    );
    assert_eq!(
        ended.stderr.matches("embedded before").count(),
        6,
        "{}",
        ended.stderr
    );
    assert_eq!(modification_times(&bench), files);
    assert_eq!(bench.json("runs/toy/compatibility.json"), first);
    assert!(bench.read("runs/toy/report.html").contains("v0003"));

    // Queries that find themselves measure nothing.
    let same = "{ set = \"generated\", split = \"test\", generated = { classes = 3, images_per_class = 8, first_class = 50, seed = 2 } }";
    let ended = bench.run(&["evaluate", "toy", "--out", "one-set", "--queries", same]);
    ended.assert_wrong_usage(&["are the same images", "find itself"]);
    let part = "{ set = \"generated\", images_per_class = 5, generated = { classes = 3, images_per_class = 8, first_class = 50, seed = 2 } }";
    let ended = bench.run(&["evaluate", "toy", "--out", "one-set", "--queries", part]);
    ended.assert_wrong_usage(&["15 of 15 queries", "find themselves"]);
    assert_eq!(modification_times(&bench).len(), 6);

    // Damage is noticed and repaired; another set shares nothing.
    let damaged = files.keys().next().unwrap();
    bench.write(&format!("runs/toy/embeddings/{damaged}"), "not embeddings");
    assert_eq!(bench.answer(&["evaluate", "toy"]), first);
    let others = "{ set = \"generated\", generated = { classes = 3, images_per_class = 10, first_class = 50, seed = 3 } }";
    let other = bench.answer(&["evaluate", "toy", "--queries", others]);
    assert_eq!(other["queries"]["count"], 30);
    assert_eq!(modification_times(&bench).len(), 9);
}

#[test]
fn pairs_are_recorded_in_the_registry_once() {
    let bench = trained();
    let report = bench.answer(&["evaluate", "toy"]);
    bench.succeed(&["evaluate", "toy", "--seed", "5"]);
    let found = bench.json("registry/compatibility.json");
    assert_eq!(found["schema_version"], 1);
    let records = found["records"].as_array().unwrap();
    assert_eq!(records.len(), 6, "three pairs in both directions");
    assert_eq!(records[0]["query_version"], "v0002");
    assert_eq!(records[0]["gallery_version"], "v0001");
    assert_eq!(records[0]["cross_test"], report["matrix"][1][0]);
    assert_eq!(records[0]["self_test"], report["matrix"][0][0]);
    assert_eq!(records[0]["gallery"]["sha256"], report["gallery"]["sha256"]);
    assert_eq!(
        bench.weights("registry").len(),
        3,
        "the records are no version"
    );
}

#[test]
fn a_missed_gate_is_exit_code_3_after_the_result() {
    let bench = trained();
    let ended = bench.run(&["evaluate", "toy", "--min-aa", "1"]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("quality gate missed: AA 0."),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stdout.contains("AC   average compatibility"),
        "{}",
        ended.stdout
    );
    bench.succeed(&[
        "evaluate", "toy", "--min-ac", "0", "--min-aa", "0.01", "--quiet",
    ]);
    let percent = bench.run(&["evaluate", "toy", "--min-aa", "40"]);
    assert_eq!(percent.code, Some(2));
    assert!(
        percent.stderr.contains("write it as a fraction: 0.4"),
        "{}",
        percent.stderr
    );
}

#[test]
fn embeddings_from_files_give_the_same_matrix() {
    let bench = trained();
    let report = bench.answer(&[
        "evaluate",
        "toy",
        "--queries",
        "generated:test",
        "--gallery",
        "generated:train",
    ]);
    for (side, set) in [
        ("queries", "generated:test"),
        ("gallery", "generated:train"),
    ] {
        std::fs::create_dir_all(bench.path(&format!("made/{side}"))).unwrap();
        for version in ["v0001", "v0002"] {
            let file = format!("made/{side}/{version}.safetensors");
            let answer = bench.answer(&["embed", version, "--set", set, "--out", &file]);
            assert_eq!(
                (&answer["count"], &answer["dim"]),
                (&json!(2000), &json!(15))
            );
        }
    }
    let from_folder = bench.answer(&["evaluate", "--embeddings", "made"]);
    assert_eq!(from_folder["matrix"][1], report["matrix"][1]);
    let file = |side: &str, version: &str| format!("made/{side}/{version}.safetensors");
    let (q1, q2) = (file("queries", "v0001"), file("queries", "v0002"));
    let (g1, g2) = (file("gallery", "v0001"), file("gallery", "v0002"));
    let from_files = bench.answer(&[
        "evaluate",
        "--query-embeddings",
        &q1,
        &q2,
        "--gallery-embeddings",
        &g1,
        &g2,
        "--out",
        "report",
    ]);
    assert_eq!(from_files, from_folder);
    assert_eq!(bench.json("report/compatibility.json"), from_files);
    bench
        .run(&[
            "evaluate",
            "--query-embeddings",
            &q1,
            &q2,
            "--gallery-embeddings",
            &g2,
            &g1,
        ])
        .assert_wrong_usage(&["v0001", "v0002", "same order"]);
    bench
        .run(&[
            "evaluate",
            "--query-embeddings",
            &q1,
            "--gallery-embeddings",
            &g1,
            &g2,
        ])
        .assert_wrong_usage(&["1 files of query embeddings and 2"]);
}

#[test]
fn a_pretrained_model_has_no_probe_sets_of_its_own() {
    let bench = trained();
    let text = bench.read("runs/toy/experiment.toml");
    let without = text.split("[evaluation").next().unwrap();
    bench.write("runs/toy/experiment.toml", without);
    bench
        .run(&["evaluate", "toy"])
        .assert_wrong_usage(&["[evaluation.queries]", "--queries SET:SPLIT"]);
}

/// A version whose last ReLU lets nothing through for some images: they have no features, and so no embedding.
#[test]
fn images_without_an_embedding_count_as_misses_and_are_told() {
    let bench = trained();
    let registry = Registry::open(bench.path("registry")).unwrap();
    let version = registry.get("v0002").unwrap();
    let bytes = registry.load_weights(&version).unwrap();
    let weights = from_safetensors(&bytes, "test").unwrap();
    let table = "generated = { classes = 3, images_per_class = 10, first_class = 50, seed = 3 }";
    let set: SetConfig = toml::from_str(&format!("set = \"generated\"\n{table}")).unwrap();
    let images = set.load(bench.path("nowhere").as_path()).unwrap();
    // Publishes the version with a higher threshold, and counts what has no embedding.
    let with_threshold = |threshold: f32| {
        let mut weights = weights.clone();
        for (name, tensor) in &mut weights {
            if name.ends_with("layers.3.norm.bias") {
                tensor
                    .values
                    .iter_mut()
                    .for_each(|value| *value -= threshold);
            }
        }
        let bytes = to_safetensors(&weights, None).unwrap();
        let version = registry.publish(version.draft(), &bytes).unwrap();
        let encoder = TrainedEncoder::load(&registry, version, &Device::flex()).unwrap();
        let prepared: Vec<_> = (0..images.len())
            .map(|image| {
                let (pixels, shape) = (images.image(image), images.shape());
                encoder.prepare(Input::Pixels { pixels, shape }).unwrap()
            })
            .collect();
        let rows = encoder.encode_with_missing(&prepared).unwrap();
        let rows: Vec<&[f32]> = rows.chunks_exact(encoder.dim()).collect();
        let missing: Vec<usize> = (0..rows.len())
            .filter(|&row| rows[row].iter().all(|&value| value == 0.0))
            .collect();
        // Everything but measurements refuses such an image.
        if let Some(&input) = missing.first() {
            let refused = encoder.encode(&prepared).unwrap_err();
            assert_eq!(refused, EncodeError::NonFinite { input });
        }
        (encoder.version().name.clone(), missing.len())
    };
    let (mut low, mut high) = (0.0, 64.0);
    let (name, missing) = loop {
        let threshold = (low + high) / 2.0;
        match with_threshold(threshold) {
            (_, 0) => low = threshold,
            (_, missing) if missing > 15 => high = threshold,
            found => break found,
        }
        assert!(high - low > 1e-4, "no threshold between {low} and {high}");
    };

    let set = format!("{{ set = \"generated\", {table} }}");
    let gallery = set.replace("seed = 3", "seed = 4");
    let fit = "{ set = \"generated\", generated = { classes = 6, images_per_class = 20, first_class = 60, seed = 4 } }";
    let measure = |more: &[&str]| {
        let versions = ["evaluate", "--versions", "v0001", &name];
        let sets = ["--queries", &set, "--gallery", &gallery, "--out", "some"];
        bench.run(&[&versions[..], &sets, more, &["--json"]].concat())
    };
    let ended = measure(&[]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let told = format!("{missing} of 30 images have no embedding");
    assert!(ended.stderr.contains(&told), "{}", ended.stderr);
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let items = &report["without_embedding"][1]["gallery"];
    assert!(items.as_u64().unwrap() <= 30, "{items}");
    assert_eq!(
        report["without_embedding"],
        json!([{ "queries": 0, "gallery": 0 }, { "queries": missing, "gallery": items }])
    );
    let most = (30 - missing) as f64 / 30.0;
    for cell in [&report["matrix"][1][0], &report["matrix"][1][1]] {
        let value = cell.as_f64().unwrap();
        assert!(
            (0.0..=most).contains(&value),
            "{value} with {missing} missing"
        );
    }
    // From the embeddings on disk, and on the page.
    let again: serde_json::Value = serde_json::from_str(&measure(&[]).stdout).unwrap();
    assert_eq!(again, report);
    assert!(
        bench
            .read("some/report.html")
            .contains("Without an embedding")
    );

    let ended = measure(&[
        "--fit-set",
        fit,
        "--routes",
        "own",
        "centred",
        "bridged",
        "dual",
        "mapped",
    ]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let routes = bench.json("some/routes.json");
    let counted = &routes["without_embedding"][0];
    assert_eq!(
        [
            &counted["version"],
            &counted["queries"],
            &counted["gallery"]
        ],
        [&json!(name), &json!(missing), items]
    );
    assert_eq!(routes["routes"].as_array().unwrap().len(), 5);
    for route in routes["routes"].as_array().unwrap() {
        let cell = route["measures"][0]["matrix"][1][0].as_f64().unwrap();
        assert!((0.0..=most).contains(&cell), "{route}");
    }

    // What is measured for a certificate must be whole.
    let out = ["--set", &set, "--out", "some.safetensors"];
    let refused = bench.run(&[&["embed", &name][..], &out].concat());
    assert!(refused.code != Some(0), "{}", refused.stdout);
    assert!(refused.stderr.contains("all zeros"), "{}", refused.stderr);
}

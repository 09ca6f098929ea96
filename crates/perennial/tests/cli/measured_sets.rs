//! On what compatibility may be measured, and what is refused because it would tell nothing.

use serde_json::json;

use crate::bench::{Bench, EXPERIMENT};
use crate::gallery::stocked;

fn set(first: u32, images: u32, seed: u32) -> String {
    format!(
        "{{ set = \"generated\", generated = {{ classes = 3, images_per_class = {images}, first_class = {first}, seed = {seed} }} }}"
    )
}

#[test]
fn a_handful_of_queries_certifies_nothing() {
    let bench = stocked();
    bench.write("gallery/policy.toml", "min_margin = -1.0\n");
    let measure = |queries: &str| {
        let ended = bench.run(&[
            "evaluate",
            "--versions",
            "v0001",
            "v0002",
            "--queries",
            queries,
            "--gallery",
            "generated:test",
            "--json",
        ]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended
    };
    let few = measure(&set(0, 1, 9));
    assert!(
        few.stderr
            .contains("too few queries: 3, at least 30 are needed"),
        "{}",
        few.stderr
    );
    let report: serde_json::Value = serde_json::from_str(&few.stdout).unwrap();
    assert_eq!(report["pairs"][0]["verdict"], "undecided");
    let promote = || bench.run(&["models", "promote", "v0002", "--dry-run"]);
    let refused = promote();
    assert_eq!(refused.code, Some(3), "{}", refused.stdout);
    assert!(
        refused.stdout.contains("cannot tell: too few queries: 3"),
        "{}",
        refused.stdout
    );
    // More queries decide, although the first set was the small one, and the record keeps what changed.
    measure("generated:train");
    assert_eq!(promote().code, Some(0));
    let records = bench.json("registry/compatibility.json")["records"].clone();
    for record in records.as_array().unwrap() {
        let flips = |key: &str| record["flips"][key].as_f64().unwrap();
        let queries = record["queries"]["count"].as_f64().unwrap();
        let margin = (flips("positive") - flips("negative")) / queries;
        let found = record["margin"].as_f64().unwrap();
        assert!((margin - found).abs() < 1e-9, "{record}");
    }
}

#[test]
fn routes_have_no_gates_and_fit_outside_of_the_evaluation_set() {
    let bench = Bench::new();
    bench.write("toy.toml", EXPERIMENT);
    bench.succeed(&["train", "toy.toml"]);
    for more in [
        &["--min-ac", "0.5"][..],
        &["--min-aa", "0.5"],
        &["--tie", "strict"],
    ] {
        let routes = [&["evaluate", "toy"][..], more, &["--routes", "own"]].concat();
        let ended = bench.run(&routes);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        let problem = ["cannot be used with", more[0]].map(|part| ended.stderr.contains(part));
        assert_eq!(problem, [true; 2], "{}", ended.stderr);
    }
    let routes = |fit: &str, more: &[&str]| {
        let all = ["evaluate", "toy", "--routes", "centred", "--fit-set", fit];
        bench.run(&[&all[..], more].concat())
    };
    // The run's gallery, all of it, and a part of it.
    let gallery = set(50, 8, 2);
    routes(&gallery, &[]).assert_wrong_usage(&["--fit-set", "24 of 24 images"]);
    routes(&gallery, &["--fit-pairs", "1"]).assert_wrong_usage(&["--fit-set"]);
    routes(&gallery, &["--altered", "6"]).assert_wrong_usage(&["--fit-set"]);
    let other = routes(&set(80, 8, 2), &[]);
    assert_eq!(other.code, Some(0), "{}", other.stderr);
    let document = bench.json("runs/toy/routes.json");
    assert_eq!(document.get("fit_overlap"), None);
    let argument = document["fit_argument"].as_str().unwrap();
    assert!(argument.contains("first_class = 80"), "{argument}");
    // The queries are the gallery.
    bench
        .run(&["evaluate", "toy", "--queries", &gallery, "--routes", "own"])
        .assert_wrong_usage(&["are the same images"]);
}

#[test]
fn routes_of_one_version_are_written_and_have_no_margin() {
    let bench = Bench::new();
    let one = EXPERIMENT.replace("increment = 2", "increment = 2\ntasks = 1");
    bench.write("toy.toml", &one);
    bench.succeed(&["train", "toy.toml"]);
    bench.succeed(&["evaluate", "toy", "--routes", "own"]);
    let document = bench.json("runs/toy/routes.json");
    assert_eq!(document["versions"], json!(["v0001"]));
    assert_eq!(
        document["routes"][0]["measures"][0]["worst_margin"],
        json!(null)
    );
}

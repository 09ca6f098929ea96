//! `compare`: runs of several methods and seeds side by side.

use serde_json::{Value, json};

use crate::bench::Bench;

/// A run's folder below `runs`: configuration and record.
fn run_of(bench: &Bench, name: &str, kind: &str, seed: u64, more: &str) {
    std::fs::create_dir_all(bench.path("runs").join(name)).unwrap();
    bench.write(
        &format!("runs/{name}/experiment.toml"),
        &format!(
            "name = \"{name}\"\nseed = {seed}\n[data]\nset = \"cifar100\"\n[method]\nkind = \"{kind}\"\n{more}"
        ),
    );
    let tasks: Vec<Value> = (0..2)
        .map(
            |task| json!({ "task": task, "replacement": task == 1, "version": format!("v{task}") }),
        )
        .collect();
    let record = json!({
        "schema_version": 1, "command": "train", "name": name, "seed": seed, "status": "finished", "tasks": tasks, "executions": [],
    });
    bench.write(&format!("runs/{name}/run.json"), &record.to_string());
}

/// A report of two versions: self-tests 0.5 and 0.75, and the cross-test between them.
fn report(cross: f64) -> Value {
    let margin = cross - 0.5;
    let compatible = u8::from(margin > 0.0);
    let scores = |ncm: f64| json!({ "ncm_top1": ncm, "cmc1": 0.25, "cmc5": 0.5, "cmc10": 0.75, "map": 0.125 });
    let probe = |name: &str| json!({ "name": name, "count": 100, "sha256": "ab".repeat(32) });
    json!({
        "schema_version": 2,
        "versions": ["v0", "v1"],
        "queries": probe("cifar10/batch1"),
        "gallery": probe("cifar10/test"),
        "tie_rule": "strict",
        "bootstrap": { "resamples": 2000, "seed": 0 },
        "matrix": [[0.5], [cross, 0.75]],
        "metrics": {
            "tasks": 2,
            "average_compatibility": f64::from(compatible),
            "average_accuracy": (1.25 + cross) / 3.0,
            "average_compatible_accuracy": f64::from(compatible) * cross,
            "backward_compatibility": margin,
            "forward_compatibility": cross - 0.75,
            "incompatible_pairs_count": 1 - compatible,
            "average_accuracy_per_task": [0.5, (1.25 + cross) / 3.0],
            "average_compatibility_per_task": [null, f64::from(compatible)],
        },
        "pairs": [{
            "query_version": "v1",
            "gallery_version": "v0",
            "cross": cross,
            "self_old": 0.5,
            "margin": margin,
            "interval": { "low": margin - 0.0625, "high": margin + 0.0625 },
            "intervals": [{ "confidence": 0.95, "low": margin - 0.0625, "high": margin + 0.0625 }],
            "verdict": if margin > 0.0625 { "compatible" } else { "undecided" },
            "interval_excludes_zero": margin > 0.0625,
        }],
        "retrieval": [[scores(0.5)], [scores(cross), scores(0.75)]],
    })
}

fn measured(bench: &Bench, name: &str, kind: &str, seed: u64, cross: f64) {
    run_of(bench, name, kind, seed, "");
    bench.write(
        &format!("runs/{name}/compatibility.json"),
        &report(cross).to_string(),
    );
}

fn example() -> Bench {
    let bench = Bench::new();
    measured(&bench, "hoc-0", "hoc", 0, 0.625);
    measured(&bench, "hoc-1", "hoc", 1, 0.75);
    measured(&bench, "er-0", "er", 0, 0.25);
    bench
}

#[test]
fn seeds_of_a_method_are_summarised() {
    let bench = example();
    let answer = bench.answer(&["compare", "hoc-1", "er-0", "runs/hoc-0"]);
    let groups = answer["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 1, "{answer}");
    assert_eq!(groups[0]["scenario"], "cifar100, 2 tasks, 1 replacement");
    let methods = groups[0]["methods"].as_array().unwrap();
    assert_eq!(methods[0]["method"], "hoc");
    assert_eq!(methods[0]["seeds"], json!([0, 1]));
    assert_eq!(methods[1]["method"], "er");
    let cross = &methods[0]["measures"]["mean cross-test"];
    assert_eq!(cross["values"], json!([0.625, 0.75]));
    assert_eq!(cross["mean"], 0.6875);
    // The deviation of two values is their distance over the square root of 2.
    let deviation = cross["deviation"].as_f64().unwrap();
    assert!((deviation - 0.125 / 2f64.sqrt()).abs() < 1e-12);
    assert_eq!(methods[1]["measures"]["AC"]["mean"], 0.0);
    assert_eq!(methods[1]["measures"]["AC"]["interval"], Value::Null);
    assert_eq!(methods[1]["measures"]["recall@1 AA"]["mean"], 0.25);
}

#[test]
fn runs_that_differ_in_more_than_the_seed_are_other_methods() {
    let bench = example();
    run_of(&bench, "hoc-1", "hoc", 1, "reference = \"initial\"\n");
    let text = bench.succeed(&["compare", "hoc-0", "hoc-1"]);
    assert!(text.contains("hoc (reference unset)"), "{text}");
    assert!(text.contains("hoc (reference initial)"), "{text}");
    let answer = bench.answer(&["compare", "a method=hoc-0", "a method=hoc-1"]);
    let methods = answer["groups"][0]["methods"].as_array().unwrap();
    assert_eq!(methods.len(), 1);
    assert_eq!(methods[0]["method"], "a method");
}

#[test]
fn forms_and_files() {
    let bench = example();
    let csv = bench.succeed(&["compare", "hoc-0", "a, b=hoc-1", "--format", "csv"]);
    assert!(
        csv.starts_with("scenario,evaluation,method,measure,"),
        "{csv}"
    );
    assert!(csv.contains(",\"a, b\",AC,1,1,1,"), "{csv}");
    let markdown = bench.succeed(&["compare", "hoc-0", "hoc-1"]);
    assert!(
        markdown.contains("| hoc    |    2 | 1.0000 ± 0.0000 |"),
        "{markdown}"
    );

    let to_file = [
        "compare",
        "hoc-0",
        "x_1=hoc-1",
        "--format",
        "latex",
        "--out",
        "t.tex",
    ];
    for _ in 0..2 {
        assert!(bench.succeed(&to_file).is_empty());
    }
    let latex = bench.read("t.tex");
    assert!(latex.contains("\nx\\_1 & 1 & 1.0000 & "), "{latex}");
    bench.write("notes.txt", "mine");
    bench
        .run(&["compare", "hoc-0", "--out", "notes.txt"])
        .assert_wrong_usage(&["notes.txt", "is not a comparison"]);
}

#[test]
fn published_figures_stand_beside_runs_of_their_scenario() {
    let bench = Bench::new();
    run_of(&bench, "er", "er", 0, "");
    let pretrained = bench.read("runs/er/experiment.toml");
    bench.write(
        "runs/er/experiment.toml",
        &format!("initial_model = \"first\"\n{pretrained}"),
    );
    let versions: Vec<String> = (0..7).map(|number| format!("v{number}")).collect();
    let tasks: Vec<Value> = (0..7)
        .map(|task| json!({ "task": task, "replacement": (task == 2 || task == 4), "version": versions[task] }))
        .collect();
    let record = json!({
        "schema_version": 1, "command": "train", "name": "er", "seed": 0, "status": "finished", "tasks": tasks, "executions": [],
    });
    bench.write("runs/er/run.json", &record.to_string());
    // Every test has the same accuracy: no pair is compatible by the strict rule.
    let scores = json!({ "ncm_top1": 0.5, "cmc1": 0.25, "cmc5": 0.5, "cmc10": 0.75, "map": 0.125 });
    let triangle = |value: &Value| -> Vec<Vec<Value>> {
        (1..=7).map(|row| vec![value.clone(); row]).collect()
    };
    let mut pairs = Vec::new();
    for (number, query) in versions.iter().enumerate() {
        for gallery in &versions[..number] {
            let mut pair = report(0.5)["pairs"][0].clone();
            pair["query_version"] = json!(query);
            pair["gallery_version"] = json!(gallery);
            pairs.push(pair);
        }
    }
    let mut whole = report(0.5);
    whole["versions"] = json!(versions);
    whole["matrix"] = json!(triangle(&json!(0.5)));
    whole["retrieval"] = json!(triangle(&scores));
    whole["pairs"] = json!(pairs);
    let mut compatibility = vec![json!(0.0); 7];
    compatibility[0] = Value::Null;
    whole["metrics"] = json!({
        "tasks": 7,
        "average_compatibility": 0.0,
        "average_accuracy": 0.5,
        "average_compatible_accuracy": 0.0,
        "backward_compatibility": 0.0,
        "forward_compatibility": 0.0,
        "incompatible_pairs_count": 21,
        "average_accuracy_per_task": vec![0.5; 7],
        "average_compatibility_per_task": compatibility,
    });
    bench.write("runs/er/compatibility.json", &whole.to_string());
    let text = bench.succeed(&["compare", "er"]);
    assert!(text.contains("## iamcl2r-7"), "{text}");
    assert!(text.contains("d-Simplex-HOC (published)"), "{text}");
    let answer = bench.answer(&["compare", "er"]);
    let method = &answer["groups"][0]["methods"][0];
    assert_eq!(method["published"]["average_accuracy"]["value"], 0.36);
}

#[test]
fn what_cannot_be_compared_says_what_to_do() {
    let bench = example();
    run_of(&bench, "new", "hoc", 5, "");
    bench
        .run(&["compare", "hoc-0", "new"])
        .assert_wrong_usage(&["compatibility.json", "perennial evaluate new"]);
    bench
        .run(&["compare", "hoc-0", "hoc-9"])
        .assert_wrong_usage(&["hoc-9 is not a run", "did you mean `hoc-"]);
    bench
        .run(&["compare", "hoc-0", "runs/hoc-0"])
        .assert_wrong_usage(&["seed 0 of method hoc", "pass each seed once"]);
    bench.write("damaged.json", "{\"kind\": \"perennial-certificate\"");
    let damaged = bench.run(&["compare", "damaged.json"]);
    assert_eq!(damaged.code, Some(1));
    assert!(
        damaged.stderr.contains("damaged.json"),
        "{}",
        damaged.stderr
    );
    assert_eq!(bench.run(&["compare"]).code, Some(2));
}

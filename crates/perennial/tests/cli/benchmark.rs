//! `bench compatibility`: training, measuring and listing whole benchmarks, interrupted or not.

use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bench::{Bench, EXPERIMENT, Ended};

/// Two methods with one and the other pre-trained model, routes and altered copies.
const DESCRIPTION: &str = r#"
name = "tiny"
seeds = [0, 1]
set = { scenario.tasks = 2 }
altered = 12

[[pretrained]]
config = "first.toml"

[[methods]]
name = "hoc"
config = "toy.toml"
set = { initial_model = "first" }

[[methods]]
name = "er"
title = "ordinary"
config = "toy.toml"
set = { method = { kind = "er" } }
routes = ["bridged", "mapped"]

[routes]
fit_set = "{ set = \"generated\", generated = { classes = 4, images_per_class = 8, first_class = 80 } }"
fit_pairs = [20]
mapped_kind = "ridge:0.01"

[[scenarios]]
name = "short"
title = "A short one"
set = { training.epochs = 2 }
seeds = [0]

[[scenarios]]
name = "long"
methods = ["hoc"]
method.hoc = { scenario.tasks = 3 }
"#;

/// A folder with the description, `toy.toml` without options of one method, and `first.toml`.
fn example() -> Bench {
    let bench = Bench::new();
    let (start, end) = (
        EXPERIMENT.find("[scenario]").unwrap(),
        EXPERIMENT.find("[training]").unwrap(),
    );
    let evaluation = EXPERIMENT.find("[evaluation.queries]").unwrap();
    let pretrain = [&EXPERIMENT[..start], &EXPERIMENT[end..evaluation]].concat();
    let pretrain = pretrain
        .replace("\"hoc\"", "\"simplex\"")
        .replace("\"toy\"", "\"first\"");
    bench.write("first.toml", &pretrain);
    bench.write("toy.toml", &EXPERIMENT.replace("vertices = 16\n", ""));
    bench.write(
        "tiny.toml",
        &DESCRIPTION.replace(
            "set = { initial_model = \"first\" }",
            "set = { initial_model = \"first\", method.vertices = 16 }",
        ),
    );
    bench
}

const RUN: [&str; 3] = ["bench", "compatibility", "tiny.toml"];

fn states(answer: &Value) -> Vec<(String, String)> {
    let runs = answer["runs"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    runs.iter()
        .map(|run| (text(&run["run"]), text(&run["state"])))
        .collect()
}

/// The results without the times, which no two executions share.
fn results(bench: &Bench) -> String {
    let text = bench.succeed(&[&RUN[..], &["--table"]].concat());
    let (results, times) = text.split_once("### Time and memory").unwrap();
    assert!(times.contains("training (min)"), "{times}");
    results.to_owned()
}

#[cfg(unix)]
fn press_ctrl_c(child: &Child) {
    let sent = std::process::Command::new("sh")
        .args(["-c", &format!("kill -INT {}", child.id())])
        .status();
    assert!(sent.unwrap().success());
}

/// Waits until a run has finished so many epochs, while the benchmark is at work.
fn wait_for(bench: &Bench, child: &mut Child, run: &str, epochs: usize) {
    let begun = Instant::now();
    let path = bench.path(&format!("runs/tiny/{run}/metrics.jsonl"));
    while std::fs::read_to_string(&path)
        .unwrap_or_default()
        .lines()
        .count()
        < epochs
    {
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
        assert!(begun.elapsed() < Duration::from_secs(120), "it hangs");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_benchmark_resumes_to_the_same_results() {
    let whole = example();
    let list = whole.answer(&[&RUN[..], &["--list"]].concat());
    let expected = ["short.hoc.0", "short.er.0", "long.hoc.0", "long.hoc.1"];
    let missing = expected.map(|run| (run.to_owned(), "missing".to_owned()));
    assert_eq!(states(&list), missing);
    assert_eq!(list["pretrained"][0]["run"], "first");
    assert_eq!(list["seconds_left"], Value::Null);
    let answer = whole.answer(&[&RUN[..], &["--jobs", "2"]].concat());
    assert_eq!(answer["done"], 4, "{answer}");
    assert_eq!(answer["seconds_left"], 0.0);
    let expected = results(&whole);
    for part in [
        "### A short one",
        "| ordinary ",
        "| ordinary + bridge, orthogonal, 20 images |",
        "| ordinary + mapped, ridge:0.01, 20 images |",
        "**Altered copies, recall@1",
        "**Half-old gallery**",
        "### long",
        "2 of 2 runs are done.",
    ] {
        assert!(expected.contains(part), "{part}: {expected}");
    }

    // The same, stopped in the middle of a training, and once more killed.
    let stopped = example();
    let mut child = stopped.command(&RUN).spawn().unwrap();
    wait_for(&stopped, &mut child, "short.er.0", 1);
    let list = stopped.answer(&[&RUN[..], &["--list"]].concat());
    let state = |list: &Value, run: &str| {
        let found = states(list).into_iter().find(|(name, _)| name == run);
        found.unwrap().1
    };
    assert_eq!(state(&list, "short.hoc.0"), "done");
    assert_ne!(state(&list, "short.er.0"), "missing");
    press_ctrl_c(&child);
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    let list = stopped.answer(&[&RUN[..], &["--list"]].concat());
    assert_eq!(state(&list, "long.hoc.0"), "missing");
    assert!(list["runs"][2]["seconds_left"].as_f64().unwrap() > 0.0);
    let kept = std::fs::metadata(stopped.path("runs/tiny/short.hoc.0/benchmark.json"));
    let kept = kept.unwrap().modified().unwrap();
    let weights = stopped.weights("registry");

    // What another process is at is left to it: its lock lasts as long as it lives.
    let mut child = stopped.command(&RUN).spawn().unwrap();
    wait_for(&stopped, &mut child, "long.hoc.0", 1);
    child.kill().unwrap();
    child.wait().unwrap();
    // The training that it had begun goes on by itself, and is left to itself until it ends.
    let begun = Instant::now();
    while stopped.answer(&RUN)["done"] != 4 {
        assert!(begun.elapsed() < Duration::from_secs(120), "it never ends");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(results(&stopped), expected);
    let again = std::fs::metadata(stopped.path("runs/tiny/short.hoc.0/benchmark.json"));
    assert_eq!(again.unwrap().modified().unwrap(), kept);
    assert!(stopped.weights("registry").starts_with(&weights));

    // A document's section; a second time changes nothing.
    let document = "# Results\n\n<!-- perennial bench compatibility, tiny: begin -->\n<!-- perennial bench compatibility, tiny: end -->\n\nmore\n";
    stopped.write("results.md", document);
    stopped.succeed(&[&RUN[..], &["--table", "results.md"]].concat());
    let written = stopped.read("results.md");
    assert!(written.starts_with("# Results\n\n<!--") && written.ends_with("-->\n\nmore\n"));
    assert!(written.contains(expected.trim_end()), "{written}");

    damaged_records_are_named(&stopped);
}

fn damaged_records_are_named(bench: &Bench) {
    let path = "runs/tiny/long.hoc.1/benchmark.json";
    let good: Value = bench.json(path);
    for (key, value, expected) in [
        ("run", "long.hoc.0".into(), "it is of the run long.hoc.0"),
        (
            "values",
            serde_json::json!({ "AC": 90.0 }),
            "`values.AC` is 90",
        ),
        ("surplus", 1.into(), "unknown field `surplus`"),
    ] {
        let mut bad = good.clone();
        bad[key] = value;
        bench.write(path, &bad.to_string());
        for what in ["--table", "--list"] {
            let ended = bench.run(&[&RUN[..], &[what]].concat());
            assert_eq!(ended.code, Some(1), "{}", ended.stderr);
            let named = ended
                .stderr
                .contains("long.hoc.1/benchmark.json is damaged");
            assert!(named && ended.stderr.contains(expected), "{}", ended.stderr);
        }
    }
    // A configuration that is none, and a record of another program, whose other keys do not matter.
    let mut bad = good.clone();
    bad["configuration"]["training"]["epoch"] = 2.into();
    bench.write(path, &bad.to_string());
    let ended = bench.run(&RUN);
    assert!(
        ended.stderr.contains("key `configuration`") && ended.stderr.contains("epoch"),
        "{}",
        ended.stderr
    );
    for version in [1, 9] {
        bench.write(path, &format!("{{\"schema_version\": {version}}}"));
        let ended = bench.run(&RUN);
        let expected = format!("long.hoc.1/benchmark.json: key `schema_version` is {version}");
        assert!(ended.stderr.contains(&expected), "{}", ended.stderr);
    }
    bench.write(path, "{");
    let ended = bench.run(&RUN);
    assert!(
        ended
            .stderr
            .contains("long.hoc.1/benchmark.json is damaged"),
        "{}",
        ended.stderr
    );
    // Removed, it is measured again, and nothing is trained again.
    std::fs::remove_file(bench.path(path)).unwrap();
    let list = bench.answer(&[&RUN[..], &["--list"]].concat());
    assert_eq!(states(&list)[3].1, "trained");
    let weights = bench.weights("registry");
    bench.succeed(&RUN);
    assert_eq!(bench.weights("registry"), weights);
    assert_eq!(bench.json(path)["values"], good["values"]);
}

#[test]
fn records_outlast_runs_and_models() {
    let bench = example();
    let good = bench
        .read("tiny.toml")
        .replacen("altered = 12", "altered = 12\nrecords = \"kept\"", 1)
        .replacen("scenario.tasks = 3", "scenario.tasks = 2", 1)
        .replacen("seeds = [0, 1]", "seeds = [0]", 1);
    bench.write("tiny.toml", &good);
    let one = [&RUN[..], &["--scenario", "short"]].concat();
    assert_eq!(bench.answer(&one)["done"], 2);
    let names = |folder: &str| {
        let files = std::fs::read_dir(bench.path(folder)).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let both = ["short.er.0.json", "short.hoc.0.json"].map(str::to_owned);
    assert_eq!(names("kept/tiny"), both.clone().into());
    let expected = results(&bench);
    for file in &both {
        let size = std::fs::metadata(bench.path(&format!("kept/tiny/{file}"))).unwrap();
        assert!(size.len() < 40_000, "{file} has {} bytes", size.len());
    }
    // Another folder gets what the runs' folders have, and nothing is done again.
    let began = bench.read("runs/tiny/short.er.0/run.json");
    bench.succeed(&[&one[..], &["--records", "other"]].concat());
    assert_eq!(names("other/tiny"), both.into());
    assert_eq!(bench.read("runs/tiny/short.er.0/run.json"), began);

    // As in a fresh copy of the repository.
    for folder in ["runs", "registry", "other"] {
        std::fs::remove_dir_all(bench.path(folder)).unwrap();
    }
    assert_eq!(results(&bench), expected);
    let list = bench.answer(&[&RUN[..], &["--list"]].concat());
    let state = |run: usize| states(&list)[run].1.clone();
    assert_eq!([state(0), state(1), state(2)], ["done", "done", "missing"]);
    assert_eq!(list["pretrained"][0]["state"], "missing");
    assert_eq!(bench.answer(&one)["done"], 2);
    assert!(!bench.path("runs/tiny/short.er.0").exists());

    // Settings that changed since, of a run and of a model that it started from.
    for (from, to, expected) in [
        (
            "training.epochs = 2",
            "training.epochs = 3",
            &["tiny/short.hoc.0.json", "training.epochs: 2 then, 3 now"][..],
        ),
        (
            "config = \"first.toml\"",
            "config = \"first.toml\"\nset = { training.epochs = 7 }",
            &["tiny/short.hoc.0.json", "model first, training.epochs: "],
        ),
    ] {
        assert!(good.contains(from), "{from}");
        bench.write("tiny.toml", &good.replacen(from, to, 1));
        for what in ["--list", "--table"] {
            bench
                .run(&[&RUN[..], &[what]].concat())
                .assert_wrong_usage(expected);
        }
    }
    // Other tests than the record has: the run is open again.
    bench.write(
        "tiny.toml",
        &good.replacen("altered = 12", "altered = 6", 1),
    );
    let list = bench.answer(&[&RUN[..], &["--list"]].concat());
    assert_eq!(list["done"], 0);
}

#[test]
fn wrong_descriptions_name_the_key() {
    let bench = example();
    let good = bench.read("tiny.toml");
    for (from, to, expected) in [
        ("altered = 12", "alterd = 12", &["tiny.toml", "alterd"][..]),
        (
            "title = \"ordinary\"",
            "titel = \"x\"",
            &["methods.1.titel"],
        ),
        (
            "initial_model = \"first\"",
            "initial_model = \"second\"",
            &["model second", "`pretrained`"],
        ),
        (
            "training.epochs = 2",
            "training.epoch = 2",
            &["`set` of scenario short", "epoch"],
        ),
        ("\"toy.toml\"", "\"toi.toml\"", &["toi.toml does not exist"]),
    ] {
        bench.write("tiny.toml", &good.replacen(from, to, 1));
        bench.run(&RUN).assert_wrong_usage(expected);
    }
    bench.write("tiny.toml", &good);
    bench
        .run(&[&RUN[..], &["--scenario", "shirt"]].concat())
        .assert_wrong_usage(&["--scenario shirt", "short"]);
    bench.write("other.md", "no marks");
    bench
        .run(&[&RUN[..], &["--table", "other.md"]].concat())
        .assert_wrong_usage(&["other.md", "tiny: begin"]);
}

#[test]
fn failures_and_changed_settings_are_told() {
    let bench = example();
    // The first method's data does not exist, the second one's run works.
    let text = bench.read("tiny.toml").replacen(
        "set = { initial_model = \"first\", method.vertices = 16 }",
        "set = { data = { set = \"cifar10\" }, method.vertices = 16 }",
        1,
    );
    bench.write("tiny.toml", &text);
    let only = ["--scenario", "short"];
    let ended = bench.run(&[&RUN[..], &only, &["--json"]].concat());
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(answer["failures"][0]["name"], "short.hoc.0");
    assert_eq!(states(&answer)[1].1, "done");
    let problem = answer["failures"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("data.generated"), "{problem}");
    assert!(problem.contains("logs/short.hoc.0.log"), "{problem}");

    let changed = text.replacen("training.epochs = 2", "training.epochs = 3", 1);
    bench.write("tiny.toml", &changed);
    bench
        .run(&RUN)
        .assert_wrong_usage(&["short.er.0", "training.epochs: 2 then, 3 now"]);
}

#[test]
fn what_was_measured_or_made_by_other_settings_is_not_taken_over() {
    let bench = example();
    let text = bench.read("tiny.toml").replacen(
        "set = { scenario.tasks = 2 }",
        "set = { scenario.tasks = 2, training.start_share = 0.0 }",
        1,
    );
    bench.write("tiny.toml", &text);
    let only = [&RUN[..], &["--scenario", "short"]].concat();
    assert_eq!(bench.answer(&only)["done"], 2);
    // A `start_share` of 0 is none, on both sides.
    let list = bench.answer(&[&RUN[..], &["--list"]].concat());
    assert_eq!(states(&list)[0].1, "done");
    assert_eq!(states(&list)[1].1, "done");

    // Somebody measures the run anew, in his way.
    let run = "runs/tiny/short.er.0";
    bench.succeed(&["evaluate", run, "--tie", "ties-count", "--resamples", "10"]);
    let routes = format!("{run}/routes/classes-own");
    let own = ["evaluate", run, "--routes", "own", "--out", &routes];
    bench.succeed(&[&own[..], &["--resamples", "10"]].concat());
    std::fs::remove_file(bench.path(&format!("{run}/benchmark.json"))).unwrap();
    assert_eq!(bench.answer(&only)["done"], 2);
    let report = bench.json(&format!("{run}/compatibility.json"));
    assert_eq!(
        (&report["tie_rule"], &report["bootstrap"]["resamples"]),
        (&"strict".into(), &2000.into())
    );
    let routes = bench.json(&format!("{routes}/routes.json"));
    assert_eq!(routes["demands"]["bootstrap"]["resamples"], 2000);

    // The registry's model is of another seed than the description now says.
    for folder in ["runs/tiny", "runs/first"] {
        std::fs::remove_dir_all(bench.path(folder)).unwrap();
    }
    bench.write(
        "first.toml",
        &bench.read("first.toml").replace("seed = 1\n", "seed = 5\n"),
    );
    let ended = bench.run(&only);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended
            .stderr
            .contains("was made by other settings (seed: 1 there, 5 here)"),
        "{}",
        ended.stderr
    );
}

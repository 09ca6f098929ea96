//! Runs: resuming after a kill and after Ctrl-C, refusing to overwrite, the record.

use std::process::Child;
use std::time::{Duration, Instant};

use crate::bench::{Bench, Ended};

/// The run under test, in a registry of its own.
const TRAIN: [&str; 4] = ["train", "toy.toml", "--registry", "killed"];

/// Waits until the run has finished `epochs` epochs.
fn wait_for_epochs(bench: &Bench, child: &mut Child, epochs: usize) {
    let begun = Instant::now();
    loop {
        let text =
            std::fs::read_to_string(bench.path("runs/toy/metrics.jsonl")).unwrap_or_default();
        if text.lines().count() >= epochs {
            return;
        }
        assert!(
            child.try_wait().unwrap().is_none(),
            "the run ended before it could be disturbed"
        );
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the run does not get on"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn uninterrupted_weights(bench: &Bench) -> Vec<String> {
    bench.succeed(&[
        "train",
        "toy.toml",
        "--registry",
        "whole",
        "--runs",
        "whole-runs",
    ]);
    bench.weights("whole")
}

#[test]
fn a_killed_run_resumes_to_the_same_weights() {
    let bench = Bench::new();
    let expected = uninterrupted_weights(&bench);
    assert_eq!(expected.len(), 3);
    for epochs in [1, 4] {
        let mut child = bench
            .command(&TRAIN)
            .args(if epochs == 1 { &[][..] } else { &["--resume"] })
            .spawn()
            .unwrap();
        wait_for_epochs(&bench, &mut child, epochs);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    bench.succeed(&["train", "--resume", "runs/toy", "--registry", "killed"]);
    assert_eq!(bench.weights("killed"), expected);

    let record = bench.json("runs/toy/run.json");
    assert_eq!(record["status"], "finished");
    assert_eq!(record["tasks"].as_array().unwrap().len(), 3);
    assert_eq!(record["executions"].as_array().unwrap().len(), 3);
    assert_eq!(record["executions"][0]["status"], "running");
    assert!(
        record["executions"][2]["machine"]["cores"]
            .as_u64()
            .unwrap()
            >= 1
    );
    let epochs = bench.read("runs/toy/metrics.jsonl").lines().count();
    assert_eq!(epochs, 9, "no epoch is missing or recorded twice");
}

#[cfg(unix)]
#[test]
fn ctrl_c_writes_a_checkpoint_and_prints_the_command_that_resumes() {
    let bench = Bench::new();
    let expected = uninterrupted_weights(&bench);
    let mut child = bench.command(&TRAIN).spawn().unwrap();
    wait_for_epochs(&bench, &mut child, 2);
    let interrupted = std::process::Command::new("sh")
        .args(["-c", &format!("kill -INT {}", child.id())])
        .status()
        .unwrap();
    assert!(interrupted.success());
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert_eq!(bench.json("runs/toy/run.json")["status"], "interrupted");

    let command = ended.stdout.trim();
    assert!(
        command.ends_with("train --resume runs/toy --registry killed --device cpu"),
        "{command}"
    );
    let resumed = std::process::Command::new("sh")
        .args(["-c", command])
        .current_dir(bench.path(""))
        .output()
        .unwrap();
    assert!(
        resumed.status.success(),
        "{}",
        String::from_utf8_lossy(&resumed.stderr)
    );
    assert_eq!(bench.weights("killed"), expected);
}

#[test]
fn a_run_is_never_overwritten_and_resumes_only_as_it_began() {
    let bench = Bench::new();
    let answer = bench.answer(&["train", "toy.toml", "--set", "training.epochs=1"]);
    assert_eq!(answer["status"], "finished");
    assert_eq!(
        answer["versions"],
        serde_json::json!(["v0001", "v0002", "v0003"])
    );
    let before = bench.read("runs/toy/experiment.toml");

    bench
        .run(&["train", "toy.toml"])
        .assert_wrong_usage(&["runs/toy already holds a run", "--resume"]);
    let changed = bench.run(&["train", "toy.toml", "--resume"]);
    assert_eq!(changed.code, Some(2), "{}", changed.stderr);
    for says in [
        "configuration differs",
        "training.epochs was 1 and is 3;",
        "train --resume runs/toy",
    ] {
        assert!(changed.stderr.contains(says), "{}", changed.stderr);
    }
    assert_eq!(bench.read("runs/toy/experiment.toml"), before);

    bench
        .run(&["pretrain", "--resume", "runs/toy"])
        .assert_wrong_usage(&["`perennial train`"]);
    bench
        .run(&["train", "--resume", "runs/toy", "--seed", "3"])
        .assert_wrong_usage(&["remove --name, --seed and --set"]);
    bench
        .run(&["train", "--resume", "runs/tow"])
        .assert_wrong_usage(&["runs/tow"]);
    // Resuming what is finished changes nothing.
    let again = bench.answer(&["train", "--resume", "runs/toy"]);
    assert_eq!(again["versions"], answer["versions"]);
    assert_eq!(bench.weights("registry").len(), 3);
}

#[test]
fn pretraining_sets_the_alias_that_experiments_start_from() {
    let bench = Bench::new();
    let text = crate::bench::EXPERIMENT;
    let (start, end) = (
        text.find("[scenario]").unwrap(),
        text.find("[training]").unwrap(),
    );
    let evaluation = text.find("[evaluation.queries]").unwrap();
    let pretrain = [&text[..start], &text[end..evaluation]].concat();
    bench.write(
        "pretrain.toml",
        &pretrain
            .replace("\"hoc\"", "\"simplex\"")
            .replace("\"toy\"", "\"first\""),
    );
    let answer = bench.answer(&["pretrain", "pretrain.toml"]);
    assert_eq!(answer["alias"], "first");

    let one_task = [
        "--set",
        "scenario.tasks=1",
        "--set",
        "training.epochs=1",
        "--set",
        "initial_model=first",
    ];
    bench.succeed(&[&["train", "toy.toml"][..], &one_task].concat());
    let record = bench.json("runs/toy/run.json");
    assert_eq!(record["tasks"][0]["start"], "v0001");
    // 6 pre-trained and 12 local classes do not fit 16 vertices.
    let more = [
        "--set",
        "data.generated.classes=12",
        "--set",
        "initial_model=first",
        "--name",
        "more",
    ];
    bench
        .run(&[&["train", "toy.toml"][..], &more].concat())
        .assert_wrong_usage(&["0..6", "4..16"]);
}

//! `metrics`, `data show` and what needs no model.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::bench::{Bench, Ended};

fn golden(name: &str) -> (String, Value) {
    let path = format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
    let value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    (path, value)
}

#[test]
fn published_matrices_give_their_published_metrics() {
    let bench = Bench::new();
    for name in ["matrix_er_7tasks.json", "matrix_hoc_7tasks.json"] {
        let (path, expected) = golden(name);
        let answer = bench.answer(&["metrics", &path]);
        for (key, value) in expected["metrics"].as_object().unwrap() {
            let found = &answer["metrics"][key];
            let pairs: Vec<(&Value, &Value)> = match (value.as_array(), found.as_array()) {
                (Some(expected), Some(found)) => expected.iter().zip(found).collect(),
                _ => vec![(value, found)],
            };
            for (expected, found) in pairs {
                let (expected, found) = (expected.as_f64().unwrap(), found.as_f64().unwrap());
                assert!(
                    (expected - found).abs() < 1e-12,
                    "{name} {key}: {found} for {expected}"
                );
            }
        }
        assert_eq!(answer["matrix"], expected["matrix"]);
    }
}

#[test]
fn a_matrix_may_be_csv_from_a_file_or_a_pipe() {
    let bench = Bench::new();
    bench.write("m.csv", "0.60\n0.60, 0.70\n");
    assert!(bench.succeed(&["metrics", "m.csv"]).contains("1 of 1"));
    assert!(
        bench
            .succeed(&["metrics", "m.csv", "--tie", "ties-count"])
            .contains("0 of 1")
    );
    let mut child = bench
        .command(&["metrics", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"[[0.6],[0.7,0.8]]")
        .unwrap();
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert!(
        ended
            .stdout
            .contains("AC   average compatibility         1.0000"),
        "{ended:?}"
    );
    bench.write("percent.csv", "60\n61, 70\n");
    bench
        .run(&["metrics", "percent.csv"])
        .assert_wrong_usage(&["percent.csv", "divide all of them by 100"]);
}

#[test]
fn colours_stay_out_of_pipes() {
    let bench = Bench::new();
    let (path, _) = golden("matrix_er_7tasks.json");
    assert!(!bench.succeed(&["metrics", &path]).contains('\u{1b}'));
}

#[test]
fn sets_are_described() {
    let bench = Bench::new();
    let answer = bench.answer(&["data", "show", "generated:test"]);
    assert_eq!(
        (&answer["images"], &answer["classes"]),
        (&Value::from(2000), &Value::from(20))
    );
    assert_eq!(answer["sha256"].as_str().unwrap().len(), 64);
    bench
        .run(&["data", "show", "cifar10:test"])
        .assert_wrong_usage(&["test_batch.bin", "perennial data fetch cifar10"]);
    bench
        .run(&["data", "show", "cifar:test"])
        .assert_wrong_usage(&["`cifar`", "cifar100"]);
    assert_eq!(bench.run(&["data", "fetch", "cifar1000"]).code, Some(2));
}

#[cfg(feature = "fetch")]
#[test]
fn a_download_that_cannot_begin_names_the_archive() {
    let bench = Bench::new();
    let unreachable = bench.run(&[
        "data",
        "fetch",
        "cifar10",
        "--base-url",
        "http://127.0.0.1:9/",
    ]);
    assert_eq!(unreachable.code, Some(1), "{}", unreachable.stderr);
    assert!(
        unreachable.stderr.contains("cifar-10-binary.tar.gz"),
        "{}",
        unreachable.stderr
    );
}

#[test]
fn completions_and_manual_cover_every_command() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = bench.succeed(&["completions", shell]);
        for command in ["pretrain", "evaluate", "models"] {
            assert!(script.contains(command), "{command} in {shell}");
        }
    }
    assert!(bench.succeed(&["man"]).contains(".TH perennial 1"));
    bench.succeed(&["man", "--out", "pages"]);
    assert!(
        bench
            .read("pages/perennial-evaluate.1")
            .contains("min\\-ac")
    );
    assert!(bench.succeed(&["--help"]).contains("Exit codes: 0 done"));
    assert_eq!(bench.run(&["trian"]).code, Some(2));
}

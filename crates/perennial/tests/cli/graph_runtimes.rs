//! Graphs of imported encoders in onnxruntime, whose library `PERENNIAL_ONNXRUNTIME` names; without it, only what is no library is tried.

use std::process::Stdio;

use serde_json::Value;

use crate::bench::Bench;
use crate::onnx::text_encoder;
use crate::service::Service;

const TEXTS: &str = "key\tbody\nr\tred rose\nw\twhite rose\no\toak\nf\tthe fern of winter\n";
const EMBED: [&str; 9] = [
    "embed",
    "live",
    "--table",
    "texts.tsv",
    "--text-column",
    "body",
    "--id-column",
    "key",
    "--out",
];

/// The library that these tests are given; the program is run free of the caller's variables.
fn library() -> Option<String> {
    let library = std::env::var("PERENNIAL_ONNXRUNTIME").ok();
    if library.is_none() {
        eprintln!("skipped: PERENNIAL_ONNXRUNTIME names no library");
    }
    library
}

fn embeddings(bench: &Bench, file: &str) -> Vec<f64> {
    let lines = bench.read(file);
    let rows = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.flat_map(|row| {
        let values = row["embedding"].as_array().unwrap().clone();
        values.into_iter().map(|value| value.as_f64().unwrap())
    })
    .collect()
}

#[test]
fn an_import_by_one_runtime_holds_in_the_other() {
    let Some(library) = library() else { return };
    let onnxruntime = ["--onnxruntime", &library];
    for (importing, embedding) in [(&[][..], &onnxruntime[..]), (&onnxruntime[..], &[][..])] {
        let bench = Bench::new();
        text_encoder(&bench, "encoder");
        bench.write("texts.tsv", TEXTS);
        let import = ["models", "import", "encoder", "--alias", "live"];
        let imported = bench.answer(&[&import[..], importing].concat());
        let findings = imported["findings"].as_array().unwrap().iter();
        let said = findings
            .filter(|finding| finding.as_str().unwrap().contains("runs in onnxruntime 1."))
            .count();
        assert_eq!(said, usize::from(!importing.is_empty()), "{imported}");
        // Each load compares the canaries of the import.
        bench.succeed(&[&EMBED[..], &["own.jsonl"], importing].concat());
        bench.succeed(&[&EMBED[..], &["other.jsonl"], embedding].concat());
        let (own, other) = (
            embeddings(&bench, "own.jsonl"),
            embeddings(&bench, "other.jsonl"),
        );
        assert_eq!((own.len(), other.len()), (4 * 6, 4 * 6));
        for (own, other) in own.iter().zip(&other) {
            assert!((own - other).abs() < 1e-5, "{own} {other}");
        }
    }
}

#[test]
fn a_service_runs_graphs_in_the_library_of_its_settings() {
    let Some(library) = library() else { return };
    let bench = Bench::new();
    text_encoder(&bench, "encoder");
    bench.write("texts.tsv", TEXTS);
    bench.answer(&["models", "import", "encoder", "--alias", "live"]);
    bench.succeed(&[&EMBED[..], &["rten.jsonl"]].concat());
    let settings = bench.succeed(&["serve", "--onnxruntime", &library, "--print-config"]);
    assert!(settings.contains("onnxruntime = "), "{settings}");
    let service = Service::start_with(&bench, &["--onnxruntime", &library], Stdio::piped());
    let request = serde_json::json!({"input": ["red rose"], "model": "live"});
    let (status, answer) = service.call("POST", "v1/embeddings", &request);
    assert_eq!(status, 200, "{answer}");
    let served = answer["data"][0]["embedding"].as_array().unwrap();
    for (served, embedded) in served.iter().zip(embeddings(&bench, "rten.jsonl")) {
        assert!((served.as_f64().unwrap() - embedded).abs() < 1e-5);
    }
}

#[test]
fn what_is_no_library_ends_a_command_that_needs_one() {
    let bench = Bench::new();
    text_encoder(&bench, "encoder");
    bench.write("texts.tsv", TEXTS);
    bench.write("library.so", "not a library");
    let import = ["models", "import", "encoder", "--alias", "live"];
    for file in ["library.so", "missing.so"] {
        let ended = bench.run(&[&import[..], &["--onnxruntime", file]].concat());
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains(file), "{}", ended.stderr);
        assert!(!bench.path("registry/v0001").exists());
    }
    bench.answer(&import);
    // By the variable, and never silently by the runtime that is built in.
    let output = bench
        .command(&[&EMBED[..], &["out.jsonl"]].concat())
        .env("PERENNIAL_ONNXRUNTIME", "missing.so")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("missing.so") && said.contains("v0001"),
        "{said}"
    );
    // What runs no graph does not mind.
    bench.succeed(&["models", "list", "--onnxruntime", "missing.so"]);
    for file in ["library.so", "missing.so"] {
        bench
            .run(&["serve", "--onnxruntime", file])
            .assert_wrong_usage(&["onnxruntime", file]);
    }
}

//! Canaries of imported encoders: what passes as rounding, and what is another network to them.

use perennial_core::{Registry, sha256_hex};

use crate::bench::{Bench, Ended};
use crate::onnx::{copy, text_encoder};

const GRAPH: &str = "registry/v0001/model.onnx";

/// An encoder whose graph is the one of this name.
fn imported(graph: &str) -> Bench {
    let bench = Bench::new();
    text_encoder(&bench, "encoder");
    copy(&bench, graph, "encoder/onnx/model.onnx");
    let output = ["--output", "last_hidden_state"];
    bench.answer(
        &[
            &["models", "import", "encoder", "--alias", "live"][..],
            &output,
        ]
        .concat(),
    );
    bench.write("texts.csv", "text\nred rose\nthe fern of winter\n");
    bench
}

/// Puts another graph in the place of the version's, with its size and hashes, so that only what it computes can tell.
fn swap(bench: &Bench, graph: &str) {
    copy(bench, graph, GRAPH);
    let version = Registry::open(bench.path("registry"))
        .unwrap()
        .get("v0001")
        .unwrap();
    let before = version.outside().unwrap();
    let mut after = before.clone();
    let content = std::fs::read(bench.path(GRAPH)).unwrap();
    after.files[0].sha256 = sha256_hex(&content);
    after.files[0].bytes = content.len() as u64;
    let (old, file) = (&before.files[0], &after.files[0]);
    let text = bench
        .read("registry/v0001/model.toml")
        .replace(&version.weights_sha256, &after.files_sha256())
        .replace(&old.sha256, &file.sha256)
        .replace(
            &format!("weights_bytes = {}", version.weights_bytes),
            &format!("weights_bytes = {}", after.files_bytes()),
        )
        .replace(
            &format!("bytes = {}\n", old.bytes),
            &format!("bytes = {}\n", file.bytes),
        );
    bench.write("registry/v0001/model.toml", &text);
}

fn embed(bench: &Bench, threads: &str, more: &[&str]) -> Ended {
    let embed = ["embed", "live", "--table", "texts.csv", "--out", "out.npy"];
    let mut command = bench.command(&[&embed[..], more].concat());
    Ended::from(command.env("RAYON_NUM_THREADS", threads).output().unwrap())
}

#[test]
fn another_build_of_a_network_is_refused_and_rounding_is_not() {
    for (own, other) in [
        ("layers.onnx", "layers-int8.onnx"),
        ("layers-int8.onnx", "layers.onnx"),
    ] {
        let bench = imported(own);
        let works = || {
            for threads in ["1", "2", "3"] {
                let ended = embed(&bench, threads, &[]);
                assert_eq!(ended.code, Some(0), "{own}: {}", ended.stderr);
            }
        };
        works();
        // Dynamic int8 may differ from runtime to runtime (docs/encoders.md).
        if let (Ok(library), "layers.onnx") = (std::env::var("PERENNIAL_ONNXRUNTIME"), own) {
            let ended = embed(&bench, "2", &["--onnxruntime", &library]);
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        }
        swap(&bench, other);
        let ended = embed(&bench, "2", &[]);
        assert_eq!(ended.code, Some(1), "{own}: {}", ended.stderr);
        for part in ["v0001", "canary", "recorded at import", "limit 1e-2"] {
            assert!(ended.stderr.contains(part), "{own}: {}", ended.stderr);
        }
        assert_eq!(ended.stdout, "");
        let ended = bench.run(&["models", "promote", "v0001", "--no-gallery"]);
        assert_eq!(ended.code, Some(3), "{own}: {}", ended.stderr);
        assert!(ended.stdout.contains("canary"), "{own}: {}", ended.stdout);
        swap(&bench, own);
        works();
    }
}

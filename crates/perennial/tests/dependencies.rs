//! What must never depend on what, held against the real dependency graph.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

/// The workspace as it is drawn: arrows go down only, and crates on one line never import one another.
const LINES: [&[&str]; 7] = [
    &["perennial", "perennial-fuzz", "perennial-python"],
    &["perennial-train", "perennial-serve", "perennial-connect"],
    &["perennial-upgrade"],
    &["perennial-gallery", "perennial-eval", "perennial-data"],
    &["perennial-bridge", "perennial-encode", "perennial-kernels"],
    &["perennial-formats"],
    &["perennial-core"],
];

/// Tensor frameworks, HTTP, async runtimes and image codecs.
const FRAMEWORKS: [&str; 9] = [
    "burn",
    "candle-core",
    "tch",
    "ort",
    "axum",
    "hyper",
    "ureq",
    "tokio",
    "image",
];

/// Normal and build dependencies by package name, on this platform and with default features.
struct Graph {
    edges: BTreeMap<String, BTreeSet<String>>,
    members: BTreeSet<String>,
    default_members: BTreeSet<String>,
}

fn graph() -> &'static Graph {
    static GRAPH: LazyLock<Graph> = LazyLock::new(Graph::read);
    &GRAPH
}

impl Graph {
    fn read() -> Self {
        let metadata = cargo([
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--filter-platform",
            env!("PERENNIAL_TARGET"),
        ]);
        let metadata: Value = serde_json::from_str(&metadata).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let names: BTreeMap<String, String> = packages
            .iter()
            .map(|package| (text(&package["id"]), text(&package["name"])))
            .collect();
        let mut edges = BTreeMap::<String, BTreeSet<String>>::new();
        for node in metadata["resolve"]["nodes"].as_array().unwrap() {
            let targets = node["deps"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|dependency| {
                    let kinds = dependency["dep_kinds"].as_array().unwrap();
                    kinds.iter().any(|kind| kind["kind"] != "dev")
                });
            let targets = targets.map(|dependency| names[&text(&dependency["pkg"])].clone());
            edges
                .entry(names[&text(&node["id"])].clone())
                .or_default()
                .extend(targets);
        }
        let listed = |key: &str| {
            let ids = metadata[key].as_array().unwrap();
            ids.iter().map(|id| names[&text(id)].clone()).collect()
        };
        Self {
            members: listed("workspace_members"),
            default_members: listed("workspace_default_members"),
            edges,
        }
    }
}

/// Everything that a package depends on, however far away, when it is built alone: features that other members switch on do
/// not count.
fn below(package: &str) -> BTreeSet<String> {
    let arguments = "--edges normal,build --prefix none --format {p} --offline --target";
    let tree = cargo(
        ["tree", "--package", package]
            .into_iter()
            .chain(arguments.split(' '))
            .chain([env!("PERENNIAL_TARGET")]),
    );
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    names
        .filter(|name| !name.is_empty() && *name != package)
        .map(str::to_owned)
        .collect()
}

fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn line_of(package: &str) -> usize {
    let line = LINES.iter().position(|line| line.contains(&package));
    line.unwrap_or_else(|| panic!("{package} has no line in the picture of the workspace"))
}

#[test]
fn core_knows_no_framework() {
    let below = below("perennial-core");
    let frameworks: Vec<_> = FRAMEWORKS
        .iter()
        .filter(|name| below.contains(**name))
        .collect();
    assert!(frameworks.is_empty(), "{frameworks:?}");
    assert!(
        !below.iter().any(|name| name.starts_with("burn")),
        "{below:?}"
    );
}

#[test]
fn eval_sees_neither_models_nor_images() {
    let below = below("perennial-eval");
    for name in [
        "perennial-train",
        "perennial-data",
        "perennial-kernels",
        "image",
    ] {
        assert!(!below.contains(name), "{name}");
    }
    assert!(
        !below.iter().any(|name| name.starts_with("burn")),
        "{below:?}"
    );
}

#[test]
fn serve_gets_an_encoder_and_no_training() {
    let below = below("perennial-serve");
    assert!(!below.contains("perennial-train"));
    assert!(
        !below.iter().any(|name| name.starts_with("burn")),
        "{below:?}"
    );
}

#[test]
fn connectors_know_no_models_and_no_service() {
    let below = below("perennial-connect");
    // A database that speaks HTTP is asked by a client, with a feature of its own.
    for name in [
        "hyper",
        "axum",
        "ureq",
        "perennial-serve",
        "perennial-train",
    ] {
        assert!(!below.contains(name), "{name}");
    }
    assert!(
        !below.iter().any(|name| name.starts_with("burn")),
        "{below:?}"
    );
}

#[test]
fn the_rule_knows_no_framework() {
    let below = below("perennial-upgrade");
    for name in ["tokio", "hyper", "axum", "perennial-train"] {
        assert!(!below.contains(name), "{name}");
    }
    assert!(
        !below.iter().any(|name| name.starts_with("burn")),
        "{below:?}"
    );
}

#[test]
fn the_gallery_knows_no_async_runtime_and_no_http() {
    let below = below("perennial-gallery");
    for name in ["tokio", "hyper", "axum", "ureq"] {
        assert!(!below.contains(name), "{name}");
    }
}

#[test]
fn the_python_package_needs_neither_networks_nor_a_service() {
    let below = below("perennial-python");
    let frameworks: Vec<_> = FRAMEWORKS
        .iter()
        .filter(|name| **name != "image" && below.contains(**name))
        .collect();
    assert!(frameworks.is_empty(), "{frameworks:?}");
    for name in ["perennial-train", "perennial-serve"] {
        assert!(!below.contains(name), "{name}");
    }
    assert!(
        !below.iter().any(|name| name.starts_with("burn")),
        "{below:?}"
    );
}

#[test]
fn a_first_build_leaves_python_and_fuzzing_out() {
    let graph = graph();
    for name in ["perennial-python", "perennial-fuzz"] {
        assert!(graph.members.contains(name), "{name}");
        assert!(!graph.default_members.contains(name), "{name}");
    }
}

#[test]
fn only_the_binary_uses_anyhow() {
    let graph = graph();
    for member in graph.members.iter().filter(|member| *member != "perennial") {
        assert!(!graph.edges[member].contains("anyhow"), "{member}");
    }
}

#[test]
fn arrows_in_the_workspace_go_down() {
    let graph = graph();
    for member in &graph.members {
        for dependency in graph.edges[member].intersection(&graph.members) {
            assert!(
                line_of(member) < line_of(dependency),
                "{member} depends on {dependency}, which is not below it"
            );
        }
        line_of(member);
    }
}

#[test]
fn bridges_and_formats_know_no_framework() {
    for package in ["perennial-bridge", "perennial-formats"] {
        let below = below(package);
        for name in FRAMEWORKS {
            assert!(!below.contains(name), "{package}: {name}");
        }
        assert!(
            !below.iter().any(|name| name.starts_with("burn")),
            "{package}: {below:?}"
        );
    }
}

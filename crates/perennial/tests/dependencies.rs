//! What must never depend on what, held against the real dependency graph.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

/// The workspace as it is drawn: arrows go down only, and crates on one line never import one another.
const LINES: [&[&str]; 5] = [
    &["perennial"],
    &["perennial-train", "perennial-eval", "perennial-serve"],
    &["perennial-gallery", "perennial-kernels"],
    &["perennial-data"],
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
}

fn graph() -> &'static Graph {
    static GRAPH: LazyLock<Graph> = LazyLock::new(Graph::read);
    &GRAPH
}

impl Graph {
    fn read() -> Self {
        let output = Command::new(env!("CARGO"))
            .args([
                "metadata",
                "--format-version",
                "1",
                "--offline",
                "--filter-platform",
                env!("PERENNIAL_TARGET"),
            ])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
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
        let members = metadata["workspace_members"].as_array().unwrap();
        let members = members.iter().map(|id| names[&text(id)].clone()).collect();
        Self { edges, members }
    }

    /// Everything that a package depends on, however far away.
    fn below(&self, package: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut waiting = vec![package];
        while let Some(next) = waiting.pop() {
            for dependency in self.edges.get(next).into_iter().flatten() {
                if found.insert(dependency.as_str()) {
                    waiting.push(dependency);
                }
            }
        }
        found
    }
}

fn line_of(package: &str) -> usize {
    let line = LINES.iter().position(|line| line.contains(&package));
    line.unwrap_or_else(|| panic!("{package} has no line in the picture of the workspace"))
}

#[test]
fn core_knows_no_framework() {
    let graph = graph();
    let below = graph.below("perennial-core");
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
    let graph = graph();
    let below = graph.below("perennial-eval");
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
    let graph = graph();
    if graph.members.contains("perennial-serve") {
        assert!(!graph.below("perennial-serve").contains("perennial-train"));
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

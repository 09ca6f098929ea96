//! The experiments that come with the program.

use std::path::{Path, PathBuf};

use crate::bench::{Bench, repository};

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "toml")
            // Programs that measure are built from here as well.
            && !path.ends_with("Cargo.toml")
        {
            found.push(path);
        }
    }
}

#[test]
fn every_experiment_is_a_valid_configuration() {
    let bench = Bench::new();
    let mut paths = Vec::new();
    collect(&repository().join("experiments"), &mut paths);
    assert!(paths.len() >= 28, "{paths:?}");
    let mut names = std::collections::BTreeSet::new();
    let mut needed = Vec::new();
    for path in &paths {
        if path
            .parent()
            .is_some_and(|folder| folder.ends_with("bench"))
        {
            // It resolves every configuration that it names, finds every model, and every record is of one of its runs.
            let list = bench.answer(&["bench", "compatibility", path.to_str().unwrap(), "--list"]);
            let records = path
                .with_file_name("records")
                .join(path.file_stem().unwrap());
            let records = std::fs::read_dir(records).map_or(0, Iterator::count);
            assert_eq!(list["done"], records, "{list}");
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        let command = if text.contains("[scenario]") {
            "train"
        } else {
            "pretrain"
        };
        let answer = bench.answer(&[command, path.to_str().unwrap(), "--print-config"]);
        let config = &answer["config"];
        let name = config["name"].as_str().unwrap().to_owned();
        assert!(names.insert(name.clone()), "{name} appears twice");
        let replacements = config["replacements"].as_array().into_iter().flatten();
        let models = replacements.map(|replacement| &replacement["model"]);
        needed.extend(
            models
                .chain([&config["initial_model"]])
                .filter_map(|model| Some((name.clone(), model.as_str()?.to_owned()))),
        );
    }
    for (experiment, model) in needed {
        assert!(
            names.contains(&model),
            "{experiment} needs {model}, which no configuration makes"
        );
    }
}

#[test]
fn results_are_those_of_the_records() {
    let bench = Bench::new();
    let mut descriptions = Vec::new();
    collect(&repository().join("experiments/bench"), &mut descriptions);
    let mut compared = 0;
    for page in ["docs/results.md", "docs/results/tuning.md"] {
        let document = std::fs::read_to_string(repository().join(page)).unwrap();
        bench.write("results.md", &document);
        for path in &descriptions {
            let name = path.file_stem().unwrap().to_str().unwrap();
            // A benchmark without a section on this page is shown elsewhere, or has no results yet.
            if !document.contains(&format!(
                "<!-- perennial bench compatibility, {name}: begin -->"
            )) {
                continue;
            }
            compared += 1;
            let description = path.to_str().unwrap();
            bench.succeed(&[
                "bench",
                "compatibility",
                description,
                "--table",
                "results.md",
            ]);
            let found = bench.read("results.md");
            assert!(
                found == document,
                "{page}: perennial bench compatibility experiments/bench/{name}.toml --table {page} changes it"
            );
        }
    }
    assert!(compared >= 4, "{compared} sections");
}

/// What the demo tells of other seeds is what its table of ten seeds says.
#[test]
fn the_demo_tells_the_figures_of_its_results() {
    let page = repository().join("docs/results/training.md");
    let page = std::fs::read_to_string(page).unwrap();
    let table = page.split("## The demo, ten seeds").nth(1).unwrap();
    let rows: Vec<Vec<f64>> = table
        .lines()
        .take_while(|line| !line.starts_with("| median"))
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let seed: Result<u32, _> = cells.get(1)?.parse();
            seed.ok()?;
            Some(
                cells[2..8]
                    .iter()
                    .map(|cell| cell.parse().unwrap())
                    .collect(),
            )
        })
        .collect();
    assert_eq!(rows.len(), 10);
    let range = |column: usize| {
        let values = || rows.iter().map(|row| (row[column] * 100.0).round());
        let (low, high) = (values().fold(100.0, f64::min), values().fold(0.0, f64::max));
        format!("{low}-{high} %")
    };
    let lower = rows.iter().filter(|row| row[4] < row[3]).count();
    let expected = format!(
        "the old simplex gallery went from {} to {}, lower with {lower} of 10, and the old ordinary gallery from {} to {}",
        range(3),
        range(4),
        range(0),
        range(1)
    );
    let source = repository().join("crates/perennial/src/commands/demo.rs");
    let source = std::fs::read_to_string(source).unwrap();
    assert!(source.contains(&expected), "{expected}");
}

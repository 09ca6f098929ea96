//! Every crate that is published holds what it is built from, and says what it is for.

#![allow(clippy::unwrap_used)]

use std::path::{Component, Path, PathBuf};

/// The folders of the published crates.
fn crates() -> Vec<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let entries = std::fs::read_dir(folder).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.join("Cargo.toml").exists());
    found.sort();
    assert!(found.len() >= 13, "{found:?}");
    found
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The paths of the files that a source has compiled in; of a path that a macro puts together, its beginning.
fn included(text: &str) -> impl Iterator<Item = &str> {
    ["include_str!(", "include_bytes!("]
        .into_iter()
        .flat_map(move |macro_call| text.split(macro_call).skip(1))
        .filter_map(|rest| rest.split('"').nth(1))
}

/// How many folders above its start a path reaches at most.
fn reaches_up(path: &Path) -> usize {
    let (mut depth, mut highest) = (0_i64, 0_i64);
    for component in path.components() {
        depth += match component {
            Component::ParentDir => -1,
            Component::Normal(_) => 1,
            _ => 0,
        };
        highest = highest.min(depth);
    }
    usize::try_from(-highest).unwrap()
}

#[test]
fn nothing_outside_of_a_crate_is_compiled_in() {
    let mut seen = 0;
    for folder in crates() {
        let mut files = Vec::new();
        sources(&folder, &mut files);
        for file in files
            .iter()
            .filter(|file| !file.ends_with("tests/packages.rs"))
        {
            let text = std::fs::read_to_string(file).unwrap();
            let place = file.strip_prefix(&folder).unwrap().parent().unwrap();
            for path in included(&text) {
                seen += 1;
                let inside = place.components().count() >= reaches_up(Path::new(path));
                assert!(inside, "{}: {path} is outside of the crate", file.display());
            }
        }
    }
    assert!(seen > 20, "{seen} files are compiled in");
}

#[test]
fn every_crate_says_what_it_is_for() {
    for folder in crates() {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let package = manifest["package"].as_table().unwrap();
        let wanted = [
            "description",
            "license",
            "keywords",
            "categories",
            "rust-version",
        ];
        for key in wanted {
            assert!(package.contains_key(key), "{}: {key}", folder.display());
        }
        for license in ["LICENSE-APACHE", "LICENSE-MIT"] {
            assert!(
                folder.join(license).is_file(),
                "{}: {license}",
                folder.display()
            );
        }
        let readme = package
            .get("readme")
            .map_or("README.md", |path| path.as_str().unwrap());
        let text = std::fs::read_to_string(folder.join(readme)).unwrap();
        assert!(
            text.contains("\n```"),
            "{}: no example in {readme}",
            folder.display()
        );
        // A library's example is a documentation test; the program's commands are run by tests/book/run.
        let library = std::fs::read_to_string(folder.join("src/lib.rs")).unwrap_or_default();
        let page = format!("#![doc = include_str!(\"../{readme}\")]");
        assert!(
            library.is_empty() || library.starts_with(&page),
            "{}",
            folder.display()
        );
    }
}

//! No two files of a crate use each other, directly or through others. ARCHITECTURE.md has the rule.
//!
//! The sources are read as text, by the names in them: what a macro puts together, and methods that are called on a value, are not
//! seen.

#![allow(clippy::unwrap_used)]

mod arrows;
mod modules;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use arrows::{Arrows, arrows, circles};
use modules::Modules;

/// The folder of all crates.
fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap().to_owned()
}

/// The roots of all libraries and programs, by the folder of their sources.
fn roots() -> BTreeMap<PathBuf, Vec<PathBuf>> {
    let workspace = workspace();
    let mut sources = vec![
        workspace.join("bindings/python/src"),
        workspace.join("fuzz/src"),
    ];
    for entry in std::fs::read_dir(workspace.join("crates")).unwrap() {
        sources.push(entry.unwrap().path().join("src"));
    }
    let roots = sources.into_iter().map(|folder| {
        let usual = ["lib.rs", "main.rs"].map(|name| folder.join(name));
        let programs = files(&folder.join("bin"));
        let found = usual.into_iter().filter(|root| root.exists());
        let roots: Vec<PathBuf> = found.chain(programs).collect();
        assert!(!roots.is_empty(), "{} has no root", folder.display());
        (folder, roots)
    });
    roots.collect()
}

/// All files of Rust below a folder, which need not exist.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// A file's name below `crates/`.
fn shown(file: &Path) -> String {
    let workspace = workspace();
    let below = file.strip_prefix(workspace.join("crates"));
    let below = below
        .or_else(|_| file.strip_prefix(&workspace))
        .unwrap_or(file);
    below.to_string_lossy().replace('\\', "/")
}

/// A circle file by file, with the names that tie it.
fn described(circle: &[PathBuf], arrows: &Arrows) -> String {
    let mut text = format!("{} files use each other in a circle:\n", circle.len());
    for from in circle {
        for (to, names) in &arrows[from] {
            if circle.contains(to) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let (from, to) = (shown(from), shown(to));
                writeln!(text, "    {from} uses {to}: {}", names.join(", ")).unwrap();
            }
        }
    }
    text
}

#[test]
fn files_do_not_use_each_other_in_circles() {
    let mut problems = String::new();
    for root in roots().into_values().flatten() {
        let arrows = arrows(&Modules::of(&root, &read));
        for circle in circles(&arrows) {
            problems += &described(&circle, &arrows);
        }
    }
    assert!(
        problems.is_empty(),
        "{problems}Move what both sides need into a file of its own; ARCHITECTURE.md has the rule."
    );
}

#[test]
fn every_file_is_looked_at() {
    for (folder, roots) in roots() {
        let mut known = BTreeSet::new();
        let mut of_tests = BTreeSet::new();
        for root in roots {
            let modules = Modules::of(&root, &read);
            known.extend(modules.all.into_iter().map(|module| module.file));
            of_tests.extend(modules.of_tests);
        }
        for file in files(&folder) {
            let tested = file.ancestors().any(|path| of_tests.contains(path));
            assert!(known.contains(&file) || tested, "{}", file.display());
        }
    }
}

/// The circles of a crate that has these files below `src`, and their arrows as `from > to`.
fn of(sources: &[(&str, &str)]) -> (Vec<Vec<PathBuf>>, Vec<String>) {
    let read = |path: &Path| {
        let found = sources.iter().find(|(name, _)| Path::new(name) == path);
        found.map(|(_, source)| (*source).to_owned())
    };
    let arrows = arrows(&Modules::of(Path::new("lib.rs"), &read));
    let pairs = arrows.iter().flat_map(|(from, used)| {
        used.keys()
            .map(move |to| format!("{} > {}", from.display(), to.display()))
    });
    (circles(&arrows), pairs.collect())
}

#[test]
fn names_lead_to_the_file_that_defines_them() {
    let (circles, arrows) = of(&[
        (
            "lib.rs",
            "mod a; mod b; mod c; pub use b::{Deep, inner::Inner as Renamed};",
        ),
        (
            "a.rs",
            "use crate::{Deep, c}; fn f(d: Deep) { for _ in 0..c::made() {} crate::Renamed::new(); <u8 as super::b::Local>::f() }",
        ),
        (
            "b.rs",
            "mod deep; pub use deep::*; pub mod inner { pub struct Inner; } pub trait Local {}",
        ),
        ("b/deep.rs", "pub struct Deep;"),
        (
            "c.rs",
            "use std::fmt; macro_rules! name { () => {} } pub fn made() -> fmt::Result { name!() }",
        ),
    ]);
    assert_eq!(arrows, ["a.rs > b/deep.rs", "a.rs > b.rs", "a.rs > c.rs"]);
    assert!(circles.is_empty());
}

#[test]
fn parent_and_child_may_use_each_other_in_one_direction() {
    let child = ("a/child.rs", "use super::Shared; pub fn work(_: Shared) {}");
    // To declare a child and to pass on its names needs nothing of it.
    let (circles, arrows) = of(&[
        ("lib.rs", "mod a;"),
        ("a.rs", "mod child; pub use child::work; pub struct Shared;"),
        child,
    ]);
    assert_eq!(arrows, ["a/child.rs > a.rs"]);
    assert!(circles.is_empty());
    for uses in [
        "child::work(Shared)",
        "work(Shared)",
        "self::child::work(Shared)",
    ] {
        let parent =
            format!("mod child; pub use child::work; pub struct Shared; fn f() {{ {uses} }}");
        let (circles, _) = of(&[("lib.rs", "mod a;"), ("a.rs", &parent), child]);
        assert_eq!(
            circles,
            [["a/child.rs", "a.rs"].map(PathBuf::from)],
            "{uses}"
        );
    }
}

#[test]
fn a_circle_over_several_files_is_found() {
    let (circles, _) = of(&[
        ("lib.rs", "mod a; mod b; mod c; mod d;"),
        ("a.rs", "use crate::b::B; pub struct A(B);"),
        (
            "b.rs",
            "pub struct B; fn f() -> super::c::C { super::c::C }",
        ),
        (
            "c.rs",
            "#[serde(with = \"crate::a::as_text\")] pub struct C;",
        ),
        (
            "d.rs",
            "use crate::a::*; fn f(_: A) -> impl Sized + use<> {}",
        ),
    ]);
    assert_eq!(circles, [["a.rs", "b.rs", "c.rs"].map(PathBuf::from)]);
}

#[test]
fn tests_comments_and_texts_give_no_arrows() {
    let (_, arrows) = of(&[
        ("lib.rs", "mod a; mod b;"),
        (
            "a.rs",
            "#[cfg(test)] mod more; #[cfg(test)] mod tests { use crate::b::B; } #[cfg(test)] use crate::b::B;
             struct S { #[cfg(test)] b: crate::b::B, kept: u8 } #[cfg(all(test, unix))] fn f<A, C>() { crate::b::g() }
             // crate::b::B
             /// [`crate::b::B`]
             fn g() -> &'static str { \"crate::b::B\" }
             pub(in crate::b) fn h() {}",
        ),
        ("b.rs", "pub struct B; #[cfg(any(test, feature = \"x\"))] pub fn g() { crate::a::h() }"),
    ]);
    assert_eq!(arrows, ["b.rs > a.rs"]);
}

#[test]
fn files_that_take_the_place_of_others_count_as_well() {
    let (circles, _) = of(&[
        (
            "lib.rs",
            "#[cfg_attr(not(feature = \"tls\"), path = \"no_tls.rs\")] mod tls; mod a;",
        ),
        (
            "a.rs",
            "use crate::tls::start; fn f() { start() } pub struct A;",
        ),
        ("tls.rs", "pub fn start() {}"),
        ("no_tls.rs", "use crate::a::A; pub fn start() {}"),
    ]);
    assert_eq!(circles, [["a.rs", "no_tls.rs"].map(PathBuf::from)]);
}

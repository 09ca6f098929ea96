//! Which file uses which: every path is followed to the file that defines what it names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::modules::{Import, Module, Modules};

/// Files by the files that use them, with the names used.
pub type Arrows = BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<String>>>;

/// Where a path leads.
#[derive(Clone, Copy)]
enum End {
    Module(usize),
    /// A name that the module defines, or is the last one to know of.
    Name(usize),
}

impl End {
    fn module(self) -> usize {
        match self {
            Self::Module(module) | Self::Name(module) => module,
        }
    }
}

/// The arrows between the files of a crate.
///
/// A `mod` is no arrow, nor is a `pub use` of a name from the module's own children that its own code does not use: neither needs
/// anything of the other file. A module that is only imported gives arrows where something in it is named.
pub fn arrows(modules: &Modules) -> Arrows {
    let mut arrows = Arrows::new();
    for (at, module) in modules.all.iter().enumerate() {
        let mut add = |end: End, name: String| {
            let file = &modules.all[end.module()].file;
            for file in [Some(file), modules.instead.get(file)]
                .into_iter()
                .flatten()
            {
                if *file != module.file {
                    let from = arrows.entry(module.file.clone()).or_default();
                    from.entry(file.clone()).or_default().insert(name.clone());
                }
            }
        };
        for import in &module.imports {
            let all = import.name == "*";
            match modules.end(at, &import.path, &mut Vec::new()) {
                Some(end) if modules.hands_on(module, import, end) => {}
                Some(end @ End::Name(_)) => add(end, import.name.clone()),
                Some(end @ End::Module(_)) if all => add(end, "*".to_owned()),
                _ => {}
            }
        }
        for path in &module.paths {
            // A single name comes by a `use`, unless that was one of all names.
            let through_all = || {
                let known = module.defined.contains(&path[0])
                    || module.imports.iter().any(|import| import.name == path[0]);
                !known && module.imports.iter().any(|import| import.name == "*")
            };
            if (path.len() > 1 || through_all())
                && let Some(end) = modules.end(at, path, &mut Vec::new())
            {
                add(end, path.join("::"));
            }
        }
    }
    arrows
}

impl Modules {
    /// Whether a module passes on a name of its children and has no use for it itself.
    fn hands_on(&self, module: &Module, import: &Import, end: End) -> bool {
        let of_children = self.all[end.module()].path.starts_with(&module.path);
        let used = module.paths.iter().any(|path| path[0] == import.name);
        import.public && of_children && !used
    }

    /// Where a path leads that is written in a module; nothing for one into another crate. `seen` ends imports that lead in a circle.
    fn end(&self, from: usize, path: &[String], seen: &mut Vec<(usize, String)>) -> Option<End> {
        let (first, mut rest) = path.split_first()?;
        let module = &self.all[from];
        let mut at = match first.as_str() {
            "crate" => 0,
            "self" => from,
            "super" => self.parent(from)?,
            own if module.children.contains_key(own) || module.defined.contains(own) => {
                return self.within(from, path, seen);
            }
            _ => return self.imported(from, path, seen),
        };
        while rest.first().is_some_and(|name| name == "super") {
            at = self.parent(at)?;
            rest = &rest[1..];
        }
        self.within(at, rest, seen)
    }

    fn parent(&self, module: usize) -> Option<usize> {
        let (_, parent) = self.all[module].path.split_last()?;
        self.all.iter().position(|other| other.path == parent)
    }

    /// Follows names down from a module.
    fn within(
        &self,
        mut at: usize,
        mut rest: &[String],
        seen: &mut Vec<(usize, String)>,
    ) -> Option<End> {
        while let Some((name, after)) = rest.split_first() {
            let module = &self.all[at];
            if let Some(&child) = module.children.get(name) {
                at = child;
                rest = after;
            } else if module.defined.contains(name) {
                return Some(End::Name(at));
            } else {
                // A name of a macro's, or of another crate's: as far as this crate goes, it is this module's.
                return Some(self.imported(at, rest, seen).unwrap_or(End::Name(at)));
            }
        }
        Some(End::Module(at))
    }

    /// Where a path leads whose first name a module imports.
    fn imported(&self, at: usize, path: &[String], seen: &mut Vec<(usize, String)>) -> Option<End> {
        let (name, after) = path.split_first()?;
        let key = (at, name.clone());
        if seen.contains(&key) {
            return None;
        }
        seen.push(key);
        let imports = &self.all[at].imports;
        if let Some(import) = imports.iter().find(|import| import.name == *name) {
            return self.end(at, &[&import.path, after].concat(), seen);
        }
        imports
            .iter()
            .filter(|import| import.name == "*")
            .find_map(|import| {
                let End::Module(all) = self.end(at, &import.path, seen)? else {
                    return None;
                };
                let module = &self.all[all];
                let has = module.children.contains_key(name) || module.defined.contains(name);
                if has {
                    self.within(all, path, seen)
                } else {
                    self.imported(all, path, seen)
                }
            })
    }
}

/// The circles: the largest sets of files of which every one leads to every other, each sorted, in the order of their first files.
pub fn circles(arrows: &Arrows) -> Vec<Vec<PathBuf>> {
    let reached: BTreeMap<&Path, BTreeSet<&Path>> = arrows
        .keys()
        .map(|from| (from.as_path(), reached_from(arrows, from)))
        .collect();
    let mut circles = BTreeSet::new();
    for (from, to) in &reached {
        let back = |other: &&&Path| reached.get(**other).is_some_and(|back| back.contains(from));
        let circle: Vec<PathBuf> = to
            .iter()
            .filter(back)
            .map(|&file| file.to_owned())
            .collect();
        if !circle.is_empty() {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn reached_from<'a>(arrows: &'a Arrows, from: &Path) -> BTreeSet<&'a Path> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&Path> = arrows[from].keys().map(PathBuf::as_path).collect();
    while let Some(file) = next.pop() {
        if reached.insert(file)
            && let Some(used) = arrows.get(file)
        {
            next.extend(used.keys().map(PathBuf::as_path));
        }
    }
    reached
}

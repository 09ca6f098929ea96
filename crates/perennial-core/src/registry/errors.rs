//! Errors of a registry, with remedies.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::version::{VersionError, version_name};

/// The number of names that a message lists.
const LISTED: usize = 20;
/// The largest edit distance of a suggested name.
const MAX_EDITS: usize = 2;
/// Longer names are not compared, because the comparison is quadratic.
const MAX_COMPARED_BYTES: usize = 64;

/// A path that is seen to be one: `registry` alone reads like a word.
fn as_path(path: &Path) -> String {
    match path.is_relative() && path.components().count() == 1 {
        true => format!("./{}", path.display()),
        false => path.display().to_string(),
    }
}

/// Errors of a registry operation.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// There is no folder at the registry's path.
    #[error(
        "no registry at {}; name one with --registry, or create it: `perennial train`, `pretrain` and `models import` do, and `spaces add`",
        as_path(path)
    )]
    NoFolder {
        /// The path given.
        path: PathBuf,
    },
    /// Neither a version nor an alias has the name.
    #[error("no model version or alias {name:?} in {}; {}", registry.display(), describe(name, versions, aliases))]
    Unknown {
        /// The name given.
        name: String,
        /// The registry's folder.
        registry: PathBuf,
        /// The versions that exist.
        versions: Vec<String>,
        /// The aliases that exist.
        aliases: BTreeMap<String, String>,
    },
    /// An alias points to a version that was deleted.
    #[error("alias {alias} points to {version}, which is not in {}; point it at another version", registry.display())]
    DanglingAlias {
        /// The alias.
        alias: String,
        /// Its target.
        version: String,
        /// The registry's folder.
        registry: PathBuf,
    },
    /// An alias that is not a plain name.
    #[error("alias {alias:?} is refused: {problem}")]
    AliasName {
        /// The alias given.
        alias: String,
        /// The problem and the remedy.
        problem: String,
    },
    /// `aliases.toml` holds something else than aliases.
    #[error("{}: {problem}", path.display())]
    Aliases {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// `numbers.toml` holds something else than the highest number.
    #[error("{}: {problem}; write `highest = N` with the highest version number ever given", path.display())]
    Numbers {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The draft of a version contradicts itself.
    #[error("the model version cannot be published: {0}")]
    Draft(VersionError),
    /// A `model.toml` is broken.
    #[error("{}: {problem}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: VersionError,
    },
    /// A space that cannot be registered or read.
    #[error("{}: {problem}", path.display())]
    Space {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// Slots that cannot be allocated, grown or read.
    #[error("{}: {problem}", path.display())]
    Slots {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The weights, or a file of an encoder, do not have the published size.
    #[error(
        "{} holds {actual} bytes, {expected} were published; it was cut off or changed, restore it from a copy",
        path.display()
    )]
    WeightsSize {
        /// The file.
        path: PathBuf,
        /// Size in `model.toml`, in bytes.
        expected: u64,
        /// Size of the file, in bytes.
        actual: u64,
    },
    /// The weights, or a file of an encoder, are not the published ones.
    #[error(
        "{} has SHA-256 {actual}, {expected} was published; it was damaged or changed, restore it from a copy",
        path.display()
    )]
    WeightsHash {
        /// The file.
        path: PathBuf,
        /// Hash in `model.toml`.
        expected: String,
        /// Hash of the file.
        actual: String,
    },
    /// A version was asked for what another kind of version has.
    #[error("{version}: {problem}")]
    OtherKind {
        /// Its name.
        version: String,
        /// What does not fit.
        problem: &'static str,
    },
    /// The folder could not be read or written; the message names the file.
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn describe(name: &str, versions: &[String], aliases: &BTreeMap<String, String>) -> String {
    if versions.is_empty() {
        return "the registry holds no version yet".to_owned();
    }
    let mut entries: Vec<String> = aliases
        .iter()
        .map(|(alias, version)| format!("{alias} -> {version}"))
        .collect();
    entries.extend(versions.iter().rev().cloned());
    let hidden = entries.len().saturating_sub(LISTED);
    entries.truncate(LISTED);
    let mut text = format!("it holds {}", entries.join(", "));
    if hidden > 0 {
        text.push_str(&format!(" and {hidden} more"));
    }
    if let Some(nearest) = nearest(name, versions, aliases) {
        text.push_str(&format!("; did you mean {nearest}?"));
    }
    text
}

fn nearest(name: &str, versions: &[String], aliases: &BTreeMap<String, String>) -> Option<String> {
    // `3`, `v3` and `V03` all mean v0003.
    let number = name.strip_prefix(['v', 'V']).unwrap_or(name).parse();
    if let Some(version) = number.ok().map(version_name)
        && versions.contains(&version)
    {
        return Some(version);
    }
    if name.len() > MAX_COMPARED_BYTES {
        return None;
    }
    aliases
        .keys()
        .chain(versions)
        .map(|candidate| (edits(name, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= MAX_EDITS && *edits < candidate.len())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate.clone())
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

//! `policy.toml`: when a model version is certified to query embeddings of another version in a gallery.
//!
//! ```toml
//! min_margin = 0.0
//! confidence = 0.95
//! undecided = "warn"
//!
//! [evaluation_set]
//! queries = "cifar10:batch1"
//! gallery = "cifar10:test"
//! ```
//!
//! The file lies in the gallery's folder, so the command line and a service apply the same policy.

use std::io;
use std::path::{Path, PathBuf};

use perennial_core::{ProbeSet, read_at_most, write_atomically};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::evaluation_data::Task;

const FILE: &str = "policy.toml";
const MAX_BYTES: u64 = 1 << 16;
/// Confidences for which a measurement holds intervals.
const CONFIDENCES: [f64; 3] = [0.9, 0.95, 0.99];

const TEMPLATE: &str = r#"# When a model version is certified to query the stored embeddings of another version.

# The smallest margin (cross-test minus self-test of the stored version, a difference of fractions) that counts as compatible.
# 0.0: the new version must be at least as accurate as the stored version's own queries. Below 0, a loss is tolerated.
min_margin = 0.0

# The confidence level of the margin's interval, which decides: 0.9, 0.95 or 0.99.
confidence = 0.95

# If min_margin lies inside the interval, the measurement is undecided: "warn" (certified, with a warning) or "refuse".
undecided = "warn"

# What is searched for: "class-like" (items of the query's class) or "item-like" (the one item that belongs to the query, such as a
# near-duplicate). Class means alone do not certify item-like search: that needs `perennial certify --relevance ... --record`.
task = "class-like"

# The evaluation set on which pairs must be measured: a name such as "cifar10:test", or the SHA-256 of its content. Without
# this table, it is the set on which the stored version was first measured.
# [evaluation_set]
# queries = "cifar10:batch1"
# gallery = "cifar10:test"
"#;

/// The rule for an undecided measurement: `min_margin` lies inside the interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Undecided {
    /// The pair is certified, with a warning.
    #[default]
    Warn,
    /// The pair is refused.
    Refuse,
}

/// The sets whose measurements count, each by name (`cifar10:test`) or SHA-256 of its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationSet {
    /// Query images.
    pub queries: String,
    /// Gallery images.
    pub gallery: String,
}

impl EvaluationSet {
    /// Whether a measurement on these sets counts.
    pub fn matches(&self, queries: &ProbeSet, gallery: &ProbeSet) -> bool {
        let is = |wanted: &str, set: &ProbeSet| {
            wanted == set.sha256 || wanted == set.name || Some(wanted) == set.argument.as_deref()
        };
        is(&self.queries, queries) && is(&self.gallery, gallery)
    }
}

/// The certification rules of a gallery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// The smallest margin that counts as compatible, a difference of fractions.
    pub min_margin: f64,
    /// Which interval of the margin decides: 0.9, 0.95 or 0.99.
    pub confidence: f64,
    /// The rule for intervals that contain `min_margin`.
    pub undecided: Undecided,
    /// What is searched for.
    pub task: Task,
    /// The sets whose measurements count; none for those on which a stored version was measured first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation_set: Option<EvaluationSet>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min_margin: 0.0,
            confidence: 0.95,
            undecided: Undecided::default(),
            task: Task::default(),
            evaluation_set: None,
        }
    }
}

/// A policy that cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The file could not be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is no policy.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The key or line, and what is wrong with it.
        problem: String,
    },
}

impl Policy {
    /// The file in a gallery's folder.
    pub fn path(gallery: &Path) -> PathBuf {
        gallery.join(FILE)
    }

    /// Reads the policy of a gallery's folder; the default where there is no file.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown key, or an invalid value; the message names the file and the key.
    pub fn of(gallery: &Path) -> Result<Self, PolicyError> {
        let path = Self::path(gallery);
        let bytes = match read_at_most(&path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error.into()),
        };
        let content = |problem: String| PolicyError::Content {
            path: path.clone(),
            problem,
        };
        let text = String::from_utf8(bytes).map_err(|_| content("is not UTF-8 text".to_owned()))?;
        let policy: Self = toml::from_str(&text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text[..start.min(text.len())].matches('\n').count() + 1;
            content(format!("line {line}: {}", error.message()))
        })?;
        policy.check().map_err(content)?;
        Ok(policy)
    }

    /// Writes the default policy, with an explanation of each key, into a gallery's folder that has none.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn write_default(gallery: &Path) -> Result<(), PolicyError> {
        let path = Self::path(gallery);
        if path.try_exists()? {
            return Ok(());
        }
        Ok(write_atomically(path, TEMPLATE)?)
    }

    /// Writes this policy into a gallery's folder, in place of the one that is there.
    ///
    /// # Errors
    /// An invalid value, or a folder that cannot be written.
    pub fn write(&self, gallery: &Path) -> Result<(), PolicyError> {
        let path = Self::path(gallery);
        self.check().map_err(|problem| PolicyError::Content {
            path: path.clone(),
            problem,
        })?;
        let text = toml::to_string(self).expect("a policy is a TOML table");
        Ok(write_atomically(path, text)?)
    }

    fn check(&self) -> Result<(), String> {
        if !(-1.0..=1.0).contains(&self.min_margin) {
            return Err(format!(
                "min_margin: {} is not a difference of fractions; it must be between -1 and 1",
                self.min_margin
            ));
        }
        if !CONFIDENCES.contains(&self.confidence) {
            return Err(format!(
                "confidence: {} is not one of 0.9, 0.95 and 0.99",
                self.confidence
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Policy, PolicyError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), text).unwrap();
        Policy::of(folder.path())
    }

    #[test]
    fn the_written_default_is_the_default_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Policy::of(folder.path()).unwrap(), Policy::default());
        Policy::write_default(folder.path()).unwrap();
        assert_eq!(Policy::of(folder.path()).unwrap(), Policy::default());
        let own = "# mine\nmin_margin = -0.02\n";
        std::fs::write(Policy::path(folder.path()), own).unwrap();
        Policy::write_default(folder.path()).unwrap();
        assert_eq!(
            std::fs::read_to_string(Policy::path(folder.path())).unwrap(),
            own
        );
        assert_eq!(Policy::of(folder.path()).unwrap().min_margin, -0.02);
    }

    #[test]
    fn every_key_is_read_and_written() {
        let policy = Policy {
            min_margin: -0.01,
            confidence: 0.99,
            undecided: Undecided::Refuse,
            task: Task::ItemLike,
            evaluation_set: Some(EvaluationSet {
                queries: "cifar10:batch1".to_owned(),
                gallery: "ab".repeat(32),
            }),
        };
        let folder = tempfile::tempdir().unwrap();
        policy.write(folder.path()).unwrap();
        assert_eq!(Policy::of(folder.path()).unwrap(), policy);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, named) in [
            ("min_margn = 0.1", "line 1: unknown field `min_margn`"),
            ("\nmin_margin = \"much\"", "line 2"),
            ("min_margin = 2", "min_margin: 2 is not a difference"),
            ("min_margin = nan", "min_margin"),
            ("confidence = 0.8", "confidence: 0.8 is not one of"),
            ("undecided = \"maybe\"", "unknown variant `maybe`"),
            (
                "[evaluation_set]\nqueries = \"a\"",
                "missing field `gallery`",
            ),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(FILE) && error.contains(named), "{error}");
        }
    }

    #[test]
    fn a_set_is_known_by_name_argument_or_content() {
        let set = |name: &str, argument: Option<&str>, digit: &str| ProbeSet {
            name: name.to_owned(),
            argument: argument.map(str::to_owned),
            count: 3,
            sha256: digit.repeat(64),
        };
        let wanted = EvaluationSet {
            queries: "cifar10:batch1".to_owned(),
            gallery: "0".repeat(64),
        };
        let queries = set("cifar10/batch1", Some("cifar10:batch1"), "1");
        assert!(wanted.matches(&queries, &set("x", None, "0")));
        assert!(!wanted.matches(&queries, &set("x", None, "2")));
        assert!(!wanted.matches(&set("other", None, "1"), &set("x", None, "0")));
    }
}

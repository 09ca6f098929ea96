//! What was measured between two model versions, and the registry's record of it.
//!
//! ```json
//! { "schema_version": 1, "records": [ {
//!     "query_version": "v0005", "gallery_version": "v0004",
//!     "self_test": 0.7237, "cross_test": 0.7211, "margin": -0.0026,
//!     "interval": { "low": -0.0036, "high": -0.0017 },
//!     "queries": { "name": "cifar10/batch1", "count": 10000, "sha256": "..." },
//!     "gallery": { "name": "cifar10/test", "count": 10000, "sha256": "..." },
//!     "tie_rule": "strict", "verdict": "incompatible", "created": "2026-11-22T21:35:00Z" } ] }
//! ```
//!
//! The file is `compatibility.json` in the registry's folder. A pair has one record for each combination of probe sets and
//! tie rule; measuring again replaces it.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::file_lock::lock;
use crate::{Registry, read_at_most, write_atomically};

const FILE: &str = "compatibility.json";
const LOCK_FILE: &str = ".compatibility.lock";
const SCHEMA_VERSION: u32 = 1;
const MAX_BYTES: u64 = 256 << 20;

/// Is a pair compatible when the cross-test equals the old self-test exactly?
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TieRule {
    /// No: the cross-test must be higher.
    ///
    /// **Source.** The released evaluation of IAM-CL²R.
    #[default]
    Strict,
    /// Yes: the cross-test must not be lower.
    ///
    /// **Source.** CoReS and CL²R.
    TiesCount,
}

impl TieRule {
    /// Whether a new query model with accuracy `cross` on an old gallery counts as compatible with the old model, whose
    /// accuracy on its own gallery is `self_old`.
    pub fn is_compatible(self, cross: f64, self_old: f64) -> bool {
        match self {
            Self::Strict => cross > self_old,
            Self::TiesCount => cross >= self_old,
        }
    }

    /// The rule as a formula, for people.
    pub fn formula(self) -> &'static str {
        match self {
            Self::Strict => "cross-test > old self-test",
            Self::TiesCount => "cross-test >= old self-test",
        }
    }
}

/// The sign of a margin. How a tie counts is the business of [`TieRule`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The new query model finds more in the old gallery than the old model did.
    Compatible,
    /// It finds less.
    Incompatible,
    /// It finds exactly as much.
    Tie,
}

/// A 95 % interval of a difference of fractions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The 2.5 % quantile.
    pub low: f64,
    /// The 97.5 % quantile.
    pub high: f64,
}

impl Interval {
    /// Whether the sign of the difference is settled: zero lies strictly outside.
    pub fn excludes_zero(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// Which images were asked for or searched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeSet {
    /// Name and split, such as `cifar10 test`.
    pub name: String,
    /// Number of images.
    pub count: usize,
    /// SHA-256 of the content, hexadecimal.
    pub sha256: String,
}

/// One measured pair: a newer version on the gallery of an older one. Fractions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompatibilityRecord {
    /// The newer version, which embedded the queries.
    pub query_version: String,
    /// The older version, which embedded the gallery.
    pub gallery_version: String,
    /// Accuracy of the older version on its own gallery.
    pub self_test: f64,
    /// Accuracy of the newer version on that gallery.
    pub cross_test: f64,
    /// `cross_test - self_test`.
    pub margin: f64,
    /// 95 % interval of the margin.
    pub interval: Interval,
    /// What was asked.
    pub queries: ProbeSet,
    /// What was searched.
    pub gallery: ProbeSet,
    /// How a tie counts.
    pub tie_rule: TieRule,
    /// The sign of the margin.
    pub verdict: Verdict,
    /// RFC 3339, UTC.
    pub created: String,
}

impl CompatibilityRecord {
    /// Whether the pair counts as compatible under its own tie rule.
    pub fn is_compatible(&self) -> bool {
        self.tie_rule.is_compatible(self.cross_test, self.self_test)
    }

    fn measures_the_same_as(&self, other: &Self) -> bool {
        self.query_version == other.query_version
            && self.gallery_version == other.gallery_version
            && self.queries.sha256 == other.queries.sha256
            && self.gallery.sha256 == other.gallery.sha256
            && self.tie_rule == other.tie_rule
    }
}

/// Records that cannot be read or written.
#[derive(Debug, Error)]
pub enum CompatibilityError {
    /// The file could not be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file holds something else.
    #[error("{} is damaged ({source}); move it away and evaluate again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// The file was written under another schema.
    #[error("{}: schema_version is {found}, this program reads {SCHEMA_VERSION}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
}

/// All measured pairs of a registry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompatibilityRecords {
    schema_version: u32,
    /// In the order in which they were measured.
    pub records: Vec<CompatibilityRecord>,
}

impl CompatibilityRecords {
    /// The file that holds a registry's records; it appears with the first of them, and every change replaces it.
    pub fn path(registry: &Registry) -> PathBuf {
        registry.root().join(FILE)
    }

    /// Reads a registry's records; none where nothing was measured yet.
    ///
    /// # Errors
    /// A file that is damaged, too large or of another schema.
    pub fn of(registry: &Registry) -> Result<Self, CompatibilityError> {
        Self::read(&Self::path(registry))
    }

    /// Adds records to a registry's; each replaces an earlier one of the same measurement.
    ///
    /// # Errors
    /// As [`of`](Self::of), or a folder that cannot be written. The file stays as it was.
    pub fn add(
        registry: &Registry,
        measured: impl IntoIterator<Item = CompatibilityRecord>,
    ) -> Result<(), CompatibilityError> {
        // Two evaluations at once must not lose one another's records; the lock ends with the file handle.
        let _lock = lock(&registry.root().join(LOCK_FILE))?;
        let mut known = Self::of(registry)?;
        for pair in measured {
            known
                .records
                .retain(|earlier| !earlier.measures_the_same_as(&pair));
            known.records.push(pair);
        }
        let mut text = serde_json::to_string_pretty(&known)
            .expect("records have string keys and serialisable values");
        text.push('\n');
        Ok(write_atomically(Self::path(registry), text)?)
    }

    /// The records of one pair, oldest first.
    pub fn of_pair<'a>(
        &'a self,
        query_version: &'a str,
        gallery_version: &'a str,
    ) -> impl DoubleEndedIterator<Item = &'a CompatibilityRecord> {
        self.records.iter().filter(move |record| {
            record.query_version == query_version && record.gallery_version == gallery_version
        })
    }

    fn read(path: &Path) -> Result<Self, CompatibilityError> {
        let bytes = match read_at_most(path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self {
                    schema_version: SCHEMA_VERSION,
                    records: Vec::new(),
                });
            }
            Err(error) => return Err(error.into()),
        };
        let found: Self =
            serde_json::from_slice(&bytes).map_err(|source| CompatibilityError::Damaged {
                path: path.to_owned(),
                source,
            })?;
        if found.schema_version != SCHEMA_VERSION {
            return Err(CompatibilityError::Schema {
                path: path.to_owned(),
                found: found.schema_version,
            });
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(cross_test: f64, tie_rule: TieRule) -> CompatibilityRecord {
        let probe = |name: &str| ProbeSet {
            name: name.to_owned(),
            count: 10,
            sha256: crate::sha256_hex(name.as_bytes()),
        };
        CompatibilityRecord {
            query_version: "v0002".to_owned(),
            gallery_version: "v0001".to_owned(),
            self_test: 0.5,
            cross_test,
            margin: cross_test - 0.5,
            interval: Interval {
                low: -0.1,
                high: 0.1,
            },
            queries: probe("queries"),
            gallery: probe("gallery"),
            tie_rule,
            verdict: Verdict::Tie,
            created: "2026-11-22T21:35:00Z".to_owned(),
        }
    }

    #[test]
    fn a_new_measurement_replaces_the_same_and_joins_others() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::create(folder.path()).unwrap();
        let add = |record| CompatibilityRecords::add(&registry, [record]);
        add(record(0.4, TieRule::Strict)).unwrap();
        add(record(0.5, TieRule::TiesCount)).unwrap();
        add(record(0.6, TieRule::Strict)).unwrap();
        let records = CompatibilityRecords::of(&registry).unwrap();
        let pair = records.of_pair("v0002", "v0001");
        let crosses: Vec<f64> = pair.map(|record| record.cross_test).collect();
        assert_eq!(crosses, [0.5, 0.6]);
        assert!(
            records
                .records
                .iter()
                .all(CompatibilityRecord::is_compatible)
        );
        assert_eq!(records.of_pair("v0001", "v0002").count(), 0);
        assert!(registry.list().unwrap().is_empty());
    }

    #[test]
    fn a_damaged_file_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::create(folder.path()).unwrap();
        let path = folder.path().join(FILE);
        for (content, problem) in [
            ("[]", "is damaged"),
            (
                r#"{"schema_version": 2, "records": []}"#,
                "schema_version is 2",
            ),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = CompatibilityRecords::add(&registry, [record(0.4, TieRule::Strict)])
                .unwrap_err()
                .to_string();
            assert!(error.contains(FILE) && error.contains(problem), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
    }
}

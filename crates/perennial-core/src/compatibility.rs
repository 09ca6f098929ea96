//! Compatibility measurements between model versions, and the registry's record of them.
//!
//! ```json
//! { "schema_version": 1, "records": [ {
//!     "query_version": "v0005", "gallery_version": "v0004",
//!     "query_weights": "3f1c...", "gallery_weights": "77ab...",
//!     "self_test": 0.7237, "cross_test": 0.7211, "margin": -0.0026,
//!     "interval": { "low": -0.0036, "high": -0.0017 },
//!     "intervals": [ { "confidence": 0.9, "low": -0.0034, "high": -0.0019 }, ... ],
//!     "cross_test_intervals": [ { "confidence": 0.9, "low": 0.7138, "high": 0.7285 }, ... ],
//!     "flips": { "positive": 12, "negative": 38 },
//!     "queries": { "name": "cifar10/batch1", "argument": "cifar10:batch1", "count": 10000, "sha256": "..." },
//!     "gallery": { "name": "cifar10/test", "argument": "cifar10:test", "count": 10000, "sha256": "..." },
//!     "tie_rule": "strict", "created": "2026-11-22T21:35:00Z" } ] }
//! ```
//!
//! The file is `compatibility.json` in the registry's folder. A record is directed: its query version searched what its gallery
//! version embedded. It names the weights of both, so it does not apply to a different model of the same name. A pair
//! has one record for each evaluation set and tie rule; measuring again replaces it where it stands.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bounded_read::read_at_most;

pub(crate) const FILE: &str = "compatibility.json";
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

/// The verdict of a measurement, given the confidence interval of its margin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The whole interval of the margin is at or above the least margin.
    Compatible,
    /// The interval contains the least margin: other queries of the same kind may decide either way. Files of programs before
    /// 0.2 call an exact tie `tie`.
    #[serde(alias = "tie")]
    Undecided,
    /// The whole interval is below the least margin.
    Incompatible,
}

impl Verdict {
    /// The verdict of a margin's interval. `least` is the smallest margin that counts as compatible, a difference of fractions;
    /// 0 allows no loss.
    pub fn of(interval: Interval, least: f64) -> Self {
        if interval.low >= least {
            Self::Compatible
        } else if interval.high < least {
            Self::Incompatible
        } else {
            Self::Undecided
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Compatible => "compatible",
            Self::Undecided => "undecided",
            Self::Incompatible => "incompatible",
        })
    }
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

/// An interval of a difference of fractions at a stated confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ConfidenceInterval {
    /// The share of resamples inside, such as 0.95.
    pub confidence: f64,
    /// The bounds.
    #[serde(flatten)]
    pub bounds: Interval,
}

impl ConfidenceInterval {
    /// The bounds at a confidence, such as 0.95; none where they were not computed.
    pub fn at(intervals: &[Self], confidence: f64) -> Option<Interval> {
        let mut intervals = intervals.iter();
        let found = intervals.find(|one| same(one.confidence, confidence));
        found.map(|one| one.bounds)
    }
}

/// Whether two confidences are one, written with other digits.
fn same(one: f64, other: f64) -> bool {
    (one - other).abs() < 1e-9
}

/// How many queries have another answer in the cross-test than in the self-test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flips {
    /// Queries that only the cross-test answered rightly.
    pub positive: u64,
    /// Queries that only the self-test answered rightly.
    pub negative: u64,
}

impl Flips {
    /// Counts them.
    ///
    /// **Shapes.** Both `[n]`: per query, whether it was answered rightly.
    pub fn of(cross: &[bool], self_test: &[bool]) -> Self {
        let count = |cross_is: bool| {
            let pairs = cross.iter().zip(self_test);
            pairs
                .filter(|&(&cross, &own)| cross == cross_is && own != cross_is)
                .count() as u64
        };
        Self {
            positive: count(true),
            negative: count(false),
        }
    }
}

/// Which images were asked for or searched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeSet {
    /// Name and split, such as `cifar10 test`.
    pub name: String,
    /// How the command line names the set, such as `cifar10:test`; none where it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argument: Option<String>,
    /// Number of images.
    pub count: usize,
    /// SHA-256 of the content, hexadecimal.
    pub sha256: String,
}

/// One measured pair: queries of one version on the gallery of another. Fractions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompatibilityRecord {
    /// The version that embedded the queries.
    pub query_version: String,
    /// The version that embedded the gallery.
    pub gallery_version: String,
    /// SHA-256 of the query version's weights; none in records of programs before 0.2, which certify nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_weights: Option<String>,
    /// SHA-256 of the gallery version's weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gallery_weights: Option<String>,
    /// Accuracy of the gallery version on its own gallery.
    pub self_test: f64,
    /// Accuracy of the query version on that gallery.
    pub cross_test: f64,
    /// `cross_test - self_test`.
    pub margin: f64,
    /// 95 % interval of the margin.
    pub interval: Interval,
    /// The same at all confidences that a policy may ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intervals: Vec<ConfidenceInterval>,
    /// The bootstrap intervals of the cross-test at the same confidences, from resamples of their own, so that they say nothing about differences;
    /// empty in records of programs that did not compute them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cross_test_intervals: Vec<ConfidenceInterval>,
    /// Queries whose answer changed; none in records of programs that did not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flips: Option<Flips>,
    /// What was asked.
    pub queries: ProbeSet,
    /// What was searched.
    pub gallery: ProbeSet,
    /// How a tie counts in the metrics of the matrix.
    pub tie_rule: TieRule,
    /// RFC 3339, UTC.
    pub created: String,
}

impl CompatibilityRecord {
    /// Whether the pair counts as compatible under its own tie rule, by the margin alone.
    pub fn is_compatible(&self) -> bool {
        self.tie_rule.is_compatible(self.cross_test, self.self_test)
    }

    /// The margin's interval at a confidence, such as 0.95; none where it was not computed.
    pub fn interval_at(&self, confidence: f64) -> Option<Interval> {
        ConfidenceInterval::at(&self.intervals, confidence)
            .or_else(|| same(0.95, confidence).then_some(self.interval))
    }

    /// The cross-test's interval at a confidence; none where it was not computed.
    pub fn cross_test_interval_at(&self, confidence: f64) -> Option<Interval> {
        ConfidenceInterval::at(&self.cross_test_intervals, confidence)
    }

    /// Whether queries and gallery are these sets, by content.
    pub fn is_on(&self, queries: &ProbeSet, gallery: &ProbeSet) -> bool {
        self.queries.sha256 == queries.sha256 && self.gallery.sha256 == gallery.sha256
    }

    pub(crate) fn measures_the_same_as(&self, other: &Self) -> bool {
        self.query_version == other.query_version
            && self.gallery_version == other.gallery_version
            && self.query_weights == other.query_weights
            && self.gallery_weights == other.gallery_weights
            && self.is_on(&other.queries, &other.gallery)
            && self.tie_rule == other.tie_rule
    }
}

/// Records that cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CompatibilityError {
    /// The file could not be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is damaged.
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

    /// The evaluation set on which a gallery version was measured first: queries and gallery. Sets of fewer queries than `least` count only
    /// where there is no other.
    ///
    /// Later measurements on other sets are kept, but do not move it.
    pub fn first_set_of(
        &self,
        gallery_weights: &str,
        least: usize,
    ) -> Option<(&ProbeSet, &ProbeSet)> {
        let of_version = || {
            let records = self.records.iter();
            records.filter(|record| record.gallery_weights.as_deref() == Some(gallery_weights))
        };
        let first = of_version()
            .find(|record| record.queries.count >= least)
            .or_else(|| of_version().next())?;
        Some((&first.queries, &first.gallery))
    }

    /// The records of a file; none where there is no file.
    pub(crate) fn read(path: &Path) -> Result<Self, CompatibilityError> {
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
        // Of another schema, whatever else the file has; only one of this schema can be damaged.
        #[derive(Deserialize)]
        struct Schema {
            schema_version: u32,
        }
        let schema = |found: u32| {
            (found != SCHEMA_VERSION).then(|| CompatibilityError::Schema {
                path: path.to_owned(),
                found,
            })
        };
        let found: Self = serde_json::from_slice(&bytes).map_err(|source| {
            let said = serde_json::from_slice::<Schema>(&bytes).ok();
            said.and_then(|said| schema(said.schema_version))
                .unwrap_or_else(|| CompatibilityError::Damaged {
                    path: path.to_owned(),
                    source,
                })
        })?;
        if let Some(other) = schema(found.schema_version) {
            return Err(other);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;

//! `compatibility.json` in the registry: which version was measured against which gallery, for whoever serves them.
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
//! `self_test` is the older version on its own gallery. A pair has one record for each combination of probe sets and tie
//! rule; measuring again replaces it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use perennial_core::Registry;
use perennial_eval::{Compatibility, Interval, ProbeSet, TieRule, Verdict};
use serde::{Deserialize, Serialize};

const FILE: &str = "compatibility.json";
const LOCK_FILE: &str = ".compatibility.lock";
const SCHEMA_VERSION: u32 = 1;
const MAX_BYTES: u64 = 256 << 20;

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompatibilityRecords {
    schema_version: u32,
    pub records: Vec<CompatibilityRecord>,
}

/// One measured pair. Fractions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompatibilityRecord {
    /// The newer version, which embeds the queries.
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
    pub queries: ProbeSet,
    pub gallery: ProbeSet,
    pub tie_rule: TieRule,
    pub verdict: Verdict,
    /// RFC 3339, UTC.
    pub created: String,
}

impl CompatibilityRecord {
    fn measures_the_same_as(&self, other: &Self) -> bool {
        self.query_version == other.query_version
            && self.gallery_version == other.gallery_version
            && self.queries.sha256 == other.queries.sha256
            && self.gallery.sha256 == other.gallery.sha256
            && self.tie_rule == other.tie_rule
    }
}

impl CompatibilityRecords {
    /// Where a registry keeps them.
    pub fn path_in(registry: &Registry) -> PathBuf {
        registry.root().join(FILE)
    }

    /// Reads a registry's records; none where the file is missing.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = match perennial_core::read_at_most(path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self {
                    schema_version: SCHEMA_VERSION,
                    records: Vec::new(),
                });
            }
            Err(error) => return Err(error.into()),
        };
        let found: Self = serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "{} is damaged; move it away and evaluate again",
                path.display()
            )
        })?;
        anyhow::ensure!(
            found.schema_version == SCHEMA_VERSION,
            "{}: schema_version is {}, this program reads {SCHEMA_VERSION}",
            path.display(),
            found.schema_version
        );
        Ok(found)
    }
}

/// Adds every pair of a report to the registry's records.
pub fn record(registry: &Registry, report: &Compatibility) -> anyhow::Result<()> {
    let lock = fs_err::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(registry.root().join(LOCK_FILE))?;
    // Two evaluations at once must not lose one another's records; the lock ends with the file handle.
    lock.file().lock()?;
    let path = CompatibilityRecords::path_in(registry);
    let mut known = CompatibilityRecords::read(&path)?;
    for pair in records_of(report) {
        known
            .records
            .retain(|earlier| !earlier.measures_the_same_as(&pair));
        known.records.push(pair);
    }
    let mut text = serde_json::to_string_pretty(&known)?;
    text.push('\n');
    Ok(perennial_core::write_atomically(path, text)?)
}

fn records_of(report: &Compatibility) -> impl Iterator<Item = CompatibilityRecord> + '_ {
    let created = perennial_train::now();
    report.pairs().iter().map(move |pair| CompatibilityRecord {
        query_version: pair.query_version.clone(),
        gallery_version: pair.gallery_version.clone(),
        self_test: pair.self_old,
        cross_test: pair.cross,
        margin: pair.margin,
        interval: pair.interval,
        queries: report.queries().clone(),
        gallery: report.gallery().clone(),
        tie_rule: report.tie_rule(),
        verdict: pair.verdict,
        created: created.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use perennial_eval::{Bootstrap, Retrieval};

    fn report(right: usize, tie_rule: TieRule) -> Compatibility {
        let test = |right: usize| Retrieval {
            ncm_top1: right as f64 / 10.0,
            cmc1: 0.5,
            cmc5: 0.5,
            cmc10: 0.5,
            map: 0.5,
            per_query_ncm_correct: (0..10).map(|query| query < right).collect(),
            queries_without_match: 0,
        };
        let probe = |name: &str| ProbeSet {
            name: name.to_owned(),
            count: 10,
            sha256: perennial_core::sha256_hex(name.as_bytes()),
        };
        Compatibility::new(
            vec!["v0001".to_owned(), "v0002".to_owned()],
            &[vec![test(5)], vec![test(right), test(8)]],
            probe("queries"),
            probe("gallery"),
            tie_rule,
            Bootstrap::new(0),
        )
        .unwrap()
    }

    #[test]
    fn a_new_measurement_replaces_the_same_and_joins_others() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::create(folder.path()).unwrap();
        record(&registry, &report(4, TieRule::Strict)).unwrap();
        record(&registry, &report(5, TieRule::TiesCount)).unwrap();
        record(&registry, &report(6, TieRule::Strict)).unwrap();
        let path = CompatibilityRecords::path_in(&registry);
        let records = CompatibilityRecords::read(&path).unwrap().records;
        let crosses: Vec<f64> = records.iter().map(|record| record.cross_test).collect();
        assert_eq!(crosses, [0.5, 0.6]);
        assert_eq!(records[1].self_test, 0.5);
        assert!(registry.list().unwrap().is_empty());
        std::fs::write(&path, "[]").unwrap();
        assert!(record(&registry, &report(4, TieRule::Strict)).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "[]");
    }
}

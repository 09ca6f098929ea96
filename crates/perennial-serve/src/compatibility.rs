//! Which pairs of model versions may meet in one search.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use perennial_core::{CompatibilityError, CompatibilityRecords, Registry};
use thiserror::Error;

/// A pair that may meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// What it rests on, for people.
    pub basis: String,
}

/// A pair that may not.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{query_version} may not query embeddings of {gallery_version}: {reason}")]
pub struct NotCertified {
    /// The newer version.
    pub query_version: String,
    /// The older version.
    pub gallery_version: String,
    /// Why, and what to do.
    pub reason: String,
}

/// The one place where the service asks whether a newer version may query what an older one embedded.
pub trait CompatibilityCheck: Send + Sync {
    /// Decides about a pair. Called for every search, so it must be fast; equal versions are always certified.
    ///
    /// # Errors
    /// [`NotCertified`] with the reason.
    fn check(&self, query_version: &str, gallery_version: &str) -> Result<Certified, NotCertified>;
}

/// Certifies by the newest record that `evaluate` left in the registry for a pair.
pub struct RegistryRecords {
    registry: Registry,
    min_margin: Option<f64>,
    cache: Mutex<Option<Cached>>,
}

struct Cached {
    looked: Instant,
    stamp: Option<(SystemTime, u64)>,
    records: Result<Arc<CompatibilityRecords>, String>,
}

/// How long records may be used before the file is looked at again: an evaluation counts within a second.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl RegistryRecords {
    /// Certifies a pair when its newest record says that it is compatible.
    pub fn new(registry: Registry) -> Self {
        Self {
            registry,
            min_margin: None,
            cache: Mutex::new(None),
        }
    }

    /// Certifies a pair when the margin of its newest record is at least `min_margin`, a difference of fractions; below 0
    /// it tolerates a loss.
    #[must_use]
    pub fn with_min_margin(self, min_margin: f64) -> Self {
        Self {
            min_margin: Some(min_margin),
            ..self
        }
    }

    fn records(&self) -> Result<Arc<CompatibilityRecords>, String> {
        // A panic while the lock was held can only have left an older cache behind.
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cached) = cache.as_mut() {
            if cached.looked.elapsed() < LOOK_AGAIN {
                return cached.records.clone();
            }
            cached.looked = Instant::now();
            if cached.stamp.is_some() && cached.stamp == self.stamp() {
                return cached.records.clone();
            }
        }
        let stamp = self.stamp();
        let records = CompatibilityRecords::of(&self.registry)
            .map(Arc::new)
            .map_err(|error: CompatibilityError| error.to_string());
        *cache = Some(Cached {
            looked: Instant::now(),
            stamp,
            records: records.clone(),
        });
        records
    }

    /// Changes with every replacement of the file.
    fn stamp(&self) -> Option<(SystemTime, u64)> {
        let metadata = fs_err::metadata(CompatibilityRecords::path(&self.registry)).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }
}

impl CompatibilityCheck for RegistryRecords {
    fn check(&self, query_version: &str, gallery_version: &str) -> Result<Certified, NotCertified> {
        if query_version == gallery_version {
            return Ok(Certified {
                basis: "one and the same version".to_owned(),
            });
        }
        let refused = |reason: String| NotCertified {
            query_version: query_version.to_owned(),
            gallery_version: gallery_version.to_owned(),
            reason,
        };
        let records = self.records().map_err(refused)?;
        let record = records
            .of_pair(query_version, gallery_version)
            .next_back()
            .ok_or_else(|| {
                refused(
                    "the pair was never measured; run `perennial evaluate` with both".to_owned(),
                )
            })?;
        let measured = format!(
            "cross-test {:.4}, self-test {:.4}, margin {:+.4} on {}",
            record.cross_test, record.self_test, record.margin, record.gallery.name
        );
        let (passed, rule) = match self.min_margin {
            Some(least) => (record.margin >= least, format!("margin >= {least:+}")),
            None => (record.is_compatible(), record.tie_rule.formula().to_owned()),
        };
        if passed {
            return Ok(Certified {
                basis: format!("{measured}; {rule} holds"),
            });
        }
        Err(refused(format!("{measured}; {rule} does not hold")))
    }
}

/// The check, together with the pairs that were accepted by force while the service runs.
pub(crate) struct Certification {
    check: Arc<dyn CompatibilityCheck>,
    accept_all: bool,
    accepted: RwLock<BTreeSet<(String, String)>>,
}

/// What a pair's check came to.
pub(crate) enum Standing {
    Certified(Certified),
    Accepted(NotCertified),
    Refused(NotCertified),
}

impl Certification {
    pub(crate) fn new(check: Arc<dyn CompatibilityCheck>, accept_all: bool) -> Self {
        Self {
            check,
            accept_all,
            accepted: RwLock::default(),
        }
    }

    /// How two versions stand. The newer one is always the one that queries, in whichever order they are given.
    pub(crate) fn standing(&self, one: &str, other: &str) -> Standing {
        let (query, gallery) = newer_first(one, other);
        match self.check.check(query, gallery) {
            Ok(certified) => Standing::Certified(certified),
            Err(refused) if self.is_accepted(query, gallery) => Standing::Accepted(refused),
            Err(refused) => Standing::Refused(refused),
        }
    }

    /// The pairs of a version with others that are refused.
    pub(crate) fn refused<'a>(
        &self,
        version: &str,
        others: impl IntoIterator<Item = &'a str>,
    ) -> Vec<NotCertified> {
        others
            .into_iter()
            .filter_map(|other| match self.standing(version, other) {
                Standing::Refused(refused) => Some(refused),
                Standing::Certified(_) | Standing::Accepted(_) => None,
            })
            .collect()
    }

    /// Whether the check itself, without any force, certifies a pair.
    pub(crate) fn is_certified(&self, query: &str, gallery: &str) -> bool {
        self.check.check(query, gallery).is_ok()
    }

    /// Lets pairs meet that are not certified, until the service ends.
    pub(crate) fn accept(&self, pairs: &[NotCertified]) {
        let mut accepted = self
            .accepted
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for pair in pairs {
            tracing::warn!(
                query_version = pair.query_version,
                gallery_version = pair.gallery_version,
                reason = pair.reason,
                "a pair of versions is accepted by force, without a certificate"
            );
            accepted.insert((pair.query_version.clone(), pair.gallery_version.clone()));
        }
    }

    /// The pairs accepted by force.
    pub(crate) fn accepted(&self) -> Vec<[String; 2]> {
        let accepted = self.accepted.read().unwrap_or_else(PoisonError::into_inner);
        accepted
            .iter()
            .map(|(query, gallery)| [query.clone(), gallery.clone()])
            .collect()
    }

    fn is_accepted(&self, query: &str, gallery: &str) -> bool {
        self.accept_all
            || self
                .accepted
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&(query.to_owned(), gallery.to_owned()))
    }
}

/// Orders two versions by their number; names without one count as oldest.
pub fn newer_first<'a>(one: &'a str, other: &'a str) -> (&'a str, &'a str) {
    let age = |name: &'a str| {
        let number = name
            .strip_prefix('v')
            .and_then(|digits| digits.parse::<u64>().ok());
        (number, name)
    };
    if age(one) >= age(other) {
        (one, other)
    } else {
        (other, one)
    }
}

#[cfg(test)]
mod tests {
    use perennial_core::{CompatibilityRecord, Interval, ProbeSet, TieRule, Verdict};

    use super::*;

    fn record(query: &str, gallery: &str, margin: f64) -> CompatibilityRecord {
        let probes = || ProbeSet {
            name: "probes test".to_owned(),
            count: 10,
            sha256: "ab".repeat(32),
        };
        CompatibilityRecord {
            query_version: query.to_owned(),
            gallery_version: gallery.to_owned(),
            self_test: 0.5,
            cross_test: 0.5 + margin,
            margin,
            interval: Interval {
                low: margin - 0.01,
                high: margin + 0.01,
            },
            queries: probes(),
            gallery: probes(),
            tie_rule: TieRule::Strict,
            verdict: if margin > 0.0 {
                Verdict::Compatible
            } else {
                Verdict::Incompatible
            },
            created: "2026-11-22T21:35:00Z".to_owned(),
        }
    }

    #[test]
    fn the_newest_record_decides() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::open(folder.path()).unwrap();
        let check = RegistryRecords::new(registry.clone());
        assert!(check.check("v0002", "v0002").is_ok());
        let error = check.check("v0002", "v0001").unwrap_err();
        assert!(error.to_string().contains("never measured"), "{error}");

        let pairs = [
            record("v0002", "v0001", 0.1),
            record("v0003", "v0001", -0.005),
        ];
        CompatibilityRecords::add(&registry, pairs).unwrap();
        let check = RegistryRecords::new(registry.clone());
        assert!(check.check("v0002", "v0001").is_ok());
        let error = check.check("v0003", "v0001").unwrap_err().to_string();
        assert!(
            error.contains("-0.0050") && error.contains("does not hold"),
            "{error}"
        );
        let tolerant = RegistryRecords::new(registry).with_min_margin(-0.01);
        assert!(tolerant.check("v0003", "v0001").is_ok());
    }

    #[test]
    fn a_damaged_file_certifies_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("compatibility.json"), "{").unwrap();
        let check = RegistryRecords::new(Registry::open(folder.path()).unwrap());
        let error = check.check("v0002", "v0001").unwrap_err().to_string();
        assert!(error.contains("is damaged"), "{error}");
    }

    #[test]
    fn the_newer_version_queries() {
        assert_eq!(newer_first("v0002", "v0010"), ("v0010", "v0002"));
        assert_eq!(newer_first("v10000", "v9999"), ("v10000", "v9999"));
        assert_eq!(newer_first("other", "v0001"), ("v0001", "other"));
    }

    #[test]
    fn force_is_remembered_per_pair() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::open(folder.path()).unwrap();
        let certification = Certification::new(Arc::new(RegistryRecords::new(registry)), false);
        let refused = certification.refused("v0001", ["v0002", "v0001", "v0003"]);
        assert_eq!(refused.len(), 2);
        certification.accept(&refused[..1]);
        assert_eq!(certification.refused("v0002", ["v0001", "v0003"]).len(), 1);
        assert_eq!(
            certification.accepted(),
            [["v0002".to_owned(), "v0001".to_owned()]]
        );
        assert!(!certification.is_certified("v0002", "v0001"));
    }
}

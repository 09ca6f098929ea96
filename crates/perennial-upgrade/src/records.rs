//! Certification by the compatibility records that `evaluate` wrote to the registry, under the gallery's policy.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use perennial_core::{
    CompatibilityRecord, CompatibilityRecords, ModelVersion, ProbeSet, Registry, Verdict,
};

use crate::accepted;
use crate::certification::{Certified, CompatibilityCheck, NotCertified};
use crate::evaluation_data::Task;
use crate::finding::Finding;
use crate::policy::{Policy, PolicyError, Undecided};
use crate::stored_certificates::{StoredCertificates, under_policy};

/// Interval of the checks for changed files: a new evaluation is seen within a second.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The registry that commands use unless told otherwise.
const DEFAULT_REGISTRY: &str = "registry";

/// Certifies a pair by its record in the registry, as the gallery's policy demands.
///
/// A record counts if it is of this direction, names the weights that both versions have, and was measured on the policy's
/// evaluation set. Versions with the same weights, network and preprocessing need none.
pub struct RegistryRecords {
    registry: Registry,
    /// The gallery's folder, with its policy and the pairs accepted by force.
    gallery: Option<PathBuf>,
    state: Mutex<State>,
}

struct State {
    looked: Instant,
    stamps: [Stamp; 3],
    policy: Policy,
    records: Result<Arc<CompatibilityRecords>, String>,
    certificates: StoredCertificates,
    /// Cached decisions under this policy and these records.
    decided: HashMap<(String, String), Result<Vec<Certified>, NotCertified>>,
}

/// Changes with every replacement of a file.
type Stamp = Option<(SystemTime, u64)>;

impl RegistryRecords {
    /// For a gallery's folder, with its `policy.toml` and `accepted.toml`.
    ///
    /// # Errors
    /// A policy that cannot be read. Records that cannot be read are no error here; they certify nothing.
    pub fn for_gallery(
        registry: Registry,
        gallery: impl Into<PathBuf>,
    ) -> Result<Self, PolicyError> {
        let gallery = gallery.into();
        // Before the files are read, so that a change in between is noticed.
        let stamps = Self::stamps(&registry, Some(&gallery));
        let policy = Policy::of(&gallery)?;
        accepted::read(&gallery)?;
        Ok(Self::new(registry, Some(gallery), policy, stamps))
    }

    /// Under a policy of the caller's, for a gallery that is no folder.
    pub fn with_policy(registry: Registry, policy: Policy) -> Self {
        let stamps = Self::stamps(&registry, None);
        Self::new(registry, None, policy, stamps)
    }

    fn new(
        registry: Registry,
        gallery: Option<PathBuf>,
        policy: Policy,
        stamps: [Stamp; 3],
    ) -> Self {
        let state = State {
            looked: Instant::now(),
            stamps,
            policy,
            records: read(&registry),
            certificates: read_certificates(&registry),
            decided: HashMap::new(),
        };
        Self {
            registry,
            gallery,
            state: Mutex::new(state),
        }
    }

    fn stamps(registry: &Registry, gallery: Option<&PathBuf>) -> [Stamp; 3] {
        let stamp = |path: PathBuf| {
            let metadata = fs_err::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        [
            stamp(CompatibilityRecords::path(registry)),
            gallery.and_then(|gallery| stamp(Policy::path(gallery))),
            stamp(StoredCertificates::folder(registry)),
        ]
    }

    /// Reads again what has changed.
    fn refresh(&self, state: &mut State) {
        if state.looked.elapsed() < LOOK_AGAIN {
            return;
        }
        state.looked = Instant::now();
        let stamps = Self::stamps(&self.registry, self.gallery.as_ref());
        if stamps == state.stamps && state.records.is_ok() {
            return;
        }
        if let Some(gallery) = self
            .gallery
            .as_ref()
            .filter(|_| stamps[1] != state.stamps[1])
        {
            match Policy::of(gallery) {
                Ok(policy) => state.policy = policy,
                Err(error) => {
                    tracing::error!(%error, "the policy cannot be read; the last valid policy stays in force");
                }
            }
        }
        state.stamps = stamps;
        state.records = read(&self.registry);
        state.certificates = read_certificates(&self.registry);
        state.decided.clear();
    }

    fn decide(
        &self,
        policy: &Policy,
        records: &CompatibilityRecords,
        certificates: &StoredCertificates,
        pair: &Pair,
    ) -> Result<Certified, NotCertified> {
        let (query, gallery) = (pair.query.name.as_str(), pair.gallery.name.as_str());
        if pair.is_one_model() {
            return Ok(Certified::by("equal weights, network and preprocessing"));
        }
        // A policy that names an evaluation set by name can be met only by records, which carry such names.
        let certificate = certificates
            .of_pair(&pair.query.space(), &pair.gallery.space(), policy.task)
            .filter(|_| policy.evaluation_set.is_none());
        let certified = certificate.and_then(|certificate| under_policy(certificate, policy));
        match (certified, policy.undecided) {
            (Some((Finding::Compatible, basis)), _) => return Ok(Certified::by(basis)),
            (Some((Finding::Undecided, basis)), Undecided::Warn) => {
                return Ok(Certified {
                    undecided: true,
                    ..Certified::by(basis)
                });
            }
            (Some((_, reason)), _) => {
                return Err(NotCertified {
                    query_version: query.to_owned(),
                    gallery_version: gallery.to_owned(),
                    reason,
                    remedy: None,
                });
            }
            (None, _) => {}
        }
        if policy.task == Task::ItemLike {
            return Err(NotCertified {
                query_version: query.to_owned(),
                gallery_version: gallery.to_owned(),
                reason: "this gallery requires a certificate for item-like retrieval, and compatibility records measure class means only"
                    .to_owned(),
                remedy: Some(format!(
                    "perennial certify --record --relevance FILE --old-queries {gallery}@SET:SPLIT --old-gallery {gallery}@SET:SPLIT --new-queries {query}@SET:SPLIT"
                )),
            });
        }
        let set = evaluation_set(policy, records, pair);
        let refused = |reason: String, remedy: Option<String>| NotCertified {
            query_version: query.to_owned(),
            gallery_version: gallery.to_owned(),
            reason,
            remedy,
        };
        let measured: Vec<&CompatibilityRecord> = records.of_pair(query, gallery).collect();
        let of_weights: Vec<&CompatibilityRecord> = measured
            .iter()
            .copied()
            .filter(|record| pair.is_measured_by(record))
            .collect();
        let counts = |record: &&CompatibilityRecord| match (&policy.evaluation_set, &set) {
            (Some(wanted), _) => wanted.matches(&record.queries, &record.gallery),
            (None, Set::First(queries, searched)) => record.is_on(queries, searched),
            (None, _) => true,
        };
        let Some(record) = of_weights
            .iter()
            .copied()
            .filter(counts)
            .max_by(|one, other| one.created.cmp(&other.created))
        else {
            let remedy = Some(self.command(&set, records, query, gallery));
            let reason = if let Some(other) = of_weights.first() {
                format!(
                    "it was measured on {} and {}, but this gallery requires the evaluation set {set}",
                    other.queries.name, other.gallery.name
                )
            } else if measured.is_empty() {
                "the compatibility of this pair was never measured".to_owned()
            } else if measured.iter().any(|record| record.query_weights.is_some()) {
                "the compatibility of this pair was measured with other weights under the same names".to_owned()
            } else {
                "the compatibility record is from an older program, which did not record the weights"
                    .to_owned()
            };
            return Err(refused(reason, remedy));
        };
        let Some(interval) = record.interval_at(policy.confidence) else {
            let reason = format!(
                "the compatibility record has no interval at the policy's confidence of {}",
                policy.confidence
            );
            return Err(refused(
                reason,
                Some(self.command(&set, records, query, gallery)),
            ));
        };
        let verdict = Verdict::of(interval, policy.min_margin);
        let basis = format!(
            "{verdict}: cross-test {:.4}, self-test {:.4}, margin {:+.4} [{:+.4}, {:+.4}] at {} confidence, required {:+}, on {}",
            record.cross_test,
            record.self_test,
            record.margin,
            interval.low,
            interval.high,
            policy.confidence,
            policy.min_margin,
            record.gallery.name
        );
        match (verdict, policy.undecided) {
            (Verdict::Compatible, _) => Ok(Certified::by(basis)),
            (Verdict::Undecided, Undecided::Warn) => Ok(Certified {
                undecided: true,
                ..Certified::by(basis)
            }),
            _ => Err(refused(basis, None)),
        }
    }

    /// The command that measures a pair.
    fn command(
        &self,
        set: &Set<'_>,
        records: &CompatibilityRecords,
        query: &str,
        gallery: &str,
    ) -> String {
        const UNKNOWN: &str = "SET:SPLIT";
        let argument = |set: &ProbeSet| set.argument.clone();
        // A policy may name a set by its content or its name, which the command line does not take.
        let named = |name: &str| {
            let sets = records.records.iter();
            let mut sets = sets.flat_map(|record| [&record.queries, &record.gallery]);
            match sets.find(|set| set.sha256 == name || set.name == name) {
                Some(set) => argument(set),
                None => name.contains(':').then(|| name.to_owned()),
            }
        };
        let [queries, searched] = match set {
            Set::Named(queries, searched) => [named(queries), named(searched)],
            Set::First(queries, searched) => [argument(queries), argument(searched)],
            Set::Any => [None, None],
        };
        let mut command = format!(
            "perennial evaluate --versions {gallery} {query} --queries {} --gallery {}",
            quoted(queries.as_deref().unwrap_or(UNKNOWN)),
            quoted(searched.as_deref().unwrap_or(UNKNOWN))
        );
        let root = self.registry.root();
        if root != Path::new(DEFAULT_REGISTRY) {
            command.push_str(&format!(" --registry {}", quoted(&root.to_string_lossy())));
        }
        command
    }

    /// A version of the pair under its own name.
    fn version(
        &self,
        name: &str,
        query: &str,
        gallery: &str,
    ) -> Result<ModelVersion, NotCertified> {
        self.registry.get(name).map_err(|error| NotCertified {
            query_version: query.to_owned(),
            gallery_version: gallery.to_owned(),
            reason: format!(
                "the weights of {name} cannot be compared with the compatibility records: {error}"
            ),
            remedy: None,
        })
    }
}

impl CompatibilityCheck for RegistryRecords {
    fn ways(
        &self,
        query_version: &str,
        gallery_version: &str,
    ) -> Result<Vec<Certified>, NotCertified> {
        if query_version == gallery_version {
            return Ok(vec![Certified::by("same version")]);
        }
        // A panic while the lock was held can only have left an older state behind.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.refresh(&mut state);
        let key = (query_version.to_owned(), gallery_version.to_owned());
        if let Some(known) = state.decided.get(&key) {
            return known.clone();
        }
        // A version that cannot be read is not remembered: the next search may succeed.
        let pair = Pair {
            query: self.version(query_version, query_version, gallery_version)?,
            gallery: self.version(gallery_version, query_version, gallery_version)?,
        };
        let decision = match &state.records {
            Ok(records) => self
                .decide(&state.policy, records, &state.certificates, &pair)
                .map(|certified| vec![certified]),
            Err(problem) => Err(NotCertified {
                query_version: query_version.to_owned(),
                gallery_version: gallery_version.to_owned(),
                reason: problem.clone(),
                remedy: None,
            }),
        };
        state.decided.insert(key, decision.clone());
        decision
    }

    fn accepted(&self) -> Vec<(String, String)> {
        let Some(gallery) = &self.gallery else {
            return Vec::new();
        };
        match accepted::read(gallery) {
            Ok(pairs) => pairs
                .into_iter()
                .map(|pair| (pair.query_version, pair.gallery_version))
                .collect(),
            Err(error) => {
                tracing::error!(%error, "accepted.toml cannot be read; pairs accepted by force earlier are refused");
                Vec::new()
            }
        }
    }

    fn keep_accepted(&self, pairs: &[NotCertified]) -> io::Result<()> {
        match &self.gallery {
            Some(gallery) => accepted::add(gallery, pairs),
            None => Ok(()),
        }
    }
}

fn read(registry: &Registry) -> Result<Arc<CompatibilityRecords>, String> {
    CompatibilityRecords::of(registry)
        .map(Arc::new)
        .map_err(|error| error.to_string())
}

/// A folder that cannot be read certifies nothing.
fn read_certificates(registry: &Registry) -> StoredCertificates {
    StoredCertificates::of(registry).unwrap_or_else(|error| {
        tracing::error!(%error, "the registry's certificates cannot be read");
        StoredCertificates::default()
    })
}

/// The two versions of a decision.
struct Pair {
    query: ModelVersion,
    gallery: ModelVersion,
}

impl Pair {
    /// Whether both compute the same embeddings.
    fn is_one_model(&self) -> bool {
        self.query.space().fingerprint == self.gallery.space().fingerprint
    }

    fn is_measured_by(&self, record: &CompatibilityRecord) -> bool {
        record.query_weights.as_ref() == Some(&self.query.weights_sha256)
            && record.gallery_weights.as_ref() == Some(&self.gallery.weights_sha256)
    }
}

/// The evaluation set on which a pair must be measured.
enum Set<'a> {
    /// The policy names it.
    Named(&'a str, &'a str),
    /// The stored version was measured on it first.
    First(&'a ProbeSet, &'a ProbeSet),
    /// The stored version was never measured.
    Any,
}

fn evaluation_set<'a>(
    policy: &'a Policy,
    records: &'a CompatibilityRecords,
    pair: &Pair,
) -> Set<'a> {
    match &policy.evaluation_set {
        Some(named) => Set::Named(&named.queries, &named.gallery),
        None => match records.first_set_of(&pair.gallery.weights_sha256) {
            Some((queries, gallery)) => Set::First(queries, gallery),
            None => Set::Any,
        },
    }
}

impl std::fmt::Display for Set<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Named(queries, searched) => write!(f, "{queries} and {searched}"),
            Self::First(queries, searched) => write!(f, "{} and {}", queries.name, searched.name),
            Self::Any => f.write_str("any"),
        }
    }
}

/// An argument for a POSIX shell.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '/' | '.' | '-' | '_');
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;

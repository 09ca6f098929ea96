//! Certification by a registry's certificates and by the compatibility records that `evaluate` wrote to it, under the gallery's policy.

mod certified_routes;
mod known_bridges;
mod measured_pairs;
mod pair;
mod recorded_finding;
mod stamp;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use perennial_core::{CompatibilityRecords, Registry};

use self::certified_routes::{CertifiedRoutes, LostWay, Ranked, own_quality, own_thresholds};
use self::known_bridges::KnownBridges;
use self::measured_pairs::MeasuredPairs;
use self::pair::{End, Pair};
pub use self::recorded_finding::recorded_finding;
use self::stamp::Stamp;
use crate::accepted;
use crate::bridges::BridgeRegistry;
use crate::certification::{Certified, CertifiedWay, CompatibilityCheck, NotCertified};
use crate::policy::{Policy, PolicyError};
use crate::promotion::LIVE_ALIAS;
use crate::public_text::in_registry;
use crate::stored_certificates::StoredCertificates;

/// Interval of the checks for changed files: a new evaluation is seen within a second.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Certifies a pair by its certificates in the registry, or for route own by its record, as the gallery's policy demands.
///
/// Of each way (route, bridge, weight) the newest certificate counts. Those of route mapped and of centred indexes do not, nor those whose
/// bridge is not in the registry (any more): [`NotCertified::reason`] says so. A record counts if it is of this direction, names the weights that both versions have, and was measured on the policy's
/// evaluation set. Versions with the same weights, network and preprocessing need none.
pub struct RegistryRecords {
    registry: Registry,
    /// The gallery's folder, with its policy and the pairs accepted by force.
    gallery: Option<PathBuf>,
    state: Mutex<State>,
}

struct State {
    /// None where the files are to be looked at before the next decision.
    looked: Option<Instant>,
    /// Nothing where they could not be looked through at the start.
    stamps: Option<Stamps>,
    policy: Policy,
    records: Result<Arc<CompatibilityRecords>, String>,
    certificates: StoredCertificates,
    /// Why their folder could not be looked through the last time.
    folder_problem: Option<String>,
    bridges: KnownBridges,
    /// Cached decisions under this policy and these records.
    decided: HashMap<(String, String), Result<Vec<Certified>, NotCertified>>,
}

/// What the files were when they were read.
#[derive(PartialEq)]
struct Stamps {
    records: Option<Stamp>,
    policy: Option<Stamp>,
    /// Every file: a certificate that is written over in place leaves its folder as it was.
    certificates: Vec<(PathBuf, Option<Stamp>)>,
}

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
        let stamps = Self::stamps(&registry, Some(&gallery)).ok();
        let policy = Policy::of(&gallery)?;
        accepted::read(&gallery)?;
        Ok(Self::new(registry, Some(gallery), policy, stamps))
    }

    /// Under a policy of the caller's, for a gallery that is no folder.
    pub fn with_policy(registry: Registry, policy: Policy) -> Self {
        let stamps = Self::stamps(&registry, None).ok();
        Self::new(registry, None, policy, stamps)
    }

    fn new(
        registry: Registry,
        gallery: Option<PathBuf>,
        policy: Policy,
        stamps: Option<Stamps>,
    ) -> Self {
        let state = State {
            looked: Some(Instant::now()),
            stamps,
            policy,
            records: read(&registry),
            certificates: read_certificates(&registry),
            folder_problem: None,
            bridges: KnownBridges::of(BridgeRegistry::of(&registry)),
            decided: HashMap::new(),
        };
        Self {
            registry,
            gallery,
            state: Mutex::new(state),
        }
    }

    /// # Errors
    /// The folder of the certificates cannot be read.
    fn stamps(registry: &Registry, gallery: Option<&PathBuf>) -> io::Result<Stamps> {
        let certificates = StoredCertificates::files(registry)?;
        let stamped = certificates.into_iter().map(|path| {
            let stamp = Stamp::of(&path);
            (path, stamp)
        });
        Ok(Stamps {
            records: Stamp::of(&CompatibilityRecords::path(registry)),
            policy: gallery.and_then(|gallery| Stamp::of(&Policy::path(gallery))),
            certificates: stamped.collect(),
        })
    }

    /// Reads again what has changed.
    fn refresh(&self, state: &mut State) {
        if state
            .looked
            .is_some_and(|looked| looked.elapsed() < LOOK_AGAIN)
        {
            return;
        }
        state.looked = Some(Instant::now());
        if state.bridges.look_again() {
            state.decided.clear();
        }
        let stamps = match Self::stamps(&self.registry, self.gallery.as_ref()) {
            Ok(stamps) => {
                state.folder_problem = None;
                stamps
            }
            // Nothing says that anything has changed.
            Err(error) => {
                let problem = error.to_string();
                if state.folder_problem.as_ref() != Some(&problem) {
                    tracing::error!(%error, "the certificates cannot be looked through; what was read before stays in force, and they are looked through again");
                }
                state.folder_problem = Some(problem);
                return;
            }
        };
        let read_all = state.records.is_ok() && !state.certificates.is_incomplete();
        if state.stamps.as_ref() == Some(&stamps) && read_all {
            return;
        }
        if let Some(gallery) = self.gallery.as_ref().filter(|_| {
            let before = state.stamps.as_ref();
            before.is_none_or(|before| before.policy != stamps.policy)
        }) {
            match Policy::of(gallery) {
                Ok(policy) => state.policy = policy,
                Err(error) => {
                    tracing::error!(%error, "the policy cannot be read; the last valid policy stays in force");
                }
            }
        }
        state.records = read(&self.registry);
        let unchanged = |path: &Path| {
            let stamp = |stamps: &Stamps| {
                let mut files = stamps.certificates.iter();
                files.find(|(file, _)| file == path)?.1
            };
            let before = state.stamps.as_ref().and_then(stamp);
            before.is_some() && before == stamp(&stamps)
        };
        match StoredCertificates::again(&self.registry, &state.certificates, &unchanged) {
            Ok(certificates) => state.certificates = certificates,
            // The next look finds the stamps of before.
            Err(error) => {
                tracing::error!(%error, "the certificates cannot be read; what was read before stays in force, and they are read again");
                state.decided.clear();
                return;
            }
        }
        state.stamps = Some(stamps);
        let used = state.certificates.iter();
        let used = used.filter_map(|certificate| certificate.bridge.as_ref());
        state
            .bridges
            .keep(used.map(|bridge| bridge.sha256.as_str()));
        state.decided.clear();
    }

    fn decide(
        &self,
        state: &mut State,
        records: &CompatibilityRecords,
        pair: &Pair,
    ) -> Result<Vec<Certified>, NotCertified> {
        let State {
            policy,
            certificates,
            bridges,
            ..
        } = state;
        if pair.is_one_model() {
            let fingerprint = pair
                .gallery
                .space
                .fingerprint
                .as_deref()
                .unwrap_or_default();
            return Ok(vec![Certified {
                thresholds: own_thresholds(certificates, policy, fingerprint),
                expected: own_quality(certificates, policy, fingerprint),
                ..Certified::by("equal weights, network and preprocessing")
            }]);
        }
        let CertifiedRoutes {
            mut ways,
            mut reasons,
            lost,
            own_measured,
        } = CertifiedRoutes::of(certificates, policy, pair, bridges);
        let mut remedy = None;
        if !own_measured {
            let measured = MeasuredPairs {
                registry: &self.registry,
                policy,
                records,
            };
            match measured.certify(pair) {
                Ok(own) => ways.push(own),
                Err(refused) => {
                    reasons.push(refused.reason);
                    remedy = refused.remedy;
                }
            }
        }
        if ways.is_empty() {
            return Err(pair.refused(reasons.join("; "), remedy));
        }
        // Stable, and own before all others among equals.
        ways.sort_by(|one, other| {
            let is_other = |ranked: &Ranked| ranked.certified.way != CertifiedWay::Own;
            one.knowledge()
                .cmp(&other.knowledge())
                .then(other.margin.total_cmp(&one.margin))
                .then(is_other(one).cmp(&is_other(other)))
        });
        // What would be searched by if its files were there.
        let is_first = |lost: &LostWay| match lost.knowledge().cmp(&ways[0].knowledge()) {
            Ordering::Equal => lost.margin >= ways[0].margin,
            before_or_after => before_or_after == Ordering::Less,
        };
        let lost: Vec<String> = lost
            .into_iter()
            .filter(is_first)
            .map(|lost| lost.reason)
            .collect();
        let mut ways: Vec<Certified> = ways.into_iter().map(|ranked| ranked.certified).collect();
        ways[0].instead_of = (!lost.is_empty()).then(|| lost.join("; "));
        Ok(ways)
    }

    /// One end of a pair.
    fn end(&self, name: &str, query: &str, gallery: &str) -> Result<End, NotCertified> {
        End::of(&self.registry, name).map_err(|reason| NotCertified {
            query_version: query.to_owned(),
            gallery_version: gallery.to_owned(),
            reason,
            remedy: None,
        })
    }

    /// The one way of a version to its own items, which needs no proof.
    fn same_version(&self, state: &State, name: &str) -> Certified {
        let end = End::of(&self.registry, name).ok();
        let State {
            certificates,
            policy,
            ..
        } = state;
        match end.and_then(|end| end.space.fingerprint) {
            Some(fingerprint) => Certified {
                thresholds: own_thresholds(certificates, policy, &fingerprint),
                expected: own_quality(certificates, policy, &fingerprint),
                ..Certified::by("same version")
            },
            None => Certified::by("same version"),
        }
    }
}

impl CompatibilityCheck for RegistryRecords {
    fn ways(
        &self,
        query_version: &str,
        gallery_version: &str,
    ) -> Result<Vec<Certified>, NotCertified> {
        // A panic while the lock was held can only have left an older state behind.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.refresh(&mut state);
        let key = (query_version.to_owned(), gallery_version.to_owned());
        if let Some(known) = state.decided.get(&key) {
            return known.clone();
        }
        let decision = if query_version == gallery_version {
            Ok(vec![self.same_version(&state, query_version)])
        } else {
            // A version that cannot be read is not remembered: the next search may succeed.
            let pair = Pair {
                query: self.end(query_version, query_version, gallery_version)?,
                gallery: self.end(gallery_version, query_version, gallery_version)?,
            };
            match state.records.clone() {
                Ok(records) => self.decide(&mut state, &records, &pair),
                Err(problem) => Err(pair.refused(problem, None)),
            }
        };
        state.decided.insert(key, decision.clone());
        decision
    }

    fn look_again(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.looked = None;
    }

    fn accepted(&self) -> Vec<(String, String)> {
        let Some(gallery) = &self.gallery else {
            return Vec::new();
        };
        match accepted::read(gallery) {
            Ok(pairs) => {
                let live = self.registry.aliases().ok();
                let live = live.and_then(|mut aliases| aliases.remove(LIVE_ALIAS));
                // Of a promotion that ended between the two files, the live pointer says whether it happened.
                let counts = |pair: &accepted::Pair| {
                    !pair.pending || live.as_deref() == Some(pair.query_version.as_str())
                };
                let counting = pairs.into_iter().filter(counts);
                counting
                    .map(|pair| (pair.query_version, pair.gallery_version))
                    .collect()
            }
            Err(error) => {
                tracing::error!(%error, "accepted.toml cannot be read; pairs accepted by force earlier are refused");
                Vec::new()
            }
        }
    }

    fn keep_accepted(&self, pairs: &[NotCertified], pending: bool) -> io::Result<()> {
        match &self.gallery {
            Some(gallery) => accepted::add(gallery, pairs, pending),
            None => Ok(()),
        }
    }

    fn settle_accepted(&self) -> io::Result<()> {
        let Some(gallery) = &self.gallery else {
            return Ok(());
        };
        let aliases = self.registry.aliases().map_err(io::Error::other)?;
        accepted::settle(gallery, aliases.get(LIVE_ALIAS).map(String::as_str))
    }

    fn take_back_accepted(&self, pairs: &[NotCertified]) -> io::Result<()> {
        match &self.gallery {
            Some(gallery) => accepted::take_back(gallery, pairs),
            None => Ok(()),
        }
    }
}

fn read(registry: &Registry) -> Result<Arc<CompatibilityRecords>, String> {
    CompatibilityRecords::of(registry)
        .map(Arc::new)
        .map_err(|error| {
            tracing::error!(%error, "the registry's compatibility records cannot be read");
            in_registry(&error.to_string(), registry)
        })
}

/// A folder that cannot be read certifies nothing.
fn read_certificates(registry: &Registry) -> StoredCertificates {
    StoredCertificates::of(registry).unwrap_or_else(|error| {
        tracing::error!(%error, "the registry's certificates cannot be read");
        StoredCertificates::default()
    })
}

#[cfg(test)]
pub(crate) mod tests;

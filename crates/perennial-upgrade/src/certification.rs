//! Which version may query items of which other version: the certificates, and the uncertified pairs accepted with `--force`.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use perennial_bridge::Bridge;
use perennial_gallery::VectorMap;
use thiserror::Error;

use crate::bridge_map::BridgeMap;
use crate::expected_quality::ExpectedQuality;
use crate::recorded_merge::RecordedMerge;
use crate::remedy::Remedy;
use crate::route::Route;
use crate::thresholds::Thresholds;

/// How queries of a certified pair reach the items.
#[derive(Clone, PartialEq)]
pub enum CertifiedWay {
    /// As they are.
    Own,
    /// Through a bridge into the items' space.
    Bridged(Arc<Bridge>),
    /// Through a bridge, added to the embedding of the same query by the encoder of the items.
    Dual {
        /// From the queries' space to the items'.
        bridge: Arc<Bridge>,
        /// The share of the items' own encoder, from 0 to 1.
        weight: f64,
    },
    /// As they are, among the items' vectors mapped into the queries' space, of which an index is kept beside the stored ones.
    Mapped(Arc<BridgeMap>),
}

/// What a way needs beside the embedding of the query.
#[derive(Debug, Clone, Copy)]
pub enum Need<'a> {
    /// The encoder of this version, which embeds the query as well.
    OldEncoder(&'a str),
    /// An index of a space's vectors, mapped.
    MappedIndex {
        /// The space.
        space: &'a str,
        /// The map.
        map: &'a Arc<BridgeMap>,
    },
}

impl Need<'_> {
    /// What a verdict says of an index that is not there yet, and will be.
    pub fn to_build(items: u64, bytes: u64) -> String {
        let megabytes = bytes.div_ceil(1_000_000);
        format!(
            "to be built: a service maps {items} items and keeps them in memory beside the stored vectors, about {megabytes} MB"
        )
    }

    /// What a verdict says of one that is there.
    pub(crate) fn met(self) -> &'static str {
        match self {
            Self::OldEncoder(_) => "loaded and checked; it embeds each picture of a search as well",
            Self::MappedIndex { .. } => "kept in memory beside the stored vectors",
        }
    }
}

/// As verdicts name it.
impl fmt::Display for Need<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OldEncoder(version) => write!(f, "encoder of {version}"),
            Self::MappedIndex { space, .. } => write!(f, "mapped vectors of {space}"),
        }
    }
}

impl CertifiedWay {
    /// The route.
    pub fn route(&self) -> Route {
        match self {
            Self::Own => Route::Own,
            Self::Bridged(_) => Route::Bridged,
            Self::Dual { weight, .. } => Route::Dual { weight: *weight },
            Self::Mapped(_) => Route::Mapped,
        }
    }

    /// Whether the encoder of the items must embed each query as well.
    pub fn needs_old_encoder(&self) -> bool {
        matches!(self, Self::Dual { .. })
    }

    /// What searching a space this way needs, if anything.
    pub fn need<'a>(&'a self, space: &'a str) -> Option<Need<'a>> {
        match self {
            Self::Own | Self::Bridged(_) => None,
            Self::Dual { .. } => Some(Need::OldEncoder(space)),
            Self::Mapped(map) => Some(Need::MappedIndex { space, map }),
        }
    }

    /// The bridge, where the route has one; its direction differs from route to route.
    pub fn bridge(&self) -> Option<&Bridge> {
        match self {
            Self::Own => None,
            Self::Bridged(bridge) | Self::Dual { bridge, .. } => Some(bridge),
            Self::Mapped(map) => Some(map.bridge()),
        }
    }

    /// Whether queries of one dimension can reach items of another this way.
    pub fn leads(&self, query_dim: usize, item_dim: usize) -> bool {
        match self {
            Self::Own => query_dim == item_dim,
            Self::Bridged(bridge) | Self::Dual { bridge, .. } => {
                bridge.from().dim == query_dim && bridge.to().dim == item_dim
            }
            Self::Mapped(map) => map.output_dim() == query_dim && map.input_dim() == item_dim,
        }
    }
}

/// Without the bridge's weights.
impl fmt::Debug for CertifiedWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.route())?;
        match self.bridge() {
            None => Ok(()),
            Some(bridge) => write!(f, " through {} to {}", bridge.from(), bridge.to()),
        }
    }
}

/// A certified pair, by one way.
#[derive(Debug, Clone, PartialEq)]
pub struct Certified {
    /// The measurement or identity that it rests on, as text.
    pub basis: String,
    /// Whether the measurement is undecided, which the policy allows with a warning.
    pub undecided: bool,
    /// How queries reach the items.
    pub way: CertifiedWay,
    /// The similarities from which on hits are accepted, by the share of wrong ones; nothing where that was not measured.
    pub thresholds: Option<Thresholds>,
    /// How hits of this way are ranked best together with hits of the queries' own space, where that was measured.
    pub merge: Option<RecordedMerge>,
    /// What was measured of it, in absolute figures; empty where nothing was.
    pub expected: Vec<ExpectedQuality>,
    /// Which way was as good or better until a file of it went, and which file that is.
    pub instead_of: Option<String>,
}

impl Certified {
    /// Route own, without a warning and without thresholds.
    pub fn by(basis: impl Into<String>) -> Self {
        Self::through(CertifiedWay::Own, basis)
    }

    /// A way without a warning and without thresholds.
    pub fn through(way: CertifiedWay, basis: impl Into<String>) -> Self {
        Self {
            basis: basis.into(),
            undecided: false,
            way,
            thresholds: None,
            merge: None,
            expected: Vec::new(),
            instead_of: None,
        }
    }
}

/// A pair without a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{query_version} may not query embeddings of {gallery_version}: {reason}")]
pub struct NotCertified {
    /// The version that would query.
    pub query_version: String,
    /// The version that embedded the stored items.
    pub gallery_version: String,
    /// Why.
    pub reason: String,
    /// The command that measures the pair, if a measurement is missing.
    pub remedy: Option<Remedy>,
}

/// Decides whether a version is certified to query items of another.
///
/// [`RegistryRecords`](crate::RegistryRecords) decides by certificates and compatibility records; other proofs of compatibility can be
/// other implementations.
pub trait CompatibilityCheck: Send + Sync {
    /// All certified ways of a directed pair, the best first; never empty. Called for every search, so it must be fast. Equal versions are
    /// always certified, by route own.
    ///
    /// Ways beyond doubt come before undecided ones, of these those of certificates before those of compatibility records, which measure class means
    /// alone, and of these the one with the largest margin of the measures that decide; route own is first among equals.
    ///
    /// # Errors
    /// [`NotCertified`] with the reason.
    fn ways(
        &self,
        query_version: &str,
        gallery_version: &str,
    ) -> Result<Vec<Certified>, NotCertified>;

    /// The best certified way of a directed pair.
    ///
    /// # Errors
    /// [`NotCertified`] with the reason.
    fn check(&self, query_version: &str, gallery_version: &str) -> Result<Certified, NotCertified> {
        let mut ways = self.ways(query_version, gallery_version)?;
        if ways.is_empty() {
            return Err(NotCertified {
                query_version: query_version.to_owned(),
                gallery_version: gallery_version.to_owned(),
                reason: "there is no certified way".to_owned(),
                remedy: None,
            });
        }
        Ok(ways.swap_remove(0))
    }

    /// Looks at its sources anew before the next decision: what it takes from files may be a second old otherwise.
    fn look_again(&self) {}

    /// Pairs `(query, gallery)` that were accepted by force earlier and outlast the process.
    fn accepted(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Keeps pairs accepted by force beyond the process, where there is a place for it. `pending` pairs count in a later process only if their
    /// query version is live then; keeping them again without `pending` makes them count in any case.
    ///
    /// # Errors
    /// A place that cannot be written.
    fn keep_accepted(&self, _pairs: &[NotCertified], _pending: bool) -> io::Result<()> {
        Ok(())
    }

    /// Decides about the pairs that an interrupted promotion left pending, before anything is promoted: those whose query version is live count from
    /// now on in any case, and the others are forgotten.
    ///
    /// # Errors
    /// A place that cannot be read or written.
    fn settle_accepted(&self) -> io::Result<()> {
        Ok(())
    }

    /// Forgets those of these pairs that are kept as pending.
    ///
    /// # Errors
    /// A place that cannot be written.
    fn take_back_accepted(&self, _pairs: &[NotCertified]) -> io::Result<()> {
        Ok(())
    }
}

/// The check, together with the pairs that were accepted by force.
pub struct Certification {
    check: Arc<dyn CompatibilityCheck>,
    accept_all: bool,
    accepted: RwLock<BTreeSet<(String, String)>>,
}

/// The result of a pair's check.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// The check certifies it, by this way at best.
    Certified(Certified),
    /// The check refuses it, and it was accepted by force.
    Accepted(NotCertified),
    /// The check refuses it.
    Refused(NotCertified),
}

impl Certification {
    /// With `accept_all`, every pair is accepted and refusals are only reported.
    pub fn new(check: Arc<dyn CompatibilityCheck>, accept_all: bool) -> Self {
        let accepted = check.accepted().into_iter().collect();
        Self {
            check,
            accept_all,
            accepted: RwLock::new(accepted),
        }
    }

    /// Decides from now on by what the check's sources hold at this moment: before a promotion and at a reload, a second is too old.
    pub fn look_again(&self) {
        self.check.look_again();
    }

    /// All certified ways of queries of one version to items of another, the best first; an accepted pair has none.
    ///
    /// # Errors
    /// [`NotCertified`] with the reason.
    pub fn ways(&self, query: &str, gallery: &str) -> Result<Vec<Certified>, NotCertified> {
        self.check.ways(query, gallery)
    }

    /// The standing of queries of one version on items of another.
    pub fn standing(&self, query: &str, gallery: &str) -> Standing {
        self.found(query, gallery, self.check.check(query, gallery))
    }

    /// The ways of a stored item, as the query, to items of another version, the best first.
    ///
    /// Without a bridge a cosine has no direction, so a certificate in either one is enough. Dual queries are left out: the picture or text
    /// behind a stored item is not at hand.
    ///
    /// # Errors
    /// [`NotCertified`] with the reason, of the direction from the item.
    pub fn ways_of_items(&self, item: &str, other: &str) -> Result<Vec<Certified>, NotCertified> {
        let forth = self.check.ways(item, other);
        let back = match &forth {
            // The same pair, and route own already.
            _ if item == other => None,
            Ok(ways) if ways.iter().any(|one| one.way == CertifiedWay::Own) => None,
            _ => self.check.ways(other, item).ok(),
        };
        let own = back
            .into_iter()
            .flatten()
            .filter(|one| one.way == CertifiedWay::Own);
        let (mut ways, refused) = match forth {
            Ok(ways) => (ways, None),
            Err(refused) => (Vec::new(), Some(refused)),
        };
        let only_dual = !ways.is_empty();
        ways.retain(|one| !one.way.needs_old_encoder());
        ways.extend(own);
        if !ways.is_empty() {
            return Ok(ways);
        }
        Err(refused.unwrap_or_else(|| NotCertified {
            query_version: item.to_owned(),
            gallery_version: other.to_owned(),
            reason: match only_dual {
                true => format!(
                    "the only certified route is dual, which needs the encoder of {other} to embed what was stored as an item of {item}; search with the original instead, or certify route bridged"
                ),
                false => "there is no certified way".to_owned(),
            },
            remedy: None,
        }))
    }

    /// The standing of two versions where a stored item is the query.
    pub fn standing_of_items(&self, item: &str, other: &str) -> Standing {
        let best = self
            .ways_of_items(item, other)
            .map(|mut ways| ways.swap_remove(0));
        match self.found(item, other, best) {
            Standing::Refused(refused) if self.is_accepted(other, item) => {
                Standing::Accepted(refused)
            }
            standing => standing,
        }
    }

    fn found(&self, query: &str, gallery: &str, best: Result<Certified, NotCertified>) -> Standing {
        match best {
            Ok(certified) => Standing::Certified(certified),
            Err(refused) if self.is_accepted(query, gallery) => Standing::Accepted(refused),
            Err(refused) => Standing::Refused(refused),
        }
    }

    /// The pairs with versions among `stored` whose items the version may not query.
    pub fn refused<'a>(
        &self,
        query: &str,
        stored: impl IntoIterator<Item = &'a str>,
    ) -> Vec<NotCertified> {
        let standings = stored
            .into_iter()
            .map(|gallery| self.standing(query, gallery));
        let refused = standings.filter_map(|standing| match standing {
            Standing::Refused(refused) => Some(refused),
            Standing::Certified(_) | Standing::Accepted(_) => None,
        });
        refused.collect()
    }

    /// Whether the check itself, without any force, certifies a pair.
    pub fn is_certified(&self, query: &str, gallery: &str) -> bool {
        self.check.check(query, gallery).is_ok()
    }

    /// Accepts pairs that are not certified, in this process and, if they can be stored, in later ones.
    pub fn accept(&self, pairs: &[NotCertified]) {
        if pairs.is_empty() {
            return;
        }
        let mut accepted = self
            .accepted
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for pair in pairs {
            tracing::warn!(
                query_version = pair.query_version,
                gallery_version = pair.gallery_version,
                reason = pair.reason,
                "an uncertified pair of versions is accepted by force"
            );
            accepted.insert((pair.query_version.clone(), pair.gallery_version.clone()));
        }
        // Under the lock, so that two forced changes at once do not lose one another's pairs.
        // The forced change stays. Without the file, it must be forced again after a restart, and /readyz reports it.
        if let Err(error) = self.check.keep_accepted(pairs, false) {
            tracing::error!(%error, "the accepted pairs could not be stored; after a restart they are refused again");
        }
    }

    /// Accepts pairs together with a change that may fail: either both happen or neither does, also where the process ends in between.
    ///
    /// # Errors
    /// That the pairs cannot be stored, and those of the change; no pair is accepted then that was not before.
    pub(crate) fn accept_with<T, E: From<io::Error>>(
        &self,
        pairs: &[NotCertified],
        change: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let lock = || {
            self.accepted
                .write()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let accepted = lock();
        let is_new = |pair: &&NotCertified| {
            !accepted.contains(&(pair.query_version.clone(), pair.gallery_version.clone()))
        };
        let new: Vec<NotCertified> = pairs.iter().filter(is_new).cloned().collect();
        if !new.is_empty() {
            self.check.keep_accepted(&new, true)?;
        }
        drop(accepted);
        match change() {
            Ok(done) => {
                self.accept(&new);
                Ok(done)
            }
            Err(error) => {
                // Left behind, they would count only if their version became live by another way.
                let _turn = lock();
                if !new.is_empty()
                    && let Err(error) = self.check.take_back_accepted(&new)
                {
                    tracing::error!(%error, "the pairs of a promotion that failed could not be taken back");
                }
                Err(error)
            }
        }
    }

    /// The pairs accepted by force.
    pub fn accepted(&self) -> Vec<[String; 2]> {
        let accepted = self.accepted.read().unwrap_or_else(PoisonError::into_inner);
        accepted
            .iter()
            .map(|(query, gallery)| [query.clone(), gallery.clone()])
            .collect()
    }

    pub(crate) fn is_accepted(&self, query: &str, gallery: &str) -> bool {
        self.accept_all
            || self
                .accepted
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&(query.to_owned(), gallery.to_owned()))
    }
}

#[cfg(test)]
pub(crate) mod tests;

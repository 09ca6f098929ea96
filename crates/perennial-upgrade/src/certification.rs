//! Which version may query items of which other version: the certificates, and the uncertified pairs accepted with `--force`.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use thiserror::Error;

/// A certified pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// The measurement or identity that it rests on, as text.
    pub basis: String,
    /// Whether the measurement is undecided, which the policy allows with a warning.
    pub undecided: bool,
}

impl Certified {
    /// A certificate without a warning.
    pub fn by(basis: impl Into<String>) -> Self {
        Self {
            basis: basis.into(),
            undecided: false,
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
    pub remedy: Option<String>,
}

/// Decides whether a version is certified to query items of another.
///
/// [`RegistryRecords`](crate::RegistryRecords) decides by the compatibility records; other proofs of compatibility can be other
/// implementations.
pub trait CompatibilityCheck: Send + Sync {
    /// Decides about a directed pair. Called for every search, so it must be fast; equal versions are always certified.
    ///
    /// # Errors
    /// [`NotCertified`] with the reason.
    fn check(&self, query_version: &str, gallery_version: &str) -> Result<Certified, NotCertified>;

    /// Pairs `(query, gallery)` that were accepted by force earlier and outlast the process.
    fn accepted(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Keeps pairs accepted by force beyond the process, where there is a place for it.
    ///
    /// # Errors
    /// A place that cannot be written.
    fn keep_accepted(&self, _pairs: &[NotCertified]) -> io::Result<()> {
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The check certifies it.
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

    /// The standing of queries of one version on items of another.
    pub fn standing(&self, query: &str, gallery: &str) -> Standing {
        match self.check.check(query, gallery) {
            Ok(certified) => Standing::Certified(certified),
            Err(refused) if self.is_accepted(query, gallery) => Standing::Accepted(refused),
            Err(refused) => Standing::Refused(refused),
        }
    }

    /// The standing of two versions where a stored item is the query. A cosine has no direction,
    /// so a certificate in either one is enough.
    pub fn standing_of_items(&self, one: &str, other: &str) -> Standing {
        match self.standing(one, other) {
            Standing::Refused(refused) => match self.standing(other, one) {
                Standing::Refused(_) => Standing::Refused(refused),
                met => met,
            },
            met => met,
        }
    }

    /// The pairs with versions among `stored` whose items the version may not query.
    pub fn refused<'a>(
        &self,
        query: &str,
        stored: impl IntoIterator<Item = &'a str>,
    ) -> Vec<NotCertified> {
        refusals(
            stored
                .into_iter()
                .map(|gallery| self.standing(query, gallery)),
        )
    }

    /// The versions among `stored` whose items may not be compared with an item of `version`.
    pub fn refused_items<'a>(
        &self,
        version: &str,
        stored: impl IntoIterator<Item = &'a str>,
    ) -> Vec<NotCertified> {
        refusals(
            stored
                .into_iter()
                .map(|other| self.standing_of_items(version, other)),
        )
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
        if let Err(error) = self.check.keep_accepted(pairs) {
            tracing::error!(%error, "the accepted pairs could not be stored; after a restart they are refused again");
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

    fn is_accepted(&self, query: &str, gallery: &str) -> bool {
        self.accept_all
            || self
                .accepted
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&(query.to_owned(), gallery.to_owned()))
    }
}

fn refusals(standings: impl Iterator<Item = Standing>) -> Vec<NotCertified> {
    standings
        .filter_map(|standing| match standing {
            Standing::Refused(refused) => Some(refused),
            Standing::Certified(_) | Standing::Accepted(_) => None,
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Certifies what is listed, as `(query, gallery)`.
    pub(crate) struct Listed(pub(crate) Vec<(&'static str, &'static str)>);

    impl CompatibilityCheck for Listed {
        fn check(&self, query: &str, gallery: &str) -> Result<Certified, NotCertified> {
            if query == gallery || self.0.contains(&(query, gallery)) {
                return Ok(Certified::by("listed"));
            }
            Err(NotCertified {
                query_version: query.to_owned(),
                gallery_version: gallery.to_owned(),
                reason: "not listed".to_owned(),
                remedy: None,
            })
        }
    }

    #[test]
    fn queries_have_a_direction_and_items_have_none() {
        let certification = Certification::new(Arc::new(Listed(vec![("v0002", "v0001")])), false);
        assert!(certification.refused("v0002", ["v0001"]).is_empty());
        assert_eq!(certification.refused("v0001", ["v0002"]).len(), 1);
        assert!(certification.refused_items("v0001", ["v0002"]).is_empty());
        assert_eq!(certification.refused_items("v0001", ["v0003"]).len(), 1);
    }

    #[test]
    fn force_is_remembered_per_pair() {
        let certification = Certification::new(Arc::new(Listed(Vec::new())), false);
        let refused = certification.refused("v0003", ["v0002", "v0001", "v0003"]);
        assert_eq!(refused.len(), 2);
        certification.accept(&refused[..1]);
        assert_eq!(certification.refused("v0003", ["v0001", "v0002"]).len(), 1);
        assert_eq!(
            certification.accepted(),
            [["v0003".to_owned(), "v0002".to_owned()]]
        );
        assert!(!certification.is_certified("v0003", "v0002"));
    }
}

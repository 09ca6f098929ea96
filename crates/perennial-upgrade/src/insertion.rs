//! The checks before items of given versions are stored in a gallery.

use std::collections::BTreeSet;

use perennial_core::ModelVersion;
use perennial_gallery::StoreSpace;

use crate::certification::{Certification, CertifiedWay, NotCertified, Standing};
use crate::loaded_model::{simplex_of, store_space};
use crate::stored::{Stored, simplex_beside};

/// The result of the check of a batch's versions.
#[derive(Debug, Default)]
pub struct Insertion {
    /// Pairs that are not certified.
    pub refused: Vec<NotCertified>,
    /// Why the versions do not fit the gallery's simplex; force overrules it.
    pub other_simplex: Option<String>,
    /// The spaces of the batch that have no items yet, to be created before they get some.
    pub new_spaces: Vec<StoreSpace>,
    /// Whether a pair passes only because it was accepted by force before.
    pub accepted_before: bool,
}

impl Insertion {
    /// Checks the versions of a batch. Items may be stored if the live version is certified to query them. Items of the live version itself
    /// always may: what else is stored that it is not certified to query is left out of searches, and is no reason to leave out what it finds.
    /// Where no version is live, each pair with a stored version must be certified in one of its directions.
    pub fn check(
        certification: &Certification,
        versions: &[&ModelVersion],
        stored: &Stored,
        live: Option<&str>,
    ) -> Self {
        let mut insertion = Self::default();
        let mut others: BTreeSet<&str> = stored.per_version.keys().map(String::as_str).collect();
        others.extend(versions.iter().map(|version| version.name.as_str()));
        for version in versions {
            let name = version.name.as_str();
            match live {
                Some(live) if live != name => insertion.note(certification.standing(live, name)),
                Some(_) => {}
                None => {
                    for other in &others {
                        let standing = either_way(certification, name, other);
                        if matches!(standing, Standing::Refused(_)) {
                            // Force is to allow both directions.
                            insertion.note(certification.standing(other, name));
                        }
                        insertion.note(standing);
                    }
                }
            }
        }
        insertion.check_simplex(certification, versions, stored, live);
        let known = |version: &&ModelVersion| stored.per_version.contains_key(&version.name);
        let new = versions.iter().copied().filter(|version| !known(version));
        insertion.new_spaces = new.filter_map(store_space).collect();
        insertion
    }

    /// Whether the items may be stored.
    pub fn allows(&self, force: bool) -> bool {
        force || (self.refused.is_empty() && self.other_simplex.is_none())
    }

    fn note(&mut self, standing: Standing) {
        match standing {
            Standing::Certified(_) => {}
            Standing::Accepted(_) => self.accepted_before = true,
            Standing::Refused(pair) if self.refused.contains(&pair) => {}
            Standing::Refused(pair) => self.refused.push(pair),
        }
    }

    /// Items that route own leads to share one simplex. What a bridge leads to may have any, and so may what no route leads to.
    fn check_simplex(
        &mut self,
        certification: &Certification,
        versions: &[&ModelVersion],
        stored: &Stored,
        live: Option<&str>,
    ) {
        let bridged = |standing: Standing| match standing {
            Standing::Certified(certified) => certified.way != CertifiedWay::Own,
            Standing::Accepted(_) | Standing::Refused(_) => false,
        };
        let by_live =
            |name: &str| live.is_some_and(|live| bridged(certification.standing(live, name)));
        let met = |version: &&&ModelVersion| !by_live(&version.name);
        let versions: Vec<&ModelVersion> = versions.iter().filter(met).copied().collect();
        let Some(first) = versions.first() else {
            return;
        };
        let own = simplex_of(first);
        if let Some(other) = versions.iter().find(|version| simplex_of(version) != own) {
            self.other_simplex = Some(format!(
                "{} and {} do not have the same simplex",
                first.name, other.name
            ));
            return;
        }
        let beside = stored.spaces.iter().filter(|stats| {
            let name = stats.space.id.as_str();
            match live {
                Some(live) => match certification.standing(live, name) {
                    Standing::Certified(certified) => certified.way == CertifiedWay::Own,
                    Standing::Accepted(_) => true,
                    Standing::Refused(_) => false,
                },
                None => {
                    let mut each = versions.iter();
                    !each.all(|version| bridged(either_way(certification, &version.name, name)))
                }
            }
        });
        let mut beside = beside.map(|stats| stats.space.simplex).peekable();
        if beside.peek().is_none() {
            return;
        }
        self.other_simplex = match (simplex_beside(own, beside), own) {
            (gallery, own) if gallery == own => None,
            (Some(gallery), _) => Some(format!(
                "{} does not have the gallery's simplex of {} vertices",
                first.name, gallery.vertices
            )),
            (None, _) => Some(format!(
                "{} has a simplex classifier, but the stored items have none",
                first.name
            )),
        };
    }
}

/// The standing of two versions of which neither is live: certified in one direction, by any route, is enough.
fn either_way(certification: &Certification, one: &str, other: &str) -> Standing {
    match certification.standing(one, other) {
        Standing::Refused(refused) => match certification.standing(other, one) {
            Standing::Refused(_) => Standing::Refused(refused),
            met => met,
        },
        met => met,
    }
}

#[cfg(test)]
mod tests;

//! Route own: stored items that queries may be compared with as they are.

use perennial_core::SpaceId;

use crate::certification::{Certification, NotCertified};

/// What is the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking<'a> {
    /// Something that this version embedded for the search.
    Version(&'a str),
    /// A stored item that this version embedded: as good an answer to the other items as they are to it.
    Item(&'a str),
}

/// The spaces that a search names, and the certificates that it lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnRoute {
    /// The spaces searched.
    pub spaces: Vec<SpaceId>,
    /// Pairs that are not certified. The search may go on only by force.
    pub refused: Vec<NotCertified>,
}

impl OwnRoute {
    /// The route of queries through the items of some stored versions.
    pub fn of<'a>(
        certification: &Certification,
        asking: Asking<'_>,
        stored: impl Iterator<Item = &'a str> + Clone,
    ) -> Self {
        Self {
            // Names were checked before they were stored.
            spaces: stored
                .clone()
                .filter_map(|name| SpaceId::new(name).ok())
                .collect(),
            refused: match asking {
                Asking::Version(version) => certification.refused(version, stored),
                Asking::Item(version) => certification.refused_items(version, stored),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::certification::tests::Listed;

    #[test]
    fn an_item_needs_a_certificate_in_either_direction() {
        let check = Arc::new(Listed(vec![("v0002", "v0001")]));
        let certification = Certification::new(check, false);
        let stored = ["v0001", "v0002"];
        let route = |asking| OwnRoute::of(&certification, asking, stored.into_iter());
        assert!(route(Asking::Version("v0002")).refused.is_empty());
        assert_eq!(route(Asking::Version("v0001")).refused.len(), 1);
        let found = route(Asking::Item("v0001"));
        assert!(found.refused.is_empty());
        assert!(found.spaces.iter().map(SpaceId::as_str).eq(stored));
    }
}

//! Route own: stored items that queries may be compared with as they are.

use perennial_core::SpaceId;

use crate::certification::{Certification, NotCertified};
use crate::stored::Stored;

/// What is the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking<'a> {
    /// Something that this version embedded for the search.
    Version(&'a str),
    /// A stored item that this version embedded: as good an answer to the other items as they are to it.
    Item(&'a str),
}

/// The spaces that a search names, and what it leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnRoute {
    /// The spaces searched.
    pub spaces: Vec<SpaceId>,
    /// Pairs that are not certified. The search may go on only by force.
    pub refused: Vec<NotCertified>,
    /// Items of spaces of another dimension: no query can be compared with them as it is, so they are not searched.
    pub not_searched: u64,
}

impl OwnRoute {
    /// The route of queries of a dimension through the stored items, or through those of the versions `among`.
    pub fn of(
        certification: &Certification,
        asking: Asking<'_>,
        dim: usize,
        stored: &Stored,
        among: Option<&[String]>,
    ) -> Self {
        let mut route = Self::default();
        for stats in &stored.spaces {
            let id = &stats.space.id;
            if among.is_some_and(|among| among.iter().all(|name| name != id.as_str())) {
                continue;
            }
            if stats.space.dim == dim {
                route.spaces.push(id.clone());
            } else {
                route.not_searched += stats.items;
            }
        }
        let names = route.spaces.iter().map(SpaceId::as_str);
        route.refused = match asking {
            Asking::Version(version) => certification.refused(version, names),
            Asking::Item(version) => certification.refused_items(version, names),
        };
        route
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::certification::tests::Listed;
    use crate::stored::tests::stored;

    fn names(route: &OwnRoute) -> Vec<&str> {
        route.spaces.iter().map(SpaceId::as_str).collect()
    }

    #[test]
    fn an_item_needs_a_certificate_in_either_direction() {
        let check = Arc::new(Listed(vec![("v0002", "v0001")]));
        let certification = Certification::new(check, false);
        let stored = stored(&[("v0001", 3, None), ("v0002", 3, None)]);
        let route = |asking| OwnRoute::of(&certification, asking, 3, &stored, None);
        assert!(route(Asking::Version("v0002")).refused.is_empty());
        assert_eq!(route(Asking::Version("v0001")).refused.len(), 1);
        let found = route(Asking::Item("v0001"));
        assert!(found.refused.is_empty());
        assert_eq!(names(&found), ["v0001", "v0002"]);
    }

    #[test]
    fn items_of_other_dimensions_are_counted_and_left_out() {
        let certification = Certification::new(Arc::new(Listed(Vec::new())), false);
        let stored = stored(&[("clip", 5, None), ("text", 6, None), ("v0001", 3, None)]);
        let route = |among: Option<&[String]>| {
            OwnRoute::of(&certification, Asking::Version("v0001"), 3, &stored, among)
        };
        let all = route(None);
        assert_eq!((names(&all), all.not_searched), (vec!["v0001"], 20));
        assert!(all.refused.is_empty());
        let text = route(Some(&["text".to_owned()]));
        assert_eq!((names(&text), text.not_searched), (vec![], 10));
        assert_eq!(route(Some(&["v0001".to_owned()])).not_searched, 0);
    }
}

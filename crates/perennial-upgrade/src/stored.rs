//! The content of a gallery, as far as the rules need it.

use std::collections::BTreeMap;

use perennial_gallery::{GalleryError, SimplexIdentity, SpaceStats, VectorStore};

/// The spaces that a gallery holds items of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Items in all.
    pub items: u64,
    /// Items by the version or outside encoder that embedded them; those without items are absent.
    pub per_version: BTreeMap<String, u64>,
    /// The spaces with items, in the order of their names.
    pub spaces: Vec<SpaceStats>,
}

impl Stored {
    /// The current content of a gallery.
    ///
    /// # Errors
    /// Those of the gallery.
    pub fn of(store: &dyn VectorStore) -> Result<Self, GalleryError> {
        let spaces = store.spaces()?.into_iter();
        let spaces: Vec<SpaceStats> = spaces.filter(|stats| stats.items > 0).collect();
        let named = |stats: &SpaceStats| (stats.space.id.to_string(), stats.items);
        Ok(Self {
            items: spaces.iter().map(|stats| stats.items).sum(),
            per_version: spaces.iter().map(named).collect(),
            spaces,
        })
    }
}

/// What a version with or without a simplex meets among stored spaces: the same, if any of them has it; otherwise the simplex of another one.
pub(crate) fn simplex_beside(
    own: Option<SimplexIdentity>,
    mut stored: impl Iterator<Item = Option<SimplexIdentity>> + Clone,
) -> Option<SimplexIdentity> {
    if stored.clone().any(|simplex| simplex == own) {
        return own;
    }
    stored.find_map(|simplex| simplex)
}

#[cfg(test)]
pub(crate) mod tests {
    use perennial_core::SpaceId;
    use perennial_gallery::StoreSpace;

    use super::*;

    pub(crate) fn stored(spaces: &[(&str, usize, Option<usize>)]) -> Stored {
        let spaces = spaces.iter().map(|&(name, dim, vertices)| SpaceStats {
            space: StoreSpace {
                id: SpaceId::new(name).unwrap(),
                dim,
                simplex: vertices.map(|vertices| SimplexIdentity { vertices }),
            },
            items: 10,
        });
        Stored {
            spaces: spaces.collect(),
            ..Stored::default()
        }
    }

    #[test]
    fn the_own_simplex_is_met_before_another_one() {
        let simplex = |vertices| Some(SimplexIdentity { vertices });
        let mixed = [None, simplex(4), simplex(5)];
        let beside =
            |own, stored: &[Option<SimplexIdentity>]| simplex_beside(own, stored.iter().copied());
        assert_eq!(beside(simplex(5), &mixed), simplex(5));
        assert_eq!(beside(simplex(9), &mixed), simplex(4));
        assert_eq!(beside(None, &mixed), None);
        assert_eq!(beside(None, &[simplex(4)]), simplex(4));
        assert_eq!(beside(simplex(5), &[]), None);
    }
}

//! Spaces as a store keeps them.

use perennial_core::SpaceId;
use serde::{Deserialize, Serialize};

use crate::error::GalleryError;
use crate::item::SimplexIdentity;
use crate::limits::MAX_DIM;

/// A space whose items a store may hold.
///
/// The space of a model version has the version's name, and so has that of an outside encoder: an item belongs to the space that its
/// `model_version` names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSpace {
    /// Its name.
    pub id: SpaceId,
    /// The length of its vectors.
    pub dim: usize,
    /// The simplex that its vectors were trained towards. Spaces of one simplex may share one index.
    #[serde(default)]
    pub simplex: Option<SimplexIdentity>,
}

impl StoreSpace {
    /// Says whether a store can keep it.
    ///
    /// # Errors
    /// [`GalleryError::UnsupportedDimension`], [`GalleryError::InvalidIdentity`], or [`GalleryError::IdentityDimension`] for a simplex of
    /// another dimension.
    pub fn check(&self) -> Result<(), GalleryError> {
        if !(1..=MAX_DIM).contains(&self.dim) {
            return Err(GalleryError::UnsupportedDimension {
                what: format!("space {}", self.id),
                found: self.dim,
            });
        }
        if let Some(simplex) = self.simplex {
            let expected = simplex.dim()?;
            if expected != self.dim {
                return Err(GalleryError::IdentityDimension {
                    vertices: simplex.vertices,
                    expected,
                    stored: self.dim,
                });
            }
        }
        Ok(())
    }

    /// Says whether a space that is stored with items of a dimension, and of a simplex where it has one, can become this one.
    ///
    /// # Errors
    /// [`GalleryError::IdentityMismatch`] for another simplex; [`GalleryError::IdentityDimension`] or [`GalleryError::WrongDimension`] for another
    /// dimension.
    pub fn check_change(
        &self,
        stored: usize,
        simplex: Option<SimplexIdentity>,
    ) -> Result<(), GalleryError> {
        if let (Some(given), Some(stored)) = (self.simplex, simplex)
            && given != stored
        {
            return Err(GalleryError::IdentityMismatch {
                stored: stored.vertices,
                given: given.vertices,
            });
        }
        if self.dim == stored {
            return Ok(());
        }
        Err(match self.simplex {
            Some(simplex) => GalleryError::IdentityDimension {
                vertices: simplex.vertices,
                expected: self.dim,
                stored,
            },
            None => GalleryError::WrongDimension {
                what: format!("space {}", self.id),
                found: self.dim,
                expected: stored,
            },
        })
    }
}

/// A space and its items in number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceStats {
    /// The space.
    pub space: StoreSpace,
    /// Items stored.
    pub items: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_has_a_possible_dimension_that_fits_its_simplex() {
        let check = |dim, vertices: Option<usize>| {
            let space = StoreSpace {
                id: SpaceId::new("v0001").unwrap(),
                dim,
                simplex: vertices.map(|vertices| SimplexIdentity { vertices }),
            };
            space.check()
        };
        assert!(check(3, None).is_ok() && check(3, Some(4)).is_ok());
        assert!(check(MAX_DIM, None).is_ok());
        for (dim, vertices) in [(0, None), (MAX_DIM + 1, None), (0, Some(1)), (1, Some(1))] {
            assert!(check(dim, vertices).unwrap_err().is_invalid_input());
        }
        let error = check(3, Some(5)).unwrap_err();
        assert!(matches!(
            error,
            GalleryError::IdentityDimension { expected: 4, .. }
        ));
    }
}

//! Whether items of some versions may be stored here.

use std::sync::Arc;

use perennial_core::ModelVersion;
use perennial_upgrade::{Insertion, LoadedModel, NotCertified, Stored};

use crate::error::ApiError;
use crate::gallery::Gallery;
use crate::incompatible::incompatible;

/// What stands against items that may be stored nevertheless.
#[must_use = "pairs that are stored by force are accepted once they are written"]
pub(crate) struct Admission {
    /// Whether force was needed, now or when the pair was accepted.
    pub(crate) forced: bool,
    accepted: Vec<NotCertified>,
}

impl Admission {
    /// The items are stored. What force overruled is accepted only now: a write that fails accepts nothing. Where the process ends in between, the
    /// items are there and not searched, as every answer says, until somebody stores them by force again.
    pub(crate) fn written(&self, gallery: &Gallery) {
        gallery.certification.accept(&self.accepted);
    }
}

/// Checks the versions of items that are about to be stored, and creates the spaces that they need. Whoever stores the first items of a version holds
/// [`Gallery::hold_versions`] from here to [`Admission::written`].
///
/// # Errors
/// 409 for versions that the live one is not certified to find, unless `force` is given; those of the gallery.
pub(crate) fn admit(
    gallery: &Gallery,
    live: Option<&LoadedModel>,
    versions: &[Arc<ModelVersion>],
    force: bool,
) -> Result<Admission, ApiError> {
    let stored = Stored::of(&*gallery.store)?;
    let versions: Vec<&ModelVersion> = versions.iter().map(|version| &**version).collect();
    let live = live.map(LoadedModel::name);
    let insertion = Insertion::check(&gallery.certification, &versions, &stored, live);
    if !insertion.allows(force) {
        return Err(match insertion.other_simplex {
            Some(problem) => ApiError::conflict(problem),
            None => incompatible(&insertion.refused),
        });
    }
    for space in &insertion.new_spaces {
        gallery.store.create_space(space)?;
    }
    if let Some(problem) = &insertion.other_simplex {
        tracing::warn!(problem, "items of another simplex are stored by force");
    }
    Ok(Admission {
        forced: insertion.accepted_before
            || insertion.other_simplex.is_some()
            || !insertion.refused.is_empty(),
        accepted: insertion.refused,
    })
}

//! Whether items of some versions may be stored here.

use std::sync::Arc;

use perennial_core::ModelVersion;
use perennial_upgrade::{Insertion, Stored};

use crate::error::ApiError;
use crate::service::{Service, incompatible};

/// Checks the versions of items that are about to be stored, and creates the spaces that they need. Says whether force was needed, now or when
/// the pair was accepted. Whoever stores the first items of a version holds `versions_in_gallery` from here to the write.
///
/// # Errors
/// 409 for versions that the live one is not certified to find, unless `force` is given; those of the gallery.
pub(crate) fn admit(
    service: &Service,
    versions: &[Arc<ModelVersion>],
    force: bool,
) -> Result<bool, ApiError> {
    let gallery = &service.gallery;
    let stored = Stored::of(&*gallery.store)?;
    let live = service.inference.live.current();
    let versions: Vec<&ModelVersion> = versions.iter().map(|version| &**version).collect();
    let live = live.as_ref().map(|live| live.name());
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
    gallery.certification.accept(&insertion.refused);
    Ok(insertion.accepted_before
        || insertion.other_simplex.is_some()
        || !insertion.refused.is_empty())
}

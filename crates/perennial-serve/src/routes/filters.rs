//! Filters of requests: the versions that they name must exist.

use perennial_gallery::Filter;

use crate::error::ApiError;
use crate::gallery::Gallery;
use crate::versions::Versions;

/// Replaces aliases in a filter by the versions they point to; blocks.
///
/// A version name with items in the gallery is used as it is, even if the registry does not know it.
///
/// # Errors
/// 422 for a name that neither the gallery nor the registry knows: a mistyped name would otherwise silently match nothing.
pub(crate) fn resolve(
    gallery: &Gallery,
    versions: &Versions,
    mut filter: Filter,
) -> Result<Filter, ApiError> {
    let stored = gallery.stored();
    for name in filter.model_versions.iter_mut().flatten() {
        if stored.per_version.contains_key(name) {
            continue;
        }
        let version = versions.get(name).map_err(|mut error| {
            error.message = format!(
                "filter.{}",
                error.message.replacen("version:", "versions:", 1)
            );
            error
        })?;
        name.clone_from(&version.name);
    }
    Ok(filter)
}

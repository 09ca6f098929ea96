//! Model versions that options name, such as `--model-version`.

use perennial_core::{Registry, RegistryError};
use perennial_gallery::{EmbeddedGallery, Maintenance};

use crate::exit_status::usage;
use crate::suggestion;

/// The versions' own names: an alias stands for the version that it points to now, and a version that the gallery holds items of
/// for itself, whatever the registry says.
///
/// # Errors
/// Wrong usage for a name that is neither in the gallery nor in the registry; the search would find nothing.
pub fn resolve(
    names: Option<Vec<String>>,
    registry: Option<&Registry>,
    gallery: &EmbeddedGallery,
) -> anyhow::Result<Option<Vec<String>>> {
    let Some(names) = names else {
        return Ok(None);
    };
    let stored = gallery.stats()?.per_version;
    let mut resolved = Vec::with_capacity(names.len());
    for name in names {
        let version = match registry.map(|registry| registry.resolve(&name)) {
            _ if stored.contains_key(&name) => name,
            Some(Ok(version)) => version,
            Some(Err(error @ RegistryError::DanglingAlias { .. })) => return Err(error.into()),
            Some(Err(RegistryError::Unknown { .. })) | None => {
                let mut known: Vec<String> = stored.into_keys().collect();
                if let Some(registry) = registry {
                    known.extend(registry.names()?);
                    known.extend(registry.aliases()?.into_keys());
                }
                known.sort_unstable();
                known.dedup();
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                return Err(usage(format!(
                    "--model-version {name}: this version is neither in the gallery nor in the registry; {}",
                    suggestion::describe(&name, &known)
                )));
            }
            Some(Err(error)) => return Err(error.into()),
        };
        resolved.push(version);
    }
    Ok(Some(resolved))
}

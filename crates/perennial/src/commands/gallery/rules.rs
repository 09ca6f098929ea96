//! The rules of the local gallery, and refusals by them.

use std::sync::Arc;

use perennial_core::Registry;
use perennial_upgrade::{Certification, NotCertified, RegistryRecords, Remedy};

use crate::exit_status::{gate_missed, usage};
use crate::gallery_folder::GalleryArguments;

/// Certification under the gallery's policy, by the registry's certificates and compatibility records.
pub fn certification(
    registry: &Registry,
    gallery: &GalleryArguments,
) -> anyhow::Result<Certification> {
    let records = RegistryRecords::for_gallery(registry.clone(), &gallery.gallery)
        .map_err(|error| usage(error.to_string()))?;
    Ok(Certification::new(Arc::new(records), false))
}

/// An error that lists the uncertified pairs and the commands that measure them, with the way out; `Ok` without such pairs.
pub fn require_certified(refused: &[NotCertified], way_out: &str) -> anyhow::Result<()> {
    if refused.is_empty() {
        return Ok(());
    }
    let mut parts: Vec<String> = Vec::new();
    for pair in refused {
        parts.push(pair.to_string());
        let measure = |command: &Remedy| format!("to measure the pair, run `{command}`");
        parts.extend(pair.remedy.as_ref().map(measure));
    }
    parts.push(way_out.to_owned());
    Err(gate_missed(parts.join("; ")))
}

/// The way out where `--force` is an option.
pub const BY_FORCE: &str = "use another gallery, or pass --force to proceed without a certificate";

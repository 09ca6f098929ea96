//! The compatibility records of a registry: one file, which every measurement replaces.

use std::path::PathBuf;

use super::Registry;
use crate::atomic::write_atomically;
use crate::compatibility::{CompatibilityError, CompatibilityRecord, CompatibilityRecords, FILE};
use crate::file_lock::lock;

const LOCK_FILE: &str = ".compatibility.lock";

impl CompatibilityRecords {
    /// The file that holds a registry's records; it appears with the first of them, and every change replaces it.
    pub fn path(registry: &Registry) -> PathBuf {
        registry.root().join(FILE)
    }

    /// Reads a registry's records; none where nothing was measured yet.
    ///
    /// # Errors
    /// A file that is damaged, too large or of another schema.
    pub fn of(registry: &Registry) -> Result<Self, CompatibilityError> {
        Self::read(&Self::path(registry))
    }

    /// Adds records to a registry's; each replaces an earlier one of the same measurement, in its place.
    ///
    /// # Errors
    /// As [`of`](Self::of), or a folder that cannot be written. The file stays as it was.
    pub fn add(
        registry: &Registry,
        measured: impl IntoIterator<Item = CompatibilityRecord>,
    ) -> Result<(), CompatibilityError> {
        // Concurrent evaluations must not overwrite each other's records; the lock ends with the file handle.
        let _lock = lock(&registry.root().join(LOCK_FILE))?;
        let mut known = Self::of(registry)?;
        for pair in measured {
            // In place: the order says which evaluation set a version was measured on first.
            let earlier = known
                .records
                .iter_mut()
                .find(|earlier| earlier.measures_the_same_as(&pair));
            match earlier {
                Some(earlier) => *earlier = pair,
                None => known.records.push(pair),
            }
        }
        let mut text = serde_json::to_string_pretty(&known)
            .expect("records have string keys and serialisable values");
        text.push('\n');
        Ok(write_atomically(Self::path(registry), text)?)
    }
}

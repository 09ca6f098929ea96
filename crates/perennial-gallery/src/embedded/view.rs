//! The database as of a state. Records are read from it when the state was let go of: however many they are, no writer waits for that, and
//! nobody behind a writer.

use std::sync::Arc;

use super::conditions::Conditions;
use super::layout::Layout;
use super::record::Record;
use super::state::State;
use super::tables::Reader;
use crate::error::GalleryError;
use crate::item::{Hit, StoredItem};

/// Unmoved by later writes. The rows of the state from which it comes are found in it by their numbers, which are never used again.
#[derive(Clone)]
pub(super) struct View {
    reader: Arc<Reader>,
    layout: Arc<Layout>,
}

impl View {
    pub(super) fn of(state: &State) -> Result<Self, GalleryError> {
        Ok(Self {
            reader: Arc::clone(state.reader()?),
            layout: Arc::clone(&state.layout),
        })
    }

    pub(super) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The item of a row.
    pub(super) fn item(
        &self,
        row: u64,
        with_embedding: bool,
    ) -> Result<Option<StoredItem>, GalleryError> {
        let item = |record: Record<'_>| self.stored(&record, with_embedding);
        self.reader.record(row, item)
    }

    /// The item of a row, if it meets conditions.
    pub(super) fn item_that_passes(
        &self,
        row: u64,
        with_embedding: bool,
        conditions: &Conditions<'_>,
    ) -> Result<Option<StoredItem>, GalleryError> {
        let item = self.reader.record(row, |record| {
            let passes = conditions.record_passes(&record, self.name(record.version)?)?;
            passes
                .then(|| self.stored(&record, with_embedding))
                .transpose()
        })?;
        Ok(item.flatten())
    }

    /// A row as a hit, if it meets the condition on the payload. What else is asked of it was compared in memory.
    pub(super) fn hit(
        &self,
        row: u64,
        score: f32,
        conditions: &Conditions<'_>,
    ) -> Result<Option<Hit>, GalleryError> {
        let hit = self.reader.record(row, |record| {
            if !conditions.payload_passes(&record)? {
                return Ok(None);
            }
            Ok(Some(Hit {
                id: record.id()?,
                score,
                model_version: self.name(record.version)?.to_owned(),
                label: record.label,
                payload: record.payload()?,
            }))
        })?;
        Ok(hit.flatten())
    }

    fn stored(&self, record: &Record<'_>, with_embedding: bool) -> Result<StoredItem, String> {
        Ok(StoredItem {
            id: record.id()?,
            model_version: self.name(record.version)?.to_owned(),
            label: record.label,
            payload: record.payload()?,
            embedding: with_embedding.then(|| record.embedding().collect()),
        })
    }

    fn name(&self, version: u32) -> Result<&str, String> {
        let name = self.layout.names().get(version as usize);
        name.map(String::as_str)
            .ok_or_else(|| format!("version {version} has no name"))
    }
}

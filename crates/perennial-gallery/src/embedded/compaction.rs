//! Compaction: rewrites the database without the space of deleted and replaced items.
//!
//! The copy is made beside the database from a view of it, while others read and write. Then the writer adds what was written
//! meanwhile and gives the copy the database's name: until that moment the old file is complete, from then on the new one. Row
//! numbers stay, so memory and the approximate index stay valid.

use std::fs::File;
use std::io;
use std::path::Path;

use redb::{Database, ReadableTableMetadata};
use tempfile::TempPath;

use super::opening::empty;
use super::place;
use super::record::Record;
use super::state::State;
use super::tables::{IDS, ITEMS, Meta, Reader, Writer};
use crate::error::GalleryError;

/// A copy that has no name of its own yet. It is removed when it is dropped.
pub(super) struct Copied {
    database: Database,
    file: File,
    temporary: TempPath,
    /// As of the copied view.
    meta: Meta,
    /// The rows that were copied.
    rows: Vec<u64>,
}

impl Copied {
    /// Copies what a reader sees.
    ///
    /// # Errors
    /// A record that is damaged, or a disk that is full or fails. No file stays then.
    pub(super) fn of(reader: &Reader, cache_bytes: usize) -> Result<Self, GalleryError> {
        let path = reader.path();
        let system = |error| place::system(path, error);
        let (file, temporary) = place::copy_file(path).map_err(system)?;
        let (database, file) = empty(file, path, cache_bytes)?;
        let mut copied = Self {
            database,
            file,
            temporary,
            meta: reader.meta()?,
            rows: Vec::with_capacity(reader.items()? as usize),
        };
        copied.copy(reader)?;
        // The file was made larger than need be, ahead of writes that do not come now.
        let shrunk = copied.database.compact();
        shrunk.map_err(|error| reader.storage(error))?;
        Ok(copied)
    }

    fn begin(&self, reader: &Reader) -> Result<Writer, GalleryError> {
        Writer::begin(&self.database).map_err(|error| reader.storage(error))
    }

    fn copy(&mut self, reader: &Reader) -> Result<(), GalleryError> {
        let storage = |error: redb::Error| reader.storage(error);
        let writer = self.begin(reader)?;
        {
            let open = || -> Result<_, redb::Error> {
                let items = writer.transaction.open_table(ITEMS)?;
                Ok((items, writer.transaction.open_table(IDS)?))
            };
            let (mut items, mut ids) = open().map_err(storage)?;
            let rows = &mut self.rows;
            reader.for_each(|row, bytes, _| {
                items
                    .insert(row, bytes)
                    .map_err(|error| reader.storage(error))?;
                rows.push(row);
                Ok(())
            })?;
            // In the order of their keys, which fills pages better than the order of the rows.
            let stored = reader.ids.range::<&[u8]>(..);
            for entry in stored.map_err(|error| reader.storage(error))? {
                let (key, row) = entry.map_err(|error| reader.storage(error))?;
                ids.insert(key.value(), row.value())
                    .map_err(|error| reader.storage(error))?;
            }
        }
        writer.set_layout(&reader.layout()?).map_err(storage)?;
        for epoch in reader.epochs_from(0)? {
            writer.add_epoch(epoch).map_err(storage)?;
        }
        let meta = self.meta;
        writer.set_origin(meta.store).map_err(storage)?;
        writer.set_meta(&meta).map_err(storage)?;
        writer.commit().map_err(storage)
    }

    /// Adds what was written since the view that was copied. `reader` and `state` are as of now, and nothing is written meanwhile.
    pub(super) fn catch_up(&mut self, reader: &Reader, state: &State) -> Result<(), GalleryError> {
        let now = reader.meta()?;
        if now == self.meta {
            return Ok(());
        }
        let storage = |error: redb::Error| reader.storage(error);
        let writer = self.begin(reader)?;
        let changed = || -> Result<(u64, u64), redb::Error> {
            let mut items = writer.transaction.open_table(ITEMS)?;
            let mut ids = writer.transaction.open_table(IDS)?;
            let mut gone = Vec::new();
            for &row in self.rows.iter().filter(|&&row| !state.is_alive(row)) {
                if let Some(bytes) = items.remove(row)?
                    && let Ok(record) = Record::decode(bytes.value())
                {
                    gone.push(record.id_key.to_vec());
                }
            }
            for key in gone {
                ids.remove(key.as_slice())?;
            }
            // Rows are numbered by a counter that never goes back, so all others are behind.
            for entry in reader.items.range(self.meta.next_row..)? {
                let (row, bytes) = entry?;
                let record = Record::decode(bytes.value()).map_err(redb::Error::Corrupted)?;
                items.insert(row.value(), bytes.value())?;
                ids.insert(record.id_key, row.value())?;
            }
            Ok((items.len()?, ids.len()?))
        };
        let copied = changed().map_err(storage)?;
        let stored = reader.items()?;
        if copied != (stored, stored) {
            return Err(reader.storage(format!(
                "the copy came to {} items and {} ids instead of {stored}",
                copied.0, copied.1
            )));
        }
        writer.set_layout(&state.layout).map_err(storage)?;
        for epoch in reader.epochs_from(self.meta.next_row)? {
            writer.add_epoch(epoch).map_err(storage)?;
        }
        writer.set_meta(&now).map_err(storage)?;
        writer.commit().map_err(storage)?;
        self.meta = now;
        Ok(())
    }

    /// Gives the copy the name of the database that it was made from.
    ///
    /// # Errors
    /// What the system says; the copy is removed then, and the database stays.
    pub(super) fn put_in_place(self, path: &Path) -> io::Result<Database> {
        self.file.sync_all()?;
        // Not by the library's `persist`: on Windows, that replaces no file that is open, and the gallery's own is.
        std::fs::rename(&self.temporary, path)?;
        Ok(self.database)
    }
}

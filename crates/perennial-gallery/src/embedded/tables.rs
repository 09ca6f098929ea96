//! The tables of the database: items, their ids, and the spaces with their partitions, in one transactional file.
//!
//! Rows are numbered by a counter that never goes back, so a row number is never reused: a replaced item gets a new
//! row. Everything derived may therefore remember rows, and a gap only means that an item is gone.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{
    AccessGuard, Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    StorageError, TableDefinition, TableError, WriteTransaction,
};

use serde::{Deserialize, Serialize};

use super::layout::{Layout, Shape};
use super::record::Record;
use crate::error::GalleryError;

/// Row number to record.
pub(super) const ITEMS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("items");
/// Id key to row number.
pub(super) const IDS: TableDefinition<'_, &[u8], u64> = TableDefinition::new("ids");
/// Number of a space to its name, which is that of a model version or of an outside encoder.
pub(super) const VERSIONS: TableDefinition<'_, u32, &str> = TableDefinition::new("versions");
/// Number of a space to number of its partition.
pub(super) const SPACES: TableDefinition<'_, u32, u32> = TableDefinition::new("spaces");
/// Number of a partition to its dimension and the vertices of its simplex, 0 for none.
pub(super) const PARTITIONS: TableDefinition<'_, u32, (u32, u32)> =
    TableDefinition::new("partitions");
/// First row of a writer to its number; see [`Epoch`]. Galleries of earlier versions lack this table.
const EPOCHS: TableDefinition<'_, u64, u64> = TableDefinition::new("epochs");
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Format 1 had one dimension and one simplex for all items: see `upgrade.rs`.
pub(super) const FORMAT: u64 = 2;

/// The few numbers that belong to the gallery as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Meta {
    /// Distinguishes this database from earlier ones in the same folder.
    pub(super) store: u64,
    /// Counts the transactions.
    pub(super) sequence: u64,
    /// The next row number.
    pub(super) next_row: u64,
    /// The next number of a partition.
    pub(super) next_partition: u64,
}

/// The rows from one on, as one opening of the gallery has added them. Copies of a database that are written apart from each other number
/// different rows alike, but those are of different epochs. Those that no saved graph refers to are forgotten, so an epoch may seem to go on where a
/// forgotten one began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Epoch {
    pub(super) first_row: u64,
    /// Drawn by chance.
    pub(super) number: u64,
}

/// Keeps a database that a compaction replaced until its last reader is done; empty before that. A database that is dropped
/// ends the views of its readers.
#[derive(Default)]
pub(super) struct Replaced(Mutex<Option<Database>>);

impl Replaced {
    /// Keeps a database that is no longer the gallery's.
    pub(super) fn keep(&self, old: Option<Database>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = old;
    }
}

/// The content at one moment, unmoved by later writes.
pub(super) struct Reader {
    path: PathBuf,
    pub(super) items: ReadOnlyTable<u64, &'static [u8]>,
    pub(super) ids: ReadOnlyTable<&'static [u8], u64>,
    versions: ReadOnlyTable<u32, &'static str>,
    spaces: ReadOnlyTable<u32, u32>,
    partitions: ReadOnlyTable<u32, (u32, u32)>,
    meta: ReadOnlyTable<&'static str, u64>,
    epochs: Option<ReadOnlyTable<u64, u64>>,
    /// Dropped after the tables.
    _database: Arc<Replaced>,
}

/// A transaction; dropping it without a commit discards it.
pub(super) struct Writer {
    pub(super) transaction: WriteTransaction,
}

impl Writer {
    pub(super) fn begin(database: &Database) -> Result<Self, redb::TransactionError> {
        let transaction = database.begin_write()?;
        Ok(Self { transaction })
    }

    /// Writes the spaces and their partitions in the place of what is there.
    pub(super) fn set_layout(&self, layout: &Layout) -> Result<(), redb::Error> {
        let transaction = &self.transaction;
        transaction.delete_table(VERSIONS)?;
        transaction.delete_table(SPACES)?;
        transaction.delete_table(PARTITIONS)?;
        let mut versions = transaction.open_table(VERSIONS)?;
        for (number, name) in (0u32..).zip(layout.names()) {
            versions.insert(number, name.as_str())?;
        }
        let mut spaces = transaction.open_table(SPACES)?;
        for (space, partition) in layout.homes() {
            spaces.insert(space, partition)?;
        }
        let mut partitions = transaction.open_table(PARTITIONS)?;
        for (number, shape) in layout.partitions() {
            partitions.insert(number, (shape.dim, shape.vertices))?;
        }
        Ok(())
    }

    pub(super) fn set_meta(&self, meta: &Meta) -> Result<(), redb::Error> {
        let mut table = self.transaction.open_table(META)?;
        for (key, value) in [
            ("sequence", meta.sequence),
            ("next_row", meta.next_row),
            ("next_partition", meta.next_partition),
        ] {
            table.insert(key, value)?;
        }
        Ok(())
    }

    /// The format and the origin of a new database, or of a copy of one.
    pub(super) fn set_origin(&self, store: u64) -> Result<(), redb::Error> {
        let mut table = self.transaction.open_table(META)?;
        table.insert("format", FORMAT)?;
        table.insert("store", store)?;
        Ok(())
    }

    /// States who has added the rows from one on.
    pub(super) fn add_epoch(&self, epoch: Epoch) -> Result<(), redb::Error> {
        let mut table = self.transaction.open_table(EPOCHS)?;
        table.insert(epoch.first_row, epoch.number)?;
        Ok(())
    }

    /// Forgets epochs that nobody asks for any more: a saved graph of one of `used` is judged as before. What stays is each of those and the one after it,
    /// whose first row is where it ends; the first of all, where the time before ends; and the last.
    pub(super) fn forget_epochs(&self, used: &[Epoch]) -> Result<(), redb::Error> {
        let mut table = self.transaction.open_table(EPOCHS)?;
        let mut epochs = Vec::new();
        for entry in table.range::<u64>(..)? {
            let (first_row, number) = entry?;
            epochs.push(Epoch {
                first_row: first_row.value(),
                number: number.value(),
            });
        }
        let is_used = |epoch: &Epoch| used.contains(epoch);
        for around in epochs.windows(3) {
            if !is_used(&around[0]) && !is_used(&around[1]) {
                table.remove(around[1].first_row)?;
            }
        }
        Ok(())
    }

    pub(super) fn commit(self) -> Result<(), redb::Error> {
        Ok(self.transaction.commit()?)
    }
}

impl Reader {
    /// A view of what is committed now. A database that a compaction replaces stays in `replaced` until its views are gone.
    pub(super) fn of(
        database: &Database,
        path: &Path,
        replaced: &Arc<Replaced>,
    ) -> Result<Self, GalleryError> {
        let transaction = database
            .begin_read()
            .map_err(|error| storage(path, error))?;
        let table = |error| storage(path, error);
        Ok(Self {
            path: path.to_owned(),
            items: transaction.open_table(ITEMS).map_err(table)?,
            ids: transaction.open_table(IDS).map_err(table)?,
            versions: transaction.open_table(VERSIONS).map_err(table)?,
            spaces: transaction.open_table(SPACES).map_err(table)?,
            partitions: transaction.open_table(PARTITIONS).map_err(table)?,
            meta: transaction.open_table(META).map_err(table)?,
            epochs: match transaction.open_table(EPOCHS) {
                Err(TableError::TableDoesNotExist(_)) => None,
                epochs => Some(epochs.map_err(table)?),
            },
            _database: Arc::clone(replaced),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn meta(&self) -> Result<Meta, GalleryError> {
        let value = |key| -> Result<u64, GalleryError> {
            let found = self.meta.get(key).map_err(|error| self.storage(error))?;
            Ok(found.map_or(0, |value| value.value()))
        };
        let meta = Meta {
            store: value("store")?,
            sequence: value("sequence")?,
            next_row: value("next_row")?,
            next_partition: value("next_partition")?,
        };
        Ok(meta)
    }

    /// The spaces and their partitions.
    pub(super) fn layout(&self) -> Result<Layout, GalleryError> {
        let mut names = Vec::new();
        let failed = |error: StorageError| self.storage(error);
        for entry in self.versions.range::<u32>(..).map_err(failed)? {
            let (number, name) = entry.map_err(failed)?;
            if number.value() as usize != names.len() {
                return Err(self.corrupt("the number of a space is missing"));
            }
            names.push(name.value().to_owned());
        }
        let mut homes = BTreeMap::new();
        for entry in self.spaces.range::<u32>(..).map_err(failed)? {
            let (space, partition) = entry.map_err(failed)?;
            homes.insert(space.value(), partition.value());
        }
        let mut partitions = BTreeMap::new();
        for entry in self.partitions.range::<u32>(..).map_err(failed)? {
            let (number, shape) = entry.map_err(failed)?;
            let (dim, vertices) = shape.value();
            partitions.insert(number.value(), Shape { dim, vertices });
        }
        let next = u32::try_from(self.meta()?.next_partition);
        let next = next.map_err(|_| self.corrupt("its counter of partitions is too large"))?;
        Layout::new(names, homes, partitions, next).map_err(|problem| self.corrupt(problem))
    }

    /// The epoch of the last rows, if it is known.
    pub(super) fn last_epoch(&self) -> Result<Option<Epoch>, GalleryError> {
        let Some(epochs) = &self.epochs else {
            return Ok(None);
        };
        let last = epochs.last().map_err(|error| self.storage(error))?;
        Ok(last.map(|(first_row, number)| Epoch {
            first_row: first_row.value(),
            number: number.value(),
        }))
    }

    /// All epochs whose first row is not below one.
    pub(super) fn epochs_from(&self, row: u64) -> Result<Vec<Epoch>, GalleryError> {
        let Some(epochs) = &self.epochs else {
            return Ok(Vec::new());
        };
        let failed = |error: StorageError| self.storage(error);
        let entries = epochs.range(row..).map_err(failed)?;
        let epoch = |entry: Result<_, _>| {
            let (first_row, number): (AccessGuard<'_, u64>, AccessGuard<'_, u64>) =
                entry.map_err(failed)?;
            Ok(Epoch {
                first_row: first_row.value(),
                number: number.value(),
            })
        };
        entries.map(epoch).collect()
    }

    /// The row behind the last one of an epoch, or of the time before there were any; `None` where this database's rows are not of that epoch.
    pub(super) fn end_of_epoch(&self, epoch: Option<Epoch>) -> Result<Option<u64>, GalleryError> {
        let mut epochs = self.epochs_from(epoch.map_or(0, |epoch| epoch.first_row))?;
        if let Some(epoch) = epoch {
            if epochs.first() != Some(&epoch) {
                return Ok(None);
            }
            epochs.remove(0);
        }
        let next = epochs.first().map(|next| next.first_row);
        Ok(Some(next.unwrap_or(self.meta()?.next_row)))
    }

    /// Calls `f(row, record)` for every item, in the order of the rows.
    pub(super) fn for_each(
        &self,
        f: impl FnMut(u64, &[u8], Record<'_>) -> Result<(), GalleryError>,
    ) -> Result<(), GalleryError> {
        self.for_each_in(0..=u64::MAX, f)
    }

    /// The same for the items whose rows are in a range. Several threads may do that at a time.
    pub(super) fn for_each_in(
        &self,
        rows: RangeInclusive<u64>,
        mut f: impl FnMut(u64, &[u8], Record<'_>) -> Result<(), GalleryError>,
    ) -> Result<(), GalleryError> {
        let mut entries = self.read(|| self.items.range::<u64>(rows))?;
        while let Some((row, bytes)) = self.read(|| entries.next().transpose())? {
            let (row, bytes) = self.read(|| Ok((row.value(), bytes.value())))?;
            let record = Record::decode(bytes)
                .map_err(|problem| self.corrupt(format!("row {row}: {problem}")))?;
            f(row, bytes, record)?;
        }
        Ok(())
    }

    /// The keys of all ids from one on, and their rows.
    pub(super) fn ids_from(
        &self,
        key: &[u8],
    ) -> Result<impl Iterator<Item = Result<(Vec<u8>, u64), GalleryError>>, GalleryError> {
        let mut ids = self.read(|| self.ids.range::<&[u8]>(key..))?;
        let next = move || {
            let entry = self.read(|| {
                let entry = ids.next().transpose()?;
                Ok(entry.map(|(key, row)| (key.value().to_vec(), row.value())))
            });
            entry.transpose()
        };
        Ok(std::iter::from_fn(next))
    }

    /// Reads from the database.
    fn read<T>(&self, read: impl FnOnce() -> Result<T, StorageError>) -> Result<T, GalleryError> {
        guarded(&self.path, || read().map_err(|error| self.storage(error)))
    }

    /// The first and the last row, if there are any.
    pub(super) fn ends(&self) -> Result<Option<(u64, u64)>, GalleryError> {
        let failed = |error: StorageError| self.storage(error);
        let first = self.items.first().map_err(failed)?;
        let last = self.items.last().map_err(failed)?;
        let ends = first.zip(last);
        Ok(ends.map(|((first, _), (last, _))| (first.value(), last.value())))
    }

    /// Of errors of several threads, in their order, the first that is no consequence of another one: once the file could not be
    /// read, the database only says so to all others.
    pub(super) fn cause(&self, errors: Vec<GalleryError>) -> GalleryError {
        let consequence = self.storage(StorageError::PreviousIo).to_string();
        let mut errors = errors.into_iter();
        let first = errors.next();
        let other = match &first {
            Some(first) if first.to_string() == consequence => {
                errors.find(|error| error.to_string() != consequence)
            }
            _ => None,
        };
        other
            .or(first)
            .unwrap_or_else(|| self.storage(StorageError::PreviousIo))
    }

    /// Calls `f` with the record of a row, if there is one.
    pub(super) fn record<R>(
        &self,
        row: u64,
        f: impl FnOnce(Record<'_>) -> Result<R, String>,
    ) -> Result<Option<R>, GalleryError> {
        #[cfg(test)]
        super::tests::record_is_read(row);
        let Some(bytes) = self.read(|| self.items.get(row))? else {
            return Ok(None);
        };
        let bytes = self.read(|| Ok(bytes.value()))?;
        Record::decode(bytes)
            .and_then(f)
            .map(Some)
            .map_err(|problem| self.corrupt(format!("row {row}: {problem}")))
    }

    pub(super) fn row(&self, id_key: &[u8]) -> Result<Option<u64>, GalleryError> {
        self.read(|| Ok(self.ids.get(id_key)?.map(|row| row.value())))
    }

    /// The number of items.
    pub(super) fn items(&self) -> Result<u64, GalleryError> {
        let items = self.items.len().map_err(|error| self.storage(error))?;
        let ids = self.ids.len().map_err(|error| self.storage(error))?;
        if items != ids {
            return Err(self.corrupt(format!("it has {items} items but {ids} ids")));
        }
        Ok(items)
    }

    pub(super) fn storage(&self, error: impl std::fmt::Display) -> GalleryError {
        storage(&self.path, error)
    }

    pub(super) fn corrupt(&self, problem: impl Into<String>) -> GalleryError {
        GalleryError::Corrupt {
            path: self.path.clone(),
            problem: problem.into(),
        }
    }
}

/// Turns a panic of the database into an error: it checks what it reads with assertions as well as with errors.
pub(super) fn guarded<T>(
    path: &Path,
    read: impl FnOnce() -> Result<T, GalleryError>,
) -> Result<T, GalleryError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        Err(GalleryError::Corrupt {
            path: path.to_owned(),
            problem: "its structure is broken".to_owned(),
        })
    })
}

pub(super) fn storage(path: &Path, error: impl std::fmt::Display) -> GalleryError {
    GalleryError::Storage {
        path: path.to_owned(),
        problem: error.to_string(),
    }
}

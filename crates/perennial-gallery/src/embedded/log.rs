//! The durable truth: items, their ids and the names of versions in one transactional file.
//!
//! Rows are numbered by a counter that never goes back, so a row number means one item for ever: a replaced item gets a new
//! row. Everything derived may therefore remember rows, and a gap only means that an item is gone.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use redb::{
    Database, DatabaseError, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    StorageError, TableDefinition, WriteTransaction,
};

use super::backend::PreallocatedFile;
use super::record::Record;
use crate::error::GalleryError;
use crate::item::MAX_DIM;

/// Row number to record.
pub(super) const ITEMS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("items");
/// Id key to row number.
pub(super) const IDS: TableDefinition<'_, &[u8], u64> = TableDefinition::new("ids");
/// Version number to name.
pub(super) const VERSIONS: TableDefinition<'_, u32, &str> = TableDefinition::new("versions");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

const FORMAT: u64 = 1;
pub(super) const FILE_NAME: &str = "gallery.redb";
/// How long a reopening waits for readers to let go of the file.
const PATIENCE: Duration = Duration::from_secs(5);

/// The few numbers that belong to the gallery as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Meta {
    /// Told apart from any other database that ever lay in this folder.
    pub(super) store: u64,
    /// Counts the transactions.
    pub(super) sequence: u64,
    /// The next row number.
    pub(super) next_row: u64,
    /// 0 for none.
    pub(super) dim: u64,
    /// Vertices of the simplex, 0 for none.
    pub(super) vertices: u64,
}

impl Meta {
    pub(super) fn dim(&self) -> Option<usize> {
        (self.dim != 0).then_some(self.dim as usize)
    }
}

/// The database of one folder, opened by one process.
pub(super) struct Log {
    path: PathBuf,
    cache_bytes: usize,
    database: Option<Database>,
}

/// The content at one moment, unmoved by later writes.
pub(super) struct Reader {
    path: PathBuf,
    pub(super) items: ReadOnlyTable<u64, &'static [u8]>,
    pub(super) ids: ReadOnlyTable<&'static [u8], u64>,
    versions: ReadOnlyTable<u32, &'static str>,
    meta: ReadOnlyTable<&'static str, u64>,
}

/// A transaction that is lost unless it is committed.
pub(super) struct Writer {
    pub(super) transaction: WriteTransaction,
}

impl Log {
    /// Opens the database of a folder, or creates an empty one.
    pub(super) fn open(folder: &Path, cache_bytes: usize) -> Result<Self, GalleryError> {
        let mut log = Self {
            path: folder.join(FILE_NAME),
            cache_bytes,
            database: None,
        };
        log.reopen()?;
        Ok(log)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file again: the only way out after a failed write, which makes the database refuse everything.
    pub(super) fn reopen(&mut self) -> Result<(), GalleryError> {
        self.database = None;
        let waiting_since = Instant::now();
        let database = loop {
            match self.try_open() {
                Err(GalleryError::Locked { .. }) if waiting_since.elapsed() < PATIENCE => {
                    // Another process does not let go in milliseconds, but a reader of ours does.
                    std::thread::sleep(Duration::from_millis(10));
                }
                result => break result?,
            }
        };
        self.database = Some(database);
        Ok(())
    }

    fn try_open(&self) -> Result<Database, GalleryError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)
            .map_err(|error| storage(&self.path, error))?;
        let fresh = file
            .metadata()
            .map_err(|error| storage(&self.path, error))?
            .len()
            == 0;
        guarded(&self.path, || self.open_file(file, fresh))
    }

    fn open_file(&self, file: File, fresh: bool) -> Result<Database, GalleryError> {
        let backend = PreallocatedFile::new(file).map_err(|error| self.open_error(error))?;
        let database = Database::builder()
            .set_cache_size(self.cache_bytes)
            .create_with_backend(backend)
            .map_err(|error| self.open_error(error))?;
        self.prepare(&database, fresh)?;
        Ok(database)
    }

    /// Creates the tables of a new database and checks the format of an old one.
    fn prepare(&self, database: &Database, fresh: bool) -> Result<(), GalleryError> {
        let path = &self.path;
        let transaction = database
            .begin_write()
            .map_err(|error| storage(path, error))?;
        {
            let mut meta = transaction
                .open_table(META)
                .map_err(|error| storage(path, error))?;
            let format = meta
                .get("format")
                .map_err(|error| storage(path, error))?
                .map(|format| format.value());
            match format {
                Some(FORMAT) => return Ok(()),
                Some(found) => {
                    return Err(GalleryError::Format {
                        path: path.clone(),
                        found,
                        expected: FORMAT,
                    });
                }
                // A crash between creation and this transaction leaves a database without tables.
                None if fresh || meta.is_empty().map_err(|error| storage(path, error))? => {}
                None => {
                    return Err(GalleryError::Corrupt {
                        path: path.clone(),
                        problem: "it does not say its format".to_owned(),
                    });
                }
            }
            for (key, value) in [("format", FORMAT), ("store", new_store())] {
                meta.insert(key, value)
                    .map_err(|error| storage(path, error))?;
            }
        }
        transaction
            .open_table(ITEMS)
            .map_err(|error| storage(path, error))?;
        transaction
            .open_table(IDS)
            .map_err(|error| storage(path, error))?;
        transaction
            .open_table(VERSIONS)
            .map_err(|error| storage(path, error))?;
        transaction.commit().map_err(|error| storage(path, error))
    }

    fn open_error(&self, error: DatabaseError) -> GalleryError {
        let path = self.path.clone();
        let problem = error.to_string();
        match error {
            DatabaseError::DatabaseAlreadyOpen => GalleryError::Locked { path },
            DatabaseError::Storage(StorageError::Io(error))
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
                ) =>
            {
                GalleryError::Corrupt { path, problem }
            }
            DatabaseError::Storage(StorageError::Corrupted(_))
            | DatabaseError::RepairAborted
            | DatabaseError::UpgradeRequired(_) => GalleryError::Corrupt { path, problem },
            _ => GalleryError::Storage { path, problem },
        }
    }

    fn database(&self) -> Result<&Database, GalleryError> {
        self.database.as_ref().ok_or_else(|| GalleryError::Storage {
            path: self.path.clone(),
            problem: "it could not be opened again after a failure".to_owned(),
        })
    }

    /// A view of what is committed now.
    pub(super) fn reader(&self) -> Result<Reader, GalleryError> {
        let path = &self.path;
        let transaction = self
            .database()?
            .begin_read()
            .map_err(|error| storage(path, error))?;
        let table = |error| storage(path, error);
        Ok(Reader {
            path: path.clone(),
            items: transaction.open_table(ITEMS).map_err(table)?,
            ids: transaction.open_table(IDS).map_err(table)?,
            versions: transaction.open_table(VERSIONS).map_err(table)?,
            meta: transaction.open_table(META).map_err(table)?,
        })
    }

    pub(super) fn writer(&self) -> Result<Writer, GalleryError> {
        let transaction = self
            .database()?
            .begin_write()
            .map_err(|error| storage(&self.path, error))?;
        Ok(Writer { transaction })
    }

    /// An error of the storage, as the caller sees it.
    pub(super) fn storage(&self, error: impl std::fmt::Display) -> GalleryError {
        storage(&self.path, error)
    }
}

impl Writer {
    /// Numbers a version name, a new one if need be.
    pub(super) fn version(
        &self,
        name: &str,
        known: &mut HashMap<String, u32>,
    ) -> Result<u32, redb::Error> {
        if let Some(&number) = known.get(name) {
            return Ok(number);
        }
        let number = known.len() as u32;
        self.transaction
            .open_table(VERSIONS)?
            .insert(number, name)?;
        known.insert(name.to_owned(), number);
        Ok(number)
    }

    pub(super) fn set_meta(&self, meta: &Meta) -> Result<(), redb::Error> {
        let mut table = self.transaction.open_table(META)?;
        for (key, value) in [
            ("sequence", meta.sequence),
            ("next_row", meta.next_row),
            ("dim", meta.dim),
            ("vertices", meta.vertices),
        ] {
            table.insert(key, value)?;
        }
        Ok(())
    }

    pub(super) fn commit(self) -> Result<(), redb::Error> {
        Ok(self.transaction.commit()?)
    }
}

impl Reader {
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
            dim: value("dim")?,
            vertices: value("vertices")?,
        };
        if meta.dim > MAX_DIM as u64 {
            return Err(self.corrupt(format!("it states {} dimensions", meta.dim)));
        }
        Ok(meta)
    }

    /// Version names by their number.
    pub(super) fn versions(&self) -> Result<Vec<String>, GalleryError> {
        let mut names = Vec::new();
        for entry in self
            .versions
            .range::<u32>(..)
            .map_err(|error| self.storage(error))?
        {
            let (number, name) = entry.map_err(|error| self.storage(error))?;
            if number.value() as usize != names.len() {
                return Err(self.corrupt("a version number is missing"));
            }
            names.push(name.value().to_owned());
        }
        Ok(names)
    }

    /// Calls `f(row, record)` for every item, in the order of the rows.
    pub(super) fn for_each(
        &self,
        mut f: impl FnMut(u64, &[u8], Record<'_>) -> Result<(), GalleryError>,
    ) -> Result<(), GalleryError> {
        for entry in self
            .items
            .range::<u64>(..)
            .map_err(|error| self.storage(error))?
        {
            let (row, bytes) = entry.map_err(|error| self.storage(error))?;
            let record = Record::decode(bytes.value())
                .map_err(|problem| self.corrupt(format!("row {}: {problem}", row.value())))?;
            f(row.value(), bytes.value(), record)?;
        }
        Ok(())
    }

    /// Calls `f` with the record of a row, if there is one.
    pub(super) fn record<R>(
        &self,
        row: u64,
        f: impl FnOnce(Record<'_>) -> Result<R, String>,
    ) -> Result<Option<R>, GalleryError> {
        let Some(bytes) = self.items.get(row).map_err(|error| self.storage(error))? else {
            return Ok(None);
        };
        Record::decode(bytes.value())
            .and_then(f)
            .map(Some)
            .map_err(|problem| self.corrupt(format!("row {row}: {problem}")))
    }

    pub(super) fn row(&self, id_key: &[u8]) -> Result<Option<u64>, GalleryError> {
        let row = self.ids.get(id_key).map_err(|error| self.storage(error))?;
        Ok(row.map(|row| row.value()))
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

fn storage(path: &Path, error: impl std::fmt::Display) -> GalleryError {
    GalleryError::Storage {
        path: path.to_owned(),
        problem: error.to_string(),
    }
}

/// A number that no other database is likely to have: the hasher's keys are random per process.
fn new_store() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::time::SystemTime::now())
}

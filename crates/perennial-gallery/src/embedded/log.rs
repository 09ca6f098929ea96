//! The database of a folder: opened, reopened after a failure, and replaced by a compacted copy.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::Database;

use super::backend::PreallocatedFile;
use super::compaction::Copied;
use super::opening::{create, open_error};
use super::overlay::Overlay;
use super::place;
use super::tables::{Reader, Replaced, Writer, guarded, storage};
use super::upgrade;
use crate::error::GalleryError;

/// How long an opening waits for another process, such as a command that is just ending.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a reopening waits for this process's readers to close the file.
const REOPEN_PATIENCE: Duration = Duration::from_secs(5);
/// How often an opening retries after the file was replaced meanwhile.
const LOOKS: usize = 10;

/// Access mode of the gallery's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Read and write, and create what is missing.
    Write,
    /// Read, beside other readers.
    Read,
}

/// The database of one folder, opened by one process.
pub(super) struct Log {
    /// Links followed.
    path: PathBuf,
    cache_bytes: usize,
    access: Access,
    database: Option<Database>,
    readers: Arc<Replaced>,
    /// A compaction put a file in place whose name may not have reached the disk: nothing may be promised before it has.
    unsynced: bool,
}

impl Log {
    /// Opens the database of a folder; for writing, an empty one is created if need be.
    pub(super) fn open(
        folder: &Path,
        cache_bytes: usize,
        access: Access,
    ) -> Result<Self, GalleryError> {
        let path = folder.join(place::FILE_NAME);
        let path = match place::look(&path)? {
            Some(path) => path,
            None if access == Access::Read => return Err(GalleryError::Missing { path }),
            None => {
                create(&path, cache_bytes)?;
                place::look(&path)?.unwrap_or(path)
            }
        };
        let mut log = Self {
            path,
            cache_bytes,
            access,
            database: None,
            readers: Arc::default(),
            unsynced: false,
        };
        log.open_within(PATIENCE)?;
        if access == Access::Write {
            place::remove_leftovers(&log.path);
        }
        Ok(log)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file again: the only way out after a failed write, which makes the database refuse everything.
    pub(super) fn reopen(&mut self) -> Result<(), GalleryError> {
        self.database = None;
        self.open_within(REOPEN_PATIENCE)
    }

    /// Lets go of the file until it is opened again.
    pub(super) fn close(&mut self) {
        self.database = None;
    }

    fn open_within(&mut self, patience: Duration) -> Result<(), GalleryError> {
        let waiting_since = Instant::now();
        let mut looks = 0;
        let database = loop {
            match self.try_open() {
                Err(GalleryError::Locked { .. }) if waiting_since.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(None) if looks < LOOKS => looks += 1,
                Ok(None) => {
                    return Err(GalleryError::Locked {
                        path: self.path.clone(),
                    });
                }
                Ok(Some(database)) => break database,
                Err(error) => return Err(error),
            }
        };
        self.database = Some(database);
        Ok(())
    }

    /// `None` where another process put another file in place while this one was opened.
    fn try_open(&self) -> Result<Option<Database>, GalleryError> {
        let path = &self.path;
        // An empty file is never initialised as a database.
        if place::look(path)?.is_none() {
            return Err(GalleryError::Missing { path: path.clone() });
        }
        let file = File::options()
            .read(true)
            .write(self.access == Access::Write)
            .open(path);
        let file = file.map_err(|error| match self.access {
            Access::Write => place::system(path, error),
            Access::Read => {
                GalleryError::file(path, format!("{} cannot be read: {error}", path.display()))
            }
        })?;
        let same = file.try_clone().map_err(|error| storage(path, error))?;
        guarded(path, || {
            let database = self.open_file(file)?;
            let there = place::is_at(&same, path).map_err(|error| storage(path, error))?;
            Ok(there.then_some(database))
        })
    }

    fn open_file(&self, file: File) -> Result<Database, GalleryError> {
        let failed = |error| open_error(&self.path, error);
        let mut builder = Database::builder();
        builder.set_cache_size(self.cache_bytes);
        let database = match self.access {
            Access::Write => {
                let backend = PreallocatedFile::new(file).map_err(failed)?;
                builder.create_with_backend(backend)
            }
            Access::Read => {
                let backend = Overlay::new(file).map_err(failed)?;
                builder.create_with_backend(backend)
            }
        };
        let database = database.map_err(failed)?;
        upgrade::to_current_format(&self.path, &database)?;
        Ok(database)
    }

    /// Puts a copy in the database's place. Readers of the old one may finish.
    ///
    /// # Errors
    /// [`GalleryError::Storage`]; the old database then stays, in memory and on the disk.
    pub(super) fn adopt(&mut self, copied: Copied) -> Result<(), GalleryError> {
        let database = copied
            .put_in_place(&self.path)
            .map_err(|error| storage(&self.path, error))?;
        let old = self.database.replace(database);
        let readers = std::mem::take(&mut self.readers);
        readers.keep(old);
        self.unsynced = true;
        // If this fails, the next write tries again before it does anything.
        if let Err(error) = self.sync_name() {
            tracing::warn!(%error, "the compacted gallery is in place, but its name has not reached the disk yet");
        }
        Ok(())
    }

    fn sync_name(&mut self) -> Result<(), GalleryError> {
        if self.unsynced {
            place::sync_folder(&self.path).map_err(|error| storage(&self.path, error))?;
            self.unsynced = false;
        }
        Ok(())
    }

    fn database(&self) -> Result<&Database, GalleryError> {
        self.database.as_ref().ok_or_else(|| GalleryError::Storage {
            path: self.path.clone(),
            problem: "it could not be reopened after a failure".to_owned(),
        })
    }

    /// A view of what is committed now.
    pub(super) fn reader(&self) -> Result<Reader, GalleryError> {
        Reader::of(self.database()?, &self.path, &self.readers)
    }

    pub(super) fn writer(&mut self) -> Result<Writer, GalleryError> {
        self.sync_name()?;
        Writer::begin(self.database()?).map_err(|error| storage(&self.path, error))
    }

    /// An error of the storage, as the caller sees it.
    pub(super) fn storage(&self, error: impl std::fmt::Display) -> GalleryError {
        storage(&self.path, error)
    }
}

//! The engine for one machine: one partition for every space, or for the spaces of one simplex.
//!
//! One transactional file is the source of truth. One thread writes it, merging the writes that wait into one transaction, and then
//! brings the rows in memory up to date, which answer searches. Another thread keeps a graph of neighbours for each partition once there are
//! enough rows, and one maps the vectors of the indexes that are wanted beside them. Readers wait for neither: what they see changes in one short step after a commit.

mod backend;
mod background;
mod batch_scan;
mod byte_product;
mod codes;
mod compaction;
mod conditions;
mod config;
mod graph;
mod indexer;
mod layout;
mod loading;
mod log;
mod maintenance;
mod mapped_indexes;
mod mapped_rows;
mod mapped_view;
mod mapper;
mod mapping;
mod opening;
mod overlay;
mod pieces;
mod place;
mod prefetch;
mod query;
mod ranking;
mod reads;
pub(crate) mod record;
mod rows;
mod sample;
mod saved_graphs;
mod scan;
mod snapshots;
mod space;
mod state;
mod tables;
#[cfg(test)]
mod tests;
mod upgrade;
mod view;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use perennial_core::{SpaceId, instructions};

pub use self::config::{GalleryConfig, HnswConfig, SearchMode};
use self::indexer::Indexer;
use self::log::{Access, Log};
use self::state::{Shared, State};
use self::writer::{Change, Command, Outcome, Reply, Writer};
use crate::error::GalleryError;
use crate::filter::Filter;
use crate::id_key::id_key;
use crate::item::{Hit, Item, ItemId, StoredItem};
use crate::request_checks::{check_delete_where, check_ids, check_items};
use crate::space::{SpaceStats, StoreSpace};
use crate::store::{Page, Replacement, SearchRequest, Upserted, VectorStore};

/// A gallery in a folder of this machine: `gallery.redb`, and for every large partition a graph, such as `hnsw.graph` with `hnsw.json`.
///
/// Items of spaces that were trained towards one simplex lie in one partition, those of any other space in one of its own; a
/// partition has an own dimension and an own index. A search looks through the partitions of the spaces that it names.
///
/// Closing it (dropping it) waits for accepted writes and saves the approximate index.
///
/// Call it from ordinary threads, not from tasks of a rayon pool: a task that waits here may run another one that does.
///
/// Among equal similarities at the end of a result, ids decide between up to 1,024 items; beyond that, and where an index
/// compares in 8 bits, older ones win.
pub struct EmbeddedGallery {
    shared: Arc<Shared>,
    commands: Option<SyncSender<Command>>,
    writer: Option<JoinHandle<()>>,
    indexer: Arc<Indexer>,
    database: std::path::PathBuf,
}

impl std::fmt::Debug for EmbeddedGallery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedGallery")
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

impl EmbeddedGallery {
    /// Whether a folder holds a gallery, or something in its place that opening it will name.
    pub fn exists(folder: impl AsRef<Path>) -> bool {
        let path = folder.as_ref().join(place::FILE_NAME);
        path.symlink_metadata().is_ok()
    }

    /// Opens the gallery in a folder, which is created if need be, with an empty gallery.
    ///
    /// # Errors
    /// [`GalleryError::Locked`] where another process has it open, [`GalleryError::Corrupt`] and [`GalleryError::NotAGallery`]
    /// for a file that is none or no longer one, [`GalleryError::Format`], [`GalleryError::NotWritable`],
    /// [`GalleryError::Storage`], [`GalleryError::File`] or [`GalleryError::InvalidConfig`].
    pub fn open(folder: impl AsRef<Path>, config: GalleryConfig) -> Result<Self, GalleryError> {
        let folder = folder.as_ref();
        config.check()?;
        fs_err::create_dir_all(folder).map_err(|error| GalleryError::file(folder, error))?;
        Self::open_as(folder, config, Access::Write)
    }

    /// Opens the gallery in a folder without writing anything into the folder, which may lie on a disk that cannot be written.
    ///
    /// Any number of processes may read a gallery at a time, but none while another one has it open for writing. After a crash
    /// the database is repaired in memory. A saved approximate index is used as far as it goes, none is built.
    ///
    /// Writes are refused with [`GalleryError::ReadOnly`]; snapshots go to other folders as ever.
    ///
    /// # Errors
    /// [`GalleryError::Missing`] where there is none, and otherwise those of [`open`](Self::open).
    pub fn open_read_only(
        folder: impl AsRef<Path>,
        config: GalleryConfig,
    ) -> Result<Self, GalleryError> {
        config.check()?;
        Self::open_as(folder.as_ref(), config, Access::Read)
    }

    fn open_as(folder: &Path, config: GalleryConfig, access: Access) -> Result<Self, GalleryError> {
        instructions::check().map_err(|error| GalleryError::InvalidConfig {
            key: instructions::VARIABLE,
            problem: error.problem,
        })?;
        let log = Log::open(folder, config.cache_bytes, access)?;
        let database = log.path().to_owned();
        let with_codes = config.search == SearchMode::Int8;
        let queue = config.queue;
        let threads = config.computing_threads();
        let state = State::load(log.reader()?, with_codes, threads)?;
        let shared = Arc::new(Shared::new(folder, config, state, access == Access::Read)?);
        let indexer = Arc::new(Indexer::start(Arc::clone(&shared))?);
        let writer = Writer::new(log, Arc::clone(&shared), Arc::clone(&indexer));
        let (commands, receiver) = sync_channel(queue);
        let writer = std::thread::Builder::new()
            .name("gallery-writer".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(|error| GalleryError::InvalidConfig {
                key: "threads",
                problem: error.to_string(),
            })?;
        Ok(Self {
            shared,
            commands: Some(commands),
            writer: Some(writer),
            indexer,
            database,
        })
    }

    fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, GalleryError> {
        let (reply, answer) = sync_channel(1);
        let commands = self.commands.as_ref().ok_or(GalleryError::Closed)?;
        commands
            .send(command(reply))
            .map_err(|_| GalleryError::Closed)?;
        answer.recv().map_err(|_| GalleryError::Closed)?
    }

    /// Whether it was opened by [`open_read_only`](Self::open_read_only).
    pub fn is_read_only(&self) -> bool {
        self.shared.read_only
    }

    fn check_writable(&self) -> Result<(), GalleryError> {
        if self.shared.read_only {
            return Err(GalleryError::ReadOnly {
                path: self.database.clone(),
            });
        }
        Ok(())
    }

    fn disk_bytes(&self) -> Result<u64, GalleryError> {
        let metadata = fs_err::metadata(&self.database);
        let metadata = metadata.map_err(|error| GalleryError::file(&self.database, error))?;
        Ok(metadata.len())
    }

    fn change(&self, change: Change) -> Result<Outcome, GalleryError> {
        self.check_writable()?;
        self.ask(|reply| Command::Change(change, reply))
    }
}

impl Drop for EmbeddedGallery {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.commands = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of the gallery ended with a defect");
        }
        self.indexer.stop();
    }
}

impl VectorStore for EmbeddedGallery {
    fn spaces(&self) -> Result<Vec<SpaceStats>, GalleryError> {
        Ok(self.shared.state().spaces())
    }

    fn create_space(&self, space: &StoreSpace) -> Result<(), GalleryError> {
        space.check()?;
        self.change(Change::CreateSpace(space.clone())).map(|_| ())
    }

    fn upsert(&self, items: Vec<Item>) -> Result<Upserted, GalleryError> {
        check_items(&items, |space| self.shared.state().dim_of(space))?;
        if items.is_empty() {
            return Ok(Upserted::default());
        }
        Ok(self.change(Change::Upsert(items))?.upserted)
    }

    fn replace_unchanged(&self, items: Vec<Replacement>) -> Result<Vec<ItemId>, GalleryError> {
        let new: Vec<Item> = items.iter().map(Replacement::item).collect();
        check_items(&new, |space| self.shared.state().dim_of(space))?;
        self.check_writable()?;
        if items.is_empty() {
            return Ok(Vec::new());
        }
        self.ask(|reply| Command::Replace(items, reply))
    }

    fn delete(&self, ids: &[ItemId]) -> Result<usize, GalleryError> {
        check_ids(ids)?;
        if ids.is_empty() {
            return Ok(0);
        }
        let keys = ids.iter().map(id_key).collect();
        Ok(self.change(Change::Delete(keys))?.deleted)
    }

    fn delete_where(&self, filter: &Filter) -> Result<usize, GalleryError> {
        check_delete_where(filter)?;
        self.check_writable()?;
        let filter = filter.clone();
        Ok(self
            .ask(|reply| Command::DeleteWhere(filter, reply))?
            .deleted)
    }

    fn get(&self, ids: &[ItemId], with_embeddings: bool) -> Result<Vec<StoredItem>, GalleryError> {
        self.steady(|| self.read_items(ids, with_embeddings))
    }

    fn scroll(
        &self,
        after: Option<&ItemId>,
        limit: usize,
        filter: &Filter,
        with_embeddings: bool,
    ) -> Result<Page, GalleryError> {
        self.steady(|| self.read_page(after, limit, filter, with_embeddings))
    }

    fn search(&self, request: &SearchRequest<'_>) -> Result<Vec<Vec<Hit>>, GalleryError> {
        self.steady(|| self.find(request))
    }

    fn sample(&self, space: &SpaceId, limit: usize, seed: u64) -> Result<Vec<f32>, GalleryError> {
        Ok(sample::sample(&self.shared.state(), space, limit, seed))
    }
}

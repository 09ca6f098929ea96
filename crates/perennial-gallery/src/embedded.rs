//! The engine for one machine.
//!
//! One transactional file is the source of truth. One thread writes it, merging the writes that wait into one transaction, and then
//! brings the rows in memory up to date, which answer searches. Another thread keeps a graph of neighbours once there are
//! enough rows. Readers wait for neither: what they see changes in one short step after a commit.

mod approximate;
mod backend;
mod batch_scan;
mod byte_product;
mod codes;
mod compaction;
mod config;
mod indexer;
mod log;
mod opening;
mod overlay;
mod place;
mod query;
mod ranking;
mod reads;
pub(crate) mod record;
mod rows;
mod scan;
mod space;
mod state;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use perennial_core::write_atomically_with;

use self::compaction::Copied;
pub use self::config::{GalleryConfig, HnswConfig, SearchMode};
use self::indexer::Indexer;
use self::log::{Access, Log, guarded};
use self::reads::{check_batch, check_ids};
use self::record::id_key;
use self::state::{Shared, State};
use self::writer::{Change, Command, Outcome, Reply, Writer};
use crate::error::GalleryError;
use crate::filter::Filter;
use crate::item::{Hit, Item, ItemId, SimplexIdentity, StoredItem};
use crate::snapshot::{Header, SnapshotReader, SnapshotWriter};
use crate::store::{
    BytesPerVector, Compacted, DiskUse, GalleryStats, IndexKind, IndexProgress, IndexState, Page,
    SearchRequest, SnapshotInfo, Upserted, VectorStore,
};

/// A gallery in a folder of this machine: `gallery.redb`, and `hnsw.usearch` with `hnsw.json` once it is large.
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
        let log = Log::open(folder, config.cache_bytes, access)?;
        let database = log.path().to_owned();
        let with_codes = config.search == SearchMode::Int8;
        let queue = config.queue;
        let state = State::load(log.reader()?, with_codes)?;
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
    fn upsert(&self, items: Vec<Item>) -> Result<Upserted, GalleryError> {
        check_batch(items.len())?;
        let dim = self.shared.state().meta.dim();
        let mut seen = HashSet::with_capacity(items.len());
        for item in &items {
            item.check(dim)?;
            if !seen.insert(&item.id) {
                return Err(GalleryError::DuplicateId {
                    id: item.id.clone(),
                });
            }
        }
        if items.is_empty() {
            return Ok(Upserted::default());
        }
        Ok(self.change(Change::Upsert(items))?.upserted)
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
        filter.check()?;
        if filter.is_empty() && !filter.everything {
            return Err(GalleryError::EmptyFilter);
        }
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

    fn search(&self, request: &SearchRequest<'_>) -> Result<Vec<Hit>, GalleryError> {
        self.steady(|| self.find(request))
    }

    fn search_batch(
        &self,
        embeddings: &[f32],
        limit: usize,
        filter: &Filter,
        exact: bool,
    ) -> Result<Vec<Vec<Hit>>, GalleryError> {
        self.steady(|| self.find_batch(embeddings, limit, filter, exact))
    }

    fn count(&self) -> Result<GalleryStats, GalleryError> {
        let disk = self.disk_bytes()?;
        let state = self.shared.state();
        let rows = &state.rows;
        let graph = self
            .shared
            .graph()
            .filter(|graph| graph.dim() == rows.dim());
        let live = rows.live() as u64;
        let per_version = state.versions.iter().zip(rows.per_version());
        let index = match &graph {
            None => IndexState {
                kind: match self.shared.config.search {
                    SearchMode::Int8 => IndexKind::Int8,
                    SearchMode::Exact => IndexKind::Exact,
                },
                state: IndexProgress::Ready,
                indexed: live,
                backlog: match self.shared.config.hnsw_from as u64 {
                    from if live >= from && !self.shared.read_only => live,
                    _ => 0,
                },
            },
            Some(graph) => {
                let missing = rows.slots() - rows.first_slot_from(graph.covered());
                IndexState {
                    kind: IndexKind::Hnsw,
                    state: match missing {
                        0 => IndexProgress::Ready,
                        _ => IndexProgress::Building,
                    },
                    indexed: live.saturating_sub(missing as u64),
                    backlog: missing as u64,
                }
            }
        };
        let memory = rows.bytes() + graph.map_or(0, |graph| graph.bytes());
        let per_vector = |bytes: f64| if live == 0 { 0.0 } else { bytes / live as f64 };
        Ok(GalleryStats {
            items: live,
            dim: state.meta.dim(),
            per_version: per_version
                .filter(|&(_, &items)| items > 0)
                .map(|(name, &items)| (name.clone(), items))
                .collect(),
            index,
            bytes_per_vector: BytesPerVector {
                memory: per_vector(memory as f64),
                disk: per_vector(disk as f64),
            },
            disk: DiskUse {
                bytes: disk,
                reclaimable_bytes: disk.saturating_sub(state.space.file()),
            },
        })
    }

    fn identity(&self) -> Result<Option<SimplexIdentity>, GalleryError> {
        let vertices = self.shared.state().meta.vertices as usize;
        Ok((vertices != 0).then_some(SimplexIdentity { vertices }))
    }

    fn set_identity(&self, identity: SimplexIdentity) -> Result<(), GalleryError> {
        identity.dim()?;
        self.change(Change::SetIdentity(identity)).map(|_| ())
    }

    fn flush(&self) -> Result<(), GalleryError> {
        // Commands are handled in order, so an answer to this one means that all before are done.
        self.ask(Command::Read)?;
        self.indexer.save()
    }

    fn compact(&self) -> Result<Compacted, GalleryError> {
        self.check_writable()?;
        let _running = Compacting::begin(&self.shared)?;
        let reader = self.ask(Command::Read)?;
        let (items, bytes_before) = (reader.items()?, self.disk_bytes()?);
        let needed = self.shared.state().space.file();
        if let Some(free) = place::free_space(reader.path()).filter(|&free| free < needed) {
            return Err(GalleryError::NoSpace {
                path: self.database.clone(),
                needed,
                free,
            });
        }
        let path = reader.path().to_owned();
        let copied = guarded(&path, || {
            Copied::of(&reader, self.shared.config.cache_bytes)
        })?;
        drop(reader);
        let bytes_after = self.ask(|reply| Command::Adopt(Box::new(copied), reply))?;
        tracing::info!(
            items,
            bytes_before,
            bytes_after,
            "the gallery was compacted"
        );
        Ok(Compacted {
            items: self.shared.state().rows.live() as u64,
            bytes_before,
            bytes_after,
        })
    }

    fn snapshot(&self, path: &Path) -> Result<SnapshotInfo, GalleryError> {
        let reader = self.ask(Command::Read)?;
        let meta = reader.meta()?;
        let vertices = meta.vertices as usize;
        let header = Header {
            items: reader.items()?,
            dim: meta.dim(),
            identity: (vertices != 0).then_some(SimplexIdentity { vertices }),
            versions: reader.versions()?,
        };
        let mut outcome = None;
        let written = write_atomically_with(path, |file| {
            let mut snapshot = SnapshotWriter::new(file, &header)?;
            let copied = reader.for_each(|_, bytes, _| {
                snapshot
                    .add(bytes)
                    .map_err(|error| GalleryError::file(path, error))
            });
            match copied {
                Ok(()) => {
                    outcome = Some(Ok(snapshot.finish()?));
                    Ok(())
                }
                Err(error) => {
                    let text = error.to_string();
                    outcome = Some(Err(error));
                    Err(std::io::Error::other(text))
                }
            }
        });
        match (written, outcome) {
            (Ok(()), Some(Ok(info))) => Ok(info),
            (_, Some(Err(error))) => Err(error),
            (Err(error), _) => Err(GalleryError::file(path, error)),
            (Ok(()), None) => Err(GalleryError::file(path, "nothing was written")),
        }
    }

    fn restore(&self, path: &Path) -> Result<SnapshotInfo, GalleryError> {
        self.check_writable()?;
        // Verified here first, so that a damaged file does not even make the writer work.
        SnapshotReader::open(path)?.read(|_, _| Ok(()))?;
        let path = path.to_owned();
        self.ask(|reply| Command::Restore(path, reply))
    }
}

/// Only one compaction runs at a time.
struct Compacting<'a>(&'a Shared);

impl<'a> Compacting<'a> {
    fn begin(shared: &'a Shared) -> Result<Self, GalleryError> {
        match shared.compacting.swap(true, Ordering::AcqRel) {
            true => Err(GalleryError::Compacting),
            false => Ok(Self(shared)),
        }
    }
}

impl Drop for Compacting<'_> {
    fn drop(&mut self) {
        self.0.compacting.store(false, Ordering::Release);
    }
}

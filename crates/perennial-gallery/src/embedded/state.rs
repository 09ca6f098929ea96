//! The state that readers see, and how it is built from the database.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use perennial_core::SpaceId;

use super::graph::Graph;
use super::layout::Layout;
use super::loading::load;
use super::mapped_rows::MappedRows;
use super::rows::Rows;
use super::space::Space;
use super::tables::{Meta, Reader, guarded};
use super::{GalleryConfig, SearchMode};
use crate::error::GalleryError;
use crate::moves::Moves;
use crate::space::{SpaceStats, StoreSpace};

/// Where counters end; far beyond what any gallery reaches, and far from where they would begin anew and rows take the place of others.
const MAX_COUNTER: u64 = 1 << 63;

/// Which rows an index is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RowsId {
    /// Those of a partition, by its number.
    Partition(u32),
    /// Mapped ones, by a number that is given once in a process.
    Mapped(u32),
}

/// Rows and database as of one transaction.
///
/// The reader belongs to the rows: an item found in memory is there in the database, whatever is committed meanwhile.
pub(super) struct State {
    /// The rows of each partition, by its number: of every partition in the layout, and of no other.
    pub(super) partitions: BTreeMap<u32, Rows>,
    /// Rows derived from those.
    pub(super) mapped: BTreeMap<u32, MappedRows>,
    /// Spaces and their partitions.
    pub(super) layout: Arc<Layout>,
    pub(super) meta: Meta,
    /// What the items need on the disk, estimated.
    pub(super) space: Space,
    /// Items that came into a space from another one.
    pub(super) moves: Moves,
    /// `None` after a failure of the storage that could not be overcome yet.
    reader: Option<Arc<Reader>>,
    failure: String,
    database: PathBuf,
}

impl State {
    /// Reads everything, on threads of its own.
    pub(super) fn load(
        reader: Reader,
        with_codes: bool,
        threads: usize,
    ) -> Result<Self, GalleryError> {
        let path = reader.path().to_owned();
        #[cfg(test)]
        super::tests::refuse_loading(&path)?;
        guarded(&path, || Self::read(reader, with_codes, threads))
    }

    fn read(reader: Reader, with_codes: bool, threads: usize) -> Result<Self, GalleryError> {
        let (meta, layout) = (reader.meta()?, reader.layout()?);
        for (what, counter) in [("rows", meta.next_row), ("transactions", meta.sequence)] {
            if counter > MAX_COUNTER {
                return Err(reader.corrupt(format!("its counter of {what} is at {counter}")));
            }
        }
        let loaded = load(&reader, &layout, &meta, with_codes, threads)?;
        Ok(Self {
            partitions: loaded.partitions,
            mapped: BTreeMap::new(),
            layout: Arc::new(layout),
            meta,
            space: loaded.space,
            moves: Moves::default(),
            database: reader.path().to_owned(),
            reader: Some(Arc::new(reader)),
            failure: String::new(),
        })
    }

    /// Takes the place of what was there before, and of all that was derived from it. Gives that back: much memory, to be let go when no reader
    /// waits.
    #[must_use]
    pub(super) fn replace(&mut self, read: Self) -> Self {
        let before = std::mem::replace(self, read);
        self.moves = before.moves.clone();
        // What was read may have been moved.
        for (_, name, _) in self.layout.spaces() {
            self.moves.note(name);
        }
        let emptied = before.mapped.iter();
        self.mapped = emptied.map(|(&id, rows)| (id, rows.emptied())).collect();
        before
    }

    /// Rows by what they are.
    pub(super) fn rows(&self, id: RowsId) -> Option<&Rows> {
        match id {
            RowsId::Partition(number) => self.partitions.get(&number),
            RowsId::Mapped(number) => self.mapped.get(&number).map(|mapped| &mapped.rows),
        }
    }

    /// All rows.
    pub(super) fn all_rows(&self) -> BTreeSet<RowsId> {
        let partitions = self.partitions.keys().copied().map(RowsId::Partition);
        let mapped = self.mapped.keys().copied().map(RowsId::Mapped);
        partitions.chain(mapped).collect()
    }

    /// The number of a space and that of its partition.
    pub(super) fn number_and_home(&self, space: &SpaceId) -> Option<(u32, u32)> {
        let mut spaces = self.layout.spaces();
        let (number, _, _) = spaces.find(|(_, name, _)| *name == space.as_str())?;
        let (partition, _) = self.layout.home(number)?;
        Some((number, partition))
    }

    /// The rows among which a row is, dead or alive, and its slot.
    pub(super) fn find(&self, row: u64) -> Option<(&Rows, usize)> {
        let mut partitions = self.partitions.values();
        partitions.find_map(|rows| Some((rows, rows.slot(row)?)))
    }

    /// Items stored.
    pub(super) fn live(&self) -> usize {
        self.partitions.values().map(Rows::live).sum()
    }

    /// Positions in use, those of dead rows included.
    pub(super) fn slots(&self) -> usize {
        self.partitions.values().map(Rows::slots).sum()
    }

    /// The dimension of a space, once it is known.
    pub(super) fn dim_of(&self, space: &str) -> Option<usize> {
        self.layout.home_of(space).map(|(_, shape)| shape.dim())
    }

    /// Items of a space, by its number.
    pub(super) fn items_of(&self, space: u32) -> u64 {
        let rows = self
            .layout
            .home(space)
            .and_then(|(partition, _)| self.partitions.get(&partition));
        let items = rows.and_then(|rows| rows.per_version().get(space as usize));
        items.copied().unwrap_or(0)
    }

    /// Whether a row holds an item.
    pub(super) fn is_alive(&self, row: u64) -> bool {
        let mut partitions = self.partitions.values();
        partitions.any(|rows| {
            rows.slot(row)
                .is_some_and(|slot| rows.alive().contains(slot))
        })
    }

    /// What is stored of each space, in the order of the names.
    pub(super) fn spaces(&self) -> Vec<SpaceStats> {
        let spaces = self.layout.spaces();
        let mut spaces: Vec<SpaceStats> = spaces
            .filter_map(|(number, name, shape)| {
                let space = StoreSpace {
                    // Names were checked before they were stored.
                    id: SpaceId::new(name).ok()?,
                    dim: shape.dim(),
                    simplex: shape.simplex(),
                };
                let items = self.items_of(number);
                Some(SpaceStats { space, items })
            })
            .collect();
        spaces.sort_by(|a, b| a.space.id.cmp(&b.space.id));
        spaces
    }

    /// The database as of this state.
    pub(super) fn reader(&self) -> Result<&Arc<Reader>, GalleryError> {
        self.reader.as_ref().ok_or_else(|| GalleryError::Storage {
            path: self.database.clone(),
            problem: self.failure.clone(),
        })
    }

    pub(super) fn set_reader(&mut self, reader: Reader) {
        self.reader = Some(Arc::new(reader));
    }

    /// Lets go of the database, so that it can be reopened. Whoever reads from a view of it meets an error when it is closed.
    pub(super) fn drop_reader(&mut self, failure: impl Into<String>) {
        self.reader = None;
        self.failure = failure.into();
    }
}

/// State shared by the threads of one gallery.
pub(super) struct Shared {
    pub(super) config: GalleryConfig,
    pub(super) folder: PathBuf,
    state: RwLock<State>,
    /// Of partitions and mapped rows that are many enough.
    graphs: RwLock<BTreeMap<RowsId, Arc<Graph>>>,
    /// Held while rows are mapped and put in place, while it changes which mapped rows are kept, and while the writer looks at many rows: a thread that
    /// waits to change the state keeps new readers waiting as well, for as long as a reader holds it.
    mapping: Mutex<()>,
    /// Held by the one who gets it next.
    mapping_next: Mutex<()>,
    /// The number of the next mapped rows.
    next_mapped: AtomicU32,
    /// Searches of all rows run here, and batches in the graph; never a lock inside for long.
    pub(super) pool: rayon::ThreadPool,
    /// Tells the indexer to stop.
    pub(super) closing: AtomicBool,
    /// Whether a compaction runs.
    pub(super) compacting: AtomicBool,
    /// Nothing may be written into the folder.
    pub(super) read_only: bool,
}

impl Shared {
    pub(super) fn new(
        folder: &Path,
        config: GalleryConfig,
        state: State,
        read_only: bool,
    ) -> Result<Self, GalleryError> {
        let pool = thread_pool("gallery-search", config.computing_threads(), || ())?;
        Ok(Self {
            config,
            folder: folder.to_owned(),
            state: RwLock::new(state),
            graphs: RwLock::default(),
            mapping: Mutex::new(()),
            mapping_next: Mutex::new(()),
            next_mapped: AtomicU32::new(0),
            pool,
            closing: AtomicBool::new(false),
            compacting: AtomicBool::new(false),
            read_only,
        })
    }

    pub(super) fn with_codes(&self) -> bool {
        self.config.search == SearchMode::Int8
    }

    /// Threads that compute at a time.
    pub(super) fn threads(&self) -> usize {
        self.config.computing_threads()
    }

    // A panic while a lock is held is a defect, but none that leaves a state half-changed: rows are only pushed and marked.
    pub(super) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a thread that wants to change the state would have to wait.
    #[cfg(test)]
    pub(super) fn is_held(&self) -> bool {
        matches!(
            self.state.try_write(),
            Err(std::sync::TryLockError::WouldBlock)
        )
    }

    /// The turn to change mapped rows; it is taken before the state.
    pub(super) fn mapping_turn(&self) -> MutexGuard<'_, ()> {
        // Who maps rows a few at a time would take it again at once otherwise, and a writer that waits would never come.
        let _next = self
            .mapping_next
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.mapping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_mapped(&self) -> u32 {
        self.next_mapped.fetch_add(1, Ordering::Relaxed)
    }

    /// The graph of some rows.
    pub(super) fn graph(&self, of: RowsId) -> Option<Arc<Graph>> {
        let graphs = self.graphs.read().unwrap_or_else(PoisonError::into_inner);
        graphs.get(&of).cloned()
    }

    pub(super) fn set_graph(&self, of: RowsId, graph: Option<Arc<Graph>>) {
        let mut graphs = self.graphs.write().unwrap_or_else(PoisonError::into_inner);
        let before = match graph {
            Some(graph) => graphs.insert(of, graph),
            None => graphs.remove(&of),
        };
        // It may be large, and searches ask for graphs.
        drop(graphs);
        drop(before);
    }

    /// Drops the graphs of rows that are gone.
    pub(super) fn keep_graphs_of(&self, rows: &BTreeSet<RowsId>) {
        let mut graphs = self.graphs.write().unwrap_or_else(PoisonError::into_inner);
        let gone: BTreeMap<RowsId, Arc<Graph>> =
            graphs.extract_if(.., |of, _| !rows.contains(of)).collect();
        drop(graphs);
        drop(gone);
    }
}

/// A pool whose threads call `at_start` first.
pub(super) fn thread_pool(
    name: &'static str,
    threads: usize,
    at_start: fn(),
) -> Result<rayon::ThreadPool, GalleryError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(move |at| format!("{name}-{at}"))
        .start_handler(move |_| at_start())
        .build()
        .map_err(|error| GalleryError::InvalidConfig {
            key: "threads",
            problem: error.to_string(),
        })
}

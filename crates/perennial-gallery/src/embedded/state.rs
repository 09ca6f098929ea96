//! The state that readers see, and how it is built from the database.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use perennial_core::SpaceId;

use super::approximate::Graph;
use super::log::{Meta, Reader, guarded};
use super::rows::{Row, Rows};
use super::space::Space;
use super::{GalleryConfig, SearchMode};
use crate::error::GalleryError;
use crate::item::SimplexIdentity;
use crate::payload::fingerprint;
use crate::space::{SpaceStats, StoreSpace};

/// Rows and database as of one transaction.
///
/// The reader belongs to the rows: an item found in memory is there in the database, whatever is committed meanwhile.
pub(super) struct State {
    pub(super) rows: Rows,
    /// Version names by number.
    pub(super) versions: Vec<String>,
    pub(super) meta: Meta,
    /// What the items need on the disk, estimated.
    pub(super) space: Space,
    /// `None` after a failure of the storage that could not be overcome yet.
    reader: Option<Reader>,
    failure: String,
    database: PathBuf,
}

impl State {
    /// Reads everything.
    pub(super) fn load(reader: Reader, with_codes: bool) -> Result<Self, GalleryError> {
        let path = reader.path().to_owned();
        guarded(&path, || Self::read(reader, with_codes))
    }

    fn read(reader: Reader, with_codes: bool) -> Result<Self, GalleryError> {
        let (meta, versions) = (reader.meta()?, reader.versions()?);
        let dim = meta.dim().unwrap_or(0);
        let mut rows = Rows::new(dim, with_codes);
        let items = reader.items()?;
        if items >= u64::from(u32::MAX) {
            return Err(GalleryError::Full);
        }
        let mut space = Space::default();
        reader.for_each(|number, bytes, record| {
            space.add(bytes.len(), record.id_key.len());
            let problem = if record.dim() != dim {
                format!("has {} dimensions, not {dim}", record.dim())
            } else if record.version as usize >= versions.len() {
                format!("has the unknown version {}", record.version)
            } else if number >= meta.next_row {
                "has a number beyond the counter of rows".to_owned()
            } else {
                let payload = record
                    .payload()
                    .map_err(|problem| reader.corrupt(format!("row {number}: {problem}")))?;
                let mut row = Row {
                    number,
                    version: record.version,
                    label: record.label,
                    fingerprint: fingerprint(&payload),
                    vector: record.embedding().collect(),
                    codes: Vec::new(),
                    coding: Default::default(),
                };
                if with_codes {
                    row.encode();
                }
                rows.push(&row);
                return Ok(());
            };
            Err(reader.corrupt(format!("row {number} {problem}")))
        })?;
        rows.set_centred(rows.centred());
        Ok(Self {
            rows,
            versions,
            meta,
            space,
            database: reader.path().to_owned(),
            reader: Some(reader),
            failure: String::new(),
        })
    }

    /// What is stored of each space, in the order of the names.
    pub(super) fn spaces(&self) -> Vec<SpaceStats> {
        let Some(dim) = self.meta.dim() else {
            return Vec::new();
        };
        let vertices = self.meta.vertices as usize;
        let simplex = (vertices != 0).then_some(SimplexIdentity { vertices });
        let items = self.rows.per_version().iter().copied();
        let items = items.chain(std::iter::repeat(0));
        let mut spaces: Vec<SpaceStats> = self
            .versions
            .iter()
            .zip(items)
            .filter_map(|(name, items)| {
                // Names were checked before they were stored.
                let id = SpaceId::new(name.as_str()).ok()?;
                let space = StoreSpace { id, dim, simplex };
                Some(SpaceStats { space, items })
            })
            .collect();
        spaces.sort_by(|a, b| a.space.id.cmp(&b.space.id));
        spaces
    }

    /// The database as of this state.
    pub(super) fn reader(&self) -> Result<&Reader, GalleryError> {
        self.reader.as_ref().ok_or_else(|| GalleryError::Storage {
            path: self.database.clone(),
            problem: self.failure.clone(),
        })
    }

    pub(super) fn set_reader(&mut self, reader: Reader) {
        self.reader = Some(reader);
    }

    /// Closes the database file, so that it can be reopened.
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
    graph: RwLock<Option<Arc<Graph>>>,
    /// Searches of all rows run here, and those of the graph that find no place on their caller's thread; never a lock inside.
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
        let pool = thread_pool("gallery-search", config.threads)?;
        Ok(Self {
            config,
            folder: folder.to_owned(),
            state: RwLock::new(state),
            graph: RwLock::new(None),
            pool,
            closing: AtomicBool::new(false),
            compacting: AtomicBool::new(false),
            read_only,
        })
    }

    pub(super) fn with_codes(&self) -> bool {
        self.config.search == SearchMode::Int8
    }

    // A panic while a lock is held is a defect, but none that leaves a state half-changed: rows are only pushed and marked.
    pub(super) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn graph(&self) -> Option<Arc<Graph>> {
        let graph = self.graph.read().unwrap_or_else(PoisonError::into_inner);
        graph.clone()
    }

    pub(super) fn set_graph(&self, graph: Option<Arc<Graph>>) {
        *self.graph.write().unwrap_or_else(PoisonError::into_inner) = graph;
    }
}

pub(super) fn thread_pool(
    name: &'static str,
    threads: usize,
) -> Result<rayon::ThreadPool, GalleryError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(move |at| format!("{name}-{at}"))
        .build()
        .map_err(|error| GalleryError::InvalidConfig {
            key: "threads",
            problem: error.to_string(),
        })
}

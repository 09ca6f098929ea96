//! A gallery in PostgreSQL with pgvector: items of all spaces in one table, so that an item is in exactly one space at any moment.
//!
//! A schema of the database holds three tables. `perennial_items` has one row per item: its key, the number of its space, its label, its
//! payload as it came, a digest of each pair of the payload for filters, and its vector. `perennial_spaces` has the spaces with their dimensions
//! and numbers of items. `perennial_meta` has the format of the tables; its one row is locked by every write, so writes of all services come
//! one after another, and counts are exact. Reads see one snapshot of the database and wait for nobody.
//!
//! A search compares with every vector of the spaces that it names. Where a space has an HNSW index (`perennial_hnsw_NUMBER`), a search that need
//! not be exact goes through it; an exact one cannot, since the index is over an expression that only approximate searches use.

mod connector;
mod filter;
mod index_keeper;
mod maintenance;
mod pool;
mod reading;
mod row;
mod schema;
mod search;
mod session;
mod snapshots;
mod spaces;
mod writing;

use perennial_core::SpaceId;
use perennial_gallery::request_checks::{
    check_delete_where, check_ids, check_items, check_page, check_search,
};
use perennial_gallery::{
    Filter, GalleryError, Hit, Item, ItemId, Page, Replacement, SearchRequest, SpaceStats,
    StoreSpace, StoredItem, Upserted, VectorStore,
};

use self::connector::Connector;
use self::index_keeper::IndexKeeper;
use self::pool::Pool;
use self::session::Bound;
use self::spaces::Spaces;
use self::writing::Writing;
use crate::address::Address;
use crate::failure::Failure;
use crate::store_options::StoreOptions;

/// A gallery in a database. Several processes may have it open at once, for reading and for writing.
///
/// Writes of a process come one after another. A bounded number of them waits, and none for longer than [`StoreOptions::timeout`]; one that
/// cannot wait fails with [`GalleryError::Busy`], and has changed nothing.
///
/// An operation whose connection breaks is repeated on a new one, for about ten seconds. A write whose confirmation was lost is repeated as a
/// whole: the content is the same, but an item that the lost attempt has stored counts as replaced, and one that it has deleted is not counted.
///
/// Call it from ordinary threads, not from tasks of an async runtime: it blocks.
#[derive(Debug)]
pub struct PostgresStore {
    pool: Pool,
    read_only: bool,
    hnsw_from: u64,
    /// Ends with the store.
    _indexes: Option<IndexKeeper>,
}

impl PostgresStore {
    /// Opens the gallery in a schema of a database, which is made if need be, with an empty gallery.
    ///
    /// # Errors
    /// [`GalleryError::Database`] where the server cannot be reached, has no pgvector, refuses the role, or holds no gallery that was to be only
    /// read; [`GalleryError::Format`] for tables of another version of this program; [`GalleryError::InvalidConfig`] for options that cannot work.
    pub fn open(address: &Address, options: &StoreOptions) -> Result<Self, GalleryError> {
        options.check()?;
        let Some(address) = address.postgres() else {
            return Err(GalleryError::InvalidConfig {
                key: "store.url",
                problem: "is not that of a PostgreSQL".to_owned(),
            });
        };
        let connector = Connector::prepare(address, options)?;
        let indexes = options.hnsw_from > 0 && !options.read_only;
        let indexes = indexes.then(|| IndexKeeper::start(connector.clone(), options.hnsw_from));
        Ok(Self {
            pool: Pool::new(connector, options.connections),
            read_only: options.read_only,
            hnsw_from: options.hnsw_from,
            _indexes: indexes.transpose()?,
        })
    }

    /// Host, port and name of the database.
    pub fn server(&self) -> &str {
        self.pool.server()
    }

    fn check_writable(&self) -> Result<(), GalleryError> {
        if self.read_only {
            return Err(GalleryError::ReadOnly {
                path: self.server().into(),
            });
        }
        Ok(())
    }

    /// Changes the gallery in one transaction, alone.
    fn write<T>(
        &self,
        bound: Bound,
        change: impl Fn(&mut Writing<'_>) -> Result<T, Failure>,
    ) -> Result<T, GalleryError> {
        self.check_writable()?;
        self.pool.write(bound, |session| {
            let mut writing = Writing::begin(session)?;
            let done = change(&mut writing)?;
            writing.finish()?;
            Ok(done)
        })
    }
}

impl VectorStore for PostgresStore {
    fn spaces(&self) -> Result<Vec<SpaceStats>, GalleryError> {
        let spaces = self.pool.read(Bound::Usual, Spaces::read)?;
        Ok(spaces.stats())
    }

    fn create_space(&self, space: &StoreSpace) -> Result<(), GalleryError> {
        space.check()?;
        self.write(Bound::Usual, |writing| writing.create(space))
    }

    fn upsert(&self, items: Vec<Item>) -> Result<Upserted, GalleryError> {
        check_items(&items, |_| None)?;
        if items.is_empty() {
            return Ok(Upserted::default());
        }
        self.write(Bound::Usual, |writing| writing.upsert(&items))
    }

    fn replace_unchanged(&self, items: Vec<Replacement>) -> Result<Vec<ItemId>, GalleryError> {
        let new: Vec<Item> = items.iter().map(Replacement::item).collect();
        check_items(&new, |_| None)?;
        if items.is_empty() {
            return Ok(Vec::new());
        }
        self.write(Bound::Usual, |writing| writing.replace_unchanged(&items))
    }

    fn delete(&self, ids: &[ItemId]) -> Result<usize, GalleryError> {
        check_ids(ids)?;
        if ids.is_empty() {
            return Ok(0);
        }
        self.write(Bound::Usual, |writing| writing.delete(ids))
    }

    fn delete_where(&self, filter: &Filter) -> Result<usize, GalleryError> {
        check_delete_where(filter)?;
        self.write(Bound::Long, |writing| writing.delete_where(filter))
    }

    fn get(&self, ids: &[ItemId], with_embeddings: bool) -> Result<Vec<StoredItem>, GalleryError> {
        check_ids(ids)?;
        self.pool.read(Bound::Usual, |session| {
            reading::items(session, ids, with_embeddings)
        })
    }

    fn scroll(
        &self,
        after: Option<&ItemId>,
        limit: usize,
        filter: &Filter,
        with_embeddings: bool,
    ) -> Result<Page, GalleryError> {
        check_page(after, limit, filter)?;
        self.pool.read(Bound::Usual, |session| {
            reading::page(session, after, limit, filter, with_embeddings)
        })
    }

    fn search(&self, request: &SearchRequest<'_>) -> Result<Vec<Vec<Hit>>, GalleryError> {
        check_search(request)?;
        self.pool
            .read(Bound::Usual, |session| search::search(session, request))
    }

    fn sample(&self, space: &SpaceId, limit: usize, seed: u64) -> Result<Vec<f32>, GalleryError> {
        self.pool.read(Bound::Usual, |session| {
            reading::sample(session, space, limit, seed)
        })
    }
}

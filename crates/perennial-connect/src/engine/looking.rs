//! Looking at an index: exports, counts, samples, searches.

use std::collections::BTreeMap;

use perennial_core::ItemId;
use perennial_formats::Label;
use serde::Serialize;

use super::access::Engine;
use super::migration::Migration;
use crate::error::ConnectError;

/// Which rows are exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// All with a vector.
    All,
    /// A sample without repetition. The same rows give the same sample of a seed, wherever they lie.
    Sample {
        /// How many.
        count: u64,
        /// The seed.
        seed: i64,
        /// Rows that are in it in any case, by id, such as those that relevance judgements name. Ids without a row are left out.
        also: Vec<ItemId>,
    },
    /// Those without a copy of this migration, and those that were written since it was made: what is to be embedded again.
    Pending(String),
}

/// A row for a file.
#[derive(Debug)]
pub(crate) struct Exported {
    pub(crate) id: ItemId,
    pub(crate) label: Option<Label>,
    pub(crate) vector: Vec<f32>,
}

/// An approximate index of vectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IndexFacts {
    /// Its name.
    pub name: String,
    /// How it searches, such as `hnsw`.
    pub method: String,
    /// What it orders by, such as `vector_cosine_ops` or `Cosine`.
    pub operators: String,
    /// Its size, where the database says it.
    pub bytes: Option<u64>,
}

/// What there is, for a plan.
#[derive(Debug)]
pub(crate) struct Survey {
    /// The table or collection by its whole name.
    pub(crate) name: String,
    pub(crate) rows: u64,
    pub(crate) with_vector: u64,
    /// Numbers of vectors by dimension.
    pub(crate) dimensions: BTreeMap<u64, u64>,
    /// How values are stored, such as `halfvec` or `float32`.
    pub(crate) vector_type: String,
    /// Bytes of a stored value.
    pub(crate) value_bytes: u64,
    /// Bytes of a copy beside its vector and key.
    pub(crate) row_overhead: u64,
    pub(crate) indexes: Vec<IndexFacts>,
    /// What an index takes whose size the database does not say.
    pub(crate) index_row: Option<IndexRow>,
    /// Bytes of a copy that are neither vector nor key: payload, other vectors.
    pub(crate) beside_row_bytes: u64,
    /// How many times everything is stored.
    pub(crate) replicas: u64,
    /// What the estimates rest on.
    pub(crate) assumptions: Vec<String>,
    /// Bytes of everything, where the database says it.
    pub(crate) bytes: Option<u64>,
    /// Shards and replicas, where there are any.
    pub(crate) storage: Option<String>,
    pub(crate) warnings: Vec<String>,
}

/// Bytes of an index for each vector.
#[cfg_attr(
    not(feature = "qdrant"),
    allow(dead_code, reason = "PostgreSQL says how large its indexes are")
)]
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct IndexRow {
    /// Whatever its dimension.
    pub(crate) links: f64,
    /// For each of its values.
    pub(crate) value: f64,
}

impl IndexRow {
    /// Of vectors with so many values.
    pub(crate) fn bytes(self, dim: u64) -> f64 {
        self.links + self.value * dim as f64
    }
}

/// Copies that are written to see how fast that is.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "pgvector"),
    allow(
        dead_code,
        reason = "only PostgreSQL takes back what a probe has written"
    )
)]
pub(crate) struct Probe<K, S> {
    pub(crate) keys: Vec<K>,
    pub(crate) sources: Vec<S>,
    /// `[keys, dim]`
    pub(crate) vectors: Vec<f32>,
}

/// A row's vector and its copy's.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) old: Vec<f32>,
    pub(crate) copy: Vec<f32>,
}

/// A session that looks.
pub(crate) trait Looking: Engine {
    /// An export as it goes on.
    type Export;
    /// What copies are searched by.
    type Search;

    /// What raises the recall of an index, for messages.
    const RECALL_REMEDY: &'static str;

    /// The dimension of the first vector.
    ///
    /// # Errors
    /// [`ConnectError::State`] if there are no vectors.
    async fn first_dim(&self) -> Result<usize, ConnectError>;

    /// Begins an export of `rows` at a time. `label` is the column, or the key of the payload, that becomes the label; `migration` is that of
    /// [`Rows::Pending`]. With a place of an earlier export of the same rows it goes on there.
    async fn export(
        &mut self,
        rows: &Rows,
        migration: Option<&Migration<Self::Key>>,
        label: Option<&str>,
        at_once: usize,
        from: Option<&str>,
    ) -> Result<Self::Export, ConnectError>;

    /// Which labels there would be, for the error of an export without any.
    async fn labels_there(&mut self) -> Result<String, ConnectError>;

    /// Where an export goes on after the rows that it gave last, as a text for [`export`](Self::export); nothing at its end, and for a sample,
    /// which has no places.
    fn place(&self, export: &Self::Export) -> Option<String>;

    /// Lets an export go on, after the rows that it gave last, on a connection that was [opened again](Engine::reconnect).
    fn resume(&self, export: &mut Self::Export);

    /// The next rows with a vector; nothing at the end.
    async fn next_exported(
        &mut self,
        export: &mut Self::Export,
    ) -> Result<Option<Vec<Exported>>, ConnectError>;

    /// Counts and describes. `limit` vectors are looked at where their dimensions are not the same by rule.
    async fn survey(&mut self, limit: u64) -> Result<Survey, ConnectError>;

    /// Seconds of writing copies where nothing stays; nothing where that cannot be tried.
    async fn probe(
        &mut self,
        probes: Vec<Probe<Self::Key, Self::Source>>,
        dim: usize,
    ) -> Result<Option<f64>, ConnectError>;

    /// A seeded sample of copies that are up to date, with their rows' vectors.
    async fn pairs(
        &mut self,
        migration: &Migration<Self::Key>,
        count: u64,
        seed: i64,
    ) -> Result<Vec<Pair>, ConnectError>;

    /// The vectors of copies that runs made, in the order of the ids; nothing where there is none.
    async fn copied(
        &mut self,
        migration: &Migration<Self::Key>,
        ids: &[ItemId],
    ) -> Result<Vec<Option<Vec<f32>>>, ConnectError>;

    /// A vector as it is stored, and by how much the server's own rounding may make a value differ from that.
    fn as_stored(&self, vector: &[f32]) -> (Vec<f32>, f32);

    /// The largest difference of a value that rounding explains.
    fn rounding(&self) -> f32;

    /// What copies are searched by; nothing where all searches are exact.
    async fn search(
        &mut self,
        migration: &Migration<Self::Key>,
    ) -> Result<Option<Self::Search>, ConnectError>;

    /// A seeded sample of copies' vectors.
    async fn sample(
        &mut self,
        search: &Self::Search,
        count: u64,
        seed: i64,
    ) -> Result<Vec<Vec<f32>>, ConnectError>;

    /// Distances of the nearest copies, the smallest first: exact ones, or those that the index finds.
    async fn distances(
        &mut self,
        search: &Self::Search,
        query: &[f32],
        k: u32,
        exact: bool,
    ) -> Result<Vec<f64>, ConnectError>;
}

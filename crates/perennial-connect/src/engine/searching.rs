//! Searching an index as programs search it: by its own approximate index, for rows and their labels.

use std::collections::BTreeMap;

use perennial_core::ItemId;
use perennial_formats::Label;

use super::access::Engine;
use super::migration::Migration;
use crate::error::ConnectError;

/// Which vectors are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Searched {
    /// The old ones of all rows.
    Old,
    /// The old ones of rows that have no copy, or one that was made before the row was written.
    Pending,
    /// The copies.
    Copies,
    /// The copies of rows that were not written since.
    Current,
}

/// A row that a search found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Nearest {
    pub(crate) id: ItemId,
    pub(crate) label: Option<Label>,
    /// The cosine of its vector and the query, whatever the index orders by.
    pub(crate) cosine: f32,
}

/// A session that searches.
pub(crate) trait Searching: Engine {
    /// A search of some vectors that is asked many queries.
    type Prepared;

    /// `label` is the column, or the key of the payload, that hits are labelled by. Copies are those of the migration, which there is where copies
    /// play a part.
    async fn prepare(
        &mut self,
        searched: Searched,
        migration: Option<&Migration<Self::Key>>,
        label: Option<&str>,
    ) -> Result<Self::Prepared, ConnectError>;

    /// The nearest rows, best first, at most `k`; fewer where the index finds fewer.
    async fn nearest(
        &mut self,
        prepared: &Self::Prepared,
        query: &[f32],
        k: u32,
    ) -> Result<Vec<Nearest>, ConnectError>;

    /// The nearest rows of both columns: first the copies that are up to date, by the new query, then the rows without such a copy, by the old one.
    ///
    /// A row that is copied or written while this asks is in one of the answers at least: it must not be taken for waiting by the one and for
    /// copied by the other. A row that is in both was copied meanwhile, and there may be more than `k`.
    async fn nearest_in_both(
        &mut self,
        current: (&Self::Prepared, &[f32]),
        pending: (&Self::Prepared, &[f32]),
        k: u32,
    ) -> Result<[Vec<Nearest>; 2], ConnectError>;

    /// How many rows with a vector have each of these labels. Labels of no row may be missing.
    async fn labelled(
        &mut self,
        label: &str,
        labels: &[Label],
    ) -> Result<BTreeMap<Label, u64>, ConnectError>;

    /// Vectors of a seeded sample of what is searched, without repetition.
    async fn some_vectors(
        &mut self,
        prepared: &Self::Prepared,
        count: u64,
        seed: i64,
    ) -> Result<Vec<Vec<f32>>, ConnectError>;
}

//! Indexes of vectors that were mapped into another space, beside the vectors that are stored.

use std::fmt;
use std::sync::Arc;

use perennial_core::SpaceId;

use crate::error::GalleryError;
use crate::item::Hit;
use crate::stats::MappedIndexStats;
use crate::store::SearchRequest;

/// A map of stored vectors into another space, such as a bridge.
pub trait VectorMap: Send + Sync {
    /// What tells it apart: equal keys are equal maps, between the same spaces.
    fn key(&self) -> &str;

    /// The dimension of the vectors that it maps.
    fn input_dim(&self) -> usize;

    /// The dimension of what comes of them.
    fn output_dim(&self) -> usize;

    /// Maps vectors; `mapped` is replaced. A vector's result does not depend on the others.
    ///
    /// **Shapes**: `vectors` `[n, input_dim]` and `mapped` `[n, output_dim]`, unit rows.
    ///
    /// # Errors
    /// Why one of the vectors cannot be mapped.
    fn map(&self, vectors: &[f32], mapped: &mut Vec<f32>) -> Result<(), String>;

    /// Maps each vector; nothing for those that cannot be mapped.
    ///
    /// **Shapes**: `vectors` `[n, input_dim]`; `[n]` vectors `[output_dim]` of unit length.
    fn map_each(&self, vectors: &[f32]) -> Vec<Option<Vec<f32>>> {
        let (input, output) = (self.input_dim().max(1), self.output_dim().max(1));
        let mut mapped = Vec::new();
        // All at once is faster, and it is seldom that one of them is refused.
        if self.map(vectors, &mut mapped).is_ok() {
            let rows = mapped.chunks_exact(output);
            return rows.map(|row| Some(row.to_vec())).collect();
        }
        let alone = vectors.chunks_exact(input).map(|vector| {
            let mut mapped = Vec::with_capacity(output);
            self.map(vector, &mut mapped).ok()?;
            Some(mapped)
        });
        alone.collect()
    }
}

/// An index of the items of one space, of their vectors as a map gives them.
#[derive(Clone)]
pub struct MappedIndex {
    /// The space of the items.
    pub space: SpaceId,
    /// From there to the space of the queries.
    pub map: Arc<dyn VectorMap>,
}

impl MappedIndex {
    /// Whether it is an index of a space by a map of this key.
    pub fn is(&self, space: &SpaceId, key: &str) -> bool {
        self.space == *space && self.map.key() == key
    }
}

impl fmt::Debug for MappedIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mapped by {}", self.space, self.map.key())
    }
}

/// A store that can search items by vectors that a map gives, which it keeps in memory beside those that are stored. What is stored stays as it is.
///
/// Stores that lie in a database do not offer it; there, mapped copies are columns or collections of their own.
pub trait MappedIndexes {
    /// Whether the store has such indexes.
    fn offers_mapped(&self) -> bool {
        false
    }

    /// Keeps exactly these indexes from now on: others are let go, and those that are missing are built while others read and write. Doing it again
    /// is no error.
    ///
    /// # Errors
    /// [`GalleryError::NotOffered`] where any is wanted and the store has none.
    fn keep_mapped(&self, wanted: &[MappedIndex]) -> Result<(), GalleryError> {
        match wanted.is_empty() {
            true => Ok(()),
            false => Err(not_offered()),
        }
    }

    /// Whether searches of a space may go through its index by the map of this key: it is kept, and has held all items at least once.
    fn has_mapped(&self, space: &str, key: &str) -> bool {
        let _ = (space, key);
        false
    }

    /// The indexes that are kept.
    fn mapped(&self) -> Vec<MappedIndexStats> {
        Vec::new()
    }

    /// About how much memory an index of so many items takes, in bytes: what [`MappedIndexStats::memory_bytes`] is once it is built. 0 where the store
    /// has none.
    fn mapped_bytes(&self, items: u64, dim: usize) -> u64 {
        let _ = (items, dim);
        0
    }

    /// The items of the spaces that are most similar to each query by their mapped vectors, as
    /// [`VectorStore::search`](crate::VectorStore::search) finds them by those that are stored. `key` is that of the map, of which every space
    /// has an index, and the queries have the dimension of what it gives. An index that is still being built is complete, but slow. Items that the
    /// map refuses, or of another dimension than it takes, are not found.
    ///
    /// **Shapes**: `[n]` for queries `[n, output_dim]`.
    ///
    /// # Errors
    /// [`GalleryError::NotMapped`] with the first space whose index is not kept; those of a search otherwise.
    fn search_mapped(
        &self,
        key: &str,
        request: &SearchRequest<'_>,
    ) -> Result<Vec<Vec<Hit>>, GalleryError> {
        let _ = (key, request);
        Err(not_offered())
    }
}

fn not_offered() -> GalleryError {
    GalleryError::NotOffered {
        problem: "a gallery in a database keeps no index of mapped vectors in memory; use `perennial migrate run --mapped`, or certify another route"
            .to_owned(),
    }
}

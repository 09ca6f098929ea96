//! Size and state. The database looks after its files.

use std::collections::BTreeMap;

use perennial_gallery::{
    BytesPerVector, Compacted, DiskUse, GalleryError, GalleryStats, IndexKind, IndexProgress,
    IndexState, Maintenance, MappedIndexes, PartitionStats, SimplexIdentity,
};

use super::PostgresStore;
use super::schema::one;
use super::session::Bound;
use super::spaces::{KnownSpace, Spaces};

impl MappedIndexes for PostgresStore {}

impl Maintenance for PostgresStore {
    fn is_shared(&self) -> bool {
        true
    }

    fn stats(&self) -> Result<GalleryStats, GalleryError> {
        let (spaces, bytes) = self.pool.read(Bound::Usual, |session| {
            let spaces = Spaces::read(session)?;
            let row = one(session.query(
                "SELECT pg_total_relation_size('perennial_items') + pg_total_relation_size('perennial_spaces')",
                &[],
            )?)?;
            Ok((spaces, row.try_get::<_, i64>(0)?))
        })?;
        let (items, bytes) = (spaces.items(), u64::try_from(bytes).unwrap_or(0));
        let mut dims = spaces.iter().map(|known| known.space.dim);
        let first = dims.next();
        Ok(GalleryStats {
            items,
            dim: first.filter(|&first| dims.all(|dim| dim == first)),
            per_version: spaces
                .iter()
                .filter(|known| known.items > 0)
                .map(|known| (known.space.id.to_string(), known.items))
                .collect(),
            index: self.index(spaces.iter()),
            bytes_per_vector: BytesPerVector {
                memory: 0.0,
                disk: match items {
                    0 => 0.0,
                    _ => bytes as f64 / items as f64,
                },
            },
            disk: DiskUse {
                bytes,
                // The database fills the space of deleted rows again.
                reclaimable_bytes: 0,
            },
            partitions: self.partitions(&spaces),
            mapped: Vec::new(),
        })
    }

    /// Every write is durable when it returns.
    fn flush(&self) -> Result<(), GalleryError> {
        Ok(())
    }

    fn compact(&self) -> Result<Compacted, GalleryError> {
        Err(GalleryError::NotOffered {
            problem: "the gallery lies in a database, which uses the space of deleted items again by itself (autovacuum); to give it back to the \
                      disk, run VACUUM FULL perennial_items there, which holds up all requests meanwhile"
                .to_owned(),
        })
    }
}

impl PostgresStore {
    /// As in the embedded engine: one for the spaces of a simplex, one for each other space.
    fn partitions(&self, spaces: &Spaces) -> Vec<PartitionStats> {
        // Dimension, vertices, and for a space without a simplex its number.
        type Part = (usize, Option<usize>, Option<i32>);
        let mut parts: BTreeMap<Part, Vec<&KnownSpace>> = BTreeMap::new();
        for known in spaces.iter().filter(|known| known.items > 0) {
            let vertices = known.space.simplex.map(|simplex| simplex.vertices);
            let alone = vertices.is_none().then_some(known.number);
            let part = parts.entry((known.space.dim, vertices, alone));
            part.or_default().push(known);
        }
        let parts = parts.into_iter().map(|((dim, vertices, _), spaces)| {
            let named = |known: &&KnownSpace| (known.space.id.to_string(), known.items);
            PartitionStats {
                dim,
                items: spaces.iter().map(|known| known.items).sum(),
                simplex: vertices.map(|vertices| SimplexIdentity { vertices }),
                per_version: spaces.iter().map(named).collect(),
                index: self.index(spaces.iter().copied()),
                memory_bytes_per_vector: 0.0,
            }
        });
        parts.collect()
    }

    fn index<'a>(&self, spaces: impl Iterator<Item = &'a KnownSpace> + Clone) -> IndexState {
        let from = self.hnsw_from;
        let most = self.pool.max_indexed();
        let missing =
            |known: &&KnownSpace| !self.read_only && from > 0 && known.lacks_index(from, most);
        let backlog = spaces
            .clone()
            .filter(missing)
            .map(|known| known.items)
            .sum();
        let all: u64 = spaces.clone().map(|known| known.items).sum();
        let largest = spaces.max_by_key(|known| known.items);
        IndexState {
            kind: match largest.is_some_and(|known| known.indexed) {
                true => IndexKind::Hnsw,
                false => IndexKind::Exact,
            },
            state: match backlog {
                0 => IndexProgress::Ready,
                _ => IndexProgress::Building,
            },
            indexed: all - backlog,
            backlog,
        }
    }
}

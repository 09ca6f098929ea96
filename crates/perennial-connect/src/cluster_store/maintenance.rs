//! Size and state. The servers look after their files.

use std::collections::BTreeMap;

use perennial_gallery::{
    BytesPerVector, Compacted, DiskUse, GalleryError, GalleryStats, IndexKind, IndexProgress,
    IndexState, Maintenance, MappedIndexes, PartitionStats, SimplexIdentity,
};

use super::QdrantStore;
use super::head::Known;
use super::view::View;
use crate::failure::Failure;

/// A space with items, its name, and how many of them the server's index covers.
struct Counted {
    name: String,
    known: Known,
    indexed: u64,
    is_busy: bool,
}

impl MappedIndexes for QdrantStore {}

impl Maintenance for QdrantStore {
    fn is_shared(&self) -> bool {
        true
    }

    /// Qdrant does not say what a collection occupies on the disk, so that is given as 0.
    fn stats(&self) -> Result<GalleryStats, GalleryError> {
        let spaces = self.read(counted)?;
        let mut dims = spaces.iter().map(|counted| counted.known.dim);
        let first = dims.next();
        let all: Vec<&Counted> = spaces.iter().collect();
        Ok(GalleryStats {
            items: items(&all),
            dim: first.filter(|&first| dims.all(|dim| dim == first)),
            per_version: per_version(&all),
            index: index(&all),
            bytes_per_vector: BytesPerVector::default(),
            disk: DiskUse::default(),
            partitions: partitions(&spaces),
            mapped: Vec::new(),
        })
    }

    /// Every write is applied when it returns.
    fn flush(&self) -> Result<(), GalleryError> {
        Ok(())
    }

    fn compact(&self) -> Result<Compacted, GalleryError> {
        Err(GalleryError::NotOffered {
            problem: "the gallery lies in Qdrant, which gives the space of deleted points back by itself (its vacuum optimizer)".to_owned(),
        })
    }
}

fn counted(view: &View<'_>) -> Result<Vec<Counted>, Failure> {
    let mut spaces = Vec::new();
    for (name, known) in view
        .state
        .spaces
        .iter()
        .filter(|(_, known)| known.items > 0)
    {
        let mut counted = Counted {
            name: name.clone(),
            known: known.clone(),
            indexed: known.items,
            is_busy: false,
        };
        if let (true, Some(suffix)) = (known.indexed, &known.collection)
            && let Some(info) = view.server.info(&view.server.of_space(suffix))?
        {
            counted.is_busy = info.status != "green";
            if counted.is_busy {
                counted.indexed = info.indexed_vectors_count.unwrap_or(0).min(known.items);
            }
        }
        spaces.push(counted);
    }
    Ok(spaces)
}

fn items(spaces: &[&Counted]) -> u64 {
    spaces.iter().map(|counted| counted.known.items).sum()
}

fn per_version(spaces: &[&Counted]) -> BTreeMap<String, u64> {
    let named = spaces.iter();
    named
        .map(|counted| (counted.name.clone(), counted.known.items))
        .collect()
}

/// As in the embedded engine: one for the spaces of a simplex, one for each other space.
fn partitions(spaces: &[Counted]) -> Vec<PartitionStats> {
    // Dimension, vertices, and for a space without a simplex its name.
    type Part<'a> = (usize, Option<usize>, Option<&'a str>);
    let mut parts: BTreeMap<Part<'_>, Vec<&Counted>> = BTreeMap::new();
    for counted in spaces {
        let Known { dim, vertices, .. } = counted.known;
        let alone = vertices.is_none().then_some(counted.name.as_str());
        parts
            .entry((dim, vertices, alone))
            .or_default()
            .push(counted);
    }
    let parts = parts
        .into_iter()
        .map(|((dim, vertices, _), spaces)| PartitionStats {
            dim,
            items: items(&spaces),
            simplex: vertices.map(|vertices| SimplexIdentity { vertices }),
            per_version: per_version(&spaces),
            index: index(&spaces),
            memory_bytes_per_vector: 0.0,
        });
    parts.collect()
}

fn index(spaces: &[&Counted]) -> IndexState {
    let indexed: u64 = spaces.iter().map(|counted| counted.indexed).sum();
    let largest = spaces.iter().max_by_key(|counted| counted.known.items);
    let backlog = items(spaces) - indexed;
    IndexState {
        kind: match largest.is_some_and(|counted| counted.known.indexed) {
            true => IndexKind::Hnsw,
            false => IndexKind::Exact,
        },
        state: match backlog {
            0 => IndexProgress::Ready,
            _ => IndexProgress::Building,
        },
        indexed,
        backlog,
    }
}

//! Which saved graphs are used, and which are removed.

use std::path::Path;

use perennial_core::SpaceId;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use redb::TableDefinition;
use serde_json::Map;

use super::*;
use crate::embedded::scan::tests::unit;
use crate::embedded::tables::Epoch;
use crate::embedded::{EmbeddedGallery, GalleryConfig};
use crate::filter::Filter;
use crate::item::{Item, ItemId};
use crate::store::{Maintenance, SearchRequest, VectorStore};

const DIM: usize = 24;

fn config(hnsw_from: usize) -> GalleryConfig {
    GalleryConfig {
        threads: 2,
        cache_bytes: 8 << 20,
        hnsw_from,
        ..GalleryConfig::default()
    }
}

fn open(folder: &Path, hnsw_from: usize) -> EmbeddedGallery {
    EmbeddedGallery::open(folder, config(hnsw_from)).unwrap()
}

/// Items whose vectors follow from `seed` and their ids.
fn items(ids: std::ops::Range<u64>, seed: u64) -> Vec<Item> {
    ids.map(|id| Item {
        id: id.into(),
        embedding: unit(&mut ChaCha8Rng::seed_from_u64(seed + id), DIM),
        model_version: "v0001".to_owned(),
        label: None,
        payload: Map::new(),
    })
    .collect()
}

/// Each item is what is most similar to itself.
fn assert_finds(gallery: &EmbeddedGallery, items: &[Item]) {
    let found = items.iter().filter(|item| {
        let hits = gallery.search(&SearchRequest {
            spaces: &[SpaceId::new("v0001").unwrap()],
            queries: &item.embedding,
            dim: DIM,
            limit: 1,
            filter: &Filter::default(),
            exact: false,
        });
        hits.unwrap()[0][0].id == item.id
    });
    let (found, all) = (found.count(), items.len());
    assert!(found * 100 >= all * 97, "{found} of {all}");
}

fn copy(from: &Path, to: &Path, names: &[&str]) {
    std::fs::create_dir_all(to).unwrap();
    for name in names {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

const GRAPH: [&str; 2] = ["hnsw.graph", "hnsw.json"];

#[test]
fn files_of_partitions_that_are_gone_go_and_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    {
        let gallery = open(folder.path(), 100);
        gallery.upsert(items(0..300, 0)).unwrap();
        gallery.flush().unwrap();
    }
    // As a process leaves them that is killed after a partition went, or while it saves.
    let gone = [
        "hnsw-7.graph",
        "hnsw-7.json",
        "hnsw-7.graph.partial",
        "hnsw.graph.partial",
    ];
    let foreign = [
        "hnsw-notes.json",
        "hnsw-07.json",
        "hnsw-7.graph.bak",
        "hnsw7.graph",
        "other.graph",
    ];
    for name in gone.iter().chain(&foreign) {
        std::fs::write(path(name), "x").unwrap();
    }
    {
        let config = config(100);
        let gallery = EmbeddedGallery::open_read_only(folder.path(), config).unwrap();
        gallery.flush().unwrap();
    }
    assert!(gone.iter().all(|name| path(name).exists()));
    let gallery = open(folder.path(), 100);
    gallery.flush().unwrap();
    let left: Vec<&&str> = gone.iter().filter(|name| path(name).exists()).collect();
    assert!(left.is_empty(), "{left:?}");
    let kept = foreign.iter().chain(&GRAPH);
    assert!(kept.into_iter().all(|name| path(name).exists()));
}

#[test]
fn a_graph_of_another_past_is_not_used_and_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (here, backup) = (folder.path().join("here"), folder.path().join("backup"));
    {
        let gallery = open(&here, usize::MAX);
        gallery.upsert(items(0..300, 0)).unwrap();
    }
    copy(&here, &backup, &["gallery.redb"]);
    {
        let gallery = open(&here, 100);
        gallery.upsert(items(300..600, 0)).unwrap();
        gallery.flush().unwrap();
    }
    // The gallery goes on from the backup with other items; its rows have the numbers of those that the graph has.
    copy(&backup, &here, &["gallery.redb"]);
    copy(&here, &backup, &GRAPH);
    let others = items(300..700, 1 << 20);
    {
        let gallery = open(&here, usize::MAX);
        gallery.flush().unwrap();
        assert!(!here.join("hnsw.json").exists() && !here.join("hnsw.graph").exists());
        gallery.upsert(others.clone()).unwrap();
    }
    // Nor is it used when it comes back.
    for read_only in [true, false] {
        copy(&backup, &here, &GRAPH);
        let gallery = match read_only {
            true => EmbeddedGallery::open_read_only(&here, config(100)).unwrap(),
            false => open(&here, 100),
        };
        gallery.flush().unwrap();
        assert_finds(&gallery, &others);
        assert!(here.join("hnsw.json").exists());
    }
    // What was saved after that is.
    let gallery = open(&here, 100);
    gallery.flush().unwrap();
    assert_finds(&gallery, &others);
}

/// Whether opening a gallery uses the graph that is saved there; one that is built again is a new file.
#[cfg(unix)]
fn uses_the_saved_graph(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let file = || folder.join(GRAPH[0]).metadata().map(|found| found.ino());
    let before = file().unwrap();
    let gallery = open(folder, 100);
    gallery.flush().unwrap();
    drop(gallery);
    file().unwrap() == before
}

#[cfg(unix)]
#[test]
fn graphs_of_this_past_are_used_whoever_saved_them() {
    let folder = tempfile::tempdir().unwrap();
    let (here, early) = (folder.path().join("here"), folder.path().join("early"));
    {
        let gallery = open(&here, 100);
        gallery.upsert(items(0..300, 0)).unwrap();
        gallery.flush().unwrap();
    }
    assert!(uses_the_saved_graph(&here));
    copy(&here, &early, &GRAPH);
    // Openings that only delete, that add, and that compact.
    open(&here, 100).delete(&[5.into()]).unwrap();
    assert!(uses_the_saved_graph(&here));
    {
        let gallery = open(&here, 100);
        gallery.upsert(items(300..320, 0)).unwrap();
        gallery.compact().unwrap();
        gallery.upsert(items(320..330, 0)).unwrap();
        gallery.flush().unwrap();
    }
    assert!(uses_the_saved_graph(&here));
    // The graph of the first one, as after a process that was killed before it saved one: it is extended.
    let covered = |folder: &Path| -> u64 {
        let text = std::fs::read_to_string(folder.join(GRAPH[1])).unwrap();
        let description: Description = serde_json::from_str(&text).unwrap();
        assert!(description.epoch.is_some());
        description.covered
    };
    assert_eq!((covered(&early), covered(&here)), (300, 330));
    copy(&early, &here, &GRAPH);
    {
        let gallery = EmbeddedGallery::open_read_only(&here, config(100)).unwrap();
        gallery.flush().unwrap();
        let graph = gallery.shared.graph(RowsId::Partition(0)).unwrap();
        assert_eq!(graph.covered(), 300);
    }
    // An earlier version wrote both the gallery and the graph.
    let plain = |folder: &Path| {
        let database = redb::Database::open(folder.join("gallery.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        let epochs: TableDefinition<'_, u64, u64> = TableDefinition::new("epochs");
        assert!(transaction.delete_table(epochs).unwrap());
        transaction.commit().unwrap();
        let path = folder.join(GRAPH[1]);
        let text = std::fs::read(&path).unwrap();
        let mut description: Map<String, serde_json::Value> =
            serde_json::from_slice(&text).unwrap();
        assert!(description.remove("epoch").is_some());
        std::fs::write(&path, serde_json::to_vec(&description).unwrap()).unwrap();
    };
    assert!(!uses_the_saved_graph(&here), "it lacked rows");
    plain(&here);
    assert!(uses_the_saved_graph(&here));
    let ids: Vec<ItemId> = (0..330).map(ItemId::Number).collect();
    assert_eq!(open(&here, 100).get(&ids, false).unwrap().len(), 329);
}

/// What the database knows, by the first rows.
fn epochs(gallery: &EmbeddedGallery) -> Vec<Epoch> {
    let state = gallery.shared.state();
    state.reader().unwrap().epochs_from(0).unwrap()
}

#[cfg(unix)]
#[test]
fn epochs_that_no_saved_graph_refers_to_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    // Too few rows for a graph.
    for opening in 0..12 {
        let gallery = open(folder.path(), 100);
        gallery.upsert(items(opening..opening + 1, 0)).unwrap();
        assert!(epochs(&gallery).len() <= 3, "{:?}", epochs(&gallery));
    }
    // A graph that is saved now and never again, while rows come to another partition.
    let of_graph = {
        let gallery = open(folder.path(), 100);
        gallery.upsert(items(100..400, 0)).unwrap();
        gallery.flush().unwrap();
        *epochs(&gallery).last().unwrap()
    };
    let beside = |id: u64| Item {
        model_version: "beside".to_owned(),
        ..items(id..id + 1, 0).remove(0)
    };
    for opening in 0..12 {
        let gallery = open(folder.path(), 100);
        gallery.upsert(vec![beside(1000 + opening)]).unwrap();
        gallery.flush().unwrap();
        let known = epochs(&gallery);
        assert!(known.contains(&of_graph) && known.len() <= 5, "{known:?}");
    }
    let description = Description::read(&folder.path().join(GRAPH[1])).unwrap();
    assert_eq!(description.epoch, Some(of_graph));
    assert!(uses_the_saved_graph(folder.path()));
    assert_finds(&open(folder.path(), 100), &items(100..400, 0));
}

#[test]
fn a_graph_of_an_epoch_that_went_on_elsewhere_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let (here, other) = (folder.path().join("here"), folder.path().join("other"));
    {
        let gallery = open(&here, 100);
        gallery.upsert(items(0..300, 0)).unwrap();
        gallery.flush().unwrap();
        // The process of the other copy goes on in its epoch; openings of this one begin their own.
        std::fs::create_dir_all(&other).unwrap();
        std::fs::copy(here.join("gallery.redb"), other.join("gallery.redb")).unwrap();
        copy(&here, &other, &GRAPH);
        gallery.upsert(items(300..340, 0)).unwrap();
        gallery.flush().unwrap();
    }
    for opening in 0..8 {
        let first = 300 + 10 * opening;
        let gallery = open(&other, usize::MAX);
        gallery.upsert(items(first..first + 10, 1 << 20)).unwrap();
    }
    copy(&here, &other, &GRAPH);
    let gallery = open(&other, 100);
    gallery.flush().unwrap();
    let (old, new) = (items(0..300, 0), items(300..380, 1 << 20));
    assert_finds(&gallery, &[old, new].concat());
}

//! The approximate index.

use perennial_core::{SpaceId, dot};
use perennial_gallery::{
    EmbeddedGallery, Filter, GalleryConfig, IndexKind, IndexProgress, Item, ItemId, Maintenance,
    SearchRequest, VectorStore,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::fixtures::*;
use crate::partitions::{in_spaces, spread};

fn graph() -> GalleryConfig {
    GalleryConfig {
        hnsw_from: 500,
        ..small()
    }
}

/// A batch, which several threads answer, finds what its queries find one by one.
fn assert_batches_find_the_same(gallery: &EmbeddedGallery, dim: usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let queries: Vec<Vec<f32>> = (0..9).map(|_| unit(&mut rng, dim)).collect();
    let filter = Filter::default();
    let space: SpaceId = "v0001".parse().unwrap();
    let batch = gallery
        .search(&SearchRequest {
            spaces: std::slice::from_ref(&space),
            queries: &queries.concat(),
            dim,
            limit: 10,
            filter: &filter,
            exact: false,
        })
        .unwrap();
    assert_eq!(batch.len(), queries.len());
    for (query, hits) in queries.iter().zip(&batch) {
        let alone = in_spaces(gallery, &["v0001"], query, 10, &filter);
        assert_eq!(ids(hits), ids(&alone));
    }
}

fn assert_graph_finds(gallery: &EmbeddedGallery, items: &[Item], dim: usize) {
    let stats = gallery.stats().unwrap();
    assert_eq!(
        (stats.index.kind, stats.index.state),
        (IndexKind::Hnsw, IndexProgress::Ready)
    );
    assert_eq!(stats.items as usize, items.len());
    let mut rng = ChaCha8Rng::seed_from_u64(10);
    for filter in filters() {
        let (mut found, mut wanted) = (0, 0);
        for _ in 0..10 {
            let query = unit(&mut rng, dim);
            let expected = expected(items, &query, 10, &filter);
            let hits = ids(&search(gallery, &query, 10, &filter));
            assert_eq!(hits.len(), expected.len(), "{filter:?}");
            found += agreement(&hits, &expected);
            wanted += expected.len();
        }
        assert!(
            found * 100 >= wanted * 95,
            "{found} of {wanted} with {filter:?}"
        );
    }
}

#[test]
fn the_graph_is_built_saved_loaded_and_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let mut items = items(800, 16, 11);
    {
        let gallery = EmbeddedGallery::open(folder.path(), graph()).unwrap();
        of_simplex(&gallery, 17);
        gallery.upsert(items.clone()).unwrap();
        gallery.flush().unwrap();
        assert_graph_finds(&gallery, &items, 16);
        assert_batches_find_the_same(&gallery, 16);
        // Changes after the graph: new, replaced and deleted items.
        items.retain(|item| !matches!(item.id, ItemId::Number(n) if n.is_multiple_of(5)));
        let gone: Vec<ItemId> = (0..800).step_by(5).map(ItemId::Number).collect();
        assert_eq!(gallery.delete(&gone).unwrap(), 160);
        gallery.flush().unwrap();
        assert_graph_finds(&gallery, &items, 16);
    }
    // A start without the graph changes what it then lacks.
    {
        let gallery = open(folder.path());
        let moved = items[4].embedding.clone();
        items[0].embedding = moved;
        gallery.upsert(vec![items[0].clone()]).unwrap();
        items.push(item("late", items[9].embedding.clone()));
        gallery.upsert(vec![items.last().unwrap().clone()]).unwrap();
        gallery.delete(&[items.remove(20).id]).unwrap();
    }
    let saved = std::fs::read(folder.path().join("hnsw.graph")).unwrap();
    {
        let gallery = EmbeddedGallery::open(folder.path(), graph()).unwrap();
        gallery.flush().unwrap();
        assert_graph_finds(&gallery, &items, 16);
        let hits = search(&gallery, &items[9].embedding, 2, &Filter::default());
        assert!(ids(&hits).contains(&"late".into()));
    }
    // Damaged graphs are not loaded, but built again.
    for damage in [&saved[..saved.len() - 1], &[][..], b"nonsense"] {
        std::fs::write(folder.path().join("hnsw.graph"), damage).unwrap();
        let gallery = EmbeddedGallery::open(folder.path(), graph()).unwrap();
        gallery.flush().unwrap();
        assert_graph_finds(&gallery, &items, 16);
    }
    // Nor are those that earlier versions saved; they go.
    let description = folder.path().join("hnsw.json");
    let former = std::fs::read_to_string(&description).unwrap();
    assert!(former.contains("\"format\": 3"), "{former}");
    let of_format = |format: u32| former.replace("\"format\": 3", &format!("\"format\": {format}"));
    for text in ["{", &of_format(1), &of_format(2)] {
        std::fs::write(&description, text).unwrap();
        std::fs::write(folder.path().join("hnsw.usearch"), b"of before").unwrap();
        let gallery = EmbeddedGallery::open(folder.path(), graph()).unwrap();
        gallery.flush().unwrap();
        assert_graph_finds(&gallery, &items, 16);
        assert!(!folder.path().join("hnsw.usearch").exists());
    }
    let gallery = EmbeddedGallery::open(folder.path(), graph()).unwrap();
    gallery.flush().unwrap();
    // Too few are left for a graph.
    gallery.delete_where(&filters()[1]).unwrap();
    gallery.delete_where(&filters()[3]).unwrap();
    gallery.flush().unwrap();
    assert_eq!(gallery.stats().unwrap().index.kind, IndexKind::Int8);
}

#[test]
fn every_partition_has_its_graph() {
    let folder = tempfile::tempdir().unwrap();
    let config = GalleryConfig {
        hnsw_from: 400,
        ..small()
    };
    let mut items = spread(0, 1500, 5);
    let ready = |gallery: &EmbeddedGallery, graphs: usize| {
        let stats = gallery.stats().unwrap();
        let has_graph = |kind| kind == IndexKind::Hnsw;
        let found = stats.partitions.iter().filter(|p| has_graph(p.index.kind));
        assert_eq!(found.count(), graphs);
        assert_eq!(
            (stats.index.state, stats.index.backlog),
            (IndexProgress::Ready, 0)
        );
    };
    {
        let gallery = EmbeddedGallery::open(folder.path(), config.clone()).unwrap();
        of_simplex(&gallery, 5);
        gallery.upsert(items.clone()).unwrap();
        gallery.flush().unwrap();
        ready(&gallery, 2);
        let hits = in_spaces(
            &gallery,
            &["text"],
            &items[3].embedding,
            1,
            &Filter::default(),
        );
        assert_eq!(hits[0].id, items[3].id);
    }
    for name in ["hnsw.graph", "hnsw.json", "hnsw-1.graph", "hnsw-1.json"] {
        assert!(folder.path().join(name).exists(), "{name}");
    }
    let gallery = EmbeddedGallery::open(folder.path(), config).unwrap();
    // Rows that left a partition are not found in it, although its graph still has them.
    let moved: Vec<Item> = items
        .iter()
        .filter(|item| item.model_version == "text")
        .take(60)
        .map(|old| Item {
            model_version: "v0002".to_owned(),
            embedding: vec![0.0, 0.0, 0.6, 0.8],
            ..old.clone()
        })
        .collect();
    gallery.upsert(moved.clone()).unwrap();
    for item in &moved {
        let old = items.iter_mut().find(|old| old.id == item.id).unwrap();
        let hits = in_spaces(&gallery, &["text"], &old.embedding, 3, &Filter::default());
        assert!(hits.iter().all(|hit| hit.model_version == "text"));
        *old = item.clone();
    }
    gallery.flush().unwrap();
    ready(&gallery, 2);
    let hits = in_spaces(
        &gallery,
        &["v0001", "v0002"],
        &[0.0, 0.0, 0.6, 0.8],
        60,
        &Filter::default(),
    );
    assert!(hits.iter().filter(|hit| hit.score > 0.999).count() >= 57);
    // An emptied partition takes its graph along.
    let text = Filter {
        model_versions: Some(vec!["text".to_owned()]),
        ..Filter::default()
    };
    assert_eq!(gallery.delete_where(&text).unwrap(), 440);
    gallery.flush().unwrap();
    ready(&gallery, 1);
    assert!(!folder.path().join("hnsw-1.graph").exists());
}

/// Partitions that are searched together.
const TOGETHER: [&str; 4] = ["a", "b", "c", "few"];

/// Compares searches of all of them at once, for one query and for a batch, with the best of all items.
fn assert_together(gallery: &EmbeddedGallery, items: &[Item], dim: usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(33);
    let queries: Vec<Vec<f32>> = (0..12).map(|_| unit(&mut rng, dim)).collect();
    let spaces = TOGETHER.map(|name| SpaceId::new(name).unwrap());
    let mut filters = filters();
    filters.push(Filter {
        model_versions: Some(vec!["b".to_owned(), "few".to_owned()]),
        ..Filter::default()
    });
    for filter in filters {
        // More than the breadth as well.
        for limit in [10, 150] {
            let batch = gallery.search(&SearchRequest {
                spaces: &spaces,
                queries: &queries.concat(),
                dim,
                limit,
                filter: &filter,
                exact: false,
            });
            let (mut found, mut wanted) = (0, 0);
            for (query, of_batch) in queries.iter().zip(batch.unwrap()) {
                let hits = in_spaces(gallery, &TOGETHER, query, limit, &filter);
                let expected = expected(items, query, limit, &filter);
                assert_eq!(hits.len(), expected.len(), "{filter:?}");
                assert_eq!(of_batch.len(), expected.len(), "{filter:?}");
                assert!(hits.is_sorted_by(|a, b| a.score >= b.score));
                found += agreement(&ids(&hits), &expected) + agreement(&ids(&of_batch), &expected);
                wanted += 2 * expected.len();
            }
            assert!(
                found * 100 >= wanted * 98,
                "{found} of {wanted} with {filter:?}"
            );
        }
    }
}

#[test]
fn several_partitions_are_searched_by_their_graphs() {
    let folder = tempfile::tempdir().unwrap();
    let config = GalleryConfig {
        hnsw_from: 400,
        ..small()
    };
    let mut items = items(2600, 16, 35);
    for (item, number) in items.iter_mut().zip(0..) {
        // One has no graph.
        let at = match number % 13 {
            0..6 => 0,
            6..9 => 1,
            9..12 => 2,
            _ => 3,
        };
        item.model_version = TOGETHER[at].to_owned();
    }
    // Equal ones, in two of them.
    for at in [13, 26, 39, 6, 19] {
        items[at].embedding = items[0].embedding.clone();
    }
    let gallery = EmbeddedGallery::open(folder.path(), config).unwrap();
    gallery.upsert(items.clone()).unwrap();
    gallery.flush().unwrap();
    let stats = gallery.stats().unwrap();
    let graphs = stats.partitions.iter();
    let graphs = graphs.filter(|part| part.index.kind == IndexKind::Hnsw);
    assert_eq!(graphs.count(), 3);
    assert_together(&gallery, &items, 16);
    let equal = in_spaces(
        &gallery,
        &TOGETHER,
        &items[0].embedding,
        6,
        &Filter::default(),
    );
    assert!(equal.iter().all(|hit| hit.score > 0.9999), "{equal:?}");
    assert!(equal.is_sorted_by(|a, b| a.id < b.id));
    // Dead rows, rows that went from one to another, and some that no graph has yet.
    let gone: Vec<ItemId> = (0..2600).step_by(5).map(ItemId::Number).collect();
    assert_eq!(gallery.delete(&gone).unwrap(), 520);
    items.retain(|item| !matches!(item.id, ItemId::Number(n) if n.is_multiple_of(5)));
    let mut late: Vec<Item> = items.iter().step_by(9).cloned().collect();
    late.iter_mut()
        .chain(items.iter_mut().step_by(9))
        .for_each(|item| item.model_version = "b".to_owned());
    gallery.upsert(late).unwrap();
    assert_together(&gallery, &items, 16);
    gallery.flush().unwrap();
    assert_together(&gallery, &items, 16);
}

/// A vector near one of three corners.
fn near(corner: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut vector = unit(rng, 16);
    vector[corner] += 3.0;
    let length = dot(&vector, &vector).sqrt();
    vector.iter().map(|value| value / length).collect()
}

/// How many of the ten best of 60 queries are found among 3,000 items with little breadth, by the graphs of as many spaces; `apart`: the items near a
/// corner are all in one of them.
fn found_among(spaces: &[&str], apart: bool) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let mut config = graph();
    config.hnsw.expansion_search = 16;
    let gallery = EmbeddedGallery::open(folder.path(), config).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(41);
    let mut items = items(3000, 16, 41);
    for (item, number) in items.iter_mut().zip(0..) {
        let corner = number % 3;
        item.embedding = near(corner, &mut rng);
        let space = if apart { corner } else { number / 3 };
        item.model_version = spaces[space % spaces.len()].to_owned();
    }
    gallery.upsert(items.clone()).unwrap();
    gallery.flush().unwrap();
    let stats = gallery.stats().unwrap();
    let mut kinds = stats.partitions.iter().map(|part| part.index.kind);
    assert!(kinds.len() == spaces.len() && kinds.all(|kind| kind == IndexKind::Hnsw));
    let filter = Filter::default();
    let found = (0..60).map(|number| {
        let query = near(number % 3, &mut rng);
        let hits = ids(&in_spaces(&gallery, spaces, &query, 10, &filter));
        agreement(&hits, &expected(&items, &query, 10, &filter))
    });
    found.sum()
}

#[test]
fn three_graphs_find_about_as_much_as_one() {
    let one = found_among(&TOGETHER[..1], false);
    // A first search of each graph with a part of the breadth finds fewer than ten in the one that has them all.
    for apart in [false, true] {
        let three = found_among(&TOGETHER[..3], apart);
        assert!(one > 560 && three * 100 >= one * 95, "{three} and {one}");
    }
}

/// A pipe lets nobody open it until somebody writes to it, who never comes.
#[cfg(unix)]
#[test]
fn a_saved_graph_that_is_no_file_is_built_again() {
    let folder = tempfile::tempdir().unwrap();
    let stored = items(1200, 8, 3);
    let gallery = EmbeddedGallery::open(folder.path(), graph()).unwrap();
    of_simplex(&gallery, 9);
    gallery.upsert(stored.clone()).unwrap();
    gallery.flush().unwrap();
    drop(gallery);
    let path = folder.path().join("hnsw.graph");
    std::fs::remove_file(&path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let (sender, done) = std::sync::mpsc::channel();
    let opened = folder.path().to_owned();
    std::thread::spawn(move || {
        let gallery = EmbeddedGallery::open(opened, graph()).unwrap();
        gallery.flush().unwrap();
        let stats = gallery.stats().unwrap();
        drop(gallery);
        sender.send(stats).unwrap();
    });
    let stats = done.recv_timeout(std::time::Duration::from_secs(30));
    assert_eq!(stats.unwrap().index.kind, IndexKind::Hnsw);
    assert!(path.metadata().unwrap().is_file());
}

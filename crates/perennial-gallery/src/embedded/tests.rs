//! What only shows with a hand inside the engine: a disk that fills up, and rows that move.

use perennial_core::SpaceId;
use serde_json::Map;

mod full_disk;
mod reading;
mod recovery;

use super::backend::tests::DISK_SIZE;
use super::*;
use crate::store::{Maintenance, Snapshots};

fn item(id: u64, dim: usize) -> Item {
    let mut embedding = vec![0.0; dim];
    embedding[id as usize % dim] = 1.0;
    Item {
        id: id.into(),
        embedding,
        model_version: "v0001".to_owned(),
        label: None,
        payload: Map::new(),
    }
}

fn open(folder: &Path) -> EmbeddedGallery {
    let config = GalleryConfig {
        threads: 1,
        cache_bytes: 4 << 20,
        ..GalleryConfig::default()
    };
    EmbeddedGallery::open(folder, config).unwrap()
}

/// What is most similar to an item.
fn nearest(
    gallery: &EmbeddedGallery,
    item: &Item,
    limit: usize,
    filter: &Filter,
    exact: bool,
) -> Vec<Hit> {
    let found = gallery.search(&SearchRequest {
        spaces: &[SpaceId::new("v0001").unwrap()],
        queries: &item.embedding,
        dim: item.embedding.len(),
        limit,
        filter,
        exact,
    });
    found.unwrap().remove(0)
}

fn set_disk_size(gallery: &EmbeddedGallery, size: u64) {
    let run = Box::new(move || DISK_SIZE.set(size));
    gallery.ask(|reply| Command::Run(run, reply)).unwrap();
}

#[test]
fn a_full_disk_refuses_writes_and_leaves_everything_readable() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    gallery
        .upsert((0..20).map(|id| item(id, 32)).collect())
        .unwrap();
    set_disk_size(&gallery, 0);
    let mut stored = 20;
    let error = loop {
        match gallery.upsert((stored..stored + 100).map(|id| item(id, 32)).collect()) {
            Ok(_) => stored += 100,
            Err(error) => break error,
        }
        assert!(stored < 100_000, "the disk never fills up");
    };
    assert!(matches!(error, GalleryError::Storage { .. }), "{error}");
    assert!(!error.is_invalid_input());

    let filter = Filter::default();
    for _ in 0..2 {
        assert_eq!(gallery.stats().unwrap().items, stored);
        let hits = nearest(&gallery, &item(3, 32), 1, &filter, true);
        assert_eq!(hits[0].id, 3.into());
        assert_eq!(
            gallery.get(&[7.into(), stored.into()], true).unwrap().len(),
            1
        );
        let snapshot = gallery.snapshot(&folder.path().join("snapshot")).unwrap();
        assert_eq!(snapshot.items, stored);
        // A second failure after the first recovery.
        let again = gallery.upsert((stored..stored + 5000).map(|id| item(id, 32)).collect());
        assert!(
            matches!(again, Err(GalleryError::Storage { .. })),
            "{again:?}"
        );
    }

    // Readers do not notice that writes fail beside them.
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !done.load(Ordering::Relaxed) {
                gallery.get(&[7.into()], true)?;
                gallery.scroll(None, 20, &filter, false)?;
                reads += 1;
            }
            Ok::<usize, GalleryError>(reads)
        });
        for _ in 0..50 {
            let again = gallery.upsert((stored..stored + 5000).map(|id| item(id, 32)).collect());
            assert!(again.is_err());
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap().unwrap() > 0);
    });

    set_disk_size(&gallery, u64::MAX);
    gallery.upsert(vec![item(stored, 32)]).unwrap();
    drop(gallery);
    assert_eq!(open(folder.path()).stats().unwrap().items, stored + 1);
}

#[test]
fn rows_move_together_when_many_are_dead() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    let batch = || (0..150).map(|id| item(id, 16_000)).collect::<Vec<_>>();
    gallery.upsert(batch()).unwrap();
    let old = gallery.shared.state().slots();
    gallery.upsert(batch()).unwrap();
    assert_eq!((old, gallery.shared.state().slots()), (150, 150));
    let filter = Filter {
        ids: Some(vec![9.into()]),
        ..Filter::default()
    };
    let hits = nearest(&gallery, &item(9, 16_000), 5, &filter, false);
    assert_eq!((hits.len(), &hits[0].id), (1, &9.into()));
    assert_eq!(gallery.stats().unwrap().per_version["v0001"], 150);
}

#[test]
fn the_estimate_of_the_space_is_near_the_truth() {
    for (count, dim, text) in [
        (4000, 64, 0),
        (2000, 512, 0),
        (1500, 128, 3000),
        (300, 1024, 9000),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let gallery = open(folder.path());
        let items = (0..count).map(|id| {
            let mut item = item(id, dim);
            if text > 0 {
                item.payload
                    .insert("text".to_owned(), "x".repeat(text).into());
            }
            item
        });
        gallery.upsert(items.collect()).unwrap();
        let compacted = gallery.compact().unwrap();
        let estimated = gallery.shared.state().space.file() as f64;
        let ratio = estimated / compacted.bytes_after as f64;
        println!(
            "{count} x {dim}, {text}: {} bytes, estimated {ratio:.2} of that",
            compacted.bytes_after
        );
        assert!(
            (0.7..1.5).contains(&ratio),
            "{count} x {dim}, {text}: {ratio}"
        );
    }
}

#[test]
fn dead_rows_are_no_backlog() {
    use super::graph::Graph;
    use super::scan::tests::rows_of;
    use crate::stats::{IndexProgress, IndexState};

    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    let vectors: Vec<Vec<f32>> = (0..100).map(|id| item(id, 8).embedding).collect();
    let mut rows = rows_of(&vectors, true);
    let graph = Graph::new(vec![0.0; 8], &HnswConfig::default());
    graph.set_covered(70);
    for number in (0..10).chain(70..95) {
        assert!(rows.remove(number));
    }
    let state = |rows: &_| {
        let IndexState {
            state,
            indexed,
            backlog,
            ..
        } = gallery.index_state(rows, Some(&graph));
        (state, indexed, backlog)
    };
    assert_eq!(state(&rows), (IndexProgress::Building, 60, 5));
    (95..100).for_each(|number| assert!(rows.remove(number)));
    assert_eq!(state(&rows), (IndexProgress::Ready, 60, 0));
}

#[test]
fn the_engine_does_what_every_store_must() {
    let folder = tempfile::tempdir().unwrap();
    let mut stores = 0;
    crate::conformance::run(&mut || {
        stores += 1;
        Box::new(open(&folder.path().join(stores.to_string())))
    });
    let mut make = || {
        stores += 1;
        open(&folder.path().join(stores.to_string()))
    };
    crate::conformance::run_whole(&mut make);
    crate::conformance::run_mapped(&mut make);
    assert!(stores > 0);
}

#[test]
fn a_partition_that_comes_and_goes_within_one_transaction_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    let of = |space: &str, dim: usize, id: u64| Item {
        model_version: space.to_owned(),
        ..item(id, dim)
    };
    gallery
        .upsert(vec![of("a", 4, 1), of("a", 4, 2), of("b", 6, 3)])
        .unwrap();
    // While the writer is held up, changes wait and are then committed together, in the order of their arrival.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let gallery = &gallery;
        let run = Box::new(move || wait.recv().unwrap());
        scope.spawn(move || gallery.ask(|reply| Command::Run(run, reply)).unwrap());
        let pause = || std::thread::sleep(std::time::Duration::from_millis(200));
        pause();
        for batch in [
            vec![of("passing", 9, 7)],
            vec![of("b", 6, 7), of("b", 6, 1)],
            vec![of("passing", 5, 8)],
            vec![of("passing", 9, 8), of("passing", 9, 2)],
        ] {
            scope.spawn(move || {
                let refused = batch[0].embedding.len() == 5;
                assert_eq!(gallery.upsert(batch).is_err(), refused);
            });
            pause();
        }
        scope.spawn(move || assert_eq!(gallery.delete(&[8.into(), 2.into()]).unwrap(), 2));
        pause();
        go.send(()).unwrap();
    });
    let check = |gallery: &EmbeddedGallery| {
        let stats = gallery.stats().unwrap();
        assert_eq!((stats.items, stats.dim), (3, Some(6)));
        assert_eq!(stats.per_version["b"], 3);
        assert_eq!(
            gallery.spaces().unwrap().len(),
            1,
            "the others have no items"
        );
        assert_eq!(gallery.shared.state().partitions.len(), 1);
        let ids = gallery.scroll(None, 10, &Filter::default(), false).unwrap();
        let ids: Vec<ItemId> = ids.items.into_iter().map(|item| item.id).collect();
        assert_eq!(ids, [1.into(), 3.into(), 7.into()]);
    };
    check(&gallery);
    drop(gallery);
    check(&open(folder.path()));
}

#[test]
fn an_item_that_is_deleted_and_stored_again_in_one_transaction_has_moved() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    gallery.upsert(vec![item(1, 8), item(2, 8)]).unwrap();
    let start = gallery.moves().unwrap();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let gallery = &gallery;
        let run = Box::new(move || wait.recv().unwrap());
        scope.spawn(move || gallery.ask(|reply| Command::Run(run, reply)).unwrap());
        let pause = || std::thread::sleep(std::time::Duration::from_millis(200));
        pause();
        scope.spawn(move || assert_eq!(gallery.delete(&[2.into()]).unwrap(), 1));
        pause();
        let other = Item {
            model_version: "v0002".to_owned(),
            ..item(2, 8)
        };
        scope.spawn(move || assert_eq!(gallery.upsert(vec![other]).unwrap().inserted, 1));
        pause();
        go.send(()).unwrap();
    });
    let moved = gallery.moves().unwrap().since(&start);
    assert_eq!(moved.into_iter().collect::<Vec<_>>(), ["v0002"]);
}

type Look = Box<dyn FnMut(u64)>;

thread_local! {
    /// What is done on this thread whenever a record is read.
    static AT_A_RECORD: std::cell::RefCell<Option<Look>> = const { std::cell::RefCell::new(None) };
    /// Where this thread meets a defect next.
    static DEFECT: std::cell::Cell<&'static str> = const { std::cell::Cell::new("") };
    /// How often memory is not read from the database on this thread.
    static UNREADABLE: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// A failure while memory is read, as often as it was asked for.
pub(super) fn refuse_loading(path: &Path) -> Result<(), GalleryError> {
    let left = UNREADABLE.get();
    UNREADABLE.set(left.saturating_sub(1));
    match left {
        0 => Ok(()),
        _ => Err(GalleryError::Storage {
            path: path.to_owned(),
            problem: "it cannot be read".to_owned(),
        }),
    }
}

/// Lets a test know of a record that is read.
pub(super) fn record_is_read(row: u64) {
    AT_A_RECORD.with_borrow_mut(|look| look.iter_mut().for_each(|look| look(row)));
}

/// A defect at a place, if it was asked for.
pub(super) fn panic_at(place: &'static str) {
    if DEFECT.get() == place {
        DEFECT.set("");
        panic!("a defect {place}");
    }
}

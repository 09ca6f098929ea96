//! Connections that break in the middle of a move, lost answers, half-written batches, a server that restarts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use perennial_gallery::{GalleryError, Snapshots, VectorStore};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::stock::{assert_counted, let_turn_run_out, open};
use crate::cluster::double;
use crate::double::{Fault, Kind};
use crate::items::{assert_marked, everything, marked};

/// Requests that faults hit: the turn, points, marks, counts, collections, indexes, reads.
const PLACES: [&str; 8] = [
    "points/payload?",
    "PUT /collections",
    "points?wait",
    "points/count",
    "points?consistency",
    "points/scroll",
    "/index",
    "points/query",
];

/// Requests of a place that go well first: the one that takes the turn sets fields, as marks do.
fn after(place: &str) -> u32 {
    u32::from(place == "points/payload?")
}

#[test]
fn whatever_breaks_once_is_tried_again() {
    let kinds = [
        Kind::Break,
        Kind::LoseAnswer,
        Kind::Half,
        Kind::Status(500),
        Kind::Status(503),
        Kind::Delay(Duration::from_millis(20)),
    ];
    let mut random = ChaCha8Rng::seed_from_u64(11);
    for kind in kinds {
        let Some(cluster) = double() else { return };
        let store = open(&cluster);
        store
            .upsert((0..30).map(|id| marked(id, 0)).collect())
            .unwrap();
        for mark in 1..25u64 {
            for _ in 0..random.random_range(1..3) {
                let place = PLACES[random.random_range(0..PLACES.len())];
                let after = random.random_range(0..6);
                cluster
                    .inside()
                    .fail(Fault::new(place, after, kind.clone()));
            }
            // Most of these move every item to another space.
            store
                .upsert((0..30).map(|id| marked(id, mark)).collect())
                .unwrap();
            let all = everything(&store);
            assert_eq!(all.len(), 30);
            assert_marked(&all);
            assert!(all.iter().all(|item| item.payload["mark"] == mark));
            assert_counted(&cluster);
        }
        cluster.inside().state().faults.clear();
        assert_eq!(store.delete(&[3.into()]).unwrap(), 1);
        assert_counted(&cluster);
    }
}

#[test]
fn a_move_that_fails_for_good_leaves_the_item_where_it_was() {
    let Some(cluster) = double() else { return };
    let store = open(&cluster);
    store
        .upsert((0..10).map(|id| marked(id, 0)).collect())
        .unwrap();
    for place in ["points?wait", "points/payload?", "points/count"] {
        cluster
            .inside()
            .fail(Fault::new(place, after(place), Kind::Status(400)));
        let moved = store.upsert((0..10).map(|id| marked(id, 1)).collect());
        cluster.inside().state().faults.clear();
        if let Err(error) = &moved {
            assert!(matches!(error, GalleryError::Database { .. }), "{error}");
        }
        let all = everything(&store);
        assert_eq!(all.len(), 10);
        assert_marked(&all);
        let mark = u64::from(moved.is_ok());
        assert!(
            all.iter().all(|item| item.payload["mark"] == mark),
            "{place}"
        );
        assert_counted(&cluster);
        store
            .upsert((0..10).map(|id| marked(id, 0)).collect())
            .unwrap();
    }
}

#[test]
fn a_server_that_restarts_costs_only_time() {
    let Some(cluster) = double() else { return };
    let store = open(&cluster);
    store
        .upsert((0..30).map(|id| marked(id, 0)).collect())
        .unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut mark = 0;
            while !over.load(Ordering::Relaxed) {
                mark += 1;
                store
                    .upsert((0..30).map(|id| marked(id, mark)).collect())
                    .unwrap();
                let all = everything(&store);
                assert_eq!(all.len(), 30);
                assert!(all.iter().all(|item| item.payload["mark"] == mark));
            }
            mark
        });
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(150));
            cluster.inside().restart(Duration::from_millis(100));
        }
        over.store(true, Ordering::Relaxed);
        assert!(writer.join().unwrap() > 1);
    });
    assert_counted(&cluster);
}

#[test]
fn a_server_that_stays_away_is_an_error_that_names_it() {
    let Some(cluster) = double() else { return };
    let store = open(&cluster);
    store.upsert(vec![marked(1, 1)]).unwrap();
    // Every try of about ten seconds fails.
    for _ in 0..200 {
        cluster.inside().fail(Fault::new("", 0, Kind::Break));
    }
    let error = store.upsert(vec![marked(1, 2)]).unwrap_err();
    assert!(matches!(error, GalleryError::Database { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
    cluster.inside().state().faults.clear();
    assert_eq!(everything(&store)[0].payload["mark"], 1);
    store.upsert(vec![marked(1, 3)]).unwrap();
    assert_counted(&cluster);
}

#[test]
fn requests_of_a_writer_that_lost_its_turn_change_nothing() {
    for place in ["points?wait", "points/payload?", "points/count"] {
        let Some(cluster) = double() else { return };
        let stores = [open(&cluster), open(&cluster)];
        stores[0]
            .upsert((0..10).map(|id| marked(id, 0)).collect())
            .unwrap();
        // One request of the first one is on its way for long, and meanwhile its turn ends: another one moves the same items, and deletes one.
        let late = Kind::Late(Duration::from_secs(3));
        cluster.inside().fail(Fault::new(place, after(place), late));
        std::thread::scope(|scope| {
            let slow = scope.spawn(|| stores[0].upsert(vec![marked(3, 2), marked(4, 2)]));
            while !cluster.inside().state().faults.is_empty() {
                std::thread::sleep(Duration::from_millis(5));
            }
            let_turn_run_out(&cluster);
            stores[1]
                .upsert((0..10).map(|id| marked(id, 1)).collect())
                .unwrap();
            stores[1].delete(&[5.into()]).unwrap();
            assert_counted(&cluster);
            // It notices, and does all of it again.
            slow.join().unwrap().unwrap();
        });
        let all = everything(&stores[1]);
        assert_marked(&all);
        let marks: Vec<u64> = all
            .iter()
            .map(|item| item.payload["mark"].as_u64().unwrap())
            .collect();
        // 5 is gone.
        assert_eq!(marks, [1, 1, 1, 2, 2, 1, 1, 1, 1], "{place}");
        assert_counted(&cluster);
    }
}

#[test]
fn restoring_is_all_or_nothing() {
    let Some(cluster) = double() else { return };
    let store = open(&cluster);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.snapshot");
    store
        .upsert((0..1500).map(|id| marked(id, id % 3)).collect())
        .unwrap();
    store.snapshot(&path).unwrap();
    store
        .upsert((0..1500).map(|id| marked(id, 7)).collect())
        .unwrap();
    let before = everything(&store);
    cluster
        .inside()
        .fail(Fault::new("points?wait", 1, Kind::Status(400)));
    let error = store.restore(&path).unwrap_err();
    assert!(matches!(error, GalleryError::Database { .. }), "{error}");
    assert_eq!(everything(&store), before);
    assert_counted(&cluster);
    // A connection that breaks in the middle is only a detour.
    cluster
        .inside()
        .fail(Fault::new("points?wait", 1, Kind::LoseAnswer));
    store.restore(&path).unwrap();
    let all = everything(&store);
    assert_eq!(all.len(), 1500);
    assert!(
        all.iter()
            .zip(0u64..)
            .all(|(item, id)| item.payload["mark"] == id % 3)
    );
    assert_counted(&cluster);
}

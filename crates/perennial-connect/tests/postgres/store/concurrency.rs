//! Several threads, and several stores, at the same ids.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use perennial_gallery::{Filter, Item, VectorStore};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::stock::{assert_counted, open, open_with};
use crate::database::database;
use crate::items::{everything, item, object, vector};

/// An item whose payload says which vector it has.
fn marked(id: u64, space: &str, dim: usize, mark: u64) -> Item {
    Item {
        payload: object(json!({"mark": mark})),
        ..item(id, space, vector(mark, dim))
    }
}

#[test]
fn writers_of_the_same_ids_leave_each_item_whole_and_in_one_space() {
    let Some(database) = database() else { return };
    // Two services, and two writers in each.
    let stores = [open(&database), open(&database)];
    let done = AtomicBool::new(false);
    let (writes, reads) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4u64)
            .map(|thread| {
                let (store, writes) = (&stores[thread as usize % 2], &writes);
                scope.spawn(move || {
                    let mut random = ChaCha8Rng::seed_from_u64(thread);
                    for round in 0..40u64 {
                        let mark = 1 + thread * 1000 + round;
                        // Every order of ids occurs, and every space.
                        let mut ids: Vec<u64> = (0..20).collect();
                        for at in (1..ids.len()).rev() {
                            ids.swap(at, random.random_range(0..=at));
                        }
                        ids.truncate(random.random_range(1..20));
                        match random.random_range(0..4) {
                            0 => {
                                let ids: Vec<_> = ids.into_iter().map(Into::into).collect();
                                store.delete(&ids).unwrap();
                            }
                            kind => {
                                let (space, dim) = [("a", 4), ("b", 4), ("c", 6)][kind - 1];
                                let items = ids.into_iter().map(|id| marked(id, space, dim, mark));
                                store.upsert(items.collect()).unwrap();
                            }
                        }
                        writes.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for item in everything(&stores[1]) {
                    let mark = item.payload["mark"].as_u64().unwrap();
                    let dim = if item.model_version == "c" { 6 } else { 4 };
                    assert_eq!(item.embedding, Some(vector(mark, dim)), "{item:?}");
                }
                reads.fetch_add(1, Ordering::Relaxed);
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(writes.into_inner(), 160);
    assert!(reads.into_inner() > 0);
    assert_counted(&database);
    // What one store counts is what the other one sees.
    let of_first = stores[0].spaces().unwrap();
    assert_eq!(of_first, stores[1].spaces().unwrap());
    stores[0].delete_where(&Filter::everything()).unwrap();
    assert!(stores[1].spaces().unwrap().is_empty());
}

#[test]
fn more_threads_than_connections_take_turns() {
    let Some(database) = database() else { return };
    let store = open_with(&database, |options| options.connections = 2);
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let store = &store;
            scope.spawn(move || {
                for id in 0..5 {
                    let id = thread * 100 + id;
                    store.upsert(vec![marked(id, "a", 4, id)]).unwrap();
                    assert_eq!(store.get(&[id.into()], true).unwrap().len(), 1);
                }
            });
        }
    });
    assert_eq!(everything(&store).len(), 40);
    let open: i64 = database.one(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'perennial'",
    );
    assert!(open <= 2, "{open}");
}

#[test]
fn services_that_start_at_once_make_one_gallery() {
    let Some(database) = database() else { return };
    std::thread::scope(|scope| {
        for id in 0..6u64 {
            let database = &database;
            scope.spawn(move || {
                let address = perennial_connect::Address::new(&database.url).unwrap();
                let options = perennial_connect::StoreOptions::default();
                let store = perennial_connect::PostgresStore::open(&address, &options).unwrap();
                store.upsert(vec![marked(id, "a", 4, id)]).unwrap();
            });
        }
    });
    assert_counted(&database);
    assert_eq!(everything(&open(&database)).len(), 6);
}

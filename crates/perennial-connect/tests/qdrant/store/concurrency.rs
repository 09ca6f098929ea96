//! Several threads, and several services, at the same ids.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use perennial_connect::{QdrantStore, StoreOptions};
use perennial_gallery::{Filter, GalleryError, VectorStore};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::stock::{GALLERY, assert_counted, head, open, open_with};
use crate::cluster::double;
use crate::items::{assert_marked, everything, items, marked};

#[test]
fn writers_of_the_same_ids_leave_each_item_whole_and_in_one_space() {
    let Some(cluster) = double() else { return };
    // Two services, and two writers in each.
    let stores = [open(&cluster), open(&cluster)];
    stores[0]
        .upsert((0..20).map(|id| marked(id, 0)).collect())
        .unwrap();
    let done = AtomicBool::new(false);
    let reads = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4u64)
            .map(|thread| {
                let store = &stores[thread as usize % 2];
                scope.spawn(move || {
                    let mut random = ChaCha8Rng::seed_from_u64(thread);
                    for round in 0..20u64 {
                        let mark = 1 + thread * 1000 + round;
                        match random.random_range(0..5) {
                            0 => {
                                let id = random.random_range(20..30u64);
                                store.delete(&[id.into()]).unwrap();
                            }
                            _ => {
                                // All of the first 20, and some of the others.
                                let ids = (0..20).chain(20..20 + random.random_range(0..10));
                                store
                                    .upsert(ids.map(|id| marked(id, mark)).collect())
                                    .unwrap();
                            }
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let all = everything(&stores[1]);
                assert_marked(&all);
                // The first 20 are written by one batch each time, so they have one mark, and none is ever missing.
                assert!(all.len() >= 20, "{}", all.len());
                let mark = &all[0].payload["mark"];
                assert!(all[..20].iter().all(|item| item.payload["mark"] == *mark));
                reads.fetch_add(1, Ordering::Relaxed);
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(reads.into_inner() > 0);
    assert_counted(&cluster);
    assert_eq!(stores[0].spaces().unwrap(), stores[1].spaces().unwrap());
    stores[0].delete_where(&Filter::everything()).unwrap();
    assert!(stores[1].spaces().unwrap().is_empty());
}

#[test]
fn services_that_start_at_once_make_one_gallery() {
    let Some(cluster) = double() else { return };
    std::thread::scope(|scope| {
        for id in 0..6u64 {
            let address = cluster.gallery(GALLERY);
            scope.spawn(move || {
                let store = QdrantStore::open(&address, &StoreOptions::default()).unwrap();
                store.upsert(vec![marked(id, id)]).unwrap();
            });
        }
    });
    assert_counted(&cluster);
    assert_eq!(everything(&open(&cluster)).len(), 6);
}

#[test]
fn a_turn_that_another_service_has_holds_up_writes_for_a_bounded_time_and_no_reads() {
    let Some(cluster) = double() else { return };
    let store = open_with(&cluster, |options| options.timeout = Duration::from_secs(1));
    store.upsert(items(5, "v1", 8)).unwrap();
    {
        let mut state = cluster.inside().state();
        let head = head(&mut state, &cluster);
        head.insert("owner".to_owned(), json!("another"));
        head.insert("until".to_owned(), json!(u32::MAX));
    }
    assert_eq!(everything(&store).len(), 5);
    let error = store.delete(&[1.into()]).unwrap_err();
    assert!(matches!(error, GalleryError::Busy { .. }), "{error}");
    assert!(
        error.to_string().contains("store.timeout_seconds"),
        "{error}"
    );
    head(&mut cluster.inside().state(), &cluster).insert("until".to_owned(), json!(0));
    assert_eq!(store.delete(&[1.into()]).unwrap(), 1);
    assert_counted(&cluster);
}

//! Writers that are killed at random moments, and whose last requests arrive later.

use std::time::Duration;

use perennial_connect::{Address, QdrantStore, StoreOptions};
use perennial_gallery::VectorStore;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::stock::{GALLERY, assert_counted, let_turn_run_out, open};
use crate::cluster::{Cluster, double};
use crate::double::{Fault, Kind};
use crate::items::{assert_marked, everything, marked};
use crate::killed_writer::{Writer, gallery_to_write, rounds, write_on};

/// Items of one batch of the process that is killed; all of them have one mark.
const BATCH: u64 = 60;

fn batch(mark: u64) -> Vec<perennial_gallery::Item> {
    (0..BATCH).map(|id| marked(id, mark)).collect()
}

/// Whatever was confirmed is there, and no batch is there in part.
fn assert_whole(cluster: &Cluster, store: &QdrantStore, least: u64) -> u64 {
    assert_counted(cluster);
    let all = everything(store);
    assert_eq!(all.len() as u64, BATCH);
    assert_marked(&all);
    let mark = all[0].payload["mark"].as_u64().unwrap();
    assert!(mark >= least, "{mark} {least}");
    assert!(all.iter().all(|item| item.payload["mark"] == mark));
    mark
}

/// The process that is killed.
#[test]
fn writing_child() {
    let Some(url) = gallery_to_write() else {
        return;
    };
    let address = Address::new(&url).unwrap();
    let store = QdrantStore::open(&address, &StoreOptions::default()).unwrap();
    write_on(&store, batch);
}

#[test]
fn a_writer_that_is_killed_leaves_whole_batches() {
    let Some(cluster) = double() else { return };
    let rounds = rounds(6);
    let url = format!("{}_{GALLERY}", cluster.url());
    let store = open(&cluster);
    store.upsert(batch(0)).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut least = 0;
    for _ in 0..rounds {
        let writer = Writer::start("store::kills::writing_child", &url);
        // The kill comes in the middle of a later write, of which one request is on its way for long.
        let place = ["points?wait", "points/payload?"][random.random_range(0..2)];
        let late = Kind::Late(Duration::from_millis(200));
        cluster
            .inside()
            .fail(Fault::new(place, random.random_range(0..20), late));
        std::thread::sleep(Duration::from_millis(random.random_range(0..150)));
        least = writer.kill().unwrap_or(least);
        least = assert_whole(&cluster, &store, least);
        let_turn_run_out(&cluster);
        // The next writer goes over what was left, while the last request may still come.
        store.upsert(batch(least + 1)).unwrap();
        least = assert_whole(&cluster, &store, least + 1);
        cluster.inside().state().faults.clear();
        std::thread::sleep(Duration::from_millis(250));
        least = assert_whole(&cluster, &store, least);
    }
    assert!(least > rounds, "no round came as far as a write");
}

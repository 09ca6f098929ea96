//! Broken connections, a server that restarts, a writer that is killed, a lock that is held.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use perennial_connect::{Address, PostgresStore, StoreOptions};
use perennial_gallery::{Filter, GalleryError, VectorStore};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::stock::{assert_counted, fill, open, open_with};
use crate::database::{Database, database};
use crate::faults::connect;
use crate::items::{assert_marked, everything, item, items, marked, vector};
use crate::killed_writer::{Writer, gallery_to_write, rounds, write_on};

/// Items of one batch of the process that is killed; all of them have one mark.
const BATCH: u64 = 300;

/// Ends all connections of stores to this database.
fn cut(url: &str) {
    connect(url).run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'perennial' AND datname = current_database()",
    );
}

/// The batch of a mark.
fn batch(mark: u64) -> Vec<perennial_gallery::Item> {
    (0..BATCH).map(|id| marked(id, mark)).collect()
}

/// Whatever was confirmed is there, and no batch is there in part.
fn assert_whole(database: &Database, least: u64) -> u64 {
    assert_counted(database);
    let all = everything(&open(database));
    if all.is_empty() {
        assert_eq!(least, 0);
        return 0;
    }
    let mark = all[0].payload["mark"].as_u64().unwrap();
    assert!(mark >= least, "{mark} {least}");
    assert_eq!(all.len() as u64, BATCH);
    assert_marked(&all);
    assert!(all.iter().all(|item| item.payload["mark"] == mark));
    mark
}

#[test]
fn broken_connections_are_opened_again() {
    let Some(database) = database() else { return };
    let store = open(&database);
    fill(&store, items(50, "v1", 8));
    for round in 0..3 {
        cut(&database.url);
        assert_eq!(everything(&store).len(), 50 + round);
        cut(&database.url);
        let done = store.upsert(vec![item(1000 + round as u64, "v1", vector(1, 8))]);
        assert_eq!(done.unwrap().inserted, 1);
    }
    // Cut off in the middle of writes, again and again.
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                cut(&database.url);
                std::thread::sleep(Duration::from_millis(70));
            }
        });
        for round in 0..20u64 {
            let items = (0..200).map(|id| item(id, "v2", vector(round * 1000 + id, 8)));
            store.upsert(items.collect()).unwrap();
        }
        ended.store(true, Ordering::Relaxed);
    });
    let found = store.get(&[7.into()], true).unwrap();
    assert_eq!(found[0].embedding, Some(vector(19_007, 8)));
    assert_counted(&database);
}

/// Needs the server alone, and its folder in `PERENNIAL_POSTGRES_FOLDER`.
#[test]
#[ignore = "restarts the server that other tests use"]
fn a_server_that_crashes_costs_only_time() {
    let Some(database) = database() else { return };
    let folder = std::env::var("PERENNIAL_POSTGRES_FOLDER").unwrap();
    let store = open(&database);
    fill(&store, batch(0));
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let restarts = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/postgres.sh");
            let status = Command::new(script).args(["restart", &folder]).status();
            assert!(status.unwrap().success());
            ended.store(true, Ordering::Relaxed);
        });
        let mut mark = 0;
        while !ended.load(Ordering::Relaxed) {
            mark += 1;
            store.upsert(batch(mark)).unwrap();
            let hits = store.get(&[7.into()], false).unwrap();
            assert_eq!(hits[0].payload["mark"], json!(mark));
        }
        restarts.join().unwrap();
        store.upsert(batch(mark + 1)).unwrap();
    });
    // The test's own connection is gone as well.
    let again = open_url(&database.url);
    assert_eq!(everything(&again).len(), BATCH as usize);
}

fn open_url(url: &str) -> PostgresStore {
    PostgresStore::open(&Address::new(url).unwrap(), &StoreOptions::default()).unwrap()
}

/// The process that is killed.
#[test]
fn writing_child() {
    if let Some(url) = gallery_to_write() {
        write_on(&open_url(&url), batch);
    }
}

#[test]
fn a_writer_that_is_killed_leaves_whole_batches() {
    let Some(database) = database() else { return };
    let rounds = rounds(4);
    // The tables are there, however early the first kill comes.
    drop(open(&database));
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut least = 0;
    for _ in 0..rounds {
        let writer = Writer::start("store::faults::writing_child", &database.url);
        // The kill comes in the middle of a later write.
        std::thread::sleep(Duration::from_millis(random.random_range(0..700)));
        least = writer.kill().unwrap_or(least);
        least = assert_whole(&database, least);
    }
    assert!(least > 0, "no round came as far as a write");
}

#[test]
fn a_lock_that_is_held_holds_up_writes_but_no_reads() {
    let Some(database) = database() else { return };
    let store = open_with(&database, |options| {
        options.timeout = Duration::from_secs(1)
    });
    fill(&store, items(5, "v1", 8));
    database.run("BEGIN; SELECT FROM perennial.perennial_meta FOR UPDATE");
    assert_eq!(everything(&store).len(), 5);
    let error = store.delete(&[1.into()]).unwrap_err();
    assert!(matches!(error, GalleryError::Database { .. }), "{error}");
    database.run("ROLLBACK");
    assert_eq!(store.delete(&[1.into()]).unwrap(), 1);
    // What was changed by hand is not taken for something else.
    database.run("UPDATE perennial.perennial_items SET key = '\\x07' WHERE label = 2");
    let error = store
        .scroll(None, 10, &Filter::default(), false)
        .unwrap_err();
    assert!(error.to_string().contains("another program"), "{error}");
}

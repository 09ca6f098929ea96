//! Writers that are killed at random moments, and whose last requests arrive later.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use perennial_connect::{Address, QdrantStore, StoreOptions};
use perennial_gallery::VectorStore;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::stock::{
    GALLERY, assert_counted, assert_marked, everything, let_turn_run_out, marked, open,
};
use crate::cluster::{Cluster, double};
use crate::double::{Fault, Kind};

const CHILD: &str = "PERENNIAL_TEST_WRITES";
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

/// The process that is killed: this test program, with the gallery in the environment. It prints every mark that was confirmed.
#[test]
fn writing_child() {
    let Ok(url) = std::env::var(CHILD) else {
        return;
    };
    let store = QdrantStore::open(&Address::new(&url).unwrap(), &StoreOptions::default()).unwrap();
    let first = everything(&store)[0].payload["mark"].as_u64().unwrap();
    for mark in first + 1.. {
        store.upsert(batch(mark)).unwrap();
        println!("mark {mark}");
        std::io::stdout().flush().unwrap();
    }
}

/// The mark that a line confirms.
fn mark_of(line: &str) -> Option<u64> {
    // The name of the test may stand before the first one.
    let (_, mark) = line.rsplit_once("mark ")?;
    mark.trim_end().parse().ok()
}

/// `PERENNIAL_KILL_ROUNDS` is the number of kills.
#[test]
fn a_writer_that_is_killed_leaves_whole_batches() {
    let Some(cluster) = double() else { return };
    let rounds = std::env::var("PERENNIAL_KILL_ROUNDS").map_or(6, |rounds| rounds.parse().unwrap());
    let url = format!("{}_{GALLERY}", cluster.url());
    let store = open(&cluster);
    store.upsert(batch(0)).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut least = 0;
    for _ in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::kills::writing_child", "--nocapture"])
            .env(CHILD, &url)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Its first write is confirmed; the kill comes in the middle of a later one, of which one request is on its way for long.
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut confirmed = Vec::new();
        let mut line = String::new();
        while confirmed.is_empty() && output.read_line(&mut line).unwrap() > 0 {
            confirmed.extend(mark_of(&line));
            line.clear();
        }
        let place = ["points?wait", "points/payload?"][random.random_range(0..2)];
        let late = Kind::Late(Duration::from_millis(200));
        cluster
            .inside()
            .fail(Fault::new(place, random.random_range(0..20), late));
        std::thread::sleep(Duration::from_millis(random.random_range(0..150)));
        child.kill().unwrap();
        child.wait().unwrap();
        let rest = output.lines().map_while(Result::ok);
        confirmed.extend(rest.filter_map(|line| mark_of(&line)));
        least = confirmed.last().copied().unwrap_or(least);
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

//! Runs that are killed at random moments.

use std::process::{Command, Stdio};
use std::time::Duration;

use perennial_connect::migrate::{RunRequest, VerifyRequest, clean, verify};
use perennial_connect::{Address, QualifiedName, Silent};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::cluster::{Cluster, double};
use crate::spaces::{BRIDGE, assert_copies_are_right, request, run_quietly, vector_of};

/// Points of the migrated collection: ten batches.
const POINTS: u64 = 5000;
const CHILD: &str = "PERENNIAL_TEST_MIGRATES";

/// The process that is killed: this test program, with the collection in the environment.
#[test]
fn child() {
    let Ok(url) = std::env::var(CHILD) else {
        return;
    };
    let address = Address::new(&url).unwrap();
    let (_, name) = url.rsplit_once('/').unwrap();
    let cluster = double();
    let Some(cluster) = cluster else { return };
    let request = RunRequest {
        table: QualifiedName::from(name),
        ..request(&cluster)
    };
    perennial_connect::migrate::run(&address, &request, &mut Silent).unwrap();
}

/// What is there is right, whatever is missing.
fn assert_nothing_is_wrong(cluster: &Cluster) {
    let request = VerifyRequest {
        files: &[],
        table: cluster.table(),
        name: "new".to_owned(),
        bridge: Some(&BRIDGE),
        queries: None,
        sample: 2000,
        searches: 0,
        k: 1,
        min_recall: 0.0,
        seed: 1,
    };
    match verify(&cluster.address(), &request, &mut Silent) {
        Ok(report) => assert_eq!(report.different, 0, "{report:?}"),
        Err(error) => assert!(
            error.to_string().contains("there is no migration"),
            "{error}"
        ),
    }
}

/// `PERENNIAL_KILL_ROUNDS` is the number of kills.
#[test]
fn a_run_that_is_killed_loses_nothing() {
    let Some(cluster) = double() else { return };
    let rounds = std::env::var("PERENNIAL_KILL_ROUNDS").map_or(4, |rounds| rounds.parse().unwrap());
    cluster.items(POINTS);
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let (mut finished, mut halfway) = (0, 0);
    for round in 0..rounds {
        let before = cluster.points(&cluster.name);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kills::child"])
            .env(CHILD, cluster.url())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(random.random_range(30..1500)));
        child.kill().unwrap();
        child.wait().unwrap();
        cluster.inside().let_leases_run_out();
        assert_eq!(cluster.points(&cluster.name), before, "round {round}");
        assert_nothing_is_wrong(&cluster);
        let id = random.random_range(1..POINTS);
        cluster.upsert(
            &cluster.name,
            &[json!({"id": id, "vector": vector_of(POINTS + round), "payload": {"round": round}})],
        );
        cluster.delete(&cluster.name, &[json!(id / 2 + 1)]);
        let notes = cluster.points_or_none("perennial_migrations");
        // Whoever was killed while it noted the migration has left a claim as well.
        let noted = notes
            .values()
            .find(|note| !note.payload.contains_key("claim"));
        if noted.is_some_and(|note| note.payload["first_pass_done"] == true) {
            finished += 1;
            clean(&cluster.address(), &cluster.table(), "new").unwrap();
        } else if noted.is_some_and(|note| !note.payload["place"].is_null()) {
            halfway += 1;
        }
    }
    let report = run_quietly(&cluster, &request(&cluster)).unwrap();
    assert_eq!(
        (report.standing.pending(), report.standing.orphaned),
        (0, 0)
    );
    assert_copies_are_right(&cluster, "");
    println!("{rounds} kills, {halfway} of them in the first pass, {finished} after it");
}

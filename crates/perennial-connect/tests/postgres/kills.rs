//! Runs that are killed at random moments, and a server that crashes.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use perennial_connect::migrate::{VerifyRequest, clean, verify};
use perennial_connect::{Address, Silent};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::database::{Database, database};
use crate::late_writes::assert_copies_are_right;
use crate::observers::AfterBatches;
use crate::spaces::{BRIDGE, request, run_quietly, run_watched};

/// Rows of the migrated table: ten batches.
const ROWS: u32 = 40_000;
const CHILD: &str = "PERENNIAL_TEST_MIGRATES";

/// The process that is killed: this test program, with the database in the environment.
#[test]
fn child() {
    let Ok(url) = std::env::var(CHILD) else {
        return;
    };
    let address = Address::new(&url).unwrap();
    let result = perennial_connect::migrate::run(&address, &request(), &mut Silent);
    result.unwrap();
}

/// What is there is right, whatever is missing.
fn assert_nothing_is_wrong(database: &Database) {
    let begun: bool = database.one("SELECT to_regclass('perennial_migrations') IS NOT NULL");
    if !begun {
        let copies: bool = database.one("SELECT to_regclass('items_new') IS NULL");
        assert!(copies, "copies without a migration");
        return;
    }
    let request = VerifyRequest {
        files: &[],
        table: "items".parse().unwrap(),
        name: "new".to_owned(),
        bridge: Some(&BRIDGE),
        queries: None,
        sample: 2000,
        searches: 0,
        k: 1,
        min_recall: 0.0,
        seed: 1,
    };
    match verify(&database.address(), &request, &mut Silent) {
        Ok(report) => assert_eq!(report.different, 0, "{report:?}"),
        Err(error) => assert!(
            error.to_string().contains("there is no migration"),
            "{error}"
        ),
    }
}

fn start_child(database: &Database) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kills::child"])
        .env(CHILD, &database.url)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// `PERENNIAL_KILL_ROUNDS` is the number of kills. Each comes at a random moment within the time that a whole run took.
#[test]
fn a_run_that_is_killed_loses_nothing() {
    let Some(database) = database() else { return };
    let rounds = std::env::var("PERENNIAL_KILL_ROUNDS").map_or(4, |rounds| rounds.parse().unwrap());
    database.items(ROWS);
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut finished = 0;
    let begun = Instant::now();
    assert!(start_child(&database).wait().unwrap().success());
    let whole = begun.elapsed();
    clean(&database.address(), &"items".parse().unwrap(), "new").unwrap();
    for round in 0..rounds {
        let before = database.fingerprint("items");
        let mut child = start_child(&database);
        std::thread::sleep(whole.mul_f64(random.random_range(0.0..1.0)));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(database.fingerprint("items"), before, "round {round}");
        assert_nothing_is_wrong(&database);
        let id = random.random_range(1..ROWS);
        database.run(&format!(
            "UPDATE items SET embedding = '[{round},1,2,3,4,5,6,7]' WHERE id = {id}; DELETE FROM items WHERE id = {}",
            id / 2 + 1
        ));
        let complete: bool = database.one(
            "SELECT to_regclass('items_new') IS NOT NULL AND (SELECT reltuples FROM pg_class WHERE relname = 'items_new') > 0",
        );
        if complete {
            // Until the end of its last step: begin anew.
            finished += 1;
            clean(&database.address(), &"items".parse().unwrap(), "new").unwrap();
        }
    }
    let report = run_quietly(&database, &request()).unwrap();
    assert_eq!(
        (report.standing.pending(), report.standing.orphaned),
        (0, 0)
    );
    assert_copies_are_right(&database);
    println!("{rounds} kills, {finished} of them after the run's end");
}

/// Needs the server alone, and its folder in `PERENNIAL_POSTGRES_FOLDER`.
#[test]
#[ignore = "restarts the server that other tests use"]
fn a_server_that_crashes_during_a_run_is_waited_for() {
    let Some(database) = database() else { return };
    let folder = std::env::var("PERENNIAL_POSTGRES_FOLDER").unwrap();
    database.items(ROWS);
    let mut observer = AfterBatches::new(|batch| {
        if batch == 3 {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/postgres.sh");
            let status = Command::new(script)
                .args(["restart", &folder])
                .status()
                .unwrap();
            assert!(status.success());
        }
    });
    let report = run_watched(&database, &request(), &mut observer).unwrap();
    assert!(
        observer
            .notes
            .iter()
            .any(|note| note.contains("trying again")),
        "{:?}",
        observer.notes
    );
    assert_eq!(report.standing.pending(), 0);
    // The test's own connection is gone as well.
    let database = database.again();
    assert_copies_are_right(&database);
    assert_eq!(run_quietly(&database, &request()).unwrap().written, 0);
}

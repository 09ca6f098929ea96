//! Broken connections, lost answers, half-written batches, restarts, interruptions, and two runs at a time.

use std::time::Duration;

use perennial_connect::ConnectError;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::cluster::{cluster, double};
use crate::double::{Fault, Kind};
use crate::observers::AfterBatches;
use crate::spaces::{assert_copies_are_right, request, run_quietly, run_watched};

/// Requests that faults hit.
const PLACES: [&str; 7] = [
    "points/scroll",
    "POST /collections/perennial_test",
    "PUT /collections/perennial_test",
    "points/payload",
    "points/delete",
    "GET /collections",
    "points?wait",
];

#[test]
fn an_interrupted_run_continues_where_it_stopped() {
    let cluster = cluster();
    cluster.items(3000);
    let mut observer = AfterBatches::new(|_| {});
    observer.stop_at = Some(2);
    let error = run_watched(&cluster, &request(&cluster), &mut observer).unwrap_err();
    assert!(matches!(error, ConnectError::Interrupted), "{error}");
    let copied = cluster.points(&cluster.copies()).len() as u64;
    assert!(copied > 0 && copied < 3000, "{copied}");
    // The lease was given back, so nothing is waited for.
    let report = run_quietly(&cluster, &request(&cluster)).unwrap();
    assert_eq!(report.written, 3000 - copied);
    assert_copies_are_right(&cluster, "");
}

#[test]
fn whatever_breaks_once_is_tried_again() {
    let kinds = [
        Kind::Break,
        Kind::LoseAnswer,
        Kind::Half,
        Kind::Status(500),
        Kind::Status(503),
        Kind::Status(429),
        Kind::Delay(Duration::from_millis(50)),
    ];
    let mut random = ChaCha8Rng::seed_from_u64(11);
    for (round, kind) in kinds.into_iter().enumerate() {
        let Some(cluster) = double() else { return };
        cluster.items(1600);
        let before = cluster.points(&cluster.name);
        let writes = cluster.inside().state().collections[&cluster.name].writes;
        // The first batch makes sure that the server was reached.
        let mut observer = AfterBatches::new(|batch| {
            if batch == 1 {
                for _ in 0..2 {
                    let at = PLACES[random.random_range(0..PLACES.len())];
                    let after = random.random_range(0..4);
                    cluster.inside().fail(Fault::new(at, after, kind.clone()));
                }
            }
        });
        let report = run_watched(&cluster, &request(&cluster), &mut observer);
        let report = report.unwrap_or_else(|error| panic!("round {round}: {error}"));
        // Those that met no request.
        cluster.inside().state().faults.clear();
        assert_eq!(
            (report.standing.pending(), report.standing.orphaned),
            (0, 0),
            "{round}"
        );
        assert_copies_are_right(&cluster, "");
        assert_eq!(cluster.points(&cluster.name), before);
        assert_eq!(
            cluster.inside().state().collections[&cluster.name].writes,
            writes
        );
    }
}

#[test]
fn a_server_that_restarts_is_waited_for() {
    let Some(cluster) = double() else { return };
    cluster.items(2000);
    let mut observer = AfterBatches::new(|batch| {
        if batch == 2 {
            cluster.inside().restart(Duration::from_millis(100));
        }
    });
    let report = run_watched(&cluster, &request(&cluster), &mut observer).unwrap();
    assert_eq!(report.standing.pending(), 0);
    assert_copies_are_right(&cluster, "");
}

#[test]
fn a_run_waits_until_the_server_has_indexed() {
    let Some(cluster) = double() else { return };
    cluster.items(10);
    let mut observer = AfterBatches::new(|_| cluster.inside().state().busy = 2);
    let report = run_watched(&cluster, &request(&cluster), &mut observer).unwrap();
    assert!(report.index_seconds.is_some(), "{report:?}");
    assert!(
        observer.notes.iter().any(|note| note.contains("indexed")),
        "{:?}",
        observer.notes
    );
}

#[test]
fn a_second_run_waits_for_the_first() {
    let Some(cluster) = double() else { return };
    cluster.items(1200);
    let (begun, wait) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let cluster = &cluster;
        let first = scope.spawn(move || {
            let mut observer = AfterBatches::new(|batch| {
                if batch == 1 {
                    begun.send(()).unwrap();
                    std::thread::sleep(Duration::from_millis(700));
                }
            });
            run_watched(cluster, &request(cluster), &mut observer).unwrap()
        });
        wait.recv().unwrap();
        let second = run_quietly(cluster, &request(cluster)).unwrap();
        // The first was at it alone, so it left nothing.
        assert_eq!(second.written, 0);
        assert_eq!(first.join().unwrap().written, 1200);
    });
}

#[test]
fn a_migration_that_is_cleaned_under_a_run_ends_it() {
    let Some(cluster) = double() else { return };
    cluster.items(1500);
    let mut observer = AfterBatches::new(|batch| {
        if batch == 1 {
            cluster
                .inside()
                .state()
                .collections
                .remove("perennial_migrations");
        }
    });
    let error = run_watched(&cluster, &request(&cluster), &mut observer).unwrap_err();
    assert!(!error.may_pass(), "{error}");
}

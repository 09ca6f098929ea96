//! Broken connections, lost answers, half-written batches, restarts, interruptions, and two runs at a time.

use std::time::Duration;

use perennial_connect::ConnectError;
use perennial_connect::migrate::{RunRequest, clean};
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

/// Whichever note of the first run is on its way while the second one begins, one of them is at work at a time.
#[test]
fn two_first_runs_that_begin_at_once_take_turns() {
    for after in 0..3 {
        let Some(cluster) = double() else { return };
        cluster.items(400);
        let late = Kind::Late(Duration::from_millis(800));
        let notes = "PUT /collections/perennial_migrations/points";
        cluster.inside().fail(Fault::new(notes, after, late));
        std::thread::scope(|scope| {
            let cluster = &cluster;
            let first = scope.spawn(move || run_quietly(cluster, &request(cluster)).unwrap());
            std::thread::sleep(Duration::from_millis(200));
            let second = run_quietly(cluster, &request(cluster)).unwrap();
            let first = first.join().unwrap();
            assert_eq!(first.written + second.written, 400, "{after}");
        });
        cluster.inside().state().faults.clear();
        assert_copies_are_right(&cluster, "");
    }
}

/// The last migration is cleaned, with the collection of migrations, while another one begins.
#[test]
fn a_run_that_begins_while_the_last_migration_is_cleaned_is_not_lost() {
    for at in ["DELETE /collections/perennial_migrations", "points/count"] {
        let Some(cluster) = double() else { return };
        cluster.items(200);
        run_quietly(&cluster, &request(&cluster)).unwrap();
        let late = Kind::Late(Duration::from_millis(700));
        std::thread::scope(|scope| {
            let cluster = &cluster;
            let cleaned = scope.spawn(move || {
                cluster.inside().fail(Fault::new(at, 0, late));
                clean(&cluster.address(), &cluster.table(), "new").unwrap();
            });
            std::thread::sleep(Duration::from_millis(250));
            let other = RunRequest {
                name: "other".to_owned(),
                ..request(cluster)
            };
            assert_eq!(run_quietly(cluster, &other).unwrap().written, 200);
            cleaned.join().unwrap();
            // It is still noted.
            assert_eq!(run_quietly(cluster, &other).unwrap().written, 0);
        });
        cluster.inside().state().faults.clear();
        clean(&cluster.address(), &cluster.table(), "other").unwrap();
        let state = cluster.inside().state();
        assert!(!state.collections.contains_key("perennial_migrations"));
    }
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

//! Exports through broken connections, throttling, and servers that are gone.

use std::path::Path;
use std::time::{Duration, Instant};

use perennial_connect::migrate::{ExportReport, ExportRequest, Rows, export};
use perennial_connect::{ConnectError, Observer, Silent};
use perennial_formats::{VectorSet, prepare, read};
use serde_json::json;

use crate::cluster::{Cluster, double};
use crate::double::{Fault, Kind};
use crate::observers::AfterBatches;
use crate::spaces::{request, run_quietly, vector_of};

fn all(cluster: &Cluster) -> ExportRequest {
    ExportRequest {
        table: cluster.table(),
        key: None,
        vector: None,
        label: Some("title".to_owned()),
        space: None,
        rows: Rows::All,
        rate: None,
        patience: Duration::from_millis(700),
    }
}

fn exported(
    cluster: &Cluster,
    request: &ExportRequest,
    path: &Path,
    observer: &mut dyn Observer,
) -> Result<ExportReport, ConnectError> {
    let (output, format) = prepare(path).unwrap();
    export(&cluster.address(), request, output, format, observer)
}

/// What an export that nothing disturbs gives.
fn undisturbed(cluster: &Cluster, request: &ExportRequest) -> (ExportReport, VectorSet) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("whole.npz");
    let report = exported(cluster, request, &path, &mut Silent).unwrap();
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
    (report, read(&path).unwrap())
}

fn partial(path: &Path) -> std::path::PathBuf {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    partial.into()
}

#[test]
fn whatever_breaks_once_is_read_again_from_the_same_point() {
    let Some(cluster) = double() else { return };
    cluster.items(1800);
    let wanted = undisturbed(&cluster, &all(&cluster));
    let folder = tempfile::tempdir().unwrap();
    for (round, kind) in [
        Kind::Break,
        Kind::LoseAnswer,
        Kind::Status(502),
        Kind::Status(503),
        Kind::Status(429),
        Kind::Throttle(0),
        Kind::Delay(Duration::from_millis(20)),
    ]
    .into_iter()
    .enumerate()
    {
        for after in [0, 1, 1] {
            cluster
                .inside()
                .fail(Fault::new("points/scroll", after, kind.clone()));
        }
        cluster.inside().state().log.clear();
        let path = folder.path().join(format!("{round}.npz"));
        let report = exported(&cluster, &all(&cluster), &path, &mut Silent)
            .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        assert_eq!(report, wanted.0, "{kind:?}");
        assert_eq!(read(&path).unwrap(), wanted.1, "{kind:?}");
        let log = &cluster.inside().state().log;
        let pages = log.iter().filter(|line| line.contains("scroll")).count();
        // Four pages, and each fault costs one of them once more.
        assert_eq!(pages, 7, "{kind:?}");
    }
}

#[test]
fn a_server_that_restarts_is_waited_for() {
    let Some(cluster) = double() else { return };
    cluster.items(1800);
    let wanted = undisturbed(&cluster, &all(&cluster));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.npz");
    let patient = ExportRequest {
        patience: Duration::from_secs(30),
        ..all(&cluster)
    };
    let mut observer = AfterBatches::new(|batch| {
        if batch == 2 {
            cluster.inside().restart(Duration::from_millis(200));
        }
    });
    let report = exported(&cluster, &patient, &path, &mut observer).unwrap();
    assert_eq!((report, read(&path).unwrap()), wanted);
}

/// Pages are 512 points, so the export ends after 1,024 of them.
#[test]
fn a_server_that_stays_away_leaves_a_file_from_which_the_same_export_goes_on() {
    let Some(cluster) = double() else { return };
    cluster.items(1800);
    let wanted = undisturbed(&cluster, &all(&cluster));
    let folder = tempfile::tempdir().unwrap();
    for file in ["all.npz", "all.npy", "all.jsonl"] {
        let path = folder.path().join(file);
        let mut observer = AfterBatches::new(|batch| {
            if batch == 2 {
                cluster.inside().stop();
            }
        });
        let begun = Instant::now();
        let error = exported(&cluster, &all(&cluster), &path, &mut observer).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert!(matches!(error, ConnectError::Connection { .. }), "{error}");
        let told = observer.notes.join("\n");
        assert!(told.contains("holds the 1024 rows"), "{told}");
        // Nothing looks like a whole file.
        assert!(!path.exists());
        assert!(perennial_formats::open(&partial(&path)).is_err());
        cluster.inside().start_again();
        // Another export does not go on with it.
        let other = ExportRequest {
            label: None,
            ..all(&cluster)
        };
        let error = exported(&cluster, &other, &path, &mut Silent).unwrap_err();
        assert!(error.to_string().contains("another export"), "{error}");
        cluster.inside().state().log.clear();
        let mut observer = AfterBatches::new(|_| {});
        let report = exported(&cluster, &all(&cluster), &path, &mut observer).unwrap();
        assert_eq!(report, wanted.0);
        let told = observer.notes.join("\n");
        assert!(told.contains("going on after 1024 rows"), "{told}");
        assert!(!partial(&path).exists());
        let log = cluster.inside().state().log.join("\n");
        assert_eq!(log.matches("scroll").count(), 2, "{log}");
        let found = read(&path).unwrap();
        if file == "all.npy" {
            assert_eq!(found.vectors(), wanted.1.vectors());
        } else {
            assert_eq!(found, wanted.1);
        }
    }
}

/// What does not change meanwhile is in the file once, whatever comes and goes beside it.
#[test]
fn an_interrupted_export_goes_on_while_points_come_and_go() {
    let Some(cluster) = double() else { return };
    cluster.items(1800);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.npz");
    let mut observer = AfterBatches::new(|_| {});
    observer.stop_at = Some(2);
    let error = exported(&cluster, &all(&cluster), &path, &mut observer).unwrap_err();
    assert!(matches!(error, ConnectError::Interrupted), "{error}");
    // The point that reading goes on from is gone, one before it as well, and others come before and after it.
    cluster.delete(&cluster.name, &[json!(1025), json!(7), json!(1300)]);
    let uuid = "936da01f-9abd-4d9d-80c7-02af85c822a8";
    cluster.upsert(
        &cluster.name,
        &[
            json!({"id": 0, "vector": vector_of(3), "payload": {"title": "before"}}),
            json!({"id": uuid, "vector": vector_of(3), "payload": {"title": "after"}}),
        ],
    );
    let report = exported(&cluster, &all(&cluster), &path, &mut Silent).unwrap();
    let found = read(&path).unwrap();
    let ids: Vec<String> = found
        .ids()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut wanted: Vec<String> = (1..=1800)
        .filter(|id| ![1025, 1300].contains(id))
        .map(|id: u64| id.to_string())
        .collect();
    wanted.push(uuid.to_owned());
    assert_eq!(ids, wanted);
    assert_eq!(report.rows, wanted.len() as u64);
}

#[test]
fn pending_points_go_on_and_samples_begin_again() {
    let Some(cluster) = double() else { return };
    cluster.items(300);
    run_quietly(&cluster, &request(&cluster)).unwrap();
    cluster.fill(301..=1800);
    let pending = ExportRequest {
        label: None,
        rows: Rows::Pending("new".to_owned()),
        ..all(&cluster)
    };
    let sample = ExportRequest {
        rows: Rows::Sample {
            count: 1200,
            seed: 7,
            also: Vec::new(),
        },
        ..all(&cluster)
    };
    let folder = tempfile::tempdir().unwrap();
    for (request, told) in [(pending, "goes on after them"), (sample, "starts over")] {
        let wanted = undisturbed(&cluster, &request);
        let path = folder.path().join("some.npz");
        let mut observer = AfterBatches::new(|_| {});
        observer.stop_at = Some(1);
        exported(&cluster, &request, &path, &mut observer).unwrap_err();
        let notes = observer.notes.join("\n");
        assert!(notes.contains(told), "{notes}");
        assert!(!path.exists());
        let report = exported(&cluster, &request, &path, &mut Silent).unwrap();
        assert_eq!((report, read(&path).unwrap()), wanted);
        fs_err::remove_file(&path).unwrap();
    }
}

#[test]
fn a_server_that_asks_to_wait_is_given_the_time() {
    let Some(cluster) = double() else { return };
    cluster.items(600);
    let wanted = undisturbed(&cluster, &all(&cluster));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.npz");
    let patient = ExportRequest {
        patience: Duration::from_secs(10),
        ..all(&cluster)
    };
    cluster
        .inside()
        .fail(Fault::new("points/scroll", 1, Kind::Throttle(2)));
    let begun = Instant::now();
    let report = exported(&cluster, &patient, &path, &mut Silent).unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert_eq!((report, read(&path).unwrap()), wanted);
    // Longer than anybody waits: said at once.
    let path = folder.path().join("more.npz");
    cluster
        .inside()
        .fail(Fault::new("points/scroll", 1, Kind::Throttle(86_400)));
    let error = exported(&cluster, &patient, &path, &mut Silent).unwrap_err();
    assert!(matches!(error, ConnectError::Throttled { .. }), "{error}");
    let report = exported(&cluster, &patient, &path, &mut Silent).unwrap();
    assert_eq!((report, read(&path).unwrap()), wanted);
}

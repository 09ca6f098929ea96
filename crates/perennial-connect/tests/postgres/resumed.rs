//! Exports through broken connections, and servers that are gone.

use std::path::Path;
use std::time::Duration;

use perennial_connect::migrate::{ExportReport, ExportRequest, Rows, export};
use perennial_connect::{ConnectError, Observer, Silent};
use perennial_formats::{VectorSet, prepare, read};

use crate::database::{Database, database};
use crate::faults::connect;
use crate::observers::AfterBatches;

/// Ends the sessions of this program, as a proxy or a restart would.
const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'perennial' AND datname = current_database()";

fn all() -> ExportRequest {
    ExportRequest {
        table: "items".parse().unwrap(),
        key: None,
        vector: None,
        label: Some("title".to_owned()),
        space: None,
        rows: Rows::All,
        rate: None,
        patience: Duration::from_secs(20),
    }
}

fn exported(
    database: &Database,
    request: &ExportRequest,
    path: &Path,
    observer: &mut dyn Observer,
) -> Result<ExportReport, ConnectError> {
    let (output, format) = prepare(path).unwrap();
    export(&database.address(), request, output, format, observer)
}

fn undisturbed(database: &Database, request: &ExportRequest) -> (ExportReport, VectorSet) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("whole.npz");
    let report = exported(database, request, &path, &mut Silent).unwrap();
    (report, read(&path).unwrap())
}

/// Runs a statement on a connection of another thread.
fn elsewhere(url: &str, sql: &'static str) {
    let url = url.to_owned();
    std::thread::spawn(move || connect(&url).run(sql))
        .join()
        .unwrap();
}

#[test]
fn broken_connections_are_opened_again_and_reading_goes_on() {
    let Some(database) = database() else { return };
    database.items(9000);
    database.run("UPDATE items SET embedding = NULL WHERE id = 3; UPDATE items SET title = NULL WHERE id = 4");
    let sample = ExportRequest {
        rows: Rows::Sample {
            count: 8500,
            seed: 7,
            also: Vec::new(),
        },
        ..all()
    };
    for request in [all(), sample] {
        let wanted = undisturbed(&database, &request);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all.npz");
        // Batches of 4,096 rows: between each two of them.
        let mut observer = AfterBatches::new(|_| elsewhere(&database.url, TERMINATE));
        let report = exported(&database, &request, &path, &mut observer).unwrap();
        let again = observer
            .notes
            .iter()
            .filter(|note| note.contains("trying again"));
        assert!(again.count() >= 2, "{:?}", observer.notes);
        assert_eq!((report, read(&path).unwrap()), wanted);
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_server_that_stays_away_leaves_a_file_from_which_the_same_export_goes_on() {
    let Some(database) = database() else { return };
    database.items(9000);
    database.run(
        "CREATE TABLE texts (id text COLLATE \"C\" PRIMARY KEY, embedding vector(8), title text); \
         INSERT INTO texts SELECT 'kéy ' || id, embedding, title FROM items",
    );
    let (base, name) = database.url.rsplit_once('/').unwrap();
    let server = format!("{base}/postgres");
    let close = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false");
    let open = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true");
    let (close, open): (&'static str, &'static str) = (close.leak(), open.leak());
    for table in ["items", "texts"] {
        let request = ExportRequest {
            table: table.parse().unwrap(),
            patience: Duration::from_millis(700),
            ..all()
        };
        let wanted = undisturbed(&database, &request);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all.npz");
        let mut observer = AfterBatches::new(|batch| {
            if batch == 2 {
                elsewhere(&server, close);
                let end = format!(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'perennial' AND datname = '{name}'"
                );
                elsewhere(&server, end.leak());
            }
        });
        let error = exported(&database, &request, &path, &mut observer).unwrap_err();
        elsewhere(&server, open);
        let told = observer.notes.join("\n");
        assert!(told.contains("holds the 8192 rows"), "{told} {error}");
        assert!(!path.exists());
        // Rows behind the place do not move what comes after it.
        database.run(&format!("DELETE FROM {table} WHERE title = 'item 1'"));
        let mut observer = AfterBatches::new(|_| {});
        let report = exported(&database, &request, &path, &mut observer).unwrap();
        let told = observer.notes.join("\n");
        assert!(told.contains("going on after 8192 rows"), "{told}");
        assert_eq!(observer.batches, 1);
        assert_eq!((report, read(&path).unwrap()), wanted);
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
    }
}

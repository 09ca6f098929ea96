//! Broken connections, interruptions, and two runs at a time.

use std::sync::atomic::{AtomicBool, Ordering};

use perennial_connect::ConnectError;
use tokio_postgres::NoTls;

use crate::database::database;
use crate::late_writes::assert_copies_are_right;
use crate::observers::AfterBatches;
use crate::spaces::{request, run_quietly, run_watched};

/// A second connection, for another thread.
pub struct Other(tokio::runtime::Runtime, tokio_postgres::Client);

pub fn connect(url: &str) -> Other {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let client = runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    });
    Other(runtime, client)
}

impl Other {
    pub fn run(&self, sql: &str) {
        self.0.block_on(self.1.batch_execute(sql)).unwrap();
    }
}

#[test]
fn an_interrupted_run_continues_where_it_stopped() {
    let Some(database) = database() else { return };
    database.items(9000);
    let before = database.fingerprint("items");
    let mut observer = AfterBatches::new(|_| {});
    observer.stop_at = Some(1);
    let error = run_watched(&database, &request(), &mut observer).unwrap_err();
    assert!(matches!(error, ConnectError::Interrupted), "{error}");
    let copied: i64 = database.one("SELECT count(*) FROM items_new");
    assert!(copied > 0 && copied < 9000, "{copied}");
    let report = run_quietly(&database, &request()).unwrap();
    assert_eq!(report.written, 9000 - copied as u64);
    assert_eq!(database.fingerprint("items"), before);
    assert_copies_are_right(&database);
}

#[test]
fn broken_connections_are_opened_again() {
    let Some(database) = database() else { return };
    database.items(9000);
    let broken = AtomicBool::new(false);
    let url = database.url.clone();
    let mut observer = AfterBatches::new(|_| {
        if !broken.swap(true, Ordering::Relaxed) {
            let url = url.clone();
            let act = move || {
                connect(&url).run(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'perennial' AND datname = current_database()",
                );
            };
            std::thread::spawn(act).join().unwrap();
        }
    });
    let report = run_watched(&database, &request(), &mut observer).unwrap();
    assert_eq!(report.standing.pending(), 0);
    assert!(
        observer
            .notes
            .iter()
            .any(|note| note.contains("trying again")),
        "{:?}",
        observer.notes
    );
    assert_copies_are_right(&database);
}

#[test]
fn a_server_that_is_not_there_is_named_without_the_password() {
    let Some(database) = database() else { return };
    database.items(1);
    let gone = perennial_connect::Address::new("postgres://ann:s3cret@127.0.0.1:1/shop").unwrap();
    let error = perennial_connect::migrate::run(&gone, &request(), &mut perennial_connect::Silent)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("127.0.0.1:1/shop") && !error.contains("s3cret"),
        "{error}"
    );
    let wrong = database.url.replace("perennial-tests", "s3cret");
    let wrong = perennial_connect::Address::new(&wrong).unwrap();
    let error = perennial_connect::migrate::run(&wrong, &request(), &mut perennial_connect::Silent)
        .unwrap_err();
    assert!(
        !format!("{error} {error:?}").contains("s3cret"),
        "{error:?}"
    );
}

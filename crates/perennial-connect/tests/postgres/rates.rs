//! `--rate` holds: before the first wait is over, no more rows are read than one batch of it.

use perennial_connect::ConnectError;
use perennial_connect::migrate::{ExportRequest, Rows, RunRequest, export};
use perennial_formats::prepare;

use crate::database::database;
use crate::observers::ThirdAsking;
use crate::spaces::{request, run_quietly, run_watched};

#[test]
fn a_run_reads_one_batch_and_waits() {
    let Some(database) = database() else { return };
    database.items(100);
    // One row in 1,000 seconds.
    let slow = RunRequest {
        rate: Some(0.001),
        ..request()
    };
    let mut observer = ThirdAsking::default();
    let error = run_watched(&database, &slow, &mut observer).unwrap_err();
    assert!(matches!(error, ConnectError::Interrupted), "{error}");
    let copies: i64 = database.one("SELECT count(*) FROM items_new");
    assert!(copies <= 1, "{copies}");
    // Without a rate nothing waits.
    assert_eq!(
        run_quietly(&database, &request()).unwrap().written,
        100 - copies as u64
    );
}

#[test]
fn an_export_reads_one_batch_and_waits() {
    let Some(database) = database() else { return };
    database.items(100);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.csv");
    let request = ExportRequest {
        table: "items".parse().unwrap(),
        key: None,
        vector: None,
        label: None,
        space: None,
        rows: Rows::All,
        rate: Some(0.001),
        patience: ExportRequest::PATIENCE,
    };
    let (output, format) = prepare(&path).unwrap();
    let mut observer = ThirdAsking::default();
    let error = export(&database.address(), &request, output, format, &mut observer).unwrap_err();
    assert!(matches!(error, ConnectError::Interrupted), "{error}");
    assert!(!path.exists());
}

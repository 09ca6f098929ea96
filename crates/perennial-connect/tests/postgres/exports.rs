//! Rows to files.

use perennial_connect::Silent;
use perennial_connect::migrate::{ExportReport, ExportRequest, Rows, export};
use perennial_core::ItemId;
use perennial_formats::{VectorSet, prepare, read};

use crate::database::{Database, database, vector_of};
use crate::spaces::{request, run_quietly};

fn exported(database: &Database, rows: Rows, file: &str) -> (ExportReport, VectorSet) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file);
    let request = ExportRequest {
        table: "items".parse().unwrap(),
        key: Some("id".to_owned()),
        vector: Some("embedding".to_owned()),
        label: Some("title".to_owned()),
        space: None,
        rows,
        rate: None,
    };
    let (output, format) = prepare(&path).unwrap();
    let report = export(&database.address(), &request, output, format, &mut Silent).unwrap();
    (report, read(&path).unwrap())
}

#[test]
fn all_rows_and_samples_are_exported() {
    let Some(database) = database() else { return };
    database.items(9000);
    database.run("UPDATE items SET embedding = NULL WHERE id = 3; UPDATE items SET title = NULL WHERE id = 4");
    let before = database.fingerprint("items");
    let (report, set) = exported(&database, Rows::All, "all.npz");
    assert_eq!(
        (report.rows, report.without_label, set.len()),
        (8998, 1, 8998)
    );
    assert_eq!(set.ids().unwrap()[2], ItemId::Number(5));
    assert_eq!(set.row(2), vector_of(5));
    assert_eq!(set.labels().unwrap()[2].to_string(), "item 5");
    let sample = |count, seed| exported(&database, Rows::Sample { count, seed }, "some.jsonl").1;
    let first = sample(100, 7);
    assert_eq!(first.len(), 100);
    assert_eq!(first, sample(100, 7));
    assert_ne!(first.ids(), sample(100, 8).ids());
    // More than there are.
    assert_eq!(sample(1 << 40, 7).len(), 8998);
    assert_eq!(database.fingerprint("items"), before);
}

#[test]
fn pending_rows_are_those_that_need_an_embedding() {
    let Some(database) = database() else { return };
    database.items(30);
    run_quietly(&database, &request()).unwrap();
    database.fill("items", 31, 33);
    database.run("UPDATE items SET title = 'b' WHERE id = 2");
    let (report, set) = exported(&database, Rows::Pending("new".to_owned()), "pending.csv");
    assert_eq!(report.rows, 4);
    let ids: Vec<String> = set.ids().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(ids, ["2", "31", "32", "33"]);
}

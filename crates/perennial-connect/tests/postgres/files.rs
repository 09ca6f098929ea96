//! New embeddings from files.

use std::path::Path;

use perennial_connect::ConnectError;
use perennial_core::ItemId;
use perennial_formats::{Header, VectorSet, create, prepare};

use crate::database::database;
use crate::observers::AfterBatches;
use crate::spaces::{from_file, request, run_quietly, run_watched};

fn write(path: &Path, ids: impl Iterator<Item = u64>, value: f32) {
    let ids: Vec<ItemId> = ids.map(ItemId::Number).collect();
    let vectors = ids.iter().flat_map(|_| [value, 1.0, 0.5]).collect();
    let (output, format) = prepare(path).unwrap();
    let header = Header {
        dim: 3,
        rows: None,
        space: None,
        format,
    };
    let mut writer = create(output, format, &header).unwrap();
    let set = VectorSet::new(3, vectors).unwrap().with_ids(ids).unwrap();
    writer.write(&set).unwrap();
    writer.finish().unwrap();
}

#[test]
fn portions_come_in_any_order_and_may_repeat() {
    let Some(database) = database() else { return };
    database.items(100);
    let folder = tempfile::tempdir().unwrap();
    let portion = |name: &str| folder.path().join(name);
    write(&portion("b.npz"), 51..=80, 2.0);
    write(&portion("a.jsonl"), 1..=50, 1.0);
    write(&portion("c.csv"), (70..=100).chain([100, 500]), 3.0);
    let report = run_quietly(&database, &from_file(&portion("b.npz"))).unwrap();
    assert_eq!((report.written, report.standing.missing), (30, 70));
    let report = run_quietly(&database, &from_file(&portion("a.jsonl"))).unwrap();
    assert_eq!((report.written, report.standing.missing), (50, 20));
    let report = run_quietly(&database, &from_file(&portion("c.csv"))).unwrap();
    assert_eq!(
        (report.written, report.unknown_ids, report.standing.missing),
        (31, 1, 0)
    );
    // The last file again: it is done.
    assert_eq!(
        run_quietly(&database, &from_file(&portion("c.csv")))
            .unwrap()
            .written,
        0
    );
    let values =
        database.all("SELECT embedding::text FROM items_new WHERE id IN (1, 60, 75) ORDER BY id");
    assert_eq!(values, ["[1,1,0.5]", "[2,1,0.5]", "[3,1,0.5]"]);
    // A row that changes needs a new embedding, which only its owner can make.
    database.run("UPDATE items SET title = 'other' WHERE id = 5; DELETE FROM items WHERE id = 6");
    let report = run_quietly(&database, &from_file(&portion("c.csv"))).unwrap();
    assert_eq!((report.standing.changed, report.removed), (1, 1));
    // One that loses its vector needs none, and its copy goes.
    database.run("UPDATE items SET embedding = NULL WHERE id = 7");
    let report = run_quietly(&database, &from_file(&portion("c.csv"))).unwrap();
    assert_eq!((report.standing.changed, report.removed), (1, 1));
}

#[test]
fn an_interrupted_file_continues_where_it_stopped() {
    let Some(database) = database() else { return };
    database.items(9000);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.npz");
    write(&path, 1..=9000, 1.0);
    let mut observer = AfterBatches::new(|_| {});
    observer.stop_at = Some(1);
    let error = run_watched(&database, &from_file(&path), &mut observer).unwrap_err();
    assert!(matches!(error, ConnectError::Interrupted), "{error}");
    let copied: i64 = database.one("SELECT count(*) FROM items_new");
    let report = run_quietly(&database, &from_file(&path)).unwrap();
    assert_eq!(report.written, 9000 - copied as u64);
    assert_eq!(report.standing.missing, 0);
}

#[test]
fn files_that_do_not_fit_are_refused() {
    let Some(database) = database() else { return };
    database.items(10);
    let folder = tempfile::tempdir().unwrap();
    let npy = folder.path().join("a.npy");
    write(&npy, 1..=5, 1.0);
    let error = run_quietly(&database, &from_file(&npy))
        .unwrap_err()
        .to_string();
    assert!(error.contains("has no ids"), "{error}");
    let text = folder.path().join("a.jsonl");
    std::fs::write(&text, "{\"id\": \"abc\", \"embedding\": [1, 2, 3]}\n").unwrap();
    let error = run_quietly(&database, &from_file(&text))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("abc")
            && error.contains("no key of public.items, whose column id is of type bigint"),
        "{error}"
    );
    std::fs::write(&text, "{\"id\": 1, \"embedding\": [1, 2]}\n").unwrap();
    let error = run_quietly(&database, &from_file(&text))
        .unwrap_err()
        .to_string();
    assert!(error.contains("another --name"), "{error}");
    // A migration of files is not continued by a bridge.
    let error = run_quietly(&database, &request()).unwrap_err().to_string();
    assert!(error.contains("was begun with files"), "{error}");
}

//! Rows to files.

use perennial_connect::Silent;
use perennial_connect::migrate::{
    ExportReport, ExportRequest, Rows, SampleRequest, export, sample,
};
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
        patience: ExportRequest::PATIENCE,
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
    let some = |count, seed, also| Rows::Sample { count, seed, also };
    let chosen_by = |count, seed| exported(&database, some(count, seed, vec![]), "some.jsonl").1;
    let first = chosen_by(100, 7);
    assert_eq!(first.len(), 100);
    assert_eq!(first, chosen_by(100, 7));
    assert_ne!(first.ids(), chosen_by(100, 8).ids());
    // More than there are.
    assert_eq!(chosen_by(1 << 40, 7).len(), 8998);
    // Rows that are asked for come on top; row 3 has no vector, and nothing has the other keys.
    let also = [9, 2, 3, 10_000].map(ItemId::Number);
    let also: Vec<ItemId> = also.into_iter().chain([ItemId::from("no key")]).collect();
    let more = exported(&database, some(100, 7, also), "more.jsonl").1;
    let chosen = first.ids().unwrap();
    for id in chosen.iter().chain(&[2, 9].map(ItemId::Number)) {
        assert!(more.ids().unwrap().contains(id), "{id}");
    }
    let new = [2, 9].map(ItemId::Number);
    let new = new.iter().filter(|id| !chosen.contains(id));
    assert_eq!(more.len(), 100 + new.count());
    assert_eq!(database.fingerprint("items"), before);
}

#[test]
fn a_sample_in_memory_is_that_of_a_file() {
    let Some(database) = database() else { return };
    database.items(500);
    database.run("UPDATE items SET embedding = '[0,0,0,0,0,0,0,0]' WHERE id = 4");
    database.run("UPDATE items SET title = NULL WHERE id = 5");
    let request = SampleRequest {
        table: "items".parse().unwrap(),
        key: None,
        vector: None,
        label: Some("title".to_owned()),
        space: None,
        count: 50,
        seed: 7,
        also: vec![ItemId::Number(4), ItemId::Number(5)],
        rate: None,
    };
    let found = sample(&database.address(), &request, &mut Silent).unwrap();
    let rows = Rows::Sample {
        count: 50,
        seed: 7,
        also: vec![],
    };
    let (_, file) = exported(&database, rows, "some.npz");
    assert_eq!((found.of, &*found.table), (500, "public.items"));
    assert_eq!((found.skipped.direction, found.without_label), (1, 1));
    assert_eq!(found.set, file);
}

#[test]
fn a_sample_is_uniform_over_the_order_of_keys() {
    let Some(database) = database() else { return };
    database.items(8000);
    let rows = Rows::Sample {
        count: 2000,
        seed: 11,
        also: vec![],
    };
    let (_, set) = exported(&database, rows, "some.npz");
    let mut tenths = [0u32; 10];
    for id in set.ids().unwrap() {
        let ItemId::Number(id) = id else {
            panic!("{id}")
        };
        tenths[(*id as usize - 1) / 800] += 1;
    }
    // 200 each are expected, with a standard deviation below 13.
    for tenth in tenths {
        assert!((140..=260).contains(&tenth), "{tenths:?}");
    }
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

#[test]
fn labels_that_files_cannot_hold_are_none_or_named() {
    let Some(database) = database() else { return };
    database.items(20);
    database.run("UPDATE items SET title = '' WHERE id = 4");
    let (report, set) = exported(&database, Rows::All, "all.npz");
    assert_eq!((report.without_label, set.len()), (1, 19));
    database.run("UPDATE items SET title = E'two\\nlines' WHERE id = 7");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.npz");
    let (output, format) = prepare(&path).unwrap();
    let request = ExportRequest {
        table: "items".parse().unwrap(),
        key: None,
        vector: None,
        label: Some("title".to_owned()),
        space: None,
        rows: Rows::All,
        rate: None,
        patience: ExportRequest::PATIENCE,
    };
    let error = export(&database.address(), &request, output, format, &mut Silent).unwrap_err();
    assert!(error.to_string().contains("a label of row 7"), "{error}");
}

#[test]
fn labels_lie_within_json() {
    let Some(database) = database() else { return };
    database.items(5);
    database.run(
        "ALTER TABLE items ADD COLUMN metadata jsonb, ADD COLUMN plain json, ADD COLUMN \"a.b\" text DEFAULT 'column'; \
         UPDATE items SET metadata = '{\"category\": \"shoes\", \"n\": 3, \"source\": {\"o''ne\": \"x\"}, \"tags\": [1]}' WHERE id = 1; \
         UPDATE items SET metadata = '{\"category\": \"hats\", \"n\": true}', plain = '{\"k\": \"v\"}' WHERE id = 2; \
         UPDATE items SET metadata = '{\"category\": null}' WHERE id = 3; UPDATE items SET metadata = '\"text\"' WHERE id = 4",
    );
    let labelled = |label: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.csv");
        let request = ExportRequest {
            table: "items".parse().unwrap(),
            key: None,
            vector: None,
            label: Some(label.to_owned()),
            space: None,
            rows: Rows::All,
            rate: None,
            patience: ExportRequest::PATIENCE,
        };
        let (output, format) = prepare(&path).unwrap();
        export(&database.address(), &request, output, format, &mut Silent)?;
        let set = read(&path).unwrap();
        let labels = set.labels().unwrap().iter();
        Ok::<Vec<String>, perennial_connect::ConnectError>(
            labels.map(ToString::to_string).collect(),
        )
    };
    for (label, wanted) in [
        ("metadata.category", vec!["shoes", "hats"]),
        ("metadata.n", vec!["3", "true"]),
        ("metadata.source.o'ne", vec!["x"]),
        ("plain.k", vec!["v"]),
        ("a.b", vec!["column"; 5]),
    ] {
        assert_eq!(labelled(label).unwrap(), wanted, "{label}");
    }
    for (label, wanted) in [
        ("metadata.tags", "label of row 1 is a list or an object"),
        ("metadata.source", "label of row 1 is a list or an object"),
        (
            "metadata.colour",
            "none of 5 rows has a label in metadata.colour",
        ),
        ("title.colour", "column title of public.items holds no JSON"),
        ("colour", "COLUMN.FIELD"),
    ] {
        let error = labelled(label).unwrap_err().to_string();
        assert!(error.contains(wanted), "{label}: {error}");
    }
}

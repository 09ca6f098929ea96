//! `verify` tells the truth.

use std::path::PathBuf;

use perennial_connect::Silent;
use perennial_connect::migrate::{PlanRequest, VerifyReport, VerifyRequest, plan, verify};
use perennial_core::ItemId;
use perennial_formats::{Header, VectorSet, create, prepare};

use crate::database::{Database, database};
use crate::spaces::{BRIDGE, from_file, request, run_quietly};

fn verified(database: &Database) -> VerifyReport {
    let request = VerifyRequest {
        table: "items".parse().unwrap(),
        name: "new".to_owned(),
        bridge: Some(&BRIDGE),
        files: &[],
        queries: None,
        sample: 1000,
        searches: 20,
        k: 10,
        min_recall: 0.9,
        seed: 3,
    };
    verify(&database.address(), &request, &mut Silent).unwrap()
}

#[test]
fn every_kind_of_damage_is_reported() {
    let Some(database) = database() else { return };
    database.items(800);
    database.run("CREATE INDEX ON items USING hnsw (embedding vector_cosine_ops)");
    run_quietly(&database, &request()).unwrap();
    let report = verified(&database);
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(
        (report.compared, report.different, report.searches),
        (800, 0, 20)
    );
    assert!(report.recall.unwrap() > 0.9, "{report:?}");

    database.run("UPDATE items_new SET embedding = '[1,0,0,0]' WHERE id = 17");
    assert_eq!(verified(&database).different, 1);
    database.run("DELETE FROM items_new WHERE id IN (1, 2); DELETE FROM items WHERE id IN (3, 4, 5); UPDATE items SET title = 'a' WHERE id = 6");
    let report = verified(&database);
    let standing = report.standing;
    assert_eq!(
        (standing.missing, standing.orphaned, standing.changed),
        (2, 3, 1)
    );
    assert_eq!(report.problems.len(), 4, "{:?}", report.problems);
}

#[test]
fn an_index_that_finds_little_is_reported() {
    let Some(database) = database() else { return };
    database.items(2000);
    database.run(
        "CREATE INDEX ON items USING ivfflat (embedding vector_cosine_ops) WITH (lists = 200)",
    );
    run_quietly(&database, &request()).unwrap();
    let report = verified(&database);
    // One of 200 lists is searched.
    assert!(report.recall.unwrap() < 0.9, "{report:?}");
    assert!(
        report.problems[0].contains("ivfflat.probes"),
        "{:?}",
        report.problems
    );
}

#[test]
fn a_plan_counts_and_writes_nothing() {
    let Some(database) = database() else { return };
    database.items(500);
    database.run("UPDATE items SET embedding = NULL WHERE id = 1; CREATE INDEX ON items USING hnsw (embedding vector_cosine_ops)");
    let request = PlanRequest {
        table: "items".parse().unwrap(),
        key: Some("id".to_owned()),
        vector: Some("embedding".to_owned()),
        new_dim: None,
        bridge: Some(&BRIDGE),
        permission: None,
        rate: Some(100.0),
    };
    let report = plan(&database.address(), &request).unwrap();
    assert_eq!(
        (report.rows, report.without_vector, report.new_dim),
        (500, 1, 4)
    );
    assert_eq!(report.dimensions[&8], 499);
    assert!((report.seconds.unwrap() - 4.99).abs() < 1e-6, "{report:?}");
    assert!(
        report.warnings[0].contains("no certificate"),
        "{:?}",
        report.warnings
    );
    assert_eq!(report.indexes.len(), 1);
    let tables: i64 = database.one("SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')");
    assert_eq!(tables, 1);
}

/// Vectors whose values no half float has.
fn file(folder: &tempfile::TempDir, name: &str, ids: std::ops::Range<u64>, value: f32) -> PathBuf {
    let path = folder.path().join(name);
    let (output, format) = prepare(&path).unwrap();
    let header = Header {
        dim: 3,
        rows: None,
        space: None,
        format,
    };
    let mut writer = create(output, format, &header).unwrap();
    let vectors = ids.clone().flat_map(|id| [value, 0.1 + id as f32, 0.7]);
    let set = VectorSet::new(3, vectors.collect()).unwrap();
    writer
        .write(&set.with_ids(ids.map(ItemId::Number).collect()).unwrap())
        .unwrap();
    writer.finish().unwrap();
    path
}

#[test]
fn copies_are_what_the_files_hold_as_the_column_rounds_it() {
    for kind in ["vector", "halfvec"] {
        let Some(database) = database() else { return };
        database.items(100);
        database.run(&format!("ALTER TABLE items ALTER embedding TYPE {kind}(8)"));
        let folder = tempfile::tempdir().unwrap();
        let first = file(&folder, "a.npz", 1..61, 1.0 / 3.0);
        // Rows that come again, and one that is not in the table.
        let second = file(&folder, "b.jsonl", 50..102, 2.0 / 3.0);
        for path in [&first, &second] {
            run_quietly(&database, &from_file(path)).unwrap();
        }
        let checked = |files: &[PathBuf], sample| {
            let request = VerifyRequest {
                table: "items".parse().unwrap(),
                name: "new".to_owned(),
                bridge: None,
                files,
                queries: None,
                sample,
                searches: 5,
                k: 5,
                min_recall: 0.0,
                seed: 3,
            };
            verify(&database.address(), &request, &mut Silent)
        };
        let files = [first.clone(), second.clone()];
        let report = checked(&files, 1000).unwrap();
        assert_eq!((report.compared, report.different), (100, 0), "{kind}");
        assert_eq!(report.largest_difference, 0.0);
        assert_eq!(report.problems, Vec::<String>::new());
        let some = checked(&files, 20).unwrap();
        assert!((18..=20).contains(&some.compared), "{}", some.compared);
        // In another order the files say another thing of eleven rows.
        let turned = checked(&[second, first], 1000).unwrap();
        assert_eq!(turned.different, 11);
        assert!(
            turned.problems[0].contains("11 of 100"),
            "{:?}",
            turned.problems
        );
        // The smallest damage counts, and what the application wrote itself does not.
        database.run("UPDATE items_new SET embedding = '[0.34,40.1,0.7]' WHERE id = 40");
        database.run(
            "UPDATE items_new SET embedding = '[1,2,3]', perennial_source = NULL WHERE id = 41",
        );
        let damaged = checked(&files, 1000).unwrap();
        assert_eq!((damaged.compared, damaged.different), (99, 1), "{kind}");
        let nothing = file(&folder, "c.npz", 900..910, 1.0);
        let report = checked(&[nothing], 1000).unwrap();
        assert!(
            report.problems[0].contains("no copy"),
            "{:?}",
            report.problems
        );
    }
}

#[test]
fn files_are_not_compared_with_mapped_copies() {
    let Some(database) = database() else { return };
    database.items(10);
    run_quietly(&database, &request()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let request = VerifyRequest {
        table: "items".parse().unwrap(),
        name: "new".to_owned(),
        bridge: None,
        files: &[file(&folder, "a.npz", 1..5, 1.0)],
        queries: None,
        sample: 10,
        searches: 5,
        k: 5,
        min_recall: 0.0,
        seed: 3,
    };
    let error = verify(&database.address(), &request, &mut Silent).unwrap_err();
    assert!(error.to_string().contains("--mapped"), "{error}");
}

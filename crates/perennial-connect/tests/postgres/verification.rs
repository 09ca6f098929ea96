//! `verify` tells the truth.

use perennial_connect::Silent;
use perennial_connect::migrate::{PlanRequest, VerifyReport, VerifyRequest, plan, verify};

use crate::database::{Database, database};
use crate::spaces::{BRIDGE, request, run_quietly};

fn verified(database: &Database) -> VerifyReport {
    let request = VerifyRequest {
        table: "items".parse().unwrap(),
        name: "new".to_owned(),
        bridge: Some(&BRIDGE),
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

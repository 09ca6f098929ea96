//! Keys of every type, strange names, and vectors of both types.

use perennial_connect::migrate::{PlanRequest, RunRequest, plan};

use crate::database::{database, parse, vector_of};
use crate::spaces::{mapped, request, run_quietly};

#[test]
fn every_type_of_key_is_copied() {
    let Some(database) = database() else { return };
    for (at, (kind, key)) in [
        ("integer", "i"),
        ("bigint", "i * 5000000000"),
        ("smallint", "i"),
        ("uuid", "md5(i::text)::uuid"),
        ("text", "'k' || i"),
        ("varchar(20)", "'k' || i"),
        ("char(12)", "'k' || i"),
        ("numeric(12, 2)", "i * 1.25"),
        ("date", "date '2000-01-01' + i"),
        ("bytea", "decode(md5(i::text), 'hex')"),
    ]
    .into_iter()
    .enumerate()
    {
        let table = format!("keys_{at}");
        database.run(&format!(
            "CREATE TABLE {table} (id {kind} PRIMARY KEY, n integer, embedding vector(8)); \
             INSERT INTO {table} SELECT {key}, i, \
             (SELECT array_agg(sin(i * 12.9898 + j * 78.233)) FROM generate_series(1, 8) j)::vector FROM generate_series(1, 50) i"
        ));
        let before = database.fingerprint(&table);
        let request = RunRequest {
            table: table.parse().unwrap(),
            // Seven batches.
            rate: Some(8.0e3),
            ..request()
        };
        let report =
            run_quietly(&database, &request).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!((report.written, report.standing.missing), (50, 0), "{kind}");
        assert_eq!(database.fingerprint(&table), before, "{kind}");
        for n in [1, 25, 50] {
            let copy: String = database.one(&format!(
                "SELECT s.embedding::text FROM {table}_new s JOIN {table} t USING (id) WHERE t.n = {n}"
            ));
            let wanted = mapped(&vector_of(n));
            let near = parse(&copy)
                .iter()
                .zip(&wanted)
                .all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(near, "{kind} {n}: {copy} {wanted:?}");
        }
        assert_eq!(
            run_quietly(&database, &request).unwrap().written,
            0,
            "{kind}"
        );
    }
}

#[test]
fn names_are_quoted_wherever_they_go() {
    let Some(database) = database() else { return };
    database.run(
        "CREATE SCHEMA \"My.Schema\"; CREATE TABLE \"My.Schema\".\"a\"\"b; DROP TABLE x; --\" (\"the \"\"key\" bigint PRIMARY KEY, \
         \"Vec'tor\" vector(8), \"select\" text); \
         INSERT INTO \"My.Schema\".\"a\"\"b; DROP TABLE x; --\" SELECT i, array[i, 1, 2, 3, 4, 5, 6, 7]::vector FROM generate_series(1, 20) i",
    );
    let request = RunRequest {
        table: "\"My.Schema\".\"a\"\"b; DROP TABLE x; --\""
            .parse()
            .unwrap(),
        key: Some("the \"key".to_owned()),
        vector: Some("Vec'tor".to_owned()),
        name: "n'ew\"".to_owned(),
        ..request()
    };
    let report = run_quietly(&database, &request).unwrap();
    assert_eq!((report.written, report.standing.copies), (20, 20));
}

#[test]
fn half_vectors_are_copied_as_half_vectors() {
    let Some(database) = database() else { return };
    database.items(40);
    database.run(
        "ALTER TABLE items ALTER embedding TYPE halfvec(8); \
         CREATE INDEX ON items USING hnsw (embedding halfvec_cosine_ops) WITH (m = 8, ef_construction = 32)",
    );
    let report = run_quietly(&database, &request()).unwrap();
    assert_eq!(report.written, 40);
    assert!(report.index_seconds.is_some());
    let kind: String = database.one("SELECT pg_typeof(embedding)::text FROM items_new LIMIT 1");
    assert_eq!(kind, "halfvec");
    let index: String = database.one(
        "SELECT indexdef FROM pg_indexes WHERE tablename = 'items_new' AND indexdef LIKE '%hnsw%'",
    );
    assert!(
        index.contains("halfvec_cosine_ops") && index.contains("m='8'"),
        "{index}"
    );
}

#[test]
fn rows_without_a_usable_vector_are_left_out_and_counted() {
    let Some(database) = database() else { return };
    database.run("CREATE TABLE items (id bigint PRIMARY KEY, embedding vector, title text)");
    database.fill("items", 1, 30);
    database.run(
        "UPDATE items SET embedding = NULL WHERE id IN (3, 4); UPDATE items SET embedding = '[1,2,3]' WHERE id = 5; \
         UPDATE items SET embedding = '[0,0,0,0,0,0,0,0]' WHERE id = 6",
    );
    let planned = PlanRequest {
        table: "items".parse().unwrap(),
        key: None,
        vector: None,
        new_dim: Some(4),
        bridge: None,
        permission: None,
        rate: None,
    };
    let planned = plan(&database.address(), &planned).unwrap();
    let dimensions: Vec<(u64, u64)> = planned.dimensions.into_iter().collect();
    assert_eq!(dimensions, [(3, 1), (8, 27)]);
    let report = run_quietly(&database, &request()).unwrap();
    assert_eq!(report.written, 26);
    assert_eq!(
        (report.standing.without_vector, report.standing.missing),
        (2, 2)
    );
    // A row that loses its vector loses its copy.
    database.run("UPDATE items SET embedding = NULL WHERE id = 7");
    let report = run_quietly(&database, &request()).unwrap();
    assert_eq!((report.written, report.standing.copies), (0, 25));
    let left: i64 = database.one("SELECT count(*) FROM items_new WHERE id IN (3, 4, 5, 6, 7)");
    assert_eq!(left, 0);
}

#[test]
fn partitioned_tables_are_copied_and_their_sizes_added_up() {
    let Some(database) = database() else { return };
    database.run(
        "CREATE TABLE items (id bigint PRIMARY KEY, embedding vector(8), title text) PARTITION BY RANGE (id); \
         CREATE TABLE items_1 PARTITION OF items FOR VALUES FROM (0) TO (500); \
         CREATE TABLE items_2 PARTITION OF items FOR VALUES FROM (500) TO (10000)",
    );
    database.fill("items", 1, 1000);
    database.run("CREATE INDEX ON items USING hnsw (embedding vector_cosine_ops)");
    let planned = PlanRequest {
        table: "items".parse().unwrap(),
        key: None,
        vector: None,
        new_dim: Some(4),
        bridge: None,
        permission: None,
        rate: None,
    };
    let planned = plan(&database.address(), &planned).unwrap();
    assert!(planned.table_bytes.unwrap() > 64 * 1000, "{planned:?}");
    assert!(planned.indexes[0].bytes.unwrap() > 64 * 1000, "{planned:?}");
    let report = run_quietly(&database, &request()).unwrap();
    assert_eq!((report.written, report.standing.pending()), (1000, 0));
    assert!(report.index_seconds.is_some());
    // A row that moves to another partition is another row.
    database.run(
        "UPDATE items SET id = 5000 WHERE id = 5; UPDATE items SET title = 'b' WHERE id = 700",
    );
    let report = run_quietly(&database, &request()).unwrap();
    assert_eq!(
        (report.written, report.removed, report.standing.pending()),
        (2, 1, 0)
    );
}

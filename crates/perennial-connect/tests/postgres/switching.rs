//! Views: switch, rollback and clean.

use std::time::Duration;

use perennial_connect::ConnectError;
use perennial_connect::migrate::{RunRequest, SwitchRequest, clean, switch};

use crate::database::database;
use crate::spaces::{request, run_quietly};

fn to(new: bool) -> SwitchRequest {
    SwitchRequest {
        table: "items".parse().unwrap(),
        name: "new".to_owned(),
        view: Some("items_live".parse().unwrap()),
        to_new: new,
        allow_pending: 0,
        lock_timeout: Duration::from_secs(1),
    }
}

#[test]
fn a_view_shows_the_one_or_the_other() {
    let Some(database) = database() else { return };
    database.items(300);
    database.run("CREATE INDEX ON items USING hnsw (embedding vector_cosine_ops)");
    let before = database.fingerprint("items");
    run_quietly(&database, &request()).unwrap();
    let address = database.address();
    let dims = "SELECT max(vector_dims(embedding)) FROM items_live";
    assert_eq!(switch(&address, &to(false)).unwrap().shows, "old");
    assert_eq!(database.one::<i32>(dims), 8);
    database.run("GRANT SELECT ON items_live TO PUBLIC");
    assert_eq!(switch(&address, &to(true)).unwrap().shows, "new");
    assert_eq!(database.one::<i32>(dims), 4);
    let granted: bool =
        database.one("SELECT has_table_privilege('public', 'items_live', 'SELECT')");
    assert!(granted);
    // The index of the copies serves the view.
    database.run("SET enable_seqscan = off; SET enable_sort = off");
    let plan = database
        .all("EXPLAIN SELECT id, title FROM items_live ORDER BY embedding <=> '[1,2,3,4]' LIMIT 5");
    assert!(
        plan.join("\n").contains("items_new_embedding_idx"),
        "{plan:?}"
    );
    let error = clean(&address, &"items".parse().unwrap(), "new").unwrap_err();
    assert!(matches!(error, ConnectError::Refused(_)), "{error}");
    let back = SwitchRequest {
        view: None,
        ..to(false)
    };
    assert_eq!(switch(&address, &back).unwrap().view, "public.items_live");
    assert_eq!(database.one::<i32>(dims), 8);
    let report = clean(&address, &"items".parse().unwrap(), "new").unwrap();
    assert_eq!(report.dropped, "public.items_new");
    let ours: i64 = database
        .one("SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'items'");
    assert_eq!(ours, 0);
    assert_eq!(database.fingerprint("items"), before);
}

#[test]
fn rows_without_a_copy_stop_a_switch() {
    let Some(database) = database() else { return };
    database.items(20);
    run_quietly(&database, &request()).unwrap();
    database.fill("items", 21, 23);
    database.run("UPDATE items SET title = 'x' WHERE id = 1");
    let address = database.address();
    let error = switch(&address, &to(true)).unwrap_err();
    assert!(matches!(error, ConnectError::Refused(_)), "{error}");
    assert!(
        error
            .to_string()
            .contains("3 rows have no copy and 1 were written"),
        "{error}"
    );
    let allowed = SwitchRequest {
        allow_pending: 4,
        ..to(true)
    };
    switch(&address, &allowed).unwrap();
    // Rows without a copy are not in the view.
    assert_eq!(database.one::<i64>("SELECT count(*) FROM items_live"), 20);
    run_quietly(&database, &request()).unwrap();
    assert_eq!(database.one::<i64>("SELECT count(*) FROM items_live"), 23);
}

#[test]
fn what_is_not_ours_is_not_replaced() {
    let Some(database) = database() else { return };
    database.items(5);
    run_quietly(&database, &request()).unwrap();
    database.run("CREATE VIEW items_live AS SELECT 1 AS one");
    let address = database.address();
    let error = switch(&address, &to(true)).unwrap_err().to_string();
    assert!(error.contains("items_live exists already"), "{error}");
    let nameless = SwitchRequest {
        view: None,
        ..to(true)
    };
    let error = switch(&address, &nameless).unwrap_err().to_string();
    assert!(error.contains("--view"), "{error}");
    let error = clean(&address, &"items".parse().unwrap(), "other")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("there is no migration other of items"),
        "{error}"
    );
}

#[test]
fn the_view_of_another_migration_is_told_as_such() {
    let Some(database) = database() else { return };
    database.items(5);
    run_quietly(&database, &request()).unwrap();
    let second = RunRequest {
        name: "second".to_owned(),
        ..request()
    };
    run_quietly(&database, &second).unwrap();
    let address = database.address();
    switch(&address, &to(true)).unwrap();
    let by_second = SwitchRequest {
        name: "second".to_owned(),
        ..to(true)
    };
    let error = switch(&address, &by_second).unwrap_err().to_string();
    let wanted = "is the view of migration new of public.items";
    assert!(error.contains(wanted), "{error}");
}

#[test]
fn rows_that_a_view_of_new_vectors_does_not_show_are_counted() {
    let Some(database) = database() else { return };
    database.items(20);
    database.run("UPDATE items SET embedding = NULL WHERE id IN (3, 4)");
    run_quietly(&database, &request()).unwrap();
    let report = switch(&database.address(), &to(true)).unwrap();
    assert_eq!(report.standing.unwrap().uncopied(), 2);
    assert_eq!(database.one::<i64>("SELECT count(*) FROM items_live"), 18);
}

#[test]
fn a_lock_that_is_not_free_ends_the_wait() {
    let Some(database) = database() else { return };
    database.items(5);
    run_quietly(&database, &request()).unwrap();
    let address = database.address();
    switch(&address, &to(false)).unwrap();
    let other = crate::faults::connect(&database.url);
    other.run("BEGIN; SELECT * FROM items_live");
    let error = switch(&address, &to(true)).unwrap_err();
    assert!(error.may_pass(), "{error}");
    assert!(error.to_string().contains("try again"), "{error}");
    other.run("COMMIT");
    switch(&address, &to(true)).unwrap();
}

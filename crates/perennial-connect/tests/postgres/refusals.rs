//! What is refused, and how the message says what to do.

use perennial_connect::migrate::{RunRequest, run};
use perennial_connect::{Address, Silent};

use crate::database::{Database, database};
use crate::spaces::{request, run_quietly};

#[test]
fn tables_that_cannot_be_migrated_are_refused() {
    let Some(database) = database() else { return };
    database.items(5);
    database.run(
        "CREATE TABLE loose (id bigint, embedding vector(8)); CREATE TABLE nullable (id bigint UNIQUE, embedding vector(8)); \
         CREATE TABLE sparse (id bigint PRIMARY KEY, embedding sparsevec(8)); CREATE TABLE wide (id bigint PRIMARY KEY, embedding vector(9)); \
         CREATE VIEW seen AS SELECT * FROM items; CREATE TABLE taken (id bigint PRIMARY KEY, embedding vector(8)); CREATE TABLE taken_new (x int)",
    );
    for (table, key, vector, wanted) in [
        ("missing", "id", "embedding", "there is no table missing"),
        (
            "items",
            "key",
            "embedding",
            "its columns are id, embedding, title",
        ),
        ("items", "id", "vec", "its columns are id, embedding, title"),
        ("items", "id", "title", "is of type text"),
        ("loose", "id", "embedding", "name the primary key"),
        ("nullable", "id", "embedding", "name the primary key"),
        ("sparse", "id", "embedding", "sparsevec"),
        ("wide", "id", "embedding", "holds 9"),
        ("seen", "id", "embedding", "is no table"),
        ("taken", "id", "embedding", "taken_new exists already"),
    ] {
        let request = RunRequest {
            table: table.parse().unwrap(),
            key: Some(key.to_owned()),
            vector: Some(vector.to_owned()),
            ..request()
        };
        let error = run_quietly(&database, &request).unwrap_err().to_string();
        assert!(error.contains(wanted), "{table}: {error}");
    }
    // Nothing of ours was left behind.
    let ours: i64 = database.one(
        "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'perennial%' OR tablename LIKE '%_new' AND tablename <> 'taken_new'",
    );
    assert_eq!(ours, 0);
}

#[test]
fn a_role_without_rights_is_told_which_ones_it_needs() {
    let Some(database) = database() else { return };
    database.items(5);
    let role = format!("reader_{}", std::process::id());
    database.run(&format!("CREATE ROLE {role} LOGIN PASSWORD 'reader'"));
    let url = database
        .url
        .replace("perennial:perennial-tests", &format!("{role}:reader"));
    let address = perennial_connect::Address::new(&url).unwrap();
    let attempt = || {
        perennial_connect::migrate::run(&address, &request(), &mut perennial_connect::Silent)
            .unwrap_err()
            .to_string()
    };
    let error = attempt();
    assert!(error.contains("GRANT SELECT"), "{error}");
    database.run(&format!("GRANT SELECT ON items TO {role}"));
    let error = attempt();
    assert!(error.contains("CREATE on its schema"), "{error}");
    // SELECT on the table and CREATE on the schema are enough.
    database.run(&format!("GRANT CREATE ON SCHEMA public TO {role}"));
    let report =
        perennial_connect::migrate::run(&address, &request(), &mut perennial_connect::Silent)
            .unwrap();
    assert_eq!(report.written, 5);
    database.run(&format!(
        "DROP TABLE items_new, perennial_migrations; DROP OWNED BY {role}; DROP ROLE {role}"
    ));
}

#[test]
fn a_migration_is_not_continued_with_something_else() {
    let Some(database) = database() else { return };
    database.items(5);
    run_quietly(&database, &request()).unwrap();
    database.run("ALTER TABLE items ADD other vector(8)");
    let changed = RunRequest {
        vector: Some("other".to_owned()),
        ..request()
    };
    let error = run_quietly(&database, &changed).unwrap_err().to_string();
    assert!(
        error.contains("was begun with key id and vectors embedding"),
        "{error}"
    );
    let second = RunRequest {
        name: "second".to_owned(),
        ..request()
    };
    assert_eq!(
        run_quietly(&database, &second).unwrap().copies,
        "public.items_second"
    );
}

/// A role of a test's own that owns `items`; its address.
fn owner(database: &Database, name: &str) -> (String, Address) {
    let role = format!("{name}_{}", std::process::id());
    database.run(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'owner'; GRANT CREATE ON SCHEMA public TO {role}; ALTER TABLE items OWNER TO {role}"
    ));
    let url = database
        .url
        .replace("perennial:perennial-tests", &format!("{role}:owner"));
    (role, Address::new(&url).unwrap())
}

fn drop_role(database: &Database, role: &str) {
    database.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn a_role_that_policies_hide_rows_from_removes_no_copies() {
    let Some(database) = database() else { return };
    database.items(20);
    let (role, address) = owner(&database, "tenant");
    let attempt = || run(&address, &request(), &mut Silent);
    assert_eq!(attempt().unwrap().standing.copies, 20);
    database.run(
        "ALTER TABLE items ENABLE ROW LEVEL SECURITY; ALTER TABLE items FORCE ROW LEVEL SECURITY; \
         CREATE POLICY own ON items USING (id <= 5)",
    );
    let error = attempt().unwrap_err().to_string();
    assert!(error.contains("must see all rows"), "{error}");
    let copies: i64 = database.one("SELECT count(*) FROM items_new");
    assert_eq!(copies, 20);
    database.run("ALTER TABLE items NO FORCE ROW LEVEL SECURITY");
    assert_eq!(attempt().unwrap().standing.copies, 20);
    drop_role(&database, &role);
}

#[test]
fn limits_of_time_that_a_role_has_for_programs_end_no_step() {
    let Some(database) = database() else { return };
    database.items(60_000);
    let (role, address) = owner(&database, "hasty");
    database.run(&format!(
        "ALTER ROLE {role} SET statement_timeout = '20ms'; ALTER ROLE {role} SET idle_in_transaction_session_timeout = '1ms'"
    ));
    let report = run(&address, &request(), &mut Silent).unwrap();
    assert_eq!(report.standing.copies, 60_000);
    drop_role(&database, &role);
}

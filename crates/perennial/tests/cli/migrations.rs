//! `migrate`, from the plan to the clean-up, in a real PostgreSQL with pgvector, whose URL is in `PERENNIAL_POSTGRES`.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::bench::{Bench, Ended};

/// The database of the library's own tests.
#[allow(dead_code, reason = "these tests need a part of it")]
#[path = "../../../perennial-connect/tests/postgres/database.rs"]
pub mod database;

use self::database::{Database, database};

const ROWS: u32 = 600;

/// The program with a database, whose URL holds the password and therefore is no argument.
struct Migrate {
    bench: Bench,
    database: Database,
}

impl Migrate {
    fn run(&self, step: &str, more: &[&str]) -> Ended {
        let arguments = [&["migrate", step, "--table", "items"], more].concat();
        let mut command = self.bench.command(&arguments);
        command.env("PERENNIAL_DATABASE_URL", &self.database.url);
        let ended = Ended::from(command.output().unwrap());
        assert!(
            !ended.stderr.contains("perennial-tests"),
            "the password: {}",
            ended.stderr
        );
        ended
    }

    fn answer(&self, step: &str, more: &[&str]) -> Value {
        let ended = self.run(step, &[more, &["--json"]].concat());
        assert_eq!(ended.code, Some(0), "{step} {more:?}: {}", ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap()
    }

    /// Exit code 3, with these words.
    fn refused(&self, step: &str, more: &[&str], says: &str) {
        let ended = self.run(step, more);
        assert_eq!(
            ended.code,
            Some(3),
            "{step}: {}{}",
            ended.stdout,
            ended.stderr
        );
        let told = format!("{}{}", ended.stdout, ended.stderr);
        assert!(told.contains(says), "{told}");
    }

    /// Dimensions of the vectors that the view shows, and rows with one.
    fn view(&self) -> (i32, i64) {
        (
            self.database
                .one("SELECT max(vector_dims(embedding)) FROM items_live"),
            self.database.one("SELECT count(embedding) FROM items_live"),
        )
    }
}

/// Embeddings of a new encoder, of 4 dimensions.
fn embedded(ids: impl IntoIterator<Item = u32>) -> String {
    let mut lines = String::new();
    for id in ids {
        let angle = f64::from(id);
        let vector = [1, 2, 3, 4].map(|place| (angle * f64::from(place)).cos() + 1.5);
        writeln!(lines, "{}", json!({"id": id, "embedding": vector})).unwrap();
    }
    lines
}

#[test]
fn a_table_moves_to_a_new_encoder_and_back() {
    let Some(database) = database() else {
        return;
    };
    database.items(ROWS);
    let untouched = database.fingerprint("items");
    let migrate = Migrate {
        bench: Bench::new(),
        database,
    };
    let bench = &migrate.bench;

    let plan = migrate.answer("plan", &["--dim", "4"]);
    assert_eq!(
        (&plan["rows"], &plan["new_dim"]),
        (&json!(ROWS), &json!(4)),
        "{plan}"
    );
    let exported = migrate.answer(
        "export",
        &["--out", "old.csv", "--sample", "50", "--seed", "7"],
    );
    assert_eq!(exported["rows"], 50, "{exported}");

    bench.write("one.jsonl", &embedded(1..=ROWS / 2));
    let run = migrate.answer("run", &["--side-by-side", "one.jsonl"]);
    assert_eq!(
        (&run["written"], &run["dim"], &run["standing"]["missing"]),
        (&json!(ROWS / 2), &json!(4), &json!(ROWS - ROWS / 2)),
        "{run}"
    );
    // Not before every row has its copy.
    migrate.refused("verify", &[], "300 missing");
    migrate.refused("switch", &["--view", "items_live"], "300");
    let pending = migrate.answer("export", &["--pending", "new", "--out", "pending.csv"]);
    assert_eq!(pending["rows"], ROWS - ROWS / 2);
    let ids = bench.read("pending.csv");
    let ids = ids
        .lines()
        .skip(1)
        .map(|line| line.split(',').next().unwrap().parse().unwrap());
    bench.write("two.jsonl", &embedded(ids));
    let run = migrate.answer("run", &["--side-by-side", "two.jsonl"]);
    assert_eq!(
        (&run["standing"]["missing"], &run["standing"]["copies"]),
        (&json!(0), &json!(ROWS))
    );
    let verified = migrate.answer("verify", &[]);
    assert_eq!(verified["problems"], json!([]), "{verified}");

    // Programs read the view from here on: first the old vectors, then the new ones, and back.
    let shown = migrate.answer("rollback", &["--view", "items_live"]);
    assert_eq!(shown["shows"], "old");
    assert_eq!(migrate.view(), (8, ROWS.into()));
    assert_eq!(migrate.answer("switch", &[])["shows"], "new");
    assert_eq!(migrate.view(), (4, ROWS.into()));
    assert_eq!(migrate.database.fingerprint("items"), untouched);
    let kept = migrate.run("clean", &[]);
    assert!(matches!(kept.code, Some(2 | 3)), "{}", kept.stderr);
    assert!(kept.stderr.contains("items_live"), "{}", kept.stderr);

    // A row that comes late is found by the next file.
    migrate.database.fill("items", ROWS + 1, ROWS + 1);
    migrate.refused("verify", &[], "1 missing");
    bench.write("late.jsonl", &embedded([ROWS + 1]));
    migrate.answer("run", &["--side-by-side", "late.jsonl"]);
    assert_eq!(migrate.view(), (4, i64::from(ROWS) + 1));

    assert_eq!(migrate.answer("rollback", &[])["shows"], "old");
    assert_eq!(migrate.view(), (8, i64::from(ROWS) + 1));
    let cleaned = migrate.answer("clean", &[]);
    assert!(
        cleaned["dropped"].as_str().unwrap().contains("items_new"),
        "{cleaned}"
    );
    let tables: i64 = migrate
        .database
        .one("SELECT count(*) FROM pg_tables WHERE tablename = 'items_new'");
    assert_eq!(tables, 0);
    assert_eq!(migrate.view(), (8, i64::from(ROWS) + 1));
    // Nothing is left that a step could work on.
    let ended = migrate.run("verify", &[]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
}

#[test]
fn mapped_copies_need_their_certificate() {
    let Some(database) = database() else {
        return;
    };
    // The new encoder sees what the old one sees, turned, so that a bridge can be fitted.
    let bench = crate::encoders::files();
    database.run("CREATE TABLE items (id bigint PRIMARY KEY, embedding vector(12))");
    for row in 0..200 {
        let vector = crate::encoders::embedding("old", 30, row);
        database.run(&format!(
            "INSERT INTO items VALUES ({row}, '{}')",
            json!(vector)
        ));
    }
    bench.succeed(&[
        "bridge",
        "fit",
        "--from",
        "old-fit.jsonl",
        "--to",
        "new-fit.jsonl",
        "--kind",
        "orthogonal",
        "--out",
        "old-to-new",
    ]);
    let migrate = Migrate { bench, database };
    let mapped = ["--mapped", "old-to-new"];
    migrate.refused("run", &mapped, "certificate");
    migrate.bench.run(&[
        "certify",
        "--route",
        "mapped",
        "--bridge",
        "old-to-new",
        "--old-queries",
        "old-queries.jsonl",
        "--old-gallery",
        "old-gallery.jsonl",
        "--new-queries",
        "new-queries.jsonl",
        "--new-gallery",
        "new-gallery.jsonl",
        "--out",
        "mapped.json",
    ]);
    let plan = migrate.answer("plan", &["--dim", "12", "--measured", "mapped.json"]);
    let expected = &plan["quality"][0];
    let figure = |value: &Value| value.as_f64().unwrap();
    let (low, high) = (
        figure(&expected["after_interval"]["low"]),
        figure(&expected["after_interval"]["high"]),
    );
    let after = figure(&expected["after"]);
    assert!(low <= after && after <= high, "{expected}");
    assert!(
        plan["disk_bytes"].as_u64() >= plan["copies_bytes"].as_u64()
            && !plan["assumptions"].as_array().unwrap().is_empty(),
        "{plan}"
    );
    let certified = [&mapped[..], &["--certificate", "mapped.json"]].concat();
    let run = migrate.answer("run", &certified);
    assert_eq!(
        (&run["written"], &run["dim"]),
        (&json!(200), &json!(12)),
        "{run}"
    );
    let verified = migrate.answer("verify", &mapped);
    assert_eq!(
        (&verified["compared"], &verified["different"]),
        (&json!(200), &json!(0)),
        "{verified}"
    );
    assert_eq!(verified["problems"], json!([]), "{verified}");
}

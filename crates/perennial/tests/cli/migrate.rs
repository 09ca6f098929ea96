//! Where an index is, and secrets in arguments.

use crate::bench::Bench;

/// A part of a URL that must not be repeated.
const SECRET: &str = "s3cret";

#[test]
fn a_secret_in_an_argument_is_refused_and_not_repeated() {
    let bench = Bench::new();
    for (arguments, wanted) in [
        (&["qdrant://:s3cret@db/items"][..], "QDRANT_API_KEY"),
        (
            &["postgres://ann:s3cret@db/shop", "--table", "items"],
            "PGPASSWORD",
        ),
    ] {
        let mut words = vec!["migrate", "plan"];
        words.extend(arguments);
        let run = bench.run(&words);
        run.assert_wrong_usage(&[wanted]);
        assert!(!run.stderr.contains(SECRET), "{}", run.stderr);
    }
}

#[test]
fn a_table_is_named_once() {
    let bench = Bench::new();
    bench
        .run(&["migrate", "plan", "postgres://ann@db/shop"])
        .assert_wrong_usage(&["--table"]);
    bench
        .run(&[
            "migrate",
            "clean",
            "qdrant://127.0.0.1:1/items",
            "--table",
            "items",
        ])
        .assert_wrong_usage(&["leave --table out"]);
}

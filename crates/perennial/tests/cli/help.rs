//! What help and errors say to somebody who does not know the program yet.

use crate::bench::{Bench, Ended};

/// Wrong usage that the parser tells, in several lines.
fn assert_refused(ended: &Ended, parts: &[&str]) {
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    for part in parts {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
}

/// A text whose lines were broken anywhere.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_file_that_is_not_there_is_named_with_its_option() {
    let bench = Bench::new();
    let ended = bench.run(&[
        "certify",
        "--old-queries",
        "n.npz",
        "--old-gallery",
        "n.npz",
        "--new-queries",
        "n.npz",
    ]);
    ended.assert_wrong_usage(&[
        "error: --old-queries: cannot read n.npz: no such file or directory",
    ]);
    bench
        .run(&["bridge", "fit", "--from", "n.npz", "--to", "m.npz"])
        .assert_wrong_usage(&["error: --from: cannot read n.npz: no such file or directory"]);
    bench
        .run(&["spaces", "add", "clip", "--canaries", "n.npz"])
        .assert_wrong_usage(&["error: --canaries: cannot read n.npz: no such file or directory"]);
}

#[test]
fn missing_inputs_are_named_with_their_alternatives() {
    let bench = Bench::new();
    for (command, alternatives) in [
        (
            &["gallery", "add"][..],
            "<DIR|--set <SET>|--table <FILE>|--embeddings <FILE>>",
        ),
        (&["gallery", "search"], "<IMAGE|--text <TEXT>|--id <ID>>"),
        (
            &["embed", "v0001", "--out", "x"],
            "<--set <SET>|--table <FILE>>",
        ),
        (
            &["spaces", "add", "clip"],
            "<--dim <DIM>|--canaries <FILE>>",
        ),
        (
            &["evaluate"],
            "<RUN|--versions <VERSION>...|--embeddings <DIR>|--query-embeddings <FILE>...>",
        ),
    ] {
        assert_refused(&bench.run(command), &[alternatives]);
    }
    let both = ["gallery", "search", "a.png", "--text", "a dog"];
    assert_refused(&bench.run(&both), &["cannot be used with"]);
}

#[cfg(any(feature = "pgvector", feature = "qdrant"))]
#[test]
fn a_migration_asks_for_one_of_two_sources() {
    let bench = Bench::new();
    assert_refused(
        &bench.run(&["migrate", "run", "postgres://localhost/shop"]),
        &["<--side-by-side <FILE>|--mapped <BRIDGE>>"],
    );
    let help = flat(&bench.succeed(&["migrate", "run", "--help"]));
    assert!(help.contains("let it pass with a warning"), "{help}");
}

#[test]
fn global_options_are_explained_once() {
    let bench = Bench::new();
    let whole = bench.succeed(&["--help"]);
    for option in [
        "--registry",
        "--data",
        "--runs",
        "--device",
        "--onnxruntime",
        "--json",
        "--quiet",
    ] {
        assert!(whole.contains(option), "{option}: {whole}");
        let of_command = flat(&bench.succeed(&["models", "show", "--help"]));
        // Once, in the line that says where they are.
        assert_eq!(
            of_command.matches(option).count(),
            1,
            "{option}: {of_command}"
        );
        assert!(
            of_command.contains("see `perennial --help`"),
            "{of_command}"
        );
    }
    // Hidden is not gone.
    std::fs::create_dir(bench.path("registry")).unwrap();
    bench.succeed(&[
        "models",
        "list",
        "--registry",
        "registry",
        "--json",
        "--quiet",
    ]);
}

#[test]
fn help_says_what_creates_a_gallery_and_what_is_the_default() {
    let bench = Bench::new();
    let stats = flat(&bench.succeed(&["gallery", "stats", "--help"]));
    assert!(
        stats.contains("`gallery add`, `gallery restore` and `serve` create it"),
        "{stats}"
    );
    let certify = flat(&bench.succeed(&["certify", "--help"]));
    for text in ["[default: any]", "refuse it unless told otherwise"] {
        assert!(certify.contains(text), "{text}: {certify}");
    }
    let backfill = flat(&bench.succeed(&["gallery", "backfill", "--help"]));
    for text in ["[default: no limit]", "[default: never]"] {
        assert!(backfill.contains(text), "{text}: {backfill}");
    }
}

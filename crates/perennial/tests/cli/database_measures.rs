//! `migrate advise` and `migrate certify`: measured on rows of a real PostgreSQL, whose URL is in `PERENNIAL_POSTGRES`, as on files.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::bench::{Bench, Ended};
use crate::encoders::{CLASSES, embedding, files};
use crate::migrations::database::{Database, database};

const ROWS: usize = 300;
const QUERIES: [&str; 6] = [
    "--old-queries",
    "old-queries.jsonl",
    "--new-queries",
    "new-queries.jsonl",
    "--resamples",
    "300",
];
const ROWS_OF: [&str; 8] = [
    "--table",
    "items",
    "--sample",
    "200",
    "--seed",
    "7",
    "--label-column",
    "category",
];
const FIT: [&str; 4] = ["--fit-from", "new-fit.jsonl", "--fit-to", "old-fit.jsonl"];

/// A table of the old encoder's gallery.
fn stored(database: &Database) {
    database
        .run("CREATE TABLE items (id text PRIMARY KEY, embedding vector(12), category integer)");
    for row in 0..ROWS {
        let vector = json!(embedding("old", 30, row));
        database.run(&format!(
            "INSERT INTO items VALUES ('30-{row}', '{vector}', {})",
            row % CLASSES
        ));
    }
}

fn migrate(bench: &Bench, database: &Database, words: &[&[&str]]) -> Ended {
    let mut command = bench.command(&[&["migrate"], words.concat().as_slice()].concat());
    command.env("PERENNIAL_DATABASE_URL", &database.url);
    Ended::from(command.output().unwrap())
}

fn document(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"))
}

/// All that was measured, without when and on which files.
fn figures(ended: &Ended) -> Value {
    let mut document = document(ended);
    for name in ["created", "sources", "sha256"] {
        document.as_object_mut().unwrap().remove(name);
    }
    document
}

#[test]
fn rows_of_a_database_give_the_figures_of_the_file_that_is_exported_from_it() {
    let Some(database) = database() else {
        return;
    };
    let bench = files();
    stored(&database);
    // One right item for some queries; the sample alone holds few of them.
    let mut judged = String::new();
    for row in (0..ROWS).step_by(3) {
        writeln!(judged, "20-{row} 0 30-{row} 1").unwrap();
    }
    bench.write("relevance.trec", &judged);
    let relevance = ["--relevance", "relevance.trec"];
    let exported = migrate(
        &bench,
        &database,
        &[
            &["export"],
            &ROWS_OF,
            &relevance,
            &["--out", "sample.jsonl", "--json"],
        ],
    );
    assert_eq!(exported.code, Some(0), "{exported:?}");
    let rows = document(&exported)["rows"].as_u64().unwrap();
    assert!((200..300).contains(&rows), "{rows}");
    // The new encoder's file holds more rows than are sampled; a file beside a file must not.
    let sampled = bench.read("sample.jsonl");
    let ids: Vec<String> = sampled
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].to_string())
        .collect();
    let new = bench.read("new-gallery.jsonl");
    let of_sample = new.lines().filter(|line| {
        let id = serde_json::from_str::<Value>(line).unwrap()["id"].to_string();
        ids.contains(&id)
    });
    bench.write(
        "new-sample.jsonl",
        &of_sample.collect::<Vec<_>>().join("\n"),
    );

    let options = |step: &'static str| match step {
        "certify" => vec!["--route", "dual", "--weight", "0.4", "--kind", "orthogonal"],
        _ => vec!["--items", "5000", "--items-per-second", "10"],
    };
    for step in ["certify", "advise"] {
        let common = [&QUERIES[..], &FIT, &relevance, &options(step), &["--json"]].concat();
        let of_files = bench.run(
            &[
                &[step, "--old-gallery", "sample.jsonl", "--seed", "7"][..],
                &["--new-gallery", "new-sample.jsonl"],
                &common,
            ]
            .concat(),
        );
        let of_rows = migrate(
            &bench,
            &database,
            &[
                &[step],
                &ROWS_OF,
                &["--new-gallery", "new-gallery.jsonl"],
                &common,
            ],
        );
        assert_eq!(of_rows.code, of_files.code, "{of_rows:?}");
        assert_eq!(figures(&of_rows), figures(&of_files), "{step}");
        assert_eq!(figures(&of_rows)["tasks"].as_array().unwrap().len(), 2);
        assert!(
            of_rows.stderr.contains("of 300 rows of public.items"),
            "{}",
            of_rows.stderr
        );
    }
    // Advice counts the cost of the whole table, not of the sample.
    let advice = migrate(
        &bench,
        &database,
        &[
            &["advise"],
            &ROWS_OF,
            &QUERIES,
            &FIT,
            &["--price-per-thousand", "2", "--new-gallery"],
            &["new-gallery.jsonl", "--json"],
        ],
    );
    assert!(
        document(&advice)["tasks"][0]["ways"]
            .as_array()
            .unwrap()
            .iter()
            .any(|way| way["cost"]["items_embedded"] == ROWS),
        "{advice:?}"
    );
    let source = &document(&advice)["sources"]["old_gallery"];
    assert_eq!(
        source["name"],
        "public.items.embedding: 200 of 300 rows, seed 7"
    );
}

#[test]
fn a_certificate_that_is_recorded_allows_mapped_copies() {
    let Some(database) = database() else {
        return;
    };
    let bench = files();
    stored(&database);
    let mapped = ["--mapped", "old-to-new"];
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
    let table = ["--table", "items"];
    let refused = migrate(&bench, &database, &[&["run"], &table, &mapped]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.stderr.contains("--record"), "{}", refused.stderr);

    let certify = [
        "certify",
        "--route",
        "mapped",
        "--bridge",
        "old-to-new",
        "--record",
    ];
    let certified = migrate(&bench, &database, &[&certify, &ROWS_OF, &QUERIES]);
    assert_eq!(certified.code, Some(0), "{certified:?}");
    assert!(
        certified.stderr.contains("migrate run --mapped"),
        "{}",
        certified.stderr
    );
    let plan = migrate(
        &bench,
        &database,
        &[&["plan"], &table, &mapped, &["--json"]],
    );
    assert_eq!(document(&plan)["way"], "mapped", "{plan:?}");
    // It does not measure the other task.
    let other = [&mapped[..], &["--task", "item-like"]].concat();
    let refused = migrate(&bench, &database, &[&["run"], &table, &other]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    let run = migrate(&bench, &database, &[&["run"], &table, &mapped, &["--json"]]);
    assert_eq!(document(&run)["written"], ROWS, "{run:?}");
}

#[test]
fn rows_without_a_new_embedding_are_refused_unless_allowed() {
    let Some(database) = database() else {
        return;
    };
    let bench = files();
    stored(&database);
    let all: Vec<String> = bench
        .read("new-gallery.jsonl")
        .lines()
        .map(str::to_owned)
        .collect();
    bench.write("most.jsonl", &all[..290].join("\n"));
    let everything = ["--table", "items", "--label-column", "category"];
    let certify = |more: &[&str]| {
        migrate(
            &bench,
            &database,
            &[
                &["certify", "--new-gallery", "most.jsonl", "--json"],
                &everything,
                &QUERIES,
                &FIT,
                more,
            ],
        )
    };
    let refused = |ended: &Ended, words: &[&str]| {
        assert_eq!(ended.code, Some(2), "{ended:?}");
        for word in words {
            assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
        }
    };
    refused(&certify(&[]), &["10 of 300", "--allow-missing"]);
    let allowed = certify(&["--allow-missing", "10"]);
    assert_eq!(document(&allowed)["gallery_items"], 290, "{allowed:?}");
    let labels: Vec<String> = (0..ROWS).map(|row| (row % CLASSES).to_string()).collect();
    bench.write("labels.txt", &labels.join("\n"));
    let unlabelled = migrate(
        &bench,
        &database,
        &[
            &[
                "certify",
                "--table",
                "items",
                "--query-labels",
                "labels.txt",
            ],
            &QUERIES,
        ],
    );
    refused(&unlabelled, &["--label-column"]);
}

/// The mean of a measure after the change, of a way or of a certificate's task.
fn measured<'a>(measures: &'a Value, measure: &str) -> &'a Value {
    let all = measures.as_array().unwrap();
    all.iter().find(|one| one["measure"] == measure).unwrap()
}

fn of_way<'a>(answer: &'a Value, way: &str) -> &'a Value {
    let ways = answer["evaluation"]["ways"].as_array().unwrap();
    ways.iter().find(|one| one["way"] == way).unwrap()
}

#[test]
fn the_database_answers_an_evaluation_set_as_its_certificate_says() {
    let Some(database) = database() else {
        return;
    };
    let bench = files();
    stored(&database);
    bench.succeed(&[
        "bridge",
        "fit",
        "--from",
        "new-fit.jsonl",
        "--to",
        "old-fit.jsonl",
        "--kind",
        "orthogonal",
        "--out",
        "new-to-old",
    ]);
    let bridge = ["--bridge", "new-to-old", "--weight", "0.4"];
    let all = ["--table", "items", "--label-column", "category"];
    let certified = migrate(
        &bench,
        &database,
        &[
            &["certify", "--route", "dual", "--new-gallery"],
            &["new-gallery.jsonl", "--json"],
            &all,
            &bridge,
            &QUERIES,
        ],
    );
    let certificate = document(&certified);
    let wanted = measured(&certificate["tasks"][0]["measures"], "recall@1").clone();

    // No write: there is no migration, and nothing but dual queries to measure.
    let evaluation = [&["verify", "--evaluation", "--json"][..], &all, &QUERIES].concat();
    let without = migrate(&bench, &database, &[&evaluation]);
    assert_eq!(without.code, Some(2), "{without:?}");
    let dual = migrate(&bench, &database, &[&evaluation, &bridge]);
    assert_eq!(dual.code, Some(0), "{dual:?}");
    let dual = document(&dual);
    assert_eq!(dual["evaluation"]["now"], "dual");
    assert_eq!(dual["evaluation"]["finding"], "compatible");
    let found = measured(&of_way(&dual, "dual")["measures"], "recall@1");
    // Every search of this table is exact, so the figures are those of the certificate, the intervals too.
    for name in ["old", "new", "margin", "intervals", "negative_flips"] {
        assert_eq!(found[name], wanted[name], "{name}");
    }
    let groups = of_way(&dual, "dual")["groups"].as_array().unwrap();
    assert_eq!(groups.len(), CLASSES);
    let queries: u64 = groups
        .iter()
        .map(|one| one["queries"].as_u64().unwrap())
        .sum();
    assert_eq!(queries, 300);

    // Side by side, and not complete: both columns count.
    let new: Vec<String> = bench
        .read("new-gallery.jsonl")
        .lines()
        .map(str::to_owned)
        .collect();
    bench.write("one.jsonl", &new[..200].join("\n"));
    bench.write("two.jsonl", &new[200..].join("\n"));
    let run = |file: &str| {
        let run = migrate(
            &bench,
            &database,
            &[&["run", "--table", "items", "--side-by-side", file]],
        );
        assert_eq!(run.code, Some(0), "{run:?}");
    };
    run("one.jsonl");
    let half = migrate(&bench, &database, &[&evaluation]);
    assert_eq!(half.code, Some(3), "rows are missing: {half:?}");
    let half = document(&half);
    assert_eq!(half["evaluation"]["now"], "merged");
    assert_eq!(half["missing"], Value::Null);
    assert_eq!(half["standing"]["missing"], 100);
    run("two.jsonl");
    let files_too = ["--side-by-side", "one.jsonl", "two.jsonl"];
    let whole = migrate(&bench, &database, &[&evaluation, &files_too]);
    assert_eq!(whole.code, Some(0), "{whole:?}");
    let whole = document(&whole);
    assert_eq!(whole["evaluation"]["now"], "new");
    assert_eq!(
        (&whole["compared"], &whole["different"]),
        (&json!(300), &json!(0))
    );
    let found = measured(&of_way(&whole, "new")["measures"], "recall@1");
    assert_eq!(found["new"], wanted["new_self_test"]);
    let between = measured(&of_way(&half, "merged")["measures"], "recall@1");
    assert!(between["new"].as_f64().unwrap() > wanted["old"].as_f64().unwrap());

    // An index that holds other vectors than it should is not certified.
    database.run("UPDATE items_new n SET embedding = (SELECT embedding FROM items_new o WHERE o.id <> n.id ORDER BY md5(o.id || n.id) LIMIT 1)");
    let damaged = migrate(&bench, &database, &[&evaluation]);
    assert_eq!(damaged.code, Some(3), "{damaged:?}");
    let damaged = document(&damaged);
    assert_eq!(damaged["evaluation"]["finding"], "incompatible");
    let problems = damaged["problems"].to_string();
    assert!(problems.contains("way new is not certified"), "{problems}");
}

#[test]
fn a_plan_says_what_is_expected() {
    let Some(database) = database() else {
        return;
    };
    let bench = files();
    stored(&database);
    let certify = |route: &str, file: &str| {
        migrate(
            &bench,
            &database,
            &[
                &["certify", "--route", route, "--out", file, "--new-gallery"],
                &["new-gallery.jsonl", "--kind", "orthogonal", "--record"],
                &["--table", "items", "--label-column", "category"],
                &QUERIES,
                &FIT,
            ],
        )
    };
    let certified = certify("mapped", "mapped.json");
    assert_eq!(certified.code, Some(0), "{certified:?}");
    let measure = measured(
        &bench.json("mapped.json")["tasks"][0]["measures"],
        "recall@1",
    )
    .clone();
    let name = certified
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("the bridge is ")?.split(' ').next())
        .unwrap();
    let cost = [
        "--items-per-second",
        "0.5",
        "--price-per-thousand",
        "2",
        "--price-per-hour",
        "6",
    ];
    let table = ["--table", "items", "--json"];
    let mapped = document(&migrate(
        &bench,
        &database,
        &[&["plan", "--mapped", name], &table, &cost],
    ));
    let expected = measured(&mapped["quality"], "recall@1");
    assert_eq!(expected["before"], measure["old"]);
    assert_eq!(expected["after"], measure["new"]);
    assert_eq!(expected["embedded_again"], measure["new_self_test"]);
    assert!(expected["margin"]["low"].as_f64() < measure["margin"].as_f64());
    assert_eq!(mapped["cost"]["items_embedded"], 0);
    let hours = mapped["seconds"].as_f64().unwrap() / 3600.0;
    assert!((mapped["cost"]["price"].as_f64().unwrap() - 6.0 * hours).abs() < 1e-9);

    let again = document(&migrate(
        &bench,
        &database,
        &[&["plan", "--measured", "mapped.json"], &table, &cost],
    ));
    assert_eq!(again["way"], "side by side");
    let expected = measured(&again["quality"], "recall@1");
    assert_eq!(expected["after"], measure["new_self_test"]);
    assert_eq!(expected["margin"], Value::Null);
    // 600 seconds of embedding at 6 an hour, and 300 embeddings at 2 a thousand.
    assert_eq!(again["cost"]["embedding_seconds"], 600.0);
    assert!(again["cost"]["price"].as_f64().unwrap() > 1.6 - 1e-9);
    let text = migrate(
        &bench,
        &database,
        &[&["plan", "--mapped", name, "--table", "items"], &cost],
    );
    assert!(
        text.stdout.contains("if everything were embedded again"),
        "{}",
        text.stdout
    );
}

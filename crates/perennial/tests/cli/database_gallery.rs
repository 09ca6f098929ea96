//! `serve --store`: the same service over a gallery in PostgreSQL, whose URL is in `PERENNIAL_POSTGRES`. Without it, the tests say so and pass.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::service::Service;

/// Three versions, the first of which is live, and no gallery.
fn versions() -> Bench {
    let bench = Bench::new();
    bench.succeed(&["train", "toy.toml", "--set", "training.epochs=1"]);
    bench.succeed(&["models", "alias", "live", "v0001"]);
    bench
}

/// The server, and a schema of this process's own for a test.
fn place(test: &str) -> Option<(String, String)> {
    let Ok(server) = std::env::var("PERENNIAL_POSTGRES") else {
        println!("skipped: PERENNIAL_POSTGRES names no server; start one with tests/postgres.sh");
        return None;
    };
    Some((server, format!("cli_{test}_{}", std::process::id())))
}

/// A service with its settings in a file, which holds the URL with its password.
fn start(bench: &Bench, (server, schema): &(String, String), arguments: &[&str]) -> Service {
    bench.write(
        "serve.toml",
        &format!("[store]\nurl = \"{server}\"\nschema = \"{schema}\"\nconnections = 3\n"),
    );
    Service::start_with(
        bench,
        &[&["--config", "serve.toml"], arguments].concat(),
        Stdio::inherit(),
    )
}

fn ids(answer: &Value) -> Vec<String> {
    let hits = answer["hits"].as_array().unwrap().iter();
    hits.map(|hit| hit["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn items_are_added_searched_promoted_over_and_backed_up() {
    let Some(place) = place("served") else { return };
    let bench = versions();
    let mut service = start(&bench, &place, &["--snapshots", "snapshots"]);
    let url = service.url().to_owned();
    let server = ["--server", url.as_str()];
    let gallery = |more: &[&str]| bench.answer(&[&["gallery"], more, &server[..]].concat());
    // Another service over the same tables, which finds out by itself what this one writes.
    let second = start(&bench, &place, &["--gallery", "second", "--read-only"]);
    let added = gallery(&["add", "--set", "generated:test"]);
    assert_eq!(
        (&added["inserted"], &added["model_version"]),
        (&json!(2000), &json!("v0001"))
    );
    assert!(!bench.path("gallery/gallery.redb").exists());
    let stats = gallery(&["stats"]);
    assert_eq!(stats["per_version"], json!({ "v0001": 2000 }));
    assert_eq!(stats["index"]["kind"], "exact");
    let search = json!({"id": "generated/7", "limit": 3, "exact": true});
    let (version, found) = service.ask("search", &search);
    assert_eq!(version, "v0001");
    assert_eq!(
        (ids(&found).len(), ids(&found)[0].as_str()),
        (3, "generated/7")
    );

    // A local command does not make a second gallery beside it.
    bench
        .run(&["gallery", "add", "--set", "generated:test"])
        .assert_wrong_usage(&["database", "--server", &url]);
    bench
        .run(&["gallery", "stats"])
        .assert_wrong_usage(&["database", "--server", &url]);

    // The rules are those of every gallery: no pair was measured.
    let refused = bench.run(&["models", "promote", "v0002"]);
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    bench.succeed(&[
        "evaluate",
        "--versions",
        "v0001",
        "v0002",
        "--queries",
        "generated:train",
        "--gallery",
        "generated:test",
    ]);
    let promoted = bench.run(&["models", "promote", "v0002", "--force"]);
    assert_eq!(promoted.code, Some(0), "{}", promoted.stderr);
    assert_eq!(service.get("info")["live"], "v0002");
    // The query is the item's own embedding, which the older version computed.
    let (version, found) = service.ask("search", &search);
    assert_eq!(version, "v0001");
    assert_eq!(ids(&found)[0], "generated/7");
    assert!(bench.path("gallery/probes").exists());

    let compacted = bench.run(&[&["gallery", "compact"], &server[..]].concat());
    assert_eq!(compacted.code, Some(1));
    assert!(compacted.stderr.contains("VACUUM"), "{}", compacted.stderr);
    let snapshot = gallery(&["snapshot"]);
    let file = format!("snapshots/{}", snapshot["name"].as_str().unwrap());
    assert_eq!(gallery(&["delete", "generated/7"])["deleted"], 1);

    let begun = Instant::now();
    let by_id = json!({"id": "generated/8", "limit": 3});
    while second.call("POST", "search", &by_id).0 != 200 {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it was not counted again"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(second.get("gallery/stats")["items"], 1999);
    let (status, refused) = second.call("POST", "gallery/compact", &json!({}));
    assert_eq!(
        (status, &refused["error"]["code"]),
        (403, &json!("read_only"))
    );
    drop(second);
    service.stop();

    // Without the service, nothing looks at its items, so nothing is decided and no other gallery is made.
    for arguments in [
        &["models", "promote", "v0001"][..],
        &["models", "promote", "v0001", "--no-gallery"],
        &["gallery", "add", "--set", "generated:test"],
    ] {
        bench
            .run(arguments)
            .assert_wrong_usage(&["database.toml", "--server"]);
    }
    let mut command = bench.command(&["gallery", "restore", &file]);
    command.env("PERENNIAL_STORE", &place.0);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--store-schema"));

    // Stopped and restored, into the database and into a folder.
    let (server, schema) = &place;
    let restore = |arguments: &[&str]| {
        let mut command = bench.command(
            &[
                &["gallery", "--json"],
                arguments,
                &["restore", &file, "--store-schema", schema],
            ]
            .concat(),
        );
        command.env("PERENNIAL_STORE", server);
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    restore(&[]);
    bench.succeed(&["gallery", "--gallery", "folder", "restore", &file]);
    assert_eq!(
        bench.answer(&["gallery", "--gallery", "folder", "stats"])["items"],
        2000
    );
    let service = start(&bench, &place, &[]);
    assert_eq!(service.get("gallery/stats")["items"], 2000);
    assert_eq!(
        service.ask("search", &search).1["hits"][0]["id"],
        "generated/7"
    );
}

#[test]
fn settings_that_cannot_work_are_named_and_no_password_is_shown() {
    let bench = Bench::new();
    let url = "postgres://ann:s3cret@127.0.0.1:1/shop";
    for arguments in [
        &["serve", "--store", url][..],
        &["serve", "--set", &format!("store.url=\"{url}\"")],
        &["gallery", "restore", "toy.toml", "--store", url],
    ] {
        let ended = bench.run(arguments);
        ended.assert_wrong_usage(&["store.url", "PGPASSWORD"]);
        assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
    }
    for (text, says) in [
        (
            format!("url = \"{url}\"\nconnections = 1"),
            "store.connections",
        ),
        (
            format!("url = \"{url}\"\ntimeout_seconds = 0.5"),
            "store.timeout_seconds",
        ),
        (format!("url = \"{url}\"\nshema = \"a\""), "schema"),
        (
            format!("url = \"{url}\"\n[index]\nexact = true"),
            "index.exact",
        ),
        ("url = \"mysql://h/d\"".to_owned(), "store.url"),
    ] {
        bench.write("serve.toml", &format!("[store]\n{text}\n"));
        let ended = bench.run(&["serve", "--config", "serve.toml"]);
        assert!(
            ended.stderr.contains(says) && !ended.stderr.contains("s3cret"),
            "{text}: {}",
            ended.stderr
        );
    }
    bench.write("serve.toml", &format!("[store]\nurl = \"{url}\"\n"));
    let printed = bench.succeed(&["serve", "--config", "serve.toml", "--print-config"]);
    assert!(
        printed.contains("url = \"postgres://127.0.0.1:1/shop\""),
        "{printed}"
    );
    assert!(
        !printed.contains("s3cret") && !printed.contains("ann"),
        "{printed}"
    );
    let mut command = bench.command(&["serve", "--help"]);
    let help = command.env("PERENNIAL_STORE", url).output().unwrap();
    assert!(!String::from_utf8_lossy(&help.stdout).contains("s3cret"));
}

#[test]
fn a_schema_without_a_database_does_not_restore_into_the_folder() {
    let bench = Bench::new();
    bench.write("all.snapshot", "");
    let ended = bench.run(&[
        "gallery",
        "restore",
        "all.snapshot",
        "--store-schema",
        "shop",
    ]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("PERENNIAL_STORE"), "{}", ended.stderr);
}

//! `serve --store qdrant://…`: the same service over a gallery in Qdrant, for which a server of the tests' own stands.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::gallery_routes::certify;
use crate::qdrant_double::Double;
use crate::service::{Service, base64};

const KEY: &str = "s3cret-key";

/// A service over the gallery `shop`, which wants a key.
fn start(bench: &Bench, double: &Double, arguments: &[&str]) -> Service {
    let url = format!("qdrant://127.0.0.1:{}/shop", double.port);
    let common = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--json",
        "--quiet",
        "--store",
        &url,
    ];
    let mut command = bench.command(&[&common, arguments].concat());
    command.env("QDRANT_API_KEY", KEY).stderr(Stdio::inherit());
    Service::spawn(command)
}

fn spaces(answer: &Value) -> Vec<&str> {
    let hits = answer["hits"].as_array().unwrap().iter();
    let mut spaces: Vec<&str> = hits.map(|hit| hit["space"].as_str().unwrap()).collect();
    spaces.sort_unstable();
    spaces.dedup();
    spaces
}

#[test]
fn items_are_added_searched_promoted_over_searched_mixed_and_backed_up() {
    let double = Double::start();
    double.state().key = Some(KEY.to_owned());
    let bench = Bench::new();
    bench.succeed(&["train", "toy.toml", "--set", "training.epochs=1"]);
    bench.succeed(&["models", "alias", "live", "v0001"]);
    // Any margin will do: what is tested is the way, not how good so small a network is.
    std::fs::create_dir(bench.path("gallery")).unwrap();
    bench.write("gallery/policy.toml", "min_margin = -1.0\n");
    let mut service = start(&bench, &double, &["--snapshots", "snapshots"]);
    let url = service.url().to_owned();
    let server = ["--server", url.as_str()];
    let gallery = |more: &[&str]| bench.answer(&[&["gallery"], more, &server[..]].concat());
    // Another service over the same collections, which finds out by itself what this one writes.
    let second = start(&bench, &double, &["--gallery", "second", "--read-only"]);

    let added = gallery(&["add", "--set", "generated:test"]);
    assert_eq!(
        (&added["inserted"], &added["model_version"]),
        (&json!(2000), &json!("v0001"))
    );
    assert!(!bench.path("gallery/gallery.redb").exists());
    let stats = gallery(&["stats"]);
    assert_eq!(stats["per_version"], json!({ "v0001": 2000 }));
    assert_eq!(stats["index"]["kind"], "exact");
    let by_id = json!({"id": "generated/7", "limit": 3, "exact": true});
    let (version, found) = service.ask("search", &by_id);
    assert_eq!(
        (&*version, &found["hits"][0]["id"]),
        ("v0001", &json!("generated/7"))
    );

    // The rules are those of every gallery: without a certificate the new version does not become live.
    let promote = || bench.run(&["models", "promote", "v0002"]);
    let refused = promote();
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    certify(&bench, "dual", "raw");
    let promoted = promote();
    assert_eq!(
        promoted.code,
        Some(0),
        "{}{}",
        promoted.stdout,
        promoted.stderr
    );
    assert_eq!(service.get("info")["live"], "v0002");
    let added = gallery(&["add", "--set", "generated:train", "--prefix", "new"]);
    assert_eq!(added["model_version"], "v0002");

    // A picture finds items of both spaces, in one ranking.
    let png = perennial_encode::encode_png(&[200; 3 * 40 * 50], [3, 40, 50]).unwrap();
    let picture = json!({"image": base64(&png), "limit": 1000});
    let (version, found) = service.ask("search", &picture);
    assert_eq!(version, "v0002");
    assert_eq!(spaces(&found), ["v0001", "v0002"]);
    assert_eq!(found["not_searched"], 0, "{}", found["parts"]);

    // An item that is embedded again moves from one space to the other.
    let stats = gallery(&["stats"]);
    let items = stats["items"].as_u64().unwrap();
    let moved = json!({"id": "generated/7", "image": base64(&png)});
    let (status, done) = service.call("PUT", "gallery/items", &moved);
    assert_eq!((status, &done["replaced"]), (200, &json!(1)), "{done}");
    let stats = gallery(&["stats"]);
    assert_eq!(
        (&stats["items"], &stats["per_version"]["v0001"]),
        (&json!(items), &json!(1999))
    );

    let snapshot = gallery(&["snapshot"]);
    let file = format!("snapshots/{}", snapshot["name"].as_str().unwrap());
    assert_eq!(gallery(&["delete", "generated/8"])["deleted"], 1);
    let begun = Instant::now();
    while second.get("gallery/stats")["items"] != items - 1 {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it was not counted again"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    drop(second);
    service.stop();

    // Stopped and restored, into Qdrant and into a folder.
    let store = format!("qdrant://127.0.0.1:{}/shop", double.port);
    let mut command = bench.command(&["gallery", "--json", "restore", &file, "--store", &store]);
    let output = command.env("QDRANT_API_KEY", KEY).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    bench.succeed(&["gallery", "--gallery", "folder", "restore", &file]);
    assert_eq!(
        bench.answer(&["gallery", "--gallery", "folder", "stats"])["items"],
        items
    );
    let service = start(&bench, &double, &[]);
    assert_eq!(service.get("gallery/stats")["items"], items);
    let by_id = json!({"id": "generated/8", "limit": 3, "exact": true});
    let (_, found) = service.ask("search", &by_id);
    assert_eq!(found["hits"][0]["id"], "generated/8");
}

#[test]
fn settings_that_cannot_work_are_named_and_no_key_is_shown() {
    let bench = Bench::new();
    bench.write("all.snapshot", "");
    for (arguments, says) in [
        (
            &["serve", "--store", "qdrant://:s3cret@h/items"][..],
            "QDRANT_API_KEY",
        ),
        (
            &[
                "gallery",
                "restore",
                "all.snapshot",
                "--store",
                "qdrant://h/items?api_key=s3cret",
            ],
            "QDRANT_API_KEY",
        ),
        (
            &[
                "serve",
                "--store",
                "qdrant://h/items",
                "--set",
                "store.schema=\"shop\"",
            ],
            "store.schema",
        ),
        (
            &[
                "serve",
                "--store",
                "qdrant://h/items",
                "--set",
                "store.replicas=5000",
            ],
            "store.replicas",
        ),
        (
            &[
                "gallery",
                "restore",
                "all.snapshot",
                "--store",
                "qdrant://h/items",
                "--store-schema",
                "shop",
            ],
            "store.schema",
        ),
    ] {
        let ended = bench.run(arguments);
        ended.assert_wrong_usage(&["store", says]);
        assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
    }
    let printed = bench.succeed(&["serve", "--store", "qdrants://h:7/shop", "--print-config"]);
    assert!(
        printed.contains("url = \"qdrants://h:7/shop\""),
        "{printed}"
    );

    // A server that refuses the key.
    let double = Double::start();
    double.state().key = Some(KEY.to_owned());
    bench.succeed(&["train", "toy.toml", "--set", "training.epochs=1"]);
    bench.succeed(&["models", "alias", "live", "v0001"]);
    let url = format!("qdrant://127.0.0.1:{}/shop", double.port);
    let mut command = bench.command(&["serve", "--listen", "127.0.0.1:0", "--store", &url]);
    let output = command
        .env("QDRANT_API_KEY", "other-s3cret")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && stderr.contains("refused the key"),
        "{stderr}"
    );
    assert!(!stderr.contains("s3cret"), "{stderr}");
}

//! An embedding service as the encoder of a version: imported, embedded with, certified, promoted in a running service, and rolled back from.

mod letters;

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

pub use self::letters::Endpoint;
use self::letters::embedding;
use crate::bench::Bench;
use crate::onnx::text_encoder;
use crate::service::Service;

const KEY: &str = "sk-not-to-be-seen";
const DIM: usize = 5;

/// Imports it under the name that comes next.
pub fn import(bench: &Bench, endpoint: &Endpoint, more: &[&str]) -> Value {
    let url = endpoint.url();
    let import = [
        "models",
        "import",
        "--endpoint",
        &url,
        "--model",
        "letters",
        "--endpoint-key",
        "file:key.txt",
        "--retries",
        "0",
    ];
    bench.write("key.txt", KEY);
    bench.answer(&[&import[..], more].concat())
}

/// Texts of six classes, no two of which have the same words: the tokenizer of the local version knows few others.
fn text(number: usize) -> String {
    let classes = ["red rose", "white rose", "oak", "winter", "fern", "red oak"];
    let mut words = vec![classes[number % 6]];
    let mut rest = number;
    for word in ["white", "of", "a", "the"] {
        words.extend([word; 3].iter().take(rest % 4));
        rest /= 4;
    }
    words.join(" ")
}

/// A local version of texts (v0001, live) and the service (v0002), with texts of six classes.
fn bench(endpoint: &Endpoint, more: &[&str]) -> Bench {
    let bench = Bench::new();
    text_encoder(&bench, "encoder");
    bench.succeed(&["models", "import", "encoder", "--alias", "live"]);
    let imported = import(&bench, endpoint, more);
    assert_eq!(imported["version"], "v0002");
    for (name, first) in [("texts", 0), ("fit", 150)] {
        let mut table = "key\tbody\n".to_owned();
        for row in 0..60 {
            let number = first + row;
            table.push_str(&format!("{number}\t{}\n", text(number)));
        }
        bench.write(&format!("{name}.tsv"), &table);
    }
    let labels: Vec<String> = (0..60).map(|row| (row % 6).to_string()).collect();
    bench.write("labels.txt", &labels.join("\n"));
    bench
}

const COLUMNS: [&str; 4] = ["--text-column", "body", "--id-column", "key"];

fn embed(bench: &Bench, version: &str, table: &str, out: &str) {
    let table = ["embed", version, "--table", table, "--out", out];
    bench.succeed(&[&table[..], &COLUMNS].concat());
}

/// Queries of one version for items of the other, by a dual route. How good it is is not what is tested.
fn certify(bench: &Bench, query: &str, gallery: &str) {
    for version in [query, gallery] {
        for set in ["texts", "fit"] {
            let (table, out) = (format!("{set}.tsv"), format!("{version}-{set}.jsonl"));
            embed(bench, version, &table, &out);
        }
    }
    record(bench, query, gallery);
}

/// The same from files that are there.
fn record(bench: &Bench, query: &str, gallery: &str) {
    let file = |version: &str, set: &str| format!("{version}-{set}.jsonl");
    let ended = bench.run(&[
        "certify",
        "--record",
        "--route",
        "dual",
        "--kind",
        "ridge",
        "--leave-one-out",
        "--query-labels",
        "labels.txt",
        "--gallery-labels",
        "labels.txt",
        "--old-space",
        gallery,
        "--new-space",
        query,
        "--old-queries",
        &file(gallery, "texts"),
        "--old-gallery",
        &file(gallery, "texts"),
        "--new-queries",
        &file(query, "texts"),
        "--fit-from",
        &file(query, "fit"),
        "--fit-to",
        &file(gallery, "fit"),
    ]);
    assert!(ended.stderr.contains("recorded as"), "{}", ended.stderr);
}

#[test]
fn a_service_becomes_a_version_that_is_known_by_what_it_answers() {
    let endpoint = Endpoint::start(DIM);
    let bench = Bench::new();
    let imported = import(&bench, &endpoint, &["--query-prefix", "query: "]);
    assert_eq!(
        [&imported["kind"], &imported["dim"], &imported["accepts"]],
        [&json!("endpoint"), &json!(DIM), &json!(["text"])]
    );
    assert_eq!(imported["files"][0]["name"], "canaries.safetensors");
    let keys = endpoint.state.keys.lock().unwrap().clone();
    assert!(keys.iter().all(|key| *key == format!("Bearer {KEY}")));
    let model = bench.read("registry/v0001/model.toml");
    assert!(model.contains("key = \"file:/"), "{model}");
    assert!(!model.contains(KEY), "{model}");
    let list = bench.succeed(&["models", "list"]);
    assert!(list.contains("endpoint"), "{list}");

    bench.write("texts.csv", "text\noak\nred rose\n");
    let embed = |kind: &str| {
        let arguments = ["embed", "v0001", "--table", "texts.csv", "--as", kind];
        bench.succeed(&[&arguments[..], &["--out", "out.jsonl"]].concat());
        let set = perennial_formats::read(&bench.path("out.jsonl")).unwrap();
        std::fs::remove_file(bench.path("out.jsonl")).unwrap();
        set.row(0).to_vec()
    };
    for (kind, text) in [("document", "oak"), ("query", "query: oak")] {
        let expected = embedding(text, DIM, 0.0);
        let norm = expected
            .iter()
            .map(|value| value * value)
            .sum::<f64>()
            .sqrt();
        for (found, expected) in embed(kind).iter().zip(expected) {
            assert!((f64::from(*found) - expected / norm).abs() < 1e-6, "{kind}");
        }
    }

    // Another address of the same service is the same version.
    let other = Endpoint::start(DIM);
    let moved = model.replace(&endpoint.url(), &other.url());
    bench.write("registry/v0001/model.toml", &moved);
    embed("document");
    assert!(other.state.requests.load(Ordering::SeqCst) > 0);
    // Another model at the same address is not.
    other.state.drifted.store(true, Ordering::SeqCst);
    let arguments = ["embed", "v0001", "--table", "texts.csv", "--out", "x.npy"];
    let ended = bench.run(&arguments);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    for part in ["canary 0", "another one now", &other.url()] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
    // Nor one that is gone, which is named with its address and without its key.
    other.state.gone.store(true, Ordering::SeqCst);
    let ended = bench.run(&arguments);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains(&other.url()), "{}", ended.stderr);
    assert!(!ended.stderr.contains(KEY), "{}", ended.stderr);
    let ended = bench.run(&["models", "promote", "v0001", "--no-gallery"]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stdout.contains("FAILED  load"), "{}", ended.stdout);
    bench
        .run(&["models", "export", "v0001", "--onnx", "x.onnx"])
        .assert_wrong_usage(&["embedding service"]);
}

#[test]
fn bridges_and_certificates_of_a_registered_space_hold_for_a_version_of_it() {
    let endpoint = Endpoint::start(DIM);
    let bench = bench(&endpoint, &[]);
    // The space was registered before, and its vectors come from elsewhere.
    let texts = ["one", "two and more", "three"];
    bench.write("canaries.txt", &texts.join("\n"));
    let vectors = |texts: &mut dyn Iterator<Item = (String, String)>| {
        let lines = texts.map(|(id, text)| {
            json!({"id": id, "embedding": embedding(&text, DIM, 0.0)}).to_string() + "\n"
        });
        lines.collect::<String>()
    };
    let canaries = vectors(
        &mut texts
            .iter()
            .map(|text| ((*text).to_owned(), (*text).to_owned())),
    );
    bench.write("canaries.jsonl", &canaries);
    for (space, modality) in [("letters", "text"), ("pictures", "image")] {
        let add = ["spaces", "add", space, "--modality", modality];
        bench.succeed(&[&add[..], &["--canaries", "canaries.jsonl"]].concat());
    }
    bench.succeed(&["spaces", "add", "bare", "--dim", "5"]);
    for set in ["texts", "fit"] {
        embed(
            &bench,
            "v0001",
            &format!("{set}.tsv"),
            &format!("v0001-{set}.jsonl"),
        );
        let table = bench.read(&format!("{set}.tsv"));
        let mut rows = table.lines().skip(1).map(|line| {
            let (id, text) = line.split_once('\t').unwrap();
            (id.to_owned(), text.to_owned())
        });
        bench.write(&format!("letters-{set}.jsonl"), &vectors(&mut rows));
    }
    bench.succeed(&[&["gallery", "add", "--table", "texts.tsv"][..], &COLUMNS].concat());
    bench.write("gallery/policy.toml", "min_margin = -1.0\n");
    record(&bench, "letters", "v0001");
    // Its own space has no certificate.
    let promote = |version: &str| bench.run(&["models", "promote", version]);
    assert_eq!(promote("v0002").code, Some(3));
    let of_space = ["--space", "letters", "--canary-inputs", "canaries.txt"];
    let imported = import(&bench, &endpoint, &of_space);
    assert_eq!(
        [&imported["version"], &imported["space"]],
        [&json!("v0003"), &json!("letters")]
    );
    let promoted = promote("v0003");
    assert_eq!(promoted.code, Some(0), "{}", promoted.stdout);
    assert!(
        promoted.stdout.contains("60 items by route dual"),
        "{}",
        promoted.stdout
    );

    // Another service, other inputs and a space without canaries are no such version.
    let other = Endpoint::start(DIM);
    other.state.drifted.store(true, Ordering::SeqCst);
    bench.write("two.txt", "one\ntwo");
    let url = |endpoint: &Endpoint| endpoint.url();
    for (endpoint, space, inputs, part) in [
        (
            &other,
            "letters",
            "canaries.txt",
            "does not give the embeddings",
        ),
        (&endpoint, "letters", "two.txt", "2 lines, but 3"),
        (&endpoint, "bare", "canaries.txt", "without canaries"),
        (&endpoint, "pictures", "canaries.txt", "embeds no texts"),
        (&endpoint, "nobody", "canaries.txt", "no space"),
    ] {
        let import = [
            "models",
            "import",
            "--endpoint",
            &url(endpoint),
            "--model",
            "m",
        ];
        let of_space = ["--space", space, "--canary-inputs", inputs];
        let ended = bench.run(&[&import[..], &of_space].concat());
        assert_ne!(ended.code, Some(0), "{part}");
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    assert!(!bench.path("registry/v0004").exists());
}

#[test]
fn a_start_that_waits_for_a_service_can_be_stopped() {
    let endpoint = Endpoint::start(DIM);
    let bench = Bench::new();
    import(&bench, &endpoint, &["--alias", "live"]);
    endpoint.state.hangs.store(true, Ordering::SeqCst);
    let before = endpoint.state.requests.load(Ordering::SeqCst);
    let serve = ["serve", "--listen", "127.0.0.1:0", "--json", "--quiet"];
    let mut service = bench.command(&serve).spawn().unwrap();
    while endpoint.state.requests.load(Ordering::SeqCst) == before {
        assert!(service.try_wait().unwrap().is_none(), "it ended");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let stopped = std::process::Command::new("kill")
        .args(["-TERM", &service.id().to_string()])
        .status();
    assert!(stopped.unwrap().success());
    // Without an answer, the start would have failed.
    assert_eq!(service.wait().unwrap().code(), Some(0));
}

#[test]
fn no_layer_is_trained_behind_a_service() {
    let endpoint = Endpoint::start(DIM);
    let bench = bench(&endpoint, &[]);
    embed(&bench, "v0002", "fit.tsv", "features.jsonl");
    let fit = ["fit-head", "features.jsonl", "--labels", "labels.txt"];
    let fit = [&fit[..], &["--space", "v0002"]].concat();
    let ended = bench.run(&[&fit[..], &["--vertices", "8"]].concat());
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let says = "v0002 cannot be used here: it is an embedding service";
    assert!(ended.stderr.contains(says), "{}", ended.stderr);
    assert!(!ended.stderr.contains("epoch"), "{}", ended.stderr);
    let out = ["--vertices", "8", "--out", "head"];
    bench.succeed(&[&fit[..], &out].concat());
}

#[test]
fn what_cannot_be_imported_publishes_nothing() {
    let bench = Bench::new();
    let endpoint = Endpoint::start(DIM);
    let url = endpoint.url();
    let import =
        |more: &[&str]| bench.run(&[&["models", "import", "--retries", "0"][..], more].concat());
    for (more, part) in [
        (&["--endpoint", &url][..], "--model"),
        (
            &["--endpoint", &url, "--model", "m", "--max-tokens", "9"],
            "cannot be used with",
        ),
        (&["model.onnx", "--api", "tei"], "cannot be used with"),
        (&["--timeout", "3"], "--endpoint"),
        (&["--endpoint", "ftp://x", "--model", "m"], "http://"),
        (
            &["--endpoint", &url, "--model", "m", "--tolerance", "2"],
            "tolerance",
        ),
        (
            &["--endpoint", &url, "--model", "m", "--endpoint-key", KEY],
            "env:NAME",
        ),
        (
            &[
                "--endpoint",
                &url,
                "--model",
                "m",
                "--endpoint-key",
                "env:NO_SUCH_KEY",
            ],
            "NO_SUCH_KEY is not set",
        ),
        (
            &["--endpoint", &url, "--model", "m", "--dimensions", "4"],
            "5 dimensions",
        ),
        (
            &["--endpoint", "http://127.0.0.1:1/v1", "--model", "m"],
            "http://127.0.0.1:1/v1",
        ),
    ] {
        let ended = import(more);
        assert_ne!(ended.code, Some(0), "{more:?}");
        assert!(ended.stderr.contains(part), "{more:?}: {}", ended.stderr);
        assert!(!ended.stderr.contains(KEY), "{}", ended.stderr);
    }
    assert!(!bench.path("registry/v0001").exists());
    // The trial leaves nothing behind.
    let left = bench.path("registry").read_dir();
    let names = left
        .into_iter()
        .flatten()
        .map(|one| one.unwrap().file_name());
    let trials = names.filter(|name| name.to_string_lossy().starts_with(".trial"));
    assert_eq!(trials.count(), 0);
}

#[test]
fn a_service_takes_over_from_a_local_version_and_gives_back() {
    let endpoint = Endpoint::start(DIM);
    let bench = bench(&endpoint, &["--inputs-per-request", "7"]);
    let add = [&["gallery", "add", "--table", "texts.tsv"][..], &COLUMNS].concat();
    bench.succeed(&add);
    bench.write("gallery/policy.toml", "min_margin = -1.0\n");
    certify(&bench, "v0002", "v0001");
    certify(&bench, "v0001", "v0002");

    let service = Service::start_with(&bench, &[], std::process::Stdio::null());
    let live = json!({"version": "v0002"});
    let (status, moved) = service.call("PUT", "aliases/live", &live);
    assert_eq!(status, 200, "{moved}");
    let text = "a birch in spring";
    let item = json!({"id": "new", "text": text, "payload": {"text": text}});
    let (status, stored) = service.call("PUT", "gallery/items", &item);
    assert_eq!(status, 200, "{stored}");
    let query = json!({"text": text, "limit": 61});
    let (status, found) = service.call("POST", "search", &query);
    assert_eq!(status, 200, "{found}");
    assert_eq!(found["hits"].as_array().unwrap().len(), 61, "{found}");
    let routes = |found: &Value| {
        let parts = found["parts"].as_array().unwrap().iter();
        let mut routes: Vec<String> = parts.map(|part| part["route"].to_string()).collect();
        routes.sort();
        routes
    };
    assert_eq!(routes(&found), ["\"dual\"", "\"own\""], "{found}");

    // The service that embeds goes away: an error that names it, and back at once.
    endpoint.state.gone.store(true, Ordering::SeqCst);
    let (status, failed) = service.call("POST", "search", &query);
    assert_eq!(status, 502, "{failed}");
    let address = endpoint.address.to_string();
    assert!(failed.to_string().contains(&address), "{failed}");
    assert!(!failed.to_string().contains(KEY), "{failed}");
    let (status, back) = service.call("POST", "aliases/live:rollback", &json!({}));
    assert_eq!((status, &back["version"]), (200, &json!("v0001")), "{back}");
    // It comes back, and what is left of its items is embedded again by the local version.
    endpoint.state.gone.store(false, Ordering::SeqCst);
    let (status, found) = service.call("POST", "search", &query);
    assert_eq!(status, 200, "{found}");
    assert_eq!(routes(&found), ["\"dual\"", "\"own\""], "{found}");
    let server = service.url().trim_end_matches('/');
    let done = bench.answer(&[
        "gallery",
        "backfill",
        "--originals",
        "payload:text",
        "--server",
        server,
    ]);
    assert_eq!(
        (&done["left"], &done["failed"]),
        (&json!(0), &json!({})),
        "{done}"
    );
}

#[test]
fn a_backfill_by_a_service_that_goes_away_fails_no_item() {
    let endpoint = Endpoint::start(DIM);
    let bench = bench(&endpoint, &[]);
    bench.succeed(&[&["gallery", "add", "--table", "texts.tsv"][..], &COLUMNS].concat());
    bench.write("gallery/policy.toml", "min_margin = -1.0\n");
    certify(&bench, "v0002", "v0001");
    bench.succeed(&["models", "promote", "v0002"]);
    let backfill = ["gallery", "backfill", "--originals", "payload:text"];
    let half = bench.answer(&[&backfill[..], &["--limit", "30"]].concat());
    assert_eq!(
        (&half["done"], &half["failed"]),
        (&json!(30), &json!({})),
        "{half}"
    );
    endpoint.state.gone.store(true, Ordering::SeqCst);
    let ended = bench.run(&backfill);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    endpoint.state.gone.store(false, Ordering::SeqCst);
    // It refuses one of many, and is gone before it is asked for each of them.
    *endpoint.state.refuses.lock().unwrap() = Some("fern");
    let ended = bench.run(&backfill);
    assert!(endpoint.state.gone.load(Ordering::SeqCst));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    *endpoint.state.refuses.lock().unwrap() = None;
    endpoint.state.gone.store(false, Ordering::SeqCst);
    let rest = bench.answer(&backfill);
    assert_eq!(
        (&rest["left"], &rest["failed"]),
        (&json!(0), &json!({})),
        "{rest}"
    );
}

//! Texts are embedded again: from the items, from files, from clients; and what the live version does not embed is left alone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use perennial_core::sha256_hex;
use perennial_gallery::{Item, VectorStore};
use perennial_serve::Downloads;
use perennial_upgrade::backfill::{Answer, Download, Failure, FailureReason};
use perennial_upgrade::store_space;
use serde_json::{Value, json};

use crate::encoder::{expected, expected_of_text, outside_draft, png, publish_outside};
use crate::harness::{Running, Setup, base64, image};
use crate::limits::wait_until;

const RED: [u8; 3] = [255, 0, 0];
/// The versions: of pictures, of texts, of texts again, of both.
const PICTURES: &str = "v0001";
const OLD: &str = "v0002";
const TEXTS: &str = "v0003";
const BOTH: &str = "v0004";
const OLD_ANGLE: f32 = 0.3;
const ANGLE: f32 = 0.6;

/// The four versions with one of them live, and everything certified.
fn setup(live: &str) -> Setup {
    let setup = Setup::new(&["0"]);
    for (pictures, angle) in [(false, OLD_ANGLE), (false, ANGLE), (true, ANGLE)] {
        publish_outside(
            &setup.registry,
            outside_draft(3, pictures),
            &angle.to_string(),
        );
    }
    setup.registry.set_alias("live", live).unwrap();
    for version in [PICTURES, OLD, TEXTS, BOTH] {
        let space = store_space(&setup.registry.get(version).unwrap()).unwrap();
        setup.store.create_space(&space).unwrap();
        for gallery in [PICTURES, OLD, TEXTS, BOTH] {
            setup.pairs.allow(version, gallery);
        }
    }
    std::fs::create_dir_all(folder(&setup)).unwrap();
    setup
}

fn folder(setup: &Setup) -> PathBuf {
    setup.folder.path().join("originals")
}

fn add(setup: &Setup, id: u64, version: &str, payload: Value) {
    let item = Item {
        id: id.into(),
        embedding: expected([10, 20, 30], 0.0).to_vec(),
        model_version: version.to_owned(),
        label: None,
        payload: payload.as_object().unwrap().clone(),
    };
    setup.store.upsert(vec![item]).unwrap();
}

/// As `gallery add --table` stores a row.
fn held(text: &str) -> Value {
    json!({"set": "table:rows.csv", "text": text})
}

fn file(setup: &Setup, name: &str, content: impl AsRef<[u8]>) {
    std::fs::write(folder(setup).join(name), content).unwrap();
}

fn run(service: &Running, originals: Value) -> Value {
    let body = json!({ "originals": originals });
    service.call("POST", "/backfill", &body).expect(200);
    let status = || service.get("/backfill").expect(200);
    wait_until(|| status()["state"] != "running");
    status()
}

fn in_folder(service: &Running) -> Value {
    run(service, json!({"folder": folder(&service.setup)}))
}

fn assert_text(service: &Running, id: u64, text: &str) {
    let item = service
        .get(&format!("/gallery/items/{id}?embedding=true"))
        .expect(200);
    let row = item["embedding"].as_array().unwrap().iter();
    for (found, wanted) in row.zip(expected_of_text(text, ANGLE)) {
        let difference = found.as_f64().unwrap() - f64::from(wanted);
        assert!(difference.abs() < 1e-4, "{id}: {item}");
    }
}

fn reasons(status: &Value) -> BTreeMap<u64, String> {
    let failures = status["failures"].as_array().unwrap().iter();
    failures
        .map(|one| {
            (
                one["id"].as_u64().unwrap(),
                one["reason"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

#[test]
fn texts_come_from_the_items_and_from_files() {
    let setup = setup(TEXTS);
    add(&setup, 1, OLD, held("rrg"));
    let mut cut = held("gg…");
    cut["text_cut"] = json!(true);
    cut["file"] = json!("long.txt");
    add(&setup, 2, OLD, cut);
    file(&setup, "long.txt", "ggbbbb");
    let marked = "\u{feff}rb";
    add(
        &setup,
        3,
        OLD,
        json!({"file": "marked.txt", "sha256": sha256_hex(marked.as_bytes())}),
    );
    file(&setup, "marked.txt", marked);
    for (id, payload) in [
        (4, json!({"file": "long.txt", "sha256": "00"})),
        (5, json!({"file": "bytes.txt"})),
        (6, json!({"file": "gone.txt"})),
        (
            7,
            json!({"text": "not by gallery add, so nobody knows whether it is whole"}),
        ),
    ] {
        add(&setup, id, OLD, payload);
    }
    file(&setup, "bytes.txt", b"\xff\xfe\x00");
    let service = setup.start();
    let done = in_folder(&service);
    assert_eq!(
        (&done["done"], &done["left"]),
        (&json!(3), &json!(0)),
        "{done}"
    );
    let failed = [
        (4, "other_original"),
        (5, "undecodable"),
        (6, "gone"),
        (7, "no_source"),
    ];
    let failed = failed.map(|(id, reason)| (id, reason.to_owned()));
    assert_eq!(reasons(&done), BTreeMap::from(failed));
    assert_text(&service, 1, "rrg");
    assert_text(&service, 2, "ggbbbb");
    assert_text(&service, 3, "rb");
}

#[test]
fn any_key_of_the_payload_can_hold_the_texts() {
    let setup = setup(TEXTS);
    add(
        &setup,
        1,
        OLD,
        json!({"body": "rb", "sha256": "of something else"}),
    );
    add(&setup, 2, OLD, json!({"body": 7}));
    let service = setup.start();
    let done = run(&service, json!({"payload": "body"}));
    assert_eq!(
        (&done["originals"], &done["done"]),
        (&json!("payload"), &json!(1))
    );
    assert_eq!(done["failed"], json!({"no_source": 1}));
    assert_text(&service, 1, "rb");
    let refused = service.call("POST", "/backfill", &json!({"originals": {"payload": ""}}));
    let message = refused.expect(422)["error"]["message"].to_string();
    assert!(message.contains("originals.payload"), "{message}");
}

/// Files by address, and which addresses were asked for.
#[derive(Default)]
struct Shelf {
    files: BTreeMap<String, Vec<u8>>,
    asked: Mutex<Vec<String>>,
}

impl Download for Shelf {
    fn get(&self, url: &str, _: u64) -> Result<Answer, Failure> {
        self.asked.lock().unwrap().push(url.to_owned());
        let gone = || Failure::new(FailureReason::Gone, "not there");
        let answer = |file: &Vec<u8>| Answer {
            file: file.clone(),
            // As of a page that a server sends instead.
            content_type: file.starts_with(b"Sorry").then(|| "text/html".to_owned()),
        };
        self.files.get(url).map(answer).ok_or_else(gone)
    }
}

fn with_shelf(setup: &mut Setup, files: &[(u64, &[u8])]) -> Arc<Shelf> {
    let files = files
        .iter()
        .map(|(id, file)| (format!("https://host/{id}"), file.to_vec()));
    let shelf = Arc::new(Shelf {
        files: files.collect(),
        asked: Mutex::default(),
    });
    setup.config.downloads = Downloads::with(shelf.clone());
    shelf
}

/// What the metrics say of a backfill that has left nothing but failures.
fn assert_counted(service: &Running, failed: u64) {
    let metrics = service.get("/metrics");
    let metrics = String::from_utf8_lossy(&metrics.body);
    for (state, items) in [("failed", failed), ("left", 0)] {
        let line = format!("perennial_backfill_items{{state=\"{state}\"}} {items}\n");
        assert!(metrics.contains(&line), "{metrics}");
    }
}

#[test]
fn what_the_live_version_does_not_embed_is_counted_and_not_fetched() {
    let mut setup = setup(TEXTS);
    // More than the failures after which a source is taken to be the wrong one.
    (100..300).for_each(|id| add(&setup, id, PICTURES, json!({"file": "a.png"})));
    add(&setup, 1, OLD, json!({}));
    // Of a version of both: by the payload, and where that says nothing, by the content.
    add(&setup, 2, BOTH, json!({"width": 8, "height": 8}));
    add(&setup, 3, BOTH, json!({}));
    add(&setup, 4, BOTH, json!({}));
    let picture = png(RED, 8);
    let shelf = with_shelf(
        &mut setup,
        &[(1, b"rr"), (2, &picture), (3, &picture), (4, b"bg")],
    );
    let service = setup.start();
    let done = run(&service, json!({"url": "https://host/{id}"}));
    assert_eq!(done["state"], "finished", "{done}");
    assert_eq!(
        (&done["done"], &done["left"]),
        (&json!(2), &json!(0)),
        "{done}"
    );
    assert_eq!(done["failed"], json!({"other_modality": 202}));
    let reason = done["reason"].as_str().unwrap();
    assert!(
        reason.contains("200 items of a modality that v0003 does not embed"),
        "{reason}"
    );
    assert_counted(&service, 202);
    let mut asked = shelf.asked.lock().unwrap().clone();
    asked.sort();
    assert_eq!(asked, [1, 3, 4].map(|id| format!("https://host/{id}")));
    assert_text(&service, 1, "rr");
    assert_text(&service, 4, "bg");
    // A service that finds it finished counts as the one that did it.
    assert_counted(&service.restart(), 202);
}

#[test]
fn a_version_of_both_takes_pictures_and_texts() {
    let mut setup = setup(BOTH);
    add(&setup, 1, OLD, json!({}));
    add(&setup, 2, PICTURES, json!({}));
    add(&setup, 3, OLD, held("gr"));
    // Pages that say why there is no original are no originals, whatever their status.
    add(&setup, 4, TEXTS, json!({}));
    add(&setup, 5, OLD, json!({}));
    let page = b"<!doctype html><p>log in</p>";
    with_shelf(
        &mut setup,
        &[(1, b"rr"), (2, &png(RED, 8)), (4, page), (5, b"Sorry")],
    );
    let service = setup.start();
    let done = run(&service, json!({"url": "https://host/{id}"}));
    assert_eq!(
        (&done["done"], &done["failed"]),
        (&json!(3), &json!({"undecodable": 2})),
        "{done}"
    );
    assert_text(&service, 1, "rr");
    assert_text(&service, 3, "gr");
    let red = service.get("/gallery/items/2?embedding=true").expect(200);
    let near = expected(RED, ANGLE);
    assert!(
        (red["embedding"][0].as_f64().unwrap() - f64::from(near[0])).abs() < 1e-4,
        "{red}"
    );
}

#[test]
fn clients_send_texts() {
    let setup = setup(TEXTS);
    add(&setup, 1, OLD, json!({"sha256": sha256_hex(b"rg")}));
    add(&setup, 2, OLD, json!({"sha256": sha256_hex(b"rg")}));
    add(&setup, 3, OLD, json!({}));
    add(&setup, 4, BOTH, json!({}));
    add(&setup, 5, PICTURES, json!({}));
    let service = setup.start();
    let body = json!({"originals": "pushed"});
    service.call("POST", "/backfill", &body).expect(200);
    let waiting = service.get("/backfill/waiting").expect(200);
    let waiting: Vec<&Value> = waiting["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["id"])
        .collect();
    // Nobody needs to send the picture.
    assert!(
        !waiting.contains(&&json!(5)) && waiting.len() == 4,
        "{waiting:?}"
    );
    let push =
        |items: Value| service.call("PUT", "/backfill/originals", &json!({ "items": items }));
    let message = push(json!([{"id": 1, "text": "a", "image": "b"}]))
        .expect(422)
        .to_string();
    assert!(
        message.contains("exactly one of `image`, `text` and `reason`"),
        "{message}"
    );
    let picture = base64(&png(RED, 8));
    let answer = push(json!([
        {"id": 1, "text": "rg"},
        {"id": 2, "text": "gr"},
        {"id": 3, "image": picture},
        {"id": 4, "image": picture},
        {"id": 5, "text": "r"},
    ]))
    .expect(200);
    assert_eq!(answer["done"], 1, "{answer}");
    let failed = answer["failed"].as_array().unwrap().iter();
    let failed: Vec<_> = failed
        .map(|one| (one["id"].clone(), one["reason"].clone()))
        .collect();
    assert_eq!(
        failed,
        [
            (json!(2), json!("other_original")),
            (json!(3), json!("other_original")),
            (json!(4), json!("other_modality")),
            (json!(5), json!("other_modality")),
        ]
    );
    assert_text(&service, 1, "rg");
    // The picture is counted with its space, and not once more because a client sent something for it.
    let status = service.get("/backfill").expect(200);
    assert_eq!(
        (&status["failed"], &status["left"]),
        (
            &json!({"other_original": 2, "other_modality": 2}),
            &json!(0)
        ),
        "{status}"
    );
}

#[test]
fn texts_are_ranked_again_by_the_live_version() {
    let mut setup = setup(TEXTS);
    for (id, text) in [(1, "bbbb"), (2, "rrrr"), (3, "gggg")] {
        add(&setup, id, OLD, held(text));
    }
    add(&setup, 4, PICTURES, json!({"file": "a.png"}));
    let shelf = with_shelf(&mut setup, &[]);
    setup.config.originals = Some("https://host/{id}".to_owned());
    let service = setup.start();
    let body = json!({"text": "gggr", "limit": 4, "rerank": 4, "backfill": true});
    let answer = service.call("POST", "/search", &body).expect(200);
    let stage = &answer["second_stage"];
    assert_eq!(
        (&stage["embedded"], &stage["failed"]),
        (&json!(3), &json!({"other_modality": 1}))
    );
    let hits = answer["hits"].as_array().unwrap().iter();
    let ranked = hits.filter(|hit| !hit["own_score"].is_null());
    let scores: Vec<f64> = ranked
        .map(|hit| hit["own_score"].as_f64().unwrap())
        .collect();
    assert_eq!(answer["hits"][0]["id"], 3, "{answer}");
    assert!(scores.len() == 3 && scores.is_sorted_by(|one, next| one >= next));
    assert_eq!(stage["backfill"]["done"], 3);
    assert!(shelf.asked.lock().unwrap().is_empty());
    assert_text(&service, 3, "gggg");
    // A picture is no query of this version.
    let body = json!({"image": image(RED), "rerank": 2});
    service.call("POST", "/search", &body).expect(422);
}

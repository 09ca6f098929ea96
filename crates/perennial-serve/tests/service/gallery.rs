//! Embedding, storing, searching, listing and deleting.

use std::sync::atomic::Ordering;

use serde_json::json;

use crate::client::Call;
use crate::encoder::{draft, expected, png};
use crate::harness::{MEASURE, Setup, image};

const RED: [u8; 3] = [250, 10, 10];
const GREEN: [u8; 3] = [10, 250, 10];
const BLUE: [u8; 3] = [10, 10, 250];

#[test]
fn images_are_embedded_by_the_live_version() {
    let service = Setup::new(&["0.5"]).start();
    let json = service.call(
        "POST",
        "/embed",
        &json!({"images": [image(RED), image(GREEN)]}),
    );
    let form =
        Call::new("POST", "/embed").form(&[("image", &png(RED, 8)), ("image", &png(GREEN, 8))]);
    let form = form.send(service.address);
    assert_eq!(json.headers["x-model-version"], "v0001");
    assert_eq!(json.expect(200), form.expect(200));
    let answer = json.json();
    assert_eq!(
        (&answer["model_version"], &answer["dim"]),
        (&json!("v0001"), &json!(3))
    );
    let embedding: Vec<f32> = serde_json::from_value(answer["embeddings"][1].clone()).unwrap();
    for (value, expected) in embedding.iter().zip(expected(GREEN, 0.5)) {
        assert!((value - expected).abs() < 1e-4, "{embedding:?}");
    }
    let url = format!("data:image/png;base64,{}", image(RED));
    let again = service
        .call("POST", "/embed", &json!({"images": [url]}))
        .expect(200);
    assert_eq!(again["embeddings"][0], answer["embeddings"][0]);
}

#[test]
fn items_are_stored_found_listed_and_deleted() {
    let service = Setup::new(&["0"]).start();
    let items = json!({"items": [
        {"id": 1, "image": image(RED), "label": 7, "payload": {"colour": "red"}},
        {"id": "green", "image": image(GREEN), "payload": {"colour": "green"}},
        {"id": 3, "embedding": expected(BLUE, 0.0), "model_version": "v0001", "label": 9},
    ]});
    let stored = service.call("POST", "/gallery/items:batch", &items);
    assert_eq!(stored.expect(200), json!({"inserted": 3, "replaced": 0}));
    assert_eq!(stored.headers["x-model-version"], "v0001");
    let form = Call::new("PUT", "/gallery/items").form(&[
        (
            "request",
            br#"{"id": 1, "label": 8, "payload": {"colour": "red"}}"#,
        ),
        ("image", &png(RED, 8)),
    ]);
    assert_eq!(
        form.send(service.address).expect(200),
        json!({"inserted": 0, "replaced": 1})
    );

    let found = service.call("POST", "/search", &json!({"image": image(RED), "limit": 2}));
    let body = found.expect(200);
    assert_eq!(body["hits"][0]["id"], 1);
    assert_eq!(body["hits"][0]["label"], 8);
    assert_eq!(body["hits"][0]["payload"]["colour"], "red");
    assert!(body["hits"][0]["score"].as_f64().unwrap() > 0.999);
    assert_eq!(body["hits"].as_array().unwrap().len(), 2);
    assert_eq!(found.headers["x-model-version"], "v0001");
    let form = Call::new("POST", "/search")
        .form(&[
            ("image", &png(GREEN, 8)),
            ("request", br#"{"limit": 1, "exact": true}"#),
        ])
        .send(service.address)
        .expect(200);
    assert_eq!(form["hits"][0]["id"], "green");
    let by_id = service.call(
        "POST",
        "/search",
        &json!({"id": 3, "filter": {"labels": {"from": 9}}}),
    );
    assert_eq!(by_id.expect(200)["hits"].as_array().unwrap().len(), 1);
    let by_vector =
        json!({"embedding": expected(GREEN, 0.0), "filter": {"payload": {"colour": "green"}}});
    assert_eq!(
        service.call("POST", "/search", &by_vector).expect(200)["hits"][0]["id"],
        "green"
    );

    let page = service.get("/gallery/items?limit=2").expect(200);
    assert_eq!(
        (&page["items"][0]["id"], &page["next"]),
        (&json!(1), &json!(3))
    );
    let rest = service
        .get("/gallery/items?after=3&embeddings=true")
        .expect(200);
    assert_eq!(
        (&rest["items"][0]["id"], &rest["next"]),
        (&json!("green"), &json!(null))
    );
    assert_eq!(rest["items"][0]["embedding"].as_array().unwrap().len(), 3);
    let labelled = service
        .get("/gallery/items?label=9&model_version=v0001")
        .expect(200);
    assert_eq!(labelled["items"].as_array().unwrap().len(), 1);
    let one = service.get("/gallery/items/1?embedding=true").expect(200);
    assert_eq!(one["embedding"].as_array().unwrap().len(), 3);
    assert!(
        service
            .get("/gallery/items/green")
            .expect(200)
            .get("embedding")
            .is_none()
    );
    assert_eq!(service.get("/gallery/items/2").code(404), "not_found");

    let stats = service.get("/gallery/stats").expect(200);
    assert_eq!(
        (&stats["items"], &stats["per_version"]["v0001"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(stats["identity"], json!({"vertices": 4}));
    let live = service.get("/stats/live").expect(200);
    assert!(live["searches_per_second"].as_f64().unwrap() > 0.0);
    assert!(live["upserts_per_second"].as_f64().unwrap() > 0.0);

    let deleted = service.call("DELETE", "/gallery/items", &json!({"ids": [1, 99]}));
    assert_eq!(deleted.expect(200), json!({"deleted": 1}));
    let deleted = service.call(
        "DELETE",
        "/gallery/items",
        &json!({"filter": {"labels": {"any_of": [9]}}}),
    );
    assert_eq!(deleted.expect(200), json!({"deleted": 1}));
    let nothing = service.call("DELETE", "/gallery/items", &json!({"filter": {}}));
    assert_eq!(nothing.code(422), "unprocessable");
    assert_eq!(service.get("/gallery/stats").expect(200)["items"], 1);
}

#[test]
fn a_sample_shows_every_class() {
    let service = Setup::new(&["0"]).start();
    assert_eq!(
        service.get("/gallery/items?sample=true").expect(200),
        json!({"items": [], "next": null})
    );
    // Sorted by class, as a folder of classes is: a page of 24 would show one class. Labels at both ends of their range.
    let labels = [0, 7, 8, 4_000_000_000u32, u32::MAX];
    let mut items = Vec::new();
    for (class, label) in labels.iter().enumerate() {
        for number in 0..30 {
            let colour = [(40 * class) as u8, (8 * number) as u8, 99];
            items.push(json!({
                "id": format!("{class}/{number:02}"), "embedding": expected(colour, 0.0),
                "model_version": "v0001", "label": label,
            }));
        }
    }
    for number in 0..3 {
        items.push(json!({
            "id": format!("9/{number}"), "embedding": expected(RED, 0.0), "model_version": "v0001",
        }));
    }
    service
        .call("POST", "/gallery/items:batch", &json!({"items": items}))
        .expect(200);
    let sample = |query: &str| {
        let answer = service
            .get(&format!("/gallery/items?sample=true{query}"))
            .expect(200);
        assert_eq!(answer["next"], json!(null));
        let items = answer["items"].as_array().unwrap().clone();
        let ids: std::collections::BTreeSet<String> =
            items.iter().map(|item| item["id"].to_string()).collect();
        assert_eq!(ids.len(), items.len(), "no item twice");
        items
    };
    let counts = |items: &[serde_json::Value]| {
        let mut counts = std::collections::BTreeMap::new();
        for item in items {
            *counts.entry(item["label"].as_u64()).or_insert(0) += 1;
        }
        counts
    };
    let shown = counts(&sample("&limit=24"));
    assert_eq!(shown.len(), labels.len(), "{shown:?}");
    assert!(
        shown.values().all(|&count| (4..=5).contains(&count)),
        "{shown:?}"
    );
    assert_eq!(sample("&limit=3").len(), 3);
    assert_eq!(counts(&sample("&limit=5")).len(), 5);
    // The rest is filled up, with what has no class last.
    let all = sample("&limit=1000");
    assert_eq!(all.len(), 153);
    assert!(all[150..].iter().all(|item| item["label"].is_null()));
    assert_eq!(sample("&limit=10&model_version=v0001").len(), 10);
    for query in ["&after=1", "&label=7", "&embeddings=true", "&limit=0"] {
        let answer = service.get(&format!("/gallery/items?sample=true{query}"));
        assert_eq!(answer.code(422), "unprocessable", "{query}");
    }
}

#[test]
fn unusable_requests_say_what_is_wrong_and_change_nothing() {
    let service = Setup::new(&["0", "1"]).start();
    let embedding = json!(expected(RED, 0.0));
    let refused = |method: &str, path: &str, body: serde_json::Value, says: &str| {
        let answer = service.call(method, path, &body).expect(422);
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(says), "{body}: {message}");
    };
    let put = |body, says| refused("PUT", "/gallery/items", body, says);
    put(json!({"id": 1}), "expected `image`, `text` or `embedding`");
    put(
        json!({"id": 1, "embedding": embedding}),
        "items[0].model_version",
    );
    put(
        json!({"id": 1, "embedding": embedding, "image": image(RED)}),
        "has both",
    );
    put(json!({"id": -1, "embedding": embedding}), "id");
    put(json!({"id": 1, "image": image(RED), "labels": 3}), "labels");
    put(json!({"id": 1, "image": "?"}), "image 0: is not base64");
    put(
        json!({"id": 1, "embedding": [1.0, 0.0], "model_version": "v0001"}),
        "has 2 values",
    );
    put(
        json!({"id": 1, "embedding": [2.0, 0.0, 0.0], "model_version": "v0001"}),
        "length 2",
    );
    put(
        json!({"id": 1, "embedding": embedding, "model_version": "v0009"}),
        "v0009",
    );
    put(
        json!({"id": 1, "embedding": embedding, "model_version": "live"}),
        "alias",
    );
    put(
        json!({"id": "a\u{7}", "image": image(RED)}),
        "control character",
    );
    // No f32 holds this number, so it is not even read.
    let endless = json!({"id": 1, "embedding": [1e300, 0.0, 0.0], "model_version": "v0001"});
    let answer = service.call("PUT", "/gallery/items", &endless);
    assert_eq!(answer.code(400), "bad_request");
    let batch = |body, says| refused("POST", "/gallery/items:batch", body, says);
    let item = json!({"id": 1, "embedding": embedding, "model_version": "v0001"});
    batch(json!({"items": [item, item]}), "twice");
    batch(json!({"items": []}), "expected 1 to");
    let search = |body, says| refused("POST", "/search", body, says);
    search(json!({}), "exactly one of");
    search(json!({"id": 1, "embedding": embedding}), "exactly one of");
    search(json!({"embedding": embedding, "limit": 1001}), "limit");
    search(
        json!({"embedding": [1.0], "model_version": "v0001"}),
        "has 1 values",
    );
    search(
        json!({"image": image(RED), "model_version": "v0001"}),
        "model_version",
    );
    search(
        json!({"image": image(RED), "filter": {"label": 3}}),
        "filter",
    );
    refused("POST", "/embed", json!({"images": []}), "1 to 128 images");
    refused("DELETE", "/gallery/items", json!({}), "exactly one of");
    assert_eq!(
        service.get("/gallery/items?limit=0").code(422),
        "unprocessable"
    );
    assert_eq!(
        service.get("/gallery/items?limit=x").code(400),
        "bad_request"
    );
    assert_eq!(
        service.get("/gallery/items?page=1").code(400),
        "bad_request"
    );
    let conflict = json!({"id": 1, "image": image(RED), "model_version": "v0002"});
    assert_eq!(
        service.call("PUT", "/gallery/items", &conflict).code(409),
        "conflict"
    );
    assert_eq!(service.get("/gallery/stats").expect(200)["items"], 0);
}

#[test]
fn versions_meet_only_when_certified_or_forced() {
    let setup = Setup::new(&["0", "0", "0"]);
    setup.pairs.allow("v0002", "v0001");
    setup.pairs.allow("v0001", "v0002");
    let service = setup.start();
    service.store(1, RED, 0.0, "v0001").expect(200);
    // The live version must be able to query what is stored.
    service.store(2, RED, 0.0, "v0002").expect(200);
    let refused = service.store(3, RED, 0.0, "v0003");
    assert_eq!(refused.code(409), "incompatible_version");
    let error = &refused.json()["error"];
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("v0003") && message.contains("v0001"),
        "{message}"
    );
    let pairs = error["details"]["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 1);
    assert_eq!(
        (&pairs[0]["query_version"], &pairs[0]["gallery_version"]),
        (&json!("v0001"), &json!("v0003"))
    );
    // The command that helps, without the path of the registry.
    assert_eq!(pairs[0]["remedy"], MEASURE);
    let refused = service.swap("v0003").expect(409);
    assert_eq!(
        refused["error"]["details"]["remedies"],
        json!([MEASURE, MEASURE])
    );

    let query = |version: &str, filter: serde_json::Value, force: bool| {
        let body = json!({"embedding": expected(RED, 0.0), "model_version": version,
            "filter": filter, "force": force});
        service.call("POST", "/search", &body)
    };
    query("v0002", json!({}), false).expect(200);
    assert_eq!(
        query("v0003", json!({}), false).code(409),
        "incompatible_version"
    );
    query("v0003", json!({}), true).expect(200);
    // Versions that the filter leaves out do not matter.
    query("v0003", json!({"model_versions": ["v0003"]}), false).expect(200);

    let item =
        json!({"id": 3, "embedding": expected(RED, 0.0), "model_version": "v0003", "force": true});
    service.call("PUT", "/gallery/items", &item).expect(200);
    let stats = service.get("/gallery/stats").expect(200);
    assert_eq!(stats["forced_writes"], 1);
    assert_eq!(stats["forced_pairs"], json!([["v0001", "v0003"]]));
    // What was accepted by force does not make the searches of everybody else fail.
    query("v0001", json!({}), false).expect(200);
    let metrics = String::from_utf8(service.get("/metrics").body).unwrap();
    assert!(
        metrics.contains(r#"perennial_forced_total{kind="upsert"} 1"#),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"perennial_gallery_items{model_version="v0003"} 1"#),
        "{metrics}"
    );
}

#[test]
fn a_failing_disk_is_503_and_reading_goes_on() {
    let service = Setup::new(&["0"]).start();
    service.store(1, RED, 0.0, "v0001").expect(200);
    service.setup.store.broken.store(true, Ordering::SeqCst);
    let answer = service.store(2, RED, 0.0, "v0001");
    assert_eq!(answer.code(503), "unavailable");
    assert!(!String::from_utf8_lossy(&answer.body).contains("secret"));
    let body = json!({"image": image(RED)});
    assert_eq!(
        service.call("POST", "/search", &body).expect(200)["hits"][0]["id"],
        1
    );
}

#[test]
fn without_a_live_version_vectors_still_work() {
    let setup = Setup::new(&["0"]);
    std::fs::remove_file(setup.registry.root().join("aliases.toml")).unwrap();
    let service = setup.start();
    assert_eq!(service.get("/readyz").code(503), "unavailable");
    service.get("/livez").expect(200);
    assert_eq!(
        service
            .call("POST", "/embed", &json!({"images": [image(RED)]}))
            .code(503),
        "unavailable"
    );
    service.store(1, RED, 0.0, "v0001").expect(200);
    let query = json!({"embedding": expected(RED, 0.0), "model_version": "v0001"});
    service.call("POST", "/search", &query).expect(200);
    service.swap("v0001").expect(200);
    service.get("/readyz").expect(200);
}

#[test]
fn a_list_takes_a_filter_and_leaves_keys_out() {
    let service = Setup::new(&["0"]).start();
    let items = json!({"items": [
        {"id": 1, "image": image(RED), "label": 7, "payload": {"root": "a", "thumbnail": "x"}},
        {"id": "b/2 &=", "image": image(GREEN), "payload": {"root": "b", "thumbnail": "y"}},
    ]});
    service
        .call("POST", "/gallery/items:batch", &items)
        .expect(200);
    let list = |query: &str| service.get(&format!("/gallery/items?{query}"));
    // {"payload":{"root":"b"}}
    let page = list("without=thumbnail&filter=%7B%22payload%22%3A%7B%22root%22%3A%22b%22%7D%7D");
    let page = page.expect(200);
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    assert_eq!(page["items"][0]["payload"], json!({"root": "b"}));
    // {"ids":["b/2 &=",1,"none"]}
    let page =
        list("filter=%7B%22ids%22%3A%5B%22b%2F2%20%26%3D%22%2C1%2C%22none%22%5D%7D").expect(200);
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    assert_eq!(page["items"][0]["payload"]["thumbnail"], "x");
    for wrong in [
        "filter=",
        "filter=%5B%5D",
        "filter=%7B%22idz%22%3A%5B%5D%7D",
    ] {
        assert_eq!(list(wrong).code(422), "unprocessable", "{wrong}");
    }
    let models = service.get("/models").expect(200);
    assert_eq!(models["models"][0]["input"].as_array().unwrap().len(), 3);
}

#[test]
fn items_of_another_dimension_are_kept_and_not_searched() {
    let setup = Setup::new(&["0"]);
    setup.registry.publish(draft(5), b"0").unwrap();
    let service = setup.start();
    service.store(1, RED, 0.0, "v0001").expect(200);
    let mut other = json!({
        "id": "other", "embedding": [1.0, 0.0, 0.0, 0.0, 0.0], "model_version": "v0002", "label": 3,
    });
    let refused = service.call("PUT", "/gallery/items", &other);
    assert_eq!(refused.status, 409);
    other["force"] = json!(true);
    service.call("PUT", "/gallery/items", &other).expect(200);

    let search = |query| service.call("POST", "/search", &query).expect(200);
    let found = search(json!({"image": image(RED)}));
    assert_eq!(found["hits"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&found["hits"][0]["id"], &found["not_searched"]),
        (&json!(1), &json!(1))
    );
    let only = json!({"image": image(RED), "filter": {"model_versions": ["v0001"]}});
    assert_eq!(search(only)["not_searched"], 0);
    let beside = search(json!({"id": "other"}));
    assert_eq!(
        (&beside["hits"][0]["id"], &beside["not_searched"]),
        (&json!("other"), &json!(1))
    );

    let sample = service.get("/gallery/items?sample=true").expect(200);
    assert_eq!(sample["items"].as_array().unwrap().len(), 2);
    let stats = service.get("/gallery/stats").expect(200);
    assert_eq!(stats["per_version"], json!({"v0001": 1, "v0002": 1}));
    // Stored again by the live version, it can be searched.
    let moved = service.store(9, GREEN, 0.0, "v0001");
    moved.expect(200);
    let again = json!({"id": "other", "image": image(GREEN), "label": 3});
    assert_eq!(
        service.call("PUT", "/gallery/items", &again).expect(200)["replaced"],
        1
    );
    let found = search(json!({"image": image(RED)}));
    assert_eq!(
        (
            found["hits"].as_array().unwrap().len(),
            &found["not_searched"]
        ),
        (3, &json!(0))
    );
}

#[test]
fn a_write_that_cannot_be_counted_is_acknowledged() {
    let service = Setup::new(&["0"]).start();
    service.store(1, RED, 0.0, "v0001").expect(200);
    let store = &service.setup.store;
    store.uncountable_after_write.store(true, Ordering::SeqCst);
    let stored = service.store(2, GREEN, 0.0, "v0001").expect(200);
    assert_eq!(stored["inserted"], 1);
    let deleted = service.call("DELETE", "/gallery/items", &json!({"ids": [1]}));
    assert_eq!(deleted.expect(200)["deleted"], 1);
    assert_eq!(service.get("/gallery/stats").code(503), "unavailable");
    store.uncountable_after_write.store(false, Ordering::SeqCst);
    store.uncountable.store(false, Ordering::SeqCst);
    assert_eq!(service.get("/gallery/stats").expect(200)["items"], 1);
}

//! A service that only reads, and compaction in one that writes.

use std::sync::atomic::Ordering;

use serde_json::json;

use crate::client::Call;
use crate::encoder::expected;
use crate::harness::{Setup, image};
use crate::keys::{READ, WRITE, keys};

const RED: [u8; 3] = [250, 10, 10];

#[test]
fn a_read_only_service_answers_and_changes_nothing() {
    let writing = Setup::new(&["0", "0.5"]).start();
    writing.store(1, RED, 0.0, "v0001").expect(200);
    let mut setup = Setup::new(&[]);
    setup.registry = writing.setup.registry.clone();
    setup.store = writing.setup.store.clone();
    setup.config.read_only = true;
    let probes = setup.folder.path().join("probes");
    let service = setup.start();

    let found = service.call("POST", "/search", &json!({"image": image(RED)}));
    assert_eq!(found.expect(200)["hits"][0]["id"], 1);
    service.get("/gallery/items/1").expect(200);
    service.get("/readyz").expect(200);
    let item = json!({"id": 2, "embedding": expected(RED, 0.0), "model_version": "v0001"});
    let source = json!({"path": writing.setup.registry.root(), "version": "v0001"});
    for (method, path, body) in [
        ("PUT", "/gallery/items", item.clone()),
        ("POST", "/gallery/items:batch", json!({ "items": [item] })),
        ("DELETE", "/gallery/items", json!({"ids": [1]})),
        ("POST", "/gallery/compact", json!({})),
        ("POST", "/models", source),
        ("PUT", "/aliases/live", json!({"version": "v0002"})),
        ("POST", "/aliases/live:rollback", json!({})),
    ] {
        let refused = service.call(method, path, &body);
        assert_eq!(refused.code(403), "read_only", "{method} {path}");
    }
    assert_eq!(service.get("/gallery/stats").expect(200)["items"], 1);
    assert_eq!(service.get("/models").expect(200)["live"], "v0001");
    assert!(!probes.exists(), "no probes are kept");
    // Snapshots lie elsewhere.
    service.call("POST", "/snapshots", &json!({})).expect(201);
}

#[test]
fn a_read_only_service_still_wants_keys() {
    let mut setup = Setup::new(&["0"]);
    setup.config.read_only = true;
    setup.config.keys = keys();
    let service = setup.start();
    let delete = || Call::new("DELETE", "/gallery/items").json(&json!({"ids": [1]}));
    assert_eq!(delete().send(service.address).code(401), "unauthorized");
    assert_eq!(
        delete().key(READ).send(service.address).code(403),
        "forbidden"
    );
    assert_eq!(
        delete().key(WRITE).send(service.address).code(403),
        "read_only"
    );
    let snapshot = || Call::new("POST", "/snapshots");
    assert_eq!(
        snapshot().key(READ).send(service.address).code(403),
        "forbidden"
    );
    snapshot().key(WRITE).send(service.address).expect(201);
}

#[test]
fn compaction_says_what_it_did() {
    let service = Setup::new(&["0"]).start();
    service.store(1, RED, 0.0, "v0001").expect(200);
    let compact = || service.call("POST", "/gallery/compact", &json!({}));
    let answer = compact().expect(200);
    assert_eq!(
        [
            &answer["items"],
            &answer["bytes_before"],
            &answer["bytes_after"]
        ],
        [&json!(1), &json!(9000), &json!(4096)]
    );
    service.setup.store.compacting.store(true, Ordering::SeqCst);
    assert_eq!(compact().code(409), "conflict");
}

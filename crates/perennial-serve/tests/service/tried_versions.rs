//! Searches as if another version were live.

use perennial_gallery::VectorStore;
use serde_json::{Value, json};

use crate::client::{Answer, Call};
use crate::encoder::draft;
use crate::harness::{Running, image};
use crate::keys::{READ, WRITE, keys};
use crate::mixed::{OLD, bridged, by_picture, dual, mixed, search};

fn as_version(service: &Running, key: &str, version: &str) -> Answer {
    let body = json!({"image": image(OLD[0]), "as_version": version});
    let call = Call::new("POST", "/search").key(key).json(&body);
    call.send(service.address)
}

#[test]
fn the_version_before_finds_what_it_would_have_found() {
    let setup = mixed("0");
    setup.pairs.certify("v0002", "v0001", vec![dual(0.5)]);
    let service = setup.start();
    let before = search(
        &service,
        json!({"image": image(OLD[1]), "as_version": "v0001"}),
    );
    assert_eq!(before["model_version"], "v0001");
    let hits = before["hits"].as_array().unwrap();
    assert_eq!((hits.len(), &hits[0]["id"]), (4, &json!(2)));
    assert!(
        hits.iter()
            .all(|hit| hit["space"] == "v0001" && hit["route"] == "own")
    );
    // Nothing leads from the old version to what the new one has stored.
    assert_eq!(before["not_searched"], 4);
    assert_eq!(before["left_out"][0]["space"], "v0002");
    // The live version is what it was, and the old encoder was in memory for its dual route.
    assert_eq!(by_picture(&service, OLD[1])["model_version"], "v0002");
    assert_eq!(service.get("/models").expect(200)["live"], "v0002");
    assert_eq!(service.setup.loads.of("v0001"), (1, 1));
    let live = search(
        &service,
        json!({"image": image(OLD[1]), "as_version": "live"}),
    );
    assert_eq!(live["model_version"], "v0002");
}

#[test]
fn loading_a_version_takes_the_right_to_write_and_one_is_kept() {
    let mut setup = mixed("0");
    setup.pairs.certify("v0002", "v0001", vec![bridged()]);
    setup.registry.publish(draft(3), b"0.3").unwrap();
    setup.pairs.allow("v0003", "v0001");
    setup.config.keys = keys();
    let service = setup.start();
    let refused = as_version(&service, READ, "v0001");
    assert_eq!(refused.code(403), "forbidden");
    assert!(refused.json().to_string().contains("not in memory"));
    let found = as_version(&service, WRITE, "v0001").expect(200);
    assert_eq!(found["hits"][0]["id"], 1);
    assert_eq!(service.setup.loads.of("v0001"), (1, 1));
    as_version(&service, READ, "v0001").expect(200);
    // A version that was never live, before it is.
    let found = as_version(&service, WRITE, "v0003").expect(200);
    assert_eq!(found["model_version"], "v0003");
    assert_eq!(found["hits"].as_array().unwrap().len(), 4);
    assert_eq!(service.setup.loads.of("v0001"), (1, 0));
    assert_eq!(service.setup.loads.of("v0003"), (1, 1));

    // When the live version moves, nothing is kept to be compared with.
    let swap = Call::new("PUT", "/aliases/live").key(WRITE);
    let swap = swap.json(&json!({"version": "v0003", "force": true}));
    swap.send(service.address).expect(200);
    assert_eq!(service.setup.loads.of("v0003"), (2, 1));
    as_version(&service, READ, "v0002").expect(200);
}

#[test]
fn what_cannot_be_tried_is_refused() {
    let setup = mixed("broken");
    setup.pairs.certify("v0002", "v0001", vec![bridged()]);
    setup.registry.publish(draft(3), b"0.3").unwrap();
    let service = setup.start();
    let ask = |body: Value| service.call("POST", "/search", &body);
    let as_version = |version: &str| ask(json!({"image": image(OLD[0]), "as_version": version}));
    let broken = as_version("v0001");
    assert_eq!(broken.code(409), "check_failed");
    assert!(broken.json().to_string().contains("no angle"));
    // It can be loaded, but leads nowhere.
    assert_eq!(as_version("v0003").code(409), "incompatible_version");
    let unknown = as_version("v0404");
    assert_eq!(unknown.code(422), "unprocessable");
    let message = unknown.json()["error"]["message"].to_string();
    assert!(message.contains("as_version: ") && message.contains("v0404"));
    for body in [
        json!({"id": 1, "as_version": "v0001"}),
        json!({"embedding": [1.0, 0.0, 0.0], "as_version": "v0001"}),
        json!({"image": image(OLD[0]), "as_version": "v0001", "rerank": 3}),
    ] {
        assert_eq!(ask(body).code(422), "unprocessable");
    }
    assert_eq!(
        service.setup.store.get(&[1.into()], false).unwrap().len(),
        1
    );
}

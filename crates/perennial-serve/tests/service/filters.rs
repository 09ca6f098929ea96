//! What filters and ids from outside select.

use serde_json::{Value, json};

use crate::encoder::expected;
use crate::harness::{Running, Setup};

const RED: [u8; 3] = [250, 10, 10];

/// Items 1 to 4 of v0001, the first two with labels and payloads.
fn stocked() -> Running {
    let service = Setup::new(&["0", "0.5"]).start();
    let items: Vec<Value> = (1..=4)
        .map(|id| {
            let mut item =
                json!({"id": id, "embedding": expected(RED, 0.0), "model_version": "v0001"});
            if id <= 2 {
                item["label"] = json!(id);
                item["payload"] = json!({"side": "left"});
            }
            item
        })
        .collect();
    service
        .call("POST", "/gallery/items:batch", &json!({ "items": items }))
        .expect(200);
    service
}

fn count(service: &Running) -> Value {
    service.get("/gallery/stats").expect(200)["items"].clone()
}

fn found(service: &Running, filter: &Value) -> usize {
    let body = json!({"embedding": expected(RED, 0.0), "model_version": "v0001", "filter": filter});
    let answer = service.call("POST", "/search", &body).expect(200);
    answer["hits"].as_array().unwrap().len()
}

#[test]
fn empty_conditions_find_and_delete_nothing() {
    let service = stocked();
    for filter in [
        json!({"labels": {"any_of": []}}),
        json!({"labels": {}}),
        json!({"labels": {"any_of": [], "from": 0}}),
        json!({"ids": []}),
        json!({"model_versions": []}),
        json!({"payload": {}}),
        json!({"payload": {"side": []}}),
        json!({"ids": [1], "labels": {"any_of": []}}),
        json!({"model_versions": ["v0001"], "payload": {}}),
    ] {
        assert_eq!(found(&service, &filter), 0, "{filter}");
        let body = json!({ "filter": filter });
        let deleted = service.call("DELETE", "/gallery/items", &body).expect(200);
        assert_eq!(deleted["deleted"], 0, "{filter}");
    }
    for body in [
        json!({}),
        json!({"filter": {}}),
        json!({"filter": null}),
        json!({"filter": {"labels": null}}),
        json!({"filter": {"ids": null}}),
        json!({"filter": {"everything": true}}),
        json!({"filter": {}, "ids": [1]}),
    ] {
        let refused = service.call("DELETE", "/gallery/items", &body);
        assert_eq!(refused.code(422), "unprocessable", "{body}");
    }
    let refused = service.call("DELETE", "/gallery/items", &json!({"filter": {}}));
    let message = refused.json()["error"]["message"].to_string();
    assert!(message.contains("condition"), "{message}");
    assert_eq!(count(&service), 4);

    assert_eq!(found(&service, &json!({})), 4);
    assert_eq!(found(&service, &json!({"labels": {"from": 2}})), 1);
    let body = json!({"filter": {"labels": {"any_of": [1]}}});
    let deleted = service.call("DELETE", "/gallery/items", &body).expect(200);
    assert_eq!(
        (&deleted["deleted"], count(&service)),
        (&json!(1), json!(3))
    );
}

#[test]
fn versions_in_filters_must_be_known() {
    let service = stocked();
    // Known to the registry, but without items; and an alias.
    assert_eq!(found(&service, &json!({"model_versions": ["v0002"]})), 0);
    assert_eq!(found(&service, &json!({"model_versions": ["live"]})), 4);
    let listed = service.get("/gallery/items?model_version=live").expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 4);

    let query = json!({"embedding": expected(RED, 0.0), "model_version": "v0001",
        "filter": {"model_versions": ["v0001", "v0O01"]}});
    let deletion = json!({"filter": {"model_versions": ["v1"]}});
    for (answer, name) in [
        (service.call("POST", "/search", &query), "v0O01"),
        (service.call("DELETE", "/gallery/items", &deletion), "v1"),
        (service.get("/gallery/items?model_version=lvie"), "lvie"),
    ] {
        assert_eq!(answer.code(422), "unprocessable");
        let message = answer.json()["error"]["message"].to_string();
        assert!(
            message.contains("model_versions") && message.contains(name),
            "{message}"
        );
        assert!(
            message.contains("v0002"),
            "it lists what there is: {message}"
        );
    }
    assert_eq!(count(&service), 4);
}

#[test]
fn ids_in_paths_are_read_as_they_were_stored() {
    let service = Setup::new(&["0"]).start();
    let ids = [
        json!(5),
        json!("+5"),
        json!("5"),
        json!("007"),
        json!(7),
        json!(0),
        json!("00"),
        json!("18446744073709551616"),
        json!(u64::MAX),
    ];
    for id in &ids {
        let item = json!({"id": id, "embedding": expected(RED, 0.0), "model_version": "v0001"});
        service.call("PUT", "/gallery/items", &item).expect(200);
    }
    for (path, id) in [
        ("5", &ids[0]),
        ("+5", &ids[1]),
        ("%2B5", &ids[1]),
        ("%225%22", &ids[2]),
        ("007", &ids[3]),
        ("7", &ids[4]),
        ("0", &ids[5]),
        ("00", &ids[6]),
        ("18446744073709551616", &ids[7]),
        ("18446744073709551615", &ids[8]),
    ] {
        let item = service.get(&format!("/gallery/items/{path}")).expect(200);
        assert_eq!(&item["id"], id, "{path}");
    }
}

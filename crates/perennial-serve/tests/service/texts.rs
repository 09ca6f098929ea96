//! Versions that embed texts, alone or beside pictures: searches, items, the endpoints of other protocols.

use serde_json::{Value, json};

use crate::encoder::{expected, expected_of_text, outside_draft, publish_outside};
use crate::harness::{Running, Setup, image};

const RED: [u8; 3] = [255, 0, 0];

/// A service whose live version embeds texts, and pictures too where it is asked for.
fn service(pictures: bool) -> Running {
    let setup = Setup::new(&[]);
    publish_outside(&setup.registry, outside_draft(3, pictures), "0.3");
    setup.registry.set_alias("live", "v0001").unwrap();
    setup.start()
}

fn vector(value: &Value) -> Vec<f64> {
    let values = value.as_array().unwrap().iter();
    values.map(|value| value.as_f64().unwrap()).collect()
}

fn assert_near(found: &Value, expected: [f32; 3]) {
    let found = vector(found);
    assert_eq!(found.len(), 3);
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - f64::from(expected)).abs() < 1e-5,
            "{found} {expected}"
        );
    }
}

#[test]
fn texts_are_stored_and_found() {
    let service = service(false);
    let items: Vec<Value> = ["rrrr", "gggg", "bbbb", "rgb."]
        .iter()
        .map(|text| json!({"id": text, "text": text, "payload": {"text": text}}))
        .collect();
    let stored = service.call("POST", "/gallery/items:batch", &json!({ "items": items }));
    assert_eq!(stored.expect(200)["inserted"], 4);
    let found = service.call("POST", "/search", &json!({"text": "gggr", "limit": 2}));
    let found = found.expect(200);
    assert_eq!(found["hits"][0]["id"], "gggg");
    assert_eq!(found["model_version"], "v0001");

    let models = service.get("/models").expect(200);
    assert_eq!(models["models"][0]["accepts"], json!(["text"]));
    assert_eq!(models["models"][0]["input"], Value::Null);
    let picture = image(RED);
    let refused = service.call("POST", "/search", &json!({ "image": picture }));
    let message = refused.expect(422)["error"]["message"].to_string();
    assert!(
        message.contains("v0001 embeds texts, not pictures"),
        "{message}"
    );
    let both = service.call("POST", "/search", &json!({"image": picture, "text": "r"}));
    both.expect(422);
    let empty = service.call("POST", "/search", &json!({"text": ""}));
    let message = empty.expect(422)["error"]["message"].to_string();
    assert!(message.contains("empty"), "{message}");
    let item = json!({"id": 1, "text": "r", "embedding": [1.0, 0.0, 0.0]});
    let message = service.call("PUT", "/gallery/items", &item).expect(422)["error"].to_string();
    assert!(message.contains("both `text` and `embedding`"), "{message}");
}

#[test]
fn versions_of_pictures_refuse_texts() {
    let service = Setup::new(&["0"]).start();
    let refused = service.call("POST", "/search", &json!({"text": "red"}));
    let message = refused.expect(422)["error"]["message"].to_string();
    assert!(
        message.contains("v0001 embeds pictures, not texts"),
        "{message}"
    );
    let refused = service.call("POST", "/embed", &json!({"texts": ["red"]}));
    refused.expect(422);
    let models = service.get("/models").expect(200);
    assert_eq!(models["models"][0]["accepts"], json!(["image"]));
}

#[test]
fn both_towers_answer_in_one_space() {
    let service = service(true);
    let picture = image(RED);
    let item = json!({"id": "red", "image": picture});
    service.call("PUT", "/gallery/items", &item).expect(200);
    let item = json!({"id": "green", "text": "gggg"});
    service.call("PUT", "/gallery/items", &item).expect(200);
    let found = service
        .call("POST", "/search", &json!({"text": "rrrr"}))
        .expect(200);
    assert_eq!(found["hits"][0]["id"], "red");
    let models = service.get("/models").expect(200);
    assert_eq!(models["models"][0]["accepts"], json!(["image", "text"]));

    let texts = json!({"texts": ["rg", "b"], "input_type": "query"});
    let embedded = service.call("POST", "/embed", &texts).expect(200);
    assert_near(&embedded["embeddings"][0], expected_of_text("rg", 0.3));
    assert_near(&embedded["embeddings"][1], expected_of_text("b", 0.3));
    let images = service
        .call("POST", "/embed", &json!({"images": [picture]}))
        .expect(200);
    assert_near(&images["embeddings"][0], expected(RED, 0.3));

    // Pictures are told from texts by their data URLs.
    let url = format!("data:image/png;base64,{picture}");
    let request = json!({"inputs": [url, "rg"], "prompt_name": "query"});
    let tei = service.call("POST", "/embed", &request).expect(200);
    assert_near(&tei[0], expected(RED, 0.3));
    assert_near(&tei[1], expected_of_text("rg", 0.3));
    let request = json!({"input": ["rg", url], "model": "v0001-query"});
    let openai = service.call("POST", "/v1/embeddings", &request).expect(200);
    assert_near(&openai["data"][0]["embedding"], expected_of_text("rg", 0.3));
    assert_near(&openai["data"][1]["embedding"], expected(RED, 0.3));
    // One for the kind of text, one for each letter.
    assert_eq!(openai["usage"]["prompt_tokens"], 3);
}

#[test]
fn a_text_in_front_lets_no_more_pictures_in() {
    let mut setup = Setup::new(&[]);
    publish_outside(&setup.registry, outside_draft(3, true), "0.3");
    setup.registry.set_alias("live", "v0001").unwrap();
    setup.config.limits.images = 1;
    let service = setup.start();
    let picture = image(RED);
    let items = json!([
        {"id": 1, "text": "rg"},
        {"id": 2, "image": picture},
        {"id": 3, "image": picture},
    ]);
    let refused = service.call("POST", "/gallery/items:batch", &json!({ "items": items }));
    let message = refused.expect(422)["error"]["message"].to_string();
    assert!(
        message.contains("expected 1 to 1 images, got 2"),
        "{message}"
    );
    let items = json!([{"id": 1, "text": "rg"}, {"id": 2, "image": picture}]);
    let stored = service.call("POST", "/gallery/items:batch", &json!({ "items": items }));
    stored.expect(200);
}

#[test]
fn versions_with_files_are_added_from_a_folder_and_survive_a_restart_with_probes() {
    let service = Setup::new(&["0"]).start();
    let other = tempfile::tempdir().unwrap();
    let registry = perennial_core::Registry::create(other.path()).unwrap();
    publish_outside(&registry, outside_draft(3, false), "0.5");
    let request = json!({"path": other.path(), "version": "v0001"});
    let added = service.call("POST", "/models", &request).expect(201);
    assert_eq!(
        (&added["name"], &added["accepts"]),
        (&json!("v0002"), &json!(["text"]))
    );
    let registry = perennial_core::Registry::open(service.setup.registry.root()).unwrap();
    registry.verify(&registry.get("v0002").unwrap()).unwrap();
    service.swap("v0002").expect(200);
    let embedded = service
        .call("POST", "/embed", &json!({"texts": ["r"]}))
        .expect(200);
    assert_near(&embedded["embeddings"][0], expected_of_text("r", 0.5));
    // Back and again: the probes of texts that were recorded are compared.
    service.swap("v0001").expect(200);
    service.swap("v0002").expect(200);
}

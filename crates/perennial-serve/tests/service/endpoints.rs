//! `/v1/embeddings`, `/v1/models` and `/embed` with `inputs`, by the encoders of this service.

use std::sync::Arc;

use base64::Engine;
use perennial_bridge::{Bridge, Index, Pairs as FitPairs, Recipe, fit};
use perennial_core::SpaceRef;
use perennial_serve::AnswerUncertified;
use perennial_upgrade::{Certified, CertifiedWay};
use serde_json::{Value, json};

use crate::client::Call;
use crate::encoder::expected;
use crate::harness::{MEASURE, Running, Setup, image};
use crate::keys::{READ, keys};
use crate::upstream_double::{assert_close, embedding};

const RED: [u8; 3] = [250, 10, 10];
const BLUE: [u8; 3] = [10, 20, 240];

/// A bridge between spaces of any dimensions, fitted on some directions.
pub fn bridge(from: usize, to: usize) -> Arc<Bridge> {
    let rows = |dim: usize, name: &str| -> Vec<f32> {
        (0..40)
            .flat_map(|row| embedding(&format!("{name} {row}"), dim))
            .collect()
    };
    let (new, old) = (rows(from, "new"), rows(to, "old"));
    let pairs = FitPairs::new(&new, from, &old, to).unwrap();
    let space = SpaceRef::unnamed;
    let recipe = Recipe::Ridge { penalty: 0.1 };
    Arc::new(fit(&pairs, &recipe, space(from), space(to)).unwrap())
}

pub fn dual(bridge: &Arc<Bridge>, weight: f64) -> Vec<Certified> {
    let way = CertifiedWay::Dual {
        bridge: Arc::clone(bridge),
        weight,
    };
    vec![Certified::through(way, "the test says so")]
}

/// What the hand computes.
pub fn dual_by_hand(bridge: &Bridge, old: &[f32], new: &[f32], weight: f32) -> Vec<f32> {
    let mut query = Vec::new();
    bridge
        .dual(old, new, weight, Index::Raw, &mut query)
        .unwrap();
    query
}

pub fn embeddings(service: &Running, body: &Value) -> Value {
    service.call("POST", "/v1/embeddings", body).expect(200)
}

pub fn vector(json: &Value) -> Vec<f32> {
    serde_json::from_value(json.clone()).unwrap()
}

/// The first embedding of an answer.
pub fn first(answer: &Value) -> Vec<f32> {
    vector(&answer["data"][0]["embedding"])
}

fn message(answer: &Value) -> &str {
    answer["error"]["message"].as_str().unwrap()
}

#[test]
fn answers_have_the_shape_that_clients_expect() {
    let service = Setup::new(&["0.3"]).start();
    let url = format!("data:image/png;base64,{}", image(RED));
    let body = json!({"input": [url, image(BLUE)], "model": "live", "user": "somebody"});
    let reply = service.call("POST", "/v1/embeddings", &body);
    assert_eq!(reply.headers["x-embedding-space"], "v0001");
    assert_eq!(reply.headers["x-embedding-route"], "own");
    assert_eq!(reply.headers["x-model-version"], "v0001");
    let answer = reply.expect(200);
    assert_eq!(answer["object"], "list");
    assert_eq!(answer["model"], "v0001");
    assert_eq!(
        answer["usage"],
        json!({"prompt_tokens": 0, "total_tokens": 0})
    );
    for (index, colour) in [RED, BLUE].into_iter().enumerate() {
        let entry = &answer["data"][index];
        assert_eq!(entry["object"], "embedding");
        assert_eq!(entry["index"], index);
        assert_close(&vector(&entry["embedding"]), &expected(colour, 0.3));
    }
    let single = embeddings(&service, &json!({"input": image(RED), "model": "v0001"}));
    assert_eq!(single["data"][0], answer["data"][0]);

    // The same numbers as base64, bit by bit.
    let body = json!({"input": image(RED), "model": "live-query", "encoding_format": "base64", "dimensions": 3});
    let coded = embeddings(&service, &body);
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(coded["data"][0]["embedding"].as_str().unwrap())
        .unwrap();
    let values = bytes
        .chunks_exact(4)
        .map(|four| f32::from_le_bytes(four.try_into().unwrap()));
    assert_eq!(values.collect::<Vec<_>>(), first(&answer));

    let models = service.get("/v1/models").expect(200);
    assert_eq!(models["object"], "list");
    let ids: Vec<&Value> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| &model["id"])
        .collect();
    assert_eq!(ids, ["live", "v0001"]);
    assert_eq!(models["data"][0]["object"], "model");
    assert_eq!(models["data"][0]["owned_by"], "perennial");
    assert!(models["data"][0]["created"].is_i64());
}

#[test]
fn refusals_have_the_shape_of_openai() {
    let service = Setup::new(&["0", "0.1"]).start();
    let post = |body: Value| service.call("POST", "/v1/embeddings", &body);
    let unknown = post(json!({"input": "x", "model": "text-embedding-3-small"})).expect(404);
    assert_eq!(unknown["error"]["code"], "model_not_found");
    assert_eq!(unknown["error"]["type"], "invalid_request_error");
    assert_eq!(unknown["error"]["param"], "model");
    assert!(message(&unknown).contains("live, v0001"), "{unknown}");
    // Known, but not in memory.
    assert_eq!(
        post(json!({"input": image(RED), "model": "v0002"})).code(404),
        "model_not_found"
    );
    let picture = image(RED);
    for (body, says) in [
        (
            json!({"input": "a red square", "model": "live"}),
            "embeds pictures only",
        ),
        (json!({"input": [1, 2, 3], "model": "live"}), "token ids"),
        (json!({"input": [[1, 2, 3]], "model": "live"}), "token ids"),
        (json!({"input": [], "model": "live"}), "1 to 2048 inputs"),
        (
            json!({"input": picture, "model": "live", "dimensions": 2}),
            "have 3 dimensions",
        ),
        (
            json!({"input": picture, "model": "live", "encoding_format": "hex"}),
            "encoding_format",
        ),
        (
            json!({"input": picture, "model": "live", "input_type": "other"}),
            "input_type",
        ),
        (
            json!({"input": picture, "model": "live-query", "input_type": "document"}),
            "contradict",
        ),
        (json!({"input": picture}), "model"),
        (
            json!({"input": picture, "model": "live", "task": 1}),
            "task",
        ),
    ] {
        let answer = post(body).expect(422);
        assert!(message(&answer).contains(says), "{says}: {answer}");
        assert_eq!(answer["error"]["type"], "invalid_request_error");
        assert!(answer["error"].as_object().unwrap().contains_key("param"));
    }
    let nowhere = service.get("/v1/engines").expect(404);
    assert_eq!(nowhere["error"]["type"], "invalid_request_error");
    // Elsewhere, errors are as they were.
    assert!(service.get("/engines").expect(404)["error"]["type"].is_null());

    let mut setup = Setup::new(&["0"]);
    setup.config.keys = keys();
    let closed = setup.start();
    let call =
        || Call::new("POST", "/v1/embeddings").json(&json!({"input": image(RED), "model": "live"}));
    let refused = call().send(closed.address).expect(401);
    assert_eq!(refused["error"]["type"], "authentication_error");
    call().key(READ).send(closed.address).expect(200);

    let empty = Setup::new(&[]).start();
    let answer = empty.call(
        "POST",
        "/v1/embeddings",
        &json!({"input": "x", "model": "live"}),
    );
    assert_eq!(answer.expect(503)["error"]["type"], "server_error");
}

#[test]
fn inputs_and_images_are_told_apart_by_their_keys() {
    let service = Setup::new(&["0"]).start();
    let embed = |body: Value| service.call("POST", "/embed", &body);
    let today = embed(json!({"images": [image(RED)]})).expect(200);
    let reply = embed(json!({"inputs": image(RED)}));
    assert_eq!(reply.headers["x-embedding-space"], "v0001");
    let bare = reply.expect(200);
    assert_eq!(bare, today["embeddings"]);
    let body = json!({"inputs": [image(RED), image(BLUE)], "normalize": false, "truncate": true,
        "truncation_direction": "Right", "prompt_name": "query"});
    assert_eq!(embed(body).expect(200).as_array().unwrap().len(), 2);
    for (body, says) in [
        (json!({}), "exactly one"),
        (
            json!({"images": [image(RED)], "inputs": image(RED)}),
            "exactly one",
        ),
        (
            json!({"images": [image(RED)], "normalize": true}),
            "no other key",
        ),
        (json!({"inputs": "text"}), "embeds pictures only"),
        (json!({"inputs": [[1, 2]]}), "token ids"),
        (
            json!({"inputs": image(RED), "prompt_name": "other"}),
            "prompt_name",
        ),
        (json!({"inputs": image(RED), "dimensions": 7}), "dimensions"),
        (json!({"inputs": image(RED), "what": 7}), "what"),
    ] {
        let answer = embed(body).expect(422);
        assert!(message(&answer).contains(says), "{says}: {answer}");
    }
}

#[test]
fn queries_are_answered_by_both_encoders_in_the_old_space() {
    let mut setup = Setup::new(&["0", "0.5", "1"]);
    setup.registry.set_alias("live", "v0002").unwrap();
    setup.config.answer_in = Some("v0001".parse().unwrap());
    let bridge = bridge(3, 3);
    setup.pairs.certify("v0002", "v0001", dual(&bridge, 0.25));
    let service = setup.start();
    let by_hand = dual_by_hand(&bridge, &expected(RED, 0.0), &expected(RED, 0.5), 0.25);
    for model in ["v0001", "v0002", "live", "v0001-document"] {
        let answer = embeddings(&service, &json!({"input": image(RED), "model": model}));
        assert_close(&first(&answer), &expected(RED, 0.0));
        assert_eq!(answer["model"], "v0001");
    }
    for body in [
        json!({"input": image(RED), "model": "v0001", "input_type": "query"}),
        json!({"input": image(RED), "model": "v0001", "input_type": "search_query"}),
        json!({"input": image(RED), "model": "live-query"}),
    ] {
        let reply = service.call("POST", "/v1/embeddings", &body);
        assert_eq!(reply.headers["x-embedding-route"], "dual");
        assert_eq!(reply.headers["x-model-version"], "v0002");
        assert_close(&first(&reply.expect(200)), &by_hand);
    }
    let tei = json!({"inputs": image(RED), "prompt_name": "query"});
    let tei = service.call("POST", "/embed", &tei).expect(200);
    assert_close(&vector(&tei[0]), &by_hand);
    let other = service.call(
        "POST",
        "/v1/embeddings",
        &json!({"input": image(RED), "model": "other"}),
    );
    assert_eq!(other.code(404), "model_not_found");

    // A version from which no route is certified does not become live.
    assert_eq!(service.swap("v0003").code(409), "incompatible_version");
    service.get("/readyz").expect(200);
    let through = CertifiedWay::Bridged(Arc::clone(&bridge));
    let bridged = vec![Certified::through(through, "the test says so")];
    service.setup.pairs.certify("v0003", "v0001", bridged);
    service.swap("v0003").expect(200);
    let mut by_hand = Vec::new();
    bridge.apply(&expected(RED, 1.0), &mut by_hand).unwrap();
    let body = json!({"input": image(RED), "model": "v0001-query"});
    let reply = service.call("POST", "/v1/embeddings", &body);
    assert_eq!(reply.headers["x-embedding-route"], "bridged");
    assert_close(&first(&reply.expect(200)), &by_hand);

    // A certificate that is withdrawn: queries are refused, documents are not.
    service.setup.pairs.certify("v0003", "v0001", Vec::new());
    let refused = service.call("POST", "/v1/embeddings", &body);
    assert_eq!(refused.code(409), "incompatible_version");
    assert!(message(&service.get("/readyz").expect(503)).contains("v0001"));
    embeddings(&service, &json!({"input": image(RED), "model": "v0001"}));
}

#[test]
fn versions_trained_to_be_comparable_need_no_bridge() {
    let mut setup = Setup::new(&["0", "0.5"]);
    setup.registry.set_alias("live", "v0002").unwrap();
    setup.config.answer_in = Some("v0001".parse().unwrap());
    setup.config.default_input_type = perennial_encode::InputType::Query;
    setup.pairs.allow("v0002", "v0001");
    let service = setup.start();
    let reply = service.call("POST", "/embed", &json!({"inputs": image(RED)}));
    assert_eq!(reply.headers["x-embedding-route"], "own");
    assert_eq!(reply.headers["x-embedding-space"], "v0001");
    assert_close(&vector(&reply.expect(200)[0]), &expected(RED, 0.5));
    let document = json!({"inputs": image(RED), "prompt_name": "passage"});
    let document = service.call("POST", "/embed", &document).expect(200);
    assert_close(&vector(&document[0]), &expected(RED, 0.0));
}

#[test]
fn without_a_certified_route_the_service_starts_only_if_told_so() {
    let start = |change: &dyn Fn(&mut Setup)| {
        let mut setup = Setup::new(&["0", "0.5"]);
        setup.registry.set_alias("live", "v0002").unwrap();
        setup.config.answer_in = Some("v0001".parse().unwrap());
        change(&mut setup);
        setup.try_start()
    };
    let error = start(&|_| {}).err().unwrap().to_string();
    let measure = format!("measure it: {MEASURE} --registry");
    for says in ["answer_in", "v0002", measure.as_str(), "answer_uncertified"] {
        assert!(error.contains(says), "{says}: {error}");
    }
    let service = start(&|setup| {
        setup.config.answer_uncertified = Some(AnswerUncertified::Old);
    })
    .unwrap();
    let body = json!({"input": image(RED), "model": "live-query"});
    let reply = service.call("POST", "/v1/embeddings", &body);
    assert_eq!(reply.headers["x-embedding-route"], "old");
    assert_close(&first(&reply.expect(200)), &expected(RED, 0.0));
    for (space, from, says) in [
        ("v0009", None, "v0009"),
        ("live", None, "alias"),
        ("v0001", Some("nobody"), "answer_from"),
    ] {
        let error = start(&|setup| {
            setup.config.answer_in = Some(space.parse().unwrap());
            setup.config.answer_from = from.map(str::to_owned);
        });
        let error = error.err().unwrap().to_string();
        assert!(error.contains(says), "{error}");
    }
    // The version that is live is the old one still: nothing to certify.
    let same = start(&|setup| setup.config.answer_in = Some("v0002".parse().unwrap())).unwrap();
    let body = json!({"input": image(RED), "model": "v0002-query"});
    assert_close(&first(&embeddings(&same, &body)), &expected(RED, 0.5));
}

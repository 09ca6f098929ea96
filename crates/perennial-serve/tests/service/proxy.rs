//! The service in front of other embedding services: passing on, both at once, and everything that can go wrong there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use perennial_core::{EndpointApi, EndpointKey};
use perennial_serve::UpstreamKey;
use perennial_upgrade::{Certified, CertifiedWay};
use serde_json::{Value, json};

use crate::client::Call;
use crate::endpoints::{bridge, dual, dual_by_hand, embeddings, first, vector};
use crate::harness::{Running, Setup};
use crate::keys::keys;
use crate::limits::wait_until;
use crate::upstream_double::{Behaviour, Double, assert_close, embedding, unit};

const NEW_DIM: usize = 5;
const OLD_DIM: usize = 4;

fn metrics(service: &Running) -> String {
    String::from_utf8(service.get("/metrics").body).unwrap()
}

fn message(answer: &Value) -> &str {
    answer["error"]["message"].as_str().unwrap()
}

#[test]
fn texts_are_passed_on_by_any_of_the_upstreams_names() {
    let double = Double::start(OLD_DIM);
    let mut setup = Setup::new(&[]);
    let config = double.join(&mut setup, "old");
    config.inputs_per_request = 2;
    config.query_prefix = "query: ".to_owned();
    let service = setup.start();
    service.get("/readyz").expect(200);
    let texts = ["a", "b", "c", "d", "e"];
    for model in ["old", "old-space", "old-model"] {
        let answer = embeddings(&service, &json!({"input": texts, "model": model}));
        assert_eq!(answer["model"], "old-space");
        assert_eq!(answer["usage"]["prompt_tokens"], 15);
        let rows = answer["data"].as_array().unwrap();
        for (row, text) in rows.iter().zip(texts) {
            // As the upstream gives them: not scaled.
            assert_close(&vector(&row["embedding"]), &embedding(text, OLD_DIM));
        }
    }
    assert_eq!(double.seen().len(), 9, "two inputs a request");
    assert_eq!(double.seen()[0].body["model"], "old-model");
    assert_eq!(double.seen()[0].authorization, None);
    let query = embeddings(&service, &json!({"input": "a", "model": "old-query"}));
    assert_close(&first(&query), &embedding("query: a", OLD_DIM));
    // By the other protocol: the only encoder is the default one, and vectors are scaled unless they shall not be.
    let tei = service
        .call("POST", "/embed", &json!({"inputs": "a"}))
        .expect(200);
    assert_close(&vector(&tei[0]), &unit(&embedding("a", OLD_DIM)));
    let raw = json!({"inputs": ["a"], "normalize": false});
    let raw = service.call("POST", "/embed", &raw).expect(200);
    assert_close(&vector(&raw[0]), &embedding("a", OLD_DIM));
    let ids = service.get("/v1/models").expect(200);
    let ids: Vec<&Value> = ids["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| &model["id"])
        .collect();
    assert_eq!(ids, ["old", "old-model", "old-space"]);
    let text = metrics(&service);
    let line = r#"perennial_upstream_requests_total{upstream="old",outcome="done"} 12"#;
    assert!(text.contains(line), "{text}");
}

#[test]
fn dual_queries_through_two_upstreams_are_those_of_the_hand() {
    let (old, new) = (Double::start(OLD_DIM), Double::start(NEW_DIM));
    let mut setup = Setup::new(&[]);
    old.join(&mut setup, "old");
    let config = new.join(&mut setup, "new");
    config.api = EndpointApi::Tei;
    config.url = new.tei_url();
    setup.config.answer_in = Some("old-space".parse().unwrap());
    setup.config.answer_from = Some("new".to_owned());
    let bridge = bridge(NEW_DIM, OLD_DIM);
    setup
        .pairs
        .certify("new-space", "old-space", dual(&bridge, 0.4));
    let service = setup.start();
    service.get("/readyz").expect(200);
    for model in ["old-model", "new-model", "old"] {
        let documents = json!({"input": ["one", "two"], "model": model});
        let documents = embeddings(&service, &documents);
        assert_close(&first(&documents), &embedding("one", OLD_DIM));
    }
    assert!(
        new.seen().is_empty(),
        "documents are the old encoder's alone"
    );
    let body = json!({"input": ["one", "two"], "model": "old-model", "input_type": "query"});
    let reply = service.call("POST", "/v1/embeddings", &body);
    assert_eq!(reply.headers["x-embedding-route"], "dual");
    assert_eq!(reply.headers["x-embedding-space"], "old-space");
    let answer = reply.expect(200);
    assert_eq!(answer["usage"]["prompt_tokens"], 6);
    for (index, text) in ["one", "two"].into_iter().enumerate() {
        let (old, new) = (embedding(text, OLD_DIM), embedding(text, NEW_DIM));
        let by_hand = dual_by_hand(&bridge, &old, &new, 0.4);
        assert_close(&vector(&answer["data"][index]["embedding"]), &by_hand);
    }
    let tei = json!({"inputs": ["one", "two"], "prompt_name": "query"});
    let tei = service.call("POST", "/embed", &tei).expect(200);
    assert_eq!(tei[1], answer["data"][1]["embedding"]);

    // Either of the two may fail, and is named.
    new.behave(Behaviour::Status(500, "out of memory"));
    let failed = service.call("POST", "/v1/embeddings", &body).expect(502);
    assert!(message(&failed).contains("upstream new"), "{failed}");
    assert!(message(&failed).contains("out of memory"), "{failed}");
    embeddings(&service, &json!({"input": "one", "model": "old-model"}));
}

/// Queries from `new` into the space of `old`, which has so many seconds to answer.
fn in_one_space(old: &Double, new: &Double, seconds: f64, ways: Vec<Certified>) -> Running {
    let mut setup = Setup::new(&[]);
    old.join(&mut setup, "old").timeout_seconds = seconds;
    new.join(&mut setup, "new");
    setup.config.answer_in = Some("old-space".parse().unwrap());
    setup.config.answer_from = Some("new".to_owned());
    setup.pairs.certify("new-space", "old-space", ways);
    setup.start()
}

#[test]
fn where_a_bridge_alone_is_certified_too_queries_outlast_the_old_encoder() {
    let (old, new) = (Double::start(OLD_DIM), Double::start(NEW_DIM));
    let bridge = bridge(NEW_DIM, OLD_DIM);
    let mut ways = dual(&bridge, 0.4);
    let alone = CertifiedWay::Bridged(Arc::clone(&bridge));
    ways.push(Certified::through(alone, "the test says so"));
    let service = in_one_space(&old, &new, 1.0, ways);
    let ask = |input_type: &str| {
        let body = json!({"input": "one", "model": "old", "input_type": input_type});
        service.call("POST", "/v1/embeddings", &body)
    };
    let fine = ask("query");
    assert_eq!(fine.headers["x-embedding-route"], "dual");
    assert!(!fine.headers.contains_key("x-embedding-fallback"));
    let mut by_hand = Vec::new();
    bridge
        .apply(&embedding("one", NEW_DIM), &mut by_hand)
        .unwrap();
    for (behaviour, reason, status) in [
        (Behaviour::Hanging, "upstream_timeout", 504),
        (Behaviour::Status(500, "broken"), "upstream_failed", 502),
    ] {
        old.behave(behaviour);
        let answer = ask("query");
        assert_eq!(answer.headers["x-embedding-fallback"], reason);
        assert_eq!(answer.headers["x-embedding-route"], "bridged");
        assert_eq!(answer.headers["x-embedding-space"], "old-space");
        assert_close(&first(&answer.expect(200)), &by_hand);
        // The next ones do not wait for it.
        let asked = old.seen().len();
        ask("query").expect(200);
        assert_eq!(old.seen().len(), asked);
        let tei = json!({"inputs": "one", "prompt_name": "query"});
        let tei = service.call("POST", "/embed", &tei);
        assert_eq!(tei.headers["x-embedding-fallback"], reason);
        let text = metrics(&service);
        let line = format!("perennial_answers_without_old_total{{reason=\"{reason}\"}} 3");
        assert!(text.contains(&line), "{text}");
        let ready = service.get("/readyz").expect(200);
        let detail = ready["detail"][0].as_str().unwrap();
        assert!(
            detail.contains("the encoder of old-space fails"),
            "{detail}"
        );
        // Documents need it, and find out when it is back.
        ask("document").expect(status);
        old.behave(Behaviour::Fine);
        ask("document").expect(200);
        assert_eq!(ask("query").headers["x-embedding-route"], "dual");
        assert!(service.get("/readyz").expect(200)["detail"].is_null());
    }
    // What it refuses, it would refuse in any case.
    old.behave(Behaviour::Status(400, "too long"));
    ask("query").expect(422);
    old.behave(Behaviour::Status(500, "broken"));
    new.behave(Behaviour::Status(500, "out of memory"));
    let failed = ask("query").expect(502);
    assert!(message(&failed).contains("upstream new"), "{failed}");
}

#[test]
fn without_another_certified_route_a_query_fails_with_the_old_encoder() {
    let (old, new) = (Double::start(OLD_DIM), Double::start(NEW_DIM));
    let ways = dual(&bridge(NEW_DIM, OLD_DIM), 0.4);
    let service = in_one_space(&old, &new, 1.0, ways);
    old.behave(Behaviour::Status(500, "broken"));
    for _ in 0..2 {
        let body = json!({"input": "one", "model": "old-query"});
        let failed = service.call("POST", "/v1/embeddings", &body).expect(502);
        assert!(message(&failed).contains("upstream old"), "{failed}");
    }
    assert_eq!(old.seen().len(), 2);
}

#[test]
fn whatever_an_upstream_does_wrong_is_named() {
    let double = Double::start(OLD_DIM);
    let mut setup = Setup::new(&[]);
    double.join(&mut setup, "old").timeout_seconds = 1.0;
    let service = setup.start();
    let body = json!({"input": ["a", "b"], "model": "old"});
    let two =
        |row: &str| format!("{{\"data\": [{{\"embedding\": {row}}}, {{\"embedding\": {row}}}]}}");
    for (behaviour, status, says) in [
        (Behaviour::Status(500, "broken"), 502, "status 500: broken"),
        (Behaviour::Status(404, ""), 502, "status 404"),
        (Behaviour::Status(401, "bad key"), 502, "setting `key`"),
        (
            Behaviour::Status(400, "too long"),
            422,
            "refused the input: too long",
        ),
        (Behaviour::Status(429, "slow down"), 429, "slow down"),
        (
            Behaviour::Redirecting,
            502,
            "redirects to http://127.0.0.1:1/other",
        ),
        (
            Behaviour::Text("<!DOCTYPE html><title>x".to_owned()),
            502,
            "HTML instead of JSON",
        ),
        (Behaviour::Text("{}".to_owned()), 502, "data"),
        (Behaviour::Text("{\"data\":".to_owned()), 502, "no JSON"),
        (Behaviour::Text(String::new()), 502, "empty"),
        (Behaviour::Text(two("[0, 0, 0, 0]")), 502, "length 0"),
        (Behaviour::Text(two("[1, null, 0, 0]")), 502, "null"),
        (Behaviour::TooLarge, 502, "more than"),
        (Behaviour::Shorter, 502, "3 dimensions, but its space has 4"),
        (Behaviour::Fewer, 502, "1 embeddings for 2 inputs"),
        (Behaviour::Infinite, 502, "NaN or infinite"),
        (Behaviour::Hanging, 504, "did not answer within 1 seconds"),
    ] {
        double.behave(behaviour.clone());
        let answer = service.call("POST", "/v1/embeddings", &body).expect(status);
        assert!(message(&answer).starts_with("upstream old "), "{answer}");
        assert!(message(&answer).contains(says), "{behaviour:?}: {answer}");
    }
    drop(double);
    let gone = || service.call("POST", "/v1/embeddings", &body);
    wait_until(|| message(&gone().expect(502)).contains("refuses connections"));
}

#[test]
fn failures_that_may_pass_are_repeated() {
    let double = Double::start(OLD_DIM);
    let mut setup = Setup::new(&[]);
    double.join(&mut setup, "old").retries = 2;
    let service = setup.start();
    let body = json!({"input": "a", "model": "old"});
    double.behave(Behaviour::FailingFirst(2));
    embeddings(&service, &body);
    assert_eq!(double.seen().len(), 3);
    double.behave(Behaviour::FailingFirst(3));
    service.call("POST", "/v1/embeddings", &body).expect(502);
    assert_eq!(double.seen().len(), 6);
    // It asks to come back after all time, and is taken at its word.
    double.behave(Behaviour::RetryAfter("18446744073709551615"));
    let busy = service.call("POST", "/v1/embeddings", &body);
    assert_eq!(busy.headers["retry-after"], "18446744073709551615");
    busy.expect(429);
    assert_eq!(double.seen().len(), 7);
    // Nonsense stays nonsense.
    double.behave(Behaviour::Shorter);
    service.call("POST", "/v1/embeddings", &body).expect(502);
    assert_eq!(double.seen().len(), 8);
}

#[test]
fn only_so_many_requests_wait_for_an_upstream() {
    let double = Double::start(OLD_DIM);
    let mut setup = Setup::new(&[]);
    let config = double.join(&mut setup, "old");
    config.max_in_flight = 1;
    config.timeout_seconds = 2.0;
    let service = setup.start();
    double.behave(Behaviour::Hanging);
    let address = service.address;
    let call = || Call::new("POST", "/v1/embeddings").json(&json!({"input": "a", "model": "old"}));
    let slow = call();
    let slow = std::thread::spawn(move || slow.send(address).expect(504));
    wait_until(|| double.seen().len() == 1);
    let begun = Instant::now();
    let answer = call().send(address);
    // Whichever of the two ends first: the wait for a place, or the hanging request.
    assert!(matches!(answer.status, 429 | 504), "{}", answer.status);
    assert!(begun.elapsed() < Duration::from_secs(20));
    slow.join().unwrap();
    service.get("/livez").expect(200);
}

#[test]
fn keys_reach_upstreams_and_nobody_else() {
    let double = Double::start(OLD_DIM);
    let mut setup = Setup::new(&[]);
    double.join(&mut setup, "old").key = UpstreamKey::Client;
    let service = setup.start();
    let call = || Call::new("POST", "/v1/embeddings").json(&json!({"input": "a", "model": "old"}));
    call()
        .key("sk-of-the-client")
        .send(service.address)
        .expect(200);
    call().send(service.address).expect(200);
    let seen: Vec<_> = double
        .seen()
        .into_iter()
        .map(|seen| seen.authorization)
        .collect();
    assert_eq!(seen, [Some("Bearer sk-of-the-client".to_owned()), None]);
    double.behave(Behaviour::Status(401, "no such key: sk-of-the-client"));
    let refused = call()
        .key("sk-of-the-client")
        .send(service.address)
        .expect(401);
    assert!(
        message(&refused).contains("no such key: [key]"),
        "{refused}"
    );

    let mut setup = Setup::new(&[]);
    let path = setup.folder.path().join("key");
    std::fs::write(&path, "sk-of-the-service\n").unwrap();
    double.behave(Behaviour::Fine);
    double.join(&mut setup, "old").key = UpstreamKey::Own(EndpointKey::File(path));
    let service = setup.start();
    call()
        .key("sk-of-the-client")
        .send(service.address)
        .expect(200);
    let last = double.seen().pop().unwrap().authorization.unwrap();
    assert_eq!(last, "Bearer sk-of-the-service");

    // A key of this service is never passed on.
    let mut setup = Setup::new(&[]);
    double.join(&mut setup, "old").key = UpstreamKey::Client;
    setup.config.keys = keys();
    let error = setup.try_start().err().unwrap().to_string();
    assert!(error.contains("upstream.old.key"), "{error}");
    for key in ["file:/nowhere/key", "env:PERENNIAL_TEST_NO_SUCH_VARIABLE"] {
        let mut setup = Setup::new(&[]);
        double.join(&mut setup, "old").key = key.to_owned().try_into().unwrap();
        let error = setup.try_start().err().unwrap().to_string();
        assert!(error.contains("upstream.old.key"), "{error}");
    }
}

#[test]
fn a_model_that_changes_behind_its_name_is_noticed() {
    let double = Double::start(OLD_DIM);
    let mut setup = Setup::new(&[]);
    double.join_with(&mut setup, "old", Some(&["one", "two"]));
    let service = setup.start();
    let ready = || service.get("/readyz").expect(200);
    wait_until(|| {
        metrics(&service).contains(r#"perennial_upstream_canary_distance{upstream="old"} 0"#)
    });
    assert!(metrics(&service).contains(r#"perennial_upstream_drifted{upstream="old"} 0"#));
    assert!(ready()["detail"].is_null());
    double.drift(0.5);
    wait_until(|| metrics(&service).contains(r#"perennial_upstream_drifted{upstream="old"} 1"#));
    wait_until(|| ready()["detail"].is_array());
    let warning = ready()["detail"][0].as_str().unwrap().to_owned();
    assert!(
        warning.contains("upstream old: its model has changed"),
        "{warning}"
    );
    double.drift(0.0);
    wait_until(|| ready()["detail"].is_null());
    double.behave(Behaviour::Status(500, ""));
    wait_until(|| ready()["detail"].is_array());

    // Inputs and embeddings must belong together.
    let mut setup = Setup::new(&[]);
    double.join_with(&mut setup, "old", Some(&["one", "two"]));
    std::fs::write(setup.folder.path().join("old.txt"), "one\n").unwrap();
    let error = setup.try_start().err().unwrap().to_string();
    assert!(error.contains("2 canaries"), "{error}");
}

#[test]
fn an_upstream_needs_a_registered_space() {
    let double = Double::start(OLD_DIM);
    let mut setup = Setup::new(&[]);
    double.join(&mut setup, "old").space = "elsewhere".parse().unwrap();
    let error = setup.try_start().err().unwrap().to_string();
    for says in ["upstream.old.space", "elsewhere", "perennial spaces add"] {
        assert!(error.contains(says), "{error}");
    }
    let mut setup = Setup::new(&[]);
    double.join(&mut setup, "old");
    setup.config.upstream.clear();
    setup.config.answer_in = Some("old-space".parse().unwrap());
    let error = setup.try_start().err().unwrap().to_string();
    assert!(error.contains("[upstream.NAME]"), "{error}");
}

//! With `answer_in`, a route is chosen by what the inputs are: no encoder is given what it does not embed.

use std::sync::Arc;

use perennial_upgrade::{Certified, CertifiedWay};
use serde_json::{Value, json};

use crate::client::Answer;
use crate::encoder::{expected, expected_of_text, outside_draft, publish_outside};
use crate::endpoints::{bridge, dual, first};
use crate::harness::{Running, Setup, image};
use crate::upstream_double::assert_close;

const RED: [u8; 3] = [250, 10, 10];

/// Versions of pictures, of texts, of both, and of pictures again.
fn setup(answer_in: &str, live: &str) -> Setup {
    let mut setup = Setup::new(&["0"]);
    publish_outside(&setup.registry, outside_draft(3, false), "0.3");
    publish_outside(&setup.registry, outside_draft(3, true), "0.6");
    setup
        .registry
        .publish(crate::encoder::draft(3), b"0.9")
        .unwrap();
    setup.registry.set_alias("live", live).unwrap();
    setup.config.answer_in = Some(answer_in.parse().unwrap());
    setup
}

fn ask(service: &Running, input: Value) -> Answer {
    let body = json!({"input": input, "model": "live-query"});
    service.call("POST", "/v1/embeddings", &body)
}

#[test]
fn texts_do_not_go_to_a_new_encoder_of_pictures() {
    let setup = setup("v0002", "v0001");
    setup.pairs.allow("v0001", "v0002");
    let service = setup.start();
    let reply = ask(&service, json!(["rrg", "b"]));
    assert_eq!(reply.headers["x-embedding-route"], "old");
    assert_eq!(reply.headers["x-embedding-space"], "v0002");
    assert_close(&first(&reply.expect(200)), &expected_of_text("rrg", 0.3));
    let tei = json!({"inputs": "rrg", "prompt_name": "query"});
    let reply = service.call("POST", "/embed", &tei);
    assert_eq!(reply.headers["x-embedding-route"], "old");
    // A picture has its certified route.
    let reply = ask(&service, json!(image(RED)));
    assert_eq!(reply.headers["x-embedding-route"], "own");
    assert_close(&first(&reply.expect(200)), &expected(RED, 0.0));
    // No encoder embeds both.
    let refused = ask(&service, json!(["rrg", image(RED)]));
    assert_eq!(refused.code(422), "unprocessable");
    let message = refused.json()["error"]["message"].to_string();
    assert!(
        message.contains("neither v0002 nor v0001 embeds pictures and texts"),
        "{message}"
    );
}

#[test]
fn texts_take_no_dual_route_with_an_old_encoder_of_pictures() {
    let setup = setup("v0001", "v0003");
    let bridge = bridge(3, 3);
    setup.pairs.certify("v0003", "v0001", dual(&bridge, 0.5));
    let service = setup.start();
    let reply = ask(&service, json!(image(RED)));
    assert_eq!(reply.headers["x-embedding-route"], "dual");
    let refused = ask(&service, json!("rrg"));
    assert_eq!(refused.code(409), "incompatible_version");
    let message = refused.json()["error"]["message"].to_string();
    assert!(message.contains("texts"), "{message}");
    // The next route in line does without the old encoder.
    let bridged = CertifiedWay::Bridged(Arc::clone(&bridge));
    let mut ways = dual(&bridge, 0.5);
    ways.push(Certified::through(bridged, "the test says so"));
    service.setup.pairs.certify("v0003", "v0001", ways);
    let reply = ask(&service, json!("rrg"));
    assert_eq!(reply.headers["x-embedding-route"], "bridged");
    let mut by_hand = Vec::new();
    bridge
        .apply(&expected_of_text("rrg", 0.6), &mut by_hand)
        .unwrap();
    assert_close(&first(&reply.expect(200)), &by_hand);
    assert_eq!(
        ask(&service, json!(image(RED))).headers["x-embedding-route"],
        "dual"
    );
}

#[test]
fn what_no_encoder_embeds_is_refused() {
    let setup = setup("v0001", "v0004");
    setup.pairs.allow("v0004", "v0001");
    let service = setup.start();
    let refused = ask(&service, json!("rrg"));
    assert_eq!(refused.code(422), "unprocessable");
    let answer = refused.json();
    assert!(
        answer["error"]["message"]
            .to_string()
            .contains("neither v0001 nor v0004 embeds texts")
    );
    assert_eq!(answer["error"]["param"], "input");
}

#[test]
fn two_encoders_share_a_queue_that_is_too_small_for_both() {
    let mut setup = setup("v0003", "v0001");
    setup.config.batching.queue_images = 4;
    setup.config.batching.max_batch = 4;
    setup.config.limits.images = 4;
    let bridge = bridge(3, 3);
    setup.pairs.certify("v0001", "v0003", dual(&bridge, 0.5));
    let service = setup.start();
    let pictures = vec![image(RED); 4];
    for _ in 0..5 {
        // The places of the request before are free a moment after its answer.
        let mut replies = (0..200).map(|again| {
            std::thread::sleep(std::time::Duration::from_millis(u64::from(again > 0) * 10));
            ask(&service, json!(pictures))
        });
        let reply = replies.find(|reply| reply.status != 429).unwrap();
        assert_eq!(reply.expect(200)["data"].as_array().unwrap().len(), 4);
        assert_eq!(reply.headers["x-embedding-route"], "dual");
    }
}

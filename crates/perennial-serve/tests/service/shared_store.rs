//! A store that other processes write to as well, and that may be out of reach.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use perennial_gallery::{Item, VectorStore};
use serde_json::json;

use crate::encoder::expected;
use crate::harness::{Running, Setup, image};

const RED: [u8; 3] = [250, 10, 10];

fn start() -> Running {
    let setup = Setup::new(&["0"]);
    setup.store.shared.store(true, Ordering::SeqCst);
    setup.start()
}

/// Waits for what the service finds out by itself.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn what_others_store_is_found_without_a_write_of_the_services_own() {
    let service = start();
    let search = json!({"image": image(RED), "limit": 3});
    let hits = || {
        let answer = service.call("POST", "/search", &search).expect(200);
        answer["hits"].as_array().unwrap().len()
    };
    assert_eq!(hits(), 0);
    let item = Item {
        id: 1.into(),
        embedding: expected(RED, 0.0).to_vec(),
        model_version: "v0001".to_owned(),
        label: None,
        payload: serde_json::Map::new(),
    };
    service.setup.store.upsert(vec![item]).unwrap();
    wait_until("the item is not found", || hits() == 1);
}

#[test]
fn a_service_whose_store_is_out_of_reach_is_not_ready() {
    let service = start();
    assert_eq!(service.get("/readyz").status, 200);
    service
        .setup
        .store
        .uncountable
        .store(true, Ordering::SeqCst);
    wait_until("it is still ready", || service.get("/readyz").status == 503);
    let detail = service.get("/readyz").body;
    let detail = String::from_utf8_lossy(&detail);
    assert!(detail.contains("database"), "{detail}");
    service
        .setup
        .store
        .uncountable
        .store(false, Ordering::SeqCst);
    wait_until("it is not ready again", || {
        service.get("/readyz").status == 200
    });
}

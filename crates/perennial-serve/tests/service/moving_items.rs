//! Items that move from one space to another while a search goes through both.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use perennial_gallery::{Item, VectorStore};
use perennial_upgrade::store_space;
use serde_json::{Value, json};

use crate::backfill::{pictures, status, wait_for};
use crate::client::Call;
use crate::encoder::png;
use crate::harness::{Running, Setup};
use crate::memory_store::{MemoryStore, Moment, Watch};
use crate::mixed::{NEW, NEW_ANGLE, OLD, bridged, embedded, mixed};

/// The mixed gallery with a certified bridge, and with the simplexes of its versions.
fn two_spaces() -> Setup {
    let setup = mixed("0");
    setup.pairs.certify("v0002", "v0001", vec![bridged()]);
    for version in ["v0001", "v0002"] {
        let space = store_space(&setup.registry.get(version).unwrap()).unwrap();
        setup.store.create_space(&space).unwrap();
    }
    setup
}

fn moved(id: u64) -> Item {
    Item {
        id: id.into(),
        embedding: embedded(OLD[0], 0.5, NEW_ANGLE, 5),
        model_version: "v0002".to_owned(),
        label: None,
        payload: serde_json::Map::new(),
    }
}

fn query() -> Value {
    json!({
        "embedding": embedded(NEW[0], 0.5, NEW_ANGLE, 5),
        "model_version": "v0002",
        "limit": 1000,
    })
}

/// How often each item was found, and in which space.
fn found(answer: &Value) -> BTreeMap<u64, Vec<String>> {
    let mut found: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for hit in answer["hits"].as_array().unwrap() {
        let spaces = found.entry(hit["id"].as_u64().unwrap()).or_default();
        spaces.push(hit["space"].as_str().unwrap().to_owned());
    }
    found
}

/// Who moves the item.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mover {
    Client,
    /// Another process, of which the service knows nothing.
    Other,
}

impl Mover {
    fn move_item(self, store: &MemoryStore, address: std::net::SocketAddr) {
        let item = moved(1);
        match self {
            Self::Client => {
                let body = json!({"id": 1, "embedding": item.embedding, "model_version": "v0002"});
                let call = Call::new("PUT", "/gallery/items").json(&body);
                call.send(address).expect(200);
            }
            Self::Other => drop(store.upsert(vec![item]).unwrap()),
        }
    }
}

fn wait_for_flag(flag: &AtomicBool) {
    let begun = Instant::now();
    while !flag.load(Ordering::SeqCst) && begun.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Moves item 1 once, when `first` was searched and before `second` is.
fn between(service: &Running, first: &'static str, second: &'static str, mover: Mover) -> Watch {
    let address = service.address;
    let searched = AtomicBool::new(false);
    let moved = AtomicBool::new(false);
    Arc::new(move |store, spaces, moment| {
        let is = |name: &str| spaces.iter().any(|space| space.as_str() == name);
        if is(first) && moment == Moment::After {
            searched.store(true, Ordering::SeqCst);
        }
        if is(second) && moment == Moment::Before && !moved.swap(true, Ordering::SeqCst) {
            wait_for_flag(&searched);
            mover.move_item(store, address);
        }
    })
}

#[test]
fn an_item_that_moves_between_two_searches_is_found_once() {
    for mover in [Mover::Client, Mover::Other] {
        for (first, second) in [("v0001", "v0002"), ("v0002", "v0001")] {
            let setup = two_spaces();
            let shared = mover == Mover::Other;
            setup.store.shared.store(shared, Ordering::SeqCst);
            let service = setup.start();
            let watch = between(&service, first, second, mover);
            *service.setup.store.around_search.lock().unwrap() = Some(watch);
            let answer = service.call("POST", "/search", &query()).expect(200);
            let found = found(&answer);
            let ids: Vec<u64> = found.keys().copied().collect();
            assert_eq!(ids, [1, 2, 3, 4, 11, 12, 13, 14], "{first} first: {answer}");
            for (id, spaces) in found {
                let space = if id == 1 || id > 4 { "v0002" } else { "v0001" };
                assert_eq!(spaces, [space], "item {id}, {first} first");
            }
        }
    }
}

#[test]
fn an_item_that_moves_into_a_space_without_items_is_found() {
    let setup = two_spaces();
    let ids: Vec<_> = (11..15u64).map(Into::into).collect();
    setup.store.delete(&ids).unwrap();
    let service = setup.start();
    let address = service.address;
    let done = AtomicBool::new(false);
    let watch: Watch = Arc::new(move |store, _, moment| {
        if moment == Moment::Before && !done.swap(true, Ordering::SeqCst) {
            Mover::Client.move_item(store, address);
        }
    });
    *service.setup.store.around_search.lock().unwrap() = Some(watch);
    let answer = service.call("POST", "/search", &query()).expect(200);
    let ids: Vec<u64> = found(&answer).into_keys().collect();
    assert_eq!(ids, [1, 2, 3, 4], "{answer}");
    assert_eq!(answer["parts"].as_array().unwrap().len(), 2);
}

/// The parts that one search goes through, each by its first space, while something happens once, right before the first of them is searched.
fn searched(service: &Running, meanwhile: impl Fn() + Send + Sync + 'static) -> Vec<String> {
    let searches = Arc::new(Mutex::new(Vec::new()));
    let counted = Arc::clone(&searches);
    let done = AtomicBool::new(false);
    let watch: Watch = Arc::new(move |_, spaces, moment| {
        if moment == Moment::Before {
            counted.lock().unwrap().push(spaces[0].to_string());
            if !done.swap(true, Ordering::SeqCst) {
                meanwhile();
            }
        }
    });
    *service.setup.store.around_search.lock().unwrap() = Some(watch);
    service.call("POST", "/search", &query()).expect(200);
    *service.setup.store.around_search.lock().unwrap() = None;
    let mut searches = std::mem::take(&mut *searches.lock().unwrap());
    searches.sort();
    searches
}

#[test]
fn nothing_is_searched_twice_while_nothing_moves() {
    let service = two_spaces().start();
    service.store(15, OLD[1], 0.0, "v0001").expect(200);
    assert_eq!(searched(&service, || ()), ["v0001", "v0002"]);
    let address = service.address;
    let put = move |id: u64, space: &'static str| {
        move || {
            let embedding = moved(1).embedding;
            let body = json!({"id": id, "embedding": embedding, "model_version": space});
            let call = Call::new("PUT", "/gallery/items").json(&body);
            call.send(address).expect(200);
        }
    };
    // A new item, and another one in the place of that.
    assert_eq!(searched(&service, put(16, "v0002")), ["v0001", "v0002"]);
    assert_eq!(searched(&service, put(16, "v0002")), ["v0001", "v0002"]);
    let deleted = move || {
        let call = Call::new("DELETE", "/gallery/items").json(&json!({"ids": [16]}));
        call.send(address).expect(200);
    };
    assert_eq!(searched(&service, deleted), ["v0001", "v0002"]);
    let moves = ["v0001", "v0002", "v0002"];
    assert_eq!(searched(&service, put(1, "v0002")), moves);
    // Of a store that does not count moves, every write may be one.
    service.setup.store.shared.store(true, Ordering::SeqCst);
    assert_eq!(searched(&service, put(17, "v0002")), moves);
}

#[test]
fn an_item_that_is_deleted_and_stored_elsewhere_is_found_once() {
    let service = two_spaces().start();
    let first = AtomicBool::new(false);
    let stored = AtomicBool::new(false);
    let watch: Watch = Arc::new(move |store, spaces, moment| {
        let is = |name: &str| spaces.iter().any(|space| space.as_str() == name);
        if is("v0001") && moment == Moment::After {
            first.store(true, Ordering::SeqCst);
        }
        if is("v0002") && moment == Moment::Before && !stored.swap(true, Ordering::SeqCst) {
            wait_for_flag(&first);
            store.delete(&[1.into()]).unwrap();
            store.upsert(vec![moved(1)]).unwrap();
        }
    });
    *service.setup.store.around_search.lock().unwrap() = Some(watch);
    let answer = service.call("POST", "/search", &query()).expect(200);
    assert_eq!(found(&answer)[&1], ["v0002"], "{answer}");
}

/// The mixed gallery with so many old items more, whose pictures can be fetched.
fn with_pictures(items: u64) -> Setup {
    let setup = two_spaces();
    let folder = pictures(&setup);
    let all = (1..=4).chain(100..100 + items).map(|id| {
        let colour = [(id % 251) as u8, (id / 3 % 200) as u8, 90];
        let file = format!("{id}.png");
        std::fs::write(folder.join(&file), png(colour, 8)).unwrap();
        let payload = json!({ "file": file });
        Item {
            id: id.into(),
            embedding: embedded(colour, 0.4, 0.0, 3),
            model_version: "v0001".to_owned(),
            label: None,
            payload: payload.as_object().unwrap().clone(),
        }
    });
    setup.store.upsert(all.collect()).unwrap();
    setup
}

#[test]
fn every_item_is_found_exactly_once_while_a_backfill_runs() {
    const ITEMS: u64 = 400;
    let service = with_pictures(ITEMS).start();
    // What is searched first is as random as threads are.
    let turn = AtomicUsize::new(0);
    let watch: Watch = Arc::new(move |_, _, moment| {
        if moment == Moment::Before {
            let wait = turn.fetch_add(1, Ordering::SeqCst) % 3;
            std::thread::sleep(Duration::from_millis(wait as u64));
        }
    });
    *service.setup.store.around_search.lock().unwrap() = Some(watch);
    let folder = pictures(&service.setup);
    let body = json!({"originals": {"folder": folder}});
    service.call("POST", "/backfill", &body).expect(200);
    let mixed_answers = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let searching = || {
            while status(&service)["state"] == "running" {
                let answer = service.call("POST", "/search", &query()).expect(200);
                let found = found(&answer);
                for (id, spaces) in &found {
                    assert_eq!(spaces.len(), 1, "item {id} was found in {spaces:?}");
                }
                assert_eq!(found.len() as u64, ITEMS + 8);
                let old = found.values().filter(|spaces| *spaces[0] == *"v0001");
                if (1..ITEMS as usize).contains(&old.count()) {
                    mixed_answers.fetch_add(1, Ordering::SeqCst);
                }
            }
        };
        scope.spawn(searching);
        searching();
    });
    let done = wait_for(&service, "finished");
    assert_eq!(done["done"], ITEMS + 4);
    assert!(mixed_answers.load(Ordering::SeqCst) > 3);
}

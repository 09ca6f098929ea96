//! Hits are embedded again and ranked by the live version's own similarities.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use perennial_serve::Downloads;
use perennial_upgrade::backfill::{Answer, Download, Failure, FailureReason};
use serde_json::{Value, json};

use crate::backfill::{colour, is_near, item, per_version, pictures, upgraded};
use crate::client::Call;
use crate::encoder::{expected, png};
use crate::harness::{Running, Setup, image};
use crate::keys::{READ, WRITE, keys};
use crate::limits::wait_until;

/// Items of the first version, whose originals lie in a folder that the service knows; the second version is live.
fn with_folder(items: u64) -> Setup {
    let mut setup = upgraded(items);
    let folder = pictures(&setup);
    setup.config.originals = Some(folder.to_str().unwrap().to_owned());
    setup
}

fn ask(service: &Running, more: &Value) -> Value {
    let mut body = json!({"image": image(colour(7))});
    let object = body.as_object_mut().unwrap();
    object.extend(more.as_object().unwrap().clone());
    service.call("POST", "/search", &body).expect(200)
}

fn ids(answer: &Value) -> Vec<u64> {
    let hits = answer["hits"].as_array().unwrap().iter();
    hits.map(|hit| hit["id"].as_u64().unwrap()).collect()
}

fn own(answer: &Value) -> Vec<Option<f64>> {
    let hits = answer["hits"].as_array().unwrap().iter();
    hits.map(|hit| hit["own_score"].as_f64()).collect()
}

fn ranked_by(answer: &Value) -> Vec<&str> {
    let hits = answer["hits"].as_array().unwrap().iter();
    hits.map(|hit| hit["ranked_by"].as_str().unwrap()).collect()
}

#[test]
fn the_live_version_ranks_what_it_would_have_embedded() {
    let service = with_folder(9).start();
    let plain = ask(&service, &json!({"limit": 9}));
    assert_eq!(plain["second_stage"], Value::Null);
    assert!(own(&plain).iter().all(Option::is_none));
    // More hits are ranked than are asked for.
    let answer = ask(&service, &json!({"limit": 3, "rerank": 9}));
    assert_eq!((ids(&answer)[0], ids(&answer).len()), (7, 3));
    let scores = own(&answer);
    assert!(scores[0].unwrap() > 0.9999, "{answer}");
    assert!(scores.is_sorted_by(|one, next| one >= next), "{answer}");
    let stage = &answer["second_stage"];
    assert_eq!(
        [&stage["hits"], &stage["embedded"], &stage["known"]],
        [&json!(9), &json!(9), &json!(0)]
    );
    assert_eq!(
        [&stage["failed"], &stage["out_of_time"], &stage["backfill"]],
        [&json!({}), &json!(0), &Value::Null]
    );
    // It says where a hit was found, and nothing was stored.
    assert_eq!(answer["hits"][0]["space"], "v0001");
    assert_eq!(per_version(&service), json!({"v0001": 9}));
    // Hits behind the first ones stay.
    let two = ask(&service, &json!({"limit": 9, "rerank": 2}));
    assert_eq!(ids(&two)[2..], ids(&plain)[2..]);
    assert!(own(&two)[2..].iter().all(Option::is_none));
    assert_eq!(ranked_by(&two)[..3], ["own_score", "own_score", "score"]);
}

#[test]
fn hits_without_an_original_keep_their_places_and_say_why() {
    let service = with_folder(9).start();
    let plain = ask(&service, &json!({"limit": 9}));
    let lost = [ids(&plain)[0], ids(&plain)[4]];
    for id in lost {
        std::fs::remove_file(pictures(&service.setup).join(format!("{id}.png"))).unwrap();
    }
    let other = ids(&plain)[6];
    let folder = pictures(&service.setup);
    std::fs::write(folder.join(format!("{other}.png")), png([1, 2, 3], 8)).unwrap();
    let answer = ask(&service, &json!({"limit": 9, "rerank": 9}));
    for place in [0, 4, 6] {
        assert_eq!(ids(&answer)[place], ids(&plain)[place], "{answer}");
        assert_eq!(own(&answer)[place], None);
        assert_eq!(ranked_by(&answer)[place], "kept_place");
    }
    let stage = &answer["second_stage"];
    assert_eq!(stage["failed"], json!({"gone": 2, "other_original": 1}));
    assert_eq!(stage["failures"].as_array().unwrap().len(), 3);
    assert_eq!(stage["embedded"], 6);
    let ranked: Vec<f64> = own(&answer).into_iter().flatten().collect();
    assert!(ranked.is_sorted_by(|one, next| one >= next), "{answer}");
}

#[test]
fn what_was_embedded_is_stored_on_request() {
    let mut setup = with_folder(5);
    setup.config.keys = keys();
    let service = setup.start();
    let body = json!({"image": image(colour(3)), "rerank": 5, "backfill": true});
    let send = |key: &str, body: &Value| {
        let call = Call::new("POST", "/search").key(key).json(body);
        call.send(service.address)
    };
    assert_eq!(send(READ, &body).code(403), "forbidden");
    let answer = send(WRITE, &body).expect(200);
    assert_eq!(
        answer["second_stage"]["backfill"],
        json!({"done": 5, "changed": 0, "problem": null})
    );
    let get = |path: &str| Call::new("GET", path).key(READ).send(service.address);
    let stats = get("/gallery/stats").expect(200);
    assert_eq!(stats["per_version"], json!({"v0002": 5}));
    let third = get("/gallery/items/3?embedding=true").expect(200);
    assert!(is_near(&third, colour(3), 0.5), "{third}");
    assert_eq!(
        (&third["label"], &third["payload"]["name"]),
        (&json!(3), &json!(3))
    );
    // From now on there is nothing to be fetched; items and embeddings of the live version are ranked as pictures are.
    for query in [
        json!({"id": 3, "rerank": 5}),
        json!({"embedding": expected(colour(3), 0.5), "rerank": 5}),
    ] {
        let again = send(READ, &query).expect(200);
        assert_eq!(again["second_stage"]["known"], 5);
        assert_eq!(again["hits"][0]["id"], 3);
    }
}

/// A place that answers only once it is told to.
#[derive(Default)]
struct Held {
    open: AtomicBool,
    asked: AtomicUsize,
}

impl Download for Held {
    fn get(&self, url: &str, _: u64) -> Result<Answer, Failure> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        while !self.open.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let id = url.rsplit('/').next().and_then(|id| id.parse().ok());
        let gone = || Failure::new(FailureReason::Gone, "no such picture");
        let answer = |id| Answer {
            file: png(colour(id), 8),
            content_type: Some("image/png".to_owned()),
        };
        id.map(answer).ok_or_else(gone)
    }
}

fn with_held_place(items: u64, rerank_seconds: f64) -> (Setup, Arc<Held>) {
    let mut setup = upgraded(items);
    let place = Arc::new(Held::default());
    setup.config.downloads = Downloads::with(place.clone());
    setup.config.originals = Some("https://host/{id}".to_owned());
    setup.config.timeouts.rerank_seconds = rerank_seconds;
    (setup, place)
}

#[test]
fn a_newer_item_is_never_overwritten() {
    let (setup, place) = with_held_place(4, 25.0);
    let service = setup.start();
    let address = service.address;
    let searching = std::thread::spawn(move || {
        let body = json!({"image": image(colour(1)), "rerank": 4, "backfill": true});
        Call::new("POST", "/search").json(&body).send(address)
    });
    wait_until(|| place.asked.load(Ordering::SeqCst) > 0);
    let newer = json!({"id": 2, "embedding": expected(colour(2), 1.5), "model_version": "v0002"});
    service.call("PUT", "/gallery/items", &newer).expect(200);
    place.open.store(true, Ordering::SeqCst);
    let answer = searching.join().unwrap().expect(200);
    assert_eq!(
        answer["second_stage"]["backfill"],
        json!({"done": 3, "changed": 1, "problem": null})
    );
    assert!(is_near(&item(&service, 2), colour(2), 1.5));
    assert!(is_near(&item(&service, 3), colour(3), 0.5));
}

#[test]
fn a_place_that_does_not_answer_in_time_costs_the_second_stage_only() {
    let (setup, place) = with_held_place(9, 0.2);
    let service = setup.start();
    let plain = ask(&service, &json!({"limit": 9}));
    let answer = ask(
        &service,
        &json!({"limit": 9, "rerank": 9, "backfill": true}),
    );
    place.open.store(true, Ordering::SeqCst);
    assert_eq!(ids(&answer), ids(&plain));
    let stage = &answer["second_stage"];
    assert_eq!(
        (&stage["out_of_time"], &stage["embedded"]),
        (&json!(9), &json!(0))
    );
    assert_eq!(stage["backfill"]["done"], 0);
}

#[test]
fn a_full_disk_costs_the_write_only() {
    let service = with_folder(3).start();
    service.setup.store.broken.store(true, Ordering::SeqCst);
    let answer = ask(&service, &json!({"rerank": 3, "backfill": true}));
    let stage = &answer["second_stage"];
    assert_eq!((&stage["embedded"], ids(&answer).len()), (&json!(3), 3));
    let problem = stage["backfill"]["problem"].as_str().unwrap();
    assert!(problem.contains("storage"), "{problem}");
}

#[test]
fn what_cannot_work_is_refused() {
    let service = with_folder(3).start();
    for (more, says) in [
        (json!({"rerank": 0}), "rerank"),
        (json!({"rerank": 65}), "limits.rerank"),
        (json!({"backfill": true}), "only allowed with `rerank`"),
    ] {
        let mut body = json!({"image": image(colour(1))});
        let object = body.as_object_mut().unwrap();
        object.extend(more.as_object().unwrap().clone());
        let refused = service.call("POST", "/search", &body);
        assert_eq!(refused.code(422), "unprocessable");
        let message = refused.json()["error"]["message"].to_string();
        assert!(message.contains(says), "{message}");
    }
    // The query of an old item says nothing about the live version.
    let refused = service.call("POST", "/search", &json!({"id": 1, "rerank": 3}));
    assert_eq!(refused.code(422), "unprocessable");
    assert!(refused.json().to_string().contains("live version v0002"));

    let without = upgraded(3).start();
    let body = json!({"image": image(colour(1)), "rerank": 3});
    let refused = without.call("POST", "/search", &body);
    assert_eq!(refused.code(422), "unprocessable");
    assert!(refused.json().to_string().contains("originals"));

    let mut reading = with_folder(3);
    reading.config.read_only = true;
    let reading = reading.start();
    let mut body = body;
    reading.call("POST", "/search", &body).expect(200);
    body["backfill"] = json!(true);
    let refused = reading.call("POST", "/search", &body);
    assert_eq!(refused.code(403), "read_only");

    let mut nowhere = upgraded(1);
    nowhere.config.originals = Some("/no/such/folder".to_owned());
    let error = nowhere.try_start().err().unwrap().to_string();
    assert!(error.contains("setting originals"), "{error}");
}

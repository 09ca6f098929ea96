//! Backfills whose originals lie behind addresses.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use perennial_serve::Downloads;
use perennial_upgrade::backfill::{Answer, Download, Failure, FailureReason};
use serde_json::{Value, json};

use crate::backfill::{add, add_with, colour, post, upgraded, wait_for};
use crate::encoder::png;
use crate::harness::Running;

/// Files by address; everything else does not answer.
#[derive(Default)]
struct Shelf {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Download for Shelf {
    fn get(&self, url: &str, max_bytes: u64) -> Result<Answer, Failure> {
        assert!(max_bytes > 0);
        let files = self.files.lock().unwrap();
        let away = || Failure::new(FailureReason::Unreachable, "no answer");
        let answer = |file: &Vec<u8>| Answer {
            file: file.clone(),
            content_type: None,
        };
        files.get(url).map(answer).ok_or_else(away)
    }
}

/// A backfill that waits for a server, and for which no item has failed.
fn paused_without_answer(service: &Running) -> Value {
    let paused = wait_for(service, "paused");
    let reason = paused["reason"].as_str().unwrap();
    assert!(reason.contains("no answer"), "{paused}");
    assert_eq!(paused["failed"], json!({}));
    paused
}

#[test]
fn a_server_that_is_away_pauses_it_and_its_items_have_not_failed() {
    let mut setup = upgraded(20);
    let shelf = Arc::new(Shelf::default());
    setup.config.downloads = Downloads::with(shelf.clone());
    let service = setup.start();
    let body = json!({"originals": {"url": "https://host/{payload.file}?id={id}"}});
    service.call("POST", "/backfill", &body).expect(200);
    assert_eq!(paused_without_answer(&service)["done"], json!(0));
    let files = (1..=20)
        .filter(|id| *id != 5)
        .map(|id| (format!("https://host/{id}.png?id={id}"), png(colour(id), 8)));
    shelf.files.lock().unwrap().extend(files);
    post(&service, "/backfill/resume");
    let done = wait_for(&service, "finished");
    assert_eq!(
        (&done["done"], &done["failed"]),
        (&json!(19), &json!({"unreachable": 1}))
    );
}

#[test]
fn single_items_whose_place_is_away_fail_and_do_not_hold_up_the_end() {
    // One more than a step takes, so that the last one is alone.
    let mut setup = upgraded(9);
    let files = (1..9).map(|id| (format!("https://host/{id}.png"), png(colour(id), 8)));
    let shelf = Shelf {
        files: Mutex::new(files.collect()),
    };
    setup.config.downloads = Downloads::with(Arc::new(shelf));
    let service = setup.start();
    let body = json!({"originals": {"url": "https://host/{payload.file}"}});
    service.call("POST", "/backfill", &body).expect(200);
    let done = wait_for(&service, "finished");
    assert_eq!(
        (&done["done"], &done["failed"]),
        (&json!(8), &json!({"unreachable": 1}))
    );
}

#[test]
fn a_few_items_whose_server_is_away_wait_as_well() {
    let mut setup = upgraded(3);
    setup.config.downloads = Downloads::with(Arc::new(Shelf::default()));
    let service = setup.start();
    let body = json!({"originals": {"url": "https://host/{payload.file}"}});
    service.call("POST", "/backfill", &body).expect(200);
    assert_eq!(paused_without_answer(&service)["left"], json!(3));
}

#[test]
fn items_of_which_no_server_is_asked_do_not_say_that_it_answers() {
    let mut setup = upgraded(0);
    for id in 1..=80 {
        match id % 2 {
            1 => add(&setup, id),
            _ => add_with(&setup, id, json!({})),
        }
    }
    let first = ("https://host/1.png".to_owned(), png(colour(1), 8));
    let shelf = Shelf {
        files: Mutex::new([first].into()),
    };
    setup.config.downloads = Downloads::with(Arc::new(shelf));
    let service = setup.start();
    let body = json!({"originals": {"url": "https://host/{payload.file}"}, "order": "id"});
    service.call("POST", "/backfill", &body).expect(200);
    // It answers for the first item, and not after the first step of eight.
    let paused = wait_for(&service, "paused");
    let reason = paused["reason"].as_str().unwrap();
    assert!(reason.contains("no answer"), "{paused}");
    assert_eq!(paused["failed"]["unreachable"], 3, "{paused}");
}

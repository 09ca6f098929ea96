//! Backfills whose originals clients send.

use serde_json::{Value, json};

use crate::backfill::{colour, is_near, item, per_version, status, upgraded, wait_for};
use crate::encoder::png;
use crate::harness::base64;

#[test]
fn clients_can_send_the_originals() {
    let service = upgraded(4).start();
    let waiting = |limit: u64| service.get(&format!("/backfill/waiting?limit={limit}"));
    assert_eq!(waiting(3).code(409), "conflict");
    let body = json!({"originals": "pushed"});
    service.call("POST", "/backfill", &body).expect(200);
    let first = waiting(3).expect(200);
    let ids: Vec<&Value> = first["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["id"])
        .collect();
    assert_eq!(ids, [&json!(1), &json!(2), &json!(3)]);
    assert_eq!(first["items"][0]["payload"]["file"], "1.png");
    let pushed =
        |items: Value| service.call("PUT", "/backfill/originals", &json!({"items": items}));
    let answer = pushed(json!([
        {"id": 1, "image": base64(&png(colour(1), 8))},
        {"id": 2, "image": base64(&png([1, 1, 1], 8))},
        {"id": 3, "reason": "gone", "detail": "the disk is empty"},
        {"id": 77, "image": base64(&png(colour(1), 8))},
    ]))
    .expect(200);
    assert_eq!(
        (&answer["done"], &answer["not_waiting"]),
        (&json!(1), &json!(1))
    );
    let failed: Vec<&Value> = answer["failed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["reason"])
        .collect();
    assert_eq!(failed, [&json!("other_original"), &json!("gone")]);
    assert_eq!(waiting(3).expect(200)["items"][0]["id"], 4);
    for (bad, says) in [
        (json!([{"id": 4}]), "exactly one"),
        (
            json!([{"id": 4, "reason": "gone"}, {"id": 4, "reason": "gone"}]),
            "twice",
        ),
        (json!([{"id": 4, "image": "*"}]), "base64"),
        (json!([{"id": 4, "reason": "tired"}]), "reason"),
    ] {
        let message = pushed(bad).expect(422)["error"]["message"].to_string();
        assert!(message.contains(says), "{message}");
    }
    pushed(json!([{"id": 4, "image": base64(&png(colour(4), 8))}])).expect(200);
    let done = wait_for(&service, "finished");
    assert_eq!(
        (&done["done"], &done["failed"]),
        (&json!(2), &json!({"gone": 1, "other_original": 1}))
    );
    assert!(is_near(&item(&service, 4), colour(4), 0.5));
}

#[test]
fn failed_items_that_were_deleted_do_not_end_it_early() {
    let service = upgraded(3).start();
    let body = json!({"originals": "pushed"});
    service.call("POST", "/backfill", &body).expect(200);
    let push = |items: Value| {
        let items = json!({ "items": items });
        service
            .call("PUT", "/backfill/originals", &items)
            .expect(200)
    };
    push(json!([{"id": 1, "reason": "gone"}]));
    service
        .call("DELETE", "/gallery/items", &json!({"ids": [1]}))
        .expect(200);
    push(json!([{"id": 2, "image": base64(&png(colour(2), 8))}]));
    // One item waits and one failure is remembered, so nothing seems to be left.
    assert_eq!(status(&service)["left"], 0);
    // Longer than the service waits between two looks.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(status(&service)["state"], "running");
    push(json!([{"id": 3, "image": base64(&png(colour(3), 8))}]));
    assert_eq!(wait_for(&service, "finished")["done"], 2);
}

#[test]
fn clients_at_once_store_no_more_than_the_stop_rule_says() {
    let service = upgraded(12).start();
    let body = json!({"originals": "pushed", "stop": {"items": 3}});
    service.call("POST", "/backfill", &body).expect(200);
    // All of them arrive before the first is embedded.
    service.setup.gate.close();
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let pushes: Vec<_> = (0..6_u64)
            .map(|client| {
                let service = &service;
                scope.spawn(move || {
                    let items = [1, 2].map(|place| {
                        let id = 2 * client + place;
                        json!({"id": id, "image": base64(&png(colour(id), 8))})
                    });
                    let body = json!({ "items": items });
                    service.call("PUT", "/backfill/originals", &body)
                })
            })
            .collect();
        std::thread::sleep(std::time::Duration::from_millis(500));
        service.setup.gate.open();
        let pushes = pushes.into_iter();
        pushes
            .map(|push| push.join().unwrap().expect(200))
            .collect()
    });
    let sum = |key: &str| -> u64 {
        let counts = answers.iter().map(|answer| answer[key].as_u64().unwrap());
        counts.sum()
    };
    assert_eq!((sum("done"), sum("beyond_stop")), (3, 9), "{answers:?}");
    let done = wait_for(&service, "finished");
    assert_eq!(done["done"], 3, "{done}");
    assert_eq!(per_version(&service), json!({"v0001": 9, "v0002": 3}));
}

#[test]
fn places_of_originals_that_failed_go_to_others() {
    let service = upgraded(4).start();
    let body = json!({"originals": "pushed", "stop": {"items": 2}});
    service.call("POST", "/backfill", &body).expect(200);
    let push = |items: Value| {
        let body = json!({ "items": items });
        let answer = service
            .call("PUT", "/backfill/originals", &body)
            .expect(200);
        [&answer["done"], &answer["beyond_stop"]].map(|count| count.as_u64().unwrap())
    };
    let picture = |id: u64, of: u64| json!({"id": id, "image": base64(&png(colour(of), 8))});
    // Not what was embedded before.
    assert_eq!(push(json!([picture(1, 3), picture(2, 4)])), [0, 0]);
    assert_eq!(
        push(json!([{"id": 1, "reason": "gone"}, picture(3, 3), picture(4, 4)])),
        [2, 0]
    );
    assert_eq!(wait_for(&service, "finished")["done"], 2);
}

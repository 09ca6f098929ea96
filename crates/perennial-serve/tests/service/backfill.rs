//! Items of an older version are embedded again, while the service runs.

use std::path::PathBuf;

use perennial_core::sha256_hex;
use perennial_gallery::{Item, VectorStore};
use perennial_upgrade::store_space;
use serde_json::{Value, json};

use crate::client::Call;
use crate::encoder::{expected, png};
use crate::harness::{Running, Setup, image};
use crate::limits::wait_until;

pub fn colour(id: u64) -> [u8; 3] {
    [40 + 20 * (id as u8 % 10), 200 - 10 * id as u8, 90]
}

pub fn pictures(setup: &Setup) -> PathBuf {
    let folder = setup.folder.path().join("pictures");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// An item of the first version with a picture in the folder.
pub fn add(setup: &Setup, id: u64) {
    let file = png(colour(id), 8);
    std::fs::write(pictures(setup).join(format!("{id}.png")), &file).unwrap();
    add_with(
        setup,
        id,
        json!({"file": format!("{id}.png"), "sha256": sha256_hex(&file), "name": id}),
    );
}

pub fn add_with(setup: &Setup, id: u64, payload: Value) {
    let item = Item {
        id: id.into(),
        embedding: expected(colour(id), 0.0).to_vec(),
        model_version: "v0001".to_owned(),
        label: Some(id as u32),
        payload: payload.as_object().unwrap().clone(),
    };
    setup.store.upsert(vec![item]).unwrap();
}

/// Items of the first version, pictures of all of them, and the second version live.
pub fn upgraded(items: u64) -> Setup {
    let setup = Setup::new(&["0", "0.5", "1"]);
    setup.registry.set_alias("live", "v0002").unwrap();
    setup.pairs.allow("v0002", "v0001");
    let space = store_space(&setup.registry.get("v0001").unwrap()).unwrap();
    setup.store.create_space(&space).unwrap();
    (1..=items).for_each(|id| add(&setup, id));
    setup
}

fn start(service: &Running, more: Value) -> Value {
    let folder = pictures(&service.setup);
    let mut body = json!({"originals": {"folder": folder}});
    let object = body.as_object_mut().unwrap();
    object.extend(more.as_object().unwrap().clone());
    service.call("POST", "/backfill", &body).expect(200)
}

pub fn status(service: &Running) -> Value {
    service.get("/backfill").expect(200)
}

pub fn wait_for(service: &Running, state: &str) -> Value {
    wait_until(|| status(service)["state"] == state);
    status(service)
}

pub fn post(service: &Running, path: &str) -> Value {
    Call::new("POST", path).send(service.address).expect(200)
}

pub fn item(service: &Running, id: u64) -> Value {
    let path = format!("/gallery/items/{id}?embedding=true");
    service.get(&path).expect(200)
}

pub fn per_version(service: &Running) -> Value {
    service.get("/gallery/stats").expect(200)["per_version"].clone()
}

pub fn is_near(item: &Value, colour: [u8; 3], angle: f32) -> bool {
    let row = item["embedding"].as_array().unwrap();
    let row = row.iter().map(|value| value.as_f64().unwrap() as f32);
    row.zip(expected(colour, angle))
        .all(|(found, wanted)| (found - wanted).abs() < 1e-4)
}

#[test]
fn a_partition_is_emptied_and_labels_and_payloads_stay() {
    let service = upgraded(20).start();
    let idle = status(&service);
    assert_eq!(
        (&idle["state"], &idle["left"], &idle["share"]),
        (&json!("idle"), &json!(20), &json!(0.0))
    );
    let begun = start(&service, json!({}));
    assert_eq!(
        (
            &begun["originals"],
            &begun["order"],
            &begun["model_version"]
        ),
        (&json!("folder"), &json!("retrieved"), &json!("v0002"))
    );
    let done = wait_for(&service, "finished");
    assert_eq!((&done["done"], &done["left"]), (&json!(20), &json!(0)));
    assert_eq!(done["failed"], json!({}));
    assert_eq!(done["share"], 1.0);
    let curve = done["curve"].as_array().unwrap();
    assert_eq!(curve.last().unwrap()["share"], 1.0);
    // No certificate, no expectation.
    assert_eq!(done["expected_quality"], Value::Null);
    assert_eq!(per_version(&service), json!({"v0002": 20}));
    for id in [1, 20] {
        let item = item(&service, id);
        assert!(is_near(&item, colour(id), 0.5), "{item}");
        assert_eq!(
            (&item["label"], &item["payload"]["name"]),
            (&json!(id), &json!(id))
        );
    }
    let metrics = service.get("/metrics");
    let metrics = String::from_utf8_lossy(&metrics.body);
    for line in [
        r#"perennial_backfill_items{state="done"} 20"#,
        r#"perennial_backfill_items{state="left"} 0"#,
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

#[test]
fn a_picture_that_cannot_be_used_is_counted_and_not_tried_again_until_asked() {
    let setup = upgraded(2);
    let folder = pictures(&setup);
    std::fs::write(setup.folder.path().join("secret.png"), png([1, 2, 3], 8)).unwrap();
    std::fs::write(folder.join("text.png"), "no picture").unwrap();
    std::fs::write(folder.join("wide.png"), png([9, 9, 9], 16)).unwrap();
    for (id, payload) in [
        (11, json!({"file": "gone.png"})),
        (12, json!({"file": "1.png", "sha256": "00"})),
        (13, json!({"file": "wide.png", "width": 8, "height": 8})),
        (14, json!({"name": "no file"})),
        (15, json!({"file": "../secret.png"})),
        (16, json!({"file": "text.png"})),
    ] {
        add_with(&setup, id, payload);
    }
    let service = setup.start();
    start(&service, json!({}));
    let done = wait_for(&service, "finished");
    assert_eq!((&done["done"], &done["left"]), (&json!(2), &json!(0)));
    let failed =
        json!({"gone": 1, "other_original": 2, "no_source": 1, "refused": 1, "undecodable": 1});
    assert_eq!(done["failed"], failed);
    assert_eq!(done["failures"].as_array().unwrap().len(), 6);
    assert!(
        done["reason"].as_str().unwrap().contains("6 items"),
        "{done}"
    );
    assert!(
        !done.to_string().contains("secret.png\":")
            && !done.to_string().contains(folder.to_str().unwrap())
    );
    assert_eq!(per_version(&service), json!({"v0001": 6, "v0002": 2}));
    assert!(is_near(&item(&service, 11), colour(11), 0.0));

    // The picture comes back, but nobody asks.
    std::fs::write(folder.join("gone.png"), png(colour(11), 8)).unwrap();
    start(&service, json!({}));
    let again = wait_for(&service, "finished");
    assert_eq!((&again["done"], &again["failed"]), (&json!(0), &failed));
    // An item that is stored anew is another one.
    let renewed = json!({"id": 14, "embedding": expected(colour(14), 0.0), "model_version": "v0001", "payload": {"file": "1.png"}});
    service.call("PUT", "/gallery/items", &renewed).expect(200);
    start(&service, json!({}));
    assert_eq!(wait_for(&service, "finished")["done"], 1);
    start(&service, json!({"retry": true}));
    let asked = wait_for(&service, "finished");
    assert_eq!(asked["done"], 1);
    assert_eq!(asked["failed"].get("gone"), None);
}

#[test]
fn it_pauses_goes_on_and_outlasts_the_service() {
    let service = upgraded(6).start();
    start(&service, json!({"items_per_second": 4}));
    wait_until(|| status(&service)["done"].as_u64() >= Some(1));
    post(&service, "/backfill/pause");
    let again = Call::new("POST", "/backfill/pause").send(service.address);
    assert_eq!(again.code(409), "conflict");
    let service = service.restart();
    let paused = wait_for(&service, "paused");
    let done = paused["done"].as_u64().unwrap();
    assert!((1..6).contains(&done), "{paused}");
    assert_eq!(paused["items_per_second"], 4.0);

    // Stopped in the middle of its work, it goes on without being asked.
    post(&service, "/backfill/resume");
    wait_until(|| status(&service)["done"].as_u64() > Some(done));
    let service = service.restart();
    let done = wait_for(&service, "finished");
    assert_eq!(per_version(&service), json!({"v0002": 6}));
    assert_eq!((&done["done"], &done["failed"]), (&json!(6), &json!({})));
    assert!((1..=6).all(|id| is_near(&item(&service, id), colour(id), 0.5)));
    let resumed = Call::new("POST", "/backfill/resume").send(service.address);
    assert_eq!(resumed.code(409), "conflict");
    let none = Call::new("DELETE", "/backfill").send(service.address);
    assert_eq!(none.expect(200)["state"], "idle");
}

#[test]
fn what_others_change_meanwhile_is_left_alone() {
    let service = upgraded(5).start();
    service.setup.gate.close();
    start(&service, json!({}));
    // All five are read, decoded, and wait for their embeddings.
    wait_until(|| service.get("/stats/live").expect(200)["queue_depth"] == 5);
    service
        .call("DELETE", "/gallery/items", &json!({"ids": [1]}))
        .expect(200);
    let own = expected(colour(2), 1.5);
    let newer = json!({"id": 2, "embedding": own, "model_version": "v0002"});
    service.call("PUT", "/gallery/items", &newer).expect(200);
    let relabelled = json!({"id": 3, "embedding": expected(colour(3), 0.0), "model_version": "v0001", "label": 99, "payload": {"file": "3.png"}});
    service
        .call("PUT", "/gallery/items", &relabelled)
        .expect(200);
    service.setup.gate.open();
    let done = wait_for(&service, "finished");
    assert_eq!((&done["done"], &done["changed"]), (&json!(3), &json!(3)));
    service.get("/gallery/items/1").expect(404);
    assert!(is_near(&item(&service, 2), colour(2), 1.5));
    let third = item(&service, 3);
    assert!(
        is_near(&third, colour(3), 0.5) && third["label"] == 99,
        "{third}"
    );
    assert_eq!(per_version(&service), json!({"v0002": 4}));
}

#[test]
fn requests_come_first() {
    let service = upgraded(3).start();
    service.setup.gate.close();
    let address = service.address;
    let images = vec![image([250, 10, 10]); 16];
    let waiting = std::thread::spawn(move || {
        let body = json!({ "images": images });
        Call::new("POST", "/embed").json(&body).send(address)
    });
    wait_until(|| service.get("/stats/live").expect(200)["queue_depth"] == 16);
    start(&service, json!({}));
    wait_until(|| status(&service)["waits_for_load"] == true);
    assert_eq!(service.get("/stats/live").expect(200)["queue_depth"], 16);
    service.setup.gate.open();
    waiting.join().unwrap().expect(200);
    assert_eq!(wait_for(&service, "finished")["done"], 3);
}

#[test]
fn what_searches_find_comes_first_and_the_rule_stops() {
    let service = upgraded(9).start();
    let query =
        json!({"embedding": expected(colour(7), 0.0), "model_version": "v0002", "limit": 1});
    let found = service.call("POST", "/search", &query).expect(200);
    assert_eq!(found["hits"][0]["id"], 7);
    start(&service, json!({"stop": {"items": 1}}));
    let done = wait_for(&service, "finished");
    assert_eq!(done["done"], 1);
    assert!(
        done["reason"].as_str().unwrap().contains("1 items"),
        "{done}"
    );
    assert_eq!(item(&service, 7)["model_version"], "v0002");
    start(&service, json!({"stop": {"share": 0.5}, "order": "id"}));
    let done = wait_for(&service, "finished");
    assert_eq!(done["done"], 4);
    assert_eq!(per_version(&service), json!({"v0001": 4, "v0002": 5}));
    assert_eq!(item(&service, 4)["model_version"], "v0002");
}

#[test]
fn what_cannot_work_is_refused() {
    let service = upgraded(1).start();
    for (body, says) in [
        (
            json!({"originals": {"folder": "/no/such/folder"}}),
            "originals.folder",
        ),
        (
            json!({"originals": {"url": "https://host/{id}"}}),
            "cannot fetch",
        ),
        (json!({"originals": {"url": "ftp://host/{id}"}}), "http://"),
        (
            json!({"originals": "pushed", "items_per_second": 0}),
            "items_per_second",
        ),
        (
            json!({"originals": "pushed", "items_per_second": 1e-300}),
            "at least 0.001",
        ),
        (
            json!({"originals": "pushed", "stop": {"share": 2}}),
            "stop.share",
        ),
        (
            json!({"originals": "pushed", "stop": {"quality": 0.9}}),
            "stop.quality",
        ),
        (json!({"originals": "pushed", "order": "random"}), "order"),
        (json!({"originals": "nowhere"}), "originals"),
    ] {
        let message =
            service.call("POST", "/backfill", &body).expect(422)["error"]["message"].to_string();
        assert!(message.contains(says), "{message}");
    }
    assert_eq!(status(&service)["state"], "idle");
    let mut setup = upgraded(1);
    setup.config.read_only = true;
    let reading = setup.start();
    let answer = reading.call("POST", "/backfill", &json!({"originals": "pushed"}));
    assert_eq!(answer.code(403), "read_only");
}

#[test]
fn another_live_version_ends_it() {
    let setup = upgraded(3);
    setup.pairs.allow("v0003", "v0001");
    setup.pairs.allow("v0003", "v0002");
    let service = setup.start();
    service
        .call("POST", "/backfill", &json!({"originals": "pushed"}))
        .expect(200);
    service.swap("v0003").expect(200);
    let paused = wait_for(&service, "paused");
    assert!(
        paused["reason"].as_str().unwrap().contains("v0002"),
        "{paused}"
    );
    let resumed = Call::new("POST", "/backfill/resume").send(service.address);
    assert_eq!(resumed.code(409), "conflict");
    start(&service, json!({}));
    wait_for(&service, "finished");
    assert_eq!(per_version(&service), json!({"v0003": 3}));
}

#[test]
fn what_no_route_leads_to_can_be_embedded_again_and_new_items_are_taken_meanwhile() {
    let setup = upgraded(3);
    setup.registry.set_alias("live", "v0003").unwrap();
    let service = setup.start();
    let picture = image(colour(9));
    let new = json!({"id": 9, "image": picture});
    service.call("PUT", "/gallery/items", &new).expect(200);
    let search = || {
        let body = json!({"image": picture});
        service.call("POST", "/search", &body).expect(200)
    };
    let found = search();
    assert_eq!(found["hits"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&found["not_searched"], &found["left_out"][0]["space"]),
        (&json!(3), &json!("v0001"))
    );
    // Items of a space that the live version does not find are refused as ever.
    let lost = service.store(10, colour(1), 0.5, "v0002");
    assert_eq!(lost.code(409), "incompatible_version");
    start(&service, json!({}));
    wait_for(&service, "finished");
    assert_eq!(per_version(&service), json!({"v0003": 4}));
    let found = search();
    assert_eq!(found["hits"].as_array().unwrap().len(), 4);
    assert_eq!(found["not_searched"], 0);
    let stats = service.get("/gallery/stats").expect(200);
    assert_eq!(stats["forced_writes"], 0);
}

#[test]
fn failures_of_another_target_are_not_counted_for_this_one() {
    let setup = upgraded(2);
    setup.pairs.allow("v0001", "v0002");
    let service = setup.start();
    start(&service, json!({}));
    wait_for(&service, "finished");
    // Back, with a picture less.
    service.swap("v0001").expect(200);
    std::fs::remove_file(pictures(&service.setup).join("1.png")).unwrap();
    start(&service, json!({}));
    assert_eq!(wait_for(&service, "finished")["failed"], json!({"gone": 1}));
    assert_eq!(per_version(&service), json!({"v0001": 1, "v0002": 1}));
    // And forth: the item that failed is where it is to be.
    service.swap("v0002").expect(200);
    start(&service, json!({}));
    let done = wait_for(&service, "finished");
    assert_eq!(
        (&done["failed"], &done["reason"]),
        (&json!({}), &json!("everything is embedded by v0002"))
    );
    assert_eq!(per_version(&service), json!({"v0002": 2}));
}

#[test]
fn failed_items_that_are_gone_or_stored_anew_are_not_counted() {
    let setup = upgraded(4);
    for id in [1, 2, 3] {
        std::fs::remove_file(pictures(&setup).join(format!("{id}.png"))).unwrap();
    }
    let service = setup.start();
    start(&service, json!({}));
    assert_eq!(wait_for(&service, "finished")["failed"], json!({"gone": 3}));
    // One is deleted, and one comes in by the live version.
    let deleted = service.call("DELETE", "/gallery/items", &json!({"ids": [1]}));
    assert_eq!(deleted.expect(200)["deleted"], 1);
    let embedding = expected(colour(2), 0.5);
    let anew = json!({"id": 2, "model_version": "v0002", "embedding": embedding});
    service.call("PUT", "/gallery/items", &anew).expect(200);
    wait_until(|| status(&service)["failed"] == json!({"gone": 1}));
    let metrics = service.get("/metrics");
    let metrics = String::from_utf8_lossy(&metrics.body);
    for line in [
        r#"perennial_backfill_items{state="failed"} 1"#,
        r#"perennial_backfill_items{state="left"} 0"#,
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    // The reason of the next one as well, whatever was deleted a moment before.
    service
        .call("DELETE", "/gallery/items", &json!({"ids": [3]}))
        .expect(200);
    start(&service, json!({}));
    let done = wait_for(&service, "finished");
    assert_eq!(done["reason"], "everything is embedded by v0002", "{done}");
}

#[test]
fn what_another_service_stores_right_before_the_write_is_not_lost() {
    let setup = upgraded(2);
    setup
        .store
        .shared
        .store(true, std::sync::atomic::Ordering::SeqCst);
    *setup.store.before_replacing.lock().unwrap() = Some(Box::new(|store| {
        let mut items = store.get(&[1.into()], true).unwrap();
        let item = items.remove(0);
        let mut payload = item.payload;
        payload.insert("note".to_owned(), json!("of another service"));
        let described = Item {
            id: item.id,
            embedding: item.embedding.unwrap(),
            model_version: item.model_version,
            label: Some(77),
            payload,
        };
        store.upsert(vec![described]).unwrap();
    }));
    let service = setup.start();
    start(&service, json!({}));
    let done = wait_for(&service, "finished");
    assert_eq!((&done["done"], &done["changed"]), (&json!(2), &json!(1)));
    let first = item(&service, 1);
    assert_eq!(
        (&first["label"], &first["payload"]["note"]),
        (&json!(77), &json!("of another service"))
    );
    assert_eq!(per_version(&service), json!({"v0002": 2}));
}

#[test]
fn a_failing_disk_pauses_it() {
    let service = upgraded(8).start();
    // Slow enough that most of them are still to be written when the disk fails.
    start(&service, json!({"items_per_second": 2}));
    service
        .setup
        .store
        .broken
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let paused = wait_for(&service, "paused");
    assert!(
        paused["reason"].as_str().unwrap().contains("storage"),
        "{paused}"
    );
    service
        .setup
        .store
        .broken
        .store(false, std::sync::atomic::Ordering::SeqCst);
    post(&service, "/backfill/resume");
    assert_eq!(wait_for(&service, "finished")["done"], 8);
}

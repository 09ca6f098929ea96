//! The hot swap.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use perennial_upgrade::RegistryRecords;
use serde_json::{Value, json};

use crate::client::Call;
use crate::encoder::{draft, expected};
use crate::harness::{Running, Setup, image};

const RED: [u8; 3] = [250, 10, 10];

fn checks(answer: &Value) -> Vec<(&str, bool)> {
    let list = answer["checks"].as_array().unwrap();
    list.iter()
        .map(|check| {
            (
                check["name"].as_str().unwrap(),
                check["passed"].as_bool().unwrap(),
            )
        })
        .collect()
}

#[test]
fn a_certified_version_takes_over_and_back() {
    let setup = Setup::new(&["0", "0.5"]);
    setup.pairs.allow("v0002", "v0001");
    let service = setup.start();
    service.store(1, RED, 0.0, "v0001").expect(200);
    let nothing = Call::new("POST", "/aliases/live:rollback").send(service.address);
    assert_eq!(nothing.code(409), "conflict");

    let body = json!({"version": "v0002", "dry_run": true});
    let dry = service.call("PUT", "/aliases/live", &body).expect(200);
    assert_eq!(
        (&dry["dry_run"], &dry["version"]),
        (&json!(true), &json!("v0002"))
    );
    assert_eq!(service.get("/models").expect(200)["live"], "v0001");

    let moved = service.swap("v0002").expect(200);
    assert_eq!(
        (&moved["alias"], &moved["previous"]),
        (&json!("live"), &json!("v0001"))
    );
    let names: Vec<&str> = checks(&moved).iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "weights",
            "load",
            "warm_up",
            "self_check",
            "stored_probes",
            "dimension",
            "simplex",
            "compatibility with v0001",
            "cost per query"
        ]
    );
    assert!(checks(&moved).iter().all(|(_, passed)| *passed));
    assert_eq!(service.setup.registry.resolve("live").unwrap(), "v0002");
    let answer = service.call("POST", "/embed", &json!({"images": [image(RED)]}));
    assert_eq!(answer.headers["x-model-version"], "v0002");

    let back = service
        .call("POST", "/aliases/live:rollback", &json!({}))
        .expect(200);
    assert_eq!(
        (&back["version"], &back["previous"]),
        (&json!("v0001"), &json!("v0002"))
    );
    assert_eq!(service.setup.registry.resolve("live").unwrap(), "v0001");
    let metrics = String::from_utf8(service.get("/metrics").body).unwrap();
    for line in [
        r#"perennial_swaps_total{outcome="moved"} 1"#,
        r#"perennial_swaps_total{outcome="rolled_back"} 1"#,
        r#"perennial_live_version_info{model_version="v0001"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[test]
fn refused_swaps_change_nothing_and_say_why() {
    let setup = Setup::new(&["0", "0.5", "batch", "broken"]);
    setup.registry.publish(draft(4), b"0").unwrap();
    let damaged = setup.registry.publish(draft(3), b"0.1").unwrap();
    std::fs::write(setup.registry.weights_path(&damaged), b"0.9").unwrap();
    let service = setup.start();
    service.store(1, RED, 0.0, "v0001").expect(200);
    for (version, code, failed) in [
        ("v0002", "incompatible_version", "compatibility with v0001"),
        ("v0003", "check_failed", "self_check"),
        ("v0004", "check_failed", "load"),
        ("v0005", "check_failed", "dimension"),
        ("v0006", "check_failed", "weights"),
    ] {
        let answer = service.swap(version);
        assert_eq!(answer.code(409), code, "{version}");
        let error = &answer.json()["error"];
        let failures: Vec<_> = checks(&error["details"])
            .into_iter()
            .filter(|check| !check.1)
            .collect();
        assert!(failures.contains(&(failed, false)), "{version}: {error}");
        // Force overrules the missing certificate only.
        let dry = json!({"version": version, "force": true, "dry_run": true});
        let forced = service.call("PUT", "/aliases/live", &dry).status;
        assert_eq!(
            forced,
            if version == "v0002" { 200 } else { 409 },
            "{version}"
        );
    }
    assert_eq!(service.swap("v0099").code(404), "not_found");
    assert_eq!(service.setup.registry.resolve("live").unwrap(), "v0001");
    assert_eq!(service.get("/info").expect(200)["live"], "v0001");
    assert_eq!(
        service.get("/stats/live").expect(200)["swaps"],
        json!({"moved": 0, "refused": 6})
    );

    let force = json!({"version": "v0002", "force": true});
    let forced = service.call("PUT", "/aliases/live", &force).expect(200);
    assert_eq!(forced["forced"], true);
    // The pair was accepted, so searches by image go on without force.
    service
        .call("POST", "/search", &json!({"image": image(RED)}))
        .expect(200);
}

#[test]
fn one_swap_at_a_time_and_requests_go_on() {
    let setup = Setup::new(&["0", "0.5"]);
    setup.pairs.allow("v0002", "v0001");
    let service = setup.start();
    service.store(1, RED, 0.0, "v0001").expect(200);
    service.setup.gate.close();
    let address = service.address;
    let first = std::thread::spawn(move || {
        loop {
            let swap = Call::new("PUT", "/aliases/live").json(&json!({"version": "v0002"}));
            let answer = swap.send(address);
            // The other swaps of this test may be in the way for a moment.
            if answer.status != 409 {
                return answer;
            }
        }
    });
    let query = json!({"embedding": expected(RED, 0.0), "model_version": "v0001"});
    loop {
        let second = service.call(
            "PUT",
            "/aliases/live",
            &json!({"version": "v0099", "dry_run": true}),
        );
        match second.status {
            404 => std::thread::sleep(std::time::Duration::from_millis(2)),
            _ => {
                assert_eq!(second.code(409), "conflict");
                break;
            }
        }
    }
    // The candidate's warm-up hangs; nobody else does.
    service.call("POST", "/search", &query).expect(200);
    service.setup.gate.open();
    first.join().unwrap().expect(200);
}

#[test]
fn a_rollback_survives_a_restart() {
    let setup = Setup::new(&["0", "0.5"]);
    let service = setup.start();
    service.swap("v0002").expect(200);
    let mut again = Setup::new(&[]);
    again.registry = service.setup.registry.clone();
    let restarted = again.start();
    let models = restarted.get("/models").expect(200);
    assert_eq!(
        (&models["live"], &models["previous"]),
        (&json!("v0002"), &json!("v0001"))
    );
    let back = Call::new("POST", "/aliases/live:rollback")
        .send(restarted.address)
        .expect(200);
    assert_eq!(back["version"], "v0001");
}

#[test]
fn a_broken_live_version_stops_the_start_with_its_name() {
    let error = Setup::new(&["broken"])
        .try_start()
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("v0001") && error.contains("no angle"),
        "{error}"
    );
}

#[test]
fn no_request_fails_or_mixes_versions_during_swaps() {
    let angles = [0.0f32, 0.5, 1.0];
    let setup = Setup::new(&["0", "0.5", "1.0"]);
    for (query, gallery) in [("v0002", "v0001"), ("v0003", "v0001"), ("v0003", "v0002")] {
        setup.pairs.allow(query, gallery);
        setup.pairs.allow(gallery, query);
    }
    let service = setup.start();
    service.store(1, RED, 0.0, "v0001").expect(200);
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let address = service.address;
    let clients: Vec<_> = (0..4u64)
        .map(|client| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            std::thread::spawn(move || {
                let embed = json!({"images": [image(RED)]});
                let mut round = 0;
                while !stop.load(Ordering::Relaxed) {
                    round += 1;
                    let answer = match round % 3 {
                        0 => {
                            let search = json!({"image": image(RED), "limit": 1});
                            Call::new("POST", "/search").json(&search).send(address)
                        }
                        1 => {
                            let item =
                                json!({"id": client * 1_000_000 + round, "image": image(RED)});
                            Call::new("PUT", "/gallery/items").json(&item).send(address)
                        }
                        _ => Call::new("POST", "/embed").json(&embed).send(address),
                    };
                    let body = answer.expect(200);
                    let version = &answer.headers["x-model-version"];
                    if round % 3 == 2 {
                        assert_eq!(body["model_version"], version.as_str());
                        let number: usize = version[1..].parse().unwrap();
                        let row: Vec<f32> =
                            serde_json::from_value(body["embeddings"][0].clone()).unwrap();
                        for (value, expected) in row.iter().zip(expected(RED, angles[number - 1])) {
                            assert!((value - expected).abs() < 1e-4, "{version}: {row:?}");
                        }
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for swap in 0..30 {
        let version = ["v0002", "v0003", "v0001"][swap % 3];
        service.swap(version).expect(200);
    }
    while answered.load(Ordering::Relaxed) < 100 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    // Every stored embedding belongs to the version that it names.
    for number in 1..=3 {
        let path = format!("/gallery/items?model_version=v000{number}&embeddings=true&limit=1000");
        for item in service.get(&path).expect(200)["items"].as_array().unwrap() {
            let row: Vec<f32> = serde_json::from_value(item["embedding"].clone()).unwrap();
            let expected = expected(RED, angles[number - 1]);
            assert!(
                row.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4),
                "{item}"
            );
        }
    }
}

#[test]
fn a_start_settles_what_an_interrupted_promotion_left() {
    let left = "[[pair]]\nquery_version = \"v0002\"\ngallery_version = \"v0001\"\nreason = \"no record\"\naccepted = \"2026-11-25T10:20:30Z\"\npending = true\n";
    let with = |read_only: bool| {
        let mut setup = Setup::new(&["0", "0.5", "1"]);
        setup.registry.set_alias("live", "v0002").unwrap();
        let other = left.replace("v0002", "v0003");
        let path = setup.folder.path().join("accepted.toml");
        std::fs::write(&path, format!("{left}\n{other}")).unwrap();
        let records = RegistryRecords::for_gallery(setup.registry.clone(), setup.folder.path());
        setup.check = Some(Arc::new(records.unwrap()));
        setup.config.read_only = read_only;
        setup.start()
    };
    let accepted = |service: &Running| {
        let path = service.setup.folder.path().join("accepted.toml");
        std::fs::read_to_string(path).unwrap()
    };
    // The service that writes may be promoting at this moment.
    assert_eq!(accepted(&with(true)).matches("pending = true").count(), 2);
    let service = with(false);
    let text = accepted(&service);
    assert!(
        !text.contains("pending") && !text.contains("v0003"),
        "{text}"
    );
    assert!(text.contains("query_version = \"v0002\""), "{text}");
}

//! Bridges and certificates that are taken away while the service runs.

use std::path::PathBuf;
use std::sync::Arc;

use perennial_bridge::{Bridge, Index, Pairs, Recipe, fit_uncentred};
use perennial_serve::Keys;
use perennial_upgrade::{
    BridgeRegistry, Certificate, CertificateRequest, Demands, EvaluationData, Names,
    RegistryRecords, Route, Rows, Search, Sources, StoredCertificates, Truth,
};
use serde_json::json;

use crate::encoder::draft;
use crate::harness::{Running, Setup};
use crate::mixed::{
    BRIDGED_ANGLE, NEW, NEW_ANGLE, OLD, by_picture, embedded, leaves_out, mixed, part,
};
use crate::route_swaps::wait;

/// A registry that holds the bridge and the certificate from v0002 to v0001, and a service that decides by them.
struct Certified {
    setup: Setup,
    bridge: PathBuf,
    certificate: PathBuf,
}

fn certified() -> Certified {
    let mut setup = mixed("0");
    let bridges = BridgeRegistry::of(&setup.registry);
    let bridge = bridge(&setup);
    let name = bridges.publish(&bridge).unwrap();
    let certificate = StoredCertificates::add(&setup.registry, &certificate(&setup, &bridge));
    let records = RegistryRecords::for_gallery(setup.registry.clone(), setup.folder.path());
    setup.check = Some(Arc::new(records.unwrap()));
    Certified {
        bridge: bridges.folder().join(name),
        certificate: certificate.unwrap(),
        setup,
    }
}

/// Colours of four classes, a little beside one another.
fn colours(count: usize) -> Vec<[u8; 3]> {
    let shift = |row: usize, byte: u8| byte / 2 + 60 + (row % 7) as u8;
    (0..count)
        .map(|row| OLD[row % OLD.len()].map(|byte| shift(row, byte)))
        .collect()
}

fn rows(colours: &[[u8; 3]], angle: f32, dim: usize) -> Vec<f32> {
    let rows = colours.iter();
    rows.flat_map(|&colour| embedded(colour, 0.5, angle, dim))
        .collect()
}

fn bridge(setup: &Setup) -> Bridge {
    let fitted = colours(120);
    let (new, old) = (rows(&fitted, NEW_ANGLE, 5), rows(&fitted, BRIDGED_ANGLE, 3));
    let pairs = Pairs::new(&new, 5, &old, 3).unwrap();
    let [from, to] = ["v0002", "v0001"].map(|name| setup.registry.get(name).unwrap().space());
    fit_uncentred(&pairs, &Recipe::Orthogonal, from, to).unwrap()
}

/// The old encoder takes every third query for one of another class.
fn certificate(setup: &Setup, bridge: &Bridge) -> Certificate {
    let [new, old] = ["v0002", "v0001"].map(|name| setup.registry.get(name).unwrap().space());
    let (queries, gallery) = (colours(120), colours(60));
    let mut mistaken = queries.clone();
    for row in (0..mistaken.len() - 1).step_by(3) {
        mistaken[row] = queries[row + 1];
    }
    let embedding = |values: Vec<f32>, space: &perennial_core::SpaceRef| Rows {
        values,
        dim: space.dim,
        space: space.clone(),
    };
    let classes = |count: usize| (0..count).map(|row| (row % OLD.len()) as u32).collect();
    let data = EvaluationData {
        old_queries: embedding(rows(&mistaken, 0.0, 3), &old),
        old_gallery: embedding(rows(&gallery, 0.0, 3), &old),
        new_queries: embedding(rows(&queries, NEW_ANGLE, 5), &new),
        new_gallery: Some(embedding(rows(&gallery, NEW_ANGLE, 5), &new)),
        truths: vec![Truth::Classes {
            queries: classes(120),
            gallery: classes(60),
        }],
        own: None,
        names: Names::default(),
    };
    let request = CertificateRequest {
        data: &data,
        search: Search::through(bridge, Route::Bridged, Index::Raw),
        demands: Demands::new(1),
        sources: Sources::default(),
        created: "2026-11-25T00:00:00Z".to_owned(),
    };
    request.run().unwrap()
}

/// Loses one thing after the other, each put back before the next, and asks after each reload.
fn loses(service: &Running, take: impl Fn(), said: &str) {
    let answer = by_picture(service, OLD[0]);
    assert_eq!(part(&answer, "v0001")["route"], "bridged");
    take();
    // No key was there before, and none is needed now.
    assert!(service.reloader.reload(|| Ok(Default::default())).is_ok());
    let answer = by_picture(service, NEW[0]);
    assert_eq!(answer["not_searched"], 4, "{answer}");
    assert_eq!(answer["hits"].as_array().unwrap().len(), 4);
    let left = &answer["left_out"][0];
    assert_eq!(
        (&left["space"], &left["items"]),
        (&json!("v0001"), &json!(4))
    );
    assert!(left["reason"].as_str().unwrap().contains(said), "{left}");
    let stats = service.get("/gallery/stats").expect(200);
    assert_eq!(stats["left_out"], answer["left_out"]);
    assert!(leaves_out(service, "not_certified", 4));
    let detail = service.get("/readyz").expect(200)["detail"].to_string();
    assert!(detail.contains(said), "{detail}");
    // Nobody learns where files lie on this machine.
    let folder = service.setup.folder.path().to_str().unwrap();
    assert!(!detail.contains(folder), "{detail}");
    assert!(!left.to_string().contains(folder), "{left}");
    let remedy = left["remedy"].as_str();
    assert!(
        remedy.is_none_or(|command| command.starts_with("perennial ")),
        "{left}"
    );
}

#[test]
fn a_bridge_or_certificate_that_is_taken_away_is_not_used_after_a_reload() {
    let Certified {
        setup,
        bridge,
        certificate,
    } = certified();
    let service = setup.start();
    let weights = bridge.join("weights.safetensors");
    let kept = std::fs::read(&weights).unwrap();
    let back = |path: &PathBuf, bytes: &[u8]| {
        std::fs::write(path, bytes).unwrap();
        service.reloader.reload(|| Ok(Default::default())).unwrap();
    };
    loses(
        &service,
        || std::fs::remove_file(&weights).unwrap(),
        "b0001/weights.safetensors is gone",
    );
    back(&weights, &kept);
    // Another bridge's bytes in its place, as many as before.
    let mut other = kept.clone();
    *other.last_mut().unwrap() ^= 1;
    loses(
        &service,
        || std::fs::write(&weights, &other).unwrap(),
        "has other content now",
    );
    back(&weights, &kept);
    let described = bridge.join("bridge.toml");
    let description = std::fs::read(&described).unwrap();
    loses(
        &service,
        || std::fs::write(&described, "no TOML").unwrap(),
        "bridge b0001 cannot be read: b0001/bridge.toml",
    );
    back(&described, &description);
    let name = certificate.file_name().unwrap().to_str().unwrap();
    let document = std::fs::read(&certificate).unwrap();
    loses(
        &service,
        || std::fs::remove_file(&certificate).unwrap(),
        &format!("certificates/{name}: is not there any more"),
    );
    back(&certificate, &document);
    assert_eq!(by_picture(&service, OLD[0])["not_searched"], 0);
}

#[test]
fn a_promotion_looks_at_the_bridge_at_that_moment_and_names_the_file() {
    let Certified { setup, bridge, .. } = certified();
    setup.registry.set_alias("live", "v0001").unwrap();
    let service = setup.start();
    let dry = |service: &Running| {
        let order = json!({"version": "v0002", "dry_run": true});
        service.call("PUT", "/aliases/live", &order)
    };
    let tried = dry(&service).expect(200);
    let old = part(&tried, "v0001");
    assert_eq!(old["route"], "bridged");
    // What the certificate measured, beside the margin that decides.
    let expected = old["expected"].as_array().unwrap();
    assert!(!expected.is_empty(), "{old}");
    for one in expected {
        assert_eq!(
            (&one["space"], &one["confidence"]),
            (&json!("v0001"), &json!(0.95))
        );
        let [low, value, high] = ["low", "value", "high"].map(|key| one[key].as_f64().unwrap());
        assert!(
            0.0 <= low && low <= value && value <= high && high <= 1.0,
            "{one}"
        );
    }
    assert_eq!(old["merge_queries"], 60);
    let checks = tried["checks"].as_array().unwrap();
    let route = checks
        .iter()
        .find(|check| check["name"] == "compatibility with v0001");
    let detail = route.unwrap()["detail"].as_str().unwrap();
    assert!(
        detail.contains("; expected ") && detail.contains("; hits merged by "),
        "{detail}"
    );
    std::fs::remove_dir_all(&bridge).unwrap();
    for refused in [dry(&service), service.swap("v0002")] {
        assert_eq!(refused.code(409), "incompatible_version");
        let message = refused.json()["error"]["message"].to_string();
        assert!(message.contains("b0001/bridge.toml is gone"), "{message}");
    }
    assert_eq!(service.get("/models").expect(200)["live"], "v0001");
}

#[test]
fn a_forced_promotion_that_fails_accepts_nothing() {
    let Certified { setup, bridge, .. } = certified();
    setup.registry.set_alias("live", "v0001").unwrap();
    // A third version of the first one's dimension, without a certificate.
    let third = setup.registry.publish(draft(3), b"0.3").unwrap().name;
    std::fs::remove_dir_all(bridge).unwrap();
    let service = setup.start();
    let accepted_file = service.setup.folder.path().join("accepted.toml");
    let forced_pairs = || service.get("/gallery/stats").expect(200)["forced_pairs"].clone();
    let force = || {
        let order = json!({"version": third, "force": true});
        service.call("PUT", "/aliases/live", &order)
    };
    // The pointer cannot be moved.
    let aliases = service.setup.registry.root().join("aliases.toml");
    let kept = std::fs::read(&aliases).unwrap();
    std::fs::remove_file(&aliases).unwrap();
    std::fs::create_dir(&aliases).unwrap();
    assert!(force().status >= 500);
    assert_eq!(forced_pairs(), json!([]));
    let text = std::fs::read_to_string(&accepted_file).unwrap();
    assert!(!text.contains(&third), "{text}");
    let query = json!({"embedding": embedded(OLD[0], 0.5, 0.3, 3), "model_version": third});
    let refused = service.call("POST", "/search", &query);
    assert_eq!(refused.code(409), "incompatible_version");
    // It can.
    std::fs::remove_dir(&aliases).unwrap();
    std::fs::write(&aliases, kept).unwrap();
    assert_eq!(force().expect(200)["version"], json!(third));
    assert_eq!(forced_pairs()[0], json!([third, "v0001"]));
    let text = std::fs::read_to_string(&accepted_file).unwrap();
    assert!(text.contains(&third) && !text.contains("pending"), "{text}");
}

#[test]
fn a_forced_write_that_fails_accepts_nothing() {
    let Certified { setup, .. } = certified();
    setup.registry.set_alias("live", "v0001").unwrap();
    // A third version of the first one's dimension, without a certificate.
    let third = setup.registry.publish(draft(3), b"0.3").unwrap().name;
    let service = setup.start();
    let accepted_file = service.setup.folder.path().join("accepted.toml");
    let forced_pairs = || service.get("/gallery/stats").expect(200)["forced_pairs"].clone();
    let put = |length: f32| {
        let vector = embedded(OLD[0], 0.5, 0.3, 3);
        let vector: Vec<f32> = vector.iter().map(|value| length * value).collect();
        let item = json!({"id": 77, "embedding": vector, "model_version": third, "force": true});
        service.call("PUT", "/gallery/items", &item)
    };
    // What no check before the write notices.
    assert_eq!(put(2.0).status, 422);
    assert_eq!(forced_pairs(), json!([]));
    assert!(!accepted_file.exists());
    put(1.0).expect(200);
    assert_eq!(forced_pairs(), json!([["v0001", third]]));
    let text = std::fs::read_to_string(&accepted_file).unwrap();
    assert!(text.contains(&third) && !text.contains("pending"), "{text}");
}

#[test]
fn a_running_service_notices_by_itself() {
    let Certified { setup, bridge, .. } = certified();
    let service = setup.start();
    assert_eq!(by_picture(&service, OLD[0])["not_searched"], 0);
    std::fs::remove_dir_all(&bridge).unwrap();
    wait(|| by_picture(&service, NEW[0])["not_searched"] == 4);
    // Keys that are refused do not keep a reload from looking.
    self::bridge(&service.setup).write(&bridge).unwrap();
    let refused = || Keys::from_file(&bridge.join("no keys here"));
    assert!(service.reloader.reload(refused).is_err());
    assert_eq!(by_picture(&service, OLD[0])["not_searched"], 0);
}

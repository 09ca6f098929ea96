//! Searches of mapped vectors: the indexes come and go with the routes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use perennial_bridge::{Pairs, Recipe, fit_uncentred};
use perennial_core::{SpaceId, SpaceRef};
use perennial_gallery::{MappedIndexes, VectorStore};
use perennial_upgrade::{BridgeMap, Certified, CertifiedWay};
use serde_json::{Value, json};

use crate::client::Call;
use crate::harness::{Running, Setup};
use crate::mixed::{
    NEW, NEW_ANGLE, OLD, bridged, by_picture, dual, embedded, leaves_out, metrics, mixed, part,
    search,
};

/// From v0001 (3 dimensions) to v0002 (5 dimensions).
fn mapped() -> Certified {
    let levels = [0, 70, 128, 200, 255];
    let rows = |mean, angle, dim| -> Vec<f32> {
        let two = levels.into_iter().flat_map(|r| levels.map(|g| (r, g)));
        let colours = two.flat_map(|(r, g)| levels.map(|b| [r, g, b]));
        colours
            .flat_map(|colour| embedded(colour, mean, angle, dim))
            .collect()
    };
    let (old, new) = (rows(0.4, 0.0, 3), rows(0.5, NEW_ANGLE, 5));
    let pairs = Pairs::new(&old, 3, &new, 5).unwrap();
    let space = |name: &str, dim| SpaceRef::named(SpaceId::new(name).unwrap(), dim);
    let (from, to) = (space("v0001", 3), space("v0002", 5));
    let recipe = Recipe::Ridge { penalty: 1e-3 };
    let bridge = fit_uncentred(&pairs, &recipe, from, to).unwrap();
    let map = BridgeMap::new(Arc::new(bridge));
    Certified::through(CertifiedWay::Mapped(Arc::new(map)), "map measured")
}

/// The old version is live, and everything is stored by it.
fn before_the_upgrade(setup: &Setup) {
    setup.registry.set_alias("live", "v0001").unwrap();
    let ids: Vec<_> = (11u64..15).map(Into::into).collect();
    setup.store.delete(&ids).unwrap();
}

fn route(answer: &Value) -> &str {
    part(answer, "v0001")["route"].as_str().unwrap()
}

/// Waits until searches by picture take a route.
fn wait_for(service: &Running, wanted: &str) -> Value {
    let start = Instant::now();
    loop {
        let answer = by_picture(service, OLD[0]);
        if route(&answer) == wanted {
            return answer;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{answer}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn items_are_found_by_their_mapped_vectors_without_their_encoder() {
    let setup = mixed("broken");
    setup.pairs.certify("v0002", "v0001", vec![mapped()]);
    let service = setup.start();
    for (id, colour) in (1..).zip(OLD) {
        let answer = by_picture(&service, colour);
        let hit = &answer["hits"][0];
        assert_eq!(
            (&hit["id"], &hit["route"]),
            (&json!(id), &json!("mapped")),
            "{answer}"
        );
        assert_eq!(hit["score_kind"], "mapped_cosine");
        assert!(hit["score"].as_f64().unwrap() > 0.9, "{answer}");
        let own = part(&answer, "v0001");
        assert_eq!((&own["dim"], &own["fallback"]), (&json!(3), &Value::Null));
        assert_eq!(answer["not_searched"], 0);
    }
    assert_eq!(service.setup.loads.of("v0001").0, 0);
    // By an embedding and by a stored item of the new space as well, which no old encoder could embed.
    let embedding = embedded(OLD[1], 0.5, NEW_ANGLE, 5);
    let answer = search(&service, json!({"embedding": embedding}));
    assert_eq!(
        (route(&answer), &answer["hits"][0]["id"]),
        ("mapped", &json!(2))
    );
    let answer = search(&service, json!({"id": 11}));
    assert_eq!(route(&answer), "mapped");
    let mut hits = answer["hits"].as_array().unwrap().iter();
    assert!(hits.any(|hit| hit["route"] == "mapped"), "{answer}");
    let stats = service.get("/gallery/stats").expect(200);
    let kept = &stats["mapped"][0];
    assert_eq!(
        (&kept["space"], &kept["dim"], &kept["ready"]),
        (&json!("v0001"), &json!(5), &json!(true))
    );
    assert!(
        metrics(&service).contains("route=\"mapped\""),
        "{}",
        metrics(&service)
    );
}

#[test]
fn the_next_route_is_taken_until_an_index_is_built() {
    let setup = mixed("0");
    setup
        .pairs
        .certify("v0002", "v0001", vec![mapped(), bridged()]);
    setup.store.mapped.held.store(true, Ordering::SeqCst);
    let service = setup.start();
    let answer = by_picture(&service, OLD[0]);
    assert_eq!(route(&answer), "bridged");
    let fallback = part(&answer, "v0001")["fallback"].as_str().unwrap();
    assert!(fallback.contains("not built yet"), "{fallback}");
    service
        .setup
        .store
        .mapped
        .held
        .store(false, Ordering::SeqCst);
    wait_for(&service, "mapped");
    // The certificate goes, and with it the index.
    service
        .setup
        .pairs
        .certify("v0002", "v0001", vec![bridged()]);
    wait_for(&service, "bridged");
    let start = Instant::now();
    while service.get("/gallery/stats").expect(200)["mapped"] != json!([]) {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_dry_run_builds_no_index_and_says_what_is_to_be_built() {
    let setup = mixed("0");
    setup.pairs.certify("v0002", "v0001", vec![mapped()]);
    before_the_upgrade(&setup);
    // It would never be built.
    setup.store.mapped.held.store(true, Ordering::SeqCst);
    let service = setup.start();
    let order = json!({"version": "v0002", "dry_run": true});
    let asked = service.call("PUT", "/aliases/live", &order).expect(200);
    assert_eq!(
        (route(&asked), &asked["not_searched"], &asked["dry_run"]),
        ("mapped", &json!(0), &json!(true))
    );
    let checks = asked["checks"].as_array().unwrap();
    let name = "mapped vectors of v0001";
    let check = checks.iter().find(|check| check["name"] == name).unwrap();
    let detail = check["detail"].as_str().unwrap();
    assert_eq!(check["passed"], true);
    let stats = service.get("/gallery/stats").expect(200);
    let old = &stats["per_version"]["v0001"];
    assert!(detail.contains(&format!("maps {old} items")), "{detail}");
    assert!(detail.contains("MB"), "{detail}");
    assert_eq!(service.setup.store.mapped.wanted.load(Ordering::SeqCst), 0);
}

#[test]
fn a_swap_waits_for_its_index_and_a_rollback_needs_none() {
    let setup = mixed("0");
    setup.pairs.certify("v0002", "v0001", vec![mapped()]);
    before_the_upgrade(&setup);
    setup.store.mapped.held.store(true, Ordering::SeqCst);
    let service = setup.start();
    assert_eq!(route(&by_picture(&service, OLD[0])), "own");
    let moved = std::thread::scope(|scope| {
        let swap = scope.spawn(|| service.swap("v0002").expect(200));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!swap.is_finished());
        // Searches go on with the version that is live.
        assert_eq!(route(&by_picture(&service, OLD[0])), "own");
        service
            .setup
            .store
            .mapped
            .held
            .store(false, Ordering::SeqCst);
        swap.join().unwrap()
    });
    assert_eq!(
        (route(&moved), &moved["not_searched"]),
        ("mapped", &json!(0))
    );
    let checks = moved["checks"].as_array().unwrap();
    let check = |name: &str| checks.iter().find(|check| check["name"] == name).unwrap();
    assert_eq!(check("mapped vectors of v0001")["passed"], true);
    let cost = check("compatibility with v0001")["detail"]
        .as_str()
        .unwrap();
    assert!(
        cost.contains("an index of mapped vectors in memory"),
        "{cost}"
    );
    assert_eq!(moved["query_cost"]["encoders"].as_array().unwrap().len(), 1);
    let answer = by_picture(&service, OLD[2]);
    assert_eq!(
        (route(&answer), &answer["hits"][0]["id"]),
        ("mapped", &json!(3))
    );
    // What is stored of the old space later is found as well.
    let old =
        json!({"id": 5, "embedding": embedded(NEW[0], 0.4, 0.0, 3), "model_version": "v0001"});
    service.call("PUT", "/gallery/items", &old).expect(200);
    let answer = by_picture(&service, NEW[0]);
    assert_eq!(answer["hits"][0]["id"], 5, "{answer}");
    let back = Call::new("POST", "/aliases/live:rollback").send(service.address);
    assert_eq!(back.expect(200)["version"], "v0001");
    assert_eq!(by_picture(&service, OLD[0])["hits"][0]["id"], 1);
}

#[test]
fn a_gallery_in_a_database_takes_another_route_or_refuses_the_swap() {
    let setup = mixed("0");
    setup.store.mapped.not_offered.store(true, Ordering::SeqCst);
    setup.pairs.certify("v0002", "v0001", vec![mapped()]);
    std::fs::remove_file(setup.registry.root().join("aliases.toml")).unwrap();
    let service = setup.start();
    let refused = service.swap("v0002");
    assert_eq!(refused.code(409), "incompatible_version");
    let message = refused.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(message.contains("in a database"), "{message}");
    service
        .setup
        .pairs
        .certify("v0002", "v0001", vec![mapped(), bridged()]);
    let moved = service.swap("v0002").expect(200);
    assert_eq!(route(&moved), "bridged");
    let checks = moved["checks"].as_array().unwrap().iter();
    let mut checks = checks.filter(|check| check["name"] == "mapped vectors of v0001");
    assert_eq!(checks.next().unwrap()["warning"], true);
}

#[test]
fn a_search_whose_index_goes_meanwhile_takes_the_next_route() {
    let setup = mixed("0");
    setup
        .pairs
        .certify("v0002", "v0001", vec![mapped(), bridged()]);
    let service = setup.start();
    let store = &service.setup.store.mapped;
    let embedding = embedded(OLD[1], 0.5, NEW_ANGLE, 5);
    let queries: [&dyn Fn() -> Value; 3] = [
        &|| by_picture(&service, OLD[1]),
        &|| search(&service, json!({"embedding": embedding})),
        &|| search(&service, json!({"id": 11})),
    ];
    for query in queries {
        store.held.store(false, Ordering::SeqCst);
        assert_eq!(route(&query()), "mapped");
        store.lost.store(true, Ordering::SeqCst);
        let answer = query();
        assert_eq!(route(&answer), "bridged", "{answer}");
        assert_eq!(answer["not_searched"], 0);
        let mut hits = answer["hits"].as_array().unwrap().iter();
        assert!(hits.any(|hit| hit["route"] == "bridged"), "{answer}");
    }
    // Without another route its items are left out, and the answer says why.
    service
        .setup
        .pairs
        .certify("v0002", "v0001", vec![mapped()]);
    store.held.store(false, Ordering::SeqCst);
    store.lost.store(true, Ordering::SeqCst);
    let answer = by_picture(&service, OLD[1]);
    assert_eq!(answer["not_searched"], 4, "{answer}");
    let reason = answer["left_out"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("not built yet"), "{reason}");
    assert!(leaves_out(&service, "mapped_index", 4));
}

#[test]
fn an_index_takes_the_place_of_an_old_encoder_that_fails() {
    let setup = mixed("broken");
    setup
        .pairs
        .certify("v0002", "v0001", vec![dual(0.5), mapped()]);
    std::fs::remove_file(setup.registry.root().join("aliases.toml")).unwrap();
    let service = setup.start();
    assert!(leaves_out(&service, "no_live_version", 4));
    let moved = service.swap("v0002").expect(200);
    assert_eq!(
        (route(&moved), &moved["not_searched"]),
        ("mapped", &json!(0))
    );
    assert!(leaves_out(&service, "no_live_version", 0));
    let checks = moved["checks"].as_array().unwrap().iter();
    let mut checks = checks.filter(|check| check["name"] == "encoder of v0001");
    assert_eq!(checks.next().unwrap()["warning"], true);
    let answer = by_picture(&service, OLD[2]);
    assert_eq!(
        (route(&answer), &answer["hits"][0]["id"]),
        ("mapped", &json!(3))
    );
    let fallback = part(&answer, "v0001")["fallback"].as_str().unwrap();
    assert!(fallback.contains("encoder of v0001"), "{fallback}");
}

#[test]
fn an_old_encoder_serves_until_an_index_is_built() {
    let setup = mixed("0");
    setup
        .pairs
        .certify("v0002", "v0001", vec![mapped(), dual(0.5)]);
    setup.store.mapped.held.store(true, Ordering::SeqCst);
    let service = setup.start();
    let answer = by_picture(&service, OLD[0]);
    assert_eq!(route(&answer), "dual", "{answer}");
    service
        .setup
        .store
        .mapped
        .held
        .store(false, Ordering::SeqCst);
    wait_for(&service, "mapped");
}

#[test]
fn a_service_that_stops_does_not_wait_for_an_index() {
    let setup = mixed("0");
    setup.pairs.certify("v0002", "v0001", vec![mapped()]);
    before_the_upgrade(&setup);
    setup.store.mapped.held.store(true, Ordering::SeqCst);
    let mut service = setup.start();
    let (address, store) = (service.address, service.setup.store.clone());
    let swap = std::thread::spawn(move || {
        let order = json!({"version": "v0002"});
        Call::new("PUT", "/aliases/live").json(&order).send(address)
    });
    // The swap waits once the gallery is told to keep the index.
    let start = Instant::now();
    while store.mapped().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
    service.signal();
    let answer = swap.join().unwrap();
    assert_eq!(answer.code(409), "conflict");
    let message = answer.json()["error"]["message"].to_string();
    assert!(message.contains("stopping"), "{message}");
    let aliases = service.setup.registry.aliases().unwrap();
    assert_eq!(aliases["live"], "v0001");
    service.stop().unwrap();
}

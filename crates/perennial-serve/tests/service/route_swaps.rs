//! Swaps across dimensions, and the old encoders that come and go with the routes.

use std::time::Duration;

use perennial_gallery::VectorStore;
use serde_json::json;

use crate::client::Call;
use crate::harness::image;
use crate::mixed::{NEW, OLD, bridged, by_picture, dual, embedded, metrics, mixed, part};

#[test]
fn a_new_version_of_another_dimension_takes_over_and_back() {
    let setup = mixed("0");
    setup
        .pairs
        .certify("v0002", "v0001", vec![dual(0.5), bridged()]);
    setup.registry.set_alias("live", "v0001").unwrap();
    let ids: Vec<_> = (11u64..15).map(Into::into).collect();
    setup.store.delete(&ids).unwrap();
    let service = setup.start();
    assert_eq!(by_picture(&service, OLD[0])["hits"][0]["id"], 1);
    let moved = service.swap("v0002").expect(200);
    assert_eq!(
        (&moved["version"], &moved["forced"]),
        (&json!("v0002"), &json!(false))
    );
    assert_eq!(part(&moved, "v0001")["route"], "dual");
    assert_eq!(
        (&moved["not_searched"], &moved["left_out"]),
        (&json!(0), &json!([]))
    );
    let checks = moved["checks"].as_array().unwrap();
    let check = |name: &str| checks.iter().find(|check| check["name"] == name).unwrap();
    let routes = check("compatibility with v0001")["detail"]
        .as_str()
        .unwrap();
    assert!(routes.contains("dual"), "{routes}");
    assert_eq!(check("encoder of v0001")["passed"], true);
    let cost = &moved["query_cost"];
    let encoders = cost["encoders"].as_array().unwrap();
    let versions: Vec<_> = encoders.iter().map(|one| &one["version"]).collect();
    assert_eq!(versions, ["v0002", "v0001"]);
    let times: Vec<f64> = encoders
        .iter()
        .map(|one| one["milliseconds"].as_f64().unwrap())
        .collect();
    assert!(times.iter().all(|&time| time > 0.0), "{cost}");
    assert_eq!(cost["milliseconds"], json!(times[0] + times[1]));
    let said = check("cost per query")["detail"].as_str().unwrap();
    assert!(said.contains("by 2 encoders"), "{said}");
    // The first search after the swap has both encoders, and the old one was not loaded again.
    let answer = by_picture(&service, OLD[3]);
    assert_eq!(answer["hits"][0]["id"], 4);
    assert_eq!(part(&answer, "v0001")["route"], "dual");
    assert_eq!(service.setup.loads.of("v0001"), (1, 1));
    service
        .call(
            "PUT",
            "/gallery/items",
            &json!({"id": 11, "image": image(NEW[0])}),
        )
        .expect(200);
    assert_eq!(by_picture(&service, NEW[0])["hits"][0]["id"], 11);
    service
        .call("DELETE", "/gallery/items", &json!({"ids": [11]}))
        .expect(200);

    let back = Call::new("POST", "/aliases/live:rollback").send(service.address);
    assert_eq!(back.expect(200)["version"], "v0001");
    let answer = by_picture(&service, OLD[0]);
    assert_eq!(
        (&answer["model_version"], &answer["hits"][0]["id"]),
        (&json!("v0001"), &json!(1))
    );
    assert_eq!(service.setup.loads.of("v0001").0, 1);
}

#[test]
fn a_swap_is_refused_where_only_a_broken_encoder_leads() {
    let setup = mixed("broken");
    setup.pairs.certify("v0002", "v0001", vec![dual(0.5)]);
    std::fs::remove_file(setup.registry.root().join("aliases.toml")).unwrap();
    let service = setup.start();
    let refused = service.swap("v0002");
    assert_eq!(refused.code(409), "incompatible_version");
    let error = &refused.json()["error"];
    assert!(
        error["message"].as_str().unwrap().contains("no angle"),
        "{error}"
    );
    let checks = error["details"]["checks"].as_array().unwrap();
    let failed: Vec<_> = checks
        .iter()
        .filter(|check| check["passed"] == false)
        .collect();
    assert_eq!(failed.len(), 1, "{error}");
    assert_eq!(failed[0]["name"], "encoder of v0001");
    let force = json!({"version": "v0002", "force": true});
    let forced = service.call("PUT", "/aliases/live", &force).expect(200);
    assert_eq!(
        (&forced["forced"], &forced["not_searched"]),
        (&json!(true), &json!(4))
    );

    // Another route leads there: a warning.
    service
        .setup
        .pairs
        .certify("v0002", "v0001", vec![dual(0.5), bridged()]);
    let again = service.swap("v0002").expect(200);
    let checks = again["checks"].as_array().unwrap();
    let check = checks
        .iter()
        .find(|check| check["name"] == "encoder of v0001");
    assert_eq!(
        (&check.unwrap()["passed"], &check.unwrap()["warning"]),
        (&json!(true), &json!(true))
    );
}

#[test]
fn old_encoders_come_and_go_with_what_needs_them() {
    let setup = mixed("0");
    setup.pairs.certify("v0002", "v0001", vec![bridged()]);
    let service = setup.start();
    assert_eq!(service.setup.loads.of("v0001"), (0, 0));
    // A certificate that arrives while the service runs.
    service
        .setup
        .pairs
        .certify("v0002", "v0001", vec![dual(0.5), bridged()]);
    let waiting = part(&by_picture(&service, OLD[0]), "v0001")["route"].clone();
    assert!(waiting == "bridged" || waiting == "dual");
    wait(|| service.setup.loads.of("v0001") == (1, 1));
    wait(|| part(&by_picture(&service, OLD[0]), "v0001")["route"] == "dual");
    let line = r#"perennial_route_items{space="v0001",route="dual"} 4"#;
    assert!(metrics(&service).contains(line));
    // Its last item goes.
    service
        .call("DELETE", "/gallery/items", &json!({"ids": [1, 2, 3, 4]}))
        .expect(200);
    wait(|| service.setup.loads.of("v0001") == (1, 0));
    let metrics = metrics(&service);
    let line = r#"perennial_route_items{space="v0001",route="dual"} 0"#;
    assert!(metrics.contains(line), "{metrics}");
    // An item comes back: it is found from the moment that it is stored.
    let back = embedded(OLD[0], 0.4, 0.0, 3);
    let item = json!({"id": 1, "embedding": back, "model_version": "v0001"});
    service.call("PUT", "/gallery/items", &item).expect(200);
    assert_eq!(
        part(&by_picture(&service, OLD[0]), "v0001")["route"],
        "dual"
    );
    assert_eq!(service.setup.loads.of("v0001"), (2, 1));
}

#[test]
fn an_old_encoder_that_is_repaired_is_used_again() {
    let setup = mixed("0");
    setup
        .pairs
        .certify("v0002", "v0001", vec![dual(0.5), bridged()]);
    let path = setup
        .registry
        .weights_path(&setup.registry.get("v0001").unwrap());
    std::fs::write(&path, b"1").unwrap();
    let service = setup.start();
    let old = part(&by_picture(&service, OLD[0]), "v0001").clone();
    assert_eq!(old["route"], "bridged");
    let line = r#"perennial_route_fallback_items{space="v0001"} 4"#;
    assert!(metrics(&service).contains(line));
    std::fs::write(&path, b"0").unwrap();
    wait(|| part(&by_picture(&service, OLD[0]), "v0001")["route"] == "dual");
    let line = r#"perennial_route_fallback_items{space="v0001"} 0"#;
    assert!(metrics(&service).contains(line));
}

/// Until something holds that happens within seconds.
pub fn wait(holds: impl Fn() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("it did not happen within a minute");
}

//! Versions, the compatibility matrix, snapshots and the page.

use perennial_core::{
    CompatibilityRecord, CompatibilityRecords, Interval, ProbeSet, Registry, TieRule, sha256_hex,
};
use serde_json::json;

use crate::client::Call;
use crate::encoder::draft;
use crate::harness::Setup;

#[test]
fn versions_come_from_another_registry_or_an_upload() {
    let setup = Setup::new(&["0"]);
    let other = Registry::create(setup.folder.path().join("other")).unwrap();
    other.publish(draft(3), b"0.7").unwrap();
    other.publish(draft(3), b"broken").unwrap();
    let service = setup.start();

    let body = json!({"path": other.root(), "version": "v0001", "parent": "v0001"});
    let added = service.call("POST", "/models", &body).expect(201);
    assert_eq!(
        (&added["name"], &added["parent"]),
        (&json!("v0002"), &json!("v0001"))
    );
    assert_eq!(
        (&added["role"], &added["simplex_vertices"]),
        (&json!("update"), &json!(4))
    );
    assert_eq!(added["weights_sha256"], sha256_hex(b"0.7"));

    let toml = other.get("v0001").unwrap().to_toml();
    let upload = |model: &str, weights: &[u8]| {
        let fields: [(&str, &[u8]); 2] = [("model", model.as_bytes()), ("weights", weights)];
        Call::new("POST", "/models")
            .form(&fields)
            .send(service.address)
    };
    assert_eq!(upload(&toml, b"0.7").expect(201)["name"], "v0003");
    assert_eq!(upload(&toml, b"0.8").code(422), "unprocessable");
    assert_eq!(upload("name = 3", b"0.7").code(422), "unprocessable");
    let broken = other.get("v0002").unwrap().to_toml();
    let refused = upload(&broken, b"broken").expect(422);
    assert!(
        refused["error"]["message"]
            .as_str()
            .unwrap()
            .contains("no angle"),
        "{refused}"
    );
    // A network would take such images, but one of them alone has more pixels than the machine should give.
    let huge = toml.replace("input = [3, 4, 4]", "input = [3, 16384, 16384]");
    assert_ne!(huge, toml);
    let refused = upload(&huge, b"0.7").expect(422);
    assert!(
        refused["error"]["message"]
            .as_str()
            .unwrap()
            .contains("1024 pixels a side"),
        "{refused}"
    );
    for body in [
        json!({"path": "/nowhere", "version": "v0001"}),
        json!({"path": other.root(), "version": "v0009"}),
        json!({"path": other.root(), "version": "v0001", "parent": "v0077"}),
    ] {
        assert_eq!(
            service.call("POST", "/models", &body).code(422),
            "unprocessable"
        );
    }

    let models = service.get("/models").expect(200);
    assert_eq!(models["models"].as_array().unwrap().len(), 3);
    let left: Vec<String> = std::fs::read_dir(service.setup.registry.root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".trial"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    service.swap("v0002").expect(200);
}

#[test]
fn the_matrix_shows_what_was_measured() {
    let setup = Setup::new(&["0", "0"]);
    let probes = || ProbeSet {
        name: "colours test".to_owned(),
        argument: None,
        count: 10,
        sha256: "ab".repeat(32),
    };
    let record = |cross_test: f64| CompatibilityRecord {
        query_version: "v0002".to_owned(),
        gallery_version: "v0001".to_owned(),
        query_weights: Some(perennial_core::sha256_hex(b"0")),
        gallery_weights: Some(perennial_core::sha256_hex(b"0")),
        self_test: 0.5,
        cross_test,
        margin: cross_test - 0.5,
        interval: Interval {
            low: -0.1,
            high: 0.1,
        },
        intervals: Vec::new(),
        cross_test_intervals: Vec::new(),
        flips: None,
        queries: probes(),
        gallery: probes(),
        tie_rule: TieRule::Strict,
        created: "2026-11-22T21:35:00Z".to_owned(),
    };
    CompatibilityRecords::add(&setup.registry, [record(0.6)]).unwrap();
    let service = setup.start();
    let matrix = service.get("/compatibility").expect(200);
    assert_eq!(matrix["versions"], json!(["v0001", "v0002"]));
    assert_eq!(matrix["self_tests"], json!({"v0001": 0.5}));
    let pair = &matrix["pairs"][0];
    assert_eq!(
        (&pair["verdict"], &pair["compatible"]),
        (&json!("undecided"), &json!(true))
    );
    // Measured as compatible is one thing, what the service's own check says is another.
    assert_eq!(pair["certified"], false);
    assert_eq!(pair["interval"], json!({"low": -0.1, "high": 0.1}));
    assert_eq!(pair["gallery"]["name"], "colours test");
}

#[test]
fn snapshots_are_written_and_listed() {
    let setup = Setup::new(&["0"]);
    let service = setup.start();
    let made = Call::new("POST", "/snapshots")
        .send(service.address)
        .expect(201);
    let bytes = made["bytes"].as_u64().unwrap();
    assert!(made["items"] == 0 && bytes > 0, "{made}");
    let listed = service.get("/snapshots").expect(200);
    assert_eq!(listed["snapshots"], json!([made]));
    let name = made["name"].as_str().unwrap();
    let folder = service.setup.config.snapshots.clone().unwrap();
    // A file that has changed since is listed without the old promise.
    std::fs::write(folder.join(name), b"something else now").unwrap();
    let listed = service.get("/snapshots").expect(200);
    assert_eq!(
        (
            &listed["snapshots"][0]["bytes"],
            &listed["snapshots"][0]["sha256"]
        ),
        (&json!(18), &json!(null))
    );
}

#[test]
fn the_page_and_the_document_are_served_with_a_policy() {
    let service = Setup::new(&["0"]).start();
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/static/app.js", "text/javascript; charset=utf-8"),
        ("/static/style.css", "text/css; charset=utf-8"),
        ("/openapi.json", "application/json"),
    ] {
        let answer = service.get(path);
        assert_eq!(
            (answer.status, &*answer.headers["content-type"]),
            (200, content_type),
            "{path}"
        );
        assert!(answer.headers["content-security-policy"].starts_with("default-src 'self'"));
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert!(!answer.body.is_empty());
    }
    assert_eq!(service.get("/docs").headers["location"], "/docs/");
    let info = service.get("/info").expect(200);
    assert_eq!(
        (&info["name"], &info["live"]),
        (&json!("perennial"), &json!("v0001"))
    );
    assert!(info["limits"]["body_bytes"].is_u64());
}

#[cfg(feature = "swagger")]
#[test]
fn the_viewer_of_the_document_is_served_with_a_policy() {
    let service = Setup::new(&["0"]).start();
    for (path, content_type) in [
        ("/docs/", "text/html"),
        ("/docs/swagger-ui.css", "text/css"),
        ("/docs/swagger-ui-bundle.js", "text/javascript"),
    ] {
        let answer = service.get(path);
        assert_eq!(
            (answer.status, &*answer.headers["content-type"]),
            (200, content_type),
            "{path}"
        );
        assert!(answer.headers["content-security-policy"].starts_with("default-src 'self'"));
        assert!(!answer.body.is_empty());
    }
    let initializer = String::from_utf8(service.get("/docs/swagger-initializer.js").body).unwrap();
    assert!(
        initializer.contains("/openapi.json") && !initializer.contains("http"),
        "{initializer}"
    );
}

#[cfg(not(feature = "swagger"))]
#[test]
fn a_build_without_the_viewer_says_how_to_have_it() {
    let service = Setup::new(&["0"]).start();
    let answer = service.get("/docs/");
    assert_eq!(answer.status, 200);
    let text = String::from_utf8(answer.body).unwrap();
    assert!(
        text.contains("--features swagger") && text.contains("/openapi.json"),
        "{text}"
    );
}

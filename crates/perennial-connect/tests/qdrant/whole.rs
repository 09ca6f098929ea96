//! A migration from its beginning to its end.

use std::time::Duration;

use perennial_connect::Silent;
use perennial_connect::migrate::{RunRequest, SwitchRequest, VerifyRequest, clean, switch, verify};
use serde_json::{Value, json};

use crate::cluster::{Cluster, cluster};
use crate::spaces::{BRIDGE, assert_copies_are_right, request, run_quietly, vector_of};

/// A collection with two named vectors, a sparse one, nested payload and ids of both kinds.
fn named(cluster: &Cluster, count: u64) {
    cluster.create(&json!({"text": {"size": 8, "distance": "Cosine"}, "image": {"size": 3, "distance": "Euclid"}}));
    let index = |field: &str, schema: Value| {
        let path = format!("/collections/{}/index?wait=true", cluster.name);
        let body = json!({"field_name": field, "field_schema": schema});
        assert_eq!(cluster.ask("PUT", &path, &body).0, 200);
    };
    index("shop", json!("keyword"));
    index(
        "n",
        json!({"type": "integer", "lookup": true, "range": true}),
    );
    let points: Vec<Value> = (1..=count)
        .map(|id| {
            let point_id = match id % 2 {
                0 => json!(id * 3_000_000_000),
                _ => json!(format!("936da01f-9abd-4d9d-80c7-{id:012x}")),
            };
            json!({
                "id": point_id,
                "vector": {"text": vector_of(id), "image": [id as f32, 0.5, -1.0], "words": {"indices": [id, id + 7], "values": [0.25, 1.5]}},
                "payload": {"shop": "north", "n": id, "price": 1.1, "nested": {"b": [1, {"c": null}], "a": "\"ü"}, "big": u64::MAX},
            })
        })
        .collect();
    for some in points.chunks(200) {
        cluster.upsert(&cluster.name, some);
    }
}

#[test]
fn a_collection_is_migrated_switched_to_taken_back_and_cleaned() {
    let cluster = cluster();
    named(&cluster, 1300);
    let before = cluster.points(&cluster.name);
    let live = format!("{}_live", cluster.name);
    cluster.set_alias(&live, &cluster.name);
    let request = RunRequest {
        vector: Some("text".to_owned()),
        ..request(&cluster)
    };
    let report = run_quietly(&cluster, &request).unwrap();
    assert_eq!(
        (report.written, report.dim, report.standing.copies),
        (1300, 4, 1300)
    );
    assert_eq!(
        (report.standing.pending(), report.standing.orphaned),
        (0, 0)
    );
    assert_copies_are_right(&cluster, "text");
    assert_eq!(cluster.points(&cluster.name), before);

    // Parameters and payload indexes are those of the original, but for the size.
    let (old, new) = (
        cluster.info(&cluster.name).unwrap(),
        cluster.info(&cluster.copies()).unwrap(),
    );
    let mut params = new["config"]["params"].clone();
    assert_eq!(params["vectors"]["text"]["size"], 4);
    params["vectors"]["text"]["size"] = json!(8);
    assert_eq!(params, old["config"]["params"]);
    assert_eq!(new["config"]["hnsw_config"]["m"], 24);
    for field in ["shop", "n"] {
        let kind = |info: &Value| info["payload_schema"][field]["data_type"].clone();
        assert_eq!(kind(&new), kind(&old), "{field}");
        assert!(!kind(&new).is_null());
    }

    let verified = verify(
        &cluster.address(),
        &VerifyRequest {
            table: cluster.table(),
            name: "new".to_owned(),
            bridge: Some(&BRIDGE),
            files: &[],
            queries: None,
            sample: 500,
            searches: 20,
            k: 10,
            min_recall: 0.9,
            seed: 3,
        },
        &mut Silent,
    )
    .unwrap();
    assert_eq!(verified.problems, Vec::<String>::new());
    assert_eq!(
        (verified.compared, verified.different, verified.searches),
        (500, 0, 20)
    );

    let to = |to_new: bool, view: Option<&str>| SwitchRequest {
        table: cluster.table(),
        name: "new".to_owned(),
        view: view.map(|view| view.parse().unwrap()),
        to_new,
        allow_pending: 0,
        lock_timeout: Duration::from_secs(1),
    };
    let report = switch(&cluster.address(), &to(true, Some(&live))).unwrap();
    assert_eq!((report.shows, report.late), ("new", Some(0)));
    assert_eq!(cluster.alias(&live), Some(cluster.copies()));
    let error = clean(&cluster.address(), &cluster.table(), "new").unwrap_err();
    assert!(error.to_string().contains("migrate rollback"), "{error}");
    let report = switch(&cluster.address(), &to(false, None)).unwrap();
    assert_eq!((report.shows, report.late), ("old", None));
    assert_eq!(cluster.alias(&live), Some(cluster.name.clone()));
    let report = clean(&cluster.address(), &cluster.table(), "new").unwrap();
    assert_eq!(
        (report.dropped, report.view),
        (cluster.copies(), Some(live.clone()))
    );
    assert_eq!(cluster.info(&cluster.copies()), None);
    assert_eq!(cluster.alias(&live), Some(cluster.name.clone()));
    assert_eq!(cluster.points(&cluster.name), before);
}

#[test]
fn a_vector_without_a_name_needs_none() {
    let cluster = cluster();
    cluster.items(700);
    let report = run_quietly(&cluster, &request(&cluster)).unwrap();
    assert_eq!((report.written, report.standing.missing), (700, 0));
    assert_copies_are_right(&cluster, "");
    // Again: nothing to do.
    let report = run_quietly(&cluster, &request(&cluster)).unwrap();
    assert_eq!((report.written, report.removed), (0, 0));
}

#[test]
fn a_copy_can_itself_be_migrated() {
    let cluster = cluster();
    cluster.items(30);
    // As if an earlier migration had made it.
    cluster.set_payload(
        &cluster.name,
        &[json!(1), json!(2)],
        &json!({"perennial_source": "1-2"}),
    );
    let report = run_quietly(&cluster, &request(&cluster)).unwrap();
    assert_eq!(
        (report.written, report.standing.written_by_application),
        (30, 0)
    );
    let copies = cluster.points(&cluster.copies());
    assert_ne!(copies["1"].payload["perennial_source"], "1-2");
}

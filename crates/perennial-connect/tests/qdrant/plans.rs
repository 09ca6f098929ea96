//! What a plan says.

use perennial_connect::migrate::{PlanRequest, plan};
use serde_json::json;

use crate::cluster::cluster;
use crate::spaces::BRIDGE;

#[test]
fn a_plan_counts_and_writes_nothing() {
    let cluster = cluster();
    cluster.items(500);
    let request = PlanRequest {
        table: cluster.table(),
        key: None,
        vector: None,
        new_dim: None,
        bridge: Some(&BRIDGE),
        permission: None,
        rate: Some(100.0),
    };
    let report = plan(&cluster.address(), &request).unwrap();
    assert_eq!(
        (report.rows, report.without_vector, report.new_dim),
        (500, 0, 4)
    );
    assert_eq!(report.dimensions[&8], 500);
    assert_eq!(
        (&*report.vector_type, &*report.indexes[0].operators),
        ("float32", "Cosine")
    );
    assert!((report.seconds.unwrap() - 5.0).abs() < 1e-6, "{report:?}");
    assert!(
        report
            .storage
            .as_ref()
            .unwrap()
            .contains("replication factor"),
        "{report:?}"
    );
    assert!(
        report.warnings[0].contains("no certificate"),
        "{:?}",
        report.warnings
    );
    assert!(report.rates.unwrap().write.is_none());
    // Vectors of 4 values, their payload, and at least a link or two of each.
    assert!(
        report.copies_bytes >= 500 * 4 * 4 && report.beside_bytes >= 500 * 10,
        "{report:?}"
    );
    let index = report.index_bytes.unwrap();
    assert!((500 * 8..500 * 1000).contains(&index), "{index}");
    let once = report.copies_bytes + report.beside_bytes + index;
    assert_eq!(report.disk_bytes, once * report.replicas);
    assert!(
        report.assumptions[0].contains("the first 100 points"),
        "{:?}",
        report.assumptions
    );
    assert_eq!(cluster.info(&cluster.copies()), None);
}

#[test]
fn points_without_the_vector_are_counted() {
    let cluster = cluster();
    cluster.create(
        &json!({"text": {"size": 2, "distance": "Dot"}, "image": {"size": 2, "distance": "Dot"}}),
    );
    let points = [
        json!({"id": 1, "vector": {"text": [1.0, 2.0]}}),
        json!({"id": 2, "vector": {"image": [1.0, 2.0]}}),
    ];
    cluster.upsert(&cluster.name, &points);
    let request = PlanRequest {
        table: cluster.table(),
        key: None,
        vector: Some("text".to_owned()),
        new_dim: Some(7),
        bridge: None,
        permission: None,
        rate: None,
    };
    let report = plan(&cluster.address(), &request).unwrap();
    assert_eq!(
        (report.rows, report.without_vector, report.new_dim),
        (2, 1, 7)
    );
}

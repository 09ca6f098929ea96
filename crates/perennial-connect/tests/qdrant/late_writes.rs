//! Points that are written while a migration runs, and after it.

use serde_json::json;

use crate::cluster::{Cluster, cluster};
use crate::observers::AfterBatches;
use crate::spaces::{assert_copies_are_right, request, run_quietly, run_watched, vector_of};

fn point(id: u64, like: u64) -> serde_json::Value {
    json!({"id": id, "vector": vector_of(like), "payload": {"title": format!("other {id}")}})
}

fn pending(cluster: &Cluster) -> (u64, u64) {
    let report = run_quietly(cluster, &request(cluster)).unwrap();
    (report.standing.pending(), report.standing.orphaned)
}

#[test]
fn points_that_come_change_and_go_during_a_run_are_caught_up() {
    let cluster = cluster();
    cluster.items(2000);
    // After the first batch: points that had their turn and points to come.
    let writer = |batch: u32| {
        if batch == 1 {
            let name = &cluster.name;
            cluster.delete(name, &[json!(1), json!(2), json!(1999), json!(20)]);
            cluster.upsert(
                name,
                &[
                    point(10, 5000),
                    point(1800, 5001),
                    point(3000, 5002),
                    point(20, 5003),
                ],
            );
            cluster.set_payload(name, &[json!(30)], &json!({"title": "renamed"}));
        }
    };
    let mut observer = AfterBatches::new(writer);
    let report = run_watched(&cluster, &request(&cluster), &mut observer).unwrap();
    assert!(report.late > 0 && report.removed > 0, "{report:?}");
    assert_eq!(
        (report.standing.pending(), report.standing.orphaned),
        (0, 0)
    );
    assert_copies_are_right(&cluster, "");
    assert_eq!(
        cluster.points(&cluster.copies())["30"].payload["title"],
        "renamed"
    );
}

#[test]
fn a_second_run_catches_up_and_a_third_does_nothing() {
    let cluster = cluster();
    cluster.items(200);
    run_quietly(&cluster, &request(&cluster)).unwrap();
    cluster.fill(201..=260);
    cluster.delete(&cluster.name, &[json!(1), json!(2)]);
    cluster.set_payload(&cluster.name, &[json!(9)], &json!({"title": "b"}));
    let report = run_quietly(&cluster, &request(&cluster)).unwrap();
    assert_eq!((report.written, report.late, report.removed), (61, 61, 2));
    assert_copies_are_right(&cluster, "");
    let report = run_quietly(&cluster, &request(&cluster)).unwrap();
    assert_eq!((report.written, report.removed), (0, 0));
}

#[test]
fn copies_that_the_application_wrote_are_kept() {
    let cluster = cluster();
    cluster.items(50);
    run_quietly(&cluster, &request(&cluster)).unwrap();
    let own = |id: u64| json!({"id": id, "vector": [1.0, 0.0, 0.0, 0.0], "payload": {"own": true}});
    cluster.upsert(&cluster.copies(), &[own(7), own(60)]);
    cluster.upsert(&cluster.name, &[point(7, 900)]);
    cluster.delete(&cluster.name, &[json!(8)]);
    let report = run_quietly(&cluster, &request(&cluster)).unwrap();
    assert_eq!((report.written, report.removed), (0, 1));
    assert_eq!(report.standing.written_by_application, 2);
    let copies = cluster.points(&cluster.copies());
    for id in ["7", "60"] {
        assert_eq!(copies[id].dense(""), [1.0, 0.0, 0.0, 0.0], "{id}");
    }
    assert!(!copies.contains_key("8"));
    assert_eq!(pending(&cluster), (0, 0));
}

#[test]
fn points_without_a_usable_vector_are_left_out_and_counted() {
    let cluster = cluster();
    cluster.create(
        &json!({"text": {"size": 8, "distance": "Dot"}, "image": {"size": 2, "distance": "Dot"}}),
    );
    let text = |id: u64, vector: Vec<f32>| json!({"id": id, "vector": {"text": vector, "image": [1.0, 2.0]}});
    let mut points: Vec<_> = (1..=20).map(|id| text(id, vector_of(id))).collect();
    points.push(text(21, vec![0.0; 8]));
    points.push(json!({"id": 22, "vector": {"image": [1.0, 2.0]}}));
    cluster.upsert(&cluster.name, &points);
    let request = perennial_connect::migrate::RunRequest {
        vector: Some("text".to_owned()),
        ..request(&cluster)
    };
    let report = run_quietly(&cluster, &request).unwrap();
    assert_eq!((report.written, report.skipped.direction), (20, 1));
    assert_eq!(
        (report.standing.without_vector, report.standing.missing),
        (1, 1)
    );
    // A point that loses its vector loses its copy.
    cluster.upsert(
        &cluster.name,
        &[
            json!({"id": 5, "vector": {"image": [1.0, 2.0]}}),
            text(6, vec![0.0; 8]),
        ],
    );
    let report = run_quietly(&cluster, &request).unwrap();
    assert_eq!((report.written, report.standing.copies), (0, 18));
}

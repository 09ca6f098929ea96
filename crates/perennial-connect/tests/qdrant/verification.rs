//! `verify` tells the truth.

use perennial_connect::Silent;
use perennial_connect::migrate::{VerifyReport, VerifyRequest, verify};
use serde_json::json;

use crate::cluster::{Cluster, cluster, double};
use crate::double::Id;
use crate::spaces::{BRIDGE, from_file, request, run_quietly, vector_of};

fn verified(cluster: &Cluster) -> VerifyReport {
    let request = VerifyRequest {
        table: cluster.table(),
        name: "new".to_owned(),
        bridge: Some(&BRIDGE),
        files: &[],
        queries: None,
        sample: 1000,
        searches: 20,
        k: 10,
        min_recall: 0.9,
        seed: 3,
    };
    verify(&cluster.address(), &request, &mut Silent).unwrap()
}

#[test]
fn every_kind_of_damage_is_reported() {
    let cluster = cluster();
    cluster.items(800);
    run_quietly(&cluster, &request(&cluster)).unwrap();
    let report = verified(&cluster);
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!((report.compared, report.different), (800, 0));
    // A copy with another vector, and its mark as it was.
    let copy = &cluster.points(&cluster.copies())["17"];
    let damaged = json!({"id": 17, "vector": [1.0, 0.0, 0.0, 0.0], "payload": copy.payload});
    cluster.upsert(&cluster.copies(), &[damaged]);
    assert_eq!(verified(&cluster).different, 1);
    cluster.delete(&cluster.copies(), &[json!(1), json!(2)]);
    cluster.delete(&cluster.name, &[json!(3), json!(4), json!(5)]);
    cluster.upsert(&cluster.name, &[json!({"id": 6, "vector": vector_of(950)})]);
    let report = verified(&cluster);
    let standing = report.standing;
    assert_eq!(
        (standing.missing, standing.orphaned, standing.changed),
        (2, 3, 1)
    );
    assert_eq!(report.problems.len(), 4, "{:?}", report.problems);
}

#[test]
fn an_index_that_finds_little_is_reported() {
    let Some(cluster) = double() else { return };
    cluster.items(400);
    run_quietly(&cluster, &request(&cluster)).unwrap();
    let copies = cluster.copies();
    for id in (1..=400).filter(|id| id % 4 != 0) {
        let mut state = cluster.inside().state();
        state
            .collections
            .get_mut(&copies)
            .unwrap()
            .unseen
            .insert(Id::Number(id));
    }
    let report = verified(&cluster);
    assert!(report.recall.unwrap() < 0.6, "{report:?}");
    assert!(
        report.problems[0].contains("hnsw_ef"),
        "{:?}",
        report.problems
    );
}

#[test]
fn copies_are_what_the_files_hold() {
    for distance in ["Cosine", "Dot"] {
        let cluster = cluster();
        cluster.create(&json!({"size": 8, "distance": distance}));
        cluster.fill(1..=60);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let lines: Vec<String> = (1..=60)
            .map(|id| json!({"id": id, "embedding": [0.1 + f64::from(id), 3.3, -7.0]}).to_string())
            .collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        run_quietly(&cluster, &from_file(&cluster, &path)).unwrap();
        let checked = || {
            let request = VerifyRequest {
                table: cluster.table(),
                name: "new".to_owned(),
                bridge: None,
                files: std::slice::from_ref(&path),
                queries: None,
                sample: 1000,
                searches: 5,
                k: 5,
                min_recall: 0.0,
                seed: 3,
            };
            verify(&cluster.address(), &request, &mut Silent).unwrap()
        };
        let report = checked();
        assert_eq!((report.compared, report.different), (60, 0), "{distance}");
        let copy = &cluster.points(&cluster.copies())["17"];
        let damaged = json!({"id": 17, "vector": [17.4, 3.3, -7.0], "payload": copy.payload});
        cluster.upsert(&cluster.copies(), &[damaged]);
        let report = checked();
        assert_eq!((report.compared, report.different), (60, 1), "{distance}");
        assert!(
            report.problems[0].contains("the files hold"),
            "{:?}",
            report.problems
        );
    }
}

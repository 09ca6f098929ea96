//! Aliases: switch, rollback and clean.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use perennial_connect::ConnectError;
use perennial_connect::migrate::{SwitchRequest, clean, switch};
use serde_json::json;

use crate::cluster::{Cluster, cluster};
use crate::spaces::{request, run_quietly, vector_of};

fn to(cluster: &Cluster, new: bool) -> SwitchRequest {
    SwitchRequest {
        table: cluster.table(),
        name: "new".to_owned(),
        view: Some(format!("{}_live", cluster.name).parse().unwrap()),
        to_new: new,
        allow_pending: 0,
        lock_timeout: Duration::from_secs(1),
    }
}

#[test]
fn readers_of_the_alias_never_see_neither() {
    let cluster = cluster();
    cluster.items(100);
    run_quietly(&cluster, &request(&cluster)).unwrap();
    let address = cluster.address();
    switch(&address, &to(&cluster, false)).unwrap();
    let over = AtomicBool::new(false);
    let live = format!("{}_live", cluster.name);
    let reads = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut dims = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let path = format!("/collections/{live}/points");
                let body = json!({"ids": [7], "with_vector": true});
                let (status, answer) = cluster.ask("POST", &path, &body);
                assert_eq!(status, 200, "{answer}");
                dims.push(answer["result"][0]["vector"].as_array().unwrap().len());
            }
            dims
        });
        for _ in 0..5 {
            switch(&address, &to(&cluster, true)).unwrap();
            switch(&address, &to(&cluster, false)).unwrap();
        }
        over.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(reads.iter().all(|dim| [4, 8].contains(dim)), "{reads:?}");
    assert!(!reads.is_empty());
    clean(&address, &cluster.table(), "new").unwrap();
}

#[test]
fn points_without_a_copy_stop_a_switch() {
    let cluster = cluster();
    cluster.items(20);
    run_quietly(&cluster, &request(&cluster)).unwrap();
    cluster.fill(21..=23);
    cluster.upsert(&cluster.name, &[json!({"id": 1, "vector": vector_of(77)})]);
    let address = cluster.address();
    let error = switch(&address, &to(&cluster, true)).unwrap_err();
    assert!(matches!(error, ConnectError::Refused(_)), "{error}");
    assert!(
        error
            .to_string()
            .contains("3 rows have no copy and 1 were written"),
        "{error}"
    );
    assert_eq!(cluster.alias(&format!("{}_live", cluster.name)), None);
    let allowed = SwitchRequest {
        allow_pending: 4,
        ..to(&cluster, true)
    };
    // What was deleted since the run is not shown again.
    cluster.delete(&cluster.name, &[json!(2)]);
    switch(&address, &allowed).unwrap();
    let shown = cluster.points(&format!("{}_live", cluster.name));
    assert!(!shown.contains_key("2") && shown.contains_key("3"));
    switch(&address, &to(&cluster, false)).unwrap();
}

#[test]
fn nothing_is_copied_while_programs_write_into_the_copies() {
    let cluster = cluster();
    cluster.items(20);
    run_quietly(&cluster, &request(&cluster)).unwrap();
    let address = cluster.address();
    switch(&address, &to(&cluster, true)).unwrap();
    // By the alias: a deletion, and a point that only the copies have.
    let live = format!("{}_live", cluster.name);
    cluster.delete(&live, &[json!(3)]);
    cluster.upsert(&live, &[json!({"id": 99, "vector": [1.0, 0.0, 0.0, 0.0]})]);
    let error = run_quietly(&cluster, &request(&cluster)).unwrap_err();
    assert!(matches!(error, ConnectError::Refused(_)), "{error}");
    assert!(!cluster.points(&live).contains_key("3"));
    switch(&address, &to(&cluster, false)).unwrap();
    // The old collection counts again, and what programs wrote into the copies stays there.
    let report = run_quietly(&cluster, &request(&cluster)).unwrap();
    assert_eq!((report.written, report.removed), (1, 0));
    assert_eq!(report.standing.written_by_application, 1);
}

#[test]
fn what_is_not_ours_is_not_moved() {
    let cluster = cluster();
    cluster.items(5);
    run_quietly(&cluster, &request(&cluster)).unwrap();
    let address = cluster.address();
    let refused = |view: Option<&str>| {
        let request = SwitchRequest {
            view: view.map(|view| view.parse().unwrap()),
            ..to(&cluster, true)
        };
        switch(&address, &request).unwrap_err().to_string()
    };
    let error = refused(Some(&cluster.name));
    assert!(error.contains("is a collection"), "{error}");
    let error = refused(None);
    assert!(error.contains("--view"), "{error}");
    let other = format!("{}_other", cluster.name);
    let (status, _) = cluster.ask(
        "PUT",
        &format!("/collections/{other}"),
        &json!({"vectors": {"size": 1, "distance": "Dot"}}),
    );
    assert_eq!(status, 200);
    let taken = format!("{}_taken", cluster.name);
    cluster.set_alias(&taken, &other);
    let error = refused(Some(&taken));
    assert!(error.contains("is an alias of collection"), "{error}");
    assert_eq!(cluster.alias(&taken), Some(other.clone()));
    cluster.ask(
        "DELETE",
        &format!("/collections/{other}"),
        &serde_json::Value::Null,
    );
    let error = clean(&address, &cluster.table(), "other").unwrap_err();
    assert!(
        error.to_string().contains("there is no migration other"),
        "{error}"
    );
    // Another alias of the copies keeps them.
    let second = format!("{}_second", cluster.name);
    cluster.set_alias(&second, &cluster.copies());
    let error = clean(&address, &cluster.table(), "new").unwrap_err();
    assert!(
        error.to_string().contains("point it somewhere else"),
        "{error}"
    );
}

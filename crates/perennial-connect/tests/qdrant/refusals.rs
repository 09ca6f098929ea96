//! What is refused, and how the message says what to do.

use perennial_connect::migrate::RunRequest;
use serde_json::json;

use crate::cluster::{cluster, double};
use crate::spaces::{request, run_quietly};

#[test]
fn collections_that_cannot_be_migrated_are_refused() {
    let cluster = cluster();
    let refused = |change: &dyn Fn(RunRequest<'static>) -> RunRequest<'static>| {
        let error = run_quietly(&cluster, &change(request(&cluster))).unwrap_err();
        error.to_string()
    };
    let error = refused(&|request| request);
    assert!(error.contains("there is no collection"), "{error}");
    cluster.create(
        &json!({"text": {"size": 8, "distance": "Dot"}, "image": {"size": 9, "distance": "Dot"}}),
    );
    let error = refused(&|request| request);
    assert!(error.contains("--vector-column: image, text"), "{error}");
    let with = |name: &'static str| {
        refused(&|request| RunRequest {
            vector: Some(name.to_owned()),
            ..request
        })
    };
    let error = with("sound");
    assert!(error.contains("its vectors are image, text"), "{error}");
    let error = with("image");
    assert!(error.contains("holds 9"), "{error}");
    let error = refused(&|request| RunRequest {
        key: Some("id".to_owned()),
        ..request
    });
    assert!(error.contains("--id-column"), "{error}");
    // The name of the copies is taken.
    let body = json!({"vectors": {"size": 1, "distance": "Dot"}});
    assert_eq!(
        cluster
            .ask("PUT", &format!("/collections/{}", cluster.copies()), &body)
            .0,
        200
    );
    let error = with("text");
    assert!(error.contains("exists already"), "{error}");
    // Nothing of it is changed, and the same after a second try.
    assert_eq!(with("text"), error);
    let info = cluster.info(&cluster.copies()).unwrap();
    assert_eq!(info["config"]["params"]["vectors"]["size"], 1);
}

#[test]
fn an_alias_is_no_collection() {
    let cluster = cluster();
    cluster.items(5);
    let alias = format!("{}_alias", cluster.name);
    cluster.set_alias(&alias, &cluster.name);
    let request = RunRequest {
        table: (&*alias).into(),
        ..request(&cluster)
    };
    let error = run_quietly(&cluster, &request).unwrap_err().to_string();
    assert!(error.contains("is an alias of collection"), "{error}");
}

#[test]
fn a_migration_is_not_continued_with_something_else() {
    let cluster = cluster();
    cluster.create(
        &json!({"text": {"size": 8, "distance": "Dot"}, "other": {"size": 8, "distance": "Dot"}}),
    );
    let with = |vector: &str, name: &str| RunRequest {
        vector: Some(vector.to_owned()),
        name: name.to_owned(),
        ..request(&cluster)
    };
    run_quietly(&cluster, &with("text", "new")).unwrap();
    let error = run_quietly(&cluster, &with("other", "new"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("was begun with"), "{error}");
    let report = run_quietly(&cluster, &with("other", "second")).unwrap();
    assert_eq!(report.copies, format!("{}_second", cluster.name));
    cluster.ask(
        "DELETE",
        &format!("/collections/{}_second", cluster.name),
        &serde_json::Value::Null,
    );
    // Copies that somebody dropped.
    let error = run_quietly(&cluster, &with("other", "second"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("migrate clean"), "{error}");
    perennial_connect::migrate::clean(&cluster.address(), &cluster.table(), "second").unwrap();
}

#[test]
fn what_a_server_invents_ends_a_run_with_an_error() {
    use crate::double::{Fault, Kind};
    // Before its points, a run reads the notes of others in the same way.
    for (at, after, say) in [
        (
            "points/scroll",
            1,
            r#"{"result": {"points": [{"id": -1}]}}"#,
        ),
        (
            "points/scroll",
            1,
            r#"{"result": {"points": [{"id": 1, "vector": 7}]}}"#,
        ),
        ("points/scroll", 0, "[[[["),
        ("points/scroll", 1, "[[[["),
        ("GET /aliases", 0, r#"{"result": 5}"#),
        ("GET /collections", 0, "<html>"),
    ] {
        let Some(cluster) = double() else { return };
        cluster.items(5);
        cluster.inside().fail(Fault::new(at, after, Kind::Say(say)));
        let error = run_quietly(&cluster, &request(&cluster)).unwrap_err();
        assert!(!error.may_pass(), "{say}: {error}");
    }
}

#[test]
fn a_page_that_leads_to_itself_is_not_read_for_ever() {
    use crate::double::{Fault, Kind};
    let Some(cluster) = double() else { return };
    cluster.items(1500);
    let page = r#"{"result": {"points": [], "next_page_offset": 513}}"#;
    cluster
        .inside()
        .fail(Fault::new("points/scroll", 2, Kind::Say(page)));
    let error = run_quietly(&cluster, &request(&cluster)).unwrap_err();
    assert!(error.to_string().contains("leads back"), "{error}");
}

//! Strict mode: what can be asked for in smaller parts, by another way or later is; what cannot names the setting.

use std::time::{Duration, Instant};

use perennial_connect::migrate::{
    PlanRequest, Queries, RankingsRequest, VerifyRequest, clean, plan, rankings, verify,
};
use perennial_connect::{ConnectError, Silent};
use perennial_formats::Label;
use serde_json::{Value, json};

use crate::cluster::{Cluster, double};
use crate::spaces::{BRIDGE, assert_copies_are_right, mapped, request, run_quietly, vector_of};

/// A cluster whose new collections all have this strict mode.
fn strict(config: &Value) -> Option<Cluster> {
    let cluster = double()?;
    {
        let mut state = cluster.inside().state();
        state.strict = config.clone();
        // Rates are those of a minute; here it is a second.
        state.minute = Some(Duration::from_secs(1));
    }
    Some(cluster)
}

/// A collection whose strict mode comes once it is filled, and which copies take over.
fn strict_later(config: &Value, points: u64) -> Option<Cluster> {
    let cluster = double()?;
    cluster.items(points);
    {
        let mut state = cluster.inside().state();
        state.minute = Some(Duration::from_secs(1));
        let collection = state.collections.get_mut(&cluster.name).unwrap();
        collection.config["strict_mode_config"] = config.clone();
    }
    Some(cluster)
}

/// Runs, late writes, verification and cleaning, all of it.
fn migrated(cluster: &Cluster) {
    let report = run_quietly(cluster, &request(cluster)).unwrap();
    assert_eq!(report.standing.pending(), 0);
    cluster.delete(&cluster.name, &[json!(1), json!(2), json!(9)]);
    let report = run_quietly(cluster, &request(cluster)).unwrap();
    assert_eq!(report.removed, 3);
    assert_copies_are_right(cluster, "");
    let checked = VerifyRequest {
        table: cluster.table(),
        name: "new".to_owned(),
        bridge: Some(&BRIDGE),
        files: &[],
        queries: None,
        sample: 100,
        searches: 0,
        k: 10,
        min_recall: 0.0,
        seed: 7,
    };
    let report = verify(&cluster.address(), &checked, &mut Silent).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(report.compared, 100);
    clean(&cluster.address(), &cluster.table(), "new").unwrap();
    let state = cluster.inside().state();
    assert_eq!(
        state.collections.keys().collect::<Vec<_>>(),
        [&cluster.name]
    );
}

/// The strict mode that a cloud gives every new collection.
#[test]
fn a_cluster_that_wants_indexes_of_every_filter_is_migrated() {
    let config = json!({
        "enabled": true, "unindexed_filtering_retrieve": false, "unindexed_filtering_update": false,
        "max_payload_index_count": 100
    });
    let Some(cluster) = strict(&config) else {
        return;
    };
    cluster.items(700);
    migrated(&cluster);
}

/// Copies that an earlier version of this program made have no index of the marks.
#[test]
fn an_index_that_comes_to_be_demanded_is_made() {
    let Some(cluster) = double() else { return };
    cluster.items(300);
    run_quietly(&cluster, &request(&cluster)).unwrap();
    let config = json!({"enabled": true, "unindexed_filtering_update": false});
    for collection in cluster.inside().state().collections.values_mut() {
        collection.config["strict_mode_config"] = config.clone();
    }
    cluster.delete(&cluster.name, &[json!(5)]);
    assert_eq!(
        run_quietly(&cluster, &request(&cluster)).unwrap().removed,
        1
    );
    assert_copies_are_right(&cluster, "");
}

#[test]
fn batches_are_as_large_as_is_allowed() {
    for config in [
        json!({"enabled": true, "max_query_limit": 100}),
        json!({"enabled": true, "upsert_max_batchsize": 64}),
        json!({"enabled": true, "condition_max_size": 2}),
        json!({"enabled": true, "search_allow_exact": false}),
    ] {
        let Some(cluster) = strict_later(&config, 700) else {
            return;
        };
        migrated(&cluster);
    }
    // Strict mode is checked before anything is written, so a refusal costs one request and not one for each batch.
    let config = json!({"enabled": true, "upsert_max_batchsize": 64});
    let Some(cluster) = strict_later(&config, 1200) else {
        return;
    };
    run_quietly(&cluster, &request(&cluster)).unwrap();
    let put = format!("PUT /collections/{}/points", cluster.copies());
    let log = cluster.inside().state().log.join("\n");
    assert_eq!(
        log.matches(&put).count(),
        1 + 512usize.div_ceil(64) * 2 + 176usize.div_ceil(64)
    );
}

#[test]
fn bodies_are_as_large_as_a_proxy_takes() {
    let Some(cluster) = double() else { return };
    cluster.items(700);
    cluster.inside().state().largest_body = Some(20_000);
    let report = run_quietly(&cluster, &request(&cluster)).unwrap();
    assert_eq!((report.written, report.standing.pending()), (700, 0));
    cluster.inside().state().largest_body = None;
    assert_copies_are_right(&cluster, "");
    // Too small for anything.
    cluster.set_payload(
        &cluster.name,
        &[json!(7)],
        &json!({"long": "x".repeat(30_000)}),
    );
    cluster.inside().state().largest_body = Some(20_000);
    let error = run_quietly(&cluster, &request(&cluster))
        .unwrap_err()
        .to_string();
    assert!(error.contains("max_request_size_mb"), "{error}");
}

/// 300 tokens each "minute", which lasts a second, where batches of 512 cost as many.
#[test]
fn rates_are_kept_by_smaller_requests_and_waits() {
    let config = json!({"enabled": true, "read_rate_limit": 300, "write_rate_limit": 300});
    let Some(cluster) = strict_later(&config, 700) else {
        return;
    };
    let begun = Instant::now();
    let report = run_quietly(&cluster, &request(&cluster)).unwrap();
    assert_eq!((report.written, report.standing.pending()), (700, 0));
    // More than a bucket's worth of writes, so something was waited for.
    assert!(begun.elapsed() >= Duration::from_secs(1));
    cluster
        .inside()
        .state()
        .collections
        .get_mut(&cluster.name)
        .unwrap()
        .config["strict_mode_config"] = Value::Null;
    let copies = cluster.copies();
    cluster
        .inside()
        .state()
        .collections
        .get_mut(&copies)
        .unwrap()
        .config["strict_mode_config"] = Value::Null;
    assert_copies_are_right(&cluster, "");
}

#[test]
fn what_cannot_go_on_names_the_setting() {
    let config = json!({"enabled": true, "max_collection_vector_size_bytes": 4000});
    let Some(cluster) = strict_later(&config, 1200) else {
        return;
    };
    let begun = Instant::now();
    let error = run_quietly(&cluster, &request(&cluster)).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(20));
    let error = error.to_string();
    assert!(
        error.contains("max_collection_vector_size_bytes"),
        "{error}"
    );
    assert!(error.contains(&cluster.copies()), "{error}");
    // Raised, it goes on.
    let copies = cluster.copies();
    cluster
        .inside()
        .state()
        .collections
        .get_mut(&copies)
        .unwrap()
        .config["strict_mode_config"] = Value::Null;
    run_quietly(&cluster, &request(&cluster)).unwrap();
    assert_copies_are_right(&cluster, "");
    // An exact search that is not allowed.
    cluster
        .inside()
        .state()
        .collections
        .get_mut(&copies)
        .unwrap()
        .config["strict_mode_config"] = json!({"enabled": true, "search_allow_exact": false});
    let checked = VerifyRequest {
        table: cluster.table(),
        name: "new".to_owned(),
        bridge: None,
        files: &[],
        queries: None,
        sample: 0,
        searches: 5,
        k: 10,
        min_recall: 0.0,
        seed: 7,
    };
    let error = verify(&cluster.address(), &checked, &mut Silent).unwrap_err();
    assert!(matches!(error, ConnectError::State(_)), "{error}");
    assert!(error.to_string().contains("search_allow_exact"), "{error}");
}

/// Labels are counted without a filter, and hits beyond the limit are not asked for.
#[test]
fn plans_and_evaluations_take_what_is_allowed() {
    let config = json!({
        "enabled": true, "unindexed_filtering_retrieve": false, "search_allow_exact": false, "max_query_limit": 20
    });
    let Some(cluster) = strict_later(&config, 300) else {
        return;
    };
    let planned = PlanRequest {
        table: cluster.table(),
        key: None,
        vector: None,
        new_dim: Some(4),
        bridge: None,
        permission: None,
        rate: None,
    };
    assert_eq!(plan(&cluster.address(), &planned).unwrap().rows, 300);
    run_quietly(&cluster, &request(&cluster)).unwrap();
    cluster.fill(301..=330);
    let (old, new) = (vector_of(305), mapped(&vector_of(305)));
    let asked = RankingsRequest {
        table: cluster.table(),
        key: None,
        vector: None,
        name: "new".to_owned(),
        label: Some("title".to_owned()),
        labels: &[
            Label::Text("item 7".to_owned()),
            Label::Text("none".to_owned()),
        ],
        k: 5,
        old: Queries {
            vectors: &old,
            dim: 8,
        },
        new: Queries {
            vectors: &new,
            dim: 4,
        },
        to_old: None,
        mapped: Some(&BRIDGE),
    };
    let found = rankings(&cluster.address(), &asked, &mut Silent).unwrap();
    assert_eq!(found.labelled[&Label::Text("item 7".to_owned())], 1);
    assert_eq!(found.labelled[&Label::Text("none".to_owned())], 0);
    assert!(
        found
            .rankings
            .iter()
            .all(|ranking| ranking.hits[0].len() == 5)
    );
}

//! One gallery of several spaces: every part is searched by its certified route.

use perennial_gallery::VectorStore;
use perennial_upgrade::{
    Certified, LinearScale, MergeKind, RateThreshold, RecordedMerge, Thresholds,
};
use serde_json::{Value, json};

use crate::harness::image;
use crate::mixed::{
    NEW, NEW_ANGLE, OLD, bridged, by_picture, dual, embedded, leaves_out, metrics, mixed, part,
    search,
};

#[test]
fn old_items_are_found_as_readily_as_new_ones() {
    let setup = mixed("0");
    setup
        .pairs
        .certify("v0002", "v0001", vec![dual(0.5), bridged()]);
    let service = setup.start();
    for (colours, first, space, route) in [(OLD, 1, "v0001", "dual"), (NEW, 11, "v0002", "own")] {
        for (id, colour) in (first..).zip(colours) {
            let answer = by_picture(&service, colour);
            // With four items a space, another one that looks nearly the same may stand out a little more among its neighbours.
            let hits = answer["hits"].as_array().unwrap();
            let best = hits[..2].iter().find(|hit| hit["id"] == id);
            let best = best.unwrap_or_else(|| panic!("{id} is not among the first two: {answer}"));
            assert_eq!(
                (&best["space"], &best["route"]),
                (&json!(space), &json!(route))
            );
            assert_eq!(best["model_version"], space);
            let kind = if route == "own" {
                "own_cosine"
            } else {
                "dual_cosine"
            };
            assert_eq!(
                (
                    &best["score_kind"],
                    &best["ranked_by"],
                    &best["merged_score"]
                ),
                (&json!(kind), &json!("standard_score"), &Value::Null)
            );
            assert_eq!(answer["hits"].as_array().unwrap().len(), 8);
            let scores: Vec<f64> = answer["hits"]
                .as_array()
                .unwrap()
                .iter()
                .map(|hit| hit["standard_score"].as_f64().unwrap())
                .collect();
            assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
        }
    }
    let answer = by_picture(&service, OLD[0]);
    assert_eq!(answer["model_version"], "v0002");
    assert_eq!(
        (&answer["not_searched"], &answer["left_out"]),
        (&json!(0), &json!([]))
    );
    let old = part(&answer, "v0001");
    assert_eq!(
        (&old["route"], &old["weight"], &old["items"], &old["dim"]),
        (&json!("dual"), &json!(0.5), &json!(4), &json!(3))
    );
    assert_eq!(
        (&old["basis"], &old["fallback"]),
        (&json!("dual measured"), &Value::Null)
    );
    assert_eq!(part(&answer, "v0002")["route"], "own");

    let stats = service.get("/gallery/stats").expect(200);
    assert_eq!(part(&stats, "v0001")["route"], "dual");
    assert_eq!(stats["not_searched"], 0);
    let matrix = service.get("/compatibility").expect(200);
    assert_eq!(part(&matrix, "v0001")["route"], "dual");
    let ready = service.get("/readyz").expect(200);
    assert_eq!(ready, json!({"status": "ok"}));
    let metrics = metrics(&service);
    for line in [
        r#"perennial_route_items{space="v0001",route="dual"} 4"#,
        r#"perennial_route_items{space="v0002",route="own"} 4"#,
        r#"perennial_items_not_searched{space="v0001",reason="not_certified"} 0"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[test]
fn a_measured_merge_ranks_the_hits_and_is_named() {
    let setup = mixed("0");
    let calibrated = RecordedMerge {
        kind: MergeKind::Calibrated,
        scale: Some(LinearScale {
            slope: 0.5,
            intercept: 0.125,
        }),
        shift: 0.125,
        queries: 60,
    };
    let old = Certified {
        merge: Some(calibrated),
        ..dual(0.5)
    };
    setup.pairs.certify("v0002", "v0001", vec![old]);
    let service = setup.start();
    let answer = by_picture(&service, OLD[0]);
    let (old, new) = (part(&answer, "v0001"), part(&answer, "v0002"));
    assert_eq!(
        (&old["merge"], &old["merge_queries"], &new["merge"]),
        (&json!("calibrated"), &json!(60), &Value::Null)
    );
    assert_eq!(
        (&old["merge_shift"], &new["merge_shift"]),
        (&json!(0.125), &Value::Null)
    );
    let hits = answer["hits"].as_array().unwrap();
    let merged: Vec<f64> = hits
        .iter()
        .map(|hit| hit["merged_score"].as_f64().unwrap())
        .collect();
    assert!(merged.is_sorted_by(|a, b| a >= b), "{merged:?}");
    for hit in hits {
        assert_eq!(hit["ranked_by"], "merged_score");
        let score = hit["score"].as_f64().unwrap();
        let expected = match hit["space"].as_str() {
            Some("v0001") => 0.5 * score + 0.25,
            _ => score,
        };
        assert!((hit["merged_score"].as_f64().unwrap() - expected).abs() < 1e-6);
    }
    // Where one part is searched, there is nothing to merge.
    let only = json!({"image": image(OLD[0]), "filter": {"model_versions": ["v0001"]}});
    let hit = &search(&service, only)["hits"][0];
    assert_eq!(
        (&hit["ranked_by"], &hit["merged_score"]),
        (&json!("score"), &Value::Null)
    );
}

#[test]
fn encoders_kept_for_dual_queries_answer_by_their_names_and_are_listed() {
    let setup = mixed("0");
    setup.pairs.certify("v0002", "v0001", vec![dual(0.5)]);
    setup.registry.set_alias("stable", "v0001").unwrap();
    setup.registry.set_alias("elsewhere", "v0002").unwrap();
    let service = setup.start();
    let models = service.get("/v1/models").expect(200);
    let listed: Vec<&str> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect();
    assert_eq!(listed, ["elsewhere", "live", "stable", "v0001", "v0002"]);
    for name in listed {
        let body = json!({"input": image(OLD[0]), "model": name});
        let answer = service.call("POST", "/v1/embeddings", &body).expect(200);
        let dim = answer["data"][0]["embedding"].as_array().unwrap().len();
        let old = ["stable", "v0001"].contains(&name);
        assert_eq!(dim, if old { 3 } else { 5 }, "{name}");
    }
}

#[test]
fn a_dual_query_has_the_old_encoders_own_embedding() {
    let scores = [0.0, 0.5, 1.0].map(|weight| {
        let setup = mixed("0");
        setup.pairs.certify("v0002", "v0001", vec![dual(weight)]);
        let service = setup.start();
        let answer = by_picture(&service, OLD[0]);
        answer["hits"][0]["score"].as_f64().unwrap()
    });
    // With weight 1, nothing of the bridge is left: the old encoder sees the picture with its own normalisation.
    assert!(scores[2] > 0.999_999, "{scores:?}");
    assert!(scores[0] < scores[1] && scores[1] < scores[2], "{scores:?}");
}

#[test]
fn an_old_encoder_that_does_not_load_falls_back_and_says_so() {
    let setup = mixed("broken");
    setup
        .pairs
        .certify("v0002", "v0001", vec![dual(0.5), bridged()]);
    let service = setup.start();
    let answer = by_picture(&service, OLD[1]);
    assert_eq!(
        (&answer["hits"][0]["id"], &answer["not_searched"]),
        (&json!(2), &json!(0))
    );
    let old = part(&answer, "v0001");
    assert_eq!(old["route"], "bridged");
    let fallback = old["fallback"].as_str().unwrap();
    assert!(
        fallback.contains("dual") && fallback.contains("no angle"),
        "{fallback}"
    );
    let detail = &service.get("/readyz").expect(200)["detail"];
    assert_eq!(detail.as_array().unwrap().len(), 1, "{detail}");
    assert!(detail[0].as_str().unwrap().contains("no angle"), "{detail}");
    let line = r#"perennial_route_items{space="v0001",route="bridged"} 4"#;
    assert!(metrics(&service).contains(line));
}

#[test]
fn damaged_weights_of_an_old_version_name_no_path() {
    let setup = mixed("0");
    setup
        .pairs
        .certify("v0002", "v0001", vec![dual(0.5), bridged()]);
    let old = setup.registry.get("v0001").unwrap();
    std::fs::write(setup.registry.weights_path(&old), b"1").unwrap();
    let root = setup.folder.path().display().to_string();
    let service = setup.start();
    let fallback = part(&by_picture(&service, OLD[0]), "v0001")["fallback"].to_string();
    assert!(fallback.contains("damaged or missing"), "{fallback}");
    assert!(!fallback.contains(&root), "{fallback}");
}

#[test]
fn a_service_starts_where_no_route_leads_to_another_dimension() {
    let setup = mixed("0");
    let ids: Vec<_> = (11u64..15).map(Into::into).collect();
    setup.store.delete(&ids).unwrap();
    let service = setup.start();
    let said = service.get("/readyz");
    assert_eq!(said.code(503), "unavailable");
    assert!(
        said.json()["error"]["message"]
            .to_string()
            .contains("v0001")
    );
    let refused = service.call("POST", "/search", &json!({"image": image(OLD[0])}));
    assert_eq!(refused.code(409), "incompatible_version");
}

#[test]
fn what_no_route_leads_to_is_left_out_with_its_reason() {
    // Only dual is certified, and the old encoder does not load.
    let setup = mixed("broken");
    setup.pairs.certify("v0002", "v0001", vec![dual(0.5)]);
    let service = setup.start();
    let answer = by_picture(&service, NEW[0]);
    assert_eq!(answer["hits"].as_array().unwrap().len(), 4);
    assert_eq!(answer["not_searched"], 4);
    let left = &answer["left_out"][0];
    assert_eq!(
        (&left["space"], &left["items"]),
        (&json!("v0001"), &json!(4))
    );
    assert!(
        left["reason"].as_str().unwrap().contains("no angle"),
        "{left}"
    );
    let stats = service.get("/gallery/stats").expect(200);
    assert_eq!(
        (&stats["not_searched"], &stats["left_out"]),
        (&json!(4), &answer["left_out"])
    );
    assert_eq!(
        service.get("/readyz").expect(200)["detail"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert!(leaves_out(&service, "old_encoder", 4));
    // A certificate that leads to another dimension only, none at all, and one that helps.
    let own = vec![Certified::by("own")];
    service.setup.pairs.certify("v0002", "v0001", own);
    assert!(leaves_out(&service, "dimension", 4));
    service.setup.pairs.certify("v0002", "v0001", Vec::new());
    assert!(leaves_out(&service, "not_certified", 4));
    service
        .setup
        .pairs
        .certify("v0002", "v0001", vec![bridged()]);
    assert!(leaves_out(&service, "not_certified", 0));
    service
        .setup
        .pairs
        .certify("v0002", "v0001", vec![dual(0.5)]);

    // Nothing at all can be searched.
    let only = json!({"image": image(OLD[0]), "filter": {"model_versions": ["v0001"]}});
    assert_eq!(
        service.call("POST", "/search", &only).code(409),
        "incompatible_version"
    );
    // No force leads to another dimension.
    let forced =
        json!({"image": image(OLD[0]), "filter": {"model_versions": ["v0001"]}, "force": true});
    assert_eq!(service.call("POST", "/search", &forced).status, 409);
    // Versions that the filter leaves out are not counted.
    let new = json!({"image": image(NEW[0]), "filter": {"model_versions": ["v0002"]}});
    assert_eq!(search(&service, new)["not_searched"], 0);
}

#[test]
fn without_any_certificate_nothing_is_searched_and_the_service_is_not_ready() {
    let setup = mixed("0");
    let service = setup.start();
    let ids: Vec<u64> = (11..15).collect();
    service
        .call("DELETE", "/gallery/items", &json!({ "ids": ids }))
        .expect(200);
    let refused = service.call("POST", "/search", &json!({"image": image(OLD[0])}));
    assert_eq!(refused.code(409), "incompatible_version");
    let pair = &refused.json()["error"]["details"]["pairs"][0];
    assert_eq!(
        (&pair["query_version"], &pair["gallery_version"]),
        (&json!("v0002"), &json!("v0001"))
    );
    assert_eq!(service.get("/readyz").code(503), "unavailable");
}

#[test]
fn queries_without_a_picture_take_no_dual_route() {
    let setup = mixed("0");
    setup
        .pairs
        .certify("v0002", "v0001", vec![dual(0.5), bridged()]);
    let service = setup.start();
    // A new item as the query: through the bridge to the old ones.
    let answer = search(&service, json!({"id": 11}));
    assert_eq!(answer["model_version"], "v0002");
    let hits = answer["hits"].as_array().unwrap();
    assert!(hits[..2].iter().any(|hit| hit["id"] == 11), "{answer}");
    assert_eq!(answer["not_searched"], 0);
    assert_eq!(part(&answer, "v0001")["route"], "bridged");
    // A given embedding: the same.
    let given = embedded(OLD[2], 0.5, NEW_ANGLE, 5);
    let answer = search(&service, json!({ "embedding": given }));
    assert_eq!(answer["hits"][0]["id"], 3);
    let old = part(&answer, "v0001");
    assert_eq!(old["route"], "bridged");
    assert!(old["fallback"].as_str().unwrap().contains("dual"), "{old}");
    // An old item as the query: no way leads back.
    let answer = search(&service, json!({"id": 1}));
    assert_eq!(
        (&answer["hits"][0]["id"], &answer["not_searched"]),
        (&json!(1), &json!(4))
    );
    assert_eq!(answer["left_out"][0]["space"], "v0002");
    // A bridge would hide that a vector is no embedding.
    for (wrong, said) in [
        (vec![1.0, 1.0, 0.0, 0.0, 0.0], "length"),
        (vec![1.0, 0.0, 0.0], "those of v0002 have 5"),
    ] {
        let refused = service.call("POST", "/search", &json!({ "embedding": wrong }));
        assert_eq!(refused.code(422), "unprocessable");
        let message = refused.json()["error"]["message"].to_string();
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn hits_below_the_threshold_of_their_part_are_left_out() {
    let with = |certified: Certified, similarity: f32, rates: &[f64]| Certified {
        thresholds: Some(Thresholds {
            impostor_pairs: 1000,
            rates: rates
                .iter()
                .map(|&false_accept_rate| RateThreshold {
                    false_accept_rate,
                    similarity,
                })
                .collect(),
        }),
        ..certified
    };
    let setup = mixed("0");
    let old = with(dual(0.5), 0.95, &[0.1, 0.01]);
    setup.pairs.certify("v0002", "v0001", vec![old]);
    let own = with(Certified::by("self-test"), 1.5, &[0.1]);
    setup.pairs.certify("v0002", "v0002", vec![own]);
    let service = setup.start();
    let ask = |rate: f64, among: &[&str]| {
        let filter = json!({ "model_versions": among });
        let body = json!({"image": image(OLD[0]), "filter": filter, "max_false_accept_rate": rate});
        service.call("POST", "/search", &body)
    };
    // No similarity reaches the threshold of the new part.
    let answer = ask(0.1, &["v0001", "v0002"]).expect(200);
    let hits = answer["hits"].as_array().unwrap();
    assert!(!hits.is_empty() && hits.len() < 4, "{answer}");
    assert!(
        hits.iter()
            .all(|hit| hit["space"] == "v0001" && hit["score"].as_f64() >= Some(0.95))
    );
    assert_eq!(part(&answer, "v0002")["threshold"], 1.5);
    // A rate in between takes the next smaller one.
    ask(0.05, &["v0001"]).expect(200);
    let refused = ask(0.05, &["v0001", "v0002"]);
    assert_eq!(refused.code(422), "unprocessable");
    let message = refused.json()["error"]["message"].to_string();
    for part in [
        "v0002 by route own",
        "measured are 0.1",
        "perennial certify",
        "filter.model_versions",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!message.contains("v0001"), "{message}");
    for rate in [0.0, 1.0, -0.1] {
        assert_eq!(ask(rate, &["v0001"]).code(422), "unprocessable");
    }
}

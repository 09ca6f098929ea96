//! One promotion, with and without a service: a gate that cannot look does not pass.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::gallery::stocked;
use crate::service::Service;

fn live(bench: &Bench) -> String {
    let text = bench.read("registry/aliases.toml");
    let line = text.lines().find(|line| line.starts_with("live"));
    line.unwrap().to_owned()
}

/// Replaces a byte of a version's weights.
fn damage(bench: &Bench, version: &str) {
    let path = bench.path(&format!("registry/{version}/weights.safetensors"));
    let mut weights = std::fs::read(&path).unwrap();
    let middle = weights.len() / 2;
    weights[middle] ^= 1;
    std::fs::write(path, weights).unwrap();
}

#[test]
fn a_missing_gallery_is_no_empty_gallery() {
    let bench = stocked();
    for arguments in [
        &["models", "promote", "v0002", "--gallery", "galery"][..],
        &["models", "rollback", "--gallery", "galery"],
        &["models", "alias", "live", "v0002", "--gallery", "galery"],
        &[
            "models",
            "promote",
            "v0002",
            "--gallery",
            "galery",
            "--force",
        ],
    ] {
        bench
            .run(arguments)
            .assert_wrong_usage(&["no gallery at galery", "--gallery"]);
    }
    // The first live version of all may come before the gallery.
    let new = Bench::new();
    new.succeed(&["train", "toy.toml", "--set", "training.epochs=1"]);
    new.succeed(&["models", "alias", "live", "v0001", "--gallery", "later"]);
    // Elsewhere, the default folder is missing as well.
    std::fs::rename(bench.path("gallery"), bench.path("moved")).unwrap();
    bench
        .run(&["models", "promote", "v0002"])
        .assert_wrong_usage(&["no gallery at gallery", "--no-gallery"]);
    assert_eq!(live(&bench), "live = \"v0001\"");
    bench.succeed(&["models", "promote", "v0002", "--no-gallery"]);
    assert_eq!(live(&bench), "live = \"v0002\"");
}

#[test]
fn damaged_weights_never_become_live() {
    let bench = stocked();
    bench.succeed(&["models", "promote", "v0002", "--force"]);
    damage(&bench, "v0001");
    damage(&bench, "v0003");
    for arguments in [
        &["models", "promote", "v0003"][..],
        &["models", "promote", "v0003", "--force"],
        &["models", "alias", "live", "v0003", "--force"],
        &["models", "rollback", "--force"],
    ] {
        let ended = bench.run(arguments);
        assert_eq!(ended.code, Some(3), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stdout.contains("FAILED  weights"), "{}", ended.stdout);
        assert_eq!(live(&bench), "live = \"v0002\"");
    }
}

#[test]
fn a_changed_version_is_found_without_a_service_too() {
    let bench = stocked();
    // The reference embeddings are recorded at the first promotion beside a gallery.
    bench.succeed(&["models", "promote", "v0001"]);
    let path = bench.path("registry/v0001/model.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let mean = text.lines().find(|line| line.starts_with("mean")).unwrap();
    std::fs::write(&path, text.replace(mean, "mean = [0.1, 0.1, 0.1]")).unwrap();
    let ended = bench.run(&["models", "promote", "v0001", "--force"]);
    assert_eq!(ended.code, Some(3), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("FAILED  stored_probes"),
        "{}",
        ended.stdout
    );
}

#[test]
fn the_refusal_prints_the_command_that_measures() {
    let bench = stocked();
    let refused = bench.run(&["models", "promote", "v0002", "--json"]);
    assert_eq!(refused.code, Some(3));
    let answer: Value = serde_json::from_str(&refused.stdout).unwrap();
    assert_eq!(answer["moved"], false);
    let command = answer["remedies"][0].as_str().unwrap();
    let sets = "--queries generated:train --gallery generated:test";
    let command = command
        .replace("--queries SET:SPLIT --gallery SET:SPLIT", sets)
        .replace("perennial ", "");
    let arguments: Vec<&str> = command.split(' ').collect();
    assert!(
        arguments.contains(&"v0001") && arguments.contains(&"v0002"),
        "{command}"
    );
    bench.succeed(&arguments);

    // Both directions are recorded, with the weights; the set is filled in from now on.
    let records = bench.json("registry/compatibility.json")["records"].clone();
    let records = records.as_array().unwrap();
    let pairs: Vec<[&str; 2]> = records
        .iter()
        .map(|record| ["query_version", "gallery_version"].map(|key| record[key].as_str().unwrap()))
        .collect();
    assert_eq!(pairs, [["v0002", "v0001"], ["v0001", "v0002"]]);
    for record in records {
        assert_eq!(record["query_weights"].as_str().unwrap().len(), 64);
        assert_eq!(record["queries"]["argument"], "generated:train");
    }
    let refused = bench.run(&["models", "promote", "v0003"]);
    assert!(
        refused
            .stdout
            .contains(&format!("evaluate --versions v0001 v0003 {sets}")),
        "{}",
        refused.stdout
    );
}

#[test]
fn other_images_do_not_change_what_is_allowed() {
    let bench = stocked();
    let measure = |version: &str, [queries, gallery]: [&str; 2]| {
        bench.succeed(&[
            "evaluate",
            "--versions",
            "v0001",
            version,
            "--queries",
            queries,
            "--gallery",
            gallery,
        ]);
    };
    let (first, other_set) = (
        ["generated:train", "generated:test"],
        ["generated:test", "generated:train"],
    );
    // The policy decides alone: with this margin everything passes, with that nothing does.
    bench.write("gallery/policy.toml", "min_margin = -1.0\n");
    measure("v0002", first);
    let allowed = || bench.run(&["models", "promote", "v0002", "--dry-run"]);
    assert_eq!(allowed().code, Some(0));
    // A pair measured on another set only stays refused, whatever came out.
    measure("v0003", other_set);
    let other = bench.run(&["models", "promote", "v0003", "--dry-run"]);
    assert_eq!(other.code, Some(3), "{}", other.stdout);
    assert!(
        other
            .stdout
            .contains("but this gallery requires the evaluation set"),
        "{}",
        other.stdout
    );
    measure("v0002", other_set);
    assert_eq!(allowed().code, Some(0));
    bench.write(
        "gallery/policy.toml",
        "min_margin = -1.0\n[evaluation_set]\nqueries = \"generated:test\"\ngallery = \"generated:train\"\n",
    );
    let other = bench.run(&["models", "promote", "v0003", "--dry-run"]);
    assert_eq!(other.code, Some(0), "{}", other.stdout);
    bench.write("gallery/policy.toml", "min_margin = 1.0\n");
    assert_eq!(allowed().code, Some(3));
    bench.write("gallery/policy.toml", "min_margn = 1.0\n");
    allowed().assert_wrong_usage(&["policy.toml", "min_margn"]);
}

#[test]
fn a_number_is_never_given_twice() {
    let bench = stocked();
    bench.write("gallery/policy.toml", "min_margin = -1.0\n");
    bench.succeed(&["evaluate", "toy"]);
    let allowed = bench.run(&["models", "promote", "v0003", "--dry-run"]);
    assert_eq!(allowed.code, Some(0), "{}", allowed.stdout);
    std::fs::remove_dir_all(bench.path("registry/v0003")).unwrap();
    bench.succeed(&["train", "toy.toml", "--name", "again", "--seed", "2"]);
    let names: Vec<Value> = bench.answer(&["models", "list"])["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| version["name"].clone())
        .collect();
    assert_eq!(
        names,
        ["v0001", "v0002", "v0004", "v0005", "v0006"].map(Value::from)
    );
    let gone = bench.run(&["models", "promote", "v0003"]);
    assert_eq!(gone.code, Some(3), "{}", gone.stdout);
    assert!(gone.stdout.contains("was deleted"), "{}", gone.stdout);
    bench
        .run(&["models", "promote", "v0099"])
        .assert_wrong_usage(&["v0099", "v0006"]);
    // Even under the same name, other weights have no certificate.
    std::fs::rename(bench.path("registry/v0004"), bench.path("registry/v0003")).unwrap();
    let path = bench.path("registry/v0003/model.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"v0004\"", "\"v0003\"")).unwrap();
    let refused = bench.run(&["models", "promote", "v0003"]);
    assert_eq!(refused.code, Some(3), "{}", refused.stdout);
    assert!(
        refused.stdout.contains("other weights"),
        "{}",
        refused.stdout
    );
}

#[test]
fn the_command_finds_the_service_and_says_what_it_changed() {
    let bench = stocked();
    let mut service = Service::start(&bench);
    let refused = bench.run(&["models", "promote", "v0002"]);
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(
        refused
            .stdout
            .contains("nothing was changed in the service at"),
        "{}",
        refused.stdout
    );
    let moved = bench.succeed(&["models", "promote", "v0002", "--force"]);
    assert!(moved.contains("(was v0001) in the service at"), "{moved}");
    assert_eq!(service.get("models")["live"], "v0002");
    let back = bench.succeed(&["models", "rollback"]);
    assert!(
        back.contains("live -> v0001") && back.contains("the service at"),
        "{back}"
    );
    assert_eq!(service.get("models")["live"], "v0001");
    let moved = bench.succeed(&["models", "alias", "live", "v0002"]);
    assert!(moved.contains("the service at"), "{moved}");
    service.stop();
    assert!(!bench.path("gallery/service.toml").exists());
    let moved = bench.succeed(&["models", "rollback"]);
    assert!(moved.contains("in the registry"), "{moved}");
}

#[test]
fn readiness_tells_the_truth_and_force_outlasts_a_restart() {
    let bench = stocked();
    let service = |bench: &Bench| Service::start_with(bench, &[], Stdio::null());
    let mut first = service(&bench);
    let row = first.get("gallery/items?limit=1&embeddings=true")["items"][0]["embedding"].clone();
    let item = json!({ "id": 5, "embedding": row, "model_version": "v0002" });
    let (status, _) = first.call("PUT", "gallery/items", &item);
    assert_eq!(status, 409);
    let (status, _) = first.call(
        "PUT",
        "gallery/items",
        &json!({ "id": 5, "embedding": row, "model_version": "v0002", "force": true }),
    );
    assert_eq!(status, 200);
    let left_out = |service: &Service, only: &[&str]| {
        let query = json!({ "embedding": row, "limit": 1, "filter": { "model_versions": only } });
        let (status, answer) = service.call("POST", "search", &query);
        (status, answer["not_searched"].as_u64())
    };
    let both = ["v0001", "v0002"];
    assert_eq!(
        (left_out(&first, &both), ready(&first)),
        ((200, Some(0)), 200)
    );
    first.stop();
    let mut second = service(&bench);
    assert_eq!(
        (left_out(&second, &both), ready(&second)),
        ((200, Some(0)), 200)
    );
    second.stop();
    // Where the acceptance is taken back, the item is left out, and searches of such items alone are refused.
    std::fs::remove_file(bench.path("gallery/accepted.toml")).unwrap();
    let third = service(&bench);
    assert_eq!(
        (left_out(&third, &both), ready(&third)),
        ((200, Some(1)), 200)
    );
    assert_eq!(left_out(&third, &["v0002"]), (409, None));
    let detail = third.get("readyz")["detail"].to_string();
    assert!(detail.contains("v0002"), "{detail}");
}

fn ready(service: &Service) -> u16 {
    let request = ureq::get(format!("{}readyz", service.url()));
    let request = request.config().http_status_as_error(false).build();
    request.call().unwrap().status().as_u16()
}

#[test]
fn a_set_on_which_every_model_is_right_certifies_nothing() {
    let bench = stocked();
    std::fs::create_dir(bench.path("flat")).unwrap();
    for number in 0..4 {
        let picture = image::RgbImage::from_pixel(32, 32, image::Rgb([60 * number, 90, 30]));
        picture
            .save(bench.path(&format!("flat/{number}.png")))
            .unwrap();
    }
    let measure = |queries: &str, gallery: &str| {
        bench.run(&[
            "evaluate",
            "--versions",
            "v0001",
            "v0002",
            "--queries",
            queries,
            "--gallery",
            gallery,
        ])
    };
    measure("folder:flat", "folder:flat").assert_wrong_usage(&["one label", "two classes"]);
    let others = "{ set = \"generated\", generated = { classes = 3, images_per_class = 4, first_class = 50 } }";
    measure(others, "generated:test").assert_wrong_usage(&["same classes"]);
    assert!(!bench.path("registry/compatibility.json").exists());
    // One resample decides nothing.
    bench.succeed(&["evaluate", "toy", "--resamples", "1"]);
    let records = bench.json("registry/compatibility.json")["records"].clone();
    for record in records.as_array().unwrap() {
        let [low, high] = ["low", "high"].map(|key| record["interval"][key].as_f64().unwrap());
        assert!(
            low <= high && (low < high || record["margin"] == low),
            "{record}"
        );
    }
}

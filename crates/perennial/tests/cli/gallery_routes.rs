//! Old items found by certified routes, without a server: `certify --record`, `models promote`, `gallery search`.

use serde_json::{Value, json};

use crate::bench::{Bench, Ended};
use crate::gallery::stocked;

/// Certifies queries of `v0002` for items of `v0001` by a route through a bridge that is fitted for it.
pub fn certify(bench: &Bench, route: &str, index: &str) -> Ended {
    certify_pair(bench, ["v0002", "v0001"], route, index)
}

/// The same of any two versions, that of the queries first.
pub fn certify_pair(bench: &Bench, [new, old]: [&str; 2], route: &str, index: &str) -> Ended {
    let (old_test, new_test) = (
        format!("{old}@generated:test"),
        format!("{new}@generated:test"),
    );
    let (old_train, new_train) = (
        format!("{old}@generated:train"),
        format!("{new}@generated:train"),
    );
    let ended = bench.run(&[
        "certify",
        "--record",
        "--route",
        route,
        "--index",
        index,
        "--kind",
        "orthogonal",
        "--leave-one-out",
        "--old-queries",
        &old_test,
        "--old-gallery",
        &old_test,
        "--new-queries",
        &new_test,
        "--fit-from",
        &new_train,
        "--fit-to",
        &old_train,
    ]);
    // Whatever the finding, which the exit code tells.
    assert!(ended.stderr.contains("recorded as"), "{}", ended.stderr);
    ended
}

/// A bench whose policy takes any margin: what is tested is the way, not how good so small a network is.
fn lenient() -> Bench {
    let bench = stocked();
    bench.write("gallery/policy.toml", "min_margin = -1.0\n");
    let png = perennial_encode::encode_png(&[200; 3 * 40 * 50], [3, 40, 50]).unwrap();
    std::fs::write(bench.path("query.png"), png).unwrap();
    bench
}

fn routes(answer: &Value) -> Vec<(Value, Value)> {
    let hits = answer["hits"].as_array().unwrap().iter();
    hits.map(|hit| (hit["space"].clone(), hit["route"].clone()))
        .collect()
}

#[test]
fn the_size_of_a_gallery_says_what_the_live_version_does_not_reach() {
    let bench = lenient();
    let stats = ["gallery", "stats"];
    let reach = |answer: Value| {
        let left = answer["left_out"].clone();
        (answer["not_searched"].clone(), left)
    };
    assert_eq!(reach(bench.answer(&stats)), (json!(0), json!([])));
    // Live without a certificate towards what is stored.
    bench.write("registry/aliases.toml", "live = \"v0002\"\n");
    let (items, left) = reach(bench.answer(&stats));
    assert_eq!((items, &left[0]["space"]), (json!(2000), &json!("v0001")));
    let text = bench.succeed(&stats);
    assert!(
        text.contains("2000 items are not searched by the live version:\n  v0001  2000: "),
        "{text}"
    );
    assert!(text.contains("to measure it, run `perennial "), "{text}");
}

#[test]
fn old_items_are_found_by_the_certified_route() {
    let bench = lenient();
    let search = [
        "gallery",
        "search",
        "query.png",
        "--model",
        "v0002",
        "--limit",
        "3",
    ];
    bench
        .run(&search)
        .assert_gate_missed(&["v0002 may not query", "--force"]);
    // A centred certificate is stored, and both the command and the refusal say that it does not count.
    let centred = certify(&bench, "dual", "centred");
    assert!(centred.stderr.contains("--index raw"), "{}", centred.stderr);
    bench.run(&search).assert_gate_missed(&["--index raw"]);

    let dual = certify(&bench, "dual", "raw");
    assert!(
        dual.stderr.contains("the bridge is b0001"),
        "{}",
        dual.stderr
    );
    let answer = bench.answer(&search);
    let by = |route: &str| vec![(json!("v0001"), json!(route)); 3];
    assert_eq!(routes(&answer), by("dual"));
    assert_eq!(
        [&answer["not_searched"], &answer["parts"][0]["items"]],
        [&json!(0), &json!(2000)]
    );
    assert!(answer["hits"][0]["standard_score"].as_f64().unwrap() > 0.0);
    let text = bench.succeed(&search);
    assert!(text.contains("v0001 by route dual"), "{text}");
    // Every column has its name above it, and no name of a program's type is shown.
    let heads: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(heads, ["score", "z-score", "id", "label", "space"]);
    let stats = bench.succeed(&["gallery", "stats"]);
    assert!(stats.contains("\nint8 search, "), "{stats}");

    // The promotion says how the old items are reached, how well, and at what cost.
    let promoted = bench.succeed(&["models", "promote", "v0002"]);
    for part in [
        "2000 items by route dual (weight 0.5)",
        "a second forward pass per query, by the encoder of v0001",
        "recall@1",
    ] {
        assert!(promoted.contains(part), "{promoted}");
    }

    // An old encoder that is gone: nothing but dual is certified.
    let weights = bench.path("registry/v0001/weights.safetensors");
    std::fs::rename(&weights, bench.path("aside")).unwrap();
    bench
        .run(&search)
        .assert_gate_missed(&["needs the encoder of v0001", "registry/v0001/weights"]);
    // Bridged as well, through the bridge that is there already.
    let before = bench.path("registry/bridges").read_dir().unwrap().count();
    std::fs::rename(bench.path("aside"), &weights).unwrap();
    certify(&bench, "bridged", "raw");
    assert_eq!(
        bench.path("registry/bridges").read_dir().unwrap().count(),
        before
    );
    // Which of the two measured better is up to the figures.
    let best = routes(&bench.answer(&search));
    std::fs::rename(&weights, bench.path("aside")).unwrap();
    let answer = bench.answer(&search);
    assert_eq!(routes(&answer), by("bridged"));
    let fallback = answer["parts"][0]["fallback"].as_str();
    let named = fallback.is_some_and(|why| why.contains("registry/v0001/weights"));
    assert_eq!(named, best == by("dual"), "{answer}");
    std::fs::rename(bench.path("aside"), &weights).unwrap();

    // Items of both: one ranking, and an item as query takes the bridge.
    bench.succeed(&[
        "gallery",
        "add",
        "--set",
        "generated:train",
        "--model",
        "v0002",
        "--prefix",
        "new",
    ]);
    let answer = bench.answer(&["gallery", "search", "query.png", "--limit", "200"]);
    let mut spaces: Vec<String> = routes(&answer)
        .into_iter()
        .map(|(space, _)| space.as_str().unwrap().to_owned())
        .collect();
    spaces.sort();
    spaces.dedup();
    assert_eq!(spaces, ["v0001", "v0002"]);
    let id = answer["hits"].as_array().unwrap().iter();
    let of_new = id.clone().find(|hit| hit["space"] == "v0002").unwrap();
    let id = of_new["id"].as_str().unwrap();
    let answer = bench.answer(&["gallery", "search", "--id", id, "--limit", "500"]);
    let old = routes(&answer)
        .into_iter()
        .find(|(space, _)| space == "v0001");
    assert_eq!(old.unwrap().1, "bridged");
    let stored: Vec<f64> = answer["hits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hit| hit["standard_score"].as_f64().unwrap())
        .collect();
    assert!(stored.is_sorted_by(|one, other| one >= other));
}

#[test]
fn old_items_are_found_by_their_mapped_vectors_without_their_encoder() {
    let bench = lenient();
    let certified = certify(&bench, "mapped", "raw");
    let said = "keeps an index of mapped vectors in memory";
    assert!(certified.stderr.contains(said), "{}", certified.stderr);
    let weights = bench.path("registry/v0001/weights.safetensors");
    std::fs::remove_file(&weights).unwrap();
    let by_mapped = |answer: &Value| {
        let part = &answer["parts"][0];
        assert_eq!(
            (&part["route"], &part["fallback"]),
            (&json!("mapped"), &Value::Null)
        );
        let hits = answer["hits"].as_array().unwrap();
        assert_eq!(hits.len(), 3);
        assert!(hits.iter().all(|hit| hit["score_kind"] == "mapped_cosine"));
    };
    let search = ["gallery", "search", "query.png", "--limit", "3"];
    let as_new = [&search[..], &["--model", "v0002"]].concat();
    by_mapped(&bench.answer(&as_new));
    let promoted = bench.succeed(&["models", "promote", "v0002"]);
    for part in [
        "2000 items by route mapped (an index of mapped vectors in memory, at least ",
        "mapped vectors of v0001",
    ] {
        assert!(promoted.contains(part), "{promoted}");
    }
    by_mapped(&bench.answer(&search));
    let ended = bench.run(&search);
    assert!(ended.stdout.contains("v0001 by route mapped"), "{ended:?}");
    // What takes long with many items is shown.
    let said = "mapping the vectors of v0001 for this search: 2000 items in";
    assert!(ended.stderr.contains(said), "{ended:?}");
    assert_eq!(bench.answer(&["gallery", "stats"])["not_searched"], 0);
}

#[test]
fn a_bridge_that_is_gone_is_named() {
    let bench = lenient();
    certify(&bench, "bridged", "raw");
    let search = ["gallery", "search", "query.png", "--model", "v0002"];
    bench.succeed(&search);
    std::fs::rename(bench.path("registry/bridges"), bench.path("aside")).unwrap();
    bench.run(&search).assert_gate_missed(&[
        "its bridge",
        "is not in the registry",
        "certify again with --record",
    ]);
}

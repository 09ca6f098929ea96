//! `bridge` and `spaces` on files of other programs, and on registered versions.

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::encoders::{OLD_DIM, embedding, files, lines};

#[test]
fn a_bridge_is_fitted_listed_and_applied() {
    let bench = files();
    let fitted = bench.answer(&[
        "bridge",
        "fit",
        "--from",
        "new-fit.jsonl",
        "--to",
        "old-fit.jsonl",
        "--from-space",
        "new",
        "--to-space",
        "old",
    ]);
    assert_eq!(
        (&fitted["bridge"], &fitted["pairs"]),
        (&json!("b0001"), &json!(400))
    );
    assert_eq!(fitted["matched_by"], "id");
    assert!(!fitted["selection"]["tried"].as_array().unwrap().is_empty());
    assert_eq!(fitted["selection"]["beats_doing_nothing"], Value::Null);
    let listed = bench.answer(&["bridge", "list"]);
    assert_eq!(listed["bridges"][0]["sha256"], fitted["sha256"]);
    let shown = bench.succeed(&["bridge", "show", "b0001"]);
    assert!(shown.contains("from    new (12 dimensions)"), "{shown}");
    let shown = bench.answer(&["bridge", "show", "b0001"]);
    assert_eq!(shown["records_inputs"], true);

    let applied = bench.answer(&[
        "bridge",
        "apply",
        "b0001",
        "new-queries.jsonl",
        "--out",
        "mapped.npz",
    ]);
    assert_eq!(
        (&applied["rows"], &applied["weight"]),
        (&json!(300), &Value::Null)
    );
    let mapped = perennial_formats::read(&bench.path("mapped.npz")).unwrap();
    assert_eq!((mapped.len(), mapped.dim()), (300, OLD_DIM));
    assert_eq!(mapped.ids().unwrap()[7].to_string(), "20-7");
    assert_eq!(mapped.labels().unwrap().len(), 300);

    let dual = bench.answer(&[
        "bridge",
        "apply",
        "b0001",
        "new-queries.jsonl",
        "--old-queries",
        "old-queries.jsonl",
        "--weight",
        "1",
        "--out",
        "dual.jsonl",
    ]);
    assert_eq!(dual["weight"], 1.0);
    // A weight of 1 is the old query alone, at unit length.
    let dual = perennial_formats::read(&bench.path("dual.jsonl")).unwrap();
    let old = embedding("old", 20, 5);
    let length = old.iter().map(|value| value * value).sum::<f64>().sqrt();
    for (found, expected) in dual.row(5).iter().zip(&old) {
        assert!((f64::from(*found) - expected / length).abs() < 1e-5);
    }
}

#[test]
fn bridges_lead_one_way_and_are_chained() {
    let bench = files();
    let fit = |from: &str, to: &str, out: &str| {
        bench.succeed(&[
            "bridge",
            "fit",
            "--kind",
            "orthogonal",
            "--from",
            &format!("{from}-fit.jsonl"),
            "--to",
            &format!("{to}-fit.jsonl"),
            "--from-space",
            from,
            "--to-space",
            to,
            "--out",
            out,
        ]);
    };
    fit("new", "old", "there");
    fit("old", "new", "back");
    bench.succeed(&["bridge", "chain", "there", "back", "--out", "round"]);
    bench.succeed(&[
        "bridge",
        "apply",
        "round",
        "new-queries.jsonl",
        "--out",
        "again.jsonl",
    ]);
    bench
        .run(&["bridge", "chain", "there", "there", "--out", "wrong"])
        .assert_wrong_usage(&["old", "new"]);
    assert!(!bench.path("wrong").exists());
    // The wrong direction: known by name, or, without names, by what the vectors look like.
    bench.write("named.jsonl", &lines("old", 20, 300, true));
    bench.succeed(&[
        "bridge",
        "apply",
        "back",
        "named.jsonl",
        "--out",
        "right.safetensors",
    ]);
    bench
        .run(&[
            "bridge",
            "apply",
            "back",
            "right.safetensors",
            "--out",
            "x.jsonl",
        ])
        .assert_wrong_usage(&["right.safetensors", "space new", "old"]);
    assert!(!bench.path("x.jsonl").exists());
}

#[test]
fn bad_files_are_named_and_nothing_is_written() {
    let bench = files();
    let with = |row: &str| {
        let mut text = lines("new", 10, 400, false);
        text = text.lines().skip(1).collect::<Vec<_>>().join("\n");
        format!("{row}\n{text}\n")
    };
    let zeros = vec![0; OLD_DIM];
    bench.write(
        "zero.jsonl",
        &with(&json!({"id": "10-0", "embedding": zeros}).to_string()),
    );
    bench.write(
        "twice.jsonl",
        &with(&json!({"id": "10-1", "embedding": embedding("new", 1, 1)}).to_string()),
    );
    bench.write("short.jsonl", &lines("new", 10, 399, false));
    bench.write("strangers.jsonl", &lines("new", 99, 400, false));
    bench.write(
        "narrow.jsonl",
        &with(&json!({"id": "10-0", "embedding": [1, 2]}).to_string()),
    );
    for (file, more, named) in [
        ("zero.jsonl", &[][..], &["zero.jsonl", "row 0"][..]),
        ("twice.jsonl", &[], &["twice.jsonl", "10-1"]),
        (
            "short.jsonl",
            &["--match", "row"],
            &["short.jsonl", "399", "400"],
        ),
        ("strangers.jsonl", &[], &["no id in common"]),
        ("narrow.jsonl", &[], &["narrow.jsonl"]),
        ("absent.jsonl", &[], &["absent.jsonl"]),
        ("new-fit.jsonl", &["--pairs", "401"], &["401", "400"]),
        ("new-fit.jsonl", &["--match", "label"], &["labels"]),
        ("new-fit.jsonl", &["--kind", "ridge:-1"], &["ridge"]),
    ] {
        let arguments = [
            &[
                "bridge",
                "fit",
                "--from",
                file,
                "--to",
                "old-fit.jsonl",
                "--out",
                "bridge",
            ],
            more,
        ]
        .concat();
        let ended = bench.run(&arguments);
        assert_eq!(ended.code, Some(2), "{file}: {ended:?}");
        for word in named {
            assert!(ended.stderr.contains(word), "{file} {word}: {ended:?}");
        }
        assert!(!bench.path("bridge").exists(), "{file}");
    }
}

#[test]
fn changed_bridges_and_certificates_are_refused() {
    let bench = files();
    bench.succeed(&[
        "bridge",
        "fit",
        "--kind",
        "orthogonal",
        "--from",
        "new-fit.jsonl",
        "--to",
        "old-fit.jsonl",
        "--out",
        "bridge",
    ]);
    let weights = bench.path("bridge/weights.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    bench
        .run(&["bridge", "show", "bridge"])
        .assert_wrong_usage(&["weights.safetensors"]);
    let ended = bench.run(&[
        "certify",
        "--old-queries",
        "old-queries.jsonl",
        "--old-gallery",
        "old-gallery.jsonl",
        "--new-queries",
        "new-queries.jsonl",
        "--bridge",
        "bridge",
    ]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    bench
        .run(&["bridge", "show", "b0001"])
        .assert_wrong_usage(&["no registry"]);
}

#[test]
fn fits_are_deterministic() {
    let bench = files();
    let hash = || {
        let fitted = bench.answer(&[
            "bridge",
            "fit",
            "--from",
            "new-fit.jsonl",
            "--to",
            "old-fit.jsonl",
            "--pairs",
            "300",
            "--seed",
            "4",
        ]);
        fitted["sha256"].clone()
    };
    assert_eq!(hash(), hash());
}

#[test]
fn a_space_notices_when_its_encoder_changes() {
    let bench = files();
    bench.write("canaries.jsonl", &lines("new", 40, 8, false));
    let added = bench.answer(&[
        "spaces",
        "add",
        "encoder-2",
        "--canaries",
        "canaries.jsonl",
        "--modality",
        "text",
        "--producer",
        "an API's model",
    ]);
    assert_eq!(
        (&added["dim"], &added["modality"]),
        (&json!(12), &json!("text"))
    );
    bench
        .run(&["spaces", "add", "encoder-2", "--dim", "12"])
        .assert_wrong_usage(&["registered already"]);
    let listed = bench.answer(&["spaces", "list"]);
    assert_eq!(listed["spaces"][0]["name"], "encoder-2");
    let check = ["spaces", "check", "encoder-2", "--canaries"];
    assert_eq!(
        bench.run(&[&check[..], &["canaries.jsonl"]].concat()).code,
        Some(0)
    );
    bench.write("drifted.jsonl", &lines("old", 40, 8, false));
    let ended = bench.run(&[&check[..], &["drifted.jsonl"]].concat());
    assert_eq!(ended.code, Some(3));
    assert!(ended.stdout.contains("has changed"), "{ended:?}");
    bench
        .run(&[&check[..], &["new-fit.jsonl"]].concat())
        .assert_wrong_usage(&["400"]);
}

#[test]
fn versions_embed_sets_for_bridges_and_routes() {
    let bench = Bench::new();
    bench.succeed(&["train", "toy.toml"]);
    let fitted = bench.answer(&[
        "bridge",
        "fit",
        "--from",
        "v0003@generated:train",
        "--to",
        "v0001@generated:train",
        "--kind",
        "orthogonal",
        "--pairs",
        "500",
    ]);
    assert_eq!(
        (&fitted["from"]["id"], &fitted["to"]["id"], &fitted["pairs"]),
        (&json!("v0003"), &json!("v0001"), &json!(500))
    );
    // The wrong direction is refused by the space's fingerprint.
    let ended = bench.run(&[
        "--quiet",
        "certify",
        "--bridge",
        "b0001",
        "--old-queries",
        "v0003@generated:test",
        "--old-gallery",
        "v0003@generated:test",
        "--new-queries",
        "v0001@generated:test",
        "--leave-one-out",
    ]);
    ended.assert_wrong_usage(&["route bridged"]);
    let text = bench.succeed(&[
        "evaluate",
        "toy",
        "--routes",
        "--fit-set",
        "generated:train",
        "--fit-pairs",
        "300",
    ]);
    for name in [
        "as it is",
        "centred",
        "bridge, orthogonal",
        "bridge, composed orthogonal",
        "dual 0.5, orthogonal",
        "dual 0.5 latest, orthogonal",
        "dual 0.5 latest, composed orthogonal",
    ] {
        assert!(text.contains(name), "{text}");
    }
    assert!(text.contains("By the number of upgrades"), "{text}");
    let less = "bridge, composed orthogonal less bridge, orthogonal";
    assert!(text.contains(less), "{text}");
    let document = bench.json("runs/toy/routes.json");
    let routes = document["routes"].as_array().unwrap();
    assert_eq!(routes.len(), 7);
    let matrix = &routes[0]["measures"][0]["matrix"];
    assert_eq!(matrix.as_array().unwrap().len(), 3);
    assert_eq!(routes[4]["mixed"].as_array().unwrap().len(), 2);
    for route in routes {
        // Three measures, one and two upgrades apart.
        let drift = route["drift"].as_array().unwrap();
        let apart = |one: &serde_json::Value| (one["hops"].as_u64(), one["pairs"].as_u64());
        let found: Vec<_> = drift.iter().map(apart).collect();
        let expected = [[(Some(1), Some(2)); 3], [(Some(2), Some(1)); 3]].concat();
        assert_eq!(found, expected, "{route}");
        let far = &route["measures"][0]["matrix"][2][0];
        assert!((drift[3]["cross_test"].as_f64().unwrap() - far.as_f64().unwrap()).abs() < 1e-6);
    }
    // Between neighbours a composed bridge is the direct one, and the latest old encoder the gallery's own.
    for (number, other) in [(3, 2), (5, 4), (6, 5)] {
        let against = &routes[number]["against"];
        assert_eq!(against["other"], routes[other]["name"]);
        let hops = against["hops"].as_array().unwrap();
        let near = hops.iter().filter(|one| one["hops"] == 1);
        assert!(near.clone().count() == 3 && near.clone().all(|one| one["difference"] == 0.0));
    }
    bench
        .run(&["evaluate", "toy", "--routes", "bridged"])
        .assert_wrong_usage(&["--fit-set"]);
    let two = [
        "evaluate",
        "--versions",
        "v0001",
        "v0003",
        "--queries",
        "generated:test",
    ];
    let rest = ["--gallery", "generated:test", "--routes", "composed"];
    bench
        .run(&[&two[..], &rest].concat())
        .assert_wrong_usage(&["bridge, composed", "at least 3 versions"]);
}

#[test]
fn a_bridge_is_folded_into_a_version() {
    let bench = Bench::new();
    bench.succeed(&["train", "toy.toml"]);
    bench.succeed(&[
        "bridge",
        "fit",
        "--from",
        "v0003@generated:train",
        "--to",
        "v0001@generated:train",
        "--kind",
        "ridge:0.001",
        "--uncentred",
        "--out",
        "bridge",
    ]);
    let folded = bench.answer(&["bridge", "fold", "bridge", "v0003"]);
    assert_eq!(
        (&folded["version"], &folded["parent"]),
        (&json!("v0004"), &json!("v0003"))
    );
    // The folded version computes what the version and then the bridge compute.
    for (version, file) in [
        ("v0003", "plain.safetensors"),
        ("v0004", "folded.safetensors"),
    ] {
        bench.succeed(&["embed", version, "--set", "generated:test", "--out", file]);
    }
    bench.succeed(&[
        "bridge",
        "apply",
        "bridge",
        "plain.safetensors",
        "--out",
        "mapped.npy",
    ]);
    let folded = perennial_formats::read(&bench.path("folded.safetensors")).unwrap();
    let mapped = perennial_formats::read(&bench.path("mapped.npy")).unwrap();
    let largest = folded
        .vectors()
        .iter()
        .zip(mapped.vectors())
        .map(|(one, other)| (one - other).abs())
        .fold(0.0, f32::max);
    assert!(largest < 1e-4, "{largest}");
    bench.succeed(&[
        "bridge",
        "fit",
        "--from",
        "v0003@generated:train",
        "--to",
        "v0001@generated:train",
        "--kind",
        "orthogonal",
        "--out",
        "centred",
    ]);
    let ended = bench.run(&["bridge", "fold", "centred", "v0003"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("centr"), "{ended:?}");
}

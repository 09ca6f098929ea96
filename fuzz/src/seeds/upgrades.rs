//! Bridges and certificates.

use perennial_bridge::{BRIDGE_FILE, Bridge, Pairs, Recipe, WEIGHTS_FILE, fit};
use perennial_core::{SpaceRef, sha256_hex};
use serde_json::{Value, json};

use super::Seeds;
use crate::upgrades::CHECKSUM;

pub(super) fn bridge_seeds() -> Seeds {
    let from = [
        1.0, 0.0, 0.5, 0.0, 1.0, 0.25, -1.0, 0.5, 0.0, 0.5, -0.5, 1.0, 0.25, 0.75, -1.0,
    ];
    let to = [1.0, 0.5, 0.0, 1.0, -1.0, 0.25, 0.5, -1.0, -0.25, 0.5];
    let [three, two] = [3, 2].map(SpaceRef::unnamed);
    let fitted = |recipe: &str| {
        let pairs = Pairs::new(&from, 3, &to, 2).unwrap();
        let recipe: Recipe = recipe.parse().unwrap();
        fit(&pairs, &recipe, three.clone(), two.clone()).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let files = |bridge: &Bridge| {
        let path = folder.path().join("bridge");
        bridge.write(&path).unwrap();
        let [toml, weights] =
            [BRIDGE_FILE, WEIGHTS_FILE].map(|file| std::fs::read(path.join(file)).unwrap());
        let text = String::from_utf8(toml).unwrap();
        (text.replace(&sha256_hex(&weights), CHECKSUM), weights)
    };
    let joined =
        |(text, weights): (String, Vec<u8>)| [text.as_bytes(), b"\n%%\n", &weights].concat();
    let orthogonal = fitted("orthogonal");
    let (text, weights) = files(&orthogonal);
    let ridge = fitted("ridge:0.001");
    let there_and_back = ridge.then(&orthogonal.inverse().unwrap()).unwrap();
    vec![
        ("ridge", joined(files(&ridge))),
        ("chain", joined(files(&there_and_back))),
        (
            "refused_steps",
            joined((text.replace("to = 2", "to = 3"), weights.clone())),
        ),
        (
            "refused_checksum",
            joined((text.replace(CHECKSUM, "00"), weights.clone())),
        ),
        (
            "refused_cut",
            joined((text.clone(), weights[..weights.len() - 1].to_vec())),
        ),
        ("orthogonal", joined((text, weights))),
    ]
}

pub(super) fn certificate_seeds() -> Seeds {
    let source = |name: &str| json!({"name": name, "sha256": "ab".repeat(32), "rows": 3});
    let interval =
        |confidence: f64| json!({"confidence": confidence, "low": -0.25, "high": 1e-300});
    let measure = |measure: &str| {
        json!({
            "measure": measure, "queries": 3, "new": 0.5, "old": 1.0 / 3.0, "margin": 1.0 / 6.0,
            "intervals": [interval(0.9), interval(0.95), interval(0.99)],
            "positive_flips": 0.5, "negative_flips": 0.25, "mcnemar": null, "p_not_worse": 0.125,
            "decides": true, "verdict": "undecided", "new_self_test": 1.0, "upgrade_recovery": -0.5,
        })
    };
    let certificate = json!({
        "schema_version": 1, "kind": "perennial-certificate", "created": "2026-11-25T00:00:00Z",
        "query_space": {"dim": 3, "id": "v0002", "fingerprint": "cd".repeat(32)},
        "gallery_space": {"dim": 2},
        "route": {"kind": "dual", "weight": 0.25}, "index": "raw",
        "bridge": {"kind": "ridge:0.001", "sha256": "ef".repeat(32), "pairs": 5},
        "sources": {
            "old_queries": source("q"), "old_gallery": source("g"), "new_queries": null, "truth": [source("labels")],
        },
        "queries": 3, "gallery_items": 4,
        "demands": {"min_margin": 0.0, "confidence": 0.95, "bootstrap": {"resamples": 20, "seed": 7}},
        "finding": "undecided",
        "tasks": [{
            "task": "class-like", "finding": "undecided", "reasons": ["few queries"], "answerable_queries": 3,
            "measures": [measure("ncm"), measure("recall@1"), measure("map")],
        }],
        "agreement_at_10": 1.0 / 3.0, "warnings": ["a warning"], "sha256": CHECKSUM,
    });
    let changed = |key: &str, value: Value| {
        let mut changed = certificate.clone();
        changed[key] = value;
        serde_json::to_vec(&changed).unwrap()
    };
    vec![
        ("measured", serde_json::to_vec_pretty(&certificate).unwrap()),
        ("empty", changed("tasks", json!([]))),
        ("own", changed("route", json!({"kind": "own"}))),
        ("refused_hash", changed("sha256", json!("00"))),
        ("refused_kind", changed("kind", json!("perennial-advice"))),
        ("refused_schema", changed("schema_version", json!(2))),
        ("refused_key", changed("signature", json!("x"))),
        ("refused_route", changed("route", json!({"kind": "by air"}))),
    ]
}

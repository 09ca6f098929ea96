//! Bridges as files: what is written is read, and anything else is refused.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use perennial_bridge::{
    BRIDGE_FILE, Bridge, BridgeError, FitInputs, FitRecord, Matching, Pairs, Recipe, Side, Trial,
    WEIGHTS_FILE, fit,
};
use perennial_core::{SpaceId, SpaceRef};
use proptest::prelude::*;

fn bridge(recipe: &str) -> Bridge {
    let values = |count: usize, step: usize| -> Vec<f32> {
        (0..count)
            .map(|i| ((i * step + i * i) % 17) as f32 - 8.5)
            .collect()
    };
    let (from, to) = (values(60, 3), values(60, 7));
    let pairs = Pairs::new(&from, 5, &to, 5).unwrap();
    let from = SpaceRef {
        dim: 5,
        id: Some(SpaceId::new("text \"3\"").unwrap()),
        fingerprint: Some("ab".repeat(32)),
    };
    let bridge = fit(&pairs, &recipe.parse().unwrap(), from, SpaceRef::unnamed(5)).unwrap();
    let record = FitRecord {
        matched: Matching::FileName,
        from_sha256: Some("0".repeat(64)),
        created: Some("2026-11-22T21:35:00Z".to_owned()),
        dual_weight: Some(0.25),
        trials: vec![Trial {
            name: "orthogonal".to_owned(),
            values: [("recall@1".to_owned(), 0.25), ("mrr".to_owned(), 1.0)].into(),
        }],
        ..bridge.fit_record().clone()
    };
    bridge.with_fit_record(record).unwrap()
}

fn written(folder: &Path, bridge: &Bridge) -> std::path::PathBuf {
    let path = folder.join("b0001");
    bridge.write(&path).unwrap();
    path
}

#[test]
fn what_is_written_is_read_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    for recipe in [
        "identity",
        "centring",
        "orthogonal",
        "ridge",
        "whitened",
        "low_rank:1,0.1",
        "lambda_orthogonal:0.5",
    ] {
        let bridge = bridge(recipe);
        // Each replaces the one before.
        let path = written(folder.path(), &bridge);
        let read = Bridge::read(&path).unwrap();
        assert_eq!(read, bridge, "{recipe}");
        assert_eq!(read.sha256(), bridge.sha256());
        let other = folder.path().join("again");
        read.write(&other).unwrap();
        for name in [BRIDGE_FILE, WEIGHTS_FILE] {
            assert_eq!(
                fs::read(path.join(name)).unwrap(),
                fs::read(other.join(name)).unwrap()
            );
        }
    }
    let chain = bridge("orthogonal").then(&bridge("ridge").inverse().unwrap().inverse().unwrap());
    assert!(chain.is_ok());
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["again", "b0001"]);
}

#[test]
fn the_hash_covers_the_map_and_its_spaces() {
    let bridge = bridge("orthogonal");
    let noted = bridge
        .clone()
        .with_fit_record(FitRecord::default())
        .unwrap();
    assert_eq!(bridge.sha256(), noted.sha256());
    assert_ne!(bridge.sha256(), bridge.inverse().unwrap().sha256());
    assert_ne!(bridge.sha256(), self::bridge("ridge").sha256());
    let bad = FitRecord {
        warnings: vec!["a\u{1b}[31m".to_owned()],
        ..FitRecord::default()
    };
    assert!(bridge.with_fit_record(bad).is_err());
}

#[test]
fn what_was_fitted_on_is_kept_with_the_bridge() {
    let folder = tempfile::tempdir().unwrap();
    let text = |path: &Path| fs::read_to_string(path.join(BRIDGE_FILE)).unwrap();
    let plain = bridge("orthogonal");
    let path = written(folder.path(), &plain);
    // As bridges were written before this record.
    assert!(text(&path).contains("format_version = 1"));
    assert!(Bridge::read(&path).unwrap().fit_inputs().is_none());

    let inputs = FitInputs::of(&[1.0; 5], 5, &[2.0; 10], 5).with_ids(&["a".into(), "b".into()]);
    let recorded = plain.clone().with_fit_inputs(inputs.clone());
    assert_ne!(recorded.sha256(), plain.sha256());
    let path = written(folder.path(), &recorded);
    assert!(text(&path).contains("format_version = 2"));
    let read = Bridge::read(&path).unwrap();
    assert_eq!(read, recorded);
    assert_eq!(read.fit_inputs(), Some(&inputs));
    let back = read.inverse().unwrap();
    let back_inputs = back.fit_inputs().unwrap();
    assert_eq!(back_inputs.shared_rows(Side::From, &[2.0; 5], 5), 1);
    // The ends of a chain and all ids are left; without one record there is none.
    let round = back.then(&read).unwrap();
    let round_inputs = round.fit_inputs().unwrap();
    assert_eq!(round_inputs.shared_rows(Side::From, &[2.0; 5], 5), 1);
    assert_eq!(round_inputs.shared_rows(Side::From, &[1.0; 5], 5), 0);
    assert_eq!(round_inputs.shared_ids(&["b".into(), "c".into()]), 1);
    assert!(back.then(&plain).unwrap().fit_inputs().is_none());

    // Files that say one thing and hold another.
    for (version, bridge) in [("2", &plain), ("1", &recorded)] {
        let path = written(folder.path(), bridge);
        let other = if version == "1" { "2" } else { "1" };
        let changed = text(&path).replace(
            &format!("format_version = {other}"),
            &format!("format_version = {version}"),
        );
        fs::write(path.join(BRIDGE_FILE), changed).unwrap();
        let message = Bridge::read(&path).unwrap_err().to_string();
        assert!(message.contains("tensors"), "{message}");
    }
}

#[test]
fn other_things_are_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let bridge = bridge("orthogonal");
    let refused = |path: &Path| {
        assert!(Bridge::check_target(path).is_err(), "{path:?}");
        bridge.write(path).unwrap_err()
    };
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(refused(&file), BridgeError::NotOurs { .. }));
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    assert!(Bridge::check_target(&data).is_ok());
    fs::write(data.join("photo.jpg"), "x").unwrap();
    assert!(matches!(refused(&data), BridgeError::NotOurs { .. }));
    assert!(
        refused(&folder.path().join("missing/b"))
            .to_string()
            .contains("missing")
    );
    // A bridge with a file of somebody else's beside it.
    let path = written(folder.path(), &bridge);
    fs::write(path.join("notes.txt"), "x").unwrap();
    assert!(matches!(refused(&path), BridgeError::NotOurs { .. }));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn what_could_not_be_read_again_takes_no_place() {
    let folder = tempfile::tempdir().unwrap();
    let good = bridge("orthogonal");
    let path = written(folder.path(), &good);
    // Its weights are hardly above 0, and those of its inverse beyond what f32 holds.
    let inverse = bridge("ridge:1e39").inverse().unwrap();
    let error = inverse.write(&path).unwrap_err().to_string();
    assert!(error.contains("b0001") && error.contains("f32"), "{error}");
    assert_eq!(Bridge::read(&path).unwrap(), good);
    for record in [
        FitRecord {
            pairs: usize::MAX,
            ..FitRecord::default()
        },
        FitRecord {
            rank: Some(usize::MAX),
            ..FitRecord::default()
        },
    ] {
        let error = good.clone().with_fit_record(record).unwrap_err();
        assert!(error.to_string().contains("fit."), "{error}");
    }
}

#[test]
fn what_a_killed_process_left_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, file: &str| {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join(file), "").unwrap();
        path
    };
    let abandoned = make(".partial-bridge-7-0", ".in-use");
    // An old bridge that stepped aside may be the only one that is left.
    let aside = make(".partial-bridge-7-1", BRIDGE_FILE);
    let path = written(folder.path(), &bridge("orthogonal"));
    assert!(!abandoned.exists() && aside.exists());
    assert_eq!(fs::read_dir(&path).unwrap().count(), 2);
}

#[test]
fn missing_and_foreign_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let message = |path: &Path| Bridge::read(path).unwrap_err().to_string();
    assert!(message(&folder.path().join("none")).contains("none"));
    let path = written(folder.path(), &bridge("orthogonal"));
    let weights = fs::read(path.join(WEIGHTS_FILE)).unwrap();
    fs::write(path.join(WEIGHTS_FILE), &weights[..weights.len() - 1]).unwrap();
    assert!(message(&path).contains("SHA-256"), "{}", message(&path));
    fs::write(path.join(WEIGHTS_FILE), vec![0; 1 << 20]).unwrap();
    assert!(message(&path).contains("limit"), "{}", message(&path));
    fs::remove_file(path.join(WEIGHTS_FILE)).unwrap();
    assert!(message(&path).contains(WEIGHTS_FILE));
}

/// Weights whose hash is right and whose content is not.
fn with_weights(folder: &Path, bytes: &[u8]) -> Result<Bridge, BridgeError> {
    let text = fs::read_to_string(folder.join(BRIDGE_FILE)).unwrap();
    let text: Vec<String> = text
        .lines()
        .map(|line| match line.starts_with("weights_sha256") {
            true => format!("weights_sha256 = \"{}\"", perennial_core::sha256_hex(bytes)),
            false => line.to_owned(),
        })
        .collect();
    fs::write(folder.join(BRIDGE_FILE), text.join("\n")).unwrap();
    fs::write(folder.join(WEIGHTS_FILE), bytes).unwrap();
    Bridge::read(folder)
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), &bridge("orthogonal"));
    let good = fs::read(path.join(WEIGHTS_FILE)).unwrap();
    assert!(with_weights(&path, &good).is_ok());
    let mut nan = good.clone();
    let end = nan.len();
    nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(
        with_weights(&path, &nan)
            .unwrap_err()
            .to_string()
            .contains("not finite")
    );
    let other = written(&folder.path().join("."), &bridge("centring"));
    let fewer = fs::read(other.join(WEIGHTS_FILE)).unwrap();
    let path = folder.path().join("b2");
    bridge("orthogonal").write(&path).unwrap();
    assert!(
        with_weights(&path, &fewer)
            .unwrap_err()
            .to_string()
            .contains("tensors")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_weights_give_errors_or_a_bridge(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut: prop::sample::Index) {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), &bridge("ridge"));
        let mut bytes = fs::read(path.join(WEIGHTS_FILE)).unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(bridge) = with_weights(&path, &bytes) {
            let mut out = Vec::new();
            let _ = bridge.apply(&[1.0; 5], &mut out);
        }
        bytes.truncate(cut.index(bytes.len()));
        prop_assert!(with_weights(&path, &bytes).is_err());
    }
}

#[test]
fn recipes_are_kept_with_their_parameters() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), &bridge("whitened:0.25,1"));
    let recipe = Bridge::read(path).unwrap().parts()[0].recipe;
    assert_eq!(
        recipe,
        Recipe::Whitened {
            shrinkage: 0.25,
            power: 1.0
        }
    );
}

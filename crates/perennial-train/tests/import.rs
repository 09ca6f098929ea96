//! Checkpoints as PyTorch's tools write them, made by `testdata/checkpoints/make.py`.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use perennial_core::Simplex;
use perennial_train::import::{
    CheckpointFile, Description, ImportError, network_options, read_checkpoint,
};
use perennial_train::network::{BackboneKind, NetworkConfig, Stem};
use perennial_train::state_dict::to_safetensors;
use perennial_train::{StateDict, WeightsError};
use proptest::prelude::*;

fn checkpoint(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/checkpoints");
    folder.join(name)
}

fn open(name: &str) -> CheckpointFile {
    CheckpointFile::open(&checkpoint(name)).unwrap()
}

const SMALL: NetworkConfig = NetworkConfig {
    backbone: BackboneKind::Small,
    stem: Stem::Imagenet,
    width: 2,
};

fn weights(file: &CheckpointFile, key: Option<&str>) -> Result<StateDict, ImportError> {
    file.select(key)?.weights(&SMALL, 3, None)
}

fn message(result: Result<impl Sized, ImportError>) -> String {
    match result {
        Ok(_) => panic!("taken"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_wrapping_gives_the_weights_of_the_plain_file() {
    let plain = weights(&open("plain.pt"), None).unwrap();
    assert_eq!(plain.len(), 22);
    for (name, key, place) in [
        ("plain.pt", Some("."), "."),
        ("legacy.pt", None, "."),
        ("whole_model.pt", None, "."),
        ("imagenet_example.pth.tar", None, "state_dict"),
        ("imagenet_example.pth.tar", Some("state_dict"), "state_dict"),
        (
            "imagenet_example.pth.tar",
            Some("state_dict.module"),
            "state_dict",
        ),
        ("averaged.pth", Some("model"), "model"),
        ("lightning.ckpt", None, "state_dict.model"),
        ("lightning.ckpt", Some("state_dict"), "state_dict.model"),
        ("compiled.pth", None, "."),
        ("compiled_parallel.pth", None, "net"),
        ("parallel_compiled.pth", None, "checkpoint.student"),
        (
            "parallel_compiled.pth",
            Some("checkpoint"),
            "checkpoint.student",
        ),
        ("float64.pt", None, "."),
        ("float16.pt", None, "."),
        ("bfloat16.pt", None, "."),
        ("calls.pt", None, "state_dict"),
    ] {
        let file = open(name);
        let selection = file.select(key).unwrap();
        assert_eq!(selection.key, place, "{name}");
        assert_eq!(selection.counters.len(), 4, "{name}");
        let inferred = selection.infer().unwrap();
        assert_eq!((inferred.network, inferred.channels), (SMALL, 3), "{name}");
        assert_eq!(inferred.classifier_rows, Some(4), "{name}");
        assert!(selection.simplex().unwrap().is_none());
        let found = selection.weights(&inferred.network, 3, None).unwrap();
        assert_eq!(found, plain, "{name}");
    }
    assert!(!Path::new("executed").exists() && !checkpoint("executed").exists());
}

#[test]
fn what_is_left_out_is_known() {
    let file = open("lightning.ckpt");
    assert_eq!(
        file.select(None).unwrap().left_out,
        ["state_dict.criterion.weight"]
    );
    let file = open("imagenet_example.pth.tar");
    assert!(
        file.select(None).unwrap().left_out.is_empty(),
        "momentum is not counted"
    );
}

#[test]
fn of_several_networks_one_has_to_be_named() {
    let file = open("averaged.pth");
    let error = weights(&file, None).unwrap_err();
    assert!(matches!(error, ImportError::SeveralNetworks { .. }));
    assert!(
        error
            .to_string()
            .contains("model (22 tensors), model_ema (22 tensors); name one with --key"),
        "{error}"
    );
    let plain = weights(&file, Some("model")).unwrap();
    let averaged = weights(&file, Some("model_ema")).unwrap();
    for (name, tensor) in &plain {
        let halves: Vec<f32> = tensor.values.iter().map(|value| value / 2.0).collect();
        assert_eq!(averaged[name].values, halves, "{name}");
    }
    for key in ["ema", "optimizer", "model_em", "", "model.backbone.layers"] {
        let text = message(weights(&file, Some(key)));
        assert!(
            text.contains("available: model (22 tensors), model_ema"),
            "{text}"
        );
    }
}

#[test]
fn prefixes_in_safetensors_are_no_different() {
    let plain = weights(&open("plain.pt"), None).unwrap();
    let prefixed = |prefix: &str| -> StateDict {
        plain
            .iter()
            .map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone()))
            .collect()
    };
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, state: StateDict| {
        let path = folder.path().join(name);
        std::fs::write(&path, to_safetensors(&state, None).unwrap()).unwrap();
        CheckpointFile::open(&path).unwrap()
    };
    for prefix in [
        "",
        "module.",
        "_orig_mod.",
        "state_dict.model._orig_mod.module.",
        "encoder.",
    ] {
        let file = write("one.safetensors", prefixed(prefix));
        assert_eq!(weights(&file, None).unwrap(), plain, "{prefix}");
    }
    // Content decides, not the ending.
    let file = write(
        "model.bin",
        prefixed("ema.module.")
            .into_iter()
            .chain(prefixed(""))
            .collect(),
    );
    assert_eq!(weights(&file, Some("ema")).unwrap(), plain);
    assert_eq!(weights(&file, Some(".")).unwrap(), plain);
    assert!(message(weights(&file, None)).contains(". (22 tensors), ema (22 tensors)"));
}

#[test]
fn the_shapes_tell_the_network() {
    let inferred = |name: &str| open(name).select(None).unwrap().infer();
    let torchvision = open("resnet18_cifar_stem.pt");
    let selection = torchvision.select(None).unwrap();
    let found = selection.infer().unwrap();
    assert_eq!(
        network_options(&found.network),
        "--backbone resnet18 --stem cifar --width 1"
    );
    assert_eq!(found.classifier_rows, Some(10));
    let state = selection.weights(&found.network, 3, None).unwrap();
    let cifar = open("pytorch_cifar.pt");
    let same = cifar.select(None).unwrap();
    assert_eq!(same.weights(&found.network, 3, None).unwrap(), state);

    assert!(message(inferred("resnet34.pt")).contains("more than two blocks"));
    assert_eq!(inferred("grey.pt").unwrap().channels, 1);
}

#[test]
fn what_does_not_fit_is_counted_and_what_would_fit_is_named() {
    let file = open("plain.pt");
    let selection = file.select(None).unwrap();
    let wide = NetworkConfig { width: 4, ..SMALL };
    let text = message(selection.weights(&wide, 3, None));
    assert!(text.contains("of another shape (backbone.layers.0.conv.weight is [2, 3, 3, 3] and should be [4, 3, 3, 3]"), "{text}");
    assert!(
        text.ends_with("the file fits --backbone small --width 2"),
        "{text}"
    );
    let resnet = NetworkConfig {
        backbone: BackboneKind::Resnet18,
        ..SMALL
    };
    let text = message(selection.weights(&resnet, 3, None));
    assert!(
        text.contains("of its 102 tensors missing (backbone.bn1.bias,"),
        "{text}"
    );
    assert!(
        text.contains("20 not expected (backbone.layers.0.conv.weight"),
        "{text}"
    );
    let text = message(selection.weights(&SMALL, 3, Some(Simplex::new(17).unwrap())));
    assert!(
        text.contains("fc2.weight is not the 17-vertex simplex"),
        "{text}"
    );

    let file = open("resnet34.pt");
    let deep = NetworkConfig {
        backbone: BackboneKind::Resnet18,
        stem: Stem::Imagenet,
        width: 1,
    };
    let text = message(file.select(None).unwrap().weights(&deep, 3, None));
    assert!(
        text.contains("not expected (layer1.2.bn1.bias") && text.contains("ResNet-34"),
        "{text}"
    );
    let text = message(weights(&open("integers.pt"), None));
    assert!(
        text.contains("backbone.layers.0.conv.weight is I8"),
        "{text}"
    );
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/resnet18_w8.pt");
    let text = message(read_checkpoint(&golden, Some("state_dict")));
    assert!(
        text.contains("no network under the key \"state_dict\""),
        "{text}"
    );
}

#[test]
fn a_few_kilobytes_do_not_claim_gigabytes() {
    let started = std::fs::metadata(checkpoint("repeated.pt")).unwrap().len();
    assert!(started < 20_000);
    let text = message(
        CheckpointFile::open(&checkpoint("repeated.pt")).and_then(|file| {
            let selection = file.select(None)?;
            let network = selection.infer()?.network;
            selection.weights(&network, 3, None)
        }),
    );
    assert!(text.contains("declare") && text.contains("bytes"), "{text}");
}

#[test]
fn names_that_stand_for_two_tensors_are_refused() {
    let text = message(open("ambiguous.pt").select(None).map(|_| ()));
    assert!(
        text.contains("two of its tensors have the dotted name a.b.backbone.layers.0.norm.bias"),
        "{text}"
    );
}

#[test]
fn values_that_no_training_gives_are_refused_by_name() {
    let plain = weights(&open("plain.pt"), None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.safetensors");
    let refused = |name: &str, value: f32| {
        let mut state = plain.clone();
        *state.get_mut(name).unwrap().values.last_mut().unwrap() = value;
        let named: StateDict = state
            .into_iter()
            .map(|(name, tensor)| (format!("net.{name}"), tensor))
            .collect();
        std::fs::write(&path, to_safetensors(&named, None).unwrap()).unwrap();
        weights(&CheckpointFile::open(&path).unwrap(), None)
    };
    let variance = "backbone.layers.1.norm.running_var";
    let text = message(refused(variance, -1e-3));
    assert!(
        text.contains("tensor net.backbone.layers.1.norm.running_var holds the variance -0.001"),
        "{text}"
    );
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for name in [variance, "fc2.bias", "backbone.layers.0.conv.weight"] {
            let error = refused(name, value).unwrap_err();
            assert!(
                matches!(&error, ImportError::Weights(WeightsError::NotFinite { name: found }) if *found == format!("net.{name}")),
                "{error}"
            );
        }
    }
    assert!(refused(variance, 0.0).is_ok() && refused("fc2.bias", -3.0).is_ok());
}

#[cfg(unix)]
#[test]
fn a_pipe_is_no_checkpoint_and_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe.pt");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let (sender, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(message(CheckpointFile::open(&path))));
    let text = told.recv_timeout(std::time::Duration::from_secs(20));
    let text = text.expect("it waits for somebody who writes");
    assert!(text.contains("it is not a regular file"), "{text}");
}

#[test]
fn files_that_are_no_checkpoint_of_ours_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.pt");
    for bytes in [
        &b""[..],
        b"not a checkpoint",
        b"PK\x03\x04 cut off",
        b"\x80\x02}.",
    ] {
        std::fs::write(&path, bytes).unwrap();
        let text = message(CheckpointFile::open(&path));
        assert!(
            text.contains("file.pt is not a readable checkpoint"),
            "{text}"
        );
    }
    let other: StateDict = weights(&open("plain.pt"), None)
        .unwrap()
        .into_iter()
        .map(|(name, tensor)| (name.replace("layers", "blocks"), tensor))
        .collect();
    std::fs::write(&path, to_safetensors(&other, None).unwrap()).unwrap();
    let text = message(
        CheckpointFile::open(&path)
            .unwrap()
            .select(None)
            .map(|_| ()),
    );
    assert!(
        text.contains("holds 22 tensors (backbone.blocks.0.conv.weight,"),
        "{text}"
    );
}

#[test]
fn the_header_of_a_safetensors_file_and_files_beside_it_describe_the_input() {
    let plain = weights(&open("plain.pt"), None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let write = |metadata: &[(&str, &str)]| {
        let metadata: HashMap<String, String> = metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        std::fs::write(&path, to_safetensors(&plain, Some(metadata)).unwrap()).unwrap();
        Description::beside(&path, &CheckpointFile::open(&path).unwrap())
    };
    assert_eq!(write(&[("format", "pt")]), Description::default());
    std::fs::write(
        folder.path().join("config.json"),
        r#"{"num_classes": 4, "pretrained_cfg": {"input_size": [3, 48, 48], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}}"#,
    )
    .unwrap();
    let description = write(&[("format", "pt"), ("mean", "[0.7, 0.7, 0.7]")]);
    let mean = description.mean.unwrap();
    assert_eq!(mean.value, [0.7; 3]);
    assert_eq!(mean.source, "the header of the file");
    assert_eq!(description.size.unwrap().value, 48);
    assert_eq!(description.std.unwrap().source, "config.json");
    // Somebody else's model.toml says nothing about these weights.
    let toml = Path::new(env!("CARGO_MANIFEST_DIR")).join("../perennial-core/testdata/model.toml");
    std::fs::copy(toml, folder.path().join("model.toml")).unwrap();
    assert!(write(&[]).classifier.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn damaged_files_never_panic(
        name in prop::sample::select(vec!["averaged.pth", "legacy.pt", "lightning.ckpt", "whole_model.pt"]),
        at in any::<prop::sample::Index>(),
        cut in any::<bool>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = std::fs::read(checkpoint(name)).unwrap();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] = byte;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged.pt");
        std::fs::write(&path, bytes).unwrap();
        if let Ok(file) = CheckpointFile::open(&path) {
            for key in [None, Some("model"), Some("state_dict")] {
                if let Ok(selection) = file.select(key) {
                    let network = selection.infer().map_or(SMALL, |inferred| inferred.network);
                    let _ = selection.weights(&network, 3, None);
                }
            }
        }
    }
}

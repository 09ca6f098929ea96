//! torchvision's and timm's values for SENet-18, ResNet-50, RegNetY-400MF and the transformers: features in evaluation mode, features and
//! each gradient's length and one projection of it in a training step, on the fused and frozen paths, and RegNet and transformers in burn's
//! own operations as well. Weights follow from a formula of the tensors' names; see `testdata/backbones/make.py`.
#![allow(clippy::unwrap_used)]

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use perennial_train::Sgd;
use perennial_train::import::{CheckpointFile, backbone_shapes};
use perennial_train::network::{
    BACKBONES, BackboneKind, FrozenNetwork, Mode, Network, NetworkConfig, Path, Stem,
};
use perennial_train::state_dict::{
    StateDict, StateTensor, load_state_dict, state_dict, to_safetensors,
};
use serde_json::Value;

/// Uniform in -1 to 1, from the name and the place.
fn values(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let state = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (1..=count as u64).map(move |at| {
        let z = state.wrapping_add(at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let z = z ^ (z >> 31);
        (z >> 40) as f64 / f64::from(1 << 23) - 1.0
    })
}

/// Of the size that a network in use has.
fn weight(name: &str, shape: Vec<usize>) -> StateTensor {
    let count = shape.iter().product();
    let drawn = values(name, count);
    let values = match shape.len() {
        3 => drawn.map(|value| (0.5 * value) as f32).collect(),
        1 if name.ends_with("running_var") => {
            drawn.map(|value| (1.0 + 0.5 * value) as f32).collect()
        }
        // Branches that add little to their shortcuts, as `make.py` says.
        1 if name.ends_with("bn3.weight") => {
            drawn.map(|value| (0.25 + 0.05 * value) as f32).collect()
        }
        1 if name.ends_with("weight") => drawn.map(|value| (1.0 + 0.2 * value) as f32).collect(),
        1 => drawn.map(|value| (0.2 * value) as f32).collect(),
        _ => {
            let bound = (3.0 * shape[0] as f64 / count as f64).sqrt();
            drawn.map(|value| (value * bound) as f32).collect()
        }
    };
    StateTensor { shape, values }
}

fn weights(config: &NetworkConfig, input: [usize; 3]) -> StateDict {
    let shapes = backbone_shapes(config, input).into_iter();
    let of_official_name =
        |name: &str, shape| weight(name.strip_prefix("backbone.").unwrap(), shape);
    shapes
        .map(|(name, shape)| {
            let tensor = of_official_name(&name, shape);
            (name, tensor)
        })
        .collect()
}

fn host(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_into_vec::<f32>().unwrap()
}

fn floats(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(floats).collect(),
        other => vec![other.as_f64().unwrap()],
    }
}

/// The first features of every image.
fn first(features: &[f32], images: usize, shown: usize) -> Vec<f32> {
    let rows = features.chunks_exact(features.len() / images);
    rows.flat_map(|row| &row[..shown]).copied().collect()
}

fn assert_close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs();
        assert!(
            error <= tolerance * (1.0 + expected.abs()),
            "{what}[{at}]: {found} instead of {expected}"
        );
    }
}

/// A learning rate.
const RATE: f64 = 1024.0;

/// With the stem and the width that are taken where a configuration names none.
fn published(kind: BackboneKind) -> NetworkConfig {
    NetworkConfig {
        backbone: kind,
        stem: kind.entry().stem(None).unwrap(),
        width: kind.entry().default_width,
    }
}

fn matches(golden: &str, config: NetworkConfig, paths: &[Path]) {
    let golden: Value = serde_json::from_str(golden).unwrap();
    let side = golden["side"].as_u64().unwrap() as usize;
    let input = [3, side, side];
    let evaluated = floats(&golden["evaluated"]);
    let images = golden["evaluated"].as_array().unwrap().len();
    let shown = evaluated.len() / images;
    let state = weights(&config, input);
    let pixels: Vec<f32> = values("images", images * 3 * side * side)
        .map(|value| value as f32)
        .collect();
    let pixels = TensorData::new(pixels, [images, 3, side, side]);
    let device = Device::flex();
    let load = |device: &Device| {
        load_state_dict(Network::new(&config, input, None, 0, device), state.clone()).unwrap()
    };

    let network = load(&device);
    let features = golden["features"].as_u64().unwrap() as usize;
    assert_eq!(config.features(), features);
    for &path in paths {
        let images_on = Tensor::from_data(pixels.clone(), &device);
        let found = host(network.forward(images_on, Mode::Evaluate, path));
        assert_eq!(found.len(), images * features);
        let found = first(&found, images, shown);
        assert_close(&found, &evaluated, 1e-4, &format!("{path:?}"));
    }
    let frozen = FrozenNetwork::new(network, input, &device);
    let whole = host(frozen.forward(Tensor::from_data(pixels.clone(), &device)));
    assert_close(&first(&whole, images, shown), &evaluated, 1e-4, "frozen");
    // An image has the same features alone as among others.
    let one = pixels.as_slice::<f32>().unwrap()[..3 * side * side].to_vec();
    let one = TensorData::new(one, [1, 3, side, side]);
    let alone = host(frozen.forward(Tensor::from_data(one, &device)));
    assert_eq!(alone, whole[..features]);

    let tracked = device.clone().autodiff();
    for &path in paths {
        let network = load(&tracked);
        let images_on = Tensor::from_data(pixels.clone(), &tracked);
        let trained = network.forward(images_on, Mode::Train, path);
        let found = first(&host(trained.clone().inner()), images, shown);
        assert_close(
            &found,
            &floats(&golden["trained"]),
            1e-3,
            &format!("{path:?}, training"),
        );
        let direction: Vec<f32> = values("direction", images * features)
            .map(|value| value as f32)
            .collect();
        let direction = TensorData::new(direction, [images, features]);
        let loss = (trained * Tensor::from_data(direction, &tracked)).mean();
        let mut gradients = loss.backward();
        // Without momentum, the change of the parameters is a multiple of the gradient; a large one, next to which rounding is small.
        let after = state_dict(
            &Sgd::new(0.0, 0.0)
                .step(network, &mut gradients, RATE)
                .valid(),
        );
        let expected = golden["gradients"].as_object().unwrap();
        for (name, expected) in expected {
            let own = format!("backbone.{name}");
            let change: Vec<f64> = state[&own]
                .values
                .iter()
                .zip(&after[&own].values)
                .map(|(before, after)| (f64::from(*before) - f64::from(*after)) / RATE)
                .collect();
            let length = change.iter().map(|value| value * value).sum::<f64>().sqrt();
            let along: f64 = change
                .iter()
                .zip(values(&format!("along {name}"), change.len()))
                .map(|(value, along)| value * along)
                .sum();
            let expected = floats(expected);
            let what = format!("{path:?}, gradient of {name}");
            // Batch statistics of a few images carry rounding through all blocks down to the first layer: 0.7 % of the length on some processors.
            let tolerance = 1e-2 * expected[0] + 1e-6;
            assert!(
                (length - expected[0]).abs() <= tolerance,
                "{what}: {length} instead of {}",
                expected[0]
            );
            assert!(
                (along - expected[1]).abs() <= tolerance,
                "{what}: {along} instead of {} along a direction",
                expected[1]
            );
        }
    }
}

#[test]
fn senet18_matches_timm() {
    matches(
        include_str!("../testdata/backbones/senet18.json"),
        published(BackboneKind::Senet18),
        &[Path::Fused],
    );
}

#[test]
fn resnet50_matches_torchvision() {
    matches(
        include_str!("../testdata/backbones/resnet50.json"),
        published(BackboneKind::Resnet50),
        &[Path::Fused],
    );
}

#[test]
fn regnety400mf_matches_torchvision() {
    matches(
        include_str!("../testdata/backbones/regnety400mf.json"),
        published(BackboneKind::Regnety400mf),
        &[Path::Fused, Path::Plain],
    );
}

#[test]
fn vit6_matches_timm() {
    matches(
        include_str!("../testdata/backbones/vit6.json"),
        published(BackboneKind::Vit6),
        &[Path::Fused, Path::Plain],
    );
}

#[test]
fn vit12_matches_timm_on_larger_images() {
    let config = NetworkConfig {
        backbone: BackboneKind::Vit12,
        stem: Stem::Patch8,
        width: 64,
    };
    matches(
        include_str!("../testdata/backbones/vit12.json"),
        config,
        &[Path::Fused, Path::Plain],
    );
}

#[test]
fn every_backbone_embeds_alike_on_every_path() {
    let device = Device::flex();
    for entry in BACKBONES {
        for (stem, _) in entry.stems {
            let config = NetworkConfig {
                backbone: entry.kind,
                stem: *stem,
                width: 4.max(entry.width_step),
            };
            // Neither square nor a power of two, where the backbone can take it.
            let input = match entry.positions {
                Some(_) => [3, 32, 32],
                None => [3, 40, 24],
            };
            let network = Network::new(&config, input, Some(5), 7, &device);
            let [channels, height, width] = input;
            let pixels: Vec<f32> = values("pixels", 2 * channels * height * width)
                .map(|value| value as f32)
                .collect();
            let pixels = TensorData::new(pixels, [2, channels, height, width]);
            let images = || Tensor::from_data(pixels.clone(), &device);
            let [fused, plain] = [Path::Fused, Path::Plain]
                .map(|path| host(network.forward(images(), Mode::Evaluate, path)));
            let plain: Vec<f64> = plain.into_iter().map(f64::from).collect();
            assert_close(&fused, &plain, 1e-4, &format!("{config:?}, fused"));
            assert!(network.operations(input) > 0.0);
            let frozen = FrozenNetwork::new(network, input, &device);
            let found = host(frozen.forward(images()));
            assert_close(&found, &plain, 1e-4, &format!("{config:?}, frozen"));
        }
    }
}

#[test]
fn every_backbone_is_recognised_by_its_official_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for entry in BACKBONES {
        for (stem, kernel) in entry.stems {
            let config = NetworkConfig {
                backbone: entry.kind,
                stem: *stem,
                width: 4.max(entry.width_step),
            };
            let mut state: StateDict = weights(&config, [3, 64, 64])
                .into_iter()
                .map(|(name, tensor)| (name.replacen("backbone.", "state_dict.module.", 1), tensor))
                .collect();
            let head = entry.keys.heads[0];
            state.insert(
                format!("state_dict.module.{head}weight"),
                weight("head.weight", vec![5, config.features()]),
            );
            state.insert(
                format!("state_dict.module.{head}bias"),
                weight("head.bias", vec![5]),
            );
            std::fs::write(&path, to_safetensors(&state, None).unwrap()).unwrap();
            let file = CheckpointFile::open(&path).unwrap();
            let selection = file.select(None).unwrap();
            let found = selection.infer().unwrap();
            // Of stems with the same kernel, the first is taken.
            let (alike, _) = entry.stems.iter().find(|(_, side)| side == kernel).unwrap();
            let expected = NetworkConfig {
                stem: *alike,
                ..config
            };
            assert_eq!(found.network, expected);
            assert_eq!((found.channels, found.classifier_rows), (3, Some(5)));
            assert_eq!(selection.side(&config), entry.positions.map(|_| 64));
            let taken = selection.weights(&config, 3, None).unwrap();
            assert_eq!(taken.len(), state.len());
            assert!(selection.left_out.is_empty());
        }
    }
}

#[test]
fn every_backbone_trains_alike_on_both_paths() {
    let tracked = Device::flex().autodiff();
    for entry in BACKBONES {
        for (stem, _) in entry.stems {
            let config = NetworkConfig {
                backbone: entry.kind,
                stem: *stem,
                width: 4.max(entry.width_step),
            };
            // Maps of several positions at the end, because batch norm over few values amplifies rounding.
            let input = match (entry.positions, stem) {
                (Some(_), _) => [3, 32, 32],
                (None, Stem::Cifar) => [3, 32, 24],
                (None, _) => [3, 64, 48],
            };
            let state = weights(&config, input);
            let images = 4;
            let [channels, height, width] = input;
            let pixels: Vec<f32> = values("pixels", images * channels * height * width)
                .map(|value| value as f32)
                .collect();
            let pixels = TensorData::new(pixels, [images, channels, height, width]);
            let direction: Vec<f32> = values("direction", images * config.features())
                .map(|value| value as f32)
                .collect();
            let direction = TensorData::new(direction, [images, config.features()]);
            let [fused, plain] = [Path::Fused, Path::Plain].map(|path| {
                let network = Network::new(&config, input, None, 0, &tracked);
                let network = load_state_dict(network, state.clone()).unwrap();
                let images = Tensor::from_data(pixels.clone(), &tracked);
                let trained = network.forward(images, Mode::Train, path);
                let loss = (trained * Tensor::from_data(direction.clone(), &tracked)).mean();
                let mut gradients = loss.backward();
                let after = Sgd::new(0.0, 0.0).step(network, &mut gradients, RATE);
                state_dict(&after.valid())
            });
            for (name, before) in &state {
                let length = |values: &mut dyn Iterator<Item = f64>| {
                    values.map(|value| value * value).sum::<f64>().sqrt()
                };
                let pairs = || fused[name].values.iter().zip(&plain[name].values);
                let apart = length(&mut pairs().map(|(a, b)| f64::from(*a) - f64::from(*b)));
                let moved = length(
                    &mut pairs()
                        .zip(&before.values)
                        .map(|((a, _), before)| f64::from(*a) - f64::from(*before)),
                );
                assert!(
                    apart <= 1e-2 * moved + 1e-3,
                    "{config:?}, {name}: {apart} apart after moving by {moved}"
                );
            }
        }
    }
}

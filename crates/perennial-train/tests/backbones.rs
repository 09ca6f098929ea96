//! torchvision's and timm's values for every backbone of theirs: features in evaluation mode on all paths, features and every
//! gradient of a training step. Weights follow from a formula of the tensors' names; see `testdata/backbones/make.py`.
#![allow(clippy::unwrap_used)]

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use perennial_train::Sgd;
use perennial_train::import::backbone_shapes;
use perennial_train::network::{
    BACKBONES, BackboneKind, FrozenNetwork, Mode, Network, NetworkConfig, Path,
};
use perennial_train::state_dict::{StateDict, StateTensor, load_state_dict, state_dict};
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

fn matches(golden: &str, kind: BackboneKind) {
    let golden: Value = serde_json::from_str(golden).unwrap();
    let entry = kind.entry();
    let side = golden["side"].as_u64().unwrap() as usize;
    let input = [3, side, side];
    let evaluated = floats(&golden["evaluated"]);
    let images = golden["evaluated"].as_array().unwrap().len();
    let shown = evaluated.len() / images;
    let config = NetworkConfig {
        backbone: kind,
        stem: entry.stem(None).unwrap(),
        width: entry.default_width,
    };
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
    for path in [Path::Fused, Path::Plain] {
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
    for path in [Path::Fused, Path::Plain] {
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
        // With a learning rate of 1 and no momentum, the change of the parameters is the gradient.
        let after = state_dict(
            &Sgd::new(0.0, 0.0)
                .step(network, &mut gradients, 1.0)
                .valid(),
        );
        let expected = golden["gradients"].as_object().unwrap();
        for (name, expected) in expected {
            let own = format!("backbone.{name}");
            let change: Vec<f64> = state[&own]
                .values
                .iter()
                .zip(&after[&own].values)
                .map(|(before, after)| f64::from(*before) - f64::from(*after))
                .collect();
            let length = change.iter().map(|value| value * value).sum::<f64>().sqrt();
            let along: f64 = change
                .iter()
                .zip(values(&format!("along {name}"), change.len()))
                .map(|(value, along)| value * along)
                .sum();
            let expected = floats(expected);
            let what = format!("{path:?}, gradient of {name}");
            // Weights are of the order of 1, so that their changes are known to 1e-7 each.
            let rounding = 1e-7 * (change.len() as f64).sqrt();
            let tolerance = 5e-3 * expected[0] + rounding + 1e-7;
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
        BackboneKind::Senet18,
    );
}

#[test]
fn resnet50_matches_torchvision() {
    matches(
        include_str!("../testdata/backbones/resnet50.json"),
        BackboneKind::Resnet50,
    );
}

#[test]
fn regnety400mf_matches_torchvision() {
    matches(
        include_str!("../testdata/backbones/regnety400mf.json"),
        BackboneKind::Regnety400mf,
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

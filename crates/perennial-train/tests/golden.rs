//! PyTorch's values: a ResNet-18's features, losses, parameters and running statistics; the losses and their gradients.
#![allow(clippy::unwrap_used)]

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use perennial_core::{Simplex, VertexEnd};
use perennial_data::Batch;
use perennial_train::class_scores::TaskClasses;
use perennial_train::config::TrainingConfig;
use perennial_train::earlier::{Earlier, EarlierModel};
use perennial_train::import::{read_checkpoint, take_simplex_classifier};
use perennial_train::losses::{Masking, contrastive};
use perennial_train::network::{
    BackboneKind, FrozenNetwork, Mode, Network, NetworkConfig, Path, Stem,
};
use perennial_train::objective::{Hoc, SameClass};
use perennial_train::state_dict::{load_state_dict, state_dict};
use perennial_train::{Learner, StateDict, StepSums, WeightsError};
use serde_json::Value;

fn testdata(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(name)
}

fn golden(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(testdata(name)).unwrap()).unwrap()
}

fn floats(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(items) => items.iter().flat_map(floats).collect(),
        other => vec![other.as_f64().unwrap() as f32],
    }
}

fn integers(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item.as_u64().unwrap() as u32)
        .collect()
}

fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(
            error <= tolerance * (1.0 + expected.abs()),
            "{what}[{at}]: {found} instead of {expected}"
        );
    }
}

fn checkpoint() -> StateDict {
    let mut state = read_checkpoint(&testdata("resnet18_w8.pt"), None).unwrap();
    take_simplex_classifier(&mut state, Simplex::new(12).unwrap()).unwrap();
    state
}

fn network(device: &Device) -> Network {
    let config = NetworkConfig {
        backbone: BackboneKind::Resnet18,
        stem: Stem::Imagenet,
        width: 8,
    };
    load_state_dict(
        Network::new(&config, [3, 32, 32], Some(11), 0, device),
        checkpoint(),
    )
    .unwrap()
}

fn host(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_into_vec::<f32>().unwrap()
}

fn images(values: &[f32], device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values.to_vec(), [6, 3, 32, 32]), device)
}

#[test]
fn features_in_evaluation_mode_match_pytorch_on_every_path() {
    let golden = golden("resnet18_w8.json");
    let device = Device::flex();
    let network = network(&device);
    for path in [Path::Fused, Path::Plain] {
        let found = host(network.forward(
            images(&floats(&golden["input"]), &device),
            Mode::Evaluate,
            path,
        ));
        assert_close(
            &found,
            &floats(&golden["eval_features"]),
            2e-5,
            &format!("{path:?}"),
        );
    }
    let frozen = FrozenNetwork::new(network, [3, 32, 32], &device);
    let input = floats(&golden["input"]);
    let whole = host(frozen.forward(images(&input, &device)));
    assert_close(&whole, &floats(&golden["eval_features"]), 2e-5, "frozen");
    // One image alone goes through tiles that join positions, and must come out as it does among others.
    let one = TensorData::new(input[..3 * 32 * 32].to_vec(), [1, 3, 32, 32]);
    let alone = host(frozen.forward(Tensor::from_data(one, &device)));
    assert_eq!(alone, whole[..alone.len()]);
}

#[test]
fn three_training_steps_match_pytorch() {
    let golden = golden("resnet18_w8.json");
    let device = Device::flex();
    let tracked = device.clone().autodiff();
    let objective = Hoc {
        vertices: 12,
        ..Hoc::default()
    };
    let training = TrainingConfig {
        momentum: 0.9,
        weight_decay: 5e-4,
        ..Default::default()
    };
    let frozen = FrozenNetwork::new(network(&device), [3, 32, 32], &device);
    let earlier = EarlierModel::new(frozen);
    let mut learner = Learner::new(
        network(&tracked),
        Box::new(objective),
        TaskClasses::first_task(VertexEnd::Back, 12),
        &training,
        tracked,
    );
    let batch = Batch {
        pixels: floats(&golden["input"]),
        other_view: None,
        labels: integers(&golden["labels"]),
        images: 6,
    };
    let mut losses = Vec::new();
    for _ in 0..3 {
        let mut sums = StepSums::default();
        learner.step(&batch, [3, 32, 32], Some(&earlier), 0.005, &mut sums);
        losses.push((sums.take().unwrap().loss / 6.0) as f32);
    }
    assert_close(&losses, &floats(&golden["losses"]), 2e-4, "losses");

    let trained = learner.network().valid();
    let found = host(trained.forward(
        images(&floats(&golden["input"]), &device),
        Mode::Evaluate,
        Path::Fused,
    ));
    assert_close(
        &found,
        &floats(&golden["features_after"]),
        2e-3,
        "features after three steps",
    );

    let state = state_dict(&trained);
    for (name, expected) in golden["state_after"].as_object().unwrap() {
        let values = &state
            .get(name)
            .unwrap_or_else(|| panic!("no tensor {name}"))
            .values;
        let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
        let length = values
            .iter()
            .map(|&value| f64::from(value).powi(2))
            .sum::<f64>()
            .sqrt();
        assert_close(
            &[sum as f32],
            &floats(&expected["sum"]),
            5e-4,
            &format!("sum of {name}"),
        );
        assert_close(
            &[length as f32],
            &floats(&expected["l2"]),
            1e-4,
            &format!("length of {name}"),
        );
        let head = floats(&expected["head"]);
        assert_close(
            &values[..head.len()],
            &head,
            2e-4,
            &format!("head of {name}"),
        );
    }
}

#[test]
fn fused_and_plain_paths_train_alike() {
    let golden = golden("resnet18_w8.json");
    let tracked = Device::flex().autodiff();
    let gradients = [Path::Fused, Path::Plain].map(|path| {
        let network = network(&tracked);
        let input = images(&floats(&golden["input"]), &tracked);
        let loss = network.forward(input, Mode::Train, path).square().mean();
        let mut gradients = loss.backward();
        let mut sgd = perennial_train::Sgd::new(0.0, 0.0);
        let before = state_dict(&network.valid());
        // With a learning rate of 1 and no momentum, the change of the parameters is the gradient.
        let after = state_dict(&sgd.step(network, &mut gradients, 1.0).valid());
        (before, after)
    });
    for (name, start) in &gradients[0].0 {
        let change = |(_, after): &(StateDict, StateDict)| -> Vec<f32> {
            after[name]
                .values
                .iter()
                .zip(&start.values)
                .map(|(after, before)| after - before)
                .collect()
        };
        assert_close(&change(&gradients[0]), &change(&gradients[1]), 2e-4, name);
    }
}

#[test]
fn checkpoints_are_taken_strictly() {
    let device = Device::flex();
    let config = NetworkConfig {
        backbone: BackboneKind::Resnet18,
        stem: Stem::Imagenet,
        width: 8,
    };
    let fresh = || Network::new(&config, [3, 32, 32], Some(11), 0, &device);

    let mut state = checkpoint();
    state.remove("backbone.layer3.0.downsample.1.bias").unwrap();
    let error = load_state_dict(fresh(), state).unwrap_err();
    assert!(
        matches!(&error, WeightsError::Mismatch(found) if found.missing == ["backbone.layer3.0.downsample.1.bias"]),
        "{error}"
    );

    let mut state = checkpoint();
    let extra = state["fc1.weight"].clone();
    state.insert("fc9.weight".into(), extra);
    let error = load_state_dict(fresh(), state).unwrap_err();
    assert!(
        matches!(&error, WeightsError::Mismatch(found) if found.unexpected == ["fc9.weight"]),
        "{error}"
    );

    let wide = NetworkConfig {
        width: 16,
        ..config
    };
    let error = load_state_dict(
        Network::new(&wide, [3, 32, 32], Some(11), 0, &device),
        checkpoint(),
    )
    .unwrap_err();
    assert!(
        matches!(&error, WeightsError::Mismatch(found) if !found.misshapen.is_empty()),
        "{error}"
    );

    let mut state = checkpoint();
    state.get_mut("fc1.weight").unwrap().values[0] = f32::NAN;
    let error = load_state_dict(fresh(), state).unwrap_err();
    assert!(
        matches!(&error, WeightsError::NotFinite { name } if name == "fc1.weight"),
        "{error}"
    );

    let mut state = read_checkpoint(&testdata("resnet18_w8.pt"), None).unwrap();
    let error = take_simplex_classifier(&mut state, Simplex::new(13).unwrap()).unwrap_err();
    assert!(matches!(error, WeightsError::NotSimplex { .. }), "{error}");
}

/// Holds a loss and its gradient against the golden ones.
fn assert_loss(loss: Tensor<1>, new: &Tensor<2>, expected: &Value, name: &str) {
    let gradients = loss.backward();
    assert_close(
        &[loss.into_scalar::<f32>()],
        &floats(&expected["loss"]),
        1e-5,
        name,
    );
    assert_close(
        &host(new.grad(&gradients).unwrap()),
        &floats(&expected["grad_new"]),
        1e-5,
        name,
    );
}

#[test]
fn contrastive_term_and_its_gradient_match_the_golden_values() {
    let device = Device::flex().autodiff();
    for case in golden("hoc_contrastive.json")["cases"].as_array().unwrap() {
        let labels = integers(&case["labels"]);
        let matrix = |value: &Value| {
            let values = floats(value);
            let dim = values.len() / labels.len();
            Tensor::<2>::from_data(TensorData::new(values, [labels.len(), dim]), &device)
        };
        for (name, masking) in [("excluded", Masking::Excluded), ("zeroed", Masking::Zeroed)] {
            let new = matrix(&case["features_new"]).require_grad();
            let old = matrix(&case["features_old"]);
            let loss = contrastive(
                new.clone(),
                old,
                &labels,
                case["mu"].as_f64().unwrap(),
                masking,
            );
            assert_loss(loss, &new, &case["masking"][name], name);
        }
    }
}

#[test]
fn hoc_objective_and_its_gradient_match_the_golden_values() {
    let device = Device::flex().autodiff();
    for case in golden("hoc_objective.json")["cases"].as_array().unwrap() {
        let classes = case["classes"].as_u64().unwrap() as usize;
        let labels = integers(&case["labels"]);
        let matrix = |value: &Value| {
            let shape = [labels.len(), classes - 1];
            Tensor::<2>::from_data(TensorData::new(floats(value), shape), &device)
        };
        for (name, masking) in [
            ("excluded", SameClass::Excluded),
            ("zeroed", SameClass::Zeroed),
        ] {
            let objective = Hoc {
                vertices: classes,
                lambda: case["lambda"].as_f64().unwrap(),
                mu: case["mu"].as_f64().unwrap(),
                masking,
                ..Hoc::default()
            };
            let config = NetworkConfig {
                backbone: BackboneKind::Small,
                stem: Stem::Imagenet,
                width: 1,
            };
            let network = Network::new(&config, [3, 32, 32], Some(classes - 1), 0, &device);
            let learner = Learner::new(
                network,
                Box::new(objective),
                TaskClasses::first_task(VertexEnd::Back, classes),
                &TrainingConfig::default(),
                device.clone(),
            );
            let new = matrix(&case["features_new"]).require_grad();
            let old = matrix(&case["features_old"]).inner();
            let (loss, _) = learner.loss(new.clone(), Some(Earlier::from_embeddings(old)), &labels);
            assert_loss(loss, &new, &case["hoc"][name], name);
        }
    }
}

#[test]
fn a_batch_of_one_class_gives_a_finite_contrastive_term() {
    let device = Device::flex().autodiff();
    for masking in [Masking::Excluded, Masking::Zeroed] {
        let new = Tensor::<2>::from_data([[1.0_f32, 2.0], [3.0, -1.0]], &device).require_grad();
        let old = Tensor::<2>::from_data([[0.5_f32, 1.0], [-3.0, 1.0]], &device);
        let loss = contrastive(new.clone(), old, &[4, 4], 10.0, masking);
        let gradients = loss.backward();
        assert_eq!(loss.into_scalar::<f32>(), 0.0);
        assert!(
            host(new.grad(&gradients).unwrap())
                .iter()
                .all(|gradient| *gradient == 0.0)
        );
    }
}

//! Networks that were trained here, exported as ONNX graphs, and imported again.

use perennial_core::{
    Classifier, ClassifierKind, EmbeddingSource, ModelVersion, Preprocessing, Registry, Role,
    TrainedNetwork, VersionDraft, VersionEncoder, VertexEnd,
};
use perennial_encode::{Encoder, GraphRuntime, Input, OutsideModel};
use perennial_train::network::{BACKBONES, Network, NetworkConfig, Stem};
use perennial_train::state_dict::{
    StateDict, StateTensor, from_safetensors, state_dict, to_safetensors,
};
use perennial_train::{Device, TrainedEncoder, architecture, now};
use serde_json::{Value, json};

use crate::bench::Bench;

/// Numbers in 0 to 1 that depend on the place alone.
fn drawn(seed: u64, at: usize) -> f32 {
    let mixed = (seed + 1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add((at as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9));
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1 << 24) as f32
}

/// A network whose norms, biases and statistics are not those of its start.
fn state(config: &NetworkConfig, input: [usize; 3], dim: Option<usize>) -> StateDict {
    let mut state = state_dict(&Network::new(config, input, dim, 5, &Device::flex()));
    for (seed, (name, tensor)) in state.iter_mut().enumerate() {
        if tensor.shape.len() != 1 {
            continue;
        }
        for (at, value) in tensor.values.iter_mut().enumerate() {
            let draw = drawn(seed as u64, at) - 0.5;
            *value = match name.ends_with("weight") || name.ends_with("running_var") {
                true => 1.0 + 0.6 * draw,
                false => 0.4 * draw,
            };
        }
    }
    state
}

fn publish(
    registry: &Registry,
    config: &NetworkConfig,
    input: [usize; 3],
    dim: Option<usize>,
    centred: bool,
) -> ModelVersion {
    let mut state = state(config, input, dim);
    let size = dim.unwrap_or(config.features());
    if centred {
        let mean = (0..size).map(|at| 0.3 * (drawn(77, at) - 0.5)).collect();
        let mean = StateTensor {
            shape: vec![size],
            values: mean,
        };
        state.insert("embedding_mean".to_owned(), mean);
    }
    let draft = VersionDraft {
        dim: size,
        encoder: VersionEncoder::Network(TrainedNetwork {
            architecture: architecture(config, input),
            preprocessing: Preprocessing {
                mean: vec![0.5071, 0.4867, 0.4408][..input[0]].to_vec(),
                std: vec![0.2675, 0.2565, 0.2761][..input[0]].to_vec(),
            },
            classifier: Classifier {
                kind: match dim {
                    Some(_) => ClassifierKind::Simplex,
                    None => ClassifierKind::Linear,
                },
                vertices: dim.map(|dim| dim + 1),
                vertex_end: dim.map(|_| VertexEnd::Front),
                skipped_vertices: 0,
                classes: 0,
                pretrained_classes: 0,
            },
        }),
        centred,
        parent: None,
        role: Role::Pretrained,
        method: "none".to_owned(),
        data: "random weights".to_owned(),
        seed: 5,
        created: now(),
    };
    registry
        .publish(draft, &to_safetensors(&state, None).unwrap())
        .unwrap()
}

/// The largest difference between embeddings of the network here and of its graph, over random pictures of the network's size.
fn difference(bench: &Bench, version: &ModelVersion) -> f32 {
    let registry = Registry::open(bench.path("registry")).unwrap();
    let file = format!("{}/model.onnx", version.name);
    std::fs::create_dir_all(bench.path(&version.name)).unwrap();
    let exported = bench.answer(&["models", "export", &version.name, "--onnx", &file]);
    assert_eq!(
        (&exported["onnx"], &exported["dim"]),
        (&json!(file), &json!(version.dim))
    );
    let imported = bench.answer(&["models", "import", &version.name, "--origin", "an export"]);
    assert_eq!(imported["dim"], version.dim);
    let again = registry.get(imported["version"].as_str().unwrap()).unwrap();
    let outside = again.outside().unwrap();
    let folder = registry.verified_folder(&again).unwrap();
    let graph = OutsideModel::load(
        &again.name,
        again.dim,
        outside,
        &folder,
        &GraphRuntime::Rten,
    )
    .unwrap();
    let network = TrainedEncoder::load(&registry, version.clone(), &Device::flex()).unwrap();
    let shape = version.network().unwrap().architecture.input;
    let pictures: Vec<Vec<u8>> = (0..3)
        .map(|seed| {
            (0..shape.iter().product())
                .map(|at| (drawn(seed, at) * 255.0) as u8)
                .collect()
        })
        .collect();
    let [one, other] = [&network as &dyn Encoder, &graph].map(|encoder| {
        let prepared: Vec<_> = pictures
            .iter()
            .map(|pixels| encoder.prepare(Input::Pixels { pixels, shape }).unwrap())
            .collect();
        encoder.encode(&prepared).unwrap()
    });
    assert_eq!(one.len(), 3 * version.dim);
    one.iter()
        .zip(&other)
        .map(|(one, other)| (one - other).abs())
        .fold(0.0, f32::max)
}

#[test]
fn every_backbone_embeds_alike_as_a_graph() {
    let bench = Bench::new();
    let registry = Registry::create(bench.path("registry")).unwrap();
    for entry in BACKBONES {
        for (at, &(stem, _)) in entry.stems.iter().enumerate() {
            let config = NetworkConfig {
                backbone: entry.kind,
                stem,
                width: if entry.positions.is_some() {
                    64
                } else {
                    8.max(entry.width_step)
                },
            };
            let side = if stem == Stem::Patch16 { 64 } else { 32 };
            // One with an embedding layer, the others without.
            let version = publish(
                &registry,
                &config,
                [3, side, side],
                (at == 0).then_some(15),
                false,
            );
            let largest = difference(&bench, &version);
            assert!(
                largest < 1e-5,
                "{} {}: {largest:e}",
                entry.name,
                stem.name()
            );
        }
    }
}

#[test]
fn a_bias_and_the_features_in_front_of_a_layer_are_exported() {
    let bench = Bench::new();
    let registry = Registry::create(bench.path("registry")).unwrap();
    let small = BACKBONES.iter().find(|entry| entry.name == "small");
    let config = NetworkConfig {
        backbone: small.unwrap().kind,
        stem: Stem::Imagenet,
        width: 4,
    };
    let plain = publish(&registry, &config, [3, 32, 32], Some(15), false);
    let bytes = registry.load_weights(&plain).unwrap();
    let mut weights = from_safetensors(&bytes, "test").unwrap();
    let bias = StateTensor {
        shape: vec![15],
        values: (0..15).map(|at| drawn(9, at) - 0.5).collect(),
    };
    weights.insert("fc1.bias".to_owned(), bias);
    let bytes = to_safetensors(&weights, None).unwrap();
    let biased = registry.publish(plain.draft(), &bytes).unwrap();
    let mut draft = plain.draft();
    draft.dim = config.features();
    draft.network_mut().unwrap().architecture.embedding = EmbeddingSource::Features;
    let features = registry.publish(draft, &bytes).unwrap();
    for version in [biased, features] {
        let largest = difference(&bench, &version);
        assert!(largest < 1e-5, "{}: {largest:e}", version.name);
        // Imported by its weights, it is the same.
        let file = format!("registry/{}/weights.safetensors", version.name);
        let again = bench.answer(&["models", "import", &file, "--classes", "3"]);
        let again = registry.get(again["version"].as_str().unwrap()).unwrap();
        assert_eq!(again.space().fingerprint, version.space().fingerprint);
        assert_eq!(again.dim, version.dim);
    }
}

#[test]
fn centring_is_in_the_graph_and_what_cannot_be_exported_is_refused() {
    let bench = Bench::new();
    let registry = Registry::create(bench.path("registry")).unwrap();
    let config = NetworkConfig {
        backbone: BACKBONES
            .iter()
            .find(|entry| entry.name == "small")
            .unwrap()
            .kind,
        stem: Stem::Imagenet,
        width: 8,
    };
    let centred = publish(&registry, &config, [3, 32, 32], None, true);
    let largest = difference(&bench, &centred);
    assert!(largest < 1e-5, "{largest:e}");

    // The imported one is a graph already.
    let ended = bench.run(&["models", "export", "v0002", "--onnx", "again.onnx"]);
    ended.assert_wrong_usage(&[
        "v0002 has the encoder of another program",
        "v0002/model.onnx",
    ]);
    // Files of others stay as they are; own ones are replaced.
    bench.write("notes.onnx", "notes");
    bench
        .run(&["models", "export", "v0001", "--onnx", "notes.onnx"])
        .assert_wrong_usage(&["notes.onnx", "Perennial wrote"]);
    assert_eq!(bench.read("notes.onnx"), "notes");
    bench.answer(&["models", "export", "v0001", "--onnx", "v0001/model.onnx"]);
    std::fs::create_dir_all(bench.path("mine")).unwrap();
    bench.write("mine/preprocessor_config.json", "{}");
    bench
        .run(&["models", "export", "v0001", "--onnx", "mine/model.onnx"])
        .assert_wrong_usage(&["mine/preprocessor_config.json", "a folder of its own"]);
    assert!(!bench.path("mine/model.onnx").exists());

    // The preparation would replace a graph of its name.
    bench
        .run(&[
            "models",
            "export",
            "v0001",
            "--onnx",
            "preprocessor_config.json",
        ])
        .assert_wrong_usage(&["preprocessor_config.json", "model.onnx"]);
    // Nothing is written beside a device.
    let exported = bench.answer(&["models", "export", "v0001", "--onnx", "/dev/null"]);
    assert_eq!(exported["preprocessor"], Value::Null);

    let grey = publish(&registry, &config, [1, 32, 32], None, false);
    std::fs::create_dir_all(bench.path("grey")).unwrap();
    let exported = bench.answer(&["models", "export", &grey.name, "--onnx", "grey/model.onnx"]);
    assert_eq!(
        (&exported["preprocessor"], &exported["input"]),
        (&Value::Null, &json!([1, 32, 32]))
    );
    assert!(!bench.path("grey/preprocessor_config.json").exists());
}

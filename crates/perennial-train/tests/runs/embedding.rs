//! What a version's embedding is: the features in front of the embedding layer; and a bias in that layer.

use std::path::Path;

use perennial_bridge::{Pairs, Recipe, fit_uncentred};
use perennial_core::{EmbeddingSource, ModelVersion, SpaceRef, dot, normalize_rows};
use perennial_encode::{Encoder, Input};
use perennial_train::config::Entry;
use perennial_train::network::{FrozenNetwork, Mode, Network, Path as LayerPath};
use perennial_train::state_dict::{from_safetensors, load_state_dict};
use perennial_train::{
    DeviceChoice, ExperimentConfig, Outcome, PretrainConfig, Silent, StateDict, TrainedEncoder,
    fold, network_config,
};

use burn::tensor::{Device, Tensor, TensorData};

use crate::bench::Bench;
use crate::methods::{VERTICES, bench, experiment, pretraining};

const FEATURES: usize = 32;

fn names(outcome: &Outcome) -> &[String] {
    match outcome {
        Outcome::Finished(names) => names,
        other => panic!("{other:?}"),
    }
}

fn state(bench: &Bench, version: &ModelVersion) -> StateDict {
    let bytes = bench.registry.load_weights(version).unwrap();
    from_safetensors(&bytes, "test").unwrap()
}

/// A version's unit embeddings of the images of a run.
fn embed(bench: &Bench, config: &ExperimentConfig, name: &str) -> Vec<f32> {
    let device = DeviceChoice::Cpu.open().unwrap();
    let set = config.data.load(Path::new("nowhere")).unwrap();
    let version = bench.registry.get(name).unwrap();
    let encoder = TrainedEncoder::load(&bench.registry, version, &device).unwrap();
    let prepare = |image: usize| {
        let (pixels, shape) = (set.image(image), set.shape());
        encoder.prepare(Input::Pixels { pixels, shape }).unwrap()
    };
    let prepared: Vec<_> = (0..set.len()).map(prepare).collect();
    encoder.encode(&prepared).unwrap()
}

fn with_features(name: &str, entry: Entry) -> ExperimentConfig {
    let mut config = experiment(name, "hoc");
    config.replacements[0].entry = Some(entry);
    config.embedding.source = EmbeddingSource::Features;
    config
}

/// Features as the backbone alone gives them, of one image after another.
fn features(bench: &Bench, config: &ExperimentConfig, version: &ModelVersion) -> Vec<f32> {
    let device = Device::flex();
    let set = config.data.load(Path::new("nowhere")).unwrap();
    let mut weights = state(bench, version);
    weights.retain(|name, _| !name.starts_with("fc"));
    let network = network_config(version).unwrap();
    let shape @ [channels, height, width] = set.shape();
    let backbone = Network::new(&network, shape, None, 0, &device);
    let backbone = load_state_dict(backbone, weights).unwrap();
    let frozen = FrozenNetwork::new(backbone, shape, &device);
    let preprocessing = config.preprocessing.build().unwrap();
    let mut rows: Vec<f32> = (0..set.len())
        .flat_map(|image| {
            let mut pixels = Vec::new();
            preprocessing.append(set.image(image), channels, &mut pixels);
            let pixels = TensorData::new(pixels, [1, channels, height, width]);
            let output = frozen.forward(Tensor::from_data(pixels, &device));
            output.into_data().try_into_vec::<f32>().unwrap()
        })
        .collect();
    normalize_rows(&mut rows, FEATURES).unwrap();
    rows
}

fn largest_difference(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    let pairs = one.iter().zip(other);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_run_that_embeds_by_features_trains_as_any_other_and_publishes_them() {
    let bench = bench();
    for entry in [Entry::Pretrained, Entry::Bridged] {
        let mut layer = with_features(&format!("layer-{entry:?}"), entry);
        layer.embedding.source = EmbeddingSource::Layer;
        let layer = bench.train(&layer, false, &mut Silent).unwrap();
        let config = with_features(&format!("features-{entry:?}"), entry);
        let whole = bench.train(&config, false, &mut Silent).unwrap();
        let stopped = with_features(&format!("stopped-{entry:?}"), entry);
        let stopped = bench.train_in_pieces(&stopped);
        // Losses see the layer: versions differ in what they give, not in what they are.
        assert_eq!(bench.weights(&layer), bench.weights(&whole), "{entry:?}");
        assert_eq!(bench.weights(&layer), bench.weights(&stopped), "{entry:?}");
        for (plain, name) in names(&layer).iter().zip(names(&whole)) {
            let [plain, version] = [plain, name].map(|name| bench.registry.get(name).unwrap());
            assert_eq!((plain.dim, version.dim), (VERTICES - 1, FEATURES));
            assert_ne!(plain.space().fingerprint, version.space().fingerprint);
            assert_eq!(version.simplex_vertices(), None);
            let text = version.to_toml();
            assert!(text.contains("embedding = \"features\""), "{text}");
            assert!(!plain.to_toml().contains("embedding ="));
            let found = embed(&bench, &config, name);
            let expected = features(&bench, &config, &version);
            let difference = largest_difference(&found, &expected);
            assert!(difference < 1e-5, "{difference}");
        }
    }
}

#[test]
fn features_are_centred_and_folded_into_a_layer_of_their_own() {
    let bench = bench();
    let mut config = with_features("centred", Entry::Bridged);
    config.replacements.clear();
    let plain = ExperimentConfig {
        name: "plain".into(),
        ..config.clone()
    };
    config.embedding.centre = true;
    let centred = bench.train(&config, false, &mut Silent).unwrap();
    let plain = bench.train(&plain, false, &mut Silent).unwrap();
    for (centred, plain) in names(&centred).iter().zip(names(&plain)) {
        let version = bench.registry.get(centred).unwrap();
        let mean = state(&bench, &version)["embedding_mean"].clone();
        assert_eq!(mean.shape, [FEATURES]);
        let moved = embed(&bench, &config, plain);
        let moved = moved.chunks_exact(FEATURES).flat_map(|row| {
            let row: Vec<f32> = row.iter().zip(&mean.values).map(|(x, m)| x - m).collect();
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.into_iter().map(move |x| x / length)
        });
        let expected: Vec<f32> = moved.collect();
        let found = embed(&bench, &config, centred);
        assert!(largest_difference(&found, &expected) < 1e-5);
    }

    // A bridge from the features becomes the layer, in the place of the one that training had.
    let [older, newer] = [0, 1].map(|at| bench.registry.get(&names(&plain)[at]).unwrap());
    let [from, to] = [&newer, &older].map(|version| embed(&bench, &config, &version.name));
    let pairs = Pairs::new(&from, FEATURES, &to, FEATURES).unwrap();
    let bridge = fit_uncentred(&pairs, &Recipe::Orthogonal, newer.space(), older.space()).unwrap();
    let (draft, weights) = fold(&bench.registry, &newer, &bridge).unwrap();
    let folded = bench.registry.publish(draft, &weights).unwrap();
    let network = folded.network().unwrap();
    assert_eq!(network.architecture.embedding, EmbeddingSource::Layer);
    let mut mapped = Vec::new();
    bridge.apply(&from, &mut mapped).unwrap();
    let found = embed(&bench, &config, &folded.name);
    assert!(largest_difference(&found, &mapped) < 1e-5);
}

fn biased(name: &str, seed: u64) -> PretrainConfig {
    let mut config = pretraining(name, "simplex", seed);
    config.embedding.bias = true;
    config
}

fn with_bias(name: &str, start: &str) -> ExperimentConfig {
    let mut config = experiment(name, "hoc");
    config.initial_model = Some(start.into());
    config.embedding.bias = true;
    config
}

#[test]
fn a_bias_is_trained_kept_and_resumed() {
    let bench = bench();
    bench.pretrain(&biased("biased", 1)).unwrap();
    let start = bench.registry.get("biased").unwrap();
    let layer = state(&bench, &start)["fc1.bias"].clone();
    assert_eq!(layer.shape, [VERTICES - 1]);
    assert!(layer.values.iter().any(|value| value.abs() > 1e-4));

    // A start without a bias begins with zeros.
    for (start, entry) in [
        ("biased", Entry::Pretrained),
        ("simplex-start", Entry::Bridged),
    ] {
        let named = |run: &str| {
            let mut config = with_bias(&format!("{start}-{run}"), start);
            config.replacements[0].entry = Some(entry);
            config
        };
        let whole = bench.train(&named("whole"), false, &mut Silent).unwrap();
        let stopped = bench.train_in_pieces(&named("stopped"));
        assert_eq!(bench.weights(&whole), bench.weights(&stopped), "{start}");
        for name in names(&whole) {
            let version = bench.registry.get(name).unwrap();
            let bias = &state(&bench, &version)["fc1.bias"];
            assert!(bias.values.iter().any(|value| value.abs() > 1e-4));
        }
    }
}

#[test]
fn a_network_with_a_bias_embeds_alike_everywhere_and_is_bridged_with_it() {
    let bench = bench();
    bench.pretrain(&biased("biased", 3)).unwrap();
    let version = bench.registry.get("biased").unwrap();
    let mut weights = state(&bench, &version);
    for (at, value) in weights
        .get_mut("fc1.bias")
        .unwrap()
        .values
        .iter_mut()
        .enumerate()
    {
        *value = 0.3 * ((at % 5) as f32 - 1.5);
    }
    let bytes = perennial_train::state_dict::to_safetensors(&weights, None).unwrap();
    let version = bench.registry.publish(version.draft(), &bytes).unwrap();
    bench.registry.set_alias("shifted", &version.name).unwrap();

    let mut config = with_bias("still", "simplex-start");
    let set = config.data.load(Path::new("nowhere")).unwrap();
    let device = Device::flex();
    let network = network_config(&version).unwrap();
    let shape @ [channels, height, width] = set.shape();
    let network = Network::new(&network, shape, Some(VERTICES - 1), 0, &device);
    let network = load_state_dict(network.with_embedding_bias(), weights).unwrap();
    let mut pixels = Vec::new();
    let preprocessing = config.preprocessing.build().unwrap();
    preprocessing.append(set.image(0), channels, &mut pixels);
    let images = Tensor::from_data(
        TensorData::new(pixels, [1, channels, height, width]),
        &device,
    );
    let found = embed(&bench, &config, &version.name);
    for path in [LayerPath::Fused, LayerPath::Plain] {
        let output = network.forward(images.clone(), Mode::Evaluate, path);
        let mut row = output.into_data().try_into_vec::<f32>().unwrap();
        normalize_rows(&mut row, VERTICES - 1).unwrap();
        let difference = largest_difference(&row, &found[..VERTICES - 1]);
        assert!(difference < 1e-5, "{path:?}: {difference}");
    }

    // All of the start's weights and statistics are kept: what is measured is the map.
    config.training.start_share = Some(1.0);
    config.replacements[0].model = "shifted".into();
    config.replacements[0].entry = Some(Entry::Bridged);
    let outcome = bench.train(&config, false, &mut Silent).unwrap();
    let [before, after] = [1, 2].map(|at| embed(&bench, &config, &names(&outcome)[at]));
    let pairs = before
        .chunks_exact(VERTICES - 1)
        .zip(after.chunks_exact(VERTICES - 1));
    let near = pairs.map(|(one, other)| dot(one, other)).sum::<f32>() / set.len() as f32;
    assert!(near > 0.6, "{near}");
    // The map is orthogonal: cosines within the new version are those of the replacement.
    for (a, b) in [(0, 1), (3, 40)] {
        let cosine = |rows: &[f32]| {
            let row = |at: usize| &rows[at * (VERTICES - 1)..][..VERTICES - 1];
            dot(row(a), row(b))
        };
        assert!((cosine(&found) - cosine(&after)).abs() < 1e-4);
    }

    // A bridge behind it is folded with the bias.
    let other = bench.registry.get(&names(&outcome)[0]).unwrap();
    let to = embed(&bench, &config, &other.name);
    let pairs = Pairs::new(&found, VERTICES - 1, &to, VERTICES - 1).unwrap();
    let spaces: [SpaceRef; 2] = [version.space(), other.space()];
    let [from, target] = spaces;
    let bridge = fit_uncentred(&pairs, &Recipe::Orthogonal, from, target).unwrap();
    let (draft, weights) = fold(&bench.registry, &version, &bridge).unwrap();
    let folded = bench.registry.publish(draft, &weights).unwrap();
    let mut mapped = Vec::new();
    bridge.apply(&found, &mut mapped).unwrap();
    let folded = embed(&bench, &config, &folded.name);
    assert!(largest_difference(&folded, &mapped) < 1e-5);
}

#[test]
fn what_cannot_work_names_its_key() {
    let bench = bench();
    bench.pretrain(&biased("biased", 1)).unwrap();
    let mut wide = pretraining("wide", "er", 3);
    wide.network.width = 8;
    bench.pretrain(&wide).unwrap();

    let refused = |config: &ExperimentConfig, key: &str| {
        let error = bench.train(config, false, &mut Silent).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(key), "{error}");
    };
    let mut er = experiment("er-features", "er");
    er.embedding.source = EmbeddingSource::Features;
    refused(&er, "`embedding.source`");
    let mut er = experiment("er-bias", "er");
    er.embedding.bias = true;
    refused(&er, "`embedding.bias`");
    let mut er = pretraining("er-pretrained", "er", 1);
    er.embedding.bias = true;
    let error = bench.pretrain(&er).unwrap_err().to_string();
    assert!(error.contains("`embedding.bias`"), "{error}");

    let mut without = with_bias("without", "biased");
    without.embedding.bias = false;
    refused(&without, "embedding.bias = true");
    let mut other_width = with_features("other-width", Entry::Bridged);
    other_width.replacements[0].model = "wide".into();
    refused(&other_width, "embedding.source");

    let text = "[embedding]\nsource = \"pixels\"";
    let table = toml::from_str::<std::collections::BTreeMap<String, toml::Value>>(text).unwrap();
    let error = table["embedding"]
        .clone()
        .try_into::<perennial_train::config::EmbeddingConfig>()
        .unwrap_err()
        .to_string();
    assert!(error.contains("`features`"), "{error}");
}

#[test]
fn keys_of_the_embedding_are_written_only_when_they_are_set() {
    // Runs recognise their configuration by the hash of this text.
    let mut config = experiment("a", "hoc");
    config.embedding.centre = true;
    let written = serde_json::to_value(&config).unwrap();
    assert_eq!(written["embedding"].to_string(), r#"{"centre":true}"#);
    config.embedding.source = EmbeddingSource::Features;
    config.embedding.bias = true;
    let text = toml::to_string(&config).unwrap();
    assert_eq!(toml::from_str::<ExperimentConfig>(&text).unwrap(), config);
}

//! Methods without a simplex on versions that a bridge was folded into: their embedding is a layer's output and not the features.

use perennial_bridge::{Pairs, Recipe, fit_uncentred};
use perennial_core::SpaceRef;
use perennial_encode::{Encoder, Input};
use perennial_train::objective::OBJECTIVES;
use perennial_train::{DeviceChoice, ExperimentConfig, Silent, TrainedEncoder, fold};

use crate::bench::Bench;
use crate::methods::{experiment, pretraining};

const FEATURES: usize = 32;
const DIM: usize = 5;

/// A registry with a pre-trained version, and with a bridge to another space folded into it.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.pretrain(&pretraining("plain", "er", 1)).unwrap();
    let plain = bench.registry.get("v0001").unwrap();
    let values = |count: usize| -> Vec<f32> {
        (0..count)
            .map(|at| ((at * at + 7 * at) as f32).sin())
            .collect()
    };
    let (from, to) = (values(64 * FEATURES), values(64 * DIM));
    let pairs = Pairs::new(&from, FEATURES, &to, DIM).unwrap();
    let recipe = Recipe::Ridge { penalty: 0.1 };
    let bridge = fit_uncentred(&pairs, &recipe, plain.space(), SpaceRef::unnamed(DIM)).unwrap();
    let (draft, weights) = fold(&bench.registry, &plain, &bridge).unwrap();
    let folded = bench.registry.publish(draft, &weights).unwrap();
    bench.registry.set_alias("folded", &folded.name).unwrap();
    bench
}

fn from_folded(kind: &str) -> ExperimentConfig {
    let mut config = experiment(kind, kind);
    config.initial_model = Some("folded".into());
    config.replacements.clear();
    config
}

#[test]
fn every_method_without_a_simplex_trains_on_and_keeps_the_dimensions() {
    let bench = bench();
    let device = DeviceChoice::Cpu.open().unwrap();
    let linear = OBJECTIVES
        .iter()
        .filter(|entry| entry.classifier() != "simplex");
    for entry in linear {
        let config = from_folded(entry.name);
        let outcome = bench.train(&config, false, &mut Silent).unwrap();
        let in_pieces = ExperimentConfig {
            name: format!("{}-in-pieces", entry.name),
            ..config.clone()
        };
        let in_pieces = bench.train_in_pieces(&in_pieces);
        assert!(bench.weights(&outcome) == bench.weights(&in_pieces));
        let images = config.data.load(std::path::Path::new("nowhere")).unwrap();
        for name in bench.versions(&outcome) {
            let version = bench.registry.get(&name).unwrap();
            assert_eq!(version.dim, DIM, "{}", entry.name);
            let encoder = TrainedEncoder::load(&bench.registry, version, &device).unwrap();
            let input = Input::Pixels {
                pixels: images.image(0),
                shape: images.shape(),
            };
            let embedding = encoder.encode(&[encoder.prepare(input).unwrap()]).unwrap();
            assert_eq!(embedding.len(), DIM);
        }
    }
}

#[test]
fn dimensions_are_compared_with_those_of_the_layer() {
    let bench = bench();
    let mut config = experiment("bct", "bct");
    config.initial_model = Some("plain".into());
    config.replacements[0].model = "folded".into();
    let error = bench.train(&config, false, &mut Silent).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("5 dimensions"), "{error}");

    config = experiment("er", "er");
    config.initial_model = Some("plain".into());
    config.replacements[0].model = "folded".into();
    let outcome = bench.train(&config, false, &mut Silent).unwrap();
    let dims: Vec<usize> = bench
        .versions(&outcome)
        .iter()
        .map(|name| bench.registry.get(name).unwrap().dim)
        .collect();
    assert_eq!(dims, [FEATURES, FEATURES, DIM]);
}

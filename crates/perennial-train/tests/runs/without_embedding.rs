//! Versions that give some images an embedding of zeros alone, as narrow networks do.

use perennial_core::ModelVersion;
use perennial_encode::{Encoder, Input};
use perennial_train::state_dict::{from_safetensors, to_safetensors};
use perennial_train::{DeviceChoice, ExperimentConfig, Silent, TrainedEncoder};

use crate::bench::Bench;
use crate::methods::{experiment, pretraining};

const FEATURES: usize = 32;

/// How many of a run's first two classes' images have no embedding.
fn missing(bench: &Bench, config: &ExperimentConfig, version: ModelVersion) -> [usize; 2] {
    let device = DeviceChoice::Cpu.open().unwrap();
    let set = config.data.load(std::path::Path::new("nowhere")).unwrap();
    let encoder = TrainedEncoder::load(&bench.registry, version, &device).unwrap();
    let prepare = |image: usize| {
        let (pixels, shape) = (set.image(image), set.shape());
        encoder.prepare(Input::Pixels { pixels, shape }).unwrap()
    };
    let prepared: Vec<_> = (0..24).map(prepare).collect();
    let rows = encoder.encode_with_missing(&prepared).unwrap();
    let zeros = |row: &&[f32]| row.iter().all(|&value| value == 0.0);
    let count = rows.chunks_exact(FEATURES).filter(zeros).count();
    [count, prepared.len()]
}

/// A version like `start` whose last layer gives zeros for some images and not for all.
fn publish_half_dead(bench: &Bench, config: &ExperimentConfig) {
    let start = bench
        .registry
        .get(&bench.registry.resolve("start").unwrap())
        .unwrap();
    let bytes = bench.registry.load_weights(&start).unwrap();
    let mut state = from_safetensors(&bytes, "test").unwrap();
    for _ in 0..400 {
        let shift = state.get_mut("backbone.layers.3.norm.bias").unwrap();
        shift.values.iter_mut().for_each(|value| *value -= 0.02);
        let weights = to_safetensors(&state, None).unwrap();
        let version = bench.registry.publish(start.draft(), &weights).unwrap();
        let [without, all] = missing(bench, config, version.clone());
        assert!(without < all, "all images are without an embedding");
        if without > 2 {
            bench
                .registry
                .set_alias("half-dead", &version.name)
                .unwrap();
            return;
        }
    }
    panic!("every image has an embedding");
}

#[test]
fn class_centres_leave_out_images_without_an_embedding() {
    let bench = Bench::new();
    bench.pretrain(&pretraining("start", "er", 1)).unwrap();
    let mut config = experiment("run", "lce");
    config.replacements.clear();
    publish_half_dead(&bench, &config);
    config.initial_model = Some("half-dead".into());
    for kind in ["lce", "cvs"] {
        config.name = kind.into();
        config.method = experiment(kind, kind).method;
        config.embedding.centre = true;
        let outcome = bench.train(&config, false, &mut Silent);
        assert_eq!(bench.versions(&outcome.unwrap()).len(), 3);
    }
}

//! Replacements that were never trained on the run's simplex.

use std::path::Path;

use perennial_core::{ClassifierKind, Role, dot};
use perennial_encode::{Encoder, Input};
use perennial_train::config::{Entry, PreprocessingConfig};
use perennial_train::network::NetworkConfig;
use perennial_train::{
    DeviceChoice, ExperimentConfig, Outcome, PretrainConfig, Silent, TrainedEncoder,
};

use crate::bench::Bench;
use crate::methods::{VERTICES, bench, experiment, pretraining};

/// `hoc`, whose last task starts from `model` by a bridge.
fn bridged(name: &str, model: &str) -> ExperimentConfig {
    let mut config = experiment(name, "hoc");
    config.replacements = toml::from_str::<std::collections::BTreeMap<String, Vec<_>>>(&format!(
        "replacements = [{{ before_task = 2, model = \"{model}\", entry = \"bridged\" }}]"
    ))
    .unwrap()
    .remove("replacements")
    .unwrap();
    config
}

fn finished(outcome: Outcome) -> Vec<String> {
    match outcome {
        Outcome::Finished(names) => names,
        other => panic!("{other:?}"),
    }
}

/// Mean cosine between the embeddings that two versions give to the images of a run.
fn likeness(bench: &Bench, config: &ExperimentConfig, one: &str, other: &str) -> f32 {
    let device = DeviceChoice::Cpu.open().unwrap();
    let set = config.data.load(Path::new("nowhere")).unwrap();
    let [one, other] = [one, other].map(|name| {
        let version = bench.registry.get(name).unwrap();
        let encoder = TrainedEncoder::load(&bench.registry, version, &device).unwrap();
        let prepare = |image: usize| {
            let (pixels, shape) = (set.image(image), set.shape());
            encoder.prepare(Input::Pixels { pixels, shape }).unwrap()
        };
        let prepared: Vec<_> = (0..set.len()).map(prepare).collect();
        encoder.encode(&prepared).unwrap()
    });
    let dim = VERTICES - 1;
    let pairs = one.chunks_exact(dim).zip(other.chunks_exact(dim));
    pairs.map(|(one, other)| dot(one, other)).sum::<f32>() / set.len() as f32
}

#[test]
fn any_network_replaces_one_on_the_simplex_and_the_run_resumes() {
    let bench = bench();
    let wide = PretrainConfig {
        network: NetworkConfig {
            width: 8,
            ..pretraining("a", "er", 0).network
        },
        ..pretraining("wide", "er", 3)
    };
    bench.pretrain(&wide).unwrap();
    // With a linear classifier, of another width, and on the same simplex but entering by a map all the same.
    for model in ["er-better", "wide", "simplex-better"] {
        let whole = bridged(&format!("{model}-whole"), model);
        let whole = bench.train(&whole, false, &mut Silent).unwrap();
        let stopped = bridged(&format!("{model}-stopped"), model);
        let outcome = bench.train_in_pieces(&stopped);
        assert_eq!(bench.weights(&whole), bench.weights(&outcome), "{model}");
        let names = finished(whole);
        let version = bench.registry.get(&names[2]).unwrap();
        assert_eq!(version.dim, VERTICES - 1);
        assert_eq!(version.role, Role::Replacement);
        assert_eq!(version.parent.as_deref(), Some(names[1].as_str()));
        assert_eq!(
            version.network().unwrap().classifier.kind,
            ClassifierKind::Simplex
        );
        // Only the run's own start has classes on the simplex.
        assert_eq!(version.network().unwrap().classifier.pretrained_classes, 4);
        assert!(version.data.ends_with(" by a bridge"), "{}", version.data);
    }
}

#[test]
fn a_bridged_replacement_starts_near_the_version_that_it_replaces() {
    let bench = bench();
    let after = |config: &mut ExperimentConfig| {
        // So small that nothing is learned: what is measured is the start.
        config.training.learning_rate = 1e-12;
        let names = finished(bench.train(config, false, &mut Silent).unwrap());
        likeness(&bench, config, &names[1], &names[2])
    };
    let bridge = after(&mut bridged("bridged", "er-better"));
    let mut config = bridged("as-it-is", "simplex-better");
    config.replacements[0].entry = None;
    let as_it_is = after(&mut config);
    assert!(
        bridge > 0.6 && bridge > as_it_is + 0.3,
        "bridged {bridge}, as it is {as_it_is}"
    );
}

/// A replacement keeps the normalisation that it has learned; the reference goes on seeing images by its own.
#[test]
fn a_replacement_may_normalise_images_otherwise() {
    let bench = bench();
    let other = PretrainConfig {
        preprocessing: PreprocessingConfig {
            mean: [0.1, 0.2, 0.3],
            std: [0.5, 0.6, 0.7],
        },
        ..pretraining("other", "er", 3)
    };
    bench.pretrain(&other).unwrap();
    let mut config = bridged("still", "other");
    config.training.learning_rate = 1e-12;
    let names = finished(bench.train(&config, false, &mut Silent).unwrap());
    let normalisation = |name: &str| {
        let version = bench.registry.get(name).unwrap();
        version.network().unwrap().preprocessing.mean.clone()
    };
    assert_eq!(normalisation(&names[1]), config.preprocessing.mean);
    assert_eq!(normalisation(&names[2]), other.preprocessing.mean);
    let near = likeness(&bench, &config, &names[1], &names[2]);
    assert!(near > 0.6, "{near}");

    // Training against the reference, whole and in pieces.
    for entry in [Entry::Bridged, Entry::Pretrained] {
        let name = if entry == Entry::Bridged {
            "other"
        } else {
            "other-simplex"
        };
        if entry == Entry::Pretrained {
            let simplex = PretrainConfig {
                preprocessing: other.preprocessing,
                ..pretraining(name, "simplex", 3)
            };
            bench.pretrain(&simplex).unwrap();
        }
        let named = |run: &str| {
            let mut config = bridged(&format!("{name}-{run}"), name);
            config.replacements[0].entry = Some(entry);
            config
        };
        let whole = bench.train(&named("whole"), false, &mut Silent).unwrap();
        let stopped = named("stopped");
        let outcome = bench.train_in_pieces(&stopped);
        assert_eq!(bench.weights(&whole), bench.weights(&outcome), "{name}");
    }
}

/// A replacement takes images in the size that it was pre-trained with; the reference goes on seeing them in its own.
#[test]
fn a_replacement_may_take_images_of_another_size() {
    let bench = bench();
    for (name, kind) in [("larger", "er"), ("larger-simplex", "simplex")] {
        let mut larger = pretraining(name, kind, 3);
        larger.data.generated.as_mut().unwrap().size = 48;
        bench.pretrain(&larger).unwrap();
    }
    let mut config = bridged("still", "larger");
    config.training.learning_rate = 1e-12;
    let names = finished(bench.train(&config, false, &mut Silent).unwrap());
    let sides = |name: &str| {
        let version = bench.registry.get(name).unwrap();
        version.network().unwrap().architecture.input
    };
    assert_eq!(sides(&names[1])[1..], [32, 32]);
    assert_eq!(sides(&names[2])[1..], [48, 48]);
    // Through the encoder, which scales images by itself: training saw the same pixels.
    let near = likeness(&bench, &config, &names[1], &names[2]);
    assert!(near > 0.6, "{near}");

    // Training against the reference, whole and in pieces, with both references.
    for (reference, entry, model) in [
        ("deployed", Entry::Bridged, "larger"),
        ("initial", Entry::Bridged, "larger"),
        ("deployed", Entry::Pretrained, "larger-simplex"),
    ] {
        let named = |run: &str| {
            let mut config = bridged(&format!("{model}-{reference}-{run}"), model);
            config.replacements[0].entry = Some(entry);
            let table =
                format!("kind = \"hoc\"\nvertices = {VERTICES}\nreference = \"{reference}\"");
            config.method = toml::from_str(&table).unwrap();
            config
        };
        let whole = bench.train(&named("whole"), false, &mut Silent).unwrap();
        let outcome = bench.train_in_pieces(&named("stopped"));
        assert_eq!(
            bench.weights(&whole),
            bench.weights(&outcome),
            "{model} {reference}"
        );
    }
}

#[test]
fn methods_without_a_simplex_have_no_bridged_replacements() {
    let mut config = bridged("a", "er-better");
    config.method = toml::from_str("kind = \"er\"").unwrap();
    let error = config.check().unwrap_err().to_string();
    assert!(
        error.contains("`replacements.0.entry`") && error.contains("er"),
        "{error}"
    );
}

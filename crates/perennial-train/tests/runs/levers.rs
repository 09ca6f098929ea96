//! Options of the training loop, on tiny generated sets.

use std::collections::BTreeMap;

use perennial_train::config::TrainingConfig;
use perennial_train::{EpochRecord, ExperimentConfig, Outcome, PretrainConfig, Schedule, Silent};

use crate::bench::{Bench, StopAfter};
use crate::run::PRETRAINING;

const EXPERIMENT: &str = r#"
name = "run"
seed = 5
initial_model = "start"
data = { set = "generated", generated = { classes = 4, images_per_class = 12, first_class = 50 } }
network = { backbone = "small", width = 4 }
method = { kind = "hoc", vertices = 32 }
scenario = { initial_classes = 2, increment = 2 }
memory = { images_per_class = 4 }
training = { epochs = 2, batch_size = 8, learning_rate = 0.02 }
"#;

type Weights = BTreeMap<String, Vec<f32>>;

fn bench() -> Bench {
    let bench = Bench::new();
    let config: PretrainConfig = toml::from_str(PRETRAINING).unwrap();
    bench.pretrain(&config).unwrap();
    bench
}

fn with(name: &str, change: impl FnOnce(&mut TrainingConfig)) -> ExperimentConfig {
    let mut config: ExperimentConfig = toml::from_str(EXPERIMENT).unwrap();
    config.name = name.into();
    change(&mut config.training);
    config
}

fn decoded(bytes: &[u8]) -> Weights {
    let tensors = safetensors::SafeTensors::deserialize(bytes).unwrap();
    let values = |data: &[u8]| {
        let numbers = data.as_chunks::<4>().0.iter();
        numbers.map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    let named = tensors.iter();
    named
        .map(|(name, tensor)| (name.to_owned(), values(tensor.data())))
        .collect()
}

/// The weights of the start, and of the first version of a run.
fn first(bench: &Bench, config: &ExperimentConfig) -> [Weights; 2] {
    let outcome = bench.train(config, false, &mut Silent).unwrap();
    let start = bench.registry.resolve("start").unwrap();
    let start = bench.registry.get(&start).unwrap();
    let start = bench.registry.load_weights(&start).unwrap();
    [decoded(&start), decoded(&bench.weights(&outcome)[0])]
}

fn is_statistic(name: &str) -> bool {
    name.contains("running")
}

fn largest_difference(a: &Weights, b: &Weights, of: impl Fn(&str) -> bool) -> f32 {
    assert!(a.keys().eq(b.keys()));
    let pairs = a.iter().zip(b.values()).filter(|((name, _), _)| of(name));
    let values = pairs.flat_map(|((_, a), b)| a.iter().zip(b).map(|(a, b)| (a - b).abs()));
    values.fold(0.0, f32::max)
}

/// The first task as a single step.
fn one_step(training: &mut TrainingConfig) {
    training.epochs = 1;
    training.batch_size = 24;
}

#[test]
fn after_one_step_an_average_lies_between_start_and_trained_weights() {
    let bench = bench();
    let [start, trained] = first(&bench, &with("trained", one_step));
    let averaged = with("averaged", |training| {
        one_step(training);
        training.average_decay = 0.75;
    });
    let [_, averaged] = first(&bench, &averaged);
    assert!(largest_difference(&start, &trained, |_| true) > 1e-3);
    let expected = trained.iter().map(|(name, trained)| {
        let values = trained.iter().zip(&start[name]);
        (
            name.clone(),
            values.map(|(t, s)| 0.25 * t + 0.75 * s).collect(),
        )
    });
    let found = largest_difference(&averaged, &expected.collect(), |_| true);
    assert!(found < 1e-6, "{found}");
}

#[test]
fn a_small_radius_gives_the_usual_step_and_a_larger_one_another() {
    let bench = bench();
    let with_radius = |name: &str, radius: f64| {
        with(name, |training| {
            one_step(training);
            training.sharpness_radius = radius;
        })
    };
    let [start, usual] = first(&bench, &with_radius("usual", 0.0));
    let [_, near] = first(&bench, &with_radius("near", 1e-7));
    let [_, far] = first(&bench, &with_radius("far", 0.5));
    let is_weight = |name: &str| !is_statistic(name);
    let step = largest_difference(&start, &usual, is_weight);
    let near = largest_difference(&near, &usual, is_weight);
    assert!(near < 1e-3 * step, "{near} of {step}");
    let moved = largest_difference(&far, &usual, is_weight);
    assert!(moved > 1e-2 * step, "{moved} of {step}");
    // The weights that the second gradients were computed at are not kept: half a unit away from the start.
    let distance = |to: &Weights| {
        let squares = to.iter().filter(|(name, _)| is_weight(name));
        let squares = squares.flat_map(|(name, values)| {
            values
                .iter()
                .zip(&start[name])
                .map(|(a, b)| (a - b).powi(2))
        });
        squares.sum::<f32>().sqrt()
    };
    assert!(distance(&far) < 2.0 * distance(&usual));
}

#[test]
fn a_warm_start_trains_the_embedding_layer_alone() {
    let bench = bench();
    let warm = with("warm", |training| training.warm_start_epochs = 2);
    let [start, warm] = first(&bench, &warm);
    let is_head = |name: &str| name.starts_with("fc1");
    assert!(largest_difference(&start, &warm, is_head) > 1e-3);
    let backbone = |name: &str| !is_head(name) && !is_statistic(name);
    assert_eq!(largest_difference(&start, &warm, backbone), 0.0);
    let half = with("half", |training| training.warm_start_epochs = 1);
    let [_, half] = first(&bench, &half);
    assert!(largest_difference(&start, &half, backbone) > 1e-4);
}

fn records(bench: &Bench, run: &str) -> Vec<EpochRecord> {
    let path = bench.folder.path().join(run).join("metrics.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_schedule_gives_each_epoch_its_rate_and_a_stopped_run_goes_on_with_it() {
    let bench = bench();
    let scheduled = |name: &str, schedule: Schedule, last: f64| {
        with(name, |training| {
            training.epochs = 4;
            training.schedule = schedule;
            training.final_learning_rate = last;
        })
    };
    let mut trained = Vec::new();
    for (name, schedule, rates) in [
        ("cosine", Schedule::Cosine, None),
        (
            "linear",
            Schedule::Linear,
            Some([0.02, 0.016, 0.012, 0.008]),
        ),
        ("constant", Schedule::Constant, Some([0.02; 4])),
    ] {
        let outcome = bench.train(&scheduled(name, schedule, 0.004), false, &mut Silent);
        let weights = bench.weights(&outcome.unwrap());
        let stopped = scheduled(&format!("{name}-stopped"), schedule, 0.004);
        assert_eq!(weights, bench.weights(&bench.train_in_pieces(&stopped)));
        assert!(!trained.contains(&weights), "{name}");
        trained.push(weights);
        // Both tasks begin anew.
        for (at, record) in records(&bench, name).iter().enumerate() {
            let Some(rates) = rates else { continue };
            let rate = record.learning_rate;
            assert!((rate - rates[at % 4]).abs() < 1e-15, "{name} {at}: {rate}");
        }
    }
    // A constant rate has no last one.
    let other = scheduled("other", Schedule::Constant, 0.02);
    let other = bench.train(&other, false, &mut Silent).unwrap();
    assert_eq!(trained.last(), Some(&bench.weights(&other)));

    let unknown = EXPERIMENT.replace("epochs = 2", "epochs = 2, schedule = \"step\"");
    let error = toml::from_str::<ExperimentConfig>(&unknown).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("schedule") && error.contains("`constant`"),
        "{error}"
    );
}

#[test]
fn a_softmax_over_seen_classes_leaves_those_of_pretraining_out() {
    let bench = bench();
    let with_softmax = |name: &str, softmax: &str| {
        let table = format!("kind = \"hoc\"\nvertices = 32\nsoftmax = \"{softmax}\"");
        ExperimentConfig {
            method: toml::from_str(&table).unwrap(),
            ..with(name, |_| ())
        }
    };
    let [seen, used] = ["seen", "used"].map(|softmax| {
        let outcome = bench.train(&with_softmax(softmax, softmax), false, &mut Silent);
        bench.weights(&outcome.unwrap())
    });
    assert_ne!(seen, used);
    let stopped = bench.train_in_pieces(&with_softmax("stopped", "seen"));
    assert_eq!(seen, bench.weights(&stopped));
    for (record, used) in records(&bench, "seen").iter().zip(records(&bench, "used")) {
        let (shares, used) = (record.softmax.unwrap(), used.softmax.unwrap());
        assert_eq!([shares.pretrained, shares.unused], [0.0; 2]);
        assert!((shares.right + shares.new + shares.old - 1.0).abs() < 1e-9);
        assert!(used.pretrained > 0.0);
    }

    // A pre-training has images of all its classes.
    let weights = ["seen", "used", "all"].map(|softmax| {
        let mut config: PretrainConfig = toml::from_str(PRETRAINING).unwrap();
        config.name = format!("pretrained-{softmax}");
        let table = format!("kind = \"simplex\"\nvertices = 32\nsoftmax = \"{softmax}\"");
        config.method = toml::from_str(&table).unwrap();
        bench.weights(&bench.pretrain(&config).unwrap())
    });
    assert_eq!(weights[0], weights[1]);
    assert_ne!(weights[0], weights[2]);
}

#[test]
fn a_stopped_run_goes_on_with_all_of_them() {
    let bench = bench();
    let all = |name: &str| {
        with(name, |training| {
            training.average_decay = 0.9;
            training.sharpness_radius = 0.05;
            training.warm_start_epochs = 1;
        })
    };
    let whole = bench.train(&all("whole"), false, &mut Silent).unwrap();
    let mut stopped = bench
        .train(&all("stopped"), false, &mut StopAfter(3.into()))
        .unwrap();
    while stopped == Outcome::Interrupted {
        stopped = bench
            .train(&all("stopped"), true, &mut StopAfter(3.into()))
            .unwrap();
    }
    assert_eq!(bench.weights(&whole), bench.weights(&stopped));
}

#[test]
fn wrong_values_are_errors_that_name_the_key() {
    let bench = bench();
    type Change = fn(&mut TrainingConfig);
    let wrong: [(&str, Change); 4] = [
        ("training.average_decay", |training| {
            training.average_decay = 1.0;
        }),
        ("training.average_decay", |training| {
            training.average_decay = f64::NAN;
        }),
        ("training.sharpness_radius", |training| {
            training.sharpness_radius = -0.1;
        }),
        ("training.warm_start_epochs", |training| {
            training.warm_start_epochs = 3;
        }),
    ];
    for (key, change) in wrong {
        let error = bench.train(&with("wrong", change), false, &mut Silent);
        let error = error.unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
}

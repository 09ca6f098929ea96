//! Runs on tiny generated sets: resuming, pinned inputs, refused starts, divergence.

use perennial_train::objective::{Er, MethodConfig, SimplexOnly};
use perennial_train::{EpochRecord, ExperimentConfig, Outcome, PretrainConfig, Silent, TrainError};

use crate::bench::{Bench, StopAfter};

const EXPERIMENT: &str = r#"
name = "run"
seed = 5
initial_model = "start"
data = { set = "generated", generated = { classes = 6, images_per_class = 12, first_class = 50 } }
network = { backbone = "small", width = 4 }
method = { kind = "hoc", vertices = 32 }
scenario = { initial_classes = 2, increment = 2 }
memory = { images_per_class = 4 }
training = { epochs = 2, batch_size = 8, learning_rate = 0.02 }
replacements = [{ before_task = 2, model = "better" }]
"#;

pub const PRETRAINING: &str = r#"
name = "start"
data = { set = "generated", generated = { classes = 4, images_per_class = 8 } }
network = { backbone = "small", width = 4 }
method = { kind = "simplex", vertices = 32 }
training = { epochs = 1, batch_size = 8, learning_rate = 0.02 }
"#;

/// A registry with two pre-trained models.
fn bench() -> Bench {
    let bench = Bench::new();
    for (name, seed) in [("start", 1), ("better", 2)] {
        let config: PretrainConfig = toml::from_str(PRETRAINING).unwrap();
        let config = PretrainConfig {
            name: name.into(),
            seed,
            ..config
        };
        bench.pretrain(&config).unwrap();
    }
    bench
}

fn experiment() -> ExperimentConfig {
    toml::from_str(EXPERIMENT).unwrap()
}

fn named(name: &str) -> ExperimentConfig {
    ExperimentConfig {
        name: name.into(),
        ..experiment()
    }
}

#[test]
fn a_run_that_stops_again_and_again_ends_with_the_same_weights() {
    let bench = bench();
    let whole = bench.train(&named("whole"), false, &mut Silent).unwrap();
    let mut outcome = bench
        .train(&named("stopped"), false, &mut StopAfter(3.into()))
        .unwrap();
    let mut stops = 1;
    // A checkpoint that a killed training was writing.
    let unfinished = bench
        .folder
        .path()
        .join("stopped/checkpoint/.partial-k1ll3d");
    while outcome == Outcome::Interrupted {
        std::fs::write(&unfinished, "half").unwrap();
        outcome = bench
            .train(&named("stopped"), true, &mut StopAfter(4.into()))
            .unwrap();
        assert!(!unfinished.exists());
        stops += 1;
    }
    assert!(stops > 4, "{stops} stops");
    assert_eq!(bench.weights(&whole), bench.weights(&outcome));

    let records = |run: &str| -> Vec<EpochRecord> {
        let text =
            std::fs::read_to_string(bench.folder.path().join(run).join("metrics.jsonl")).unwrap();
        let record = |line| serde_json::from_str(line).unwrap();
        text.lines().map(record).collect()
    };
    let (whole, stopped) = (records("whole"), records("stopped"));
    assert_eq!([whole.len(), stopped.len()], [6, 6]);
    // Everything but times is the same, but that a stop changes the order in which losses are added.
    for (whole, stopped) in whole.iter().zip(&stopped) {
        assert!((whole.loss - stopped.loss).abs() < 1e-5);
        let timed = EpochRecord {
            loss: whole.loss,
            images_per_second: whole.images_per_second,
            seconds: whole.seconds,
            data_wait: whole.data_wait,
            ..*stopped
        };
        assert_eq!(&timed, whole);
        for record in [whole, stopped] {
            assert!((0.0..=1.0).contains(&record.data_wait), "{record:?}");
        }
    }
}

/// The same with a share of each start's weights.
fn sharing(name: &str, start_share: f64) -> ExperimentConfig {
    let mut config = named(name);
    config.training.start_share = Some(start_share);
    config
}

#[test]
fn a_version_has_its_share_of_the_weights_that_it_started_from() {
    let bench = bench();
    let registered = |name: &str| {
        let version = bench.registry.resolve(name).unwrap();
        let version = bench.registry.get(&version).unwrap();
        bench.registry.load_weights(&version).unwrap()
    };
    // All of it: nothing was learned.
    let outcome = bench
        .train(&sharing("all", 1.0), false, &mut Silent)
        .unwrap();
    let [start, better] = ["start", "better"].map(registered);
    assert_eq!(
        bench.weights(&outcome),
        [start.clone(), start.clone(), better]
    );
    // A half of it lies in the middle, also after a stop.
    let trained = bench
        .train(&sharing("none", 0.0), false, &mut Silent)
        .unwrap();
    let half = bench
        .train(&sharing("half", 0.5), false, &mut Silent)
        .unwrap();
    let values = |weights: &[u8]| {
        let tensors = safetensors::SafeTensors::deserialize(weights).unwrap();
        let mut names = tensors.names();
        names.sort_unstable();
        let mut values = Vec::new();
        for name in names {
            let tensor = tensors.tensor(name).unwrap();
            let (floats, _) = tensor.data().as_chunks::<4>();
            values.extend(floats.iter().map(|&bytes| f32::from_le_bytes(bytes)));
        }
        values
    };
    let [begun, learned, middle] = [
        &start,
        &bench.weights(&trained)[0],
        &bench.weights(&half)[0],
    ]
    .map(|weights| values(weights));
    assert_ne!(begun, learned);
    for ((begun, learned), middle) in begun.iter().zip(&learned).zip(&middle) {
        let expected = (begun + learned) / 2.0;
        assert!(
            (expected - middle).abs() <= 1e-6 * (1.0 + expected.abs()),
            "{begun} and {learned}: {middle}"
        );
    }
    let mut stopped = bench
        .train(&sharing("stopped", 0.5), false, &mut StopAfter(3.into()))
        .unwrap();
    while stopped == Outcome::Interrupted {
        stopped = bench
            .train(&sharing("stopped", 0.5), true, &mut StopAfter(9.into()))
            .unwrap();
    }
    assert_eq!(bench.weights(&stopped), bench.weights(&half));

    for share in [-0.1, 1.1, f64::NAN] {
        let error = bench.train(&sharing("wrong", share), false, &mut Silent);
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("training.start_share")
        );
    }
}

#[test]
fn versions_tell_their_lineage() {
    let bench = bench();
    let Outcome::Finished(names) = bench.train(&experiment(), false, &mut Silent).unwrap() else {
        panic!()
    };
    let versions: Vec<_> = names
        .iter()
        .map(|name| bench.registry.get(name).unwrap())
        .collect();
    let parents: Vec<_> = versions
        .iter()
        .map(|version| version.parent.clone().unwrap())
        .collect();
    assert_eq!(parents, ["v0001", &names[0], &names[1]]);
    let classes: Vec<_> = versions
        .iter()
        .map(|version| version.network().unwrap().classifier.classes)
        .collect();
    assert_eq!(classes, [2, 4, 6]);
    assert!(versions.iter().all(
        |version| version.network().unwrap().classifier.pretrained_classes == 4
            && version.dim == 31
    ));
    assert_eq!(versions[2].role, perennial_core::Role::Replacement);
    assert!(
        versions[2].data.ends_with("from v0002"),
        "{}",
        versions[2].data
    );
}

#[test]
fn an_alias_that_moves_during_a_run_does_not_change_it() {
    let bench = bench();
    let whole = bench.train(&named("whole"), false, &mut Silent).unwrap();
    let stopped = bench
        .train(&named("stopped"), false, &mut StopAfter(3.into()))
        .unwrap();
    assert_eq!(stopped, Outcome::Interrupted);
    bench.registry.set_alias("better", "v0001").unwrap();
    bench.registry.set_alias("start", "v0002").unwrap();
    let resumed = bench.train(&named("stopped"), true, &mut Silent).unwrap();
    assert_eq!(bench.weights(&whole), bench.weights(&resumed));
}

#[test]
fn a_run_goes_on_only_with_what_it_began_with() {
    let bench = bench();
    let order = bench.folder.path().join("order.txt");
    std::fs::write(&order, "50\n51\n52\n53\n54\n55\n").unwrap();
    let mut config = experiment();
    config.scenario.class_order = perennial_train::config::ClassOrder::File(order.clone());
    bench
        .train(&config, false, &mut StopAfter(1.into()))
        .unwrap();

    std::fs::write(&order, "55\n51\n52\n53\n54\n50\n").unwrap();
    let error = bench.train(&config, true, &mut Silent).unwrap_err();
    assert!(error.to_string().contains("class order"), "{error}");

    let other = ExperimentConfig {
        seed: 6,
        ..config.clone()
    };
    let error = bench.train(&other, true, &mut Silent).unwrap_err();
    assert!(
        error.to_string().contains("configuration differs"),
        "{error}"
    );

    let error = bench.train(&config, false, &mut Silent).unwrap_err();
    assert!(error.to_string().contains("--resume"), "{error}");
    let error = bench
        .train(&named("never-begun"), true, &mut Silent)
        .unwrap_err();
    assert!(error.to_string().contains("no checkpoint"), "{error}");

    let lock = std::fs::File::open(bench.folder.path().join("run").join(".lock")).unwrap();
    lock.try_lock().unwrap();
    let error = bench.train(&config, true, &mut Silent).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
}

#[test]
fn starts_that_do_not_fit_are_refused_before_training() {
    let bench = bench();
    let refused = |change: &dyn Fn(&mut ExperimentConfig), expected: &str| {
        let mut config = experiment();
        change(&mut config);
        let error = bench
            .train(&config, false, &mut Silent)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(&|config| config.network.width = 8, "[network]");
    refused(
        &|config| config.preprocessing.mean = [0.5; 3],
        "preprocessing.mean",
    );
    refused(&|config| config.method = MethodConfig::Er(Er {}), "simplex");
    refused(
        &|config| {
            config.method = MethodConfig::SimplexOnly(SimplexOnly {
                vertices: 64,
                ..SimplexOnly::default()
            });
        },
        "method.vertices",
    );
    refused(
        &|config| config.initial_model = Some("strat".into()),
        "`initial_model`: no model version or alias \"strat\"",
    );
    refused(
        &|config| config.replacements[0].model = "bettre".into(),
        "`replacements.0.model`: no model version or alias \"bettre\"",
    );
    refused(
        &|config| config.replacements[0].before_task = 3,
        "`replacements.0.before_task`: 3 is beyond the last",
    );
    refused(
        &|config| config.data.generated.as_mut().unwrap().size = 7,
        "`data.generated`",
    );

    let Outcome::Finished(names) = bench.train(&experiment(), false, &mut Silent).unwrap() else {
        panic!()
    };
    let again = ExperimentConfig {
        initial_model: names.last().cloned(),
        replacements: vec![],
        ..named("again")
    };
    let error = bench
        .train(&again, false, &mut Silent)
        .unwrap_err()
        .to_string();
    assert!(error.contains("pre-trained version"), "{error}");
}

#[test]
fn damaged_weights_of_a_replacement_are_found_before_training() {
    let bench = bench();
    let version = bench.registry.get("better").unwrap();
    let path = bench.registry.weights_path(&version);
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bad).unwrap();
    let before = bench.registry.names().unwrap();
    let error = bench.train(&experiment(), false, &mut Silent).unwrap_err();
    assert!(error.to_string().contains("weights.safetensors"), "{error}");
    assert_eq!(bench.registry.names().unwrap(), before);
    // Restored, the run begins under the same name.
    std::fs::write(&path, good).unwrap();
    bench.train(&experiment(), false, &mut Silent).unwrap();
}

#[test]
fn pretrained_and_local_classes_beyond_the_simplex_collide_by_name() {
    let bench = bench();
    let mut config = experiment();
    config.data.generated.as_mut().unwrap().classes = 30;
    config.scenario.initial_classes = 30;
    config.replacements.clear();
    let error = bench.train(&config, false, &mut Silent).unwrap_err();
    assert!(matches!(error, TrainError::Simplex(_)), "{error}");
    assert!(
        error.to_string().contains("0..4") || error.to_string().contains("0 to 3"),
        "{error}"
    );
}

#[test]
fn a_diverged_run_publishes_nothing_and_keeps_its_last_good_checkpoint() {
    let bench = bench();
    let mut config = named("wild");
    config.training.learning_rate = 1e30;
    let before = bench.registry.names().unwrap();
    let error = bench.train(&config, false, &mut Silent).unwrap_err();
    assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
    assert_eq!(bench.registry.names().unwrap(), before);
}

#[test]
fn a_loss_that_is_not_finite_is_reported_with_its_step_images_and_checkpoint() {
    let bench = bench();
    let mut config = named("late");
    // Fine in the first epoch, far too large in the second.
    config.training.final_learning_rate = 1e30;
    let mut seen = None;
    for resume in [false, true] {
        let error = bench.train(&config, resume, &mut Silent).unwrap_err();
        let text = error.to_string();
        let TrainError::Diverged {
            task: 0,
            epoch: 1,
            step: Some(step),
            images,
            checkpoint: Some(checkpoint),
            ..
        } = error
        else {
            panic!("{text}")
        };
        assert_eq!(images.len(), config.training.batch_size);
        assert!(images.iter().all(|&image| image < 72), "{images:?}");
        assert!(text.contains(&format!("step {step}, on the images at {}, ", images[0])));
        assert!(
            text.contains("latest.safetensors, after 1 epochs of task 0"),
            "{text}"
        );
        assert_eq!([checkpoint.task, checkpoint.epochs], [0, 1]);
        let bytes = std::fs::read(&checkpoint.path).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for (name, tensor) in tensors.iter() {
            let numbers = tensor.data().as_chunks::<4>().0.iter();
            let mut values = numbers.map(|bytes| f32::from_le_bytes(*bytes));
            assert!(values.all(f32::is_finite), "{name}");
        }
        // Resumed from there, it ends at the same place.
        let place = (step, images);
        assert_eq!(seen.get_or_insert_with(|| place.clone()), &place);
    }
}

#[test]
fn a_weight_that_is_not_finite_is_reported_with_the_epoch_that_made_it_so() {
    let bench = bench();
    let mut config = named("last-step");
    // One step an epoch, and no further one whose loss would show it.
    config.training.batch_size = 72;
    config.training.epochs = 1;
    config.training.learning_rate = 1e300;
    let error = bench.train(&config, false, &mut Silent).unwrap_err();
    assert!(
        matches!(
            error,
            TrainError::Diverged {
                task: 0,
                epoch: 0,
                step: None,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn the_baseline_grows_its_classifier_and_forgets_it_at_a_replacement() {
    let bench = bench();
    let er = MethodConfig::Er(Er {});
    for (name, seed) in [("er-start", 1), ("er-better", 2)] {
        let config: PretrainConfig = toml::from_str(PRETRAINING).unwrap();
        bench
            .pretrain(&PretrainConfig {
                name: name.into(),
                seed,
                method: er,
                ..config
            })
            .unwrap();
    }
    let mut config = experiment();
    config.method = er;
    config.initial_model = Some("er-start".into());
    config.replacements[0].model = "er-better".into();
    let outcome = bench.train(&config, false, &mut Silent).unwrap();
    let rows: Vec<usize> = bench
        .weights(&outcome)
        .iter()
        .map(|bytes| {
            perennial_train::state_dict::from_safetensors(bytes, "test").unwrap()["fc2.weight"]
                .shape[0]
        })
        .collect();
    assert_eq!(rows, [2, 4, 6]);
}

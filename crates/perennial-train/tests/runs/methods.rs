//! Every method of the table: its configuration, its runs, its row in the documentation; and the example of a further one.

use std::path::Path;

use perennial_encode::{Encoder, Input};
use perennial_train::objective::OBJECTIVES;
use perennial_train::{
    DeviceChoice, ExperimentConfig, Outcome, PretrainConfig, Silent, TrainError, TrainedEncoder,
};

use crate::bench::{Bench, StopAfter};

#[path = "../../examples/own_loss.rs"]
#[allow(dead_code)]
mod own_loss;

pub const VERTICES: usize = 32;

/// A registry with a start and a better model for both kinds of classifier.
pub fn bench() -> Bench {
    let bench = Bench::new();
    for method in ["simplex", "er"] {
        for (role, seed) in [("start", 1), ("better", 2)] {
            let name = format!("{method}-{role}");
            bench.pretrain(&pretraining(&name, method, seed)).unwrap();
        }
    }
    bench
}

/// The method's table with a small simplex, where it has one.
fn method(name: &str) -> String {
    let entry = OBJECTIVES.iter().find(|entry| entry.name == name).unwrap();
    let vertices = match entry.classifier() {
        "simplex" => format!(", vertices = {VERTICES}"),
        _ => String::new(),
    };
    format!("{{ kind = \"{name}\"{vertices} }}")
}

pub fn pretraining(name: &str, kind: &str, seed: u64) -> PretrainConfig {
    toml::from_str(&format!(
        r#"
name = "{name}"
seed = {seed}
data = {{ set = "generated", generated = {{ classes = 4, images_per_class = 8 }} }}
network = {{ backbone = "small", width = 4 }}
method = {}
training = {{ epochs = 1, batch_size = 8, learning_rate = 0.02 }}
"#,
        method(kind)
    ))
    .unwrap()
}

pub fn experiment(name: &str, kind: &str) -> ExperimentConfig {
    let entry = OBJECTIVES.iter().find(|entry| entry.name == kind).unwrap();
    let family = match entry.classifier() {
        "simplex" => "simplex",
        _ => "er",
    };
    toml::from_str(&format!(
        r#"
name = "{name}"
seed = 5
initial_model = "{family}-start"
data = {{ set = "generated", generated = {{ classes = 6, images_per_class = 12, first_class = 50 }} }}
network = {{ backbone = "small", width = 4 }}
method = {}
scenario = {{ initial_classes = 2, increment = 2 }}
memory = {{ images_per_class = 4 }}
training = {{ epochs = 2, batch_size = 8, learning_rate = 0.02 }}
replacements = [{{ before_task = 2, model = "{family}-better" }}]
"#,
        method(kind)
    ))
    .unwrap()
}

#[test]
fn every_method_trains_across_a_replacement_and_resumes_with_the_same_weights() {
    let bench = bench();
    let mut trained = std::collections::BTreeMap::new();
    for entry in OBJECTIVES {
        let kind = entry.name;
        let whole = experiment(&format!("{kind}-whole"), kind);
        let whole = bench.train(&whole, false, &mut Silent).unwrap();
        let stopped = experiment(&format!("{kind}-stopped"), kind);
        let outcome = bench.train_in_pieces(&stopped);
        let weights = bench.weights(&whole);
        assert_eq!(weights, bench.weights(&outcome), "{kind}");
        // A method whose loss were that of another would give the same weights.
        if let Some(other) = trained.insert(weights, kind) {
            panic!("{kind} trains as {other} does");
        }
        let Outcome::Finished(names) = &whole else {
            panic!()
        };
        let version = bench.registry.get(names.last().unwrap()).unwrap();
        assert_eq!((version.method.as_str(), version.centred), (kind, false));
    }
}

#[test]
fn every_method_reports_a_loss_that_is_not_finite_and_publishes_nothing() {
    let bench = bench();
    let before = bench.registry.names().unwrap();
    for entry in OBJECTIVES {
        let mut config = experiment(&format!("{}-wild", entry.name), entry.name);
        config.training.learning_rate = 1e30;
        for resume in [false, true] {
            let error = bench.train(&config, resume, &mut Silent).unwrap_err();
            assert!(
                matches!(
                    &error,
                    TrainError::Diverged {
                        task: 0,
                        checkpoint: Some(_),
                        ..
                    }
                ),
                "{}: {error}",
                entry.name
            );
        }
    }
    assert_eq!(bench.registry.names().unwrap(), before);
}

#[test]
fn options_of_the_training_loop_are_written_only_when_they_are_on() {
    // Runs recognise their configuration by the hash of this text, of which this is the part of `[training]`.
    let training = perennial_train::config::TrainingConfig::default();
    assert_eq!(
        serde_json::to_string(&training).unwrap(),
        r#"{"epochs":70,"batch_size":128,"learning_rate":0.001,"final_learning_rate":0.00001,"momentum":0.9,"weight_decay":0.0005,"checkpoint_epochs":1}"#
    );
}

#[test]
fn options_are_written_only_when_they_differ_from_the_published_method() {
    // Runs recognise their configuration by the hash of this text: it must stay as it was before there were further options.
    for (text, expected) in [
        ("kind = \"er\"", r#"{"kind":"er"}"#),
        (
            "kind = \"simplex\"",
            r#"{"kind":"simplex","vertices":1024}"#,
        ),
        (
            "kind = \"hoc\"\nmu = 7",
            r#"{"kind":"hoc","vertices":1024,"lambda":0.1,"mu":7.0,"masking":"excluded","reference":"deployed"}"#,
        ),
    ] {
        let method: perennial_train::config::MethodConfig = toml::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&method).unwrap(), expected);
    }
    let json = serde_json::to_string(&experiment("a", "hoc")).unwrap();
    assert!(!json.contains("embedding"), "{json}");
    for entry in OBJECTIVES {
        let method = entry.method();
        let text = toml::to_string(&method).unwrap();
        assert_eq!(
            toml::from_str::<perennial_train::config::MethodConfig>(&text).unwrap(),
            method
        );
    }
}

#[test]
fn wrong_keys_kinds_and_values_are_named() {
    let parse = |table: &str| {
        toml::from_str::<perennial_train::config::MethodConfig>(table)
            .unwrap_err()
            .to_string()
    };
    let kinds = parse("kind = \"hocc\"");
    for entry in OBJECTIVES {
        assert!(kinds.contains(&format!("`{}`", entry.name)), "{kinds}");
        let unknown = parse(&format!("kind = \"{}\"\nlamda = 1", entry.name));
        assert!(unknown.contains("`lamda`"), "{unknown}");
    }
    for (kind, option, key) in [
        ("hoc", "lambda = 2", "method.lambda"),
        ("hoc", "mu = 0", "method.mu"),
        ("hoc", "relation_weight = -1", "method.relation_weight"),
        ("hoc", "scale = 0", "method.scale"),
        ("simplex", "vertices = 100000", "method.vertices"),
        ("fd", "weight = nan", "method.weight"),
        ("lwf", "temperature = 0", "method.temperature"),
        ("fan", "temperature = inf", "method.temperature"),
        ("fan", "feature_weight = -1", "method.feature_weight"),
        ("bct", "weight = inf", "method.weight"),
        ("lce", "boundary = -1", "method.boundary"),
        ("cvs", "margin = 3", "method.margin"),
        ("cvs", "scale = 1e9", "method.scale"),
    ] {
        let mut config = experiment("a", kind);
        config.method = toml::from_str(&format!("kind = \"{kind}\"\n{option}")).unwrap();
        let error = config.check().unwrap_err().to_string();
        assert!(
            error.contains(&format!("`{key}`")),
            "{kind} {option}: {error}"
        );
    }
}

#[test]
fn pretraining_refuses_methods_with_an_earlier_model_and_names_others() {
    for entry in OBJECTIVES {
        let config = pretraining("a", entry.name, 0);
        match (entry.refers(), config.check()) {
            (false, Ok(())) => {}
            (true, Err(error)) => {
                let fitting = match entry.classifier() {
                    "simplex" => "use `simplex`",
                    _ => "use `er`",
                };
                assert!(error.to_string().contains(fitting), "{error}");
            }
            (refers, outcome) => panic!("{}: {refers} {outcome:?}", entry.name),
        }
    }
}

#[test]
fn a_replacement_of_another_width_is_refused_where_embeddings_are_compared() {
    let bench = bench();
    let wide = PretrainConfig {
        network: perennial_train::network::NetworkConfig {
            width: 8,
            ..pretraining("a", "er", 0).network
        },
        ..pretraining("wide", "er", 3)
    };
    bench.pretrain(&wide).unwrap();
    let with = |kind: &str| {
        let mut config = experiment(&format!("{kind}-wide"), kind);
        config.replacements[0].model = "wide".into();
        bench.train(&config, false, &mut Silent)
    };
    let error = with("bct").unwrap_err().to_string();
    assert!(
        error.contains("64 dimensions") && error.contains("bct"),
        "{error}"
    );
    // Logits may be compared between any two models.
    assert!(with("lwf").is_ok());
}

#[test]
fn a_centred_version_subtracts_the_mean_of_its_training_embeddings() {
    let bench = bench();
    let plain = bench
        .train(&experiment("plain", "hoc"), false, &mut Silent)
        .unwrap();
    let mut config = experiment("centred", "hoc");
    config.embedding.centre = true;
    let mut centred = bench
        .train(&config, false, &mut StopAfter(5.into()))
        .unwrap();
    while centred == Outcome::Interrupted {
        centred = bench
            .train(&config, true, &mut StopAfter(9.into()))
            .unwrap();
    }
    let (Outcome::Finished(plain), Outcome::Finished(centred)) = (&plain, &centred) else {
        panic!()
    };
    let device = DeviceChoice::Cpu.open().unwrap();
    let set = config.data.load(Path::new("nowhere")).unwrap();
    let embed = |name: &String, images: &[usize]| {
        let version = bench.registry.get(name).unwrap();
        let encoder = TrainedEncoder::load(&bench.registry, version, &device).unwrap();
        let prepare = |&image: &usize| {
            let (pixels, shape) = (set.image(image), set.shape());
            encoder.prepare(Input::Pixels { pixels, shape }).unwrap()
        };
        let prepared: Vec<_> = images.iter().map(prepare).collect();
        encoder.encode(&prepared).unwrap()
    };
    let dim = VERTICES - 1;
    for (task, (plain, centred)) in plain.iter().zip(centred).enumerate() {
        let version = bench.registry.get(centred).unwrap();
        assert!(version.centred);
        let bytes = bench.registry.load_weights(&version).unwrap();
        let mut state = perennial_train::state_dict::from_safetensors(&bytes, "test").unwrap();
        let mean = state.remove("embedding_mean").unwrap();
        assert_eq!(mean.shape, [dim]);
        // Training does not see the mean: the other weights are those of the run without it.
        let other = bench.registry.get(plain).unwrap();
        let bytes = bench.registry.load_weights(&other).unwrap();
        assert_eq!(
            state,
            perennial_train::state_dict::from_safetensors(&bytes, "test").unwrap()
        );
        if task == 0 {
            // The first task trains on the first two classes alone.
            let images: Vec<usize> = (0..set.len())
                .filter(|&image| set.label(image) < 52)
                .collect();
            assert_eq!(images.len(), 24);
            let embeddings = embed(plain, &images);
            for column in 0..dim {
                let sum: f64 = embeddings
                    .chunks_exact(dim)
                    .map(|row| f64::from(row[column]))
                    .sum();
                assert!((sum / 24.0 - f64::from(mean.values[column])).abs() < 1e-6);
            }
        }
        let images = [1, 30, 60];
        let (plain, centred) = (embed(plain, &images), embed(centred, &images));
        for (plain, centred) in plain.chunks_exact(dim).zip(centred.chunks_exact(dim)) {
            let moved: Vec<f32> = plain.iter().zip(&mean.values).map(|(x, m)| x - m).collect();
            let length = moved.iter().map(|x| x * x).sum::<f32>().sqrt();
            for (moved, centred) in moved.iter().zip(centred) {
                assert!((moved / length - centred).abs() < 1e-5);
            }
        }
    }
}

fn documentation(page: &str) -> String {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    std::fs::read_to_string(docs.join(page)).unwrap()
}

#[test]
fn the_documentation_lists_every_method_as_the_table_has_it() {
    let text = documentation("methods.md");
    for entry in OBJECTIVES {
        let earlier = if entry.refers() { "yes" } else { "no" };
        let row = format!(
            "| `{}` | {} | {} | {earlier} | {} |",
            entry.name,
            entry.summary,
            entry.classifier(),
            entry.source
        );
        assert!(text.contains(&row), "docs/methods.md has no row\n{row}");
    }
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| `") && line.matches(" | ").count() == 4);
    assert_eq!(rows.count(), OBJECTIVES.len());
}

#[test]
fn the_example_of_a_loss_of_ones_own_runs_and_stands_in_the_documentation() {
    own_loss::main().unwrap();
    let text = documentation("tasks/add-a-loss.md");
    let block = text
        .split("```rust\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let example = include_str!("../../examples/own_loss.rs");
    assert!(
        example.contains(block),
        "docs/tasks/add-a-loss.md shows other code than examples/own_loss.rs"
    );
}

#[test]
fn the_example_of_a_backbone_stands_in_the_documentation() {
    let table = documentation("backbones.md");
    for entry in perennial_train::network::BACKBONES {
        let name = format!("`{}`", entry.name);
        assert!(
            table.contains(&name),
            "docs/backbones.md has no row of {name}"
        );
    }
    let text = documentation("tasks/add-a-backbone.md");
    let source = include_str!("../../src/network/small.rs");
    let blocks = text.split("```rust\n").skip(1);
    let blocks: Vec<&str> = blocks
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        assert!(
            source.contains(block),
            "docs/tasks/add-a-backbone.md shows other code than src/network/small.rs:\n{block}"
        );
    }
}

//! Layers of configuration, and mistakes in them.

use crate::bench::{Bench, Ended};

#[test]
fn the_printed_configuration_round_trips_with_every_key() {
    let bench = Bench::new();
    let first = bench.succeed(&["train", "toy.toml", "--print-config"]);
    for key in [
        "momentum = 0.9",
        "masking = \"excluded\"",
        "crop_padding = 4",
        "std = ",
    ] {
        assert!(first.contains(key), "{key} in {first}");
    }
    bench.write("again.toml", &first);
    assert_eq!(
        bench.succeed(&["train", "again.toml", "--print-config"]),
        first
    );
    let answer = bench.answer(&["train", "toy.toml", "--print-config"]);
    assert_eq!(answer["config"]["training"]["epochs"], 3);
    assert!(!bench.path("runs").exists() && !bench.path("registry").exists());
}

#[test]
fn environment_settings_and_options_are_layers() {
    let bench = Bench::new();
    let arguments = [
        "train",
        "toy.toml",
        "--print-config",
        "--set",
        "training.epochs=7",
        "--seed",
        "9",
    ];
    let output = bench
        .command(&arguments)
        .env("PERENNIAL__TRAINING__EPOCHS", "5")
        .env("PERENNIAL__TRAINING__BATCH_SIZE", "12")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for line in ["epochs = 7", "batch_size = 12", "seed = 9"] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn mistakes_are_one_line_that_names_key_and_remedy() {
    let bench = Bench::new();
    let with = |assignment: &str| bench.run(&["train", "toy.toml", "--set", assignment]);
    with("training.epoch=5").assert_wrong_usage(&["`training.epoch`", "did you mean `epochs`?"]);
    with("training.epochs=many").assert_wrong_usage(&["`training.epochs`", "whole number"]);
    with("training.epochs=0").assert_wrong_usage(&["`training.epochs`", "at least 1"]);
    with("method.kind=hocc").assert_wrong_usage(&["`method", "did you mean `hoc`?"]);
    with("scenario.tasks=9").assert_wrong_usage(&["`scenario.tasks`"]);
    with("initial_model=best").assert_wrong_usage(&["\"best\"", "holds no version yet"]);

    bench.write(
        "typo.toml",
        &crate::bench::EXPERIMENT.replace("[memory]", "[memmory]"),
    );
    bench.run(&["train", "typo.toml"]).assert_wrong_usage(&[
        "typo.toml",
        "`memmory`",
        "did you mean `memory`?",
    ]);
    assert!(
        !bench.path("runs/toy").exists(),
        "a refused run leaves nothing behind"
    );
}

#[test]
fn classes_that_no_task_trains_on_are_told_of() {
    let bench = Bench::new();
    // Six classes: two, then four tasks of one, or one task of three and one class left.
    let with = |name: &str, settings: &[&str]| {
        let mut words = vec!["train", "toy.toml", "--name", name];
        for setting in ["training.epochs=1"].iter().chain(settings) {
            words.extend(["--set", *setting]);
        }
        let ended = bench.run(&words);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stderr
    };
    let told = with("told", &["scenario.increment=3"]);
    assert!(
        told.contains("1 of 6 classes") && told.contains("scenario.tasks = 2"),
        "{told}"
    );
    let tasks = ["scenario.increment=3", "scenario.tasks=2"];
    for (name, settings) in [("all", &["scenario.increment=1"][..]), ("known", &tasks)] {
        let text = with(name, settings);
        assert!(!text.contains("classes do not fill"), "{text}");
    }
}

#[test]
fn what_cannot_be_measured_on_is_told_before_the_training() {
    let bench = Bench::new();
    for (setting, expected) in [
        (
            "evaluation.queries={set=\"cifar11\"}",
            "`evaluation.queries.set`",
        ),
        (
            "evaluation.queries.classes=[3,3]",
            "`evaluation.queries.classes`",
        ),
        (
            "evaluation.gallery.images_per_class=0",
            "`evaluation.gallery`",
        ),
        ("evaluation.gallery.size=64", "`evaluation.gallery.size`"),
    ] {
        bench
            .run(&["train", "toy.toml", "--set", setting])
            .assert_wrong_usage(&[expected]);
        assert!(!bench.path("runs/toy").exists());
    }
    // What only the images tell is told by `evaluate`, with the key that it stands in.
    let beyond = [
        "train",
        "toy.toml",
        "--set",
        "evaluation.queries.classes=[0,99]",
    ];
    bench.succeed(&[&beyond[..], &["--set", "training.epochs=1"]].concat());
    bench
        .run(&["evaluate", "runs/toy"])
        .assert_wrong_usage(&["`evaluation.queries.classes`"]);
}

#[test]
fn missing_files_are_named() {
    let bench = Bench::new();
    bench
        .run(&["train", "toi.toml"])
        .assert_wrong_usage(&["toi.toml does not exist", "did you mean ./toy.toml?"]);
    bench
        .run(&["train", "toy.toml", "--set", "data={set=\"cifar100\"}"])
        .assert_wrong_usage(&[
            "data/cifar-100-binary/train.bin",
            "perennial data fetch cifar100",
            "PERENNIAL_DATA",
        ]);
    bench
        .run(&["evaluate", "toy"])
        .assert_wrong_usage(&["toy is not a run"]);
    bench
        .run(&["metrics", "none.json"])
        .assert_wrong_usage(&["none.json"]);
    bench.run(&["models", "list"]).assert_wrong_usage(&[
        "no registry at ./registry",
        "--registry",
        "models import",
    ]);
    let device = bench.run(&["train", "toy.toml", "--device", "cuda:x"]);
    assert_eq!(device.code, Some(2), "{}", device.stderr);
    let mut unknown = bench.command(&["train", "toy.toml", "--device", "cpu"]);
    let ended = unknown.env("PERENNIAL_INSTRUCTIONS", "avx3").output();
    Ended::from(ended.unwrap()).assert_wrong_usage(&[
        "environment variable PERENNIAL_INSTRUCTIONS",
        "avx2",
        "got avx3",
    ]);
}

#[test]
fn a_device_that_is_not_built_in_is_wrong_usage() {
    if cfg!(feature = "cuda") {
        return;
    }
    let bench = Bench::new();
    bench
        .run(&["train", "toy.toml", "--device", "cuda:0"])
        .assert_wrong_usage(&["cuda:0", "--features cuda"]);
}

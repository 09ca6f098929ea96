//! `models`: import, aliases, and what is printed about versions.

use crate::bench::{Bench, repository};

fn checkpoint() -> String {
    let path = repository().join("crates/perennial-train/testdata/resnet18_w8.pt");
    path.to_str().unwrap().to_owned()
}

fn import<'a>(file: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["models", "import", file, "--classes", "4"];
    arguments.extend(["--vertex-end", "back", "--size", "32"]);
    arguments.extend(["--normalization", "cifar100"]);
    arguments.extend(more);
    arguments
}

#[test]
fn an_imported_checkpoint_is_a_version_like_any_other() {
    let bench = Bench::new();
    let file = checkpoint();
    let answer = bench.answer(&import(&file, &["--vertices", "12", "--alias", "released"]));
    assert_eq!(
        (&answer["version"], &answer["dim"]),
        (&"v0001".into(), &11.into())
    );

    let shown = bench.answer(&["models", "show", "released"]);
    assert_eq!(shown["role"], "imported");
    assert_eq!(shown["classifier"]["vertex_end"], "back");
    assert_eq!(shown["aliases"], serde_json::json!(["released"]));
    assert_eq!(shown["weights_sha256"], answer["weights_sha256"]);
    assert_eq!(
        shown["data"],
        "imported from resnet18_w8.pt (under the key net); size given, mean given as cifar100, std given as cifar100, classes given"
    );

    bench.answer(&[
        "embed",
        "released",
        "--set",
        "generated:test",
        "--out",
        "made.safetensors",
    ]);
    let moved = bench.succeed(&["models", "alias", "live", "released"]);
    assert!(moved.contains("live -> v0001 in the registry"), "{moved}");
    let table = bench.succeed(&["models", "list"]);
    assert!(
        table.contains("resnet18/8 imagenet") && table.contains("live released"),
        "{table}"
    );
    bench
        .run(&["models", "show", "relesed"])
        .assert_wrong_usage(&["\"relesed\"", "released"]);
}

#[test]
fn what_does_not_fit_is_refused_and_named() {
    let bench = Bench::new();
    let file = checkpoint();
    let refused = |more: &[&str]| {
        let ended = bench.run(&import(&file, more));
        assert_ne!(ended.code, Some(0), "{more:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        ended.stderr
    };
    assert!(refused(&["--vertices", "13"]).contains("fc2.weight"));
    let stem = refused(&["--stem", "cifar"]);
    assert!(
        stem.contains("conv1.weight is [8, 3, 7, 7] and should be [8, 3, 3, 3]"),
        "{stem}"
    );
    assert!(
        stem.contains("the file fits --backbone resnet18 --stem imagenet --width 8"),
        "{stem}"
    );
    assert!(refused(&["--backbone", "small"]).contains("of its 21 tensors missing"));
    assert!(refused(&["--stem", "patch4"]).contains("use imagenet or cifar"));
    assert!(
        !bench.path("registry").exists(),
        "a refused import publishes nothing"
    );
    bench
        .run(&import("none.pt", &[]))
        .assert_wrong_usage(&["none.pt"]);
    bench.write("junk.pt", "not a checkpoint");
    let junk = bench.run(&import("junk.pt", &["--vertices", "12"]));
    assert_eq!(junk.code, Some(1), "{}", junk.stderr);
    assert!(
        junk.stderr.contains("junk.pt is not a readable checkpoint"),
        "{}",
        junk.stderr
    );
}

/// A checkpoint of a small network, wrapped as some tool does it.
fn wrapped(name: &str) -> String {
    let path = repository().join("crates/perennial-train/testdata/checkpoints");
    path.join(name).to_str().unwrap().to_owned()
}

const INPUT: [&str; 4] = ["--size", "32", "--normalization", "imagenet"];

#[test]
fn every_wrapping_becomes_the_same_version() {
    let bench = Bench::new();
    let import = |name: &str, more: &[&str]| {
        bench.answer(&[&["models", "import", &wrapped(name)][..], &INPUT, more].concat())
    };
    let plain = import("plain.pt", &[]);
    assert_eq!(plain["network"], "--backbone small --width 2");
    assert_eq!(plain["classes"]["value"], 4);
    assert_eq!(plain["classes"]["source"], "rows of the classifier");
    for (name, key) in [
        ("legacy.pt", "."),
        ("imagenet_example.pth.tar", "state_dict"),
        ("lightning.ckpt", "state_dict.model"),
        ("compiled_parallel.pth", "net"),
        ("bfloat16.pt", "."),
    ] {
        let answer = import(name, &[]);
        assert_eq!(answer["weights_sha256"], plain["weights_sha256"], "{name}");
        assert_eq!(answer["key"], key, "{name}");
    }
    let named = import("averaged.pth", &["--key", "model"]);
    assert_eq!(named["weights_sha256"], plain["weights_sha256"]);
    let averaged = import("averaged.pth", &["--key", "model_ema"]);
    assert_ne!(averaged["weights_sha256"], plain["weights_sha256"]);
    bench
        .run(&[&["models", "import", &wrapped("averaged.pth")][..], &INPUT].concat())
        .assert_wrong_usage(&["model (22 tensors)", "model_ema (22 tensors)", "--key"]);

    let table = bench.succeed(&["models", "list"]);
    assert!(
        table.contains("32x32")
            && table.contains("imported from lightning.ckpt (under the key state_dict."),
        "{table}"
    );
    // A version that was read can be used.
    bench.answer(&[
        "embed",
        "v0004",
        "--set",
        "generated:test",
        "--out",
        "e.safetensors",
    ]);
}

#[test]
fn means_are_given_with_commas_or_spaces_before_or_after_the_file() {
    let bench = Bench::new();
    let name = wrapped("plain.pt");
    let file = name.as_str();
    let size = ["models", "import", "--size", "32"];
    for arguments in [
        &[file, "--mean", "0.4,0.5,0.4", "--std", "0.2,0.25,0.2"][..],
        &[
            file, "--mean", "0.4", "0.5", "0.4", "--std", "0.2", "0.25", "0.2",
        ],
        &[
            "--mean", "0.4", "0.5", "0.4", "--std", "0.2", "0.25", "0.2", file,
        ],
        &["--std", "0.2,0.25,0.2", "--mean", "0.4,0.5,0.4", file],
        &["--mean=0.4,0.5,0.4", "--std=0.2,0.25,0.2", file],
    ] {
        let answer = bench.answer(&[&size[..], arguments].concat());
        let mean: Vec<f64> = serde_json::from_value(answer["mean"]["value"].clone()).unwrap();
        let rounded: Vec<f64> = mean.iter().map(|mean| (mean * 1e4).round() / 1e4).collect();
        assert_eq!(rounded, [0.4, 0.5, 0.4], "{arguments:?}");
        assert_eq!(answer["std"]["source"], "given");
    }
    let refused = |arguments: &[&str], parts: &[&str]| {
        bench
            .run(&[&size[..], &[file], arguments].concat())
            .assert_wrong_usage(parts);
    };
    let std = ["--std", "0.2,0.2,0.2"];
    refused(
        &[&["--mean", "124,116,104"][..], &std].concat(),
        &["--mean", "divide", "255"],
    );
    refused(
        &[&["--mean", "0.5,0.5"][..], &std].concat(),
        &["--mean", "3 are needed"],
    );
    refused(
        &["--mean", "0.5,0.5,0.5", "--std", "0,0.1,0.1"],
        &["--std", "above 0"],
    );
    refused(
        &["--mean", "0.5,-0.5,0.5", "--std", "0.1,0.1,0.1"],
        &["--mean: -0.5"],
    );
    refused(
        &[&["--mean", "0.5,0.5,0.5", "extra"][..], &std].concat(),
        &["extra"],
    );
}

#[test]
fn what_the_file_does_not_say_is_asked_for_and_never_assumed() {
    let bench = Bench::new();
    let file = wrapped("imagenet_example.pth.tar");
    let run = |more: &[&str]| bench.run(&[&["models", "import", &file][..], more].concat());
    run(&[]).assert_wrong_usage(&[
        "under the key state_dict",
        "--backbone small --width 2",
        "--size PIXELS",
        "--normalization imagenet|cifar10|cifar100|half|none",
    ]);
    run(&["--size", "32"]).assert_wrong_usage(&["--normalization"]);
    run(&["--normalization", "imagenet"]).assert_wrong_usage(&["--size PIXELS"]);
    run(&[&INPUT[..], &["--classes", "5"]].concat()).assert_wrong_usage(&["--classes 5", "4 rows"]);
    let zero = run(&[&INPUT[..], &["--classes", "0"]].concat());
    assert_eq!(zero.code, Some(2), "{}", zero.stderr);
    assert!(!bench.path("registry").exists());

    std::fs::create_dir(bench.path("hub")).unwrap();
    std::fs::copy(&file, bench.path("hub/model.pth")).unwrap();
    bench.write(
        "hub/config.json",
        r#"{"num_classes": 9, "pretrained_cfg": {"input_size": [3, 64, 64], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}}"#,
    );
    let answer = bench.answer(&["models", "import", "hub/model.pth"]);
    assert_eq!(
        (&answer["size"]["value"], &answer["size"]["source"]),
        (&64.into(), &"config.json".into())
    );
    assert_eq!(
        answer["classes"]["value"], 4,
        "the classifier's rows are closer to the truth"
    );
    let shown = bench.answer(&["models", "show", "v0001"]);
    assert_eq!(
        shown["architecture"]["input"],
        serde_json::json!([3, 64, 64])
    );
    bench.write(
        "hub/config.json",
        r#"{"mean": [128, 128, 128], "std": [1, 1, 1], "input_size": [3, 32, 32]}"#,
    );
    bench
        .run(&["models", "import", "hub/model.pth"])
        .assert_wrong_usage(&["mean in config.json", "255"]);
}

#[test]
fn a_version_of_a_registry_is_imported_as_it_is() {
    let bench = Bench::new();
    let file = checkpoint();
    bench.answer(&import(&file, &[]));
    let again = bench.answer(&["models", "import", "registry/v0001/weights.safetensors"]);
    assert_eq!(again["size"]["source"], "model.toml");
    let [first, second] = ["v0001", "v0002"].map(|name| bench.answer(&["models", "show", name]));
    for key in [
        "dim",
        "weights_sha256",
        "architecture",
        "preprocessing",
        "classifier",
    ] {
        assert_eq!(first[key], second[key], "{key}");
    }
}

#[test]
fn other_networks_and_hostile_files_are_refused_with_a_reason() {
    let bench = Bench::new();
    for (name, more, part) in [
        ("resnet34.pt", &[][..], "more than two blocks"),
        ("grey.pt", &[], "1 channels"),
        ("integers.pt", &[], "is I8"),
        ("repeated.pt", &["--classes", "3"], "bytes"),
        ("ambiguous.pt", &[], "dotted name"),
    ] {
        let ended = bench.run(&[&["models", "import", &wrapped(name)][..], &INPUT, more].concat());
        assert!(
            matches!(ended.code, Some(1 | 2)),
            "{name}: {}",
            ended.stderr
        );
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.contains(part), "{name}: {}", ended.stderr);
    }
    // A classifier of none of the known names leaves the classes open; the pickle in this one calls a program when Python reads it.
    bench.answer(&[&["models", "import", &wrapped("calls.pt")][..], &INPUT].concat());
    assert!(!bench.path("executed").exists());
}

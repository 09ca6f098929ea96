//! `fit-head` on files of other programs, and behind registered versions.

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::encoders::{CLASSES, files, lines};

/// Six classes that the toy run's versions know.
const IMAGES: &str = r#"{ set = "generated", split = "train", generated = { classes = 6, images_per_class = 40, seed = 0 } }"#;

fn share(answer: &Value, path: &str) -> f64 {
    let value = answer.pointer(path);
    value
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("{path}: {answer}"))
}

#[test]
fn features_of_a_file_give_a_bridge_that_is_applied() {
    let bench = files();
    let fit = |out: &str, seed: &str| {
        bench.answer(&[
            "fit-head",
            "new-gallery.jsonl",
            "--vertices",
            "9",
            "--to-space",
            "shop",
            "--space",
            "new",
            "--seed",
            seed,
            "--out",
            out,
        ])
    };
    let fitted = fit("layer", "0");
    assert_eq!(
        (&fitted["bridge"], &fitted["dim"], &fitted["classes"]),
        (&json!("layer"), &json!(8), &json!(CLASSES))
    );
    assert_eq!(
        (&fitted["vertex_end"], &fitted["to"]["id"]),
        (&json!("front"), &json!("shop"))
    );
    assert_eq!(
        (&fitted["rows"], &fitted["held_out_rows"]),
        (&json!(270), &json!(30))
    );
    assert!(
        share(&fitted, "/figures/nearest_prototype") > 0.8,
        "{fitted}"
    );
    assert!(share(&fitted, "/figures/self_test") > 0.8, "{fitted}");
    assert!(fitted["figures"]["reference"].is_null());

    // The seed alone decides the weights.
    fit("again", "0");
    fit("other", "1");
    let weights =
        |folder: &str| std::fs::read(bench.path(folder).join("weights.safetensors")).unwrap();
    assert_eq!(weights("layer"), weights("again"));
    assert_ne!(weights("layer"), weights("other"));

    let apply = [
        "bridge",
        "apply",
        "layer",
        "new-queries.jsonl",
        "--out",
        "mapped.npz",
    ];
    assert_eq!(bench.answer(&apply)["rows"], 300);
    let mapped = perennial_formats::read(&bench.path("mapped.npz")).unwrap();
    assert_eq!((mapped.len(), mapped.dim()), (300, 8));
    let shown = bench.succeed(&["bridge", "show", "layer"]);
    assert!(shown.contains("head"), "{shown}");
    let kept = bench.answer(&[
        "fit-head",
        "new-gallery.jsonl",
        "--vertices",
        "9",
        "--held-out",
        "0",
    ]);
    assert_eq!(kept["bridge"], "b0001");
    assert!(kept["figures"]["nearest_prototype"].is_null());
}

#[test]
fn a_reference_gives_a_bridge_into_its_space() {
    let bench = files();
    bench.succeed(&[
        "fit-head",
        "old-gallery.jsonl",
        "--vertices",
        "9",
        "--end",
        "back",
        "--out",
        "old-layer",
    ]);
    for name in ["gallery", "queries"] {
        bench.succeed(&[
            "bridge",
            "apply",
            "old-layer",
            &format!("old-{name}.jsonl"),
            "--out",
            &format!("{name}.jsonl"),
        ]);
    }
    let fit = |reference: &str, more: &[&str]| {
        let plain = [
            "fit-head",
            "new-gallery.jsonl",
            "--reference",
            reference,
            "--reference-space",
            "shop",
            "--end",
            "back",
        ];
        bench.run(&[&plain[..], &["--json", "--out", "layer"], more].concat())
    };
    let ended = fit("gallery.jsonl", &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let fitted: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (
            &fitted["to"]["id"],
            &fitted["vertices"],
            &fitted["unpaired"]
        ),
        (&json!("shop"), &json!(9), &json!([0, 0]))
    );
    let reference = "/figures/reference";
    assert!(
        share(&fitted, &format!("{reference}/cross_test")) > 0.6,
        "{fitted}"
    );
    assert!(
        share(&fitted, &format!("{reference}/nearest_prototype")) > 0.5,
        "{fitted}"
    );
    assert_eq!(fitted["warnings"], json!([]));
    // The classes of the older version are at the other end.
    let front = bench.answer(&[
        "fit-head",
        "new-gallery.jsonl",
        "--reference",
        "gallery.jsonl",
        "--end",
        "front",
        "--out",
        "front",
        "--epochs",
        "2",
    ]);
    assert_eq!(front["warnings"].as_array().unwrap().len(), 1, "{front}");

    fit("queries.jsonl", &[]).assert_wrong_usage(&["no id in common"]);
    let half: Vec<String> = bench
        .read("gallery.jsonl")
        .lines()
        .take(200)
        .map(str::to_owned)
        .collect();
    bench.write("half.jsonl", &half.join("\n"));
    fit("half.jsonl", &[]).assert_wrong_usage(&["100 of 300 items", "30-200", "--skip-unpaired"]);
    let ended = fit("half.jsonl", &["--skip-unpaired"]);
    let fitted: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(fitted["unpaired"], json!([100, 0]));
    fit("half.jsonl", &["--match", "row"]).assert_wrong_usage(&["both must hold the same inputs"]);
    fit("gallery.jsonl", &["--vertices", "12"])
        .assert_wrong_usage(&["8 dimensions", "12 vertices"]);
}

#[test]
fn what_cannot_be_trained_on_is_wrong_usage() {
    let bench = files();
    let refused = |arguments: &[&str], parts: &[&str]| {
        bench
            .run(&[&["fit-head"][..], arguments].concat())
            .assert_wrong_usage(parts);
    };
    refused(&["new-fit.jsonl"], &["has no labels", "--labels FILE"]);
    refused(
        &["new-gallery.jsonl", "--vertices", "4"],
        &["label 4", "no vertex", "0 to 3"],
    );
    refused(
        &["new-gallery.jsonl", "--held-out", "1"],
        &["--held-out 1", "0.9"],
    );
    refused(&["new-gallery.jsonl", "--epochs", "0"], &["epochs"]);
    refused(&["new-gallery.jsonl", "--slot", "a"], &["no registry"]);
    refused(&["missing.jsonl"], &["missing.jsonl"]);
    bench.write("labels.txt", &"-1\n".repeat(300));
    refused(
        &["new-gallery.jsonl", "--labels", "labels.txt"],
        &["label -1 of row 0"],
    );
    bench.write("few.txt", "1\n2\n");
    refused(
        &["new-gallery.jsonl", "--labels", "few.txt"],
        &["2 labels", "300 rows"],
    );
    bench.write(
        "zero.jsonl",
        &lines("new", 1, 20, true).replacen("\"embedding\":[", "\"embedding\":[0,", 1),
    );
    refused(&["zero.jsonl"], &["zero.jsonl"]);
    assert!(!bench.path("registry").exists());
    // Where the result cannot be written, nothing is trained, nor even read.
    bench.write("notes", "no registry");
    refused(
        &["missing.jsonl", "--registry", "notes"],
        &["notes is not a folder"],
    );
    std::fs::create_dir(bench.path("registry")).unwrap();
    bench.write("registry/bridges", "no folder");
    refused(
        &["new-gallery.jsonl", "--vertices", "4"],
        &["bridges is not a folder"],
    );
}

#[test]
fn a_wrong_name_of_a_space_is_told_with_the_option_that_gave_it() {
    let bench = files();
    let add = [
        "spaces",
        "add",
        "wide",
        "--dim",
        "99",
        "--modality",
        "image",
    ];
    bench.succeed(&add);
    let wrong = |arguments: &[&str], option: &str| {
        let remedy = format!("with {option}");
        bench
            .run(arguments)
            .assert_wrong_usage(&["wide in the registry has 99", &remedy]);
    };
    wrong(
        &["fit-head", "new-gallery.jsonl", "--space", "wide"],
        "--space",
    );
    let reference = [
        "--reference",
        "new-gallery.jsonl",
        "--reference-space",
        "wide",
    ];
    wrong(
        &[&["fit-head", "new-gallery.jsonl"], &reference[..]].concat(),
        "--reference-space",
    );
    let pair = [
        "bridge",
        "fit",
        "--from",
        "new-gallery.jsonl",
        "--to",
        "new-gallery.jsonl",
    ];
    wrong(
        &[&pair[..], &["--from-space", "wide"]].concat(),
        "--from-space",
    );
    wrong(&[&pair[..], &["--to-space", "wide"]].concat(), "--to-space");
}

#[test]
fn texts_are_classes_in_their_order() {
    let bench = files();
    let names = ["cup", "bowl", "axe", "fork", "dish", "egg"];
    let labels: Vec<&str> = (0..300).map(|row| names[row % CLASSES]).collect();
    bench.write("labels.txt", &labels.join("\n"));
    let fitted = bench.answer(&[
        "fit-head",
        "new-gallery.jsonl",
        "--labels",
        "labels.txt",
        "--vertices",
        "7",
        "--epochs",
        "3",
        "--out",
        "layer",
    ]);
    assert_eq!(
        fitted["labels"],
        json!(["axe", "bowl", "cup", "dish", "egg", "fork"])
    );
}

#[test]
fn a_version_with_a_layer_embeds_what_it_was_trained_for() {
    let bench = Bench::new();
    bench.succeed(&["train", "toy.toml"]);
    let features = format!("v0003@{IMAGES}");
    let reference = format!("v0001@{IMAGES}");
    let fitted = bench.answer(&[
        "fit-head",
        &features,
        "--reference",
        &reference,
        "--held-out",
        "0.2",
    ]);
    assert_eq!(
        (&fitted["version"], &fitted["vertices"]),
        (&json!("v0004"), &json!(16))
    );
    assert_eq!(
        (&fitted["vertex_end"], &fitted["held_out_rows"]),
        (&json!("back"), &json!(48))
    );
    // The toy run's networks are too weak for more than chance.
    for figure in ["self_test", "nearest_prototype", "reference/cross_test"] {
        assert!((0.0..=1.0).contains(&share(&fitted, &format!("/figures/{figure}"))));
    }
    let shown = bench.answer(&["models", "show", "v0004"]);
    assert_eq!(
        (&shown["parent"], &shown["method"]),
        (&json!("v0003"), &json!("hoc head"))
    );
    assert_eq!(shown["classifier"]["classes"], 6);
    assert_eq!(shown["classifier"]["kind"], "simplex");
    // The same layer as a bridge maps the older version's embeddings to the new one's.
    bench.succeed(&[
        "fit-head",
        &features,
        "--reference",
        &reference,
        "--held-out",
        "0.2",
        "--out",
        "layer",
    ]);
    for version in ["v0003", "v0004"] {
        let out = format!("{version}.safetensors");
        bench.succeed(&["embed", version, "--set", "generated:test", "--out", &out]);
    }
    bench.succeed(&[
        "bridge",
        "apply",
        "layer",
        "v0003.safetensors",
        "--out",
        "mapped.npy",
    ]);
    let [new, mapped] = ["v0004.safetensors", "mapped.npy"]
        .map(|file| perennial_formats::read(&bench.path(file)).unwrap());
    let largest = new
        .vectors()
        .iter()
        .zip(mapped.vectors())
        .map(|(one, other)| (one - other).abs())
        .fold(0.0, f32::max);
    assert!(largest < 1e-4, "{largest}");
    // A file that names the version counts as the version; more classes than vertices do not fit.
    bench
        .run(&["fit-head", "v0003.safetensors", "--vertices", "16"])
        .assert_wrong_usage(&["no vertex"]);
    let again = bench.answer(&[
        "fit-head",
        "v0003.safetensors",
        "--vertices",
        "32",
        "--epochs",
        "2",
    ]);
    assert_eq!(
        (&again["version"], &again["dim"]),
        (&json!("v0005"), &json!(31))
    );
    bench.succeed(&[
        "slots",
        "allocate",
        "animals",
        "--vertices",
        "64",
        "--classes",
        "20",
    ]);
    let slotted = bench.answer(&[
        "fit-head",
        "v0003.safetensors",
        "--vertices",
        "64",
        "--slot",
        "animals",
        "--epochs",
        "1",
    ]);
    assert_eq!(
        (&slotted["version"], &slotted["vertex_end"]),
        (&json!("v0006"), &json!("back"))
    );
}

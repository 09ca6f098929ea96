//! Encoders of other programs are uploaded with all of their files.

use std::path::PathBuf;

use perennial_core::Registry;
use serde_json::json;

use crate::client::{Answer, Call};
use crate::encoder::{ANGLE_FILE, expected_of_text, outside_draft, publish_outside};
use crate::harness::{Running, Setup};

/// A service with a version of pictures, and the version to upload: its description and its files.
fn service() -> (Running, String, Vec<(String, Vec<u8>)>) {
    let setup = Setup::new(&["0"]);
    let other = Registry::create(setup.folder.path().join("other")).unwrap();
    let version = publish_outside(&other, outside_draft(3, false), "0.7");
    let listed = version.outside().unwrap().files.iter();
    let files = listed.map(|file| {
        let content = std::fs::read(other.file_path(&version, &file.name)).unwrap();
        (file.name.clone(), content)
    });
    let files = files.collect();
    (setup.start(), version.to_toml(), files)
}

fn upload(service: &Running, model: &str, files: &[(String, Vec<u8>)]) -> Answer {
    let mut fields = vec![("model", "model.toml", model.as_bytes())];
    for (name, content) in files {
        fields.push(("file", name.as_str(), content.as_slice()));
    }
    Call::new("POST", "/models")
        .named_form(&fields)
        .send(service.address)
}

/// What lies in the registry's folder, whatever its name.
fn entries(service: &Running) -> Vec<String> {
    let entries = std::fs::read_dir(service.setup.registry.root()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn an_uploaded_encoder_is_a_version_like_any_other() {
    let (service, model, mut files) = service();
    // In any order.
    files.reverse();
    let added = upload(&service, &model, &files).expect(201);
    assert_eq!(
        [&added["name"], &added["encoder"], &added["accepts"]],
        [&json!("v0002"), &json!("onnx"), &json!(["text"])]
    );
    let registry = &service.setup.registry;
    let version = registry.get("v0002").unwrap();
    registry.verify(&version).unwrap();
    assert_eq!(added["weights_sha256"], version.weights_sha256);
    service.swap("v0002").expect(200);
    let embedded = service
        .call("POST", "/embed", &json!({"texts": ["rg"]}))
        .expect(200);
    let first = embedded["embeddings"][0][0].as_f64().unwrap();
    assert!((first - f64::from(expected_of_text("rg", 0.7)[0])).abs() < 1e-5);
}

/// A trial's folder of a process that was killed.
fn abandon(registry: &Registry) -> PathBuf {
    let folder = registry.root().join(".trial-abandoned");
    std::fs::create_dir_all(folder.join("v0001")).unwrap();
    std::fs::write(folder.join("v0001/weights.safetensors"), "half").unwrap();
    std::fs::write(folder.join(".in-use"), "").unwrap();
    folder
}

#[test]
fn what_a_killed_service_left_is_removed() {
    let setup = Setup::new(&["0"]);
    // Of another process that is at work.
    let in_use = setup.registry.trial_folder().unwrap();
    let abandoned = abandon(&setup.registry);
    let service = setup.start();
    assert!(!abandoned.exists() && in_use.path().is_dir());

    // An upload removes it as well, whatever becomes of the upload.
    let registry = &service.setup.registry;
    let abandoned = abandon(registry);
    let toml = registry.get("v0001").unwrap().to_toml();
    let fields: [(&str, &[u8]); 2] = [("model", toml.as_bytes()), ("weights", b"0")];
    let upload = Call::new("POST", "/models").form(&fields);
    upload.send(service.address).expect(201);
    assert!(!abandoned.exists() && in_use.path().is_dir());
    let in_use = in_use.path().file_name().unwrap().to_owned();
    let trials = entries(&service).into_iter();
    let trials: Vec<String> = trials.filter(|name| name.starts_with(".trial")).collect();
    assert_eq!(trials, [in_use.into_string().unwrap()]);
}

#[test]
fn a_service_that_only_reads_removes_nothing() {
    let mut setup = Setup::new(&["0"]);
    setup.config.read_only = true;
    let abandoned = abandon(&setup.registry);
    let _service = setup.start();
    assert!(abandoned.exists());
}

#[test]
fn what_is_not_whole_leaves_nothing_behind() {
    let (service, model, files) = service();
    let before = entries(&service);
    let refused = |answer: Answer, says: &str| {
        let message = answer.expect(422)["error"]["message"].to_string();
        assert!(message.contains(says), "{says}: {message}");
    };
    refused(
        upload(&service, &model, &files[1..]),
        "angle.onnx is missing",
    );
    let changed = |name: &str, content: &[u8]| -> Vec<(String, Vec<u8>)> {
        let files = files.iter().cloned();
        let change = |(found, old): (String, Vec<u8>)| match found == name {
            true => (found, content.to_vec()),
            false => (found, old),
        };
        files.map(change).collect()
    };
    refused(
        upload(&service, &model, &changed(ANGLE_FILE, b"0.8")),
        "angle.onnx: size or SHA-256 differs",
    );
    let with = |name: &str| {
        let more = vec![(name.to_owned(), b"0.7".to_vec())];
        [files.clone(), more].concat()
    };
    refused(upload(&service, &model, &with(ANGLE_FILE)), "sent twice");
    for name in [
        "other.onnx",
        "../escaped",
        "/tmp/escaped",
        "v0001/model.toml",
    ] {
        refused(
            upload(&service, &model, &with(name)),
            "is not listed in model.toml",
        );
    }
    // A description that lists a way out of its folder is none.
    let outside = model.replace("angle.onnx", "../angle.onnx");
    assert_ne!(outside, model);
    refused(upload(&service, &outside, &files), "model:");
    let weights = [
        ("model", "model.toml", model.as_bytes()),
        ("weights", "w", &b"0.7"[..]),
    ];
    let call = Call::new("POST", "/models").named_form(&weights);
    refused(call.send(service.address), "send its files as `file`");
    let own = service.setup.registry.get("v0001").unwrap().to_toml();
    refused(
        upload(&service, &own, &files),
        "send its weights.safetensors as `weights`",
    );
    refused(upload(&service, "", &files), "model:");
    // Whole, but not what it says it is: it is tried before it is published.
    let other = Registry::create(service.setup.folder.path().join("broken")).unwrap();
    let broken = publish_outside(&other, outside_draft(3, false), "batch");
    let content: Vec<(String, Vec<u8>)> = changed(ANGLE_FILE, b"batch");
    refused(
        upload(&service, &broken.to_toml(), &content),
        "does not work",
    );
    assert_eq!(entries(&service), before);
}

#[test]
fn the_limit_is_that_of_all_files_together() {
    let mut setup = Setup::new(&["0"]);
    setup.config.limits.model_bytes = 4096;
    let service = setup.start();
    let large = vec![("model.onnx".to_owned(), vec![0; 5000])];
    assert_eq!(upload(&service, "", &large).code(413), "payload_too_large");
}

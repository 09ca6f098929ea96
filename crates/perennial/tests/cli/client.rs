//! The command line as a client of a running service: the same answers as from a folder, and errors that say what to do.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::bench::{Bench, Ended};
use crate::gallery::stocked;
use crate::service::Service;

fn png(shade: u8) -> Vec<u8> {
    perennial_encode::encode_png(&vec![shade; 3 * 40 * 40], [3, 40, 40]).unwrap()
}

/// `gallery` with arguments, against a service or the folder.
pub fn gallery(bench: &Bench, server: Option<&str>, arguments: &[&str]) -> Ended {
    let server: Vec<&str> = server.iter().flat_map(|url| ["--server", url]).collect();
    bench.run(&[&["gallery"], arguments, &server].concat())
}

#[test]
fn a_service_gives_the_answers_of_its_folder() {
    let bench = stocked();
    std::fs::write(bench.path("query.png"), png(200)).unwrap();
    let questions: [&[&str]; 6] = [
        &["search", "--id", "generated/7", "--limit", "3"],
        &["search", "--id", "generated/7", "--label", "3", "--json"],
        &["search", "query.png", "--limit", "2", "--json"],
        &["search", "query.png", "--model-version", "v0001"],
        &["search", "--id", "none"],
        &["search", "--id", "generated/7", "--limit", "0"],
    ];
    let local = questions.map(|question| gallery(&bench, None, question));
    let stats = bench.answer(&["gallery", "stats"]);
    let service = Service::start_with(&bench, &["--snapshots", "snapshots"], Stdio::piped());
    for (question, local) in questions.iter().zip(local) {
        let remote = gallery(&bench, Some(service.url()), question);
        assert_eq!(remote.stdout, local.stdout, "{question:?}");
        if question.contains(&"0") {
            // A limit that cannot be: refused on either side.
            assert!(remote.code != Some(0) && local.code != Some(0));
        } else {
            assert_eq!(remote.code, local.code, "{question:?}: {}", remote.stderr);
        }
    }
    let answer = |arguments: &[&str]| -> Value {
        let ended = gallery(
            &bench,
            Some(service.url()),
            &[arguments, &["--json"]].concat(),
        );
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap()
    };
    let remote = answer(&["stats"]);
    for key in ["items", "per_version", "dim", "schema_version"] {
        assert_eq!(remote[key], stats[key]);
    }
    let keys = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(&remote), keys(&stats));

    let snapshot = answer(&["snapshot"]);
    assert_eq!(snapshot["items"], 2000);
    let name = snapshot["name"].as_str().unwrap();
    assert!(bench.path("snapshots").join(name).is_file());
    gallery(&bench, Some(service.url()), &["snapshot", "mine.snapshot"])
        .assert_wrong_usage(&["mine.snapshot", "remove the file name"]);
    gallery(&bench, Some(service.url()), &["restore", "toy.toml"]).assert_wrong_usage(&["stop it"]);

    assert_eq!(answer(&["delete", "generated/7", "none"])["deleted"], 1);
    gallery(&bench, Some(service.url()), &["delete"]).assert_wrong_usage(&["--all"]);
    assert_eq!(answer(&["stats"])["items"], 1999);
    assert_eq!(answer(&["delete", "--all"])["deleted"], 1999);
    assert_eq!(answer(&["delete", "--all"])["deleted"], 0);
}

#[test]
fn a_folder_and_a_service_are_not_mixed_up() {
    let bench = stocked();
    let service = Service::start(&bench);
    // What the program could not know, it says.
    let ended = gallery(&bench, None, &["stats"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("--server"), "{}", ended.stderr);
    // A note is believed while its process runs.
    for (process, advice) in [
        (std::process::id(), "--server http://127.0.0.1:1"),
        (u32::MAX, "--server URL"),
    ] {
        bench.write(
            "gallery/service.toml",
            &format!("url = \"http://127.0.0.1:1\"\nprocess = {process}\n"),
        );
        let ended = gallery(&bench, None, &["stats"]);
        assert!(ended.stderr.contains(advice), "{}", ended.stderr);
    }
    bench.write(
        "gallery/service.toml",
        &format!(
            "url = \"http://127.0.0.1:1\"\nprocess = {}\n",
            std::process::id()
        ),
    );
    let ended = gallery(&bench, None, &["delete", "generated/7"]);
    assert!(
        ended.stderr.contains("--server http://127.0.0.1:1"),
        "{}",
        ended.stderr
    );
    // One of the two must be meant.
    let both = [
        "gallery",
        "--gallery",
        "other",
        "stats",
        "--server",
        service.url(),
    ];
    let ended = bench.run(&both);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("--gallery"), "{}", ended.stderr);
    // A variable that is set for the service is no second choice.
    let mut command = bench.command(&["gallery", "stats", "--server", service.url()]);
    let ended = Ended::from(
        command
            .env("PERENNIAL_GALLERY", "gallery")
            .output()
            .unwrap(),
    );
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn pictures_added_through_a_service_are_those_added_to_a_folder() {
    let bench = stocked();
    for (name, shade) in [
        ("photos/a.png", 10),
        ("photos/cats/b.png", 90),
        ("photos/dogs/b.png", 200),
    ] {
        std::fs::create_dir_all(bench.path(name).parent().unwrap()).unwrap();
        std::fs::write(bench.path(name), png(shade)).unwrap();
    }
    bench.write("photos/broken.png", "no picture");
    bench.succeed(&["gallery", "--gallery", "local", "add", "photos"]);
    let export = |service: &Service| {
        service.get("gallery/items?embeddings=true&limit=1000")["items"].clone()
    };
    let local = {
        let service = Service::start_with(&bench, &["--gallery", "local"], Stdio::piped());
        export(&service)
    };
    let service = Service::start_with(&bench, &["--gallery", "remote"], Stdio::piped());
    let add = |more: &[&str]| -> Value {
        let arguments = [&["add", "photos", "--json"], more].concat();
        let ended = gallery(&bench, Some(service.url()), &arguments);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap()
    };
    let first = add(&[]);
    assert_eq!(
        [&first["inserted"], &first["left_out"]],
        [&json!(3), &json!(1)]
    );
    assert_eq!(export(&service), local);
    let second = add(&[]);
    assert_eq!(
        [
            &second["inserted"],
            &second["replaced"],
            &second["unchanged"]
        ],
        [&json!(0), &json!(0), &json!(3)]
    );
    std::fs::remove_file(bench.path("photos/a.png")).unwrap();
    std::fs::write(bench.path("photos/cats/b.png"), png(91)).unwrap();
    assert_eq!(add(&[])["pruned"], 0);
    let third = add(&["--prune"]);
    assert_eq!([&third["pruned"], &third["items"]], [&json!(1), &json!(2)]);
    let refused = gallery(
        &bench,
        Some(service.url()),
        &["add", "photos", "--model", "v0002"],
    );
    refused.assert_wrong_usage(&["v0001", "remove --model"]);
}

#[test]
fn sets_and_embeddings_go_through_a_service_too() {
    let bench = stocked();
    bench.succeed(&[
        "embed",
        "v0001",
        "--set",
        "generated:test",
        "--out",
        "e.safetensors",
    ]);
    bench.succeed(&[
        "gallery",
        "--gallery",
        "local",
        "add",
        "--set",
        "generated:test",
    ]);
    let service = Service::start_with(&bench, &["--gallery", "remote"], Stdio::piped());
    for arguments in [
        &["add", "--set", "generated:test"][..],
        &["add", "--embeddings", "e.safetensors"],
    ] {
        for (inserted, replaced) in [(2000, 0), (0, 2000)] {
            let ended = gallery(
                &bench,
                Some(service.url()),
                &[arguments, &["--json"]].concat(),
            );
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
            let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
            assert_eq!(
                [&answer["inserted"], &answer["replaced"]],
                [&json!(inserted), &json!(replaced)]
            );
        }
    }
    let first = service.get("gallery/items/generated%2F7?embedding=true");
    let same = service.get("gallery/items/7?embedding=true");
    let close = |a: &Value, b: &Value| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-5;
    let (first, same) = (
        first["embedding"].as_array().unwrap(),
        same["embedding"].as_array().unwrap(),
    );
    assert!(first.iter().zip(same).all(|(a, b)| close(a, b)));
}

//! What the user made is never removed or written over by a run.

use crate::bench::{Bench, TINY};

/// Everything below a folder, with the content of its files.
fn tree(bench: &Bench, folder: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![bench.path(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let content = if path.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else {
                std::fs::read(&path).unwrap()
            };
            found.push((path.display().to_string(), content));
        }
    }
    found.sort();
    found
}

/// A folder of a run with a configuration of the user's in it, and more.
fn own_folder(text: &str) -> Bench {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.path("runs/tiny")).unwrap();
    bench.write("runs/tiny/experiment.toml", &format!("{text}# my notes\n"));
    bench.write("runs/tiny/notes.txt", "more notes");
    bench
}

const RUN: [&str; 2] = ["pretrain", "runs/tiny/experiment.toml"];

#[test]
fn a_run_that_cannot_start_leaves_its_folder_as_it_was() {
    let no_data = TINY.replace("\"generated\"", "\"cifar10\"");
    let no_data: String = no_data
        .lines()
        .filter(|line| !line.starts_with("generated"))
        .map(|line| format!("{line}\n"))
        .collect();
    let cases: [(String, &[&str]); 4] = [
        (no_data, &[]),
        (
            TINY.to_owned(),
            &["--set", "data.generated.images_per_class=0"],
        ),
        (TINY.to_owned(), &["--set", "training.epoch=3"]),
        (TINY.to_owned(), &["--resume"]),
    ];
    for (text, more) in cases {
        for lock in [false, true] {
            let bench = own_folder(&text);
            std::fs::create_dir(bench.path("registry")).unwrap();
            if lock {
                bench.write("runs/tiny/.lock", "mine");
            }
            let before = tree(&bench, ".");
            let ended = bench.run(&[&RUN, more].concat());
            assert_eq!(ended.code, Some(2), "{more:?}: {}", ended.stderr);
            assert_eq!(tree(&bench, "."), before, "{more:?}");
        }
    }
}

#[test]
fn a_configuration_in_the_folder_of_its_run_is_used_and_stays() {
    let bench = own_folder(TINY);
    let before = bench.read("runs/tiny/experiment.toml");
    let changed = [&RUN[..], &["--set", "training.epochs=2"]].concat();
    bench.succeed(&changed);
    assert_eq!(bench.read("runs/tiny/experiment.toml"), before);
    assert_eq!(bench.read("runs/tiny/notes.txt"), "more notes");
    let resolved = bench.read("runs/tiny/experiment.resolved.toml");
    assert!(resolved.contains("epochs = 2"), "{resolved}");

    // Both ways of going on know what the run used.
    let again = bench.answer(&["pretrain", "--resume", "runs/tiny"]);
    assert_eq!(again["versions"], serde_json::json!(["v0001"]));
    bench.succeed(&[&changed[..], &["--resume"]].concat());
    bench.succeed(&[
        "evaluate",
        "tiny",
        "--queries",
        "generated:test",
        "--gallery",
        "generated:train",
        "--resamples",
        "10",
    ]);
    assert_eq!(bench.read("runs/tiny/experiment.toml"), before);
    assert_eq!(bench.read("runs/tiny/experiment.resolved.toml"), resolved);
    bench.run(&RUN).assert_wrong_usage(&["already holds a run"]);
}

#[test]
fn a_finished_run_that_is_resumed_leaves_an_alias_that_was_moved() {
    let bench = own_folder(TINY);
    bench.succeed(&RUN);
    bench.succeed(&[&RUN[..], &["--name", "other", "--seed", "2"]].concat());
    let resume = ["pretrain", "--resume", "runs/tiny"];
    let again = bench.answer(&resume);
    assert_eq!(again["finished_before"], true);
    assert_eq!(again["alias"], "tiny");

    bench.succeed(&["models", "alias", "tiny", "v0002"]);
    let again = bench.run(&resume);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    let says = "the alias tiny has been moved to v0002, and stays there";
    assert!(again.stderr.contains(says), "{}", again.stderr);
    assert!(
        again.stdout.contains("had finished, v0001"),
        "{}",
        again.stdout
    );
    assert_eq!(bench.answer(&["models", "show", "tiny"])["name"], "v0002");
    assert_eq!(bench.answer(&resume).get("alias"), None);
}

#[test]
fn results_without_a_checkpoint_are_not_written_over() {
    for name in [
        "run.json",
        "metrics.jsonl",
        "report.html",
        "experiment.resolved.toml",
    ] {
        let bench = own_folder(TINY);
        bench.write(&format!("runs/tiny/{name}"), "mine");
        let before = tree(&bench, ".");
        bench.run(&RUN).assert_wrong_usage(&[name]);
        assert_eq!(tree(&bench, "."), before);
    }
    // A finished run whose checkpoint was deleted to save space.
    let bench = Bench::new();
    bench.write("tiny.toml", TINY);
    bench.succeed(&["pretrain", "tiny.toml"]);
    std::fs::remove_dir_all(bench.path("runs/tiny/checkpoint")).unwrap();
    let before = tree(&bench, "runs");
    bench
        .run(&["pretrain", "tiny.toml"])
        .assert_wrong_usage(&["run.json"]);
    assert_eq!(tree(&bench, "runs"), before);
}

#[test]
fn the_demo_keeps_off_what_is_there() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("mine")).unwrap();
    bench.write("mine/notes.txt", "notes");
    bench
        .run(&["demo", "--keep", "mine"])
        .assert_wrong_usage(&["it is not empty"]);
    assert_eq!(bench.read("mine/notes.txt"), "notes");
}

#[test]
fn the_demo_asks_for_its_port_before_it_trains() {
    let bench = Bench::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = bench.run(&["demo", "--serve", "--listen", &address]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let says = format!("cannot listen on {address}");
    assert!(ended.stderr.contains(&says), "{ended:?}");
    assert!(!ended.stderr.contains("training"), "{ended:?}");
}

#[cfg(feature = "fetch")]
#[test]
fn downloads_keep_off_what_is_there() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("data")).unwrap();
    let fetch = [
        "data",
        "fetch",
        "cifar10",
        "--base-url",
        "http://127.0.0.1:9",
    ];
    bench.write("data/cifar-10-batches-bin", "mine");
    let ended = bench.run(&fetch);
    ended.assert_wrong_usage(&["cifar-10-batches-bin is not a folder"]);
    assert_eq!(bench.read("data/cifar-10-batches-bin"), "mine");
    std::fs::remove_file(bench.path("data/cifar-10-batches-bin")).unwrap();
    bench.write("data/cifar-10-binary.tar.gz.partial", "mine");
    bench
        .run(&fetch)
        .assert_wrong_usage(&["no beginning of an archive"]);
    assert_eq!(bench.read("data/cifar-10-binary.tar.gz.partial"), "mine");
}

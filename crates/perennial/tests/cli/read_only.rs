//! A gallery on a disk that cannot be written, and files that are no gallery.
//!
//! The first needs the right to mount a file system in memory; it says so and passes where that is missing.

use std::process::Stdio;

use serde_json::json;

use crate::bench::Bench;
use crate::full_disk::Disk;
use crate::gallery::stocked;
use crate::service::Service;

#[test]
fn a_gallery_that_cannot_be_written_is_read() {
    let bench = stocked();
    let Some(disk) = Disk::mount(bench.path("disk")) else {
        return;
    };
    let folder = disk.path("gallery");
    std::fs::create_dir(&folder).unwrap();
    let copy = |name: &str| {
        std::fs::copy(bench.path(&format!("gallery/{name}")), folder.join(name)).unwrap();
    };
    copy("gallery.redb");
    disk.forbid_writing();

    let gallery = ["gallery", "--gallery", folder.to_str().unwrap()];
    let read = |more: &[&str]| bench.answer(&[&gallery, more].concat());
    assert_eq!(read(&["stats"])["items"], 2000);
    let found = read(&["search", "--id", "generated/7", "--limit", "2"]);
    assert_eq!(found["hits"][0]["id"], "generated/7");
    assert_eq!(read(&["snapshot", "copy.snapshot"])["items"], 2000);
    for writing in [&["delete", "generated/7"][..], &["compact"]] {
        let refused = bench.run(&[&gallery, writing].concat());
        assert_eq!(refused.code, Some(1), "{}", refused.stderr);
        assert!(
            refused.stderr.contains("gallery.redb cannot be written"),
            "{}",
            refused.stderr
        );
    }

    let arguments = ["--gallery", folder.to_str().unwrap(), "--read-only"];
    let mut service = Service::start_with(&bench, &arguments, Stdio::null());
    let query = json!({"id": "generated/7", "limit": 1});
    let (_, found) = service.ask("search", &query);
    assert_eq!(found["hits"][0]["id"], "generated/7");
    let item = json!({"id": 1, "embedding": [1.0], "model_version": "v0001"});
    let (status, refused) = service.call("PUT", "gallery/items", &item);
    assert_eq!(
        (status, &refused["error"]["code"]),
        (403, &json!("read_only"))
    );
    // Readers do not keep each other out.
    assert_eq!(read(&["stats"])["items"], 2000);
    service.stop();
    assert!(!folder.join("probes").exists());
}

#[test]
fn a_gallery_in_use_is_named_with_the_way_out() {
    let bench = stocked();
    let service = Service::start(&bench);
    for command in [
        &["stats"][..],
        &["search", "--id", "generated/7"],
        &["compact"],
    ] {
        bench
            .run(&[&["gallery"], command].concat())
            .assert_wrong_usage(&["gallery", "in use by another process", "--server http"]);
    }
    for more in [&[][..], &["--read-only"]] {
        let ended = bench.run(&[&["serve", "--listen", "127.0.0.1:0"], more].concat());
        ended.assert_wrong_usage(&["in use by the service at http", "stop that first"]);
        assert!(!ended.stderr.contains("--server"), "{}", ended.stderr);
    }
    drop(service);
}

#[test]
fn what_is_no_gallery_is_refused_and_stays() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("gallery")).unwrap();
    let path = bench.path("gallery/gallery.redb");
    for content in ["", "SQLite format 3", "redb"] {
        std::fs::write(&path, content).unwrap();
        for command in [
            &["stats"][..],
            &["delete", "--all"],
            &["snapshot", "s"],
            &["compact"],
        ] {
            let refused = bench.run(&[&["gallery"], command].concat());
            assert_eq!(
                refused.code,
                Some(1),
                "{content:?} {command:?}: {}",
                refused.stderr
            );
            for part in ["gallery/gallery.redb is damaged", "restore a snapshot"] {
                assert!(refused.stderr.contains(part), "{}", refused.stderr);
            }
        }
        assert_eq!(std::fs::read(&path).unwrap(), content.as_bytes());
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let refused = bench.run(&["gallery", "stats"]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("it is a folder"),
        "{}",
        refused.stderr
    );
}

//! `gallery compact` and `POST /gallery/compact`: killed at any moment, and on a full disk.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use perennial_gallery::{EmbeddedGallery, Filter, GalleryConfig, Item, StoredItem, VectorStore};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::full_disk::Disk;
use crate::gallery::stocked;
use crate::service::{Service, stored_numbers, try_call};

pub fn rounds(default: u64) -> u64 {
    std::env::var("PERENNIAL_KILL_ROUNDS").map_or(default, |rounds| rounds.parse().unwrap())
}

fn items(ids: std::ops::Range<u64>, letter: &str) -> Vec<Item> {
    let text = json!({ "text": letter.repeat(1500) });
    ids.map(|id| {
        let mut embedding = vec![0.0; 15];
        embedding[id as usize % 15] = 1.0;
        Item {
            id: id.into(),
            embedding,
            model_version: "v0001".to_owned(),
            label: Some(id as u32 % 10),
            payload: text.as_object().unwrap().clone(),
        }
    })
    .collect()
}

/// 5,000 items, all of them written three times.
fn wasteful(folder: &std::path::Path) {
    let gallery = EmbeddedGallery::open(folder, GalleryConfig::default()).unwrap();
    for letter in ["a", "b", "c"] {
        for start in (0..5000).step_by(1000) {
            gallery.upsert(items(start..start + 1000, letter)).unwrap();
        }
    }
}

pub fn content(folder: &std::path::Path) -> Vec<StoredItem> {
    let gallery = EmbeddedGallery::open(folder, GalleryConfig::default()).unwrap();
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = gallery
            .scroll(after.as_ref(), 1000, &Filter::default(), true)
            .unwrap();
        all.extend(page.items);
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

/// Rounds: `PERENNIAL_KILL_ROUNDS`, 8 without.
#[test]
fn a_killed_compaction_loses_nothing() {
    let bench = Bench::new();
    let (folder, kept) = (bench.path("gallery"), bench.path("kept.redb"));
    wasteful(&folder);
    let database = folder.join("gallery.redb");
    let before = content(&folder);
    std::fs::copy(&database, &kept).unwrap();
    let start = std::time::Instant::now();
    let answer = bench.answer(&["gallery", "compact"]);
    let whole = start.elapsed();
    assert!(
        answer["bytes_after"].as_u64() < answer["bytes_before"].as_u64(),
        "{answer}"
    );
    assert_eq!(content(&folder), before);

    let (mut replaced, mut left) = (0, 0);
    let rounds = rounds(8);
    for round in 0..rounds {
        std::fs::copy(&kept, &database).unwrap();
        let size = database.metadata().unwrap().len();
        let mut compaction = bench.command(&["gallery", "compact"]).spawn().unwrap();
        std::thread::sleep(whole.mul_f64((round % 16 + 1) as f64 / 16.0));
        compaction.kill().unwrap();
        compaction.wait().unwrap();
        left += u64::from(folder.join("gallery.redb.compacting").exists());
        replaced += u64::from(database.metadata().unwrap().len() < size);
        assert_eq!(content(&folder), before, "round {round}");
        // The next opening for writing clears up.
        assert!(!folder.join("gallery.redb.compacting").exists());
    }
    println!(
        "{rounds} compactions killed: {left} left a copy behind, {replaced} were done; 0 items lost"
    );
}

/// Writers and readers beside compactions, then a kill. Rounds: `PERENNIAL_KILL_ROUNDS`, 3 without.
#[test]
fn a_service_killed_while_it_compacts_keeps_what_it_acknowledged() {
    let bench = stocked();
    let acknowledged = Mutex::new(BTreeSet::new());
    let (next, compactions, reads) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let rounds = rounds(3);
    for round in 0..rounds {
        let mut service = Service::start_with(&bench, &[], Stdio::null());
        let url = service.url().to_owned();
        let killed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let id = next.fetch_add(1, Ordering::Relaxed);
                        let item = serde_json::to_value(&items(id..id + 1, "w")[0]).unwrap();
                        match try_call(&url, "PUT", "gallery/items", &item) {
                            Ok((200, _)) => acknowledged.lock().unwrap().insert(id),
                            Ok((status, answer)) => panic!("{status}: {answer}"),
                            Err(_) => break,
                        };
                    }
                });
            }
            scope.spawn(|| {
                let query = json!({"id": "generated/7", "limit": 2});
                while let Ok((status, found)) = try_call(&url, "POST", "search", &query) {
                    assert_eq!(
                        (status, &found["hits"][0]["id"]),
                        (200, &json!("generated/7"))
                    );
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
            scope.spawn(|| {
                while let Ok((status, answer)) =
                    try_call(&url, "POST", "gallery/compact", &Value::Null)
                {
                    assert_eq!(status, 200, "{answer}");
                    compactions.fetch_add(1, Ordering::Relaxed);
                }
                killed.store(true, Ordering::Relaxed);
            });
            std::thread::sleep(Duration::from_millis(400 + round * 137 % 400));
            service.kill();
        });
        assert!(killed.into_inner());
        drop(service);
        let service = Service::start_with(&bench, &[], Stdio::null());
        let stored = stored_numbers(&service);
        let acknowledged = acknowledged.lock().unwrap();
        let lost: Vec<_> = acknowledged.difference(&stored).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?}");
    }
    let acknowledged = acknowledged.into_inner().unwrap().len();
    assert!(acknowledged > 0 && compactions.load(Ordering::Relaxed) > 0);
    println!(
        "{rounds} kills during {} compactions: {acknowledged} writes acknowledged, 0 lost; {} searches meanwhile, 0 failed",
        compactions.into_inner(),
        reads.into_inner()
    );
}

#[test]
fn a_full_disk_refuses_a_compaction_and_keeps_the_gallery() {
    let bench = Bench::new();
    let Some(disk) = Disk::mount(bench.path("disk")) else {
        return;
    };
    let folder = disk.path("gallery");
    wasteful(&folder);
    let before = content(&folder);
    let ballast = disk.path("ballast");
    let file = std::fs::File::create(&ballast).unwrap();
    let mut size = 0u64;
    // All but 4 MiB of what is left.
    let free = || {
        let out = std::process::Command::new("df")
            .args(["--output=avail", "-B1"])
            .arg(&folder)
            .output();
        let text = String::from_utf8(out.unwrap().stdout).unwrap();
        text.lines().last().unwrap().trim().parse::<u64>().unwrap()
    };
    while free() > 4 << 20 {
        size += 1 << 20;
        use std::io::Write;
        (&file).write_all(&[7; 1 << 20]).unwrap();
    }
    assert!(size > 0);
    let arguments = ["gallery", "--gallery", folder.to_str().unwrap(), "compact"];
    let refused = bench.run(&arguments);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("not enough free disk space"),
        "{}",
        refused.stderr
    );
    assert_eq!(content(&folder), before);
    // An open file keeps its space.
    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    bench.succeed(&arguments);
    assert_eq!(content(&folder), before);
}

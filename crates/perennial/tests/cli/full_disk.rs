//! A gallery on a disk that is really full.
//!
//! Needs the right to mount a file system in memory; says so and passes where it is missing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bench::Bench;
use crate::gallery::stocked;
use crate::service::{Service, stored_numbers, try_call};

const DISK_BYTES: u64 = 64 << 20;
/// Kept from the gallery until space is to be freed.
const BALLAST_BYTES: usize = 40 << 20;
const WRITERS: usize = 4;
/// Refusals in a row after which the disk counts as full.
const REFUSALS: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(120);

/// A small disk; gone at the end of the test, however it ends.
pub struct Disk(PathBuf);

impl Disk {
    /// None where mounting is not permitted.
    pub fn mount(at: PathBuf) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        let size = format!("size={DISK_BYTES}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(&at)
            .output();
        match mounted {
            Ok(ended) if ended.status.success() => Some(Self(at)),
            Ok(ended) => {
                println!(
                    "skipped: no file system can be mounted here: {}",
                    String::from_utf8_lossy(&ended.stderr).trim()
                );
                None
            }
            Err(error) => {
                println!("skipped: no `mount` here: {error}");
                None
            }
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// From now on nothing can be written to it.
    pub fn forbid_writing(&self) {
        let mounted = Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(&self.0)
            .status();
        assert!(mounted.unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A service that a failed test leaves behind may still use it for a moment: taken out of the tree at once, freed later.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Fills the disk under four writers and a reader, kills the service while it is full, starts it again, and frees space. Rounds:
/// `PERENNIAL_KILL_ROUNDS`, 2 without.
#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    let rounds: u64 =
        std::env::var("PERENNIAL_KILL_ROUNDS").map_or(2, |rounds| rounds.parse().unwrap());
    let bench = stocked();
    let Some(disk) = Disk::mount(bench.path("disk")) else {
        return;
    };
    let mut totals = (0, 0, 0);
    for round in 0..rounds {
        let (acknowledged, refused, searches) = one_round(&bench, &disk, round);
        totals.0 += acknowledged;
        totals.1 += refused;
        totals.2 += searches;
    }
    println!(
        "{rounds} full disks, each with a kill: {} items acknowledged, 0 lost; {} writes refused with 503; {} searches and gets \
         meanwhile, 0 failed",
        totals.0, totals.1, totals.2
    );
}

fn one_round(bench: &Bench, disk: &Disk, round: u64) -> (usize, u64, u64) {
    let folder = disk.path("gallery");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(
        bench.path("gallery/gallery.redb"),
        folder.join("gallery.redb"),
    )
    .unwrap();
    let ballast = disk.path("ballast");
    std::fs::write(&ballast, vec![7; BALLAST_BYTES]).unwrap();
    let arguments = ["--gallery", folder.to_str().unwrap()];
    let start = || {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(bench.path("disk.log"));
        Service::start_with(bench, &arguments, Stdio::from(log.unwrap()))
    };

    let writes = Writes::default();
    let mut service = start();
    let searches = writes.until_full(&service);
    if round.is_multiple_of(2) {
        still_answers(&service);
    }
    // Killed in the middle of writes that are refused.
    std::thread::scope(|scope| {
        let url = service.url().to_owned();
        let writes = &writes;
        for _ in 0..WRITERS {
            let url = url.clone();
            scope.spawn(move || while writes.one(&url).is_some() {});
        }
        std::thread::sleep(Duration::from_millis(50 + round * 137 % 400));
        service.kill();
    });
    drop(service);

    // It starts on the full disk, with everything that it had acknowledged.
    let mut service = start();
    writes.assert_stored(&service);
    still_answers(&service);
    std::fs::remove_file(&ballast).unwrap();
    // Without another start, and at once.
    let before = writes.acknowledged();
    for _ in 0..20 {
        assert_eq!(writes.one(service.url()), Some(200));
    }
    assert_eq!(writes.acknowledged(), before + 20);
    writes.assert_stored(&service);
    service.kill();
    let service = start();
    writes.assert_stored(&service);
    let log = bench.read("disk.log");
    assert!(!log.contains("panicked"), "{log}");
    (
        writes.acknowledged(),
        writes.refused.load(Ordering::Relaxed),
        searches,
    )
}

/// Searches, gets and lists, which need no space.
fn still_answers(service: &Service) {
    let (_, found) = service.ask("search", &json!({ "id": "generated/7", "limit": 3 }));
    assert_eq!(found["hits"][0]["id"], "generated/7");
    assert_eq!(
        service.get("gallery/items/generated%2F7")["id"],
        "generated/7"
    );
    assert_eq!(
        service.get("gallery/items?limit=5")["items"]
            .as_array()
            .unwrap()
            .len(),
        5
    );
}

/// What the writers of a round have sent.
#[derive(Default)]
struct Writes {
    next: AtomicU64,
    refused: AtomicU64,
    acknowledged: Mutex<BTreeSet<u64>>,
}

impl Writes {
    fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// Writes one item of 8 KB; its status, or none where the service is gone.
    fn one(&self, url: &str) -> Option<u16> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut embedding = vec![0.0; 15];
        embedding[id as usize % 15] = 1.0;
        let item = json!({
            "id": id, "embedding": embedding, "model_version": "v0001", "payload": {"text": "x".repeat(8000)}
        });
        let (status, answer) = try_call(url, "PUT", "gallery/items", &item).ok()?;
        match status {
            200 => {
                self.acknowledged.lock().unwrap().insert(id);
            }
            503 => {
                assert_eq!(answer["error"]["code"], "unavailable", "{answer}");
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            _ => panic!("{status}: {answer}"),
        }
        Some(status)
    }

    /// Writes until every writer is refused again and again, while another client reads. Says how often it did.
    fn until_full(&self, service: &Service) -> u64 {
        let begun = Instant::now();
        let full = AtomicBool::new(false);
        let searches = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|_| {
                    scope.spawn(|| {
                        let mut refusals = 0;
                        while refusals < REFUSALS && begun.elapsed() < PATIENCE {
                            match self.one(service.url()) {
                                Some(200) => refusals = 0,
                                _ => refusals += 1,
                            }
                        }
                        refusals
                    })
                })
                .collect();
            let reader = scope.spawn(|| {
                let mut rounds = 0;
                while !full.load(Ordering::Relaxed) {
                    still_answers(service);
                    rounds += 1;
                }
                3 * rounds
            });
            let ended: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
            full.store(true, Ordering::Relaxed);
            let searches = reader.join().unwrap();
            for refusals in ended {
                assert_eq!(refusals.unwrap(), REFUSALS, "the disk is not full yet");
            }
            searches
        });
        assert!(searches > 0);
        searches
    }

    fn assert_stored(&self, service: &Service) {
        let stored = stored_numbers(service);
        let acknowledged = self.acknowledged.lock().unwrap();
        let lost: Vec<&u64> = acknowledged.difference(&stored).collect();
        assert!(lost.is_empty(), "{} are lost: {lost:?}", lost.len());
    }
}

//! Searches and writes go on while the live version changes: no request fails, and none sees two versions.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::gallery::stocked;
use crate::service::{Service, base64};

const CLIENTS: usize = 4;
const VERSIONS: [&str; 3] = ["v0001", "v0002", "v0003"];

const OTHER_SIMPLEX: &str = "v0004";

/// A model whose embeddings have another dimension.
const OTHER: &str = r#"
name = "other"
data = { set = "generated", generated = { classes = 2, images_per_class = 8 } }
network = { backbone = "small", width = 4 }
method = { kind = "simplex", vertices = 24 }
training = { epochs = 1, batch_size = 8 }
"#;

/// One request's duration and whether a swap was under way when it ended.
type Timing = (Duration, bool);

/// `PERENNIAL_SWAPS` swaps (10 without), one every `PERENNIAL_SWAP_SECONDS` (0.1 without). Every third is one that the service
/// must refuse. Prints latencies in steady state and during swaps.
#[test]
fn no_request_fails_while_the_live_version_changes() {
    let setting = |name: &str, otherwise: f64| {
        std::env::var(name).map_or(otherwise, |value| value.parse().unwrap())
    };
    let swaps = setting("PERENNIAL_SWAPS", 10.0) as u64;
    let pause = Duration::from_secs_f64(setting("PERENNIAL_SWAP_SECONDS", 0.1));
    let bench = stocked();
    bench.write("other.toml", OTHER);
    bench.succeed(&["pretrain", "other.toml"]);
    let service = Service::start(&bench);
    let images: Vec<String> = (0..4).map(|image| base64(&picture(image))).collect();
    let expected = embeddings_by_version(&service, &images);

    let (stop, swapping, written) = (
        AtomicBool::new(false),
        AtomicBool::new(false),
        AtomicU64::new(0),
    );
    let timings: Mutex<Vec<Timing>> = Mutex::default();
    let (mut refused, mut problems) = (0, Vec::new());
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (service, images, expected) = (&service, &images, &expected);
            let (stop, swapping, written, timings) = (&stop, &swapping, &written, &timings);
            scope.spawn(move || {
                let mut own = Vec::new();
                for turn in client.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let begun = Instant::now();
                    one_request(service, turn, images, expected, written);
                    own.push((begun.elapsed(), swapping.load(Ordering::Relaxed)));
                }
                timings.lock().unwrap().extend(own);
            });
        }
        for swap in 0..swaps {
            std::thread::sleep(pause);
            swapping.store(true, Ordering::Relaxed);
            // Every third order is for the model of another simplex, which no force can make live.
            let impossible = swap % 3 == 2;
            let version = if impossible {
                OTHER_SIMPLEX
            } else {
                VERSIONS[swap as usize % 3]
            };
            let order = json!({ "version": version, "force": true });
            let (status, answer) = service.call("PUT", "aliases/live", &order);
            swapping.store(false, Ordering::Relaxed);
            // Told at the end: a panic here would leave the clients running.
            if status != if impossible { 409 } else { 200 } {
                problems.push(format!("swap {swap}: {status}: {answer}"));
            }
            refused += u64::from(impossible);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(problems.is_empty(), "{problems:?}");
    let timings = timings.into_inner().unwrap();
    assert!(timings.len() > CLIENTS, "{} requests", timings.len());
    println!(
        "{} requests, 0 failed, {} items written, {swaps} swaps ordered, {refused} of them refused",
        timings.len(),
        written.load(Ordering::Relaxed)
    );
    for (during, name) in [(false, "steady"), (true, "during swaps")] {
        let mut of: Vec<Duration> = timings
            .iter()
            .filter(|timing| timing.1 == during)
            .map(|timing| timing.0)
            .collect();
        of.sort_unstable();
        let quantile = |share: f64| {
            let at = (of.len() as f64 * share) as usize;
            of.get(at.min(of.len().saturating_sub(1)))
                .map_or(f64::NAN, |duration| duration.as_secs_f64() * 1e3)
        };
        println!(
            "{name}: {} requests, p50 {:.1} ms, p99 {:.1} ms",
            of.len(),
            quantile(0.5),
            quantile(0.99)
        );
    }
}

/// An embedding, a search by image, a search by item or a write, in turns; panics where it fails.
fn one_request(
    service: &Service,
    turn: usize,
    images: &[String],
    expected: &BTreeMap<String, Vec<Vec<f64>>>,
    written: &AtomicU64,
) {
    let at = turn % images.len();
    match turn % 4 {
        0 => {
            let (header, answer) = service.ask("embed", &json!({ "images": [images[at]] }));
            assert_eq!(answer["model_version"], header.as_str());
            let found = numbers(&answer["embeddings"][0]);
            assert!(
                is_close(&found, &expected[&header][at]),
                "{header} gave another version's embedding"
            );
        }
        1 => {
            let query = json!({ "image": images[at], "limit": 5, "force": true });
            let (header, answer) = service.ask("search", &query);
            assert_eq!(answer["model_version"], header.as_str());
            assert_eq!(answer["hits"].as_array().unwrap().len(), 5);
        }
        2 => {
            let id = format!("generated/{}", turn % 2000);
            let (_, answer) =
                service.ask("search", &json!({ "id": id, "limit": 3, "force": true }));
            assert_eq!(answer["hits"][0]["id"], id);
        }
        _ => {
            let id = written.fetch_add(1, Ordering::Relaxed);
            let item = json!({ "id": id, "image": images[at], "force": true });
            let (status, answer) = service.call("PUT", "gallery/items", &item);
            assert_eq!(status, 200, "{answer}");
        }
    }
}

/// What each version makes of the images, asked while nothing else goes on.
fn embeddings_by_version(service: &Service, images: &[String]) -> BTreeMap<String, Vec<Vec<f64>>> {
    VERSIONS
        .into_iter()
        .rev()
        .map(|version| {
            let order = json!({ "version": version, "force": true });
            let (status, answer) = service.call("PUT", "aliases/live", &order);
            assert_eq!(status, 200, "{answer}");
            let (header, answer) = service.ask("embed", &json!({ "images": images }));
            assert_eq!(header, version);
            let rows = answer["embeddings"].as_array().unwrap();
            (version.to_owned(), rows.iter().map(numbers).collect())
        })
        .collect()
}

fn numbers(row: &Value) -> Vec<f64> {
    let row = row.as_array().unwrap();
    row.iter().map(|value| value.as_f64().unwrap()).collect()
}

/// Batches of other sizes may round differently.
fn is_close(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4)
}

fn picture(seed: usize) -> Vec<u8> {
    let pixels: Vec<u8> = (0..3 * 32 * 32)
        .map(|at| (at * (3 + 2 * seed) + at / 32 * 7) as u8)
        .collect();
    perennial_encode::encode_png(&pixels, [3, 32, 32]).unwrap()
}

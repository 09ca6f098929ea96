//! Requests that no client should send, thousands of them, beside a few that must be answered.

mod bodies;
mod exchange;
mod framing;
mod pictures;
mod random;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::bodies::Library;
use self::exchange::exchange;
use self::random::Random;
use crate::gallery::stocked;
use crate::service::{Service, base64};

const SEED: u64 = 7;
const CLIENTS: u64 = 4;
/// Clients that send a byte now and then.
const SLOW_CLIENTS: usize = 36;
const DECODERS: u64 = 2;

/// Memory that the process may take beyond what it has after its first answers, in bytes. Each decoder may take 256 MiB
/// (`limits.decoder_bytes`); each client has one body of at most 33 MiB on its way, of which the service may hold the bytes, a
/// larger buffer while it grows, and the text decoded from it; half as much again for what the allocator keeps.
const MEMORY_BOUND: u64 = (DECODERS * (256 << 20) + CLIENTS * 3 * (33 << 20)) * 3 / 2;

/// `PERENNIAL_MALFORMED` requests, 1,500 without. Prints what they came to.
#[test]
fn nothing_malformed_harms_the_service() {
    let requests: u64 =
        std::env::var("PERENNIAL_MALFORMED").map_or(1500, |count| count.parse().unwrap());
    let bench = stocked();
    let log = std::fs::File::create(bench.path("serve.log")).unwrap();
    let decoders = format!("limits.decoders={DECODERS}");
    let service = Service::start_with(
        &bench,
        &["--set", "timeouts.header_seconds=3", "--set", &decoders],
        Stdio::from(log),
    );
    let picture = base64(&pictures::png(40, 50));
    valid_requests(&service, 0, &picture);
    let before = content(&service);
    let calm = peak_memory(&service);

    let library = Library::new();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let histogram: Mutex<BTreeMap<String, u64>> = Mutex::default();
    let problems: Mutex<Vec<String>> = Mutex::default();
    let begun = Instant::now();
    let answered = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= requests {
                            break;
                        }
                        // By its number, so that the requests are the same whichever client sends them.
                        let mut random = Random::new(SEED ^ number.wrapping_mul(0x9e37_79b9));
                        let request = library.request(&mut random);
                        let outcome = exchange(service.url(), &request);
                        if let Some(problem) = outcome.problem() {
                            let kind = request.kind;
                            let text = format!("request {number} ({kind}): {problem}");
                            problems.lock().unwrap().push(text);
                        }
                        *histogram.lock().unwrap().entry(outcome.name()).or_default() += 1;
                    }
                })
            })
            .collect();
        let slow = scope.spawn(|| slow_clients(service.url(), &stop));
        let valid = scope.spawn(|| {
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                valid_requests(&service, rounds, &picture);
                rounds += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            3 * rounds
        });
        // Every thread is told to stop before any failure is passed on.
        let ended: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        stop.store(true, Ordering::Relaxed);
        slow.join().unwrap();
        for client in ended {
            client.unwrap();
        }
        valid.join().unwrap()
    });
    let took = begun.elapsed();

    let problems = problems.into_inner().unwrap();
    assert!(problems.is_empty(), "{problems:#?}");
    let logged = bench.read("serve.log");
    assert!(!logged.contains("panicked"), "{logged}");
    assert_eq!(content(&service), before);
    let peak = peak_memory(&service);
    let histogram = histogram.into_inner().unwrap();
    println!(
        "{requests} malformed requests in {:.0} s beside {answered} valid ones, all answered; {histogram:?}; resident memory {} \
         MB before, {} MB at most, bound {} MB",
        took.as_secs_f64(),
        calm / 1_000_000,
        peak / 1_000_000,
        (calm + MEMORY_BOUND) / 1_000_000
    );
    assert!(peak <= calm + MEMORY_BOUND, "{peak} bytes");
    assert!(histogram.len() > 5, "{histogram:?}");
    everybody_leaves(&service);
}

/// A search by image, one by item, and an embedding.
fn valid_requests(service: &Service, round: usize, picture: &str) {
    let (_, found) = service.ask("search", &json!({ "image": picture, "limit": 5 }));
    assert_eq!(found["hits"].as_array().unwrap().len(), 5);
    let id = format!("generated/{}", round % 2000);
    let (_, found) = service.ask("search", &json!({ "id": id, "limit": 2 }));
    assert_eq!(found["hits"][0]["id"], id);
    service.ask("embed", &json!({ "images": [picture] }));
}

/// The live version and every item with its embedding.
fn content(service: &Service) -> Vec<Value> {
    let mut pages = vec![service.get("models")];
    let mut after = String::new();
    loop {
        let page = service.get(&format!("gallery/items?limit=1000&embeddings=true{after}"));
        let next = page["next"].as_str().map(str::to_owned);
        pages.push(page);
        let Some(next) = next else {
            return pages;
        };
        after = format!("&after={}", next.replace('/', "%2F"));
    }
}

/// The most memory that the process ever had, in bytes.
fn peak_memory(service: &Service) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.process())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() * 1024
}

/// Holds connections whose headers or bodies never end, until told to stop.
fn slow_clients(url: &str, stop: &AtomicBool) {
    let address = exchange::address(url);
    let starts = [
        "GET /info HTTP/1.1\r\nhost: localhost\r\nx-slow: ",
        "POST /search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: 33000000\r\n\r\n",
        "POST /search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n1000000\r\n",
    ];
    let mut clients: Vec<Option<TcpStream>> = (0..SLOW_CLIENTS).map(|_| None).collect();
    while !stop.load(Ordering::Relaxed) {
        for (index, client) in clients.iter_mut().enumerate() {
            let sent = match client {
                Some(stream) => stream.write_all(b" "),
                None => TcpStream::connect(address).and_then(|mut stream| {
                    stream.write_all(starts[index % starts.len()].as_bytes())?;
                    *client = Some(stream);
                    Ok(())
                }),
            };
            // Cut off: it comes again.
            if sent.is_err() {
                *client = None;
            }
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Nothing is left of the connections but the one that asks.
fn everybody_leaves(service: &Service) {
    let begun = Instant::now();
    loop {
        // A client of this test's own library may keep a few open for another request.
        let metrics = service.text("metrics");
        let line = metrics
            .lines()
            .find(|line| line.starts_with("perennial_connections "));
        let open: f64 = line.unwrap()["perennial_connections ".len()..]
            .parse()
            .unwrap();
        if open <= 4.0 {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{open} are open");
        std::thread::sleep(Duration::from_millis(100));
    }
}

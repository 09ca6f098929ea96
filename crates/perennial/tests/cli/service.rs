//! `serve` as people run it: searched, swapped, stopped and killed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::gallery::stocked;

/// A running service; killed at the end of a test, however it ends.
pub struct Service {
    child: Child,
    url: String,
}

impl Service {
    pub fn start(bench: &Bench) -> Self {
        Self::start_with(bench, &[], Stdio::piped())
    }

    /// Starts with more arguments. What is logged goes to `stderr`; a pipe that nobody reads holds up a service that logs much.
    pub fn start_with(bench: &Bench, arguments: &[&str], stderr: Stdio) -> Self {
        let common = ["serve", "--listen", "127.0.0.1:0", "--json", "--quiet"];
        let mut command = bench.command(&[&common, arguments].concat());
        command.stderr(stderr);
        Self::spawn(command)
    }

    /// Starts `serve --json` with a command of the test's own, and waits until it answers.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        // The address is printed as the last key of one JSON object.
        let mut text = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        while !text.trim_end().ends_with('}') {
            assert!(stdout.read_line(&mut text).unwrap() > 0, "it ended: {text}");
        }
        let answer: Value = serde_json::from_str(&text).unwrap();
        let url = answer["url"].as_str().unwrap().to_owned();
        Self { child, url }
    }

    /// Status and body of a request with a JSON body.
    pub fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        try_call(&self.url, method, path, body).unwrap()
    }

    /// `x-model-version` and body of a request that must succeed.
    pub fn ask(&self, path: &str, body: &Value) -> (String, Value) {
        let request = ureq::post(format!("{}{path}", self.url)).content_type("application/json");
        let mut answer = request.send(body.to_string()).unwrap();
        let version = answer.headers()["x-model-version"]
            .to_str()
            .unwrap()
            .to_owned();
        let bytes = answer.body_mut().read_to_vec().unwrap();
        (version, serde_json::from_slice(&bytes).unwrap())
    }

    pub fn get(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path)).unwrap()
    }

    pub fn text(&self, path: &str) -> String {
        let mut answer = ureq::get(format!("{}{path}", self.url)).call().unwrap();
        String::from_utf8(answer.body_mut().read_to_vec().unwrap()).unwrap()
    }

    /// With a slash at its end.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as an operator does.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &id])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn base64(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::prelude::BASE64_STANDARD, bytes)
}

pub fn try_call(
    url: &str,
    method: &str,
    path: &str,
    body: &Value,
) -> Result<(u16, Value), ureq::Error> {
    let request = match method {
        "POST" => ureq::post(format!("{url}{path}")),
        _ => ureq::put(format!("{url}{path}")),
    };
    let request = request.header("content-type", "application/json");
    let request = request
        .config()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(30)))
        .build();
    let mut answer = request.send(body.to_string())?;
    let bytes = answer.body_mut().read_to_vec()?;
    let value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Ok((answer.status().as_u16(), value))
}

#[test]
fn a_gallery_is_served_swapped_and_stopped() {
    let bench = stocked();
    let mut service = Service::start(&bench);
    let query = json!({ "id": "generated/7", "limit": 2 });
    let (status, found) = service.call("POST", "search", &query);
    assert_eq!(status, 200, "{found}");
    assert_eq!(found["hits"][0]["id"], "generated/7");
    assert_eq!(service.get("gallery/stats")["items"], 2000);

    let promote = |more: &[&str]| {
        let server = service.url.as_str();
        bench.run(&[&["models", "promote", "v0002", "--server", server], more].concat())
    };
    let refused = promote(&[]);
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(
        refused.stdout.contains("never measured"),
        "{}",
        refused.stdout
    );
    assert_eq!(service.get("models")["live"], "v0001");
    assert_eq!(promote(&["--force"]).code, Some(0));
    assert_eq!(service.get("models")["live"], "v0002");
    bench.succeed(&["models", "rollback", "--server", &service.url]);
    assert_eq!(service.get("models")["live"], "v0001");

    // The folder belongs to the service.
    let ended = bench.run(&["gallery", "stats"]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("in use") && ended.stderr.contains(&service.url),
        "{}",
        ended.stderr
    );

    service.stop();
    assert_eq!(bench.answer(&["gallery", "stats"])["items"], 2000);
}

#[test]
fn settings_that_cannot_work_are_one_line() {
    let bench = stocked();
    bench
        .run(&["serve", "--set", "batching.max_bach=3"])
        .assert_wrong_usage(&["max_bach", "max_batch"]);
    bench
        .run(&["serve", "--set", "batching.max_batch=0"])
        .assert_wrong_usage(&["batching.max_batch"]);
    bench
        .run(&["serve", "--keys", "nowhere"])
        .assert_wrong_usage(&["nowhere"]);
    let printed = bench.succeed(&["serve", "--print-config", "--listen", "127.0.0.1:99"]);
    assert!(printed.contains("listen = \"127.0.0.1:99\""), "{printed}");
}

/// Kills the service while four clients write, and looks for every item that it had acknowledged. Rounds:
/// `PERENNIAL_KILL_ROUNDS`, 3 without.
#[test]
fn nothing_acknowledged_is_lost_when_it_is_killed() {
    let rounds: u64 =
        std::env::var("PERENNIAL_KILL_ROUNDS").map_or(3, |rounds| rounds.parse().unwrap());
    let bench = stocked();
    let next = AtomicU64::new(0);
    let mut acknowledged: Vec<u64> = Vec::new();
    let mut slowest_start = Duration::ZERO;
    for round in 0..rounds {
        let begun = Instant::now();
        let mut service = Service::start(&bench);
        slowest_start = slowest_start.max(begun.elapsed());
        let killed = AtomicBool::new(false);
        let url = service.url.clone();
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| write_until_killed(&url, &next, &killed)))
                .collect();
            // Between 0.1 and 0.5 seconds, different in every round.
            std::thread::sleep(Duration::from_millis(100 + round * 137 % 400));
            service.child.kill().unwrap();
            killed.store(true, Ordering::Relaxed);
            for writer in writers {
                acknowledged.extend(writer.join().unwrap());
            }
        });
    }
    assert!(
        acknowledged.len() as u64 >= rounds,
        "hardly anything was written"
    );
    let service = Service::start(&bench);
    let stored = stored_numbers(&service);
    let lost: Vec<&u64> = acknowledged
        .iter()
        .filter(|id| !stored.contains(id))
        .collect();
    assert!(
        lost.is_empty(),
        "{} acknowledged items are lost: {lost:?}",
        lost.len()
    );
    println!(
        "{rounds} kills, {} items acknowledged, 0 lost; slowest start of the program {} ms",
        acknowledged.len(),
        slowest_start.as_millis()
    );
}

fn write_until_killed(url: &str, next: &AtomicU64, killed: &AtomicBool) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    while !killed.load(Ordering::Relaxed) {
        let id = next.fetch_add(1, Ordering::Relaxed);
        let mut embedding = vec![0.0; 15];
        embedding[id as usize % 15] = 1.0;
        let item = json!({ "id": id, "embedding": embedding, "model_version": "v0001" });
        match try_call(url, "PUT", "gallery/items", &item) {
            Ok((200, _)) => acknowledged.push(id),
            Ok((status, answer)) => panic!("{status}: {answer}"),
            // Cut off by the kill: not acknowledged, stored or not.
            Err(_) => break,
        }
    }
    acknowledged
}

/// All ids that are numbers, page by page.
pub fn stored_numbers(service: &Service) -> std::collections::BTreeSet<u64> {
    let mut stored = std::collections::BTreeSet::new();
    let mut path = "gallery/items?limit=1000".to_owned();
    loop {
        let page = service.get(&path);
        let items = page["items"].as_array().unwrap();
        stored.extend(items.iter().filter_map(|item| item["id"].as_u64()));
        // Numbers come before texts.
        let Some(after) = page["next"].as_u64() else {
            return stored;
        };
        path = format!("gallery/items?limit=1000&after={after}");
    }
}

//! `serve --log-format json`: whatever the service writes to stderr, every line is one JSON object.

use std::fs::File;

use serde_json::Value;

use crate::bench::Bench;
use crate::service::Service;

/// Every line as an object with what all of them have.
fn lines(log: &str) -> Vec<Value> {
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for line in &lines {
        for key in ["timestamp", "level", "target", "message"] {
            assert!(line[key].is_string(), "{key} in {line}");
        }
    }
    lines
}

#[test]
fn every_line_of_a_service_is_json_and_requests_are_told_apart() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("registry")).unwrap();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--json"];
    let mut command = bench.command(&[&arguments[..], &["--log-format", "json"]].concat());
    command.stderr(File::create(bench.path("log")).unwrap());
    let mut service = Service::spawn(command);
    let ask = |id: &str| {
        let request = ureq::get(format!("{}models", service.url())).header("x-request-id", id);
        let request = request.config().http_status_as_error(false).build();
        let answer = request.call().unwrap();
        assert_eq!(answer.headers()["x-request-id"], id);
        answer.status().as_u16()
    };
    assert_eq!(ask("trace-1.a"), 200);
    bench.write("registry/aliases.toml", "no toml");
    assert_eq!(ask("trace-2"), 500);
    service.stop();

    let lines = lines(&bench.read("log"));
    let messages: Vec<&str> = lines
        .iter()
        .map(|line| line["message"].as_str().unwrap())
        .collect();
    assert!(messages.contains(&"serving"), "{messages:?}");
    assert_eq!(messages.last(), Some(&"stopped"));
    let of_request: Vec<&Value> = lines
        .iter()
        .filter(|line| line["request_id"] == "trace-1.a")
        .collect();
    let [request] = of_request[..] else {
        panic!("one line for the request in {lines:?}");
    };
    assert_eq!(
        [&request["method"], &request["path"], &request["route"]],
        ["GET", "/models", "/models"]
    );
    assert_eq!(request["status"], 200);
    assert!(request["latency_seconds"].as_f64().unwrap() > 0.0);
    // The answer says that the log has the reason under its id.
    let reason = lines.iter().find(|line| line["reason"].is_string());
    assert_eq!(
        reason.unwrap()["span"]["request_id"],
        "trace-2",
        "{lines:?}"
    );
}

#[test]
fn a_service_that_cannot_start_says_why_in_json_whatever_is_filtered() {
    let bench = Bench::new();
    let mut command = bench.command(&["serve", "--keys", "nowhere"]);
    command
        .env("PERENNIAL_LOG_FORMAT", "json")
        .env("PERENNIAL_LOG", "off");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let lines = lines(&String::from_utf8(output.stderr).unwrap());
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["level"], "ERROR");
    assert!(lines[0]["message"].as_str().unwrap().contains("nowhere"));
}

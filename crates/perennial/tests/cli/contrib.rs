//! `contrib/` and `docs/operating.md` speak of metrics and alerts that exist, and of all of them.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bench::repository;
use crate::endpoint::{Endpoint, import};
use crate::gallery::stocked;
use crate::reload::{agent, issue};
use crate::service::Service;

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap()
}

/// Every name of a metric in a text.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    text.match_indices("perennial_")
        .filter(|&(start, _)| !text[..start].ends_with(is_part))
        .map(|(start, _)| {
            let rest = &text[start..];
            let end = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
            rest[..end].to_owned()
        })
        .collect()
}

/// The metrics of a service that has everything: TLS, snapshots, items, an upstream (which nobody reaches), an embedding service as the live
/// version in the end, and requests of every kind behind it.
fn exported() -> String {
    let bench = stocked();
    let certificate = issue(&bench);
    bench.succeed(&["spaces", "add", "outside", "--dim", "3"]);
    let imported = import(&bench, &Endpoint::start(15), &[]);
    let service = Service::start_with(
        &bench,
        &[
            "--snapshots",
            "snapshots",
            "--tls-certificate",
            "certificate.pem",
            "--tls-key",
            "key.pem",
            "--set",
            "upstream.outside={space = \"outside\", url = \"http://127.0.0.1:1\", model = \"m\", retries = 0}",
        ],
        Stdio::null(),
    );
    let agent = agent(&certificate);
    let url = |path: &str| {
        let (_, port) = service
            .url()
            .trim_end_matches('/')
            .rsplit_once(':')
            .unwrap();
        format!("https://localhost:{port}/{path}")
    };
    let post = |path: &str, body: &Value| {
        let request = agent.post(url(path)).content_type("application/json");
        let answer = request.send(body.to_string()).unwrap();
        assert!(answer.status().is_success(), "{path}");
    };
    let picture = perennial_encode::encode_png(&[90; 3 * 32 * 32], [3, 32, 32]).unwrap();
    post(
        "search",
        &json!({ "image": crate::service::base64(&picture) }),
    );
    let text = json!({"model": "m", "input": "a"}).to_string();
    let request = agent.post(url("v1/embeddings"));
    let answer = request.content_type("application/json").send(text);
    assert_eq!(answer.unwrap().status(), 502);
    post("snapshots", &json!({}));
    let mut embedding = vec![0.0; 15];
    embedding[0] = 1.0;
    let item = json!({"items": [{"id": 1, "embedding": embedding, "model_version": "v0001"}]});
    post("gallery/items:batch", &item);
    let live = json!({"version": imported["version"], "force": true});
    let request = agent.put(url("aliases/live"));
    let answer = request.content_type("application/json");
    let answer = answer.send(live.to_string()).unwrap();
    assert!(answer.status().is_success());
    // Histograms show once they were folded, and embedding services once they are watched.
    let begun = std::time::Instant::now();
    loop {
        let mut answer = agent.get(url("metrics")).call().unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        let parts = ["perennial_stage_seconds_bucket", "endpoint_drifted"];
        if parts.iter().all(|part| text.contains(part)) {
            return text;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Tables of a gallery in a database, which the documentation names as well.
const TABLES: [&str; 3] = ["perennial_items", "perennial_meta", "perennial_spaces"];

#[test]
fn board_alerts_and_documentation_use_the_metrics_that_there_are() {
    let exported = exported();
    let names = metrics_in(&exported);
    for file in [
        "contrib/grafana.json",
        "contrib/alerts.yml",
        "docs/operating.md",
    ] {
        let used = metrics_in(&read(file));
        assert!(used.len() > 10, "{file}: {used:?}");
        let mut unknown: Vec<_> = used.difference(&names).collect();
        unknown.retain(|name| !TABLES.contains(&name.as_str()));
        assert!(
            unknown.is_empty(),
            "{file} uses {unknown:?}, which the service does not have"
        );
    }
    let documented = metrics_in(&read("docs/operating.md"));
    for line in exported.lines().filter(|line| line.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(
            documented.contains(name),
            "docs/operating.md does not explain {name}"
        );
    }
    // Units are the base units, in the names.
    for name in &names {
        for unit in [
            "milliseconds",
            "minutes",
            "kilobytes",
            "megabytes",
            "percent",
        ] {
            assert!(!name.contains(unit), "{name}");
        }
    }
}

#[test]
fn every_alert_is_explained() {
    let documented = read("docs/operating.md");
    let rules = read("contrib/alerts.yml");
    let alerts: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 10);
    for alert in alerts {
        assert!(documented.contains(&format!("`{alert}`")), "{alert}");
    }
}

#[test]
fn the_board_is_json_with_an_expression_in_every_panel() {
    let board: Value = serde_json::from_str(&read("contrib/grafana.json")).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            let expression = target["expr"].as_str().unwrap();
            assert!(expression.contains("perennial_"), "{title}: {expression}");
            assert!(
                expression.contains("instance=~\"$instance\""),
                "{title}: {expression}"
            );
            // Where several instances are scraped, each has a series of its own unless they are summed.
            let summed = ["sum by (", "sum("]
                .iter()
                .any(|sum| expression.contains(sum));
            let legend = target["legendFormat"].as_str().unwrap();
            assert!(
                (summed && !expression.contains("by (instance")) || legend.contains("{{instance}}"),
                "{title}: {legend}"
            );
        }
    }
}

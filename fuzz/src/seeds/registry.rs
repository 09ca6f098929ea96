//! Files of a registry.

use perennial_core::ModelVersion;
use serde_json::{Value, json};

use super::Seeds;
use crate::http::model_toml;

/// The description of an encoder of another program.
const OUTSIDE: &str = include_str!("../../../crates/perennial-core/testdata/outside.toml");

/// The description of an embedding service.
const ENDPOINT: &str = include_str!("../../../crates/perennial-core/testdata/endpoint.toml");

pub(super) fn model_seeds() -> Seeds {
    let text = model_toml(b"3");
    let version = ModelVersion::from_toml(&text).unwrap();
    let linear = text
        .replace("\"simplex\"", "\"linear\"")
        .replace("vertices = 4\nvertex_end = \"front\"\n", "")
        .replace("\"v0001\"", "\"v0003\"\nparent = \"v0002\"");
    vec![
        ("written", version.to_toml().into_bytes()),
        ("linear", linear.into_bytes()),
        (
            "refused_format",
            text.replace("format_version = 1", "format_version = 3")
                .into_bytes(),
        ),
        ("outside", OUTSIDE.as_bytes().to_vec()),
        ("endpoint", ENDPOINT.as_bytes().to_vec()),
        (
            "refused_endpoint_key",
            ENDPOINT.replace("env:EMBEDDING_KEY", "sk-1").into_bytes(),
        ),
        (
            "refused_outside_file",
            OUTSIDE
                .replace("\"tokenizer.json\"", "\"../tokenizer.json\"")
                .into_bytes(),
        ),
    ]
}

pub(super) fn alias_seeds() -> Seeds {
    vec![
        ("two", b"live = \"v0002\"\nprevious = \"v0001\"\n".to_vec()),
        ("dangling", b"live = 'v0009' # \\\n".to_vec()),
        ("refused_name", b"\"../live\" = \"v0001\"\n".to_vec()),
        ("refused_table", b"[live]\nname = \"v0001\"\n".to_vec()),
    ]
}

pub(super) fn compatibility_seeds() -> Seeds {
    let probes = |name: &str| json!({"name": name, "count": 10, "sha256": "ab".repeat(32)});
    let record = |cross_test: f64| {
        json!({
            "query_version": "v0002", "gallery_version": "v0001", "self_test": 0.7237, "cross_test": cross_test,
            "margin": cross_test - 0.7237, "interval": {"low": -0.0036, "high": 1e-300},
            "queries": probes("q"), "gallery": probes("g"), "tie_rule": "strict", "verdict": "compatible",
            "created": "2026-11-22T21:35:00Z",
        })
    };
    let file = |schema: u32, records: &[Value]| {
        json!({"schema_version": schema, "records": records})
            .to_string()
            .into_bytes()
    };
    vec![
        ("none", file(1, &[])),
        ("one", file(1, &[record(0.75)])),
        ("repeated", file(1, &[record(0.1), record(0.3)])),
        ("refused_schema", file(2, &[])),
    ]
}

//! Requests to a service.

use std::io::Write;

use serde_json::{Value, json};

use super::Seeds;
use crate::http::model_toml;

pub(super) fn http_seeds() -> Seeds {
    let json = |line: &str, body: Value| {
        format!("{line}\ncontent-type: application/json\n\n{body}").into_bytes()
    };
    let form = |line: &str, fields: &[(&str, &[u8])]| {
        let mut bytes =
            format!("{line}\ncontent-type: multipart/form-data; boundary=x\n\n").into_bytes();
        for (name, content) in fields {
            let head = format!(
                "--x\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"f\"\r\n\r\n"
            );
            bytes.extend([head.as_bytes(), content, b"\r\n"].concat());
        }
        bytes.extend(b"--x--\r\n");
        bytes
    };
    let get = |path: &str| format!("GET {path}\n\n").into_bytes();
    let png = perennial_encode::encode_png(&[90; 27], [3, 3, 3]).unwrap();
    let base64 = |bytes: &[u8]| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(bytes)
    };
    let item = json!({
        "id": "a", "embedding": [0.6, 0.8, 0.0], "model_version": "v0001", "label": 3, "payload": {"n": 1},
    });
    let mut then = json("PUT /gallery/items", item.clone());
    then.extend(b"\n%%\n");
    then.extend(get("/gallery/items/a?embedding=true"));
    let model = model_toml(b"3");
    let huge = model.replace("[3, 4, 4]", "[3, 16384, 16384]");
    let huge = form(
        "POST /models",
        &[("model", huge.as_bytes()), ("weights", b"3")],
    );
    let upload = form(
        "POST /models",
        &[
            ("model", model.as_bytes()),
            ("weights", b"3"),
            ("request", br#"{"parent":"v0001"}"#),
        ],
    );
    let gzip = |body: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(body).unwrap();
        let head = "POST /search\ncontent-type: application/json\ncontent-encoding: gzip\n\n";
        [head.as_bytes(), &encoder.finish().unwrap()].concat()
    };
    let compressed = gzip(b"{\"id\":1}");
    vec![
        (
            "refused_search_gzip_cut",
            compressed[..compressed.len() - 5].to_vec(),
        ),
        ("search_gzip", compressed),
        (
            "search_vector",
            json(
                "POST /search",
                json!({"embedding": [0.6, 0.8, 0.0], "limit": 2, "exact": true}),
            ),
        ),
        (
            "search_id",
            json(
                "POST /search",
                json!({"id": 1, "filter": {"labels": {"from": 2}, "payload": {"n": 2}}}),
            ),
        ),
        (
            "search_version",
            json(
                "POST /search",
                json!({"embedding": [0, 0, 1], "model_version": "v0002", "force": true}),
            ),
        ),
        (
            "search_image",
            json("POST /search", json!({"image": base64(&png)})),
        ),
        (
            "search_form",
            form(
                "POST /search",
                &[("request", b"{\"limit\":1}"), ("image", &png)],
            ),
        ),
        (
            "embed",
            json("POST /embed", json!({"images": [base64(&png)]})),
        ),
        ("put_item", json("PUT /gallery/items", item.clone())),
        ("put_then_get", then),
        (
            "put_batch",
            json(
                "POST /gallery/items:batch",
                json!({"items": [item, {"id": 4, "image": base64(&png)}], "force": false}),
            ),
        ),
        (
            "delete_ids",
            json("DELETE /gallery/items", json!({"ids": [1, "b"]})),
        ),
        (
            "delete_filter",
            json(
                "DELETE /gallery/items",
                json!({"filter": {"model_versions": ["v0001"]}}),
            ),
        ),
        (
            "list",
            get("/gallery/items?after=%221%22&limit=2&embeddings=true&model_version=v0001&label=2"),
        ),
        ("get_item", get("/gallery/items/2?embedding=true")),
        ("gallery", get("/gallery/stats")),
        ("models", get("/models")),
        ("upload", upload),
        (
            "move_live",
            json(
                "PUT /aliases/live",
                json!({"version": "v0002", "force": false, "dry_run": false}),
            ),
        ),
        ("compatibility", get("/compatibility")),
        ("snapshot", b"POST /snapshots\n\n".to_vec()),
        ("metrics", get("/metrics")),
        ("page", get("/")),
        (
            "refused_copy",
            json(
                "POST /models",
                json!({"path": "/nowhere", "version": "v0001", "parent": null}),
            ),
        ),
        (
            "refused_rollback",
            b"POST /aliases/live:rollback\n\n".to_vec(),
        ),
        (
            "refused_version",
            json("PUT /aliases/live", json!({"version": "v0009"})),
        ),
        ("refused_upload", huge),
        ("refused_path", get("/nowhere")),
    ]
}

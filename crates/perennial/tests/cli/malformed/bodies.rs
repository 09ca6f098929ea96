//! The kinds of malformed requests. None of them can change what is stored: writes name a version or an item that does not exist.

use serde_json::{Value, json};

use super::exchange::{End, Request};
use super::framing;
use super::pictures;
use super::random::Random;
use crate::service::base64;

/// What takes long to make.
pub struct Library {
    png: Vec<u8>,
    jpeg: Vec<u8>,
    black: Vec<u8>,
    /// As many pixels as are allowed, in a small file.
    largest: String,
}

const UNKNOWN: &str = "v9999";

/// One kind of request; how often it comes compared with others.
type Kind = (usize, fn(&Library, &mut Random) -> Request);

const KINDS: [Kind; 14] = [
    (20, mutated_json),
    (10, wrong_values),
    (6, nested),
    (4, crowded),
    (5, wrong_types_and_methods),
    (4, long_ids),
    (4, framing::lengths),
    (1, framing::real_bodies),
    (5, framing::endless_chunks),
    (6, forms),
    (12, images),
    (8, vectors),
    (6, framing::headers),
    (9, framing::garbage),
];

impl Library {
    pub fn new() -> Self {
        let black = pictures::black_png(2000, 2000);
        Self {
            png: pictures::png(40, 50),
            jpeg: pictures::jpeg(),
            largest: base64(&pictures::black_png(4000, 8000)),
            black,
        }
    }

    pub fn request(&self, random: &mut Random) -> Request {
        let all: usize = KINDS.iter().map(|(weight, _)| weight).sum();
        let mut at = random.below(all);
        for (weight, make) in KINDS {
            if at < weight {
                return make(self, random);
            }
            at -= weight;
        }
        unreachable!("the weights add up")
    }

    /// A valid body for every route that takes JSON.
    pub fn valid(&self, random: &mut Random) -> (&'static str, &'static str, Value) {
        let unit = |at: usize| -> Vec<f32> { (0..15).map(|i| f32::from(i == at)).collect() };
        let image = base64(&self.png);
        let item = json!({
            "id": 1, "embedding": unit(3), "model_version": UNKNOWN, "label": 3, "payload": {"a": [1, {"b": null}]}
        });
        match random.below(11) {
            0 => ("POST", "/search", json!({"image": image, "limit": 3})),
            1 => (
                "POST",
                "/search",
                json!({"embedding": unit(2), "model_version": "v0001", "filter":
                    {"labels": {"from": 1, "any_of": [1, 2]}, "payload": {"x": 1}, "ids": [1, "a"], "model_versions": ["v0001"]}}),
            ),
            2 => (
                "POST",
                "/search",
                json!({"id": "generated/7", "exact": true}),
            ),
            3 => ("POST", "/embed", json!({"images": [image]})),
            4 => ("PUT", "/gallery/items", item),
            5 => ("POST", "/gallery/items:batch", json!({"items": [item]})),
            6 => (
                "DELETE",
                "/gallery/items",
                json!({"ids": [UNKNOWN, 99_999_999]}),
            ),
            7 => (
                "POST",
                "/embed",
                json!({"inputs": [image], "normalize": true, "prompt_name": "query"}),
            ),
            8 | 9 => (
                "POST",
                "/v1/embeddings",
                json!({"input": [image], "model": "live", "encoding_format": "base64", "input_type": "query"}),
            ),
            _ => (
                "PUT",
                "/aliases/live",
                json!({"version": UNKNOWN, "force": false, "dry_run": true}),
            ),
        }
    }
}

pub fn request(
    kind: &'static str,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> Request {
    let mut bytes = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend(body);
    Request {
        kind,
        bytes,
        end: End::Whole,
    }
}

pub fn json_request(kind: &'static str, method: &str, path: &str, body: &[u8]) -> Request {
    request(
        kind,
        method,
        path,
        "content-type: application/json\r\n",
        body,
    )
}

/// Bytes changed, removed or put in.
fn mutated_json(library: &Library, random: &mut Random) -> Request {
    let (method, path, body) = library.valid(random);
    let mut body = body.to_string().into_bytes();
    match random.below(4) {
        0 => body.truncate(random.below(body.len())),
        1 => {
            let at = random.below(body.len());
            let surrogates: [&[u8]; 4] = [b"\\ud800", b"\\udc00\\ud800", b"\0", b"\xed\xa0\x80"];
            body.splice(at..at, random.one_of(&surrogates).iter().copied());
        }
        _ => {
            for _ in 0..1 + random.below(5) {
                let at = random.below(body.len());
                body[at] = random.next() as u8;
            }
        }
    }
    json_request("mutated JSON", method, path, &body)
}

/// Values of other types, keys twice or unknown.
fn wrong_values(library: &Library, random: &mut Random) -> Request {
    let (method, path, mut body) = library.valid(random);
    let others = [
        json!(null),
        json!("1"),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!(1e300),
        json!([]),
        json!({}),
        json!([[1]]),
        json!({"$gt": 0}),
        json!(true),
        json!("\u{0}\u{ffff}"),
    ];
    let keys: Vec<String> = body.as_object().unwrap().keys().cloned().collect();
    let key = random.one_of(&keys).clone();
    let text = match random.below(4) {
        0 => {
            body[format!("{key}x")] = json!(1);
            body.to_string()
        }
        1 => {
            let text = body.to_string();
            format!("{{\"{key}\":{},{}", body[&key], &text[1..])
        }
        2 => {
            let odd = random.one_of(&[
                "NaN", "Infinity", "1e999", "-1e999", "01", "+1", ".5", "0x1",
            ]);
            body[&key] = json!("@");
            body.to_string().replace("\"@\"", odd)
        }
        _ => {
            body[&key] = random.one_of(&others).clone();
            body.to_string()
        }
    };
    // Deleting and moving by a body that became valid must stay without effect.
    json_request("wrong values", method, path, text.as_bytes())
}

fn nested(library: &Library, random: &mut Random) -> Request {
    let (method, path, _) = library.valid(random);
    let depth = 10_000;
    let (open, close) = *random.one_of(&[("[", "]"), ("{\"a\":", "}")]);
    let key = *random.one_of(&[
        "payload",
        "filter",
        "items",
        "id",
        "images",
        "inputs",
        "embedding",
    ]);
    let body = format!(
        "{{\"{key}\":{}1{}}}",
        open.repeat(depth),
        close.repeat(depth)
    );
    json_request("nested", method, path, body.as_bytes())
}

/// Little text that becomes much memory.
fn crowded(_: &Library, random: &mut Random) -> Request {
    let many = 500_000;
    let (path, head, entry, tail) = *random.one_of(&[
        ("/search", "{\"id\":[", "1,", "1]}"),
        (
            "/search",
            "{\"id\":1,\"filter\":{\"payload\":{\"a\":[",
            "1,",
            "1]}}}",
        ),
        ("/search", "{\"id\":1,\"filter\":{\"ids\":[", "1,", "1]}}"),
        (
            "/search",
            "{\"id\":1,\"filter\":{\"model_versions\":[",
            "\"\",",
            "\"\"]}}",
        ),
        ("/search", "{\"embedding\":[", "1,", "1]}"),
        ("/embed", "{\"images\":[", "\"\",", "\"\"]}"),
        ("/embed", "{\"inputs\":[", "\"\",", "\"\"]}"),
        (
            "/v1/embeddings",
            "{\"model\":\"live\",\"input\":[",
            "\"\",",
            "\"\"]}",
        ),
        (
            "/gallery/items:batch",
            "{\"items\":[",
            "{\"id\":1},",
            "{\"id\":1}]}",
        ),
        (
            "/gallery/items:batch",
            "{\"items\":[{\"id\":1,\"payload\":{\"a\":[",
            "[],",
            "1]}}]}",
        ),
    ]);
    let body = format!("{head}{}{tail}", entry.repeat(many));
    json_request("crowded", "POST", path, body.as_bytes())
}

fn wrong_types_and_methods(library: &Library, random: &mut Random) -> Request {
    let (method, path, body) = library.valid(random);
    let body = body.to_string();
    let types = [
        "text/plain",
        "application/jsonp",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "image/png",
        "",
        "application/json; charset=utf-7",
        "application/octet-stream",
    ];
    let methods = [
        "BREW", "get", "PATCH", "TRACE", "CONNECT", "OPTIONS", "HEAD", "DELETE", "X-Y",
    ];
    let paths = [
        "/",
        "//",
        "/search/",
        "/%00",
        "/%ff%fe",
        "/../../etc/passwd",
        "/gallery/items/%2e%2e",
        "/static/..%2f..%2fkeys",
        "/search?limit=9999999999999999999999",
        "/gallery/items?limit=-1&after[]=1",
        "/gallery/items?embeddings=maybe",
        "/gallery/items:batch:batch",
        "*",
        "http://evil.example/search",
        "/aliases/live:rollback?x",
        "/metrics/../info",
    ];
    match random.below(4) {
        0 => request(
            "content type",
            method,
            path,
            &format!("content-type: {}\r\n", random.one_of(&types)),
            body.as_bytes(),
        ),
        1 => json_request(
            "method",
            random.one_of::<&str>(&methods),
            path,
            body.as_bytes(),
        ),
        2 => json_request(
            "path",
            random.one_of::<&str>(&["GET", "POST", "PUT"]),
            random.one_of::<&str>(&paths),
            b"{}",
        ),
        // A small body that says it is compressed: four bytes of gzip and nonsense.
        _ => request(
            "content encoding",
            method,
            path,
            "content-type: application/json\r\ncontent-encoding: gzip, gzip, br\r\n",
            &[&[0x1f, 0x8b, 8, 0][..], &random.bytes(200)].concat(),
        ),
    }
}

fn long_ids(_: &Library, random: &mut Random) -> Request {
    let long = "x".repeat(1 << 20);
    match random.below(4) {
        0 => request(
            "long path",
            "GET",
            &format!("/gallery/items/{long}"),
            "",
            b"",
        ),
        1 => json_request(
            "long id",
            "POST",
            "/search",
            json!({"id": long}).to_string().as_bytes(),
        ),
        2 => {
            let item = json!({"id": long, "embedding": [1.0], "model_version": UNKNOWN});
            json_request(
                "long id",
                "PUT",
                "/gallery/items",
                item.to_string().as_bytes(),
            )
        }
        _ => json_request(
            "long version",
            "PUT",
            "/aliases/live",
            json!({"version": long}).to_string().as_bytes(),
        ),
    }
}

fn forms(library: &Library, random: &mut Random) -> Request {
    let part = |name: &str, content: &[u8]| {
        let head = format!(
            "--x\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"f\"\r\n\r\n"
        );
        [head.as_bytes(), content, b"\r\n"].concat()
    };
    let body = match random.below(6) {
        0 => part("image", &library.png).repeat(200),
        1 => [part(&"n".repeat(100_000), b"x"), b"--x--".to_vec()].concat(),
        2 => pictures::damaged(part("image", &library.png), random),
        3 => b"--x\r\n\r\n".repeat(5000),
        4 => [
            part("image", &pictures::damaged(library.jpeg.clone(), random)),
            b"--x--".to_vec(),
        ]
        .concat(),
        _ => [
            part("request", b"{\"id\":"),
            part("request", b"[]"),
            b"--y--".to_vec(),
        ]
        .concat(),
    };
    let (method, path) =
        *random.one_of(&[("POST", "/search"), ("POST", "/embed"), ("POST", "/models")]);
    request(
        "form",
        method,
        path,
        "content-type: multipart/form-data; boundary=x\r\n",
        &body,
    )
}

fn images(library: &Library, random: &mut Random) -> Request {
    let image = match random.below(40) {
        0 => library.largest.clone(),
        1..5 => {
            let sides = [
                (50_000, 50_000),
                (u32::MAX, 1),
                (1, 8000),
                (0, 0),
                (8192, 4096),
                (2000, 1999),
            ];
            let &(height, width) = random.one_of(&sides);
            base64(&pictures::relabelled(library.black.clone(), height, width))
        }
        5..15 => base64(&pictures::damaged(library.png.clone(), random)),
        15..25 => base64(&pictures::damaged(library.jpeg.clone(), random)),
        25..32 => base64(&pictures::others(random)),
        32..35 => {
            let count = random.below(3000);
            String::from_utf8_lossy(&random.bytes(count)).into_owned()
        }
        35 => "A".repeat(17 << 20),
        36 => format!("data:image/png;base64,{}", "=".repeat(1000)),
        37 => format!("data:{}", base64(&library.png)),
        _ => String::new(),
    };
    let body = match random.below(3) {
        0 => json!({"images": [image]}),
        1 => json!({"image": image}),
        _ if image.len() < 100_000 => json!({"images": vec![image; 1 + random.below(150)]}),
        _ => json!({"images": [image, ""]}),
    };
    let path = if body.get("image").is_some() {
        "/search"
    } else {
        "/embed"
    };
    json_request("image", "POST", path, body.to_string().as_bytes())
}

fn vectors(_: &Library, random: &mut Random) -> Request {
    let fill = |value: &str, count: usize| vec![value; count].join(",");
    let vector = match random.below(8) {
        0 => fill("0", 15),
        1 => fill("NaN", 15),
        2 => fill("1e999", 15),
        3 => fill("1e38", 15),
        4 => fill("0.1", random.below(40)),
        5 => fill("1e-45", 15),
        6 => fill("null", 15),
        _ => fill("0.05", 100_000),
    };
    let (method, path, body) = match random.below(3) {
        0 => ("POST", "/search", format!("{{\"embedding\":[{vector}]}}")),
        1 => (
            "POST",
            "/search",
            format!("{{\"embedding\":[{vector}],\"model_version\":\"v0001\"}}"),
        ),
        // Of a length other than 1, or of none: refused although the version exists.
        _ => (
            "PUT",
            "/gallery/items",
            format!("{{\"id\":1,\"embedding\":[{vector}],\"model_version\":\"{UNKNOWN}\"}}"),
        ),
    };
    json_request("vector", method, path, body.as_bytes())
}

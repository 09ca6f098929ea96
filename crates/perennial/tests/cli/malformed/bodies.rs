//! The kinds of malformed requests. None of them can change what is stored: writes name a version or an item that does not exist.

use serde_json::{Value, json};

use super::exchange::{End, Request};
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
    (4, lengths),
    (1, real_bodies),
    (5, endless_chunks),
    (6, forms),
    (12, images),
    (8, vectors),
    (6, headers),
    (9, garbage),
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
    fn valid(&self, random: &mut Random) -> (&'static str, &'static str, Value) {
        let unit = |at: usize| -> Vec<f32> { (0..15).map(|i| f32::from(i == at)).collect() };
        let image = base64(&self.png);
        let item = json!({
            "id": 1, "embedding": unit(3), "model_version": UNKNOWN, "label": 3, "payload": {"a": [1, {"b": null}]}
        });
        match random.below(8) {
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
            _ => (
                "PUT",
                "/aliases/live",
                json!({"version": UNKNOWN, "force": false, "dry_run": true}),
            ),
        }
    }
}

fn request(kind: &'static str, method: &str, path: &str, headers: &str, body: &[u8]) -> Request {
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

fn json_request(kind: &'static str, method: &str, path: &str, body: &[u8]) -> Request {
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
    let key = *random.one_of(&["payload", "filter", "items", "id", "images", "embedding"]);
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

/// Lengths that say something else than what follows.
fn lengths(_: &Library, random: &mut Random) -> Request {
    let announced = random.one_of(&[
        "content-length: 1099511627776",
        "content-length: 33000000",
        "content-length: 500",
        "content-length: 99999999999999999999999",
        "content-length: -1",
        "content-length: 0x10",
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked, chunked",
        "content-length: 5\r\nexpect: 100-continue",
    ]);
    let bytes = format!(
        "POST /search HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n{announced}\r\n\r\n{{}}"
    );
    Request {
        kind: "lengths",
        bytes: bytes.into_bytes(),
        end: End::Cut,
    }
}

/// Bodies around the limit of 32 MiB that are really sent, and nothing but spaces.
fn real_bodies(_: &Library, random: &mut Random) -> Request {
    let bytes = *random.one_of(&[33 << 20, (32 << 20) - 1, 8 << 20]);
    json_request("real body", "POST", "/search", &vec![b' '; bytes])
}

fn endless_chunks(_: &Library, random: &mut Random) -> Request {
    let mut bytes =
        b"POST /search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
        transfer-encoding: chunked\r\n\r\n"
            .to_vec();
    let wrong: [&[u8]; 5] = [
        b"ZZZ\r\n",
        b"FFFFFFFFFFFFFFFFFF\r\n",
        b"-1\r\n",
        b"5;",
        b"5\r\nabcdefgh\r\n",
    ];
    let end = match random.below(3) {
        0 => {
            bytes.extend(*random.one_of(&wrong));
            End::Cut
        }
        1 => {
            bytes.extend(b"10000\r\n".iter().chain(&[b' '; 3000]));
            End::Gone
        }
        _ => {
            for _ in 0..20 {
                bytes.extend(b"400\r\n".iter().chain(&[b' '; 0x400]).chain(b"\r\n"));
            }
            *random.one_of(&[End::Cut, End::Gone])
        }
    };
    Request {
        kind: "chunks",
        bytes,
        end,
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

fn headers(_: &Library, random: &mut Random) -> Request {
    let many = match random.below(6) {
        0 => "x-a: b\r\n".repeat(3000),
        1 => format!("x-a: {}\r\n", "b".repeat(300_000)),
        2 => format!("{}: b\r\n", "a".repeat(70_000)),
        3 => format!("authorization: Bearer {}\r\n", "k".repeat(20_000)),
        4 => "host: a\r\nhost: b\r\norigin: null\r\n".to_owned(),
        _ => "x-request-id: \u{7f}\u{e9}\r\ncookie: \0\r\n bad fold\r\n".to_owned(),
    };
    let mut request = request("headers", "GET", "/info", &many, b"");
    request.end = End::Cut;
    request
}

/// No HTTP at all, other protocols, and requests with bytes of their heads changed.
fn garbage(library: &Library, random: &mut Random) -> Request {
    let bytes = match random.below(8) {
        0 => {
            let count = 1 + random.below(5000);
            random.bytes(count)
        }
        1 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20),
        2 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
        3 => b"GET /info\r\n\r\n".to_vec(),
        4 => b"GET /info HTTP/9.9\r\n\r\n".to_vec(),
        5 => b"\r\n".repeat(20_000),
        _ => {
            let (method, path, body) = library.valid(random);
            let mut bytes = json_request("", method, path, body.to_string().as_bytes()).bytes;
            for _ in 0..1 + random.below(4) {
                // Not the body: what it says stays harmless.
                let at = random.below(100);
                bytes[at] = random.next() as u8;
            }
            bytes
        }
    };
    Request {
        kind: "garbage",
        bytes,
        end: End::Cut,
    }
}

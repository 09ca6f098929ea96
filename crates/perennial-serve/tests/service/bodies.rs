//! Bodies as clients send them: compressed, wrapped, as data URLs.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::client::Call;
use crate::encoder::png;
use crate::harness::{Setup, base64, image};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The call with its body compressed.
fn compressed(mut call: Call) -> Call {
    call.body = gzip(&call.body);
    call.header("content-encoding", "gzip")
}

#[test]
fn gzip_bodies_mean_the_same_as_plain_ones() {
    let service = Setup::new(&["0"]).start();
    let body = json!({"images": [image([1, 2, 3])]});
    let plain = service.call("POST", "/embed", &body).expect(200);
    let call = compressed(Call::new("POST", "/embed").json(&body));
    assert_eq!(call.send(service.address).expect(200), plain);

    let form = || Call::new("POST", "/embed").form(&[("image", &png([1, 2, 3], 8))]);
    assert_eq!(form().send(service.address).expect(200), plain);
    let answer = compressed(form()).send(service.address).expect(200);
    assert_eq!(answer, plain);
    let identity = form().header("content-encoding", "identity");
    assert_eq!(identity.send(service.address).expect(200), plain);

    // In pieces of one byte.
    let bytes = gzip(body.to_string().as_bytes());
    let mut text = b"POST /embed HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-encoding: gzip\r\n\
        content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        .to_vec();
    for byte in bytes {
        text.extend([b'1', b'\r', b'\n', byte, b'\r', b'\n']);
    }
    text.extend(b"0\r\n\r\n");
    let mut stream = crate::client::connect(service.address);
    stream.write_all(&text).unwrap();
    assert_eq!(crate::client::Answer::read(&mut stream).expect(200), plain);
}

#[test]
fn what_is_no_gzip_or_too_much_of_it_is_refused() {
    let mut setup = Setup::new(&["0"]);
    setup.config.limits.body_bytes = 1 << 20;
    setup.config.limits.image_bytes = 1 << 20;
    let service = setup.start();
    let send = |body: Vec<u8>| {
        let mut call = Call::new("POST", "/search").text("application/json", "");
        call.body = body;
        call.header("content-encoding", "gzip")
            .send(service.address)
    };
    // A thousandth of what it becomes.
    let bomb = gzip(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 1 << 17);
    assert_eq!(send(bomb.clone()).code(413), "payload_too_large");
    assert_eq!(
        send(bomb[..bomb.len() / 2].to_vec()).code(413),
        "payload_too_large"
    );
    assert_eq!(send(b"{}".to_vec()).code(400), "bad_request");
    let cut = gzip(b"{\"id\": 1}");
    assert_eq!(send(cut[..cut.len() - 4].to_vec()).code(400), "bad_request");
    // After decompression, everything is judged as ever.
    assert_eq!(send(gzip(b"{")).code(400), "bad_request");
    assert_eq!(send(gzip(b"{\"what\": 1}")).code(422), "unprocessable");
    assert_eq!(send(gzip(b"{\"id\": 1}")).code(404), "not_found");
    // The budget is whole again.
    for _ in 0..50 {
        assert_eq!(send(bomb.clone()).status, 413);
    }
    service
        .call("POST", "/embed", &json!({"images": [image([1, 2, 3])]}))
        .expect(200);
}

#[test]
fn other_encodings_are_415_that_names_them() {
    let service = Setup::new(&["0"]).start();
    for (encoding, says) in [
        ("br", "\"br\""),
        ("deflate", "\"deflate\""),
        ("gzip, zstd", "\"zstd\""),
        ("gzip, gzip", "twice"),
    ] {
        let call = Call::new("POST", "/search").json(&json!({"id": 1}));
        let answer = call
            .header("content-encoding", encoding)
            .send(service.address)
            .expect(415);
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(says), "{message}");
    }
}

#[test]
fn base64_is_taken_as_programs_write_it() {
    let service = Setup::new(&["0"]).start();
    let file = png([200, 100, 50], 64);
    let text = base64(&file);
    let wrapped = |end: &str| -> String {
        let lines = text
            .as_bytes()
            .chunks(76)
            .map(|line| str::from_utf8(line).unwrap());
        lines.collect::<Vec<_>>().join(end)
    };
    let plain = service
        .call("POST", "/embed", &json!({"images": [text]}))
        .expect(200);
    for form in [
        wrapped("\n"),
        wrapped("\r\n"),
        format!("\n  {text}\r\n"),
        format!("data:image/png;base64,{}\n", wrapped("\r\n")),
    ] {
        let answer = service.call("POST", "/embed", &json!({"images": [form]}));
        assert_eq!(answer.expect(200), plain);
    }
    let item = json!({"id": 1, "image": wrapped("\r\n")});
    service.call("PUT", "/gallery/items", &item).expect(200);
    let search = json!({"image": wrapped("\n")});
    let found = service.call("POST", "/search", &search).expect(200);
    assert_eq!(found["hits"][0]["id"], 1);
    for wrong in ["not base64!", "data:image/png,AAAA", "AAA"] {
        let answer = service.call("POST", "/embed", &json!({"images": [wrong]}));
        assert_eq!(answer.code(422), "unprocessable", "{wrong}");
    }
}

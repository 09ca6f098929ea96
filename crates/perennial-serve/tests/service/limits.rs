//! What strangers may send, and what it costs.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Answer, Call, connect};
use crate::encoder::png;
use crate::harness::{Setup, base64, image};

#[test]
fn bodies_are_bounded_before_they_are_read() {
    let mut setup = Setup::new(&["0"]);
    setup.config.limits.body_bytes = 4096;
    setup.config.limits.image_bytes = 1024;
    let service = setup.start();
    let mut announced = Call::new("POST", "/search").text("application/json", "");
    announced.announced = Some(1 << 40);
    assert_eq!(
        announced.send(service.address).code(413),
        "payload_too_large"
    );
    let long = json!({"image": "x".repeat(5000)});
    assert_eq!(
        service.call("POST", "/search", &long).code(413),
        "payload_too_large"
    );
    // Without an announced length, the bytes themselves are counted.
    let mut stream = connect(service.address);
    let head = "POST /search HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
        content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    stream
        .write_all(format!("1389\r\n{}\r\n0\r\n\r\n", " ".repeat(5001)).as_bytes())
        .unwrap();
    assert_eq!(Answer::read(&mut stream).code(413), "payload_too_large");
    let picture = json!({"images": ["A".repeat(2000)]});
    assert_eq!(
        service.call("POST", "/embed", &picture).code(413),
        "payload_too_large"
    );
    service
        .call("POST", "/embed", &json!({"images": [image([1, 2, 3])]}))
        .expect(200);
}

#[test]
fn a_decompression_bomb_is_422_and_nothing_else() {
    let mut setup = Setup::new(&["0"]);
    setup.config.limits.image_pixels = 10_000;
    let service = setup.start();
    // 90,000 black pixels in a few hundred bytes; the header alone tells.
    let bomb = png([0, 0, 0], 300);
    assert!(bomb.len() < 5000);
    let answer = service.call("POST", "/embed", &json!({"images": [base64(&bomb)]}));
    let body = answer.expect(422);
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("300x300"),
        "{body}"
    );
    // A header that promises 2^31 pixels a side, with nothing behind it.
    let mut lie = png([0, 0, 0], 8);
    lie[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    for bytes in [&lie[..], &png([1, 1, 1], 8)[..40], b"GIF89a", b""] {
        let form = Call::new("POST", "/search").form(&[("image", bytes)]);
        assert_eq!(form.send(service.address).code(422), "unprocessable");
    }
    service
        .call("POST", "/embed", &json!({"images": [image([1, 2, 3])]}))
        .expect(200);
}

#[test]
fn forms_are_read_strictly() {
    let service = Setup::new(&["0"]).start();
    let picture = png([9, 9, 9], 8);
    let send = |fields: &[(&str, &[u8])]| {
        Call::new("POST", "/search")
            .form(fields)
            .send(service.address)
    };
    send(&[("image", &picture)]).expect(200);
    assert_eq!(send(&[("picture", &picture)]).code(422), "unprocessable");
    assert_eq!(
        send(&[("image", &picture), ("image", &picture)]).code(422),
        "unprocessable"
    );
    assert_eq!(send(&[("request", b"{}")]).code(422), "unprocessable");
    assert_eq!(
        send(&[("image", &picture), ("request", b"{")]).code(400),
        "bad_request"
    );
    let torn = Call::new("POST", "/search").text("multipart/form-data; boundary=x", "--x\r\nfoo");
    assert_eq!(torn.send(service.address).code(400), "bad_request");
    let unnamed = Call::new("POST", "/search").text("multipart/form-data", "--x--");
    assert_eq!(unnamed.send(service.address).code(400), "bad_request");
}

#[test]
fn unknown_paths_and_methods_have_the_common_form() {
    let service = Setup::new(&["0"]).start();
    for path in [
        "/nothing",
        "/gallery",
        "/gallery/items:other",
        "/static/../keys",
        "/static/none",
        "/docs/none",
    ] {
        assert_eq!(service.get(path).code(404), "not_found", "{path}");
    }
    let answer = service.call("POST", "/gallery/items", &json!({}));
    assert_eq!(answer.code(405), "method_not_allowed");
    assert!(answer.headers["allow"].contains("PUT"));
    let traced = Call::new("GET", "/nothing")
        .header("x-request-id", "my-trace.1")
        .send(service.address);
    assert_eq!(traced.expect(404)["error"]["request_id"], "my-trace.1");
}

#[test]
fn too_many_requests_and_images_are_429() {
    let mut setup = Setup::new(&["0"]);
    setup.config.limits.in_flight = 3;
    setup.config.limits.images = 1;
    setup.config.batching.queue_images = 1;
    let service = setup.start();
    service.setup.gate.close();
    let address = service.address;
    let embed = move || {
        let body = json!({"images": [image([1, 2, 3])]});
        Call::new("POST", "/embed").json(&body).send(address)
    };
    let waiting = std::thread::spawn(embed);
    wait_until(|| service.get("/stats/live").json()["queue_depth"] == 1);
    // The queue holds one image; the next is refused while other requests pass.
    assert_eq!(embed().code(429), "too_many_requests");
    service.get("/models").expect(200);
    service.setup.gate.open();
    waiting.join().unwrap().expect(200);
    embed().expect(200);
}

#[test]
fn bodies_together_are_bounded() {
    let mut setup = Setup::new(&["0"]);
    setup.config.limits.body_budget_bytes = 1 << 20;
    setup.config.limits.body_bytes = 1 << 20;
    setup.config.limits.model_bytes = 1 << 20;
    setup.config.limits.image_bytes = 1 << 20;
    let service = setup.start();
    // Sends nearly everything that it announced.
    let head = "POST /search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
        content-length: 1048000\r\n\r\n";
    let most = " ".repeat(1_047_000);
    let hold = || {
        let mut holder = connect(service.address);
        holder.write_all(head.as_bytes()).unwrap();
        let _ = holder.write_all(most.as_bytes());
        // A probe that overtakes the holder would have it refused.
        std::thread::sleep(Duration::from_millis(50));
        holder
    };
    let filler = " ".repeat(4096);
    let busy = || {
        let call = Call::new("POST", "/search").text("application/json", &filler);
        call.send(service.address).status == 429
    };
    let mut holder = hold();
    wait_until(|| {
        let held = busy();
        if !held {
            holder = hold();
        }
        held
    });
    drop(holder);
    wait_until(|| !busy());
}

#[test]
fn slow_requests_end() {
    let mut setup = Setup::new(&["0"]);
    setup.config.timeouts.request_seconds = 0.3;
    setup.config.timeouts.header_seconds = 0.3;
    let service = setup.start();
    // A body that never comes.
    let mut stream = connect(service.address);
    let head = "POST /search HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
        content-type: application/json\r\ncontent-length: 10\r\n\r\n{";
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut stream).code(408), "request_timeout");
    // Headers that never end.
    let mut stream = connect(service.address);
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: lo")
        .unwrap();
    let start = Instant::now();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(start.elapsed() < Duration::from_secs(20));
    // An encoder that does not come back.
    service.setup.gate.close();
    let body = json!({"images": [image([1, 2, 3])]});
    assert_eq!(service.call("POST", "/embed", &body).code(503), "timeout");
    service.setup.gate.open();
    wait_until(|| service.call("POST", "/embed", &body).status == 200);
}

pub fn wait_until(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

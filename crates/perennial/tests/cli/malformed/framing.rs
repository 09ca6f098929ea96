//! Malformed requests whose JSON is not what is wrong: lengths, chunks, heads, other protocols.

use super::bodies::{Library, json_request, request};
use super::exchange::{End, Request};
use super::random::Random;

/// Lengths that say something else than what follows.
pub fn lengths(_: &Library, random: &mut Random) -> Request {
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
pub fn real_bodies(_: &Library, random: &mut Random) -> Request {
    let bytes = *random.one_of(&[33 << 20, (32 << 20) - 1, 8 << 20]);
    json_request("real body", "POST", "/search", &vec![b' '; bytes])
}

pub fn endless_chunks(_: &Library, random: &mut Random) -> Request {
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

pub fn headers(_: &Library, random: &mut Random) -> Request {
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
pub fn garbage(library: &Library, random: &mut Random) -> Request {
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

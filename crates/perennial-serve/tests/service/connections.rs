//! Clients that take places instead of asking something.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::client::{Answer, Call, connect};
use crate::harness::{Running, Setup};
use crate::limits::wait_until;

/// Connects, asks once, and stays.
fn guest(service: &Running) -> TcpStream {
    let mut stream = connect(service.address);
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    stream
}

fn is_open(service: &Running) -> bool {
    let mut stream = connect(service.address);
    let _ =
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer.starts_with("HTTP/1.1 200")
}

#[test]
fn a_connection_too_many_is_503_until_another_ends() {
    let mut setup = Setup::new(&["0"]);
    setup.config.limits.connections = 3;
    setup.config.timeouts.header_seconds = 60.0;
    let service = setup.start();
    let mut guests: Vec<TcpStream> = (0..3).map(|_| guest(&service)).collect();
    let refused = Answer::read(&mut connect(service.address));
    assert_eq!(refused.status, 503);
    assert_eq!(refused.headers["retry-after"], "1");
    // Those that are in are not disturbed.
    guests[0]
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .unwrap();
    assert_eq!(Answer::read(&mut guests[0]).status, 200);
    guests.pop();
    wait_until(|| is_open(&service));
    drop(guests);
    let metrics = || {
        let answer = Call::new("GET", "/metrics").send(service.address);
        String::from_utf8(answer.body).unwrap()
    };
    wait_until(|| metrics().contains("perennial_connections 1\n"));
    let refused = metrics();
    let line = "perennial_connections_refused_total";
    assert!(refused.contains(line), "{refused}");
}

#[test]
fn headers_that_never_end_give_their_places_back() {
    let mut setup = Setup::new(&["0"]);
    setup.config.limits.connections = 3;
    setup.config.timeouts.header_seconds = 0.3;
    let service = setup.start();
    let mut slow: Vec<TcpStream> = (0..3).map(|_| connect(service.address)).collect();
    for stream in &mut slow {
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nx-slow: ")
            .unwrap();
    }
    wait_until(|| {
        // A byte now and then does not help them.
        for stream in &mut slow {
            let _ = stream.write_all(b"x");
        }
        is_open(&service)
    });
}

#[test]
fn a_client_that_reads_nothing_is_cut_off() {
    let mut setup = Setup::new(&["0"]);
    setup.config.limits.connections = 1;
    setup.config.timeouts.write_seconds = 0.3;
    setup.config.timeouts.header_seconds = 60.0;
    let service = setup.start();
    let mut deaf = guest(&service);
    // More answers than the buffers between the two hold; the service stops reading once it cannot write.
    deaf.set_nonblocking(true).unwrap();
    let ask = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(1000);
    let _ = deaf.write(&ask);
    wait_until(|| is_open(&service));
    drop(deaf);
}

#[test]
fn headers_beyond_the_buffer_are_431() {
    let service = Setup::new(&["0"]).start();
    let long = Call::new("GET", "/healthz").header("x-long", &"x".repeat(200_000));
    let mut stream = connect(service.address);
    let head = format!(
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-long: {}\r\n\r\n",
        long.headers[0].1
    );
    let _ = stream.write_all(head.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    // The answer may be lost where the service closes over unread bytes.
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let fits = Call::new("GET", "/healthz").header("x-long", &"x".repeat(30_000));
    fits.send(service.address).expect(200);
}

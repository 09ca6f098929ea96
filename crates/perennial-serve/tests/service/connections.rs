//! Clients that take places instead of asking something.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::client::{Answer, Call, connect};
use crate::harness::{Running, Setup};
use crate::limits::wait_until;

/// Connects, asks once, and stays.
pub fn guest(service: &Running) -> TcpStream {
    let mut stream = connect(service.address);
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    assert!(one_answer(&mut stream).starts_with("HTTP/1.1 200"));
    stream
}

/// An answer up to the first brace that closes.
fn one_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()
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

/// Whether the other side closes within so many seconds, and after how many.
fn closed_after(stream: &mut TcpStream, seconds: u64) -> Option<f64> {
    let begun = Instant::now();
    let limit = Duration::from_secs(seconds);
    stream.set_read_timeout(Some(limit)).unwrap();
    match stream.read(&mut [0]) {
        Ok(0) => Some(begun.elapsed().as_secs_f64()),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {
            Some(begun.elapsed().as_secs_f64())
        }
        _ => None,
    }
}

#[test]
fn connections_between_requests_outlast_the_time_of_headers() {
    let mut setup = Setup::new(&["0"]);
    setup.config.timeouts.header_seconds = 0.5;
    setup.config.timeouts.idle_seconds = 2.0;
    let service = setup.start();
    let mut idle = guest(&service);
    std::thread::sleep(Duration::from_secs(1));
    // A proxy that kept the connection uses it again.
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    assert!(one_answer(&mut idle).starts_with("HTTP/1.1 200"));
    let ended = closed_after(&mut idle, 10).unwrap();
    assert!(ended > 1.5, "{ended}");

    // The headers of a further request that never end.
    let mut slow = guest(&service);
    slow.write_all(b"GET /livez HTTP/1.1\r\nx-slow: ").unwrap();
    let ended = closed_after(&mut slow, 10).unwrap();
    assert!(ended < 1.5, "{ended}");
    // A body has the time of its request.
    let mut body = guest(&service);
    body.write_all(
        b"POST /search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{",
    )
    .unwrap();
    std::thread::sleep(Duration::from_secs(1));
    body.write_all(b"}").unwrap();
    let answer = one_answer(&mut body);
    assert!(answer.starts_with("HTTP/1.1 422"), "{answer}");
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

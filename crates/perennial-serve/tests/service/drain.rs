//! Stopping without losing a request.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Answer, Call};
use crate::connections::guest;
use crate::harness::{Setup, image};
use crate::limits::wait_until;

#[test]
fn requests_at_work_are_finished_and_the_gallery_is_flushed() {
    let mut service = Setup::new(&["0"]).start();
    service.setup.gate.close();
    let address = service.address;
    let waiting = std::thread::spawn(move || {
        let body = json!({"images": [image([1, 2, 3])]});
        Call::new("POST", "/embed").json(&body).send(address)
    });
    wait_until(|| service.get("/stats/live").json()["queue_depth"] == 1);
    service.signal();
    wait_until(|| TcpStream::connect(address).is_err());
    let (gate, store) = (service.setup.gate.clone(), service.setup.store.clone());
    assert!(!store.flushed.load(Ordering::SeqCst));
    gate.open();
    waiting.join().unwrap().expect(200);
    service.stop().unwrap();
    assert!(store.flushed.load(Ordering::SeqCst));
}

#[test]
fn a_request_that_hangs_delays_the_end_only_so_long() {
    let mut setup = Setup::new(&["0"]);
    setup.config.timeouts.drain_seconds = 0.2;
    let service = setup.start();
    // An open connection that asks for nothing.
    let _idle = TcpStream::connect(service.address).unwrap();
    let start = Instant::now();
    service.stop().unwrap();
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn requests_are_taken_for_a_while_after_readyz_says_that_it_stops() {
    let mut setup = Setup::new(&["0"]);
    setup.config.timeouts.drain_delay_seconds = 5.0;
    let mut service = setup.start();
    let mut kept = guest(&service);
    service.signal();
    let begun = Instant::now();
    wait_until(|| service.get("/readyz").status == 503);
    let body = json!({"images": [image([1, 2, 3])]});
    service.call("POST", "/embed", &body).expect(200);
    // Nobody shall send the next request by a connection that was kept.
    kept.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    let answer = Answer::read(&mut kept);
    assert_eq!(
        (answer.status, &*answer.headers["connection"]),
        (200, "close")
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
    let address = service.address;
    wait_until(|| TcpStream::connect(address).is_err());
    assert!(begun.elapsed() >= Duration::from_secs(5));
    service.stop().unwrap();
}

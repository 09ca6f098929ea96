//! Stopping without losing a request.

use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::Call;
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

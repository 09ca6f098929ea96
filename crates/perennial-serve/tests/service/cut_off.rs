//! Requests that end before their work does: their time is over, or the client has left.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use serde_json::json;

use crate::client::Call;
use crate::harness::Setup;
use crate::limits::wait_until;

#[test]
fn a_swap_waits_for_the_first_items_of_a_version_whose_request_is_over() {
    let mut setup = Setup::new(&["0", "0.5", "1"]);
    setup.config.timeouts.request_seconds = 1.0;
    // Queries of v0001 may search items of v0002, those of v0003 may not.
    setup.pairs.allow("v0001", "v0002");
    let (entered, enters) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    *setup.store.before_storing.lock().unwrap() = Some(Box::new(move |_| {
        entered.send(()).unwrap();
        let _ = goes_on.recv_timeout(Duration::from_secs(120));
    }));
    let service = setup.start();
    // It was admitted, and the service gives up on it before it is written.
    let stored = service.store(1, [200, 10, 10], 0.5, "v0002");
    assert_eq!(stored.code(503), "timeout");
    enters.try_recv().unwrap();
    let address = service.address;
    let swap = std::thread::spawn(move || {
        let order = json!({"version": "v0003"});
        Call::new("PUT", "/aliases/live").json(&order).send(address)
    });
    std::thread::sleep(Duration::from_millis(500));
    assert!(!swap.is_finished(), "the swap did not wait for the write");
    go_on.send(()).unwrap();
    // It sees the item, to which no route leads.
    assert_eq!(swap.join().unwrap().code(409), "incompatible_version");
    assert_eq!(service.get("/models").expect(200)["live"], "v0001");
    assert_eq!(service.setup.store.of_space("v0002").len(), 1);
}

#[test]
fn work_of_requests_that_are_over_keeps_its_places() {
    let mut setup = Setup::new(&["0"]);
    setup.config.timeouts.request_seconds = 0.5;
    let places = 2 * std::thread::available_parallelism().unwrap().get();
    let running = Arc::new(AtomicUsize::new(0));
    let (go_on, goes_on) = mpsc::channel::<()>();
    let goes_on = std::sync::Mutex::new(goes_on);
    let within = Arc::clone(&running);
    let before_page: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
        within.fetch_add(1, Ordering::SeqCst);
        // Until the sender is gone.
        let _ = goes_on
            .lock()
            .unwrap()
            .recv_timeout(Duration::from_secs(120));
    });
    let service = setup.start();
    service.store(1, [200, 10, 10], 0.0, "v0001").expect(200);
    *service.setup.store.before_page.lock().unwrap() = Some(before_page);
    for number in 1..=places {
        let answer = service.get("/gallery/items?sample=true");
        assert_eq!(answer.code(503), "timeout");
        assert_eq!(running.load(Ordering::SeqCst), number);
    }
    // All places are taken by work that nobody waits for any more.
    for _ in 0..2 {
        let answer = service.get("/gallery/items?sample=true");
        assert_eq!(answer.code(503), "timeout");
    }
    assert_eq!(running.load(Ordering::SeqCst), places);
    drop(go_on);
    wait_until(|| service.get("/gallery/items?sample=true").status == 200);
}

//! What one client may take. All tests come from loopback, which is exempt unless the settings say otherwise.

use serde_json::json;

use crate::client::Call;
use crate::harness::{Running, Setup, image};
use crate::limits::wait_until;

/// A service on which a client has two requests at once, and two more than one every quarter of an hour.
fn strict() -> Setup {
    let mut setup = Setup::new(&["0"]);
    let limits = &mut setup.config.limits;
    limits.per_client_on_loopback = true;
    limits.per_client_concurrent = 2;
    limits.per_client_per_second = 0.001;
    limits.per_client_burst = 2;
    setup
}

fn from(service: &Running, forwarded: &str) -> crate::client::Answer {
    Call::new("GET", "/models")
        .header("x-forwarded-for", forwarded)
        .send(service.address)
}

#[test]
fn a_client_that_asks_too_often_is_told_when_to_come_back() {
    let service = strict().start();
    service.get("/models").expect(200);
    service.get("/models").expect(200);
    let refused = service.get("/models");
    let body = refused.expect(429);
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("127.0.0.1"), "{message}");
    let seconds: u64 = refused.headers["retry-after"].parse().unwrap();
    assert!((900..=1000).contains(&seconds), "{seconds}");
    // An untrusted client cannot pass for another one.
    from(&service, "198.51.100.1").expect(429);
    // Whoever watches the service still reaches it.
    service.get("/healthz").expect(200);
    service.get("/readyz").expect(200);
    let metrics = String::from_utf8(service.get("/metrics").body).unwrap();
    let line = "perennial_client_limited_total{limit=\"per_second\"} 2";
    assert!(metrics.contains(line), "{metrics}");
}

#[test]
fn loopback_is_exempt_by_default() {
    let mut setup = strict();
    setup.config.limits.per_client_on_loopback = false;
    let service = setup.start();
    for _ in 0..10 {
        service.get("/models").expect(200);
    }
}

#[test]
fn behind_a_trusted_proxy_clients_are_told_apart() {
    let mut setup = strict();
    setup.config.limits.per_client_on_loopback = false;
    setup.config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let service = setup.start();
    for client in ["198.51.100.1", "198.51.100.2", "2001:db8::1"] {
        from(&service, client).expect(200);
        from(&service, client).expect(200);
        from(&service, client).expect(429);
    }
    // The same network; an address that the client wrote in front of its own.
    from(&service, "2001:db8::abcd").expect(429);
    from(&service, "203.0.113.77, 198.51.100.1").expect(429);
    // The proxy's own requests.
    for _ in 0..5 {
        service.get("/models").expect(200);
    }
}

#[test]
fn concurrent_requests_of_one_client_are_bounded() {
    let mut setup = strict();
    setup.config.limits.per_client_per_second = 0.0;
    let service = setup.start();
    service.setup.gate.close();
    let address = service.address;
    let embed = move || {
        let body = json!({"images": [image([1, 2, 3])]});
        loop {
            let answer = Call::new("POST", "/embed").json(&body).send(address);
            // A question below may hold a place for a moment.
            if answer.status != 429 {
                return answer;
            }
        }
    };
    let waiting = [std::thread::spawn(embed), std::thread::spawn(embed)];
    // Both at work: no place for a third.
    wait_until(|| service.get("/models").status == 429);
    let refused = service.get("/models");
    assert_eq!(refused.code(429), "too_many_requests");
    assert_eq!(refused.headers["retry-after"], "1");
    service.setup.gate.open();
    for thread in waiting {
        thread.join().unwrap().expect(200);
    }
    wait_until(|| service.get("/models").status == 200);
}

//! What is answered while a service still loads.

use std::net::{SocketAddr, TcpListener, TcpStream};

use perennial_serve::{Listening, ServeConfig, ServeError};
use serde_json::json;

use crate::client::{Answer, Call};
use crate::harness::{Setup, image};
use crate::limits::wait_until;

/// A port that is free at the moment.
fn free() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap()
}

fn get(address: SocketAddr, path: &str) -> Answer {
    Call::new("GET", path).send(address)
}

#[test]
fn probes_are_answered_while_the_model_is_loaded() {
    let mut setup = Setup::new(&["0"]);
    setup.config.listen = free();
    let (address, gate) = (setup.config.listen, setup.gate.clone());
    // A load embeds what tells whether it computes the same as ever.
    gate.close();
    let started = std::thread::spawn(|| setup.start());
    wait_until(|| TcpStream::connect(address).is_ok());
    for path in ["/livez", "/healthz"] {
        assert_eq!(get(address, path).expect(200), json!({"status": "ok"}));
    }
    // Nothing is there yet, so that nothing is unknown either.
    for path in ["/readyz", "/metrics", "/no/such/path"] {
        let early = Call::new("GET", path).header("x-request-id", "early");
        let early = early.send(address);
        assert_eq!(early.headers["retry-after"], "1");
        assert_eq!(early.headers["connection"], "close");
        assert_eq!(early.headers["x-request-id"], "early");
        let error = &early.expect(503)["error"];
        assert_eq!(
            [&error["code"], &error["request_id"]],
            ["unavailable", "early"]
        );
        assert!(error["message"].as_str().unwrap().contains("starting"));
    }
    let body = json!({"images": [image([1, 2, 3])]});
    let embed = || Call::new("POST", "/embed").json(&body).send(address);
    embed().expect(503);
    let openai = get(address, "/v1/models").expect(503);
    assert_eq!(openai["error"]["type"], "server_error");
    assert!(!started.is_finished());

    // A connection that asks for nothing does not hold up the start.
    let _idle = TcpStream::connect(address).unwrap();
    gate.open();
    let service = started.join().unwrap();
    // Whoever is told that it has started meets the service itself.
    get(address, "/readyz").expect(200);
    embed().expect(200);
    assert_eq!(get(address, "/no/such/path").status, 404);
    service.stop().unwrap();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_start_that_fails_leaves_the_port() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let config = ServeConfig {
        listen: free(),
        ..ServeConfig::default()
    };
    let listening = Listening::begin(config.clone()).unwrap();
    get(config.listen, "/livez").expect(200);
    let again = Listening::begin(config.clone()).err();
    assert!(
        matches!(again, Some(ServeError::Listen { .. })),
        "{again:?}"
    );
    // Such as after a gallery that cannot be opened.
    drop(listening);
    wait_until(|| TcpStream::connect(config.listen).is_err());
    Listening::begin(config).unwrap();
}

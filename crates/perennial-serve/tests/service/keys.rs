//! Who may do what.

use perennial_serve::{Keys, Scope};
use serde_json::json;

use crate::client::Call;
use crate::harness::Setup;

pub const READ: &str = "a-key-that-may-read";
pub const WRITE: &str = "a-key-that-may-write";

pub fn keys() -> Keys {
    let mut keys = Keys::default();
    keys.add(Scope::Read, READ, "test").unwrap();
    keys.add(Scope::Write, WRITE, "test").unwrap();
    keys
}

#[test]
fn scopes_are_kept_apart() {
    let mut setup = Setup::new(&["0"]);
    setup.config.keys = keys();
    let service = setup.start();
    let delete = || Call::new("DELETE", "/gallery/items").json(&json!({"ids": [1]}));
    assert_eq!(delete().send(service.address).code(401), "unauthorized");
    assert_eq!(
        delete()
            .key("not-a-key-of-ours")
            .send(service.address)
            .code(401),
        "unauthorized"
    );
    assert_eq!(
        delete().key(READ).send(service.address).code(403),
        "forbidden"
    );
    delete().key(WRITE).send(service.address).expect(200);
    let stats = || Call::new("GET", "/gallery/stats");
    let refused = stats().send(service.address);
    assert_eq!(refused.code(401), "unauthorized");
    assert_eq!(refused.headers["www-authenticate"], "Bearer");
    stats().key(READ).send(service.address).expect(200);
    stats().key(WRITE).send(service.address).expect(200);
    assert_eq!(
        Call::new("GET", "/metrics").send(service.address).code(401),
        "unauthorized"
    );
    for open in [
        "/healthz",
        "/livez",
        "/readyz",
        "/",
        "/static/app.js",
        "/openapi.json",
        "/docs/",
    ] {
        assert_eq!(service.get(open).status, 200, "{open}");
    }
}

#[test]
fn pages_of_other_sites_are_refused() {
    let service = Setup::new(&["0"]).start();
    let body = json!({"ids": [1]});
    let delete = || Call::new("DELETE", "/gallery/items").json(&body);
    let own = format!("http://localhost:{}", service.address.port());
    let host = format!("localhost:{}", service.address.port());
    delete()
        .header("host", &host)
        .header("origin", &own)
        .send(service.address)
        .expect(200);
    let foreign = delete()
        .header("origin", "https://evil.example")
        .send(service.address);
    assert_eq!(foreign.code(403), "forbidden");
    assert_eq!(
        delete()
            .header("origin", "null")
            .send(service.address)
            .code(403),
        "forbidden"
    );
    // A name that was made to point here does not help either.
    let rebound = Call::new("GET", "/gallery/stats").header("host", "evil.example:7700");
    assert_eq!(rebound.send(service.address).code(403), "forbidden");
}

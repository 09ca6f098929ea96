//! Who may do what, and TLS.

use std::sync::Arc;

use perennial_serve::{Keys, Scope, TlsFiles};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;

use crate::client::{Call, connect};
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

#[test]
fn tls_serves_the_same() {
    let mut setup = Setup::new(&["0"]);
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (
        setup.folder.path().join("c.pem"),
        setup.folder.path().join("k.pem"),
    );
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    setup.config.tls = Some(TlsFiles { certificate, key });
    let service = setup.start();

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(made.cert)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = rustls::StreamOwned::new(tls, connect(service.address));
    let answer = Call::new("GET", "/healthz").send_over(&mut stream);
    assert_eq!(answer.expect(200), json!({"status": "ok"}));
}

#[test]
fn files_that_are_no_certificate_are_named() {
    let mut setup = Setup::new(&["0"]);
    let path = setup.folder.path().join("no.pem");
    std::fs::write(&path, "nothing").unwrap();
    setup.config.tls = Some(TlsFiles {
        certificate: path.clone(),
        key: path,
    });
    let error = setup.try_start().err().unwrap().to_string();
    assert!(error.contains("no.pem"), "{error}");
}

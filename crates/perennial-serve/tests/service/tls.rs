//! TLS, and new certificates while the service runs.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use perennial_serve::TlsFiles;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConnection, StreamOwned};
use serde_json::json;

use crate::client::{Answer, Call, connect};
use crate::harness::Setup;
use crate::keys::{READ, keys};
use crate::reloads::new_keys;

/// Writes a new certificate and its key, and gives the certificate.
fn issue(files: &TlsFiles) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    made.cert.into()
}

fn files(folder: &Path) -> TlsFiles {
    TlsFiles {
        certificate: folder.join("certificate.pem"),
        key: folder.join("key.pem"),
    }
}

type Tls = StreamOwned<ClientConnection, std::net::TcpStream>;

/// A connection by a client that trusts one certificate only.
fn trusting(certificate: &CertificateDer<'static>, address: SocketAddr) -> Tls {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let tls = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(tls, connect(address))
}

fn is_accepted(certificate: &CertificateDer<'static>, address: SocketAddr) -> bool {
    let mut stream = trusting(certificate, address);
    while stream.conn.is_handshaking() {
        if stream.conn.complete_io(&mut stream.sock).is_err() {
            return false;
        }
    }
    true
}

#[test]
fn tls_serves_the_same() {
    let mut setup = Setup::new(&["0"]);
    let files = files(setup.folder.path());
    let certificate = issue(&files);
    setup.config.tls = Some(files);
    let service = setup.start();
    let mut stream = trusting(&certificate, service.address);
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

#[test]
fn a_new_certificate_is_for_new_connections_and_a_bad_one_for_nobody() {
    let mut setup = Setup::new(&["0"]);
    let files = files(setup.folder.path());
    let first = issue(&files);
    setup.config.tls = Some(files.clone());
    setup.config.keys = keys();
    let service = setup.start();
    let reload = || service.reloader.reload(|| Ok(keys()));
    let mut old_connection = trusting(&first, service.address);
    old_connection
        .conn
        .complete_io(&mut old_connection.sock)
        .unwrap();

    // A key that does not belong to the certificate, as between two copies of a rotation.
    let certificate = std::fs::read(&files.certificate).unwrap();
    let second = issue(&files);
    let new_certificate = std::fs::read(&files.certificate).unwrap();
    for (wrong, named) in [
        (&certificate[..], "key.pem"),
        (b"", "certificate.pem"),
        (&certificate[..200], "certificate.pem"),
    ] {
        std::fs::write(&files.certificate, wrong).unwrap();
        let error = service.reloader.reload(new_keys).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
        assert!(is_accepted(&first, service.address));
        assert!(!is_accepted(&second, service.address));
    }
    // With a certificate that failed, the keys did not change either.
    let ask = |key: &str, stream: &mut Tls| -> Answer {
        Call::new("GET", "/models").key(key).send_over(stream)
    };
    assert_eq!(
        ask(READ, &mut trusting(&first, service.address)).status,
        200
    );

    std::fs::write(&files.certificate, new_certificate).unwrap();
    let reloaded = reload().unwrap().unwrap();
    assert!(reloaded.certificate_expires.unwrap() > std::time::SystemTime::now());
    assert!(is_accepted(&second, service.address));
    assert!(!is_accepted(&first, service.address));
    // The connection from before goes on.
    assert_eq!(ask(READ, &mut old_connection).status, 200);
    let metrics = ask_metrics(&second, service.address);
    assert!(
        metrics.contains("perennial_tls_certificate_expiry_timestamp_seconds "),
        "{metrics}"
    );
}

fn ask_metrics(certificate: &CertificateDer<'static>, address: SocketAddr) -> String {
    let call = Call::new("GET", "/metrics").key(READ);
    let answer = call.send_over(&mut trusting(certificate, address));
    String::from_utf8(answer.body).unwrap()
}

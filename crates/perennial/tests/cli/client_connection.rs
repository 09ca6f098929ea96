//! How the command line reaches a service: addresses, keys, certificates, and repetitions.

use std::io::{Read, Write};
use std::net::TcpListener;
#[cfg(feature = "tls")]
use std::process::Stdio;

use serde_json::json;

use crate::bench::{Bench, Ended};
use crate::client::gallery;
use crate::gallery::stocked;
use crate::service::Service;

const READ_KEY: &str = "read-key-0123456789";
const WRITE_KEY: &str = "write-key-0123456789";

/// Answers every connection with the same bytes, until the test ends.
fn stranger(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

#[test]
fn what_is_no_service_is_named_with_its_address() {
    let bench = Bench::new();
    let unused = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let unused = format!("http://{unused}");
    let ask = |url: &str| gallery(&bench, Some(url), &["stats"]);
    let ended = ask(&unused);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains(&unused) && ended.stderr.contains("perennial serve"),
        "{}",
        ended.stderr
    );
    for (answer, code, says) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi",
            1,
            "not from a Perennial service",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
            1,
            "not from a Perennial service",
        ),
        (
            "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
            1,
            "not from a Perennial service",
        ),
        (
            "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno",
            1,
            "a proxy answers",
        ),
        (
            "HTTP/1.1 301 Moved\r\nlocation: https://elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            2,
            "points to https://elsewhere",
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n", 1, "cannot reach"),
    ] {
        let url = stranger(answer);
        for ended in [
            ask(&url),
            bench.run(&["models", "promote", "v0001", "--server", &url]),
        ] {
            assert_eq!(ended.code, Some(code), "{answer}: {}", ended.stderr);
            assert!(
                ended.stderr.contains(&url) && ended.stderr.contains(says),
                "{answer}: {}",
                ended.stderr
            );
            assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        }
    }
    for (url, says) in [
        ("127.0.0.1:7700", "lacks http://"),
        ("ftp://host", "http://"),
        ("http://a:b@host", "--key"),
    ] {
        ask(url).assert_wrong_usage(&[url, says]);
    }
    // A proxy is not for this machine.
    let mut command = bench.command(&["gallery", "stats", "--server", &unused]);
    command.env(
        "http_proxy",
        stranger("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"),
    );
    let ended = Ended::from(command.output().unwrap());
    assert!(
        ended.stderr.contains("nothing listens there"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_missing_or_wrong_key_is_named_with_its_origin() {
    let bench = stocked();
    let common = ["serve", "--listen", "127.0.0.1:0", "--json", "--quiet"];
    let mut command = bench.command(&common);
    command
        .env("PERENNIAL_READ_KEY", READ_KEY)
        .env("PERENNIAL_WRITE_KEY", WRITE_KEY);
    let service = Service::spawn(command);
    let ask = |arguments: &[&str], keys: &[(&str, &str)]| {
        let arguments = [&["gallery"], arguments, &["--server", service.url()]].concat();
        let mut command = bench.command(&arguments);
        command.envs(keys.iter().copied());
        Ended::from(command.output().unwrap())
    };
    let (read, write) = (
        ("PERENNIAL_READ_KEY", READ_KEY),
        ("PERENNIAL_WRITE_KEY", WRITE_KEY),
    );
    ask(&["stats"], &[]).assert_wrong_usage(&[
        service.url().trim_end_matches('/'),
        "set PERENNIAL_READ_KEY",
        "--key",
    ]);
    ask(&["delete", "none"], &[]).assert_wrong_usage(&["set PERENNIAL_WRITE_KEY"]);
    ask(&["delete", "none"], &[read]).assert_wrong_usage(&["set PERENNIAL_WRITE_KEY"]);
    let wrong = ("PERENNIAL_READ_KEY", "another-key-0123456789");
    let ended = ask(&["stats"], &[wrong]);
    ended.assert_wrong_usage(&["does not know the key of PERENNIAL_READ_KEY"]);
    assert!(!ended.stderr.contains("another-key"), "{}", ended.stderr);
    let ended = ask(&["delete", "none", "--key", READ_KEY], &[]);
    ended.assert_wrong_usage(&["the key of --key does not allow this"]);
    ask(&["stats", "--key", "two words"], &[]).assert_wrong_usage(&["--key: a key must"]);
    for (arguments, keys) in [
        (&["stats"][..], &[read][..]),
        (&["stats"], &[write]),
        (&["stats"], &[read, write]),
        (&["delete", "none"], &[read, write]),
        (&["delete", "none", "--key", WRITE_KEY], &[]),
    ] {
        let ended = ask(arguments, keys);
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
    }
}

#[cfg(feature = "tls")]
#[test]
fn a_service_with_the_certificate_of_an_authority_is_told_to_get_another() {
    let bench = stocked();
    let mut authority = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    bench.write("server.pem", &authority.self_signed(&key).unwrap().pem());
    bench.write("server.key", &key.serialize_pem());
    let tls = ["--tls-certificate", "server.pem", "--tls-key", "server.key"];
    let service = Service::start_with(&bench, &tls, Stdio::piped());
    let ended = bench.run(&[
        "gallery",
        "stats",
        "--server",
        service.url(),
        "--ca",
        "server.pem",
    ]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("basicConstraints=critical,CA:FALSE"),
        "{}",
        ended.stderr
    );
}

#[cfg(feature = "tls")]
#[test]
fn a_private_authority_is_trusted_when_it_is_named() {
    let bench = stocked();
    let mut authority = rcgen::CertificateParams::new(vec![]).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    bench.write(
        "ca.pem",
        &authority.self_signed(&authority_key).unwrap().pem(),
    );
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    bench.write("server.pem", &leaf.signed_by(&key, &issuer).unwrap().pem());
    bench.write("server.key", &key.serialize_pem());
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    bench.write("other.pem", &other.cert.pem());
    let tls = ["--tls-certificate", "server.pem", "--tls-key", "server.key"];
    let service = Service::start_with(&bench, &tls, Stdio::piped());
    let url = service.url();
    assert!(url.starts_with("https://"), "{url}");

    let ask = |url: &str, more: &[&str]| {
        bench.run(&[&["gallery", "stats", "--server", url], more].concat())
    };
    for more in [&[][..], &["--ca", "other.pem"]] {
        let ended = ask(url, more);
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(
            ended.stderr.contains(url.trim_end_matches('/')) && ended.stderr.contains("--ca FILE"),
            "{}",
            ended.stderr
        );
    }
    assert_eq!(ask(url, &["--ca", "ca.pem"]).code, Some(0));
    for variable in ["SSL_CERT_FILE", "PERENNIAL_CA"] {
        let mut command = bench.command(&["gallery", "stats", "--server", url]);
        let ended = Ended::from(
            command
                .env(variable, bench.path("ca.pem"))
                .output()
                .unwrap(),
        );
        assert_eq!(ended.code, Some(0), "{variable}: {}", ended.stderr);
    }
    bench.succeed(&[
        "models",
        "promote",
        "v0001",
        "--dry-run",
        "--server",
        url,
        "--ca",
        "ca.pem",
    ]);

    let localhost = url.replace("127.0.0.1", "localhost");
    let ended = ask(&localhost, &["--ca", "ca.pem"]);
    assert!(
        ended.stderr.contains("another host name"),
        "{}",
        ended.stderr
    );
    let plain = url.replace("https://", "http://");
    let ended = ask(&plain, &[]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("https://"), "{}", ended.stderr);
    ask(url, &["--ca", "missing.pem"]).assert_wrong_usage(&["--ca", "missing.pem"]);
    ask(url, &["--ca", "toy.toml"]).assert_wrong_usage(&["--ca", "toy.toml holds no certificate"]);

    let plain_service = stranger("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    let ended = ask(
        &plain_service.replace("http://", "https://"),
        &["--ca", "ca.pem"],
    );
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("http://"), "{}", ended.stderr);
}

#[test]
fn a_busy_service_is_asked_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let bench = stocked();
    bench.succeed(&[
        "embed",
        "v0001",
        "--set",
        "generated:test",
        "--out",
        "e.safetensors",
    ]);
    let server = std::thread::spawn(move || {
        let busy =
            json!({"error": {"code": "too_many_requests", "message": "busy", "request_id": "1"}})
                .to_string();
        let stored = json!({"inserted": 2000, "replaced": 0}).to_string();
        let stats = json!({
            "items": 2000, "dim": 15, "per_version": {"v0001": 2000},
            "index": {"kind": "int8", "state": "ready", "indexed": 0, "backlog": 0}, "disk": {"bytes": 1, "reclaimable_bytes": 0}, "bytes_per_vector": {"memory": 1.0, "disk": 1.0}
        }).to_string();
        let answers = [
            ("429 Busy", &busy),
            ("503 Busy", &busy),
            ("200 OK", &stored),
            ("200 OK", &stored),
            ("200 OK", &stats),
        ];
        let mut asked = Vec::new();
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            asked.push(read_request(&mut stream));
            let head = format!(
                "HTTP/1.1 {status}\r\nretry-after: 0\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream
                .write_all(format!("{head}{body}").as_bytes())
                .unwrap();
        }
        asked
    });
    let ended = gallery(
        &bench,
        Some(&url),
        &["add", "--embeddings", "e.safetensors"],
    );
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let asked = server.join().unwrap();
    // The same request until it was taken, then the next.
    assert!(asked[0] == asked[1] && asked[1] == asked[2] && asked[3] != asked[2]);
}

/// Head and body of a request that states its length.
fn read_request(stream: &mut std::net::TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return bytes;
            }
        }
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the request is cut off");
        bytes.extend_from_slice(&buffer[..count]);
    }
}

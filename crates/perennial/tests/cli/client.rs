//! The command line as a client of a running service: the same answers as from a folder, and errors that say what to do.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::bench::{Bench, Ended};
use crate::gallery::stocked;
use crate::service::Service;

const READ_KEY: &str = "read-key-0123456789";
const WRITE_KEY: &str = "write-key-0123456789";

fn png(shade: u8) -> Vec<u8> {
    perennial_encode::encode_png(&vec![shade; 3 * 40 * 40], [3, 40, 40]).unwrap()
}

/// `gallery` with arguments, against a service or the folder.
fn gallery(bench: &Bench, server: Option<&str>, arguments: &[&str]) -> Ended {
    let server: Vec<&str> = server.iter().flat_map(|url| ["--server", url]).collect();
    bench.run(&[&["gallery"], arguments, &server].concat())
}

#[test]
fn a_service_gives_the_answers_of_its_folder() {
    let bench = stocked();
    std::fs::write(bench.path("query.png"), png(200)).unwrap();
    let questions: [&[&str]; 6] = [
        &["search", "--id", "generated/7", "--limit", "3"],
        &["search", "--id", "generated/7", "--label", "3", "--json"],
        &["search", "query.png", "--limit", "2", "--json"],
        &["search", "query.png", "--model-version", "v0001"],
        &["search", "--id", "none"],
        &["search", "--id", "generated/7", "--limit", "0"],
    ];
    let local = questions.map(|question| gallery(&bench, None, question));
    let stats = bench.answer(&["gallery", "stats"]);
    let service = Service::start_with(&bench, &["--snapshots", "snapshots"], Stdio::piped());
    for (question, local) in questions.iter().zip(local) {
        let remote = gallery(&bench, Some(service.url()), question);
        assert_eq!(remote.stdout, local.stdout, "{question:?}");
        if question.contains(&"0") {
            // A limit that cannot be: refused on either side.
            assert!(remote.code != Some(0) && local.code != Some(0));
        } else {
            assert_eq!(remote.code, local.code, "{question:?}: {}", remote.stderr);
        }
    }
    let answer = |arguments: &[&str]| -> Value {
        let ended = gallery(
            &bench,
            Some(service.url()),
            &[arguments, &["--json"]].concat(),
        );
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap()
    };
    let remote = answer(&["stats"]);
    for key in ["items", "per_version", "dim", "schema_version"] {
        assert_eq!(remote[key], stats[key]);
    }
    let keys = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(&remote), keys(&stats));

    let snapshot = answer(&["snapshot"]);
    assert_eq!(snapshot["items"], 2000);
    let name = snapshot["name"].as_str().unwrap();
    assert!(bench.path("snapshots").join(name).is_file());
    gallery(&bench, Some(service.url()), &["snapshot", "mine.snapshot"])
        .assert_wrong_usage(&["mine.snapshot", "remove the file name"]);
    gallery(&bench, Some(service.url()), &["restore", "toy.toml"]).assert_wrong_usage(&["stop it"]);

    assert_eq!(answer(&["delete", "generated/7", "none"])["deleted"], 1);
    gallery(&bench, Some(service.url()), &["delete"]).assert_wrong_usage(&["--all"]);
    assert_eq!(answer(&["stats"])["items"], 1999);
    assert_eq!(answer(&["delete", "--all"])["deleted"], 1999);
    assert_eq!(answer(&["delete", "--all"])["deleted"], 0);
}

#[test]
fn a_folder_and_a_service_are_not_mixed_up() {
    let bench = stocked();
    let service = Service::start(&bench);
    // What the program could not know, it says.
    let ended = gallery(&bench, None, &["stats"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("--server"), "{}", ended.stderr);
    // A note is believed while its process runs.
    for (process, advice) in [
        (std::process::id(), "--server http://127.0.0.1:1"),
        (u32::MAX, "--server URL"),
    ] {
        bench.write(
            "gallery/service.toml",
            &format!("url = \"http://127.0.0.1:1\"\nprocess = {process}\n"),
        );
        let ended = gallery(&bench, None, &["stats"]);
        assert!(ended.stderr.contains(advice), "{}", ended.stderr);
    }
    bench.write(
        "gallery/service.toml",
        &format!(
            "url = \"http://127.0.0.1:1\"\nprocess = {}\n",
            std::process::id()
        ),
    );
    let ended = gallery(&bench, None, &["delete", "generated/7"]);
    assert!(
        ended.stderr.contains("--server http://127.0.0.1:1"),
        "{}",
        ended.stderr
    );
    // One of the two must be meant.
    let both = [
        "gallery",
        "--gallery",
        "other",
        "stats",
        "--server",
        service.url(),
    ];
    let ended = bench.run(&both);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("--gallery"), "{}", ended.stderr);
    // A variable that is set for the service is no second choice.
    let mut command = bench.command(&["gallery", "stats", "--server", service.url()]);
    let ended = Ended::from(
        command
            .env("PERENNIAL_GALLERY", "gallery")
            .output()
            .unwrap(),
    );
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn pictures_added_through_a_service_are_those_added_to_a_folder() {
    let bench = stocked();
    for (name, shade) in [
        ("photos/a.png", 10),
        ("photos/cats/b.png", 90),
        ("photos/dogs/b.png", 200),
    ] {
        std::fs::create_dir_all(bench.path(name).parent().unwrap()).unwrap();
        std::fs::write(bench.path(name), png(shade)).unwrap();
    }
    bench.write("photos/broken.png", "no picture");
    bench.succeed(&["gallery", "--gallery", "local", "add", "photos"]);
    let export = |service: &Service| {
        service.get("gallery/items?embeddings=true&limit=1000")["items"].clone()
    };
    let local = {
        let service = Service::start_with(&bench, &["--gallery", "local"], Stdio::piped());
        export(&service)
    };
    let service = Service::start_with(&bench, &["--gallery", "remote"], Stdio::piped());
    let add = |more: &[&str]| -> Value {
        let arguments = [&["add", "photos", "--json"], more].concat();
        let ended = gallery(&bench, Some(service.url()), &arguments);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap()
    };
    let first = add(&[]);
    assert_eq!(
        [&first["inserted"], &first["left_out"]],
        [&json!(3), &json!(1)]
    );
    assert_eq!(export(&service), local);
    let second = add(&[]);
    assert_eq!(
        [
            &second["inserted"],
            &second["replaced"],
            &second["unchanged"]
        ],
        [&json!(0), &json!(0), &json!(3)]
    );
    std::fs::remove_file(bench.path("photos/a.png")).unwrap();
    std::fs::write(bench.path("photos/cats/b.png"), png(91)).unwrap();
    assert_eq!(add(&[])["pruned"], 0);
    let third = add(&["--prune"]);
    assert_eq!([&third["pruned"], &third["items"]], [&json!(1), &json!(2)]);
    let refused = gallery(
        &bench,
        Some(service.url()),
        &["add", "photos", "--model", "v0002"],
    );
    refused.assert_wrong_usage(&["v0001", "remove --model"]);
}

#[test]
fn sets_and_embeddings_go_through_a_service_too() {
    let bench = stocked();
    bench.succeed(&[
        "embed",
        "v0001",
        "--set",
        "generated:test",
        "--out",
        "e.safetensors",
    ]);
    bench.succeed(&[
        "gallery",
        "--gallery",
        "local",
        "add",
        "--set",
        "generated:test",
    ]);
    let service = Service::start_with(&bench, &["--gallery", "remote"], Stdio::piped());
    for arguments in [
        &["add", "--set", "generated:test"][..],
        &["add", "--embeddings", "e.safetensors"],
    ] {
        for (inserted, replaced) in [(2000, 0), (0, 2000)] {
            let ended = gallery(
                &bench,
                Some(service.url()),
                &[arguments, &["--json"]].concat(),
            );
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
            let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
            assert_eq!(
                [&answer["inserted"], &answer["replaced"]],
                [&json!(inserted), &json!(replaced)]
            );
        }
    }
    let first = service.get("gallery/items/generated%2F7?embedding=true");
    let same = service.get("gallery/items/7?embedding=true");
    let close = |a: &Value, b: &Value| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-5;
    let (first, same) = (
        first["embedding"].as_array().unwrap(),
        same["embedding"].as_array().unwrap(),
    );
    assert!(first.iter().zip(same).all(|(a, b)| close(a, b)));
}

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

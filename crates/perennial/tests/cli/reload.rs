//! SIGHUP to the running program: keys and certificates change, nothing else does, whatever the new files hold.

use std::fs::File;
use std::process::Command;
use std::time::{Duration, Instant};

use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::bench::Bench;
use crate::service::Service;

const FIRST: &str = "first-key-0123456789abcdef";
const SECOND: &str = "second-key-0123456789abcdef";

/// A service without models, with keys and TLS, that logs into `log`.
struct Running {
    bench: Bench,
    service: Service,
}

impl Running {
    fn start(bench: Bench) -> Self {
        let arguments = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--json",
            "--keys",
            "keys",
            "--tls-certificate",
            "certificate.pem",
            "--tls-key",
            "key.pem",
        ];
        let mut command = bench.command(&arguments);
        command.stderr(File::create(bench.path("log")).unwrap());
        Self {
            service: Service::spawn(command),
            bench,
        }
    }

    fn hang_up(&self) {
        let id = self.service.process().to_string();
        let sent = Command::new("kill").args(["-HUP", &id]).status().unwrap();
        assert!(sent.success());
    }

    /// Asks for a reload and waits until the log tells how the `times`-th went.
    fn reload(&self, outcome: &str, times: usize) -> String {
        self.hang_up();
        let begun = Instant::now();
        loop {
            let log = self.bench.read("log");
            if log.matches(outcome).count() >= times {
                return log;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{outcome}: {log}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The status for a key, over TLS that trusts one certificate; `None` where the two do not come together.
    fn status(&self, trusted: &str, key: &str) -> Option<u16> {
        ask(&agent(trusted), &self.url(), key)
    }

    /// By name, since the certificate is for a name.
    fn url(&self) -> String {
        let (_, port) = self
            .service
            .url()
            .trim_end_matches('/')
            .rsplit_once(':')
            .unwrap();
        format!("https://localhost:{port}/models")
    }
}

pub fn agent(trusted: &str) -> ureq::Agent {
    let root = Certificate::from_pem(trusted.as_bytes()).unwrap();
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&[root]))
        .build();
    let config = ureq::Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(20)))
        .build();
    config.into()
}

fn ask(agent: &ureq::Agent, url: &str, key: &str) -> Option<u16> {
    let request = agent
        .get(url)
        .header("authorization", format!("Bearer {key}"));
    let mut answer = request.call().ok()?;
    // To its end, so that the connection is used again.
    answer.body_mut().read_to_vec().unwrap();
    Some(answer.status().as_u16())
}

/// A folder with an empty registry, keys and a certificate, which is given back.
fn prepared() -> (Bench, String) {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("registry")).unwrap();
    bench.write("keys", &format!("write {FIRST}\n"));
    let certificate = issue(&bench);
    (bench, certificate)
}

/// Puts a new certificate and its key into the folder.
pub fn issue(bench: &Bench) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    bench.write("key.pem", &made.signing_key.serialize_pem());
    bench.write("certificate.pem", &made.cert.pem());
    made.cert.pem()
}

#[test]
fn keys_and_certificate_are_rotated_without_a_restart() {
    let (bench, first) = prepared();
    let mut running = Running::start(bench);
    assert_eq!(running.status(&first, FIRST), Some(200));
    assert_eq!(running.status(&first, SECOND), Some(401));
    // A connection that stays.
    let kept = agent(&first);
    let url = running.url();
    assert_eq!(ask(&kept, &url, FIRST), Some(200));

    running
        .bench
        .write("keys", &format!("read {SECOND}\nwrite {FIRST}\n"));
    let log = running.reload("keys and certificate reloaded", 1);
    assert!(
        log.contains("read_keys=1") && log.contains("write_keys=1"),
        "{log}"
    );
    assert!(
        log.contains("certificate_expires=\"4096-01-01T00:00:00Z\""),
        "{log}"
    );
    assert_eq!(running.status(&first, SECOND), Some(200));

    let second = issue(&running.bench);
    running.bench.write("keys", &format!("read {SECOND}\n"));
    running.reload("keys and certificate reloaded", 2);
    assert_eq!(running.status(&second, SECOND), Some(200));
    assert_eq!(running.status(&second, FIRST), Some(401));
    assert_eq!(running.status(&first, SECOND), None);
    // On a connection from before, the new keys hold.
    assert_eq!(ask(&kept, &url, SECOND), Some(200));
    assert_eq!(ask(&kept, &url, FIRST), Some(401));
    running.service.stop();
}

#[test]
fn damaged_files_change_nothing_and_are_named() {
    let (bench, certificate) = prepared();
    let running = Running::start(bench);
    let key = running.bench.read("key.pem");
    let mut failures = 0;
    for (file, content, says) in [
        ("keys", "write short\n", "keys, line 1"),
        ("keys", "", "keys: holds no key"),
        (
            "certificate.pem",
            "no certificate",
            "certificate.pem: holds no certificate",
        ),
        ("key.pem", "no key", "key.pem: "),
    ] {
        let before = running.bench.read(file);
        running.bench.write(file, content);
        // Both files are looked at before either is used.
        if file != "keys" {
            running.bench.write("keys", &format!("read {SECOND}\n"));
        }
        failures += 1;
        let log = running.reload("nothing was reloaded", failures);
        let last = log
            .lines()
            .rev()
            .find(|line| line.contains("nothing was reloaded"));
        assert!(last.unwrap().contains(says), "{says} in {log}");
        assert_eq!(running.status(&certificate, FIRST), Some(200), "{file}");
        assert_eq!(running.status(&certificate, SECOND), Some(401), "{file}");
        running.bench.write(file, &before);
        running.bench.write("keys", &format!("write {FIRST}\n"));
    }
    std::fs::remove_file(running.bench.path("keys")).unwrap();
    let log = running.reload("nothing was reloaded", failures + 1);
    assert!(log.lines().next_back().unwrap().contains("keys"), "{log}");
    assert_eq!(running.status(&certificate, FIRST), Some(200));
    // What is in use and what lies in the folder are again the same.
    running.bench.write("keys", &format!("write {FIRST}\n"));
    running.bench.write("key.pem", &key);
    running.reload("keys and certificate reloaded", 1);
}

#[test]
fn a_kill_during_reloads_leaves_nothing_broken() {
    let (bench, certificate) = prepared();
    let mut running = Running::start(bench);
    for round in 0..5 {
        for _ in 0..20 {
            running.hang_up();
        }
        if round % 2 == 1 {
            std::thread::sleep(Duration::from_millis(round));
        }
        running.service.kill();
        let names = || -> Vec<String> {
            let mut names: Vec<String> = std::fs::read_dir(running.bench.path("."))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let expected = [
            "certificate.pem",
            "gallery",
            "key.pem",
            "keys",
            "log",
            "registry",
            "toy.toml",
        ];
        assert_eq!(names(), expected);
        running = Running::start(running.bench);
        assert_eq!(running.status(&certificate, FIRST), Some(200));
    }
}

#[test]
fn without_keys_and_certificate_a_hangup_is_harmless() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("registry")).unwrap();
    let mut command = bench.command(&["serve", "--listen", "127.0.0.1:0", "--json"]);
    command.stderr(File::create(bench.path("log")).unwrap());
    let service = Service::spawn(command);
    let mut running = Running { bench, service };
    let log = running.reload("keys and certificate reloaded", 1);
    assert!(log.contains("write_keys=0"), "{log}");
    assert!(running.service.get("models")["models"].is_array());
    running.service.stop();
}

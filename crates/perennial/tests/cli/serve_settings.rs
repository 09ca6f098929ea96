//! The settings of `serve`: one file, layers on top of it, and what is logged.

use std::fs::File;

use crate::bench::{Bench, Ended, repository};
use crate::service::Service;

const FILE: &str = r#"
listen = "127.0.0.1:7001"
registry = "from-file"
log_format = "json"
[limits]
items = 11
images = 12
results = 13
[batching]
max_batch = 14
"#;

fn with_environment(bench: &Bench, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = bench.command(arguments);
    command.envs(variables.iter().copied());
    command.output().unwrap().into()
}

#[test]
fn file_environment_and_options_are_layers_of_every_setting() {
    let bench = Bench::new();
    bench.write("serve.toml", FILE);
    let arguments = [
        "serve",
        "--config",
        "serve.toml",
        "--print-config",
        "--gallery",
        "from-option",
        "--set",
        "limits.results=33",
        "--exact",
    ];
    let ended = with_environment(
        &bench,
        &arguments,
        &[
            ("PERENNIAL_LISTEN", "127.0.0.1:7002"),
            ("PERENNIAL_GALLERY", "from-environment"),
            ("PERENNIAL__LIMITS__IMAGES", "22"),
            ("PERENNIAL__LIMITS__RESULTS", "23"),
            ("PERENNIAL_LOG", "warn"),
        ],
    );
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for line in [
        "listen = \"127.0.0.1:7002\"",
        "registry = \"from-file\"",
        "gallery = \"from-option\"",
        "probes = \"from-option/probes\"",
        "log = \"warn\"",
        "log_format = \"json\"",
        "exact = true",
        "items = 11",
        "images = 22",
        "results = 33",
        "max_batch = 14",
        "device = \"cpu\"",
        "# Not set: answer_from, answer_in, answer_uncertified, keys, onnxruntime, originals, snapshots, store, tls",
    ] {
        let found = ended.stdout.lines().any(|found| found == line);
        assert!(found, "{line} in {}", ended.stdout);
    }
    bench.write("again.toml", &ended.stdout);
    let again = bench.succeed(&["serve", "--config", "again.toml", "--print-config"]);
    assert_eq!(again, ended.stdout);
    // An option on the command line comes after --set, a variable before it.
    let set = with_environment(
        &bench,
        &[
            "serve",
            "--print-config",
            "--set",
            "listen=127.0.0.1:1",
            "--set",
            "gallery=set",
            "--gallery",
            "option",
        ],
        &[("PERENNIAL_LISTEN", "127.0.0.1:2")],
    );
    assert!(
        set.stdout.contains("listen = \"127.0.0.1:1\""),
        "{}",
        set.stdout
    );
    assert!(
        set.stdout.contains("gallery = \"option\""),
        "{}",
        set.stdout
    );
}

#[test]
fn mistakes_name_their_layer() {
    let bench = Bench::new();
    bench.write("serve.toml", "galery = \"x\"\n");
    let file = ["serve", "--config", "serve.toml"];
    bench
        .run(&file)
        .assert_wrong_usage(&["serve.toml", "`galery`", "did you mean `gallery`?"]);
    bench.write("serve.toml", "[limits]\nitems = \"many\"\n");
    bench
        .run(&file)
        .assert_wrong_usage(&["serve.toml", "limits.items"]);
    bench
        .run(&["serve", "--config", "server.toml"])
        .assert_wrong_usage(&["server.toml", "did you mean", "serve.toml"]);
    for (variable, value, parts) in [
        (
            "PERENNIAL_LISTEN",
            "7700",
            &["PERENNIAL_LISTEN", "`listen`"][..],
        ),
        (
            "PERENNIAL_LOG_FORMAT",
            "xml",
            &["PERENNIAL_LOG_FORMAT", "`xml`", "text, json"],
        ),
        (
            "PERENNIAL_LOG",
            "loud",
            &["PERENNIAL_LOG:", "\"loud\"", "warn,perennial_serve=debug"],
        ),
        (
            "PERENNIAL__TRUSTED_PROXIES",
            "[\"10.0.0.1/8\"]",
            &["PERENNIAL__TRUSTED_PROXIES", "10.0.0.1/8"],
        ),
    ] {
        let ended = with_environment(&bench, &["serve"], &[(variable, value)]);
        ended.assert_wrong_usage(parts);
    }
    bench
        .run(&["serve", "--listen", "nowhere"])
        .assert_wrong_usage(&["--listen", "`listen`"]);
    bench
        .run(&["serve", "--tls-certificate", "c.pem"])
        .assert_wrong_usage(&["`tls.key` is missing"]);
}

#[test]
fn settings_that_cannot_work_are_wrong_usage_at_the_start_too() {
    let bench = Bench::new();
    bench.succeed(&["spaces", "add", "shop", "--dim", "4"]);
    bench.write("file", "");
    bench.write("keys", "read short\n");
    for (settings, parts) in [
        (
            &["--snapshots", "file"][..],
            &["setting snapshots", "file"][..],
        ),
        (&["--keys", "none"], &["setting keys: cannot read none"]),
        (&["--keys", "keys"], &["keys, line 1", "16 to 256"]),
        (&["--answer-in", "v0009"], &["setting answer_in", "v0009"]),
        (
            &["--answer-in", "shop"],
            &["setting answer_in", "[upstream.NAME]"],
        ),
        #[cfg(feature = "tls")]
        (
            &["--tls-certificate", "c.pem", "--tls-key", "k.pem"],
            &["setting tls.certificate: cannot read c.pem"],
        ),
    ] {
        let ended = bench.run(&[&["serve", "--listen", "127.0.0.1:0"], settings].concat());
        // Lines of the log may come before the error.
        assert_eq!(ended.code, Some(2), "{ended:?}");
        for part in parts {
            assert!(ended.stderr.contains(part), "{part}: {ended:?}");
        }
    }
}

#[test]
fn a_log_filter_that_cannot_be_read_stops_every_command() {
    let bench = Bench::new();
    for (value, command) in [
        ("debugg", &["models", "list"][..]),
        ("perennial_serve", &["gallery", "stats"]),
        (
            "info,perennial=loud",
            &["train", "toy.toml", "--print-config"],
        ),
        ("a b", &["serve"]),
    ] {
        let ended = with_environment(&bench, command, &[("PERENNIAL_LOG", value)]);
        ended.assert_wrong_usage(&["PERENNIAL_LOG", value, "warn,perennial_serve=debug"]);
    }
    let empty = with_environment(
        &bench,
        &["train", "toy.toml", "--print-config"],
        &[("PERENNIAL_LOG", "")],
    );
    assert_eq!(empty.code, Some(0), "{}", empty.stderr);
}

#[test]
fn a_service_runs_by_its_file_alone_and_logs_requests_but_not_probes() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("models")).unwrap();
    bench.write("keys", "write 0123456789abcdef\n");
    let file = "listen = \"127.0.0.1:0\"\nregistry = \"models\"\ngallery = \"items\"\nkeys = \"keys\"\n\
        snapshots = \"backups\"\nlog_format = \"json\"\n";
    let ask = |log: &str, more: &str| {
        bench.write("serve.toml", &format!("{more}{file}"));
        let mut command = bench.command(&["serve", "--config", "serve.toml", "--json"]);
        command.stderr(File::create(bench.path(log)).unwrap());
        let mut service = Service::spawn(command);
        for path in ["healthz", "readyz", "static/app.js", "models", ""] {
            let request = ureq::get(format!("{}{path}", service.url()));
            let request = request.config().http_status_as_error(false).build();
            request.call().unwrap();
        }
        service.stop();
        bench.read(log)
    };
    let log = ask("log", "");
    let logs = |log: &str, path: &str| log.contains(&format!("\"path\":\"{path}\""));
    assert!(
        logs(&log, "/models") && log.contains("\"client\":\"127.0.0.1\""),
        "{log}"
    );
    for path in ["/healthz", "/readyz", "/static/app.js", "/"] {
        assert!(!logs(&log, path), "{path} in {log}");
    }
    for folder in ["items/gallery.redb", "backups"] {
        assert!(bench.path(folder).exists(), "{folder}");
    }
    let debug = ask("debug", "log = \"warn,perennial=debug\"\n");
    for path in ["/healthz", "/readyz", "/static/app.js", "/", "/models"] {
        assert!(logs(&debug, path), "{path} in {debug}");
    }
}

#[test]
fn the_example_is_a_working_configuration_and_part_of_the_help() {
    let bench = Bench::new();
    let example = std::fs::read_to_string(repository().join("contrib/serve.toml")).unwrap();
    bench.write("serve.toml", &example);
    bench.write("keys", "write 0123456789abcdef\n");
    let printed = bench.succeed(&[
        "serve",
        "--config",
        "serve.toml",
        "--print-config",
        "--keys",
        "keys",
    ]);
    assert!(
        printed.contains("trusted_proxies = [\"127.0.0.1/32\", \"::1/128\"]"),
        "{printed}"
    );
    // The program has it with it, as a file to begin with, and says so in its help.
    assert_eq!(bench.succeed(&["serve", "--explain-config"]), example);
    let help = bench.succeed(&["serve", "--help"]);
    assert!(help.contains("serve --explain-config"), "{help}");
    assert!(help.lines().count() < 100, "{help}");
}

//! `gallery backfill`: old items are embedded again, in a folder and in a service.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::pictures::{add, picture, with_model};
use crate::service::Service;

const FILES: [&str; 5] = [
    "cats/a.png",
    "cats/b.png",
    "dogs/c.png",
    "dogs/d.png",
    "e.png",
];

/// Pictures that the first version embedded, and the second version live.
fn upgraded() -> Bench {
    let bench = with_model();
    for (seed, file) in (1..).zip(FILES) {
        picture(&bench, &format!("photos/{file}"), seed);
    }
    add(&bench, &["photos"]);
    let second = bench.read("tiny.toml");
    let second = second
        .replace("tiny", "second")
        .replace("seed = 1", "seed = 2");
    bench.write("second.toml", &second);
    bench.succeed(&["pretrain", "second.toml"]);
    bench.succeed(&["models", "promote", "v0002", "--force"]);
    bench
}

fn backfill(bench: &Bench, arguments: &[&str]) -> Value {
    bench.answer(&[&["gallery", "backfill"], arguments].concat())
}

fn per_version(bench: &Bench, more: &[&str]) -> Value {
    bench.answer(&[&["gallery", "stats"], more].concat())["per_version"].clone()
}

#[test]
fn a_gallery_in_a_folder_is_embedded_again() {
    let bench = upgraded();
    std::fs::remove_file(bench.path("photos/cats/b.png")).unwrap();
    picture(&bench, "photos/dogs/c.png", 9);
    let idle = backfill(&bench, &["status"]);
    assert_eq!((&idle["state"], &idle["left"]), (&json!("idle"), &json!(5)));
    let some = backfill(
        &bench,
        &["--originals", "photos", "--limit", "1", "--order", "id"],
    );
    assert_eq!(
        (&some["state"], &some["done"]),
        (&json!("finished"), &json!(1))
    );
    let rest = backfill(&bench, &["--originals", "photos", "--rate", "1000"]);
    assert_eq!((&rest["done"], &rest["left"]), (&json!(2), &json!(0)));
    assert_eq!(rest["failed"], json!({"gone": 1, "other_original": 1}));
    assert_eq!(per_version(&bench, &[]), json!({"v0001": 2, "v0002": 3}));

    // As if they had been added by the new version.
    let again = add(&bench, &["photos"]);
    assert_eq!(
        (&again["unchanged"], &again["replaced"]),
        (&json!(3), &json!(1))
    );
    let text = bench.succeed(&["gallery", "backfill", "status"]);
    assert!(
        text.contains("cats/b.png") && text.contains("gone"),
        "{text}"
    );
    // The picture is back, and somebody asks.
    picture(&bench, "photos/cats/b.png", 2);
    let nothing = backfill(&bench, &["--originals", "photos"]);
    assert_eq!(nothing["done"], 0);
    let retried = backfill(&bench, &["--originals", "photos", "--retry"]);
    assert_eq!(
        (&retried["done"], &retried["failed"]),
        (&json!(1), &json!({}))
    );
    assert_eq!(per_version(&bench, &[]), json!({"v0002": 5}));
    assert_eq!(backfill(&bench, &["cancel"])["state"], "idle");
    assert!(!bench.path("gallery/backfill.json").exists());
}

/// Serves the files of a folder, but for some that it fails at. Gives its address.
fn server(folder: PathBuf, failing: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request = lines.next().unwrap().unwrap();
            while !lines.next().unwrap().unwrap().is_empty() {}
            let path = request.split(' ').nth(1).unwrap().trim_start_matches('/');
            let (status, file) = match path == failing {
                true => ("500 Failed", Vec::new()),
                false => ("200 OK", std::fs::read(folder.join(path)).unwrap()),
            };
            let length = file.len();
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&file).unwrap();
            // Until the client has gone.
            let _ = stream.read(&mut [0; 16]);
        }
    });
    format!("http://{address}/{{payload.file}}")
}

#[test]
fn a_picture_that_its_server_fails_at_holds_up_no_other_one() {
    let bench = upgraded();
    // One at a time, and the first of all.
    let address = server(bench.path("photos"), FILES[0]);
    let done = backfill(
        &bench,
        &["--originals", &address, "--rate", "1", "--order", "id"],
    );
    assert_eq!(
        (&done["state"], &done["done"]),
        (&json!("finished"), &json!(4))
    );
    assert_eq!(done["failed"], json!({"unreachable": 1}));
    // The last one of all, alone.
    let address = server(bench.path("photos"), "none");
    let retried = backfill(&bench, &["--originals", &address, "--retry"]);
    assert_eq!(retried["done"], 1, "{retried}");
}

#[test]
fn a_folder_that_is_the_wrong_one_pauses_it() {
    let bench = upgraded();
    for seed in 10..110 {
        picture(&bench, &format!("more/{seed}.png"), seed);
    }
    add(&bench, &["more"]);
    bench.succeed(&["models", "promote", "v0001", "--force"]);
    std::fs::create_dir(bench.path("empty")).unwrap();
    let ended = bench.run(&["gallery", "backfill", "--originals", "empty"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stdout.contains("none of the first 100 originals"),
        "{}",
        ended.stdout
    );
    let paused = backfill(&bench, &["status"]);
    assert_eq!(paused["state"], "paused", "{paused}");
}

#[test]
fn what_cannot_work_is_told_in_one_line() {
    let bench = upgraded();
    for (arguments, parts) in [
        (&[][..], &["--originals"][..]),
        (&["--originals", "nowhere"], &["--originals", "nowhere"]),
        (&[], &["--originals is missing"]),
        (&["--originals", "https://host/a.png"], &["{id}"]),
        (
            &["--originals", "photos", "--stop-share", "2"],
            &["--stop-share"],
        ),
        (&["--originals", "photos", "--rate", "0"], &["--rate"]),
        (
            &["--originals", "photos", "--stop-quality", "0.9"],
            &["--stop-quality", "certif"],
        ),
        (
            &["--originals", "photos", "--in-service"],
            &["--in-service", "no service has the gallery at gallery open"],
        ),
        (&["pause"], &["no backfill is running"]),
        (&["resume"], &["no backfill is paused"]),
    ] {
        let ended = bench.run(&[&["gallery", "backfill"], arguments].concat());
        ended.assert_wrong_usage(parts);
    }
    assert_eq!(per_version(&bench, &[]), json!({"v0001": 5}));
    // Not certified, and not accepted by force either: these items are found by nobody until they are embedded again.
    std::fs::remove_file(bench.path("gallery/accepted.toml")).unwrap();
    let done = backfill(&bench, &["--originals", "photos"]);
    assert_eq!(done["done"], 5);
    assert_eq!(per_version(&bench, &[]), json!({"v0002": 5}));
}

#[test]
fn a_service_embeds_pictures_again_that_are_sent_or_that_it_reads_itself() {
    let bench = upgraded();
    std::fs::remove_file(bench.path("photos/cats/b.png")).unwrap();
    let mut service = Service::start_with(&bench, &[], Stdio::null());
    let url = service.url().trim_end_matches('/').to_owned();
    let server = ["--server", url.as_str()];
    let run = |arguments: &[&str]| backfill(&bench, &[arguments, &server].concat());
    let sent = run(&["--originals", "photos", "--limit", "2", "--order", "id"]);
    assert_eq!(
        (&sent["state"], &sent["done"]),
        (&json!("finished"), &json!(2))
    );
    // The service is found by the gallery's folder as well.
    let status = ["gallery", "backfill", "status", "--json"];
    let found = bench.run(&status);
    let says = format!("asking the service at {url}");
    assert!(found.stderr.contains(&says), "{}", found.stderr);
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(found["state"], "finished");
    let rest = backfill(&bench, &["--originals", "photos", "--in-service"]);
    assert_eq!(rest["done"], 2, "{rest}");
    assert_eq!(rest["failed"], json!({"gone": 1}));
    assert_eq!(
        per_version(&bench, &server),
        json!({"v0001": 1, "v0002": 4})
    );
    assert_eq!(run(&["status"])["state"], "finished");
    service.stop();
    assert_eq!(backfill(&bench, &["status"])["failed"], json!({"gone": 1}));
}

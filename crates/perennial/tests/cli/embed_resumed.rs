//! `embed`, killed or interrupted: the same command goes on, and its file is that of one run.

#![cfg(unix)]

use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use serde_json::Value;
#[cfg(feature = "onnx")]
use serde_json::json;

use crate::bench::{Bench, Ended};
use crate::pictures::{picture, with_model};

/// Several batches of a model of 32 pixels.
const ROWS: usize = 4000;

/// Begins a command and sends it a signal as soon as its unfinished result holds some of the rows.
fn disturb(bench: &Bench, arguments: &[&str], unfinished: &str, signal: &str) -> Ended {
    let size = || std::fs::metadata(bench.path(unfinished)).map_or(0, |found| found.len());
    let before = size();
    let child = bench.command(arguments).spawn().unwrap();
    let begun = Instant::now();
    while size() < before + 10_000 {
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "it does not get on"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    let sent = std::process::Command::new("sh")
        .args(["-c", &format!("kill -{signal} {}", child.id())])
        .status();
    assert!(sent.unwrap().success());
    Ended::from(child.wait_with_output().unwrap())
}

/// Runs the command that an interrupted one printed.
fn paste(bench: &Bench, command: &str) -> Ended {
    let run = std::process::Command::new("sh")
        .args(["-c", command])
        .current_dir(bench.path(""))
        .env("PERENNIAL_DEVICE", "cpu")
        // Of tests of the other runtime; rows of one are not gone on with in the other.
        .env_remove("PERENNIAL_ONNXRUNTIME")
        .output();
    Ended::from(run.unwrap())
}

/// Many files of few pictures, some of them damaged, in two classes.
fn photos(bench: &Bench) {
    for seed in 1..6 {
        picture(bench, &format!("pictures/{seed}.png"), seed as u32);
    }
    bench.write("pictures/0.png", "\u{89}no picture");
    for number in 0..ROWS {
        let folder = bench.path(&format!("photos/class {}", number * 2 / ROWS));
        std::fs::create_dir_all(&folder).unwrap();
        let seed = if number % 97 == 0 { 0 } else { 1 + number % 5 };
        let target = bench.path(&format!("pictures/{seed}.png"));
        symlink(target, folder.join(format!("{number:05}.png"))).unwrap();
    }
}

fn same_but_for_time(whole: &Value, resumed: &Value) {
    for key in ["version", "count", "dim", "set_sha256", "left_out", "set"] {
        assert_eq!(whole[key], resumed[key], "{key}");
    }
}

#[test]
fn a_folder_goes_on_where_it_was() {
    let bench = with_model();
    photos(&bench);
    let embed = |out: &'static str, rows: &'static str| {
        [
            "embed",
            "live",
            "--set",
            "folder:photos",
            "--out",
            out,
            "--rows",
            rows,
        ]
    };
    let whole = bench.answer(&embed("whole.npz", "whole.jsonl"));
    assert_eq!(whole["done_before"], 0);
    let share = whole["model_share"].as_f64().unwrap();
    assert!(share > 0.0 && share <= 1.0, "{whole}");
    assert!(whole["left_out"]["total"].as_u64().unwrap() > 10);
    assert!(!bench.path("whole.npz.unfinished").exists());

    // The unfinished result lies in the folder itself, and is none of its files.
    let command = embed("photos/e.npz", "photos/e.jsonl");
    let unfinished = "photos/e.npz.unfinished";
    let killed = disturb(&bench, &command, unfinished, "KILL");
    assert_eq!(killed.code, None);
    let ended = disturb(&bench, &command, unfinished, "INT");
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(!bench.path("photos/e.npz").exists() && !bench.path("photos/e.jsonl").exists());
    assert!(
        ended.stderr.contains("done by an earlier run"),
        "{}",
        ended.stderr
    );
    let resume = ended.stdout.trim();
    assert!(
        resume.ends_with("embed live --set folder:photos --out photos/e.npz --rows photos/e.jsonl"),
        "{resume}"
    );
    // The rows of a run whose result could not be written are none of the folder's pictures either.
    bench.write("photos/e.jsonl", "{\"file\":\"x\"}\n");
    let resumed = paste(&bench, &format!("{resume} --json"));
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
    let answer: Value = serde_json::from_str(&resumed.stdout).unwrap();
    assert!(answer["done_before"].as_u64().unwrap() >= 1000, "{answer}");
    same_but_for_time(&whole, &answer);
    let read = |file: &str| std::fs::read(bench.path(file)).unwrap();
    assert!(read("whole.npz") == read("photos/e.npz"), "other bytes");
    assert_eq!(read("whole.jsonl"), read("photos/e.jsonl"));
    assert!(!bench.path(unfinished).exists());
    for rows in ["./e.npz", "./e.npz.unfinished"] {
        bench
            .run(&embed("e.npz", rows))
            .assert_wrong_usage(&["--rows"]);
    }
}

/// `--strict` stops at a damaged picture; once it is repaired, what came before it is not embedded again.
#[test]
fn a_repaired_picture_costs_nothing_that_came_before_it() {
    let bench = with_model();
    for seed in 1..6 {
        picture(&bench, &format!("pictures/{seed}.png"), seed);
    }
    let (late, mut table) = ("photos/03500.png", "file\n".to_owned());
    std::fs::create_dir_all(bench.path("photos")).unwrap();
    for number in 0..ROWS {
        let file = format!("photos/{number:05}.png");
        table.push_str(&format!("{file}\n"));
        if file != late {
            let target = bench.path(&format!("pictures/{}.png", 1 + number % 5));
            symlink(target, bench.path(&file)).unwrap();
        }
    }
    bench.write("t.csv", &table);
    let of_folder = ["--set", "folder:photos"];
    let of_table = ["--table", "t.csv", "--path-column", "file"];
    for (input, out) in [(&of_folder[..], "folder.npy"), (&of_table, "table.npy")] {
        bench.write(late, "\u{89}no picture");
        let embed = |out: &'static str| [&["embed", "live"][..], input, &["--out", out]].concat();
        let ended = bench.run(&[&embed(out)[..], &["--strict"]].concat());
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains("03500.png"), "{}", ended.stderr);
        // Left out without --strict: the rows that are done are the same.
        let unfinished = bench.path(&format!("{out}.unfinished"));
        let kept = std::fs::read(&unfinished).unwrap();
        let answer = bench.answer(&embed(out));
        assert!(answer["done_before"].as_u64().unwrap() >= 3000, "{answer}");
        assert_eq!(answer["left_out"]["total"], 1, "{answer}");
        std::fs::write(&unfinished, kept).unwrap();
        picture(&bench, late, 7);
        let answer = bench.answer(&[&embed(out)[..], &["--strict"]].concat());
        assert!(answer["done_before"].as_u64().unwrap() >= 3000, "{answer}");
        assert_eq!(answer["count"], ROWS);
        bench.succeed(&embed("whole.npy"));
        let read = |file: &str| std::fs::read(bench.path(file)).unwrap();
        assert!(read(out) == read("whole.npy"), "other bytes");
    }
}

#[test]
fn rows_of_another_input_or_version_are_not_used() {
    let bench = with_model();
    for seed in 1..4 {
        picture(&bench, &format!("pictures/{seed}.png"), seed);
    }
    let mut table = "id,file\n".to_owned();
    for number in 0..ROWS {
        table.push_str(&format!("{number},pictures/{}.png\n", 1 + number % 3));
    }
    bench.write("t.csv", &table);
    bench.succeed(&["pretrain", "tiny.toml", "--seed", "2", "--name", "other"]);
    let embed = |version: &'static str, out: &'static str| {
        [
            "embed",
            version,
            "--table",
            "t.csv",
            "--path-column",
            "file",
            "--id-column",
            "id",
            "--out",
            out,
        ]
    };
    let read = |file: &str| std::fs::read(bench.path(file)).unwrap();
    bench.succeed(&embed("v0001", "first.safetensors"));
    bench.succeed(&embed("v0002", "second.safetensors"));
    assert!(read("first.safetensors") != read("second.safetensors"));

    let unfinished = "e.safetensors.unfinished";
    disturb(&bench, &embed("v0001", "e.safetensors"), unfinished, "KILL");
    let kept = bench.path(unfinished);
    let rows = read(unfinished);
    // The same version goes on.
    let answer = bench.answer(&embed("v0001", "e.safetensors"));
    assert!(answer["done_before"].as_u64().unwrap() >= 512, "{answer}");
    assert!(
        read("e.safetensors") == read("first.safetensors"),
        "other bytes"
    );
    // Another one begins anew, says so, and keeps them.
    std::fs::write(&kept, &rows).unwrap();
    let ended = bench.run(&embed("v0002", "e.safetensors"));
    for part in ["holds rows of another version; kept as", "beginning anew"] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
    assert!(read("e.safetensors.unfinished.1") == rows);
    assert!(
        read("e.safetensors") == read("second.safetensors"),
        "other bytes"
    );
    // So does one with another picture behind a path, or with other rows.
    let says = |part: &str, arguments: &[&str]| {
        std::fs::write(&kept, &rows).unwrap();
        let ended = bench.run(arguments);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    };
    let command = embed("v0001", "e.safetensors");
    picture(&bench, "pictures/3.png", 9);
    says(
        "after 0 batches one is damaged, or of files that have changed",
        &command,
    );
    assert!(read("e.safetensors") != read("first.safetensors"));
    picture(&bench, "pictures/3.png", 3);
    bench.write("t.csv", &table.replace("7,", "70000,"));
    says(
        "holds rows of another input, or one that has changed; kept as",
        &command,
    );
    assert!(read("e.safetensors.unfinished.2") == rows);
    // The file of another program is left alone.
    std::fs::write(&kept, "my notes").unwrap();
    bench
        .run(&command)
        .assert_wrong_usage(&[unfinished, "move it away"]);
    assert_eq!(read(unfinished), b"my notes");
}

#[cfg(feature = "onnx")]
#[test]
fn texts_go_on_where_they_were() {
    let bench = Bench::new();
    crate::onnx::text_encoder(&bench, "encoder");
    bench.answer(&["models", "import", "encoder", "--alias", "live"]);
    let words = ["red rose", "oak", "the fern of winter", "white"];
    let mut table = String::new();
    for row in 0..30_000 {
        let text = [words[row % 4], words[row / 4 % 4], words[row / 16 % 4]].join(" ");
        table.push_str(&format!(
            "{}\n",
            json!({"text": text, "id": format!("t{row}")})
        ));
    }
    bench.write("t.jsonl", &table);
    goes_on(&bench, &["--table", "t.jsonl", "--id-column", "id"]);
    // To standard output nothing is kept.
    bench.succeed(&["embed", "live", "--table", "t.jsonl", "--out", "/dev/null"]);
    assert!(!std::path::Path::new("/dev/null.unfinished").exists());
}

#[cfg(all(feature = "onnx", feature = "parquet"))]
#[test]
fn texts_of_parquet_go_on_where_they_were() {
    let bench = Bench::new();
    crate::onnx::text_encoder(&bench, "encoder");
    bench.answer(&["models", "import", "encoder", "--alias", "live"]);
    let words = ["red rose", "oak", "the fern of winter", "white"];
    let mut table = "id,text\n".to_owned();
    for row in 0..30_000 {
        table.push_str(&format!("{} {row},white oak\n", words[row % 4]));
    }
    bench.write("t.csv", &table);
    // The program writes Parquet too: its ids are the texts that are read from it.
    bench.succeed(&[
        "embed",
        "live",
        "--table",
        "t.csv",
        "--id-column",
        "id",
        "--out",
        "t.parquet",
    ]);
    goes_on(
        &bench,
        &[
            "--table",
            "t.parquet",
            "--text-column",
            "id",
            "--id-column",
            "id",
        ],
    );
}

/// Embedding a table ends with the bytes of one run, killed once and interrupted once.
#[cfg(feature = "onnx")]
fn goes_on(bench: &Bench, table: &[&str]) {
    let embed = |out: &'static str| [&["embed", "live", "--out", out][..], table].concat();
    bench.succeed(&embed("whole.csv"));
    disturb(bench, &embed("e.csv"), "e.csv.unfinished", "KILL");
    let ended = disturb(bench, &embed("e.csv"), "e.csv.unfinished", "INT");
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    let resumed = paste(bench, ended.stdout.trim());
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
    assert!(
        resumed.stderr.contains("done by an earlier run"),
        "{}",
        resumed.stderr
    );
    assert!(
        bench.read("whole.csv") == bench.read("e.csv"),
        "other bytes"
    );
}

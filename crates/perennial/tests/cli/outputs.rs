//! Paths that results are written to: checked before the work, and never replaced by something else.

use std::path::Path;

use crate::bench::Bench;

fn embed<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["embed", "tiny", "--set", "generated:test", "--out", out];
    [&fixed[..], more].concat()
}

#[test]
fn an_output_that_cannot_be_written_is_refused_before_the_work() {
    let bench = Bench::with_version();
    bench.write("notes.txt", "my notes");
    std::fs::create_dir(bench.path("folder")).unwrap();
    // The set does not exist: whoever looks at the output first never asks for it.
    for (out, says) in [
        ("nodir/e.safetensors", "nodir does not exist"),
        ("folder", "is a folder"),
        ("notes.txt/e", "notes.txt/e"),
        ("notes.txt", "is not an embeddings file"),
        ("toy.toml", "is not an embeddings file"),
    ] {
        let arguments = ["embed", "tiny", "--set", "cifar10:test", "--out", out];
        bench.run(&arguments).assert_wrong_usage(&[says]);
        let arguments = ["gallery", "--gallery", "none", "snapshot", out];
        let says = says.replace("an embeddings file", "a snapshot");
        bench.run(&arguments).assert_wrong_usage(&[&says]);
    }
    assert_eq!(bench.read("notes.txt"), "my notes");
    for out in ["notes.txt", "notes.txt/inner"] {
        let arguments = ["man", "--out", out];
        bench.run(&arguments).assert_wrong_usage(&["notes.txt"]);
        let arguments = [
            "evaluate",
            "tiny",
            "--queries",
            "cifar10:test",
            "--out",
            out,
        ];
        bench.run(&arguments).assert_wrong_usage(&["notes.txt"]);
        let arguments = ["demo", "--keep", out];
        bench.run(&arguments).assert_wrong_usage(&["notes.txt"]);
    }
    for option in ["--runs", "--registry"] {
        let arguments = [
            "pretrain",
            "tiny.toml",
            "--name",
            "other",
            option,
            "notes.txt",
        ];
        bench.run(&arguments).assert_wrong_usage(&["notes.txt"]);
    }
    assert_eq!(bench.read("notes.txt"), "my notes");
    assert!(!bench.path("runs/other").exists());
}

#[test]
fn files_of_the_own_kind_are_replaced_and_keep_their_mode() {
    let bench = Bench::with_version();
    bench.succeed(&embed("e.safetensors", &[]));
    let first = std::fs::read(bench.path("e.safetensors")).unwrap();
    bench.succeed(&embed("e.safetensors", &[]));
    assert_eq!(std::fs::read(bench.path("e.safetensors")).unwrap(), first);
    bench.write("empty", "");
    bench.succeed(&embed("empty", &[]));
    assert_eq!(std::fs::read(bench.path("empty")).unwrap(), first);

    // A report is replaced, pages of other origin are not.
    std::fs::create_dir(bench.path("out")).unwrap();
    let sets = [
        "--queries",
        "generated:test",
        "--gallery",
        "generated:train",
    ];
    let evaluate = [
        &["evaluate", "tiny", "--out", "out", "--resamples", "10"],
        &sets[..],
    ]
    .concat();
    for _ in 0..2 {
        bench.succeed(&evaluate);
    }
    for file in ["compatibility.json", "report.html"] {
        let ours = bench.read(&format!("out/{file}"));
        bench.write(&format!("out/{file}"), "<html>mine</html>");
        bench
            .run(&evaluate)
            .assert_wrong_usage(&[file, "not overwritten"]);
        assert_eq!(bench.read(&format!("out/{file}")), "<html>mine</html>");
        bench.write(&format!("out/{file}"), &ours);
    }
    bench.succeed(&["man", "--out", "pages"]);
    bench.succeed(&["man", "--out", "pages"]);
    bench.write("pages/perennial.1", ".TH other 1");
    bench
        .run(&["man", "--out", "pages"])
        .assert_wrong_usage(&["perennial.1"]);
    assert_eq!(bench.read("pages/perennial.1"), ".TH other 1");
}

#[cfg(unix)]
#[test]
fn links_devices_and_pipes_stay_what_they_are() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let bench = Bench::with_version();
    bench.succeed(&embed("plain", &[]));
    let expected = std::fs::read(bench.path("plain")).unwrap();
    std::fs::create_dir(bench.path("elsewhere")).unwrap();
    symlink("elsewhere/target", bench.path("link")).unwrap();
    // Dangling at first, then to a file.
    for _ in 0..2 {
        bench.succeed(&embed("link", &[]));
        assert_eq!(
            std::fs::read(bench.path("elsewhere/target")).unwrap(),
            expected
        );
        assert!(bench.path("link").symlink_metadata().unwrap().is_symlink());
    }
    symlink("nowhere/target", bench.path("lost")).unwrap();
    bench
        .run(&embed("lost", &[]))
        .assert_wrong_usage(&["nowhere does not exist"]);

    symlink("/dev/null", bench.path("null")).unwrap();
    for out in ["/dev/null", "null"] {
        bench.succeed(&embed(out, &[]));
        assert!(
            std::fs::metadata(bench.path(out))
                .unwrap()
                .file_type()
                .is_char_device()
        );
    }
    if Path::new("/dev/full").exists() {
        let ended = bench.run(&embed("/dev/full", &[]));
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains("/dev/full"), "{}", ended.stderr);
    }

    let pipe = bench.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    bench
        .run(&embed("pipe", &[]))
        .assert_wrong_usage(&["is a pipe", "start the reader first"]);
    let reader = {
        let pipe = pipe.clone();
        std::thread::spawn(move || std::fs::read(pipe).unwrap())
    };
    bench.succeed(&embed("pipe", &[]));
    assert_eq!(reader.join().unwrap(), expected);
    assert!(std::fs::metadata(&pipe).unwrap().file_type().is_fifo());

    for out in ["-", "/dev/stdout"] {
        let output = bench.command(&embed(out, &["--quiet"])).output().unwrap();
        assert_eq!(output.stdout, expected, "{out}");
    }
}

#[test]
fn a_snapshot_replaces_a_snapshot_and_nothing_else() {
    let bench = Bench::with_version();
    bench.succeed(&[
        "gallery",
        "add",
        "--set",
        "generated:test",
        "--model",
        "tiny",
    ]);
    for _ in 0..2 {
        bench.succeed(&["gallery", "snapshot", "all.snapshot"]);
    }
    let whole = std::fs::read(bench.path("all.snapshot")).unwrap();
    bench.write("photo.jpg", "a photo");
    let ended = bench.run(&["gallery", "snapshot", "photo.jpg"]);
    ended.assert_wrong_usage(&["photo.jpg exists and is not a snapshot"]);
    let ended = bench.run(&["gallery", "snapshot", "gallery/gallery.redb"]);
    ended.assert_wrong_usage(&["gallery.redb exists"]);
    assert_eq!(bench.read("photo.jpg"), "a photo");
    let output = bench
        .command(&["gallery", "snapshot", "-"])
        .output()
        .unwrap();
    assert_eq!(output.stdout, whole);
    bench
        .run(&["gallery", "snapshot"])
        .assert_wrong_usage(&["pass the file to write"]);
}

//! Folders of one's own pictures: what is read, what is left out, and a gallery that agrees with the folder.

use image::{Rgb, RgbImage};
use serde_json::{Value, json};

use crate::bench::Bench;

/// A live version of 32 pixels, in no time.
pub fn with_model() -> Bench {
    let bench = Bench::with_version();
    bench.succeed(&["models", "alias", "live", "v0001"]);
    bench
}

/// The live version takes pictures of another size from now on.
fn resize_model(bench: &Bench, side: usize) {
    let model = bench.read("registry/v0001/model.toml");
    let lines: Vec<String> = model
        .lines()
        .map(|line| match line.starts_with("input = ") {
            true => format!("input = [3, {side}, {side}]"),
            false => line.to_owned(),
        })
        .collect();
    assert!(model.contains("\ninput = "), "{model}");
    bench.write("registry/v0001/model.toml", &lines.join("\n"));
}

/// A picture that looks like no other of another seed.
pub fn picture(bench: &Bench, file: &str, seed: u32) {
    let image = RgbImage::from_fn(60 + seed, 40, |x, y| {
        Rgb([(x * seed) as u8, (y * 5) as u8, (x + y * seed) as u8])
    });
    let path = bench.path(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image.save(path).unwrap();
}

pub fn add(bench: &Bench, arguments: &[&str]) -> Value {
    bench.answer(&[&["gallery", "add"], arguments].concat())
}

/// Inserted, replaced, unchanged, pruned, left out, and the gallery's items.
fn counts(answer: &Value) -> [u64; 6] {
    [
        "inserted",
        "replaced",
        "unchanged",
        "pruned",
        "left_out",
        "items",
    ]
    .map(|key| {
        answer[key]
            .as_u64()
            .unwrap_or_else(|| panic!("{key} in {answer}"))
    })
}

/// The best hit of a picture.
fn best(bench: &Bench, file: &str) -> Value {
    let answer = bench.answer(&["gallery", "search", file, "--limit", "1"]);
    answer["hits"][0].clone()
}

#[test]
fn a_hit_leads_back_to_its_picture() {
    let bench = with_model();
    picture(&bench, "photos/cat/2024/a.png", 1);
    picture(&bench, "photos/dog/b.jpg", 2);
    picture(&bench, "photos/c.webp", 3);
    std::fs::rename(
        bench.path("photos/dog/b.jpg"),
        bench.path("photos/dog/b.JFIF"),
    )
    .unwrap();
    let answer = add(&bench, &["photos"]);
    assert_eq!(counts(&answer), [3, 0, 0, 0, 0, 3]);
    let hit = best(&bench, "photos/cat/2024/a.png");
    assert_eq!(hit["id"], "cat/2024/a.png");
    assert!(hit["score"].as_f64().unwrap() > 0.9999);
    let payload = &hit["payload"];
    assert_eq!(
        [
            &payload["file"],
            &payload["class"],
            &payload["width"],
            &payload["height"]
        ],
        [
            &json!("cat/2024/a.png"),
            &json!("cat"),
            &json!(61),
            &json!(40)
        ]
    );
    let root = bench.path("photos").canonicalize().unwrap();
    assert_eq!(payload["root"], root.to_str().unwrap());
    assert_eq!(payload["sha256"].as_str().unwrap().len(), 64);
    let thumbnail = payload["thumbnail"].as_str().unwrap();
    assert!(
        thumbnail.starts_with("data:image/jpeg;base64,/9j/"),
        "{thumbnail}"
    );
    assert_eq!(hit["label"], 0);
    assert_eq!(best(&bench, "photos/dog/b.JFIF")["label"], 1);
    let flat = best(&bench, "photos/c.webp");
    assert_eq!(
        (&flat["id"], &flat["label"]),
        (&json!("c.webp"), &Value::Null)
    );
    assert!(flat["payload"].get("class").is_none());
    let bare = add(&bench, &["photos", "--prefix", "bare", "--no-thumbnails"]);
    assert_eq!(counts(&bare)[0], 3);
    let page = bench.answer(&["gallery", "search", "--id", "bare/c.webp", "--limit", "2"]);
    let bare = page["hits"]
        .as_array()
        .unwrap()
        .iter()
        .find(|hit| hit["id"] == "bare/c.webp");
    assert!(bare.unwrap()["payload"].get("thumbnail").is_none());
}

#[test]
fn adding_again_adds_what_is_new_replaces_what_changed_and_prunes_on_request() {
    let bench = with_model();
    for (name, seed) in [("c/m.png", 1), ("d/n.png", 2), ("d/o.png", 3)] {
        picture(&bench, &format!("S/{name}"), seed);
    }
    assert_eq!(
        counts(&add(&bench, &["--set", "folder:S"])),
        [3, 0, 0, 0, 0, 3]
    );
    assert_eq!(counts(&add(&bench, &["S"])), [0, 0, 3, 0, 0, 3]);

    // Something that sorts first, something changed, something gone.
    picture(&bench, "S/a/first.png", 4);
    picture(&bench, "S/d/n.png", 5);
    std::fs::remove_file(bench.path("S/d/o.png")).unwrap();
    assert_eq!(counts(&add(&bench, &["S"])), [1, 1, 1, 0, 0, 4]);
    assert_eq!(best(&bench, "S/c/m.png")["id"], "c/m.png");
    assert_eq!(best(&bench, "S/d/n.png")["id"], "d/n.png");
    // A new class takes the next number, so that those given keep their meaning.
    assert_eq!(best(&bench, "S/c/m.png")["label"], 0);
    assert_eq!(best(&bench, "S/d/n.png")["label"], 1);
    assert_eq!(best(&bench, "S/a/first.png")["label"], 2);

    assert_eq!(counts(&add(&bench, &["S", "--prune"])), [0, 0, 3, 1, 0, 3]);
    assert_eq!(counts(&add(&bench, &["S", "--prune"])), [0, 0, 3, 0, 0, 3]);
}

#[test]
fn pruning_touches_nothing_but_what_is_gone_from_the_folder() {
    let bench = with_model();
    for (name, seed) in [("A/x.png", 1), ("A/y.png", 2), ("B/z.png", 3)] {
        picture(&bench, name, seed);
    }
    add(&bench, &["A", "B"]);
    add(&bench, &["A", "--prefix", "again"]);
    bench.succeed(&["gallery", "add", "--set", "generated:test"]);
    std::fs::remove_file(bench.path("A/x.png")).unwrap();
    // Still there, but not to be read any more: no reason to forget it.
    std::fs::write(bench.path("A/y.png"), b"\x89PNG\r\n\x1a\n").unwrap();
    picture(&bench, "A/w.png", 4);
    let answer = add(&bench, &["A", "--prune"]);
    assert_eq!(counts(&answer), [1, 0, 0, 1, 1, 2005]);
    for id in [
        "again/x.png",
        "again/y.png",
        "y.png",
        "w.png",
        "z.png",
        "generated/7",
    ] {
        bench.succeed(&["gallery", "search", "--id", id, "--limit", "1"]);
    }
    // A disk that is not mounted looks like an empty folder.
    for name in ["A/y.png", "A/w.png"] {
        std::fs::remove_file(bench.path(name)).unwrap();
    }
    let ended = bench.run(&["gallery", "add", "A", "--prune"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("nothing was pruned"),
        "{}",
        ended.stderr
    );
    assert_eq!(bench.answer(&["gallery", "stats"])["items"], 2005);
}

#[test]
fn folders_of_one_name_keep_apart_or_are_refused() {
    let bench = with_model();
    picture(&bench, "A/photos/x/a.png", 1);
    picture(&bench, "B/photos/x/b.png", 2);
    add(&bench, &["A/photos"]);
    add(&bench, &["B/photos"]);
    for file in ["A/photos/x/a.png", "B/photos/x/b.png"] {
        let hit = best(&bench, file);
        assert!(hit["score"].as_f64().unwrap() > 0.9999, "{hit}");
        assert!(file.ends_with(hit["id"].as_str().unwrap()), "{hit}");
    }
    picture(&bench, "B/photos/x/a.png", 3);
    picture(&bench, "B/photos/x/new.png", 4);
    let before = bench.answer(&["gallery", "stats"])["items"].clone();
    bench
        .run(&["gallery", "add", "B/photos", "--quiet"])
        .assert_wrong_usage(&["x/a.png", "/A/photos", "/B/photos", "--prefix"]);
    assert_eq!(
        bench.answer(&["gallery", "stats"])["items"],
        before,
        "nothing half-done"
    );
    assert_eq!(counts(&add(&bench, &["B/photos", "--prefix", "B"]))[0], 3);
    bench
        .run(&[
            "gallery",
            "--gallery",
            "other",
            "add",
            "A/photos",
            "B/photos",
            "--quiet",
        ])
        .assert_wrong_usage(&["x/a.png", "/A/photos", "/B/photos", "--prefix"]);

    // A folder that moved says which it was.
    std::fs::rename(bench.path("A"), bench.path("moved")).unwrap();
    let old = best(&bench, "moved/photos/x/a.png")["payload"]["root"].clone();
    bench
        .run(&["gallery", "add", "moved/photos", "--quiet"])
        .assert_wrong_usage(&["--root", old.as_str().unwrap()]);
    let answer = add(
        &bench,
        &["moved/photos", "--root", old.as_str().unwrap(), "--prune"],
    );
    assert_eq!(counts(&answer)[..4], [0, 0, 1, 0]);
}

#[test]
fn splits_of_one_set_do_not_overwrite_each_other() {
    let bench = with_model();
    add(&bench, &["--set", "generated:test"]);
    let again = add(&bench, &["--set", "generated:test"]);
    assert_eq!(again["replaced"], 2000);
    bench
        .run(&["gallery", "add", "--set", "generated:train", "--quiet"])
        .assert_wrong_usage(&[
            "generated/0",
            "generated/test",
            "generated/train",
            "--prefix",
        ]);
}

#[test]
fn everything_left_out_is_counted_and_named() {
    let bench = with_model();
    picture(&bench, "f/cat/a.png", 1);
    picture(&bench, "f/cat/2024/b.png", 2);
    picture(&bench, "f/c.png", 3);
    picture(&bench, "f/cat/whole.jpg", 4);
    let whole = std::fs::read(bench.path("f/cat/whole.jpg")).unwrap();
    bench.write("f/cat/e.heif", "x");
    bench.write("f/cat/empty.webp", "");
    bench.write("f/notes.txt", "no picture");
    bench.write("f/.DS_Store", "hidden");
    std::fs::write(bench.path("f/cat/cut.jpg"), &whole[..whole.len() * 3 / 10]).unwrap();
    let heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic";
    std::fs::write(bench.path("f/cat/real.heic"), heic).unwrap();
    let by_reason = json!({
        "unreadable": 3, "unsupported_format": 1, "hidden": 1, "not_a_picture": 1,
    });

    let answer = add(&bench, &["f"]);
    assert_eq!(counts(&answer), [4, 0, 0, 0, 6, 4]);
    let left_out = &answer["folders"][0]["left_out"];
    assert_eq!(left_out["by_reason"], by_reason);
    let text = bench.succeed(&["gallery", "add", "f"]);
    for part in [
        "4  unchanged",
        "6  left out",
        "3  unreadable",
        "cat/cut.jpg: the JPEG file",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }

    // As a labelled set, a picture beside the classes has none.
    let shown = bench.answer(&["data", "show", "folder:f"]);
    assert_eq!(
        (&shown["images"], &shown["classes"]),
        (&json!(3), &json!(1))
    );
    let mut with_class = by_reason;
    with_class["without_class"] = json!(1);
    assert_eq!(shown["left_out"]["by_reason"], with_class);
    let text = bench.succeed(&["data", "show", "folder:f"]);
    for part in [
        "7  files left out",
        "c.png: is not in a class folder",
        "cat/e.heif",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    for strict in [
        &["data", "show", "folder:f", "--strict"][..],
        &["gallery", "add", "f", "--strict"],
        &[
            "embed",
            "live",
            "--set",
            "folder:f",
            "--out",
            "e.safetensors",
            "--strict",
        ],
    ] {
        let ended = bench.run(strict);
        assert_eq!(ended.code, Some(1), "{strict:?}: {}", ended.stderr);
        assert!(!bench.path("e.safetensors").exists());
    }
    let embedded = bench.answer(&[
        "embed",
        "live",
        "--set",
        "folder:f",
        "--out",
        "e.safetensors",
        "--rows",
        "rows.jsonl",
    ]);
    assert_eq!(embedded["count"], 3);
    assert_eq!(embedded["left_out"]["total"], 7);
    assert_eq!(embedded["set_sha256"].as_str().unwrap().len(), 64);
    let rows = bench.read("rows.jsonl");
    let files: Vec<Value> = rows
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        files[0],
        json!({"row": 0, "file": "cat/2024/b.png", "label": 0})
    );
    assert_eq!(files.len(), 3);

    std::fs::create_dir_all(bench.path("only")).unwrap();
    std::fs::copy(bench.path("f/cat/cut.jpg"), bench.path("only/cut.jpg")).unwrap();
    for command in [
        &["data", "show", "folder:only"][..],
        &["gallery", "add", "only"],
        &[
            "embed",
            "live",
            "--set",
            "folder:only",
            "--out",
            "e.safetensors",
        ],
    ] {
        let ended = bench.run(command);
        assert_eq!(ended.code, Some(1), "{command:?}");
        assert!(
            ended.stderr.contains("cut.jpg"),
            "{command:?}: {}",
            ended.stderr
        );
    }
}

#[test]
fn the_size_is_the_versions() {
    for side in [64, 224] {
        let bench = with_model();
        resize_model(&bench, side);
        picture(&bench, "f/c/a.png", 1);
        picture(&bench, "f/c/b.jpg", 2);
        let embedded = bench.answer(&["embed", "live", "--set", "folder:f", "--out", "e"]);
        assert_eq!(embedded["count"], 2);
        assert_eq!(counts(&add(&bench, &["f"]))[0], 2);
        // The picture and its stored embedding were made in the same way.
        assert!(best(&bench, "f/c/a.png")["score"].as_f64().unwrap() > 0.9999);
        // A set of another size is scaled.
        if side == 64 {
            let small = add(&bench, &["--set", "generated:test"]);
            assert_eq!(small["inserted"], 2000);
        }
    }
}

#[test]
fn names_and_options_that_cannot_work_are_told_first() {
    let bench = with_model();
    picture(&bench, "f/a.png", 1);
    std::fs::copy(bench.path("f/a.png"), bench.path("f/12")).unwrap();
    let answer = add(&bench, &["f"]);
    assert_eq!(
        answer["folders"][0]["left_out"]["by_reason"],
        json!({ "unusable_name": 1 })
    );
    assert_eq!(
        counts(&add(&bench, &["f", "--prefix", "p"]))[..5],
        [2, 0, 0, 0, 0]
    );
    let long = "p".repeat(1022);
    let none = bench.run(&["gallery", "add", "f", "--prefix", &long]);
    assert_eq!(none.code, Some(1), "{}", none.stderr);
    assert!(none.stderr.contains("cannot be an id"), "{}", none.stderr);
    for (arguments, part) in [
        (&["nowhere"][..], "nowhere"),
        (&["--set", "generated:test", "--prune"], "--prune"),
        (&["--embeddings", "e.safetensors", "--strict"], "--strict"),
        (&["f", "f", "--root", "r"], "--root"),
        (&["f", "--root", ""], "--root"),
    ] {
        let all = [
            &["gallery", "--gallery", "none", "add"],
            arguments,
            &["--quiet"],
        ]
        .concat();
        bench.run(&all).assert_wrong_usage(&[part]);
    }
    assert!(
        !bench.path("none").exists(),
        "no gallery is made for nothing"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn odd_names_and_links_do_no_harm() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    let bench = with_model();
    picture(&bench, "f/ein bär/ß 猫.png", 1);
    picture(&bench, "far/b.png", 2);
    for name in [&b"f/\xff.png"[..], b"f/\xfe.png", b"f/line\nbreak.png"] {
        let to = bench.path("").join(OsStr::from_bytes(name));
        std::fs::copy(bench.path("far/b.png"), to).unwrap();
    }
    symlink(bench.path("f"), bench.path("f/circle")).unwrap();
    symlink(bench.path("far"), bench.path("f/far")).unwrap();
    symlink("nowhere", bench.path("f/dead.png")).unwrap();
    let answer = add(&bench, &["f"]);
    assert_eq!(counts(&answer), [2, 0, 0, 0, 5, 2]);
    assert_eq!(
        answer["folders"][0]["left_out"]["by_reason"],
        json!({ "unusable_name": 3, "repeated_folder": 1, "unreadable": 1 })
    );
    assert_eq!(best(&bench, "f/ein bär/ß 猫.png")["id"], "ein bär/ß 猫.png");
    assert_eq!(best(&bench, "far/b.png")["id"], "far/b.png");
}

#[cfg(unix)]
#[test]
fn what_was_stored_before_an_interruption_stays_and_the_next_run_goes_on() {
    for signal in ["-INT", "-KILL"] {
        let bench = with_model();
        picture(&bench, "f/x0.png", 1);
        let bytes = std::fs::read(bench.path("f/x0.png")).unwrap();
        for index in 1..4000 {
            std::fs::write(bench.path(&format!("f/x{index}.png")), &bytes).unwrap();
        }
        let mut child = bench.command(&["gallery", "add", "f"]).spawn().unwrap();
        while !bench.path("gallery/gallery.redb").exists() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let pid = child.id().to_string();
        std::process::Command::new("kill")
            .args([signal, &pid])
            .status()
            .unwrap();
        let code = child.wait().unwrap().code();
        let answer = add(&bench, &["f"]);
        let [inserted, replaced, unchanged, _, left_out, items] = counts(&answer);
        assert_eq!(
            (inserted + unchanged, replaced, left_out, items),
            (4000, 0, 0, 4000),
            "{signal}"
        );
        if signal == "-INT" {
            assert_eq!(code, Some(130));
            // The batch that was on its way when Ctrl-C came is stored.
            assert!(unchanged > 0 && inserted > 0, "{unchanged} {inserted}");
        }
    }
}

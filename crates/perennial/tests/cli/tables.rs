//! Tables of texts and of picture paths: what is embedded, into which formats, and what is refused before the work.

use serde_json::{Value, json};

use crate::pictures::{picture, with_model};

#[test]
fn picture_paths_of_a_table_are_embedded_as_the_pictures_themselves() {
    let bench = with_model();
    picture(&bench, "photos/a.png", 1);
    picture(&bench, "photos/b.png", 2);
    bench.write("photos/list.csv", "name,file\nsecond,b.png\nfirst,a.png\n");
    let table = [
        "embed",
        "live",
        "--table",
        "photos/list.csv",
        "--path-column",
        "file",
        "--id-column",
        "name",
        "--out",
        "table.jsonl",
    ];
    let answer = bench.answer(&table);
    assert_eq!(
        (&answer["count"], &answer["version"]),
        (&json!(2), &json!("v0001"))
    );
    bench.answer(&[
        "embed",
        "live",
        "--set",
        "folder:photos",
        "--out",
        "folder.jsonl",
    ]);
    let rows = |file: &str| -> Vec<Value> {
        let text = bench.read(file);
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let (table, folder) = (rows("table.jsonl"), rows("folder.jsonl"));
    let ids = |rows: &[Value]| rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&table), [json!("second"), json!("first")]);
    assert_eq!(ids(&folder), [json!("a.png"), json!("b.png")]);
    assert_eq!(table[0]["embedding"], folder[1]["embedding"]);
    assert_eq!(table[1]["embedding"], folder[0]["embedding"]);
}

#[test]
fn pictures_of_a_table_that_cannot_be_used_are_left_out_and_told() {
    let bench = with_model();
    picture(&bench, "photos/a.png", 1);
    picture(&bench, "photos/b.png", 2);
    bench.write("photos/cut.png", "\u{89}PNG");
    bench.write("photos/t.csv", "file\na.png\nmissing.png\ncut.png\nb.png\n");
    let embed = |out: &'static str, more: &'static [&'static str]| {
        let table = ["embed", "live", "--table", "photos/t.csv"];
        let files = ["--path-column", "file", "--out", out];
        [&table[..], &files, more].concat()
    };
    let answer = bench.answer(&embed("e.jsonl", &[]));
    assert_eq!(answer["count"], 2);
    assert_eq!(answer["left_out"]["total"], 2);
    assert_eq!(
        answer["left_out"]["by_reason"],
        json!({"unreadable": 2}),
        "{answer}"
    );
    let files = answer["left_out"]["files"].as_array().unwrap();
    let problem = |at: usize| files[at]["problem"].as_str().unwrap();
    assert_eq!(
        (&files[0]["file"], &files[1]["file"]),
        (&json!("missing.png"), &json!("cut.png"))
    );
    assert!(
        problem(0).ends_with("(row 1)") && problem(1).ends_with("(row 2)"),
        "{answer}"
    );
    // The others keep the numbers of their rows.
    let ids: Vec<Value> = bench
        .read("e.jsonl")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone())
        .collect();
    assert_eq!(ids, [json!(0), json!(3)]);
    let told = bench.succeed(&embed("e.npy", &[]));
    assert!(
        told.contains("2  left out") && told.contains("missing.png: "),
        "{told}"
    );
    // The same where rows go out as they come.
    let told = bench.answer(&embed("/dev/null", &[]));
    assert_eq!(
        (&told["count"], &told["left_out"]["total"]),
        (&json!(2), &json!(2))
    );
    let ended = bench.run(&embed("strict.jsonl", &["--strict"]));
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("missing.png: ") && ended.stderr.contains("leave out --strict"),
        "{}",
        ended.stderr
    );
    assert!(!bench.path("strict.jsonl").exists());
    bench
        .run(&[
            "embed",
            "live",
            "--table",
            "photos/t.csv",
            "--strict",
            "--out",
            "e.npy",
        ])
        .assert_wrong_usage(&["--path-column"]);
}

#[test]
fn what_cannot_work_is_told_first() {
    let bench = with_model();
    bench.write("t.jsonl", "{\"text\":\"a\"}\n{\"text\":3}\n");
    let refused = ["embed", "live", "--table", "t.jsonl", "--out", "e.npy"];
    bench
        .run(&refused)
        .assert_wrong_usage(&["v0001 embeds pictures, not texts", "--path-column"]);
    bench.write("p.csv", "file\nmissing.png\n");
    let missing = |column: &str| {
        bench.run(&[
            "embed",
            "live",
            "--table",
            "p.csv",
            "--path-column",
            column,
            "--out",
            "e.npy",
        ])
    };
    let ended = missing("path");
    assert_eq!(ended.code, Some(2));
    assert!(
        ended
            .stderr
            .contains("no column \"path\"; its columns are file"),
        "{}",
        ended.stderr
    );
    let ended = missing("file");
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("row 0") && ended.stderr.contains("missing.png"),
        "{}",
        ended.stderr
    );
    assert!(!bench.path("e.npy").exists() && !bench.path("e.npy.unfinished").exists());
    let both = [
        "embed",
        "live",
        "--set",
        "generated:test",
        "--table",
        "p.csv",
        "--out",
        "e",
    ];
    assert_eq!(bench.run(&both).code, Some(2));
    assert_eq!(bench.run(&["embed", "live", "--out", "e"]).code, Some(2));
    // A query by text is refused by a version of pictures.
    picture(&bench, "photos/a.png", 1);
    bench.succeed(&["gallery", "add", "photos"]);
    bench
        .run(&["gallery", "search", "--text", "a red square"])
        .assert_wrong_usage(&["v0001 embeds pictures, not texts"]);
}

#[cfg(feature = "parquet")]
#[test]
fn columns_of_parquet_hold_paths_and_texts() {
    let bench = with_model();
    for (name, seed) in [("a", 1), ("b", 2), ("c", 3)] {
        picture(&bench, &format!("photos/{name}.png"), seed);
    }
    let rows = |file: &str| -> Vec<Value> {
        let text = bench.read(file);
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let embed = |more: &[&str]| {
        bench.answer(&[&["embed", "live"][..], more].concat());
    };
    // The program writes Parquet too: the ids of a folder's pictures are their paths in it.
    embed(&["--set", "folder:photos", "--out", "photos/list.parquet"]);
    embed(&["--set", "folder:photos", "--out", "folder.jsonl"]);
    let list = ["--table", "photos/list.parquet"];
    let columns = ["--path-column", "id", "--id-column", "id"];
    embed(&[&list[..], &columns, &["--out", "paths.jsonl"]].concat());
    assert_eq!(rows("paths.jsonl").len(), 3);
    assert_eq!(rows("paths.jsonl"), rows("folder.jsonl"));
    let without = [
        &["embed", "live", "--out", "x.jsonl"],
        &list[..],
        &["--path-column", "file"],
    ];
    let ended = bench.run(&without.concat());
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    for part in ["list.parquet", "\"file\"", "id"] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }

    #[cfg(feature = "onnx")]
    {
        crate::onnx::text_encoder(&bench, "encoder");
        bench.answer(&["models", "import", "encoder", "--alias", "live"]);
        bench.write("t.csv", "text\nred rose\nthe fern of winter\noak\n");
        let texts = |out: &'static str| ["--table", "t.csv", "--id-column", "text", "--out", out];
        embed(&texts("t.parquet"));
        embed(&texts("t.jsonl"));
        let columns = ["--text-column", "id", "--id-column", "id"];
        embed(
            &[
                &["--table", "t.parquet", "--out", "again.jsonl"],
                &columns[..],
            ]
            .concat(),
        );
        assert_eq!(rows("again.jsonl"), rows("t.jsonl"));
        assert_eq!(rows("again.jsonl")[1]["id"], "the fern of winter");
    }
}

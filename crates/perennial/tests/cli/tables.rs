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
    assert!(!bench.path("e.npy").exists());
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
    let ended = bench.run(&["gallery", "search", "--text", "a red square"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("v0001 embeds pictures, not texts"),
        "{}",
        ended.stderr
    );
}

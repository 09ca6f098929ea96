//! `models`: import, aliases, and what is printed about versions.

use crate::bench::{Bench, repository};

fn checkpoint() -> String {
    let path = repository().join("crates/perennial-train/testdata/resnet18_w8.pt");
    path.to_str().unwrap().to_owned()
}

fn import<'a>(file: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["models", "import", file, "--width", "8", "--classes", "4"];
    arguments.extend(["--vertex-end", "back"]);
    arguments.extend(more);
    arguments
}

#[test]
fn an_imported_checkpoint_is_a_version_like_any_other() {
    let bench = Bench::new();
    let file = checkpoint();
    let answer = bench.answer(&import(&file, &["--vertices", "12", "--alias", "released"]));
    assert_eq!(
        (&answer["version"], &answer["dim"]),
        (&"v0001".into(), &11.into())
    );

    let shown = bench.answer(&["models", "show", "released"]);
    assert_eq!(shown["role"], "imported");
    assert_eq!(shown["classifier"]["vertex_end"], "back");
    assert_eq!(shown["aliases"], serde_json::json!(["released"]));
    assert_eq!(shown["weights_sha256"], answer["weights_sha256"]);

    bench.answer(&[
        "embed",
        "released",
        "--set",
        "generated:test",
        "--out",
        "made.safetensors",
    ]);
    assert_eq!(
        bench.succeed(&["models", "alias", "live", "released"]),
        "live -> v0001\n"
    );
    let table = bench.succeed(&["models", "list"]);
    assert!(
        table.contains("resnet18/8 imagenet") && table.contains("live released"),
        "{table}"
    );
    bench
        .run(&["models", "show", "relesed"])
        .assert_wrong_usage(&["\"relesed\"", "released"]);
}

#[test]
fn what_does_not_fit_is_refused_and_named() {
    let bench = Bench::new();
    let file = checkpoint();
    let refused = |more: &[&str]| {
        let ended = bench.run(&import(&file, more));
        assert_ne!(ended.code, Some(0), "{more:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        ended.stderr
    };
    assert!(refused(&[]).contains("pass --vertices 12"));
    assert!(refused(&["--vertices", "13"]).contains("fc2.weight"));
    assert!(refused(&["--vertices", "12", "--stem", "cifar"]).contains("backbone.conv1.weight"));
    assert!(refused(&["--vertices", "12", "--backbone", "small"]).contains("weights lack"));
    assert!(
        !bench.path("registry").exists(),
        "a refused import publishes nothing"
    );
    bench
        .run(&import("none.pt", &[]))
        .assert_wrong_usage(&["none.pt"]);
    bench.write("junk.pt", "not a checkpoint");
    let junk = bench.run(&import("junk.pt", &["--vertices", "12"]));
    assert_eq!(junk.code, Some(1), "{}", junk.stderr);
    assert!(
        junk.stderr.contains("junk.pt is no readable checkpoint"),
        "{}",
        junk.stderr
    );
}

//! `slots`: vertices of their own for teams and tasks.

use crate::bench::{Bench, EXPERIMENT};

#[test]
fn two_teams_train_on_vertices_of_their_own() {
    let bench = Bench::new();
    let allocate = |owner: &str, more: &[&str]| {
        let words = ["slots", "allocate", owner, "--vertices", "16"];
        bench.answer(&[&words[..], more].concat())
    };
    let base = allocate("base", &["--classes", "3", "--front"]);
    assert_eq!(
        (base["first"].as_u64(), base["end"].as_u64()),
        (Some(0), Some(3))
    );
    assert_eq!(allocate("a", &["--classes", "6"])["first"], 10);
    assert_eq!(allocate("b", &["--classes", "7"])["first"], 3);
    bench
        .run(&[
            "slots",
            "allocate",
            "c",
            "--vertices",
            "16",
            "--classes",
            "1",
        ])
        .assert_wrong_usage(&["slots.toml", "no 1 neighbouring vertices"]);
    let none = [
        "slots",
        "allocate",
        "c",
        "--vertices",
        "16",
        "--classes",
        "0",
    ];
    bench
        .run(&none)
        .assert_wrong_usage(&["--classes 0", "at least 1"]);

    // Before training starts: no slot, another's vertices, too many classes, no such owner.
    let train = |name: &str, slot: &str, more: &[&str]| {
        let name = ["--name", name, "--set", "training.epochs=1", "--set", slot];
        bench.run(&[&["train", "toy.toml"][..], &name, more].concat())
    };
    bench.run(&["train", "toy.toml"]).assert_wrong_usage(&[
        "`slot`",
        "10..16",
        "vertices 10..16 of a",
    ]);
    train("x", "slot=c", &[]).assert_wrong_usage(&["no slot of c", "base, b, a"]);
    train("x", "slot=base", &[])
        .assert_wrong_usage(&["`slot`", "vertices 0..3 of base are the front"]);
    assert!(!bench.path("runs/x").exists());
    let linear = EXPERIMENT
        .replace("\"hoc\"", "\"er\"")
        .replace("vertices = 16\n", "");
    bench.write("linear.toml", &linear);
    bench
        .run(&["train", "linear.toml", "--set", "slot=a"])
        .assert_wrong_usage(&["`slot`", "er has none"]);

    for owner in ["a", "b"] {
        let ended = train(
            owner,
            &format!("slot={owner}"),
            &["--set", "scenario.tasks=2"],
        );
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
    let skipped = |version: &str| {
        let shown = bench.answer(&["models", "show", version]);
        shown["classifier"]["skipped_vertices"].clone()
    };
    // The last vertices need no key.
    assert!(skipped("v0001").is_null());
    assert_eq!(skipped("v0003"), 6);
    let list = bench.answer(&["slots", "list"]);
    let simplex = &list["simplices"][0];
    assert_eq!(simplex["trained"], serde_json::json!([[6, 10], [12, 16]]));
    assert_eq!(simplex["free"], serde_json::json!([]));
    let text = bench.succeed(&["slots", "list"]);
    assert!(
        text.contains("simplex of 16 vertices") && text.contains("3..10"),
        "{text}"
    );
    bench
        .run(&["slots", "grow", "--vertices", "16", "--to", "32"])
        .assert_wrong_usage(&["4 versions, v0001 to v0004,", "every prototype changes"]);
}

#[test]
fn writers_in_two_processes_take_turns() {
    let bench = Bench::new();
    let children: Vec<_> = (0..6)
        .map(|number| {
            let owner = format!("team-{number}");
            let words = [
                "slots",
                "allocate",
                &owner,
                "--vertices",
                "12",
                "--classes",
                "2",
            ];
            bench.command(&words).spawn().unwrap()
        })
        .collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    let list = bench.answer(&["slots", "list"]);
    let slots = list["simplices"][0]["slots"].as_array().unwrap();
    let firsts: Vec<u64> = slots
        .iter()
        .map(|slot| slot["first"].as_u64().unwrap())
        .collect();
    assert_eq!(firsts, [0, 2, 4, 6, 8, 10]);
    let grown = bench.answer(&["slots", "grow", "--vertices", "12", "--to", "20"]);
    assert_eq!(grown["slots"].as_array().unwrap().len(), 6);
    let list = bench.answer(&["slots", "list"]);
    assert_eq!(list["simplices"][0]["free"], serde_json::json!([[12, 20]]));
}

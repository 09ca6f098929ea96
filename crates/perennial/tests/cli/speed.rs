//! `perennial bench`: that it measures and compares, not how fast anything is.

use crate::bench::Bench;

const SMALL: [&str; 8] = [
    "--width",
    "4",
    "--batch",
    "3",
    "--vertices",
    "12",
    "--samples",
    "2",
];

#[test]
fn measurements_are_taken_and_compared_with_an_earlier_one() {
    let bench = Bench::new();
    // All but the classifier, whose dense counterpart alone takes seconds and most of a gigabyte.
    let mut arguments = vec![
        "bench",
        "step",
        "forward",
        "embed",
        "search",
        "partitions",
        "swap",
        "evaluation",
        "certify",
        "bridge",
    ];
    arguments.extend(["--rows", "300", "--dim", "24"]);
    arguments.extend(["--test-items", "60", "--test-dim", "5"]);
    arguments.extend(["--pairs", "40", "--pair-dim", "7", "--query-dim", "9"]);
    arguments.extend(SMALL);
    let report = bench.answer(&arguments);
    let names: Vec<&str> = report["measurements"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| found["name"].as_str().unwrap())
        .collect();
    for expected in [
        "training step, ResNet-18, imagenet stem, width 4, batch 3",
        "forward, ResNet-18, imagenet stem, width 4, batch 1",
        "embed PNG files, ResNet-18, imagenet stem, width 4, batch 3",
        "swap of the live version, ResNet-18, imagenet stem, width 4, batch 1",
        "search, graph, breadth 64, one query, 300 x 24",
        "search, graph, one query, 300 x 24 in 3 partitions",
        "evaluation of 7 versions, one pass each, ResNet-18, imagenet stem, width 4, batch 3",
        "evaluation of 31 versions, repeated passes, ResNet-18, imagenet stem, width 4, batch 3",
        "bare product, 60 queries x 60 items x 5",
        "certify, 10 classes, 60 queries x 60 items x 5",
        "its intervals, one right item each, 60 queries x 60 items x 5",
        "fit of a bridge, orthogonal, 40 x 7",
        "rows through a bridge, 40 x 7",
        "one query through a bridge, 9 dimensions",
    ] {
        assert!(names.contains(&expected), "{expected} among {names:?}");
    }
    for found in report["measurements"].as_array().unwrap() {
        let [fastest, median, slowest] =
            ["fastest_s", "median_s", "slowest_s"].map(|key| found[key].as_f64().unwrap());
        assert!(0.0 < fastest && fastest <= median && median <= slowest);
    }
    let savings = report["evaluation"].as_array().unwrap();
    let passes: Vec<[u64; 2]> = savings
        .iter()
        .map(|saving| ["passes", "repeated_passes"].map(|key| saving[key].as_u64().unwrap()))
        .collect();
    assert_eq!(passes, [[7, 28], [31, 496]]);
    for saving in savings {
        let share = saving["embedding_share"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&share), "{saving}");
        for ratio in ["time_ratio", "embedding_ratio"] {
            assert!(saving[ratio].as_f64().unwrap() > 0.0, "{saving}");
        }
    }
    let ratios = report["ratios"].as_array().unwrap();
    // Those of equal recall are there where the breadth decides what is found.
    assert!(ratios.len() >= 8, "{ratios:?}");
    for ratio in ratios {
        for key in ["name", "against"] {
            assert!(names.contains(&ratio[key].as_str().unwrap()), "{ratio}");
        }
        assert!(ratio["time_ratio"].as_f64().unwrap() > 0.0, "{ratio}");
    }
    bench.write("then.json", &report.to_string());
    let mut again = vec!["bench", "step", "--against", "then.json"];
    again.extend(SMALL);
    let compared = bench.answer(&again);
    assert_eq!(compared["against"].as_array().unwrap().len(), 1);
    assert!(compared["against"][0]["time_ratio"].as_f64().unwrap() > 0.0);
}

#[test]
fn convolutions_are_measured_one_by_one() {
    let bench = Bench::new();
    let mut arguments = vec!["bench", "layers"];
    arguments.extend(SMALL);
    let report = bench.answer(&arguments);
    let layers = &report["layers"];
    let convolutions = layers["convolutions"].as_array().unwrap();
    assert_eq!(
        convolutions[0]["name"],
        "3 to 4 channels, 7x7, stride 2, map 32x32"
    );
    // The first one's input is images, which need no gradient.
    assert!(convolutions[0].get("input_gradient").is_none());
    let counts = convolutions
        .iter()
        .map(|found| found["count"].as_u64().unwrap());
    assert_eq!(counts.sum::<u64>(), 20);
    for found in convolutions {
        for direction in ["forward", "weight_gradient"] {
            assert!(found[direction]["median_s"].as_f64().unwrap() > 0.0);
            let executed = found[direction]["executed"].as_f64().unwrap();
            assert!(0.0 < executed && executed <= found["direct"].as_f64().unwrap());
        }
    }
    for key in ["register_peak_per_second", "step_convolutions_s", "step_s"] {
        assert!(layers[key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert_eq!(
        report["measurements"][0]["name"],
        "training step, ResNet-18, imagenet stem, width 4, batch 3"
    );
}

#[test]
fn a_file_that_is_no_result_is_named() {
    let bench = Bench::new();
    bench.write("then.json", "{}");
    bench
        .run(&["bench", "step", "--against", "then.json"])
        .assert_wrong_usage(&["then.json", "bench --json"]);
}

#[test]
fn other_backbones_are_measured_and_stems_that_do_not_apply_refused() {
    let bench = Bench::new();
    let mut arguments = vec!["bench", "forward", "--backbone", "senet18"];
    arguments.extend(SMALL);
    let report = bench.answer(&arguments);
    assert_eq!(
        report["measurements"][0]["name"],
        "forward, SENet-18, imagenet stem, width 4, batch 3"
    );
    bench
        .run(&["bench", "forward", "--backbone", "vit6", "--stem", "cifar"])
        .assert_wrong_usage(&["use patch4 or patch8 or patch16"]);
}

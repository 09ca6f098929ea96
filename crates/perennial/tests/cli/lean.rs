//! What a build without features says to those who need them.

use crate::bench::Bench;

const HOW: &str = "--features tls";

#[test]
fn tls_that_is_not_built_in_is_wrong_usage() {
    let bench = Bench::new();
    let tls = ["--tls-certificate", "c.pem", "--tls-key", "k.pem"];
    bench
        .run(&[&["serve"][..], &tls].concat())
        .assert_wrong_usage(&["tls.certificate", HOW]);
    let stats = ["gallery", "stats", "--server"];
    bench
        .run(&[&stats[..], &["https://localhost:9"]].concat())
        .assert_wrong_usage(&["https://", HOW]);
    bench
        .run(&[&stats[..], &["http://localhost:9", "--ca", "ca.pem"]].concat())
        .assert_wrong_usage(&["--ca ca.pem", HOW]);
    for command in [&["serve", "--help"][..], &["gallery", "--help"]] {
        let help = bench.succeed(command);
        assert!(help.contains(HOW), "{help}");
    }
}

#[test]
fn downloads_that_are_not_built_in_are_wrong_usage() {
    let bench = Bench::new();
    bench
        .run(&["data", "fetch", "cifar100"])
        .assert_wrong_usage(&["cifar100", "--features fetch", "cifar.html"]);
    assert!(
        bench
            .succeed(&["data", "--help"])
            .contains("--features fetch")
    );
}

#[test]
#[cfg(not(feature = "onnx"))]
fn encoders_of_other_programs_that_are_not_built_in_are_wrong_usage() {
    let bench = Bench::new();
    bench.write("model.onnx", "x");
    bench
        .run(&["models", "import", "model.onnx"])
        .assert_wrong_usage(&["model.onnx", "--features onnx"]);
    let help = bench.succeed(&["models", "import", "--help"]);
    assert!(help.contains("--features onnx"), "{help}");
}

#[test]
#[cfg(not(feature = "onnxruntime"))]
fn a_library_of_onnxruntime_is_wrong_usage_without_the_feature() {
    let bench = Bench::new();
    bench
        .run(&["serve", "--onnxruntime", "libonnxruntime.so"])
        .assert_wrong_usage(&["libonnxruntime.so", "--features onnxruntime"]);
    let help = bench.succeed(&["--help"]);
    assert!(help.contains("--features onnxruntime"), "{help}");
}

#[test]
#[cfg(not(any(feature = "pgvector", feature = "qdrant")))]
fn databases_that_are_not_built_in_are_wrong_usage() {
    let bench = Bench::new();
    bench
        .run(&["migrate", "plan", "postgres://db/shop", "--table", "items"])
        .assert_wrong_usage(&["--features pgvector or qdrant"]);
    bench
        .run(&["serve", "--store", "postgres://db/shop"])
        .assert_wrong_usage(&["store.url", "--features pgvector"]);
    let help = bench.succeed(&["--help"]);
    assert!(help.contains("--features pgvector or qdrant"), "{help}");
}

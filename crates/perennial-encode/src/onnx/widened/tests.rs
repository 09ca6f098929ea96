use super::*;
use crate::onnx::rten_runtime::RtenGraph;
use crate::onnx::run::{Given, Numbers, Output};
use crate::onnx::small_graphs::{COLUMNS, ROWS, floats, model, node, tensor};

fn changed(content: &[u8]) -> Option<Vec<u8>> {
    let graph = GraphFile::read("a.onnx", content).unwrap();
    widened("a.onnx", content, &graph).unwrap()
}

fn product(content: &[u8]) -> Output {
    let apart = GraphFile::read("a.onnx", content).unwrap().apart();
    let graph = RtenGraph::load("a.onnx", content.to_vec(), BTreeMap::new(), &apart).unwrap();
    let given = Given {
        name: "ids",
        shape: vec![COLUMNS, 2],
        numbers: Numbers::Integers(vec![0, 4, -4, 2, 1, 3]),
    };
    graph.run(vec![given], "rows").unwrap().unwrap()
}

/// `converted`, made of the tensor by some nodes, times the input.
fn graph(steps: &[Vec<u8>], tensors: &[Vec<u8>]) -> Vec<u8> {
    let mut nodes = steps.to_vec();
    nodes.push(node("Cast", &["ids"], "input", Some(("to", 1))));
    nodes.push(node("MatMul", &["converted", "input"], "rows", None));
    model(&nodes, tensors)
}

fn cast() -> Vec<u8> {
    node("Cast", &["table"], "wide", Some(("to", 1)))
}

/// The graph is changed, gives the same bits, and has neither the bytes nor the nodes any more.
fn check(steps: &[Vec<u8>], tensors: &[Vec<u8>]) {
    let before = graph(steps, tensors);
    let after = changed(&before).unwrap();
    let read = GraphFile::read("a.onnx", &after).unwrap();
    assert_eq!(read.nodes.len(), 2);
    assert!(!read.tensors.contains_key("table"));
    let dims = read.tensors.get("converted").unwrap();
    assert_eq!(dims, &[ROWS as i64, COLUMNS as i64]);
    let (before, again) = (product(&before), product(&after));
    assert_eq!((before.shape, before.values), (again.shape, again.values));
    assert_eq!(changed(&after), None);
}

#[test]
fn scaled_weights_take_the_place_of_their_bytes() {
    for dims in [
        &[][..],
        &[1],
        &[1, 1],
        &[COLUMNS],
        &[1, COLUMNS],
        &[ROWS, 1],
    ] {
        let scale = || floats("scale", dims);
        let mul = |a: &str, b: &str| node("Mul", &[a, b], "converted", None);
        check(&[cast(), mul("wide", "scale")], &[scale()]);
        check(&[cast(), mul("scale", "wide")], &[scale()]);
    }
    let twice = [
        cast(),
        node("Mul", &["wide", "scale"], "half", None),
        node("Mul", &["half", "more"], "converted", None),
    ];
    let tensors = [floats("scale", &[ROWS, 1]), floats("more", &[COLUMNS])];
    check(&twice, &tensors);
}

#[test]
fn so_do_those_with_a_zero_point() {
    for inputs in [
        &["table", "scale", "zero"][..],
        &["table", "scale", ""],
        &["table", "scale"],
    ] {
        let dequantized = node("DequantizeLinear", inputs, "converted", None);
        let tensors = [floats("scale", &[]), tensor("zero", 3, &[], &[9])];
        check(&[dequantized], &tensors);
    }
}

#[test]
fn other_graphs_stay_as_they_are() {
    let mul = |scale: &str| node("Mul", &["wide", scale], "converted", None);
    // Up to which value the bytes are converted, if at all; what comes after it stays, and the result is the same.
    for (steps, tensors, up_to) in [
        // A number for each of them, a scale that is computed.
        (
            vec![cast(), mul("scale")],
            floats("scale", &[ROWS, COLUMNS]),
            Some("wide"),
        ),
        (
            vec![node("Neg", &["scale"], "other", None), cast(), mul("other")],
            floats("scale", &[]),
            Some("wide"),
        ),
        // The bytes are used twice.
        (
            vec![
                cast(),
                node("Cast", &["table"], "again", Some(("to", 1))),
                node("Add", &["wide", "again"], "converted", None),
            ],
            floats("scale", &[]),
            None,
        ),
        // To another type first.
        (
            vec![
                node("Cast", &["table"], "other", Some(("to", 7))),
                node("Cast", &["other"], "converted", Some(("to", 1))),
            ],
            floats("scale", &[]),
            None,
        ),
        // A scale for each place along an axis that the node names.
        (
            vec![node(
                "DequantizeLinear",
                &["table", "scale"],
                "converted",
                Some(("axis", 0)),
            )],
            floats("scale", &[ROWS]),
            None,
        ),
    ] {
        let graph = graph(&steps, &[tensors]);
        let Some(value) = up_to else {
            assert_eq!(changed(&graph), None);
            continue;
        };
        let after = changed(&graph).unwrap();
        assert_eq!(product(&graph).values, product(&after).values);
        let read = GraphFile::read("a.onnx", &after).unwrap();
        assert!(read.tensors.contains_key(value) && !read.tensors.contains_key("converted"));
    }
    for content in [
        &include_bytes!("../../../testdata/text.onnx")[..],
        include_bytes!("../../../testdata/picture.onnx"),
        include_bytes!("../../../testdata/towers.onnx"),
        include_bytes!("../../../testdata/dynamic.onnx"),
    ] {
        assert_eq!(changed(content), None);
    }
}

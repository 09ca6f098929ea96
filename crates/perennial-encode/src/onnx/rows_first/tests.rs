use super::*;
use crate::onnx::rten_runtime::RtenGraph;
use crate::onnx::run::{Given, Numbers, Output};
use crate::onnx::small_graphs::{COLUMNS, ROWS, floats, model, node, tensor};

fn changed(content: &[u8]) -> Option<Vec<u8>> {
    let graph = GraphFile::read("a.onnx", content).unwrap();
    rows_first("a.onnx", content, &graph).unwrap()
}

fn rows(content: &[u8]) -> Output {
    let apart = GraphFile::read("a.onnx", content).unwrap().apart();
    let graph = RtenGraph::load("a.onnx", content.to_vec(), BTreeMap::new(), &apart).unwrap();
    let given = Given {
        name: "ids",
        shape: vec![2, 3],
        numbers: Numbers::Integers(vec![0, 4, 4, 2, 1, 3]),
    };
    graph.run(vec![given], "rows").unwrap().unwrap()
}

/// What a look-up in a graph reads, and how many nodes there are.
fn looked_up(content: &[u8]) -> (Vec<String>, usize) {
    let graph = GraphFile::read("a.onnx", content).unwrap();
    let gathers = graph.nodes.iter().filter(|node| node.operator == "Gather");
    let read = gathers.map(|node| node.inputs[0].to_owned()).collect();
    (read, graph.nodes.len())
}

/// The graph is changed, and gives the same bits.
fn check(nodes: &[Vec<u8>], tensors: &[Vec<u8>], read: &[&str], count: usize) {
    let before = model(nodes, tensors);
    let after = changed(&before).unwrap();
    let (found, nodes) = looked_up(&after);
    assert_eq!(
        (
            found
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .as_slice(),
            nodes
        ),
        (read, count)
    );
    let (before, again) = (rows(&before), rows(&after));
    assert_eq!((before.shape, before.values), (again.shape, again.values));
    // Nothing is left to change.
    assert_eq!(changed(&after), None);
}

fn cast() -> Vec<u8> {
    node("Cast", &["table"], "wide", Some(("to", 1)))
}

#[test]
fn scales_of_rows_are_looked_up_too() {
    check(
        &[
            cast(),
            node("Mul", &["wide", "scale"], "converted", None),
            node("Gather", &["converted", "ids"], "rows", Some(("axis", 0))),
        ],
        &[floats("scale", &[ROWS, 1])],
        &["table", "scale"],
        4,
    );
}

#[test]
fn one_scale_for_all_and_one_for_each_column_stay() {
    for dims in [&[][..], &[1], &[COLUMNS]] {
        check(
            &[
                cast(),
                node("Sub", &["offset", "wide"], "moved", None),
                node("Mul", &["scale", "moved"], "converted", None),
                node("Gather", &["converted", "ids"], "rows", None),
            ],
            &[floats("scale", dims), floats("offset", &[ROWS, 1])],
            &["table", "offset"],
            5,
        );
    }
    check(
        &[
            node(
                "DequantizeLinear",
                &["table", "scale", "zero"],
                "converted",
                None,
            ),
            node("Gather", &["converted", "ids"], "rows", None),
        ],
        &[floats("scale", &[]), tensor("zero", 3, &[], &[9])],
        &["table"],
        2,
    );
}

#[test]
fn names_are_not_taken_twice() {
    check(
        &[
            cast(),
            node("Gather", &["wide", "ids"], "rows:row1", None),
            node("Identity", &["rows:row1"], "rows", None),
        ],
        &[],
        &["table"],
        3,
    );
    check(
        &[
            cast(),
            node("Gather", &["wide", "ids"], "rows", None),
            node("Identity", &["rows"], "rows:row1", None),
        ],
        &[],
        &["table"],
        3,
    );
}

#[test]
fn other_graphs_stay_as_they_are() {
    let scaled = |scale: &[usize], axis: u64| {
        let nodes = [
            cast(),
            node("Mul", &["wide", "scale"], "converted", None),
            node(
                "Gather",
                &["converted", "ids"],
                "rows",
                Some(("axis", axis)),
            ),
        ];
        model(&nodes, &[floats("scale", scale)])
    };
    // Rows of another table, sums of two tables, columns instead of rows.
    for (scale, axis) in [
        (&[1, COLUMNS][..], 0),
        (&[ROWS, COLUMNS], 0),
        (&[ROWS, 1], 1),
    ] {
        assert_eq!(changed(&scaled(scale, axis)), None, "{scale:?} {axis}");
    }
    // The whole table is needed as well.
    let nodes = [
        cast(),
        node("Gather", &["wide", "ids"], "some", None),
        node("ReduceMean", &["wide"], "mean", None),
        node("Add", &["some", "mean"], "rows", None),
    ];
    assert_eq!(changed(&model(&nodes, &[])), None);
    // A scale that is computed, a step that mixes rows, a table that is no constant.
    let nodes = [
        cast(),
        node("Neg", &["scale"], "other", None),
        node("Mul", &["wide", "other"], "converted", None),
        node("Gather", &["converted", "ids"], "rows", None),
    ];
    assert_eq!(changed(&model(&nodes, &[floats("scale", &[])])), None);
    let nodes = [
        cast(),
        node("Softmax", &["wide"], "converted", Some(("axis", 0))),
        node("Gather", &["converted", "ids"], "rows", None),
    ];
    assert_eq!(changed(&model(&nodes, &[])), None);
    for content in [
        &include_bytes!("../../../testdata/text.onnx")[..],
        include_bytes!("../../../testdata/picture.onnx"),
        include_bytes!("../../../testdata/towers.onnx"),
        include_bytes!("../../../testdata/dynamic.onnx"),
    ] {
        assert_eq!(changed(content), None);
    }
}

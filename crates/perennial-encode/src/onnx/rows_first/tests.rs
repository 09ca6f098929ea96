use super::*;
use crate::onnx::rten_runtime::RtenGraph;
use crate::onnx::run::{Given, Numbers, Output};
use crate::protobuf::put_number;

const ROWS: usize = 5;
const COLUMNS: usize = 3;

fn node(operator: &str, inputs: &[&str], output: &str, attribute: Option<(&str, u64)>) -> Vec<u8> {
    let mut message = Vec::new();
    for input in inputs {
        put_bytes(&mut message, 1, input.as_bytes());
    }
    put_bytes(&mut message, 2, output.as_bytes());
    put_bytes(&mut message, 3, format!("node of {output}").as_bytes());
    put_bytes(&mut message, 4, operator.as_bytes());
    if let Some((name, value)) = attribute {
        let mut attribute = Vec::new();
        put_bytes(&mut attribute, 1, name.as_bytes());
        put_number(&mut attribute, 3, value);
        put_number(&mut attribute, 20, 2);
        put_bytes(&mut message, 5, &attribute);
    }
    message
}

fn tensor(name: &str, element: u64, dims: &[usize], raw: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    for &dim in dims {
        put_number(&mut message, 1, dim as u64);
    }
    put_number(&mut message, 2, element);
    put_bytes(&mut message, 8, name.as_bytes());
    put_bytes(&mut message, 9, raw);
    message
}

fn floats(name: &str, dims: &[usize]) -> Vec<u8> {
    let count: usize = dims.iter().product();
    let values = (0..count).flat_map(|value| (0.3 + value as f32 / 7.0).to_le_bytes());
    tensor(name, 1, dims, &values.collect::<Vec<u8>>())
}

fn declared(name: &str, element: u64, dims: &[&str]) -> Vec<u8> {
    let (mut shape, mut kind, mut of, mut message) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for dim in dims {
        let mut named = Vec::new();
        put_bytes(&mut named, 2, dim.as_bytes());
        put_bytes(&mut shape, 1, &named);
    }
    put_number(&mut kind, 1, element);
    put_bytes(&mut kind, 2, &shape);
    put_bytes(&mut of, 1, &kind);
    put_bytes(&mut message, 1, name.as_bytes());
    put_bytes(&mut message, 2, &of);
    message
}

/// A graph that makes `rows` of the input `ids` and of the int8 tensor `table`.
fn model(nodes: &[Vec<u8>], tensors: &[Vec<u8>]) -> Vec<u8> {
    let table: Vec<u8> = (0..ROWS * COLUMNS)
        .map(|value| (value * 37) as u8)
        .collect();
    let mut graph = Vec::new();
    for node in nodes {
        put_bytes(&mut graph, 1, node);
    }
    put_bytes(&mut graph, 2, b"graph");
    put_bytes(&mut graph, 5, &tensor("table", 3, &[ROWS, COLUMNS], &table));
    for tensor in tensors {
        put_bytes(&mut graph, 5, tensor);
    }
    put_bytes(&mut graph, 11, &declared("ids", 7, &["batch", "positions"]));
    put_bytes(
        &mut graph,
        12,
        &declared("rows", 1, &["batch", "positions", "width"]),
    );
    let (mut opset, mut model) = (Vec::new(), Vec::new());
    put_number(&mut opset, 2, 17);
    put_number(&mut model, 1, 8);
    put_bytes(&mut model, 7, &graph);
    put_bytes(&mut model, 8, &opset);
    model
}

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

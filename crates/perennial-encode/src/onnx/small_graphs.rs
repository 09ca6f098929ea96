//! Graphs of a few nodes around one small tensor of bytes, for tests of what is done to a graph before it runs.

use crate::protobuf::{put_bytes, put_number};

pub(super) const ROWS: usize = 5;
pub(super) const COLUMNS: usize = 3;

pub(super) fn node(
    operator: &str,
    inputs: &[&str],
    output: &str,
    attribute: Option<(&str, u64)>,
) -> Vec<u8> {
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

pub(super) fn tensor(name: &str, element: u64, dims: &[usize], raw: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    for &dim in dims {
        put_number(&mut message, 1, dim as u64);
    }
    put_number(&mut message, 2, element);
    put_bytes(&mut message, 8, name.as_bytes());
    put_bytes(&mut message, 9, raw);
    message
}

pub(super) fn floats(name: &str, dims: &[usize]) -> Vec<u8> {
    let count: usize = dims.iter().product();
    let values = (0..count).flat_map(|value| (0.3 + value as f32 / 7.0).to_le_bytes());
    tensor(name, 1, dims, &values.collect::<Vec<u8>>())
}

pub(super) fn declared(name: &str, element: u64, dims: &[&str]) -> Vec<u8> {
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
pub(super) fn model(nodes: &[Vec<u8>], tensors: &[Vec<u8>]) -> Vec<u8> {
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

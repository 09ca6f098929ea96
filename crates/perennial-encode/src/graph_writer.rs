//! ONNX graphs, written.
//!
//! By hand, since no crate does it for less. `rten-onnx`, which is in the tree already, writes messages but cannot write a graph's name, without
//! which the official checker refuses a file; `prost` would need the schema as generated code of more lines than this file.

use crate::protobuf::{put_bytes, put_float, put_number};

/// The opset: the first with `LayerNormalization`. Axes of reductions are attributes.
pub const OPSET: u64 = 17;
/// The version of the file format that goes with it.
const IR_VERSION: u64 = 8;
/// The number of 32-bit floating-point numbers among the types of elements, and that of 64-bit integers.
const FLOAT: u64 = 1;
const INT64: u64 = 7;

/// An attribute of an operator.
#[derive(Debug, Clone, Copy)]
pub enum Attribute<'a> {
    /// A whole number.
    Int(&'a str, i64),
    /// Several.
    Ints(&'a str, &'a [i64]),
    /// A floating-point number.
    Float(&'a str, f32),
}

/// An input or an output of a graph: its name, and its dimensions after the batch.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a> {
    /// The name.
    pub name: &'a str,
    /// Sizes; a free dimension `batch` is in front of them.
    pub sizes: &'a [usize],
}

/// A graph under construction, of f32 tensors. Nodes are added in the order in which they run.
#[derive(Debug, Default)]
pub struct GraphWriter {
    nodes: Vec<u8>,
    tensors: Vec<u8>,
    /// Names given so far.
    given: usize,
}

impl GraphWriter {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// A constant. Returns its name.
    ///
    /// # Panics
    /// If the values are not as many as the shape says.
    pub fn floats(&mut self, shape: &[usize], values: &[f32]) -> String {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "values");
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.tensor(FLOAT, shape, &bytes)
    }

    /// A constant list of whole numbers, such as a shape. Returns its name.
    pub fn integers(&mut self, values: &[i64]) -> String {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.tensor(INT64, &[values.len()], &bytes)
    }

    fn tensor(&mut self, element: u64, shape: &[usize], bytes: &[u8]) -> String {
        let name = self.name("c");
        let mut tensor = Vec::with_capacity(bytes.len() + 64);
        for &size in shape {
            put_number(&mut tensor, 1, size as u64);
        }
        put_number(&mut tensor, 2, element);
        put_bytes(&mut tensor, 8, name.as_bytes());
        put_bytes(&mut tensor, 9, bytes);
        put_bytes(&mut self.tensors, 5, &tensor);
        name
    }

    /// An operator of the standard ones, with one output. Returns the output's name.
    pub fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: &[Attribute<'_>],
    ) -> String {
        let output = self.name("t");
        self.named_node(operator, inputs, attributes, &output);
        output
    }

    /// The same with an output of the graph: a name that is given.
    pub fn named_node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: &[Attribute<'_>],
        output: &str,
    ) {
        let mut node = Vec::new();
        for input in inputs {
            put_bytes(&mut node, 1, input.as_bytes());
        }
        put_bytes(&mut node, 2, output.as_bytes());
        put_bytes(&mut node, 3, format!("{operator}_{output}").as_bytes());
        put_bytes(&mut node, 4, operator.as_bytes());
        for attribute in attributes {
            put_bytes(&mut node, 5, &attribute.message());
        }
        put_bytes(&mut self.nodes, 1, &node);
    }

    fn name(&mut self, prefix: &str) -> String {
        self.given += 1;
        format!("{prefix}{}", self.given)
    }

    /// The whole file.
    pub fn finish(self, name: &str, input: Value<'_>, output: Value<'_>) -> Vec<u8> {
        let mut graph = self.nodes;
        put_bytes(&mut graph, 2, name.as_bytes());
        graph.extend(self.tensors);
        put_bytes(&mut graph, 11, &input.message());
        put_bytes(&mut graph, 12, &output.message());
        let mut opset = Vec::new();
        put_bytes(&mut opset, 1, b"");
        put_number(&mut opset, 2, OPSET);
        let mut model = Vec::with_capacity(graph.len() + 128);
        put_number(&mut model, 1, IR_VERSION);
        put_bytes(&mut model, 2, b"perennial");
        put_bytes(&mut model, 3, env!("CARGO_PKG_VERSION").as_bytes());
        put_bytes(&mut model, 7, &graph);
        put_bytes(&mut model, 8, &opset);
        model
    }
}

impl Attribute<'_> {
    fn message(self) -> Vec<u8> {
        let mut message = Vec::new();
        let (name, kind) = match self {
            Self::Float(name, _) => (name, 1),
            Self::Int(name, _) => (name, 2),
            Self::Ints(name, _) => (name, 7),
        };
        put_bytes(&mut message, 1, name.as_bytes());
        match self {
            Self::Float(_, value) => put_float(&mut message, 2, value),
            // Negative numbers are written as their two's complement.
            Self::Int(_, value) => put_number(&mut message, 3, value as u64),
            Self::Ints(_, values) => {
                for &value in values {
                    put_number(&mut message, 8, value as u64);
                }
            }
        }
        put_number(&mut message, 20, kind);
        message
    }
}

impl Value<'_> {
    fn message(self) -> Vec<u8> {
        let (mut shape, mut batch) = (Vec::new(), Vec::new());
        put_bytes(&mut batch, 2, b"batch");
        put_bytes(&mut shape, 1, &batch);
        for &size in self.sizes {
            let mut dimension = Vec::new();
            put_number(&mut dimension, 1, size as u64);
            put_bytes(&mut shape, 1, &dimension);
        }
        let (mut tensor, mut kind, mut message) = (Vec::new(), Vec::new(), Vec::new());
        put_number(&mut tensor, 1, FLOAT);
        put_bytes(&mut tensor, 2, &shape);
        put_bytes(&mut kind, 1, &tensor);
        put_bytes(&mut message, 1, self.name.as_bytes());
        put_bytes(&mut message, 2, &kind);
        message
    }
}

#[cfg(all(test, feature = "onnx"))]
mod tests {
    use super::*;
    use crate::onnx::GraphFile;

    #[test]
    fn a_graph_is_read_as_it_was_written() {
        let mut graph = GraphWriter::new();
        let weight = graph.floats(&[3, 2], &[1.0, 0.0, 0.0, 1.0, 2.0, -2.0]);
        let shape = graph.integers(&[0, -1]);
        let flat = graph.node("Reshape", &["pixels", &shape], &[]);
        let product = graph.node("MatMul", &[&flat, &weight], &[]);
        let axes = [
            Attribute::Ints("axes", &[-1]),
            Attribute::Int("keepdims", 1),
        ];
        graph.named_node("ReduceL2", &[&product], &axes, "length");
        let value = |name, sizes| Value { name, sizes };
        let bytes = graph.finish("test", value("pixels", &[3]), value("length", &[1]));
        let read = GraphFile::read("test.onnx", &bytes).unwrap();
        assert_eq!(read.nodes.len(), 3);
        assert_eq!(read.inputs[0].name, "pixels");
        assert_eq!(read.inputs[0].shape, Some(vec![None, Some(3)]));
        assert_eq!(read.outputs[0].shape, Some(vec![None, Some(1)]));
        assert!(read.operators.contains("ReduceL2"));
    }
}

//! What an ONNX file says about its graph, read before any runtime sees the file.
//!
//! The whole file is walked once without copying: sizes of tensors against their data, depth of nested graphs, opset, names of files with
//! further data. What passes here can be given to the runtime without fear of a stack overflow or of an allocation that the file
//! only claims to need.

mod constants;
mod dependencies;

use std::collections::{BTreeMap, BTreeSet};

use super::apart::Apart;
use super::declared::{Declared, declared, element_size, nests_sequences};
use super::error::GraphError;
use super::limits::{
    DECLARED, DEPTH, DIMS, ELEMENTS, ENTRIES, FIRST_OPSET, NODES, OPEN, OPSET_BYTES, OPSETS,
    REPEATED, SHAPE,
};
use super::other_formats::refuse_other_formats;
use super::wire::{self, Fields, Malformed, Value, bytes, text};
use crate::protobuf::put_bytes;

/// The domain of the standard operators.
const STANDARD: &str = "ai.onnx";

/// One operator of the outermost graph.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    /// The operator with its domain, if that is not the standard one.
    pub operator: String,
    pub inputs: Vec<&'a str>,
    pub outputs: Vec<&'a str>,
    /// The node's own bytes.
    pub(super) message: &'a [u8],
    /// The integer tensor of a `Constant`, if it is a small one.
    constant: Option<Vec<i64>>,
}

impl<'a> Node<'a> {
    /// The names of its attributes, with their whole numbers; 0 for those of another kind.
    pub(super) fn attributes(&self) -> Result<Vec<(&'a str, u64)>, Malformed> {
        let mut found = Vec::new();
        for field in Fields::of(self.message) {
            let (5, Value::Bytes(message)) = field? else {
                continue;
            };
            let (mut name, mut number) = ("", 0);
            for field in Fields::of(message) {
                match field? {
                    (1, value) => name = text(value)?,
                    (3, Value::Number(given)) => number = given,
                    _ => {}
                }
            }
            found.push((name, number));
        }
        Ok(found)
    }
}

/// What a file says about its graph.
#[derive(Debug, Default)]
pub(crate) struct GraphFile<'a> {
    /// Version of each domain of operators.
    opsets: BTreeMap<String, u64>,
    /// The messages that name the opsets, for [`apart`](Self::apart).
    opset_messages: Vec<&'a [u8]>,
    pub inputs: Vec<Declared>,
    pub outputs: Vec<Declared>,
    pub nodes: Vec<Node<'a>>,
    /// Nodes so far, those of nested graphs included.
    walked: usize,
    /// Other parts so far.
    entries: usize,
    /// All operators, those of nested graphs included.
    pub operators: BTreeSet<String>,
    /// Files that hold tensors' data.
    pub external: BTreeSet<String>,
    /// Whether the file defines operators of its own as functions.
    pub functions: bool,
    /// Whether operators have graphs of their own, which take values by name without listing them.
    pub(super) nested: bool,
    /// Dimensions of the outermost graph's tensors.
    pub(super) tensors: BTreeMap<&'a str, Vec<i64>>,
    /// Small whole-number tensors.
    shapes: BTreeMap<&'a str, Vec<i64>>,
}

impl<'a> GraphFile<'a> {
    /// Walks a file. `file` is its name, for errors.
    ///
    /// # Errors
    /// [`GraphError`]: not ONNX, cut off, an opset that is too old, or sizes that do not belong to the data.
    pub(crate) fn read(file: &str, content: &'a [u8]) -> Result<Self, GraphError> {
        refuse_other_formats(file, content)?;
        let mut graph = Self::default();
        let mut seen = false;
        for field in Fields::of(content) {
            let damaged = |_| GraphError::Damaged {
                file: file.to_owned(),
            };
            let (field, value) = field.map_err(damaged)?;
            match field {
                7 => {
                    seen = true;
                    graph.graph(file, bytes(value).map_err(damaged)?, 0)?;
                }
                8 => {
                    let message = bytes(value).map_err(damaged)?;
                    if graph.opset_messages.len() >= OPSETS || message.len() > OPSET_BYTES {
                        return Err(GraphError::too_many(file, "versions of operators", OPSETS));
                    }
                    graph.opset(message).map_err(damaged)?;
                }
                14 => graph.entry(file)?,
                25 => graph.functions = true,
                _ => {}
            }
        }
        if !seen {
            return Err(GraphError::NotOnnx {
                file: file.to_owned(),
                found: "no graph in it",
            });
        }
        match graph.opsets.get(STANDARD) {
            Some(version) if *version >= FIRST_OPSET => {}
            version => {
                return Err(GraphError::Opset {
                    file: file.to_owned(),
                    found: version.copied(),
                    first: FIRST_OPSET,
                });
            }
        }
        graph
            .inputs
            .retain(|input| !graph.tensors.contains_key(input.name.as_str()));
        if graph.inputs.len().max(graph.outputs.len()) > OPEN {
            return Err(GraphError::too_many(
                file,
                "inputs without values or outputs",
                OPEN,
            ));
        }
        graph.check_repeats(file)?;
        graph.check_constants(file)?;
        Ok(graph)
    }

    /// Whether an embedding can depend on what else is in the batch: scales of int8 products are taken over the whole of it.
    pub(crate) fn scales_by_batch(&self) -> bool {
        self.operators
            .iter()
            .any(|operator| operator.contains("DynamicQuantize"))
    }

    /// Every node but constants, and what a file needs to hold one of them alone.
    pub(crate) fn apart(&self) -> Apart {
        let nodes = self.nodes.iter();
        let nodes = nodes.filter(|node| node.operator != "Constant");
        Apart {
            opsets: self.opsets_as_fields(),
            nodes: nodes
                .map(|node| (node.operator.clone(), node.message.to_owned()))
                .collect(),
        }
    }

    /// The messages that name the versions of operators, as fields of a file.
    pub(crate) fn opsets_as_fields(&self) -> Vec<u8> {
        let mut opsets = Vec::new();
        for opset in &self.opset_messages {
            put_bytes(&mut opsets, 8, opset);
        }
        opsets
    }

    /// Counts one more part of the file.
    fn entry(&mut self, file: &str) -> Result<(), GraphError> {
        self.entries += 1;
        if self.entries <= ENTRIES {
            return Ok(());
        }
        let what = "attributes, tensors and values";
        Err(GraphError::too_many(file, what, ENTRIES))
    }

    /// Keeps the version of one domain's operators.
    fn opset(&mut self, message: &'a [u8]) -> Result<(), Malformed> {
        let (mut domain, mut version) = ("", 0);
        for field in Fields::of(message) {
            match field? {
                (1, value) => domain = text(value)?,
                (2, Value::Number(number)) => version = number,
                _ => {}
            }
        }
        let domain = if domain.is_empty() { STANDARD } else { domain };
        self.opsets.insert(domain.to_owned(), version);
        self.opset_messages.push(message);
        Ok(())
    }

    fn graph(&mut self, file: &str, message: &'a [u8], depth: usize) -> Result<(), GraphError> {
        let damaged = |_| GraphError::Damaged {
            file: file.to_owned(),
        };
        if depth > DEPTH {
            return Err(GraphError::Depth {
                file: file.to_owned(),
                limit: DEPTH,
            });
        }
        self.nested |= depth > 0;
        for field in Fields::of(message) {
            let (field, value) = field.map_err(damaged)?;
            match field {
                1 => {
                    self.walked += 1;
                    if self.walked > NODES {
                        return Err(GraphError::too_many(file, "nodes", NODES));
                    }
                    let node = self.node(file, bytes(value).map_err(damaged)?, depth)?;
                    self.operators.insert(node.operator.clone());
                    if depth == 0 {
                        if let (Some(shape), Some(name)) = (&node.constant, node.outputs.first()) {
                            self.shapes.insert(name, shape.clone());
                        }
                        self.nodes.push(node);
                    }
                }
                5 => {
                    self.entry(file)?;
                    let tensor = self.tensor(file, bytes(value).map_err(damaged)?)?;
                    if depth == 0 {
                        if let Some(values) = tensor.values {
                            self.shapes.insert(tensor.name, values);
                        }
                        self.tensors.insert(tensor.name, tensor.dims);
                    }
                }
                11..=13 => {
                    self.entry(file)?;
                    let declaration = bytes(value).map_err(damaged)?;
                    if nests_sequences(declaration).map_err(damaged)? {
                        return Err(GraphError::Unsupported {
                            file: file.to_owned(),
                            what: vec!["sequences of sequences".to_owned()],
                        });
                    }
                    if self.inputs.len().max(self.outputs.len()) >= DECLARED {
                        return Err(GraphError::too_many(file, "inputs or outputs", DECLARED));
                    }
                    match field {
                        11 if depth == 0 => {
                            self.inputs.push(declared(declaration).map_err(damaged)?)
                        }
                        12 if depth == 0 => {
                            self.outputs.push(declared(declaration).map_err(damaged)?)
                        }
                        _ => {}
                    }
                }
                15 => return Err(sparse(file)),
                _ => {}
            }
        }
        Ok(())
    }

    fn node(
        &mut self,
        file: &str,
        message: &'a [u8],
        depth: usize,
    ) -> Result<Node<'a>, GraphError> {
        let damaged = |_| GraphError::Damaged {
            file: file.to_owned(),
        };
        let (mut ends, mut operator, mut domain) = ([Vec::new(), Vec::new()], "", "");
        let (mut constant, mut whole) = (None, Vec::new());
        for field in Fields::of(message) {
            let (field, value) = field.map_err(damaged)?;
            match field {
                1 | 2 => {
                    self.entry(file)?;
                    ends[(field - 1) as usize].push(text(value).map_err(damaged)?);
                }
                4 => operator = text(value).map_err(damaged)?,
                7 => domain = text(value).map_err(damaged)?,
                5 => {
                    self.entry(file)?;
                    whole.clear();
                    for field in Fields::of(bytes(value).map_err(damaged)?) {
                        let (field, value) = field.map_err(damaged)?;
                        match field {
                            5 | 10 => {
                                constant = self.tensor(file, bytes(value).map_err(damaged)?)?.values
                            }
                            // Whole numbers as they are.
                            3 | 8 if wire::count(value) <= SHAPE => {
                                wire::numbers(value, &mut whole).map_err(damaged)?;
                            }
                            6 | 11 => {
                                self.graph(file, bytes(value).map_err(damaged)?, depth + 1)?
                            }
                            22 | 23 => return Err(sparse(file)),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        let operator = match domain {
            "" | STANDARD => operator.to_owned(),
            domain => format!("{domain}.{operator}"),
        };
        // A constant has a single attribute.
        let constant = constant
            .or(Some(whole).filter(|whole| !whole.is_empty()))
            .filter(|_| operator == "Constant");
        let [inputs, outputs] = ends;
        Ok(Node {
            operator,
            inputs,
            outputs,
            message,
            constant,
        })
    }

    fn tensor(&mut self, file: &str, message: &'a [u8]) -> Result<Tensor<'a>, GraphError> {
        let damaged = |_| GraphError::Damaged {
            file: file.to_owned(),
        };
        let mut tensor = Tensor::default();
        let (mut raw, mut typed, mut external, mut integers) = (None, 0_u64, false, Vec::new());
        let (mut element, mut located) = (0, false);
        for field in Fields::of(message) {
            let (field, value) = field.map_err(damaged)?;
            match field {
                1 if tensor.dims.len() + wire::count(value) as usize > DIMS => {
                    return Err(GraphError::too_many(file, "dimensions of a tensor", DIMS));
                }
                1 => wire::numbers(value, &mut tensor.dims).map_err(damaged)?,
                2 => {
                    if let Value::Number(number) = value {
                        element = number;
                    }
                }
                // f32 and f64 are packed as they are, whole numbers in variable length.
                4 => typed += bytes(value).map_or(1, |packed| packed.len() as u64 / 4),
                10 => typed += bytes(value).map_or(1, |packed| packed.len() as u64 / 8),
                7 if wire::count(value) <= SHAPE => {
                    typed += wire::count(value);
                    wire::numbers(value, &mut integers).map_err(damaged)?;
                }
                5 | 7 => typed += wire::count(value),
                8 => tensor.name = text(value).map_err(damaged)?,
                9 => raw = Some(bytes(value).map_err(damaged)?),
                13 => located |= self.external_entry(file, bytes(value).map_err(damaged)?)?,
                14 => external = value == Value::Number(1),
                _ => {}
            }
        }
        let wrong = |problem: String| GraphError::Tensor {
            file: file.to_owned(),
            tensor: tensor.name.to_owned(),
            problem,
        };
        if external && !located {
            let problem = "its data are said to lie in a file beside the graph, and not in which";
            return Err(wrong(problem.to_owned()));
        }
        let elements = tensor.dims.iter().try_fold(1_u64, |product, &dim| {
            product.checked_mul(u64::try_from(dim).ok()?)
        });
        let Some(elements) = elements.filter(|&elements| elements <= ELEMENTS) else {
            return Err(wrong(format!(
                "dimensions {:?} are negative or too large",
                tensor.dims
            )));
        };
        if let Some(raw) = raw {
            let size = element_size(element);
            if size.is_some_and(|size| elements * size != raw.len() as u64) {
                return Err(wrong(format!(
                    "dimensions {:?} do not belong to {} bytes of data",
                    tensor.dims,
                    raw.len()
                )));
            }
            if element == 7 && elements <= SHAPE {
                integers = raw
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&value| i64::from_le_bytes(value))
                    .collect();
            }
        } else if !external && element_size(element).is_some() && typed != elements {
            return Err(wrong(format!(
                "dimensions {:?} do not belong to {typed} values",
                tensor.dims
            )));
        }
        tensor.values = Some(integers).filter(|values| !values.is_empty());
        Ok(tensor)
    }

    /// A file with data beside the graph, or what else is said about it; whether it is the file. Its name must be one: no folder, no way out
    /// of the graph's own.
    fn external_entry(&mut self, file: &str, message: &'a [u8]) -> Result<bool, GraphError> {
        let damaged = |_| GraphError::Damaged {
            file: file.to_owned(),
        };
        let (mut key, mut content) = ("", "");
        for field in Fields::of(message) {
            match field.map_err(damaged)? {
                (1, value) => key = text(value).map_err(damaged)?,
                (2, value) => content = text(value).map_err(damaged)?,
                _ => {}
            }
        }
        if key == "location" {
            let plain = !content.is_empty()
                && !content.contains(['/', '\\', ':', '\0'])
                && content != "."
                && content != "..";
            if !plain {
                return Err(GraphError::External {
                    file: file.to_owned(),
                    location: content.to_owned(),
                });
            }
            self.external.insert(content.to_owned());
        }
        Ok(key == "location")
    }

    /// Operators that only repeat values, where the file itself says how often.
    fn check_repeats(&self, file: &str) -> Result<(), GraphError> {
        for node in &self.nodes {
            let position = match node.operator.as_str() {
                "ConstantOfShape" => 0,
                "Expand" | "Tile" | "OneHot" => 1,
                _ => continue,
            };
            let shape = node
                .inputs
                .get(position)
                .and_then(|name| self.shapes.get(name));
            let elements = shape
                .into_iter()
                .flatten()
                .map(|&value| value.unsigned_abs().max(1))
                .try_fold(1_u64, u64::checked_mul);
            if elements.is_none_or(|elements| elements > REPEATED) {
                let tensor = node.outputs.first().copied().unwrap_or_default().to_owned();
                let problem = format!(
                    "{} would make more than {REPEATED} elements of it",
                    node.operator
                );
                return Err(GraphError::Tensor {
                    file: file.to_owned(),
                    tensor,
                    problem,
                });
            }
        }
        Ok(())
    }
}

fn sparse(file: &str) -> GraphError {
    GraphError::Unsupported {
        file: file.to_owned(),
        what: vec!["sparse tensors".to_owned()],
    }
}

#[derive(Default)]
struct Tensor<'a> {
    name: &'a str,
    dims: Vec<i64>,
    /// Of a small tensor of 64-bit whole numbers.
    values: Option<Vec<i64>>,
}

#[cfg(test)]
mod tests;

//! Weights of bytes, converted when a graph is loaded.
//!
//! What depends on no input, rten computes once and keeps, and it keeps the bytes that it was computed from as well. Where the numbers take their place in the
//! file, only they are kept. Each goes through the same steps in the same precision, so the values are the same to the bit.

use std::collections::{BTreeMap, BTreeSet};

use super::error::GraphError;
use super::graph_file::{GraphFile, Node};
use super::initializers::{FLOAT, INT8, UINT8, initializers};
use super::wire::{Fields, Malformed, Value, text};
use crate::protobuf::{put_bytes, put_length, put_number};

/// Nodes between a tensor and its numbers that are followed.
const STEPS: usize = 4;
/// The most bytes of a field's key and length.
const KEY: usize = 20;

/// The same graph with the numbers of its weights in the place of their bytes; `None` if there are none. `graph` is what was read of `content`.
///
/// # Errors
/// [`GraphError::Damaged`].
pub(super) fn widened(
    file: &str,
    content: &[u8],
    graph: &GraphFile<'_>,
) -> Result<Option<Vec<u8>>, GraphError> {
    // Graphs of operators take values by name without listing them.
    if graph.nested {
        return Ok(None);
    }
    let change = || {
        let tensors = tensors(content)?;
        let weights = weights(graph, &tensors)?;
        match weights.is_empty() {
            true => Ok(None),
            false => rewritten(content, &weights).map(Some),
        }
    };
    change().map_err(|Malformed| GraphError::Damaged {
        file: file.to_owned(),
    })
}

/// A constant whose data are bytes of the file.
struct Tensor<'a> {
    element: u64,
    dims: Vec<usize>,
    data: &'a [u8],
}

/// A tensor of bytes, and what makes numbers of it.
struct Weight<'a> {
    name: &'a str,
    tensor: &'a Tensor<'a>,
    steps: Vec<Step>,
    nodes: Vec<usize>,
    /// The name of the result.
    output: &'a str,
}

/// What a node does to every number.
enum Step {
    /// A byte becomes a number.
    Widened,
    /// A byte, less the zero point, times the scale.
    Dequantized { scale: f32, zero: i32 },
    /// Times one number for each place along a dimension, with so many numbers in a row; one number for all has all of them in a row.
    Scaled { factors: Vec<f32>, row: usize },
}

/// The constants whose sizes were compared with their data when the graph was read.
fn tensors(content: &[u8]) -> Result<BTreeMap<&str, Tensor<'_>>, Malformed> {
    let mut tensors = BTreeMap::new();
    for found in initializers(content)? {
        let dims = found.dims.into_iter().map(usize::try_from);
        let dims: Option<Vec<usize>> = dims.collect::<Result<_, _>>().ok();
        if let (Some(dims), Some(data), element @ (FLOAT | UINT8 | INT8)) =
            (dims, found.data, found.element)
        {
            let tensor = Tensor {
                element,
                dims,
                data,
            };
            tensors.insert(found.name, tensor);
        }
    }
    Ok(tensors)
}

fn weights<'a>(
    graph: &GraphFile<'a>,
    tensors: &'a BTreeMap<&'a str, Tensor<'a>>,
) -> Result<Vec<Weight<'a>>, Malformed> {
    let mut consumers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (position, node) in graph.nodes.iter().enumerate() {
        for input in &node.inputs {
            consumers.entry(input).or_default().push(position);
        }
    }
    let outputs: BTreeSet<&str> = graph
        .outputs
        .iter()
        .map(|value| value.name.as_str())
        .collect();
    // The one node that takes a value, if nothing else does.
    let only = |name: &str| match consumers.get(name).map(Vec::as_slice) {
        Some(&[position]) if !outputs.contains(name) => Some(position),
        _ => None,
    };
    let mut found = Vec::new();
    for (&name, tensor) in tensors {
        if tensor.element == FLOAT || tensor.dims.len() < 2 || tensor.data.is_empty() {
            continue;
        }
        let (mut current, mut nodes, mut steps) = (name, Vec::new(), Vec::new());
        while let Some(position) = only(current).filter(|_| nodes.len() < STEPS) {
            let node = &graph.nodes[position];
            let &[output] = node.outputs.as_slice() else {
                break;
            };
            let step = match steps.is_empty() {
                true => first_step(node, name, tensor, tensors)?,
                false => scaled(node, current, tensor, tensors),
            };
            let Some(step) = step else {
                break;
            };
            steps.push(step);
            nodes.push(position);
            current = output;
        }
        if !steps.is_empty() && !outputs.contains(current) {
            found.push(Weight {
                name,
                tensor,
                steps,
                nodes,
                output: current,
            });
        }
    }
    Ok(found)
}

impl Tensor<'_> {
    /// A byte as the whole number that it stands for.
    fn whole(&self, byte: u8) -> i32 {
        match self.element == INT8 {
            true => i32::from(byte as i8),
            false => i32::from(byte),
        }
    }
}

impl Weight<'_> {
    fn values(&self) -> Vec<f32> {
        let whole = |&byte: &u8| self.tensor.whole(byte);
        let bytes = self.tensor.data.iter();
        let mut values: Vec<f32> = match self.steps[0] {
            Step::Dequantized { scale, zero } => bytes
                .map(|byte| (whole(byte) - zero) as f32 * scale)
                .collect(),
            _ => bytes.map(|byte| whole(byte) as f32).collect(),
        };
        for step in &self.steps {
            if let Step::Scaled { factors, row } = step {
                let rows = values.chunks_mut(*row);
                for (row, factor) in rows.zip(factors.iter().cycle()) {
                    row.iter_mut().for_each(|value| *value *= factor);
                }
            }
        }
        values
    }

    /// The new constant, but for its numbers.
    fn head(&self) -> Vec<u8> {
        let mut message = Vec::new();
        for &dim in &self.tensor.dims {
            put_number(&mut message, 1, dim as u64);
        }
        put_number(&mut message, 2, FLOAT);
        put_bytes(&mut message, 8, self.output.as_bytes());
        put_length(&mut message, 9, 4 * self.tensor.data.len());
        message
    }
}

/// What the first node makes of a tensor of bytes; `None` if that is something else than one number of each byte.
fn first_step(
    node: &Node<'_>,
    name: &str,
    tensor: &Tensor<'_>,
    tensors: &BTreeMap<&str, Tensor<'_>>,
) -> Result<Option<Step>, Malformed> {
    let attributes = node.attributes()?;
    match (node.operator.as_str(), node.inputs.as_slice()) {
        ("Cast", [_]) if attributes == [("to", FLOAT)] => Ok(Some(Step::Widened)),
        // One scale for all of them.
        ("DequantizeLinear", [of, scale, rest @ ..]) if *of == name && attributes.is_empty() => {
            let Some(&[scale]) = floats(tensors.get(scale)).as_deref() else {
                return Ok(None);
            };
            let zero = match rest {
                [] | [""] => 0,
                [zero] => match tensors.get(zero) {
                    Some(zero) if zero.element == tensor.element && zero.data.len() == 1 => {
                        tensor.whole(zero.data[0])
                    }
                    _ => return Ok(None),
                },
                _ => return Ok(None),
            };
            Ok(Some(Step::Dequantized { scale, zero }))
        }
        _ => Ok(None),
    }
}

/// A product with a constant: one number, or one for each place along one dimension; `None` if a node does something else.
fn scaled(
    node: &Node<'_>,
    current: &str,
    tensor: &Tensor<'_>,
    tensors: &BTreeMap<&str, Tensor<'_>>,
) -> Option<Step> {
    let ("Mul", &[a, b]) = (node.operator.as_str(), node.inputs.as_slice()) else {
        return None;
    };
    let factor = if a == current { b } else { a };
    let factor = tensors.get(factor).filter(|_| a != b)?;
    let factors = floats(Some(factor))?;
    let added = tensor.dims.len().checked_sub(factor.dims.len())?;
    let mut along = None;
    for (dim, (&length, &of)) in tensor.dims[added..].iter().zip(&factor.dims).enumerate() {
        match of {
            1 => {}
            of if of == length && along.is_none() => along = Some(added + dim),
            _ => return None,
        }
    }
    let row = match along {
        None => tensor.data.len(),
        Some(dim) => tensor.dims[dim + 1..].iter().product(),
    };
    Some(Step::Scaled { factors, row })
}

/// The numbers of a tensor that has some.
fn floats(tensor: Option<&Tensor<'_>>) -> Option<Vec<f32>> {
    let tensor = tensor.filter(|tensor| tensor.element == FLOAT && !tensor.data.is_empty())?;
    let values = tensor.data.as_chunks().0.iter();
    Some(values.map(|&value| f32::from_le_bytes(value)).collect())
}

/// The file with the weights' numbers, without their bytes, the nodes in between, and what is declared of the values. Beside the result there are the numbers
/// of one weight at a time.
fn rewritten(content: &[u8], weights: &[Weight<'_>]) -> Result<Vec<u8>, Malformed> {
    let heads: Vec<Vec<u8>> = weights.iter().map(Weight::head).collect();
    let lengths = || {
        let sizes = weights.iter().zip(&heads);
        sizes.map(|(weight, head)| head.len() + 4 * weight.tensor.data.len())
    };
    let added = lengths().map(|length| length + KEY).sum::<usize>();
    let mut model = Vec::with_capacity(content.len() + added + KEY);
    let mut fields = Fields::of(content);
    while let Some(field) = fields.next_whole() {
        let (number, value, whole) = field?;
        let (7, Value::Bytes(message)) = (number, value) else {
            model.extend_from_slice(whole);
            continue;
        };
        let kept = kept(message, weights)?;
        let mut places = Vec::new();
        for length in lengths() {
            put_length(&mut places, 5, length);
        }
        let length = kept.iter().map(|field| field.len()).sum::<usize>();
        put_length(
            &mut model,
            7,
            length + places.len() + lengths().sum::<usize>(),
        );
        for field in kept {
            model.extend_from_slice(field);
        }
        for ((weight, head), length) in weights.iter().zip(&heads).zip(lengths()) {
            put_length(&mut model, 5, length);
            model.extend_from_slice(head);
            for value in weight.values() {
                model.extend_from_slice(&value.to_le_bytes());
            }
        }
    }
    Ok(model)
}

/// The fields of a graph that stay.
fn kept<'a>(message: &'a [u8], weights: &[Weight<'_>]) -> Result<Vec<&'a [u8]>, Malformed> {
    let bytes: BTreeSet<&str> = weights.iter().map(|weight| weight.name).collect();
    let outputs: BTreeSet<&str> = weights.iter().map(|weight| weight.output).collect();
    let nodes = weights.iter().flat_map(|weight| &weight.nodes);
    let nodes: BTreeSet<usize> = nodes.copied().collect();
    let (mut kept, mut fields, mut position) = (Vec::new(), Fields::of(message), 0);
    while let Some(field) = fields.next_whole() {
        let (number, value, whole) = field?;
        let gone = match (number, value) {
            (1, _) => {
                position += 1;
                nodes.contains(&(position - 1))
            }
            // A tensor's name is its field 8, that of a declared value its field 1.
            (5, Value::Bytes(tensor)) => bytes.contains(name(tensor, 8)?),
            (13, Value::Bytes(declared)) => outputs.contains(name(declared, 1)?),
            _ => false,
        };
        if !gone {
            kept.push(whole);
        }
    }
    Ok(kept)
}

/// The text of a field; empty if there is none.
fn name(message: &[u8], field: u64) -> Result<&str, Malformed> {
    for found in Fields::of(message) {
        let (number, value) = found?;
        if number == field {
            return text(value);
        }
    }
    Ok("")
}

#[cfg(test)]
mod tests;

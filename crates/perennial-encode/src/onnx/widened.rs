//! Weights of bytes, converted when a graph is loaded.
//!
//! What depends on no input, rten computes once and keeps, and it keeps the bytes that it was computed from as well. Where the numbers take their place in the
//! file, only they are kept. Each goes through the same steps in the same precision, so the values are the same to the bit.

use std::collections::{BTreeMap, BTreeSet};

use super::error::GraphError;
use super::graph_file::{GraphFile, Node};
use super::initializers::{FLOAT, INT8, UINT8, initializers};
use super::wire::{Fields, Malformed, Value, text};
use crate::protobuf::{put_bytes, put_number};

/// Nodes between a tensor and its numbers that are followed.
const STEPS: usize = 4;

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

/// Numbers, and the nodes that made them of a tensor of bytes.
struct Weight<'a> {
    tensor: &'a str,
    nodes: Vec<usize>,
    /// The name of the result.
    output: &'a str,
    dims: Vec<usize>,
    values: Vec<f32>,
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
    tensors: &BTreeMap<&'a str, Tensor<'a>>,
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
        let mut numbers: Option<Vec<f32>> = None;
        let (mut current, mut nodes) = (name, Vec::new());
        while let Some(position) = only(current).filter(|_| nodes.len() < STEPS) {
            let node = &graph.nodes[position];
            let &[output] = node.outputs.as_slice() else {
                break;
            };
            match &mut numbers {
                None => match first_step(node, name, tensor, tensors)? {
                    Some(first) => numbers = Some(first),
                    None => break,
                },
                Some(values) => {
                    if !scaled(node, current, tensor, tensors, values) {
                        break;
                    }
                }
            }
            nodes.push(position);
            current = output;
        }
        if let Some(values) = numbers.filter(|_| !outputs.contains(current)) {
            found.push(Weight {
                tensor: name,
                nodes,
                output: current,
                dims: tensor.dims.clone(),
                values,
            });
        }
    }
    Ok(found)
}

/// What the first node makes of a tensor of bytes; `None` if that is something else than one number of each byte.
fn first_step(
    node: &Node<'_>,
    name: &str,
    tensor: &Tensor<'_>,
    tensors: &BTreeMap<&str, Tensor<'_>>,
) -> Result<Option<Vec<f32>>, Malformed> {
    let signed = tensor.element == INT8;
    let number = move |byte: u8| match signed {
        true => i32::from(byte as i8),
        false => i32::from(byte),
    };
    let attributes = node.attributes()?;
    match (node.operator.as_str(), node.inputs.as_slice()) {
        ("Cast", [_]) if attributes == [("to", FLOAT)] => {
            let values = tensor.data.iter();
            Ok(Some(values.map(|&byte| number(byte) as f32).collect()))
        }
        // One scale for all of them.
        ("DequantizeLinear", [of, scale, rest @ ..]) if *of == name && attributes.is_empty() => {
            let Some(&[scale]) = floats(tensors.get(scale)).as_deref() else {
                return Ok(None);
            };
            let zero = match rest {
                [] | [""] => 0,
                [zero] => match tensors.get(zero) {
                    Some(zero) if zero.element == tensor.element && zero.data.len() == 1 => {
                        number(zero.data[0])
                    }
                    _ => return Ok(None),
                },
                _ => return Ok(None),
            };
            let values = tensor.data.iter();
            Ok(Some(
                values
                    .map(|&byte| (number(byte) - zero) as f32 * scale)
                    .collect(),
            ))
        }
        _ => Ok(None),
    }
}

/// Multiplies numbers by a constant that a node multiplies them by, if the node does that: one number, or one for each place along one dimension.
fn scaled(
    node: &Node<'_>,
    current: &str,
    tensor: &Tensor<'_>,
    tensors: &BTreeMap<&str, Tensor<'_>>,
    values: &mut [f32],
) -> bool {
    let ("Mul", &[a, b]) = (node.operator.as_str(), node.inputs.as_slice()) else {
        return false;
    };
    let factor = if a == current { b } else { a };
    let Some(factor) = tensors.get(factor).filter(|_| a != b) else {
        return false;
    };
    let (Some(factors), Some(added)) = (
        floats(Some(factor)),
        tensor.dims.len().checked_sub(factor.dims.len()),
    ) else {
        return false;
    };
    let mut along = None;
    for (dim, (&length, &of)) in tensor.dims[added..].iter().zip(&factor.dims).enumerate() {
        match of {
            1 => {}
            of if of == length && along.is_none() => along = Some(added + dim),
            _ => return false,
        }
    }
    match along {
        None => values.iter_mut().for_each(|value| *value *= factors[0]),
        Some(dim) => {
            let inner: usize = tensor.dims[dim + 1..].iter().product();
            let places = values.chunks_mut(inner);
            for (place, factor) in places.zip(factors.iter().cycle()) {
                place.iter_mut().for_each(|value| *value *= factor);
            }
        }
    }
    true
}

/// The numbers of a tensor that has some.
fn floats(tensor: Option<&Tensor<'_>>) -> Option<Vec<f32>> {
    let tensor = tensor.filter(|tensor| tensor.element == FLOAT && !tensor.data.is_empty())?;
    let values = tensor.data.as_chunks().0.iter();
    Some(values.map(|&value| f32::from_le_bytes(value)).collect())
}

/// The file with the weights' numbers, without their bytes, the nodes in between, and what is declared of the values.
fn rewritten(content: &[u8], weights: &[Weight<'_>]) -> Result<Vec<u8>, Malformed> {
    let bytes: BTreeSet<&str> = weights.iter().map(|weight| weight.tensor).collect();
    let outputs: BTreeSet<&str> = weights.iter().map(|weight| weight.output).collect();
    let nodes: BTreeSet<usize> = weights
        .iter()
        .flat_map(|weight| &weight.nodes)
        .copied()
        .collect();
    let mut model = Vec::new();
    let mut fields = Fields::of(content);
    while let Some(field) = fields.next_whole() {
        let (number, value, whole) = field?;
        let (7, Value::Bytes(message)) = (number, value) else {
            model.extend_from_slice(whole);
            continue;
        };
        let (mut body, mut fields, mut position) = (Vec::new(), Fields::of(message), 0);
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
                body.extend_from_slice(whole);
            }
        }
        for weight in weights {
            put_bytes(&mut body, 5, &initializer(weight));
        }
        put_bytes(&mut model, 7, &body);
    }
    Ok(model)
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

fn initializer(weight: &Weight<'_>) -> Vec<u8> {
    let mut message = Vec::with_capacity(4 * weight.values.len() + 256);
    for &dim in &weight.dims {
        put_number(&mut message, 1, dim as u64);
    }
    put_number(&mut message, 2, FLOAT);
    put_bytes(&mut message, 8, weight.output.as_bytes());
    let data: Vec<u8> = weight
        .values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    put_bytes(&mut message, 9, &data);
    message
}

#[cfg(test)]
mod tests;

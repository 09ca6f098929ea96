//! How large the results of operators become that depend on nothing but constants: a runtime computes them as it loads a file, however short
//! that is.

use std::collections::BTreeMap;

use super::{GraphFile, Node};
use crate::onnx::error::GraphError;
use crate::onnx::limits::{FOLDED, SHAPE};

/// Walks over the nodes, each of which finds what the one before has left open; files list them in the order of their use, so one suffices.
const WALKS: usize = 8;

/// What is known about a constant.
#[derive(Debug, Clone)]
struct Known {
    dims: Vec<u64>,
    /// Of a small one of whole numbers.
    values: Option<Vec<i64>>,
}

impl Known {
    fn elements(&self) -> u64 {
        self.dims
            .iter()
            .fold(1, |product, &dim| product.saturating_mul(dim))
    }
}

impl GraphFile<'_> {
    /// Refuses a result of constants with more than [`FOLDED`] elements, or twice as many as the file's own tensors have together, as far as
    /// operators are known here.
    pub(super) fn check_constants(&self, file: &str) -> Result<(), GraphError> {
        let mut known: BTreeMap<&str, Known> = BTreeMap::new();
        for (name, dims) in &self.tensors {
            let dims = dims.iter().map(|dim| dim.unsigned_abs()).collect();
            let values = self.shapes.get(name).cloned();
            known.insert(*name, Known { dims, values });
        }
        for (name, values) in &self.shapes {
            known.entry(*name).or_insert_with(|| Known {
                dims: vec![values.len() as u64],
                values: Some(values.clone()),
            });
        }
        let own = known.values().map(Known::elements);
        let most = own
            .fold(0, u64::saturating_add)
            .saturating_mul(2)
            .max(FOLDED);
        for _ in 0..WALKS {
            let before = known.len();
            for node in &self.nodes {
                let Some(output) = node.outputs.first() else {
                    continue;
                };
                if known.contains_key(output) {
                    continue;
                }
                let Some(result) = result(node, &known) else {
                    continue;
                };
                if result.elements() > most {
                    return Err(GraphError::Tensor {
                        file: file.to_owned(),
                        tensor: (*output).to_owned(),
                        problem: format!(
                            "{} would make {} elements of constants, and {most} are allowed",
                            node.operator,
                            result.elements()
                        ),
                    });
                }
                known.insert(*output, result);
            }
            if known.len() == before {
                break;
            }
        }
        Ok(())
    }
}

fn result(node: &Node<'_>, known: &BTreeMap<&str, Known>) -> Option<Known> {
    let input = |place: usize| known.get(node.inputs.get(place)?);
    let numbers = |place: usize| input(place)?.values.as_deref();
    let sizes = |place: usize| -> Option<Vec<u64>> {
        let numbers = numbers(place)?.iter();
        Some(
            numbers
                .map(|&size| u64::try_from(size).unwrap_or(0))
                .collect(),
        )
    };
    let dims = |dims: Vec<u64>| Some(Known { dims, values: None });
    match node.operator.as_str() {
        "Identity" | "Cast" => input(0).cloned(),
        "Neg" | "Abs" | "Exp" | "Sqrt" | "Relu" | "Not" | "Sigmoid" | "Tanh" | "Erf" | "Floor"
        | "Ceil" | "Round" | "Reciprocal" | "Log" | "Cos" | "Sin" | "Softmax" => {
            dims(input(0)?.dims.clone())
        }
        "Shape" => {
            let values: Vec<i64> = input(0)?.dims.iter().map(|&dim| dim as i64).collect();
            Some(Known {
                dims: vec![values.len() as u64],
                values: Some(values),
            })
        }
        "ConstantOfShape" => dims(sizes(0)?),
        "Expand" => dims(broadcast(&input(0)?.dims, &sizes(1)?)),
        "Tile" => {
            let repeats = sizes(1)?;
            let tiled = input(0)?.dims.iter().zip(&repeats);
            dims(
                tiled
                    .map(|(&dim, &times)| dim.saturating_mul(times))
                    .collect(),
            )
        }
        "OneHot" => {
            let mut hot = input(0)?.dims.clone();
            hot.push(*sizes(1)?.first()?);
            dims(hot)
        }
        "Range" => {
            let first = |place: usize| numbers(place)?.first().copied();
            let (start, limit, step) = (first(0)?, first(1)?, first(2)?);
            let count = i128::from(limit) - i128::from(start);
            let count = count.checked_div(step.into())?.max(0) + 1;
            dims(vec![u64::try_from(count).unwrap_or(u64::MAX)])
        }
        "Pad" => {
            let pads = numbers(1)?;
            let before = &input(0)?.dims;
            let after = pads.get(before.len()..)?;
            let padded = before.iter().zip(pads).zip(after);
            dims(
                padded
                    .map(|((&dim, &first), &last)| {
                        let more = i128::from(first) + i128::from(last) + i128::from(dim);
                        u64::try_from(more.max(0)).unwrap_or(u64::MAX)
                    })
                    .collect(),
            )
        }
        "Resize" => dims(sizes(3)?),
        "MatMul" => {
            let (a, b) = (&input(0)?.dims, &input(1)?.dims);
            let ([left @ .., rows, _], [right @ .., _, columns]) = (a.as_slice(), b.as_slice())
            else {
                return None;
            };
            let mut product = broadcast(left, right);
            product.extend([rows, columns]);
            dims(product)
        }
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Min" | "Max" | "Mod" | "Equal" | "Greater"
        | "Less" | "GreaterOrEqual" | "LessOrEqual" | "And" | "Or" | "Xor" | "Where" | "PRelu" => {
            let mut all = Vec::new();
            for place in 0..node.inputs.len() {
                all = broadcast(&all, &input(place)?.dims);
            }
            let values = combined(&node.operator, numbers(0), numbers(1));
            Some(Known { dims: all, values })
        }
        "Concat" => {
            let parts: Vec<&Known> = (0..node.inputs.len()).map(input).collect::<Option<_>>()?;
            let axis = axis(node)?;
            let mut joined = parts.first()?.dims.clone();
            let at = if axis < 0 {
                axis + joined.len() as i64
            } else {
                axis
            };
            let at = usize::try_from(at).ok()?;
            *joined.get_mut(at)? = parts.iter().try_fold(0_u64, |sum, part| {
                Some(sum.saturating_add(*part.dims.get(at)?))
            })?;
            let values: Option<Vec<i64>> = parts
                .iter()
                .map(|part| part.values.as_deref())
                .collect::<Option<Vec<_>>>()
                .map(|values| values.concat())
                .filter(|values| joined.len() == 1 && values.len() as u64 <= SHAPE);
            Some(Known {
                dims: joined,
                values,
            })
        }
        // A number that becomes a list of one.
        "Unsqueeze" if input(0)?.dims.is_empty() => Some(Known {
            dims: vec![1],
            values: input(0)?.values.clone(),
        }),
        _ => None,
    }
}

fn axis(node: &Node<'_>) -> Option<i64> {
    let attributes = node.attributes().ok()?;
    let (_, axis) = attributes.into_iter().find(|(name, _)| *name == "axis")?;
    Some(axis as i64)
}

/// The dimensions of two tensors that are brought to one shape; where they do not fit, the larger ones.
fn broadcast(a: &[u64], b: &[u64]) -> Vec<u64> {
    let rank = a.len().max(b.len());
    let at = |dims: &[u64], place: usize| {
        let missing = rank - dims.len();
        place.checked_sub(missing).map_or(1, |place| dims[place])
    };
    (0..rank)
        .map(|place| match (at(a, place), at(b, place)) {
            (0, _) | (_, 0) => 0,
            (one, other) => one.max(other),
        })
        .collect()
}

/// The values of a sum, a difference or a product of whole numbers.
fn combined(operator: &str, a: Option<&[i64]>, b: Option<&[i64]>) -> Option<Vec<i64>> {
    let (a, b) = (a?, b?);
    let both = |a: i64, b: i64| match operator {
        "Add" => a.checked_add(b),
        "Sub" => a.checked_sub(b),
        "Mul" => a.checked_mul(b),
        _ => None,
    };
    match (a, b) {
        ([one], _) => b.iter().map(|&other| both(*one, other)).collect(),
        (_, [one]) => a.iter().map(|&other| both(other, *one)).collect(),
        _ if a.len() == b.len() => a.iter().zip(b).map(|(&a, &b)| both(a, b)).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::GraphFile;
    use crate::protobuf::{put_bytes, put_number};

    fn numbers(name: &str, values: &[i64]) -> Vec<u8> {
        let mut tensor = Vec::new();
        put_number(&mut tensor, 1, values.len() as u64);
        put_number(&mut tensor, 2, 7);
        put_bytes(&mut tensor, 8, name.as_bytes());
        let raw: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        put_bytes(&mut tensor, 9, &raw);
        tensor
    }

    fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
        let mut node = Vec::new();
        for input in inputs {
            put_bytes(&mut node, 1, input.as_bytes());
        }
        put_bytes(&mut node, 2, output.as_bytes());
        put_bytes(&mut node, 4, operator.as_bytes());
        if operator == "Concat" {
            let mut axis = Vec::new();
            put_bytes(&mut axis, 1, b"axis");
            put_number(&mut axis, 3, 0);
            put_bytes(&mut node, 5, &axis);
        }
        node
    }

    /// What is said about a graph of these nodes, whose constants are lists of whole numbers.
    fn said(constants: &[(&str, &[i64])], nodes: &[Vec<u8>]) -> Result<(), String> {
        let (mut graph, mut opset, mut file) = (Vec::new(), Vec::new(), Vec::new());
        for node in nodes {
            put_bytes(&mut graph, 1, node);
        }
        for (name, values) in constants {
            put_bytes(&mut graph, 5, &numbers(name, values));
        }
        put_number(&mut opset, 2, 17);
        put_bytes(&mut file, 7, &graph);
        put_bytes(&mut file, 8, &opset);
        let read = GraphFile::read("a.onnx", &file);
        read.map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn results_of_constants_are_bounded() {
        let side: &[i64] = &[1 << 14];
        let square = node("Concat", &["side", "side"], "shape");
        for (nodes, operator) in [
            (
                vec![square.clone(), node("ConstantOfShape", &["shape"], "c")],
                "ConstantOfShape",
            ),
            (
                vec![
                    node("Mul", &["side", "side"], "shape"),
                    node("Expand", &["one", "shape"], "c"),
                ],
                "Expand",
            ),
            (
                vec![
                    node("Tile", &["one", "side"], "a"),
                    node("Tile", &["a", "side"], "c"),
                ],
                "Tile",
            ),
            (vec![node("Range", &["one", "far", "one"], "c")], "Range"),
            (vec![node("Pad", &["one", "pads"], "c")], "Pad"),
            // In an order in which no walk over the nodes would do.
            (
                vec![node("ConstantOfShape", &["shape"], "c"), square.clone()],
                "ConstantOfShape",
            ),
        ] {
            let constants: [(&str, &[i64]); 4] = [
                ("side", side),
                ("one", &[1]),
                ("far", &[1 << 40]),
                ("pads", &[0, i64::MAX]),
            ];
            let text = said(&constants, &nodes).unwrap_err();
            assert!(
                text.contains(operator) && text.contains("tensor c"),
                "{text}"
            );
        }
        let small: [(&str, &[i64]); 1] = [("side", &[1 << 13])];
        assert_eq!(
            said(&small, &[square, node("ConstantOfShape", &["shape"], "c")]),
            Ok(())
        );
    }
}

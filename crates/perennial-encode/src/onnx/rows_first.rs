//! Tables of bytes, whose rows are looked up before their numbers are converted.
//!
//! A graph with int8 weights widens a whole table of token vectors to f32 and looks up a few rows of the result. What depends on no input, a runtime
//! computes when it loads the graph, and keeps: four bytes for each number of the table. Where rows are looked up first, the same numbers go
//! through the same steps, so the values are the same to the bit, and the table stays as it is in the file.

use std::collections::{BTreeMap, BTreeSet};

use super::error::GraphError;
use super::graph_file::{GraphFile, Node};
use super::initializers::{INT8, UINT8, initializers};
use super::wire::{Fields, Malformed, Value};
use crate::protobuf::put_bytes;

/// Steps between a table and its look-up that are followed.
const STEPS: usize = 4;

/// The same graph with every look-up in front of the conversion of its table; `None` if there is nothing to change. `graph` is what was
/// read of `content`.
///
/// # Errors
/// [`GraphError::Damaged`].
pub(super) fn rows_first(
    file: &str,
    content: &[u8],
    graph: &GraphFile<'_>,
) -> Result<Option<Vec<u8>>, GraphError> {
    let damaged = |_| GraphError::Damaged {
        file: file.to_owned(),
    };
    let lookups = lookups(content, graph).map_err(damaged)?;
    if lookups.is_empty() {
        return Ok(None);
    }
    rewritten(content, graph, &lookups)
        .map(Some)
        .map_err(damaged)
}

/// A look-up, and how its table comes from the file.
struct Lookup<'a> {
    /// Position of the look-up's node.
    node: usize,
    table: &'a str,
    /// From the table to the look-up.
    steps: Vec<Step>,
}

/// A node that converts every element of a table for itself.
struct Step {
    /// Position of the node.
    node: usize,
    /// Which of its inputs the table is.
    table: usize,
    /// Its inputs of one value for each row.
    by_row: Vec<usize>,
}

fn lookups<'a>(content: &'a [u8], graph: &GraphFile<'a>) -> Result<Vec<Lookup<'a>>, Malformed> {
    // Graphs of operators take values by name without listing them.
    if graph.nested {
        return Ok(Vec::new());
    }
    let tables = tables(content)?;
    let (mut producers, mut uses) = (BTreeMap::new(), BTreeMap::<&str, usize>::new());
    for (position, node) in graph.nodes.iter().enumerate() {
        for output in &node.outputs {
            producers.insert(*output, position);
        }
        for input in &node.inputs {
            *uses.entry(input).or_default() += 1;
        }
    }
    for output in &graph.outputs {
        *uses.entry(&output.name).or_default() += 1;
    }
    let mut found = Vec::new();
    for (position, node) in graph.nodes.iter().enumerate() {
        let &[converted, _] = node.inputs.as_slice() else {
            continue;
        };
        if node.operator != "Gather" || node.outputs.len() != 1 || axis(node)? != 0 {
            continue;
        }
        let (mut name, mut steps) = (converted, Vec::new());
        while !tables.contains_key(name) && uses.get(name) == Some(&1) && steps.len() < STEPS {
            let Some(&position) = producers.get(name) else {
                break;
            };
            let Some((table, step)) = step(graph, &tables, position) else {
                break;
            };
            steps.push(step);
            name = table;
        }
        let Some((&table, &[rows, _])) = tables.get_key_value(name) else {
            continue;
        };
        steps.reverse();
        if !steps.is_empty() && steps.iter_mut().all(|step| fits(graph, step, rows)) {
            found.push(Lookup {
                node: position,
                table,
                steps,
            });
        }
    }
    Ok(found)
}

/// The dimension along which a node looks up.
fn axis(node: &Node<'_>) -> Result<u64, Malformed> {
    let attributes = node.attributes()?;
    let mut axes = attributes.iter().filter(|(name, _)| *name == "axis");
    Ok(axes.next().map_or(0, |&(_, axis)| axis))
}

/// Tables of bytes with their rows and columns, by name. A row of one number could not be told from a number for each row.
fn tables(content: &[u8]) -> Result<BTreeMap<&str, [i64; 2]>, Malformed> {
    let mut tables = BTreeMap::new();
    for tensor in initializers(content)? {
        if let &[rows, columns] = tensor.dims.as_slice()
            && [UINT8, INT8].contains(&tensor.element)
            && rows > 1
            && columns > 1
        {
            tables.insert(tensor.name, [rows, columns]);
        }
    }
    Ok(tables)
}

/// The node as a step, and the name of what it converts; `None` if it may do something else than convert every element for itself.
fn step<'a>(
    graph: &GraphFile<'a>,
    tables: &BTreeMap<&str, [i64; 2]>,
    position: usize,
) -> Option<(&'a str, Step)> {
    let node = &graph.nodes[position];
    let &[_] = node.outputs.as_slice() else {
        return None;
    };
    let table = match (node.operator.as_str(), node.inputs.as_slice()) {
        ("Cast", [_]) | ("DequantizeLinear", [_, _] | [_, _, _]) => 0,
        ("Add" | "Div" | "Mul" | "Sub", [a, b]) => {
            let constant =
                |name: &str| graph.tensors.contains_key(name) && !tables.contains_key(name);
            match (constant(a), constant(b)) {
                (false, true) => 0,
                (true, false) => 1,
                _ => return None,
            }
        }
        _ => return None,
    };
    let step = Step {
        node: position,
        table,
        by_row: Vec::new(),
    };
    Some((node.inputs[table], step))
}

/// Whether the step does the same to rows that were looked up; notes which of its inputs must be looked up too.
fn fits(graph: &GraphFile<'_>, step: &mut Step, rows: i64) -> bool {
    let node = &graph.nodes[step.node];
    for (position, name) in node.inputs.iter().enumerate() {
        if position == step.table || name.is_empty() {
            continue;
        }
        match graph.tensors.get(name).map(Vec::as_slice) {
            // One number for all.
            Some([]) => {}
            _ if node.operator == "DequantizeLinear" => return false,
            // One for all, or one for each column.
            Some([_]) => {}
            Some(&[of, 1]) if of == rows => step.by_row.push(position),
            _ => return false,
        }
    }
    true
}

fn rewritten(
    content: &[u8],
    graph: &GraphFile<'_>,
    lookups: &[Lookup<'_>],
) -> Result<Vec<u8>, Malformed> {
    let names = Names::of(graph);
    let moved: BTreeSet<usize> = lookups
        .iter()
        .flat_map(|lookup| lookup.steps.iter().map(|step| step.node))
        .collect();
    let mut model = Vec::with_capacity(content.len() + 4096);
    let (mut position, mut fields) = (0, Fields::of(content));
    while let Some(field) = fields.next_whole() {
        let (number, value, whole) = field?;
        let (7, Value::Bytes(message)) = (number, value) else {
            model.extend_from_slice(whole);
            continue;
        };
        let (mut body, mut fields) = (Vec::new(), Fields::of(message));
        body.reserve_exact(message.len() + 4096);
        while let Some(field) = fields.next_whole() {
            let (number, _, whole) = field?;
            if number != 1 {
                body.extend_from_slice(whole);
                continue;
            }
            if let Some(lookup) = lookups.iter().find(|lookup| lookup.node == position) {
                for node in moved_behind(graph, lookup, &names)? {
                    put_bytes(&mut body, 1, &node);
                }
            } else if !moved.contains(&position) {
                body.extend_from_slice(whole);
            }
            position += 1;
        }
        put_bytes(&mut model, 7, &body);
    }
    Ok(model)
}

/// Names for values that the graph does not have yet.
struct Names<'a> {
    taken: BTreeSet<&'a str>,
}

impl<'a> Names<'a> {
    fn of(graph: &'a GraphFile<'_>) -> Self {
        let nodes = graph.nodes.iter();
        let ends = nodes.flat_map(|node| node.inputs.iter().chain(&node.outputs).copied());
        Self {
            taken: ends.chain(graph.tensors.keys().copied()).collect(),
        }
    }

    /// A name that begins with that of an output, which makes it one of its own.
    fn after(&self, output: &str, what: usize) -> String {
        let mut name = format!("{output}:row{what}");
        while self.taken.contains(name.as_str()) {
            name.push('_');
        }
        name
    }
}

/// The nodes of a look-up with its steps behind it.
fn moved_behind(
    graph: &GraphFile<'_>,
    lookup: &Lookup<'_>,
    names: &Names<'_>,
) -> Result<Vec<Vec<u8>>, Malformed> {
    let gather = &graph.nodes[lookup.node];
    let (ids, output) = (gather.inputs[1], gather.outputs[0]);
    let mut count = 0;
    let mut fresh = || {
        count += 1;
        names.after(output, count)
    };
    let (mut nodes, mut current) = (Vec::new(), fresh());
    nodes.push(with_ends(gather, &[lookup.table, ids], &current)?);
    for (position, step) in lookup.steps.iter().enumerate() {
        let node = &graph.nodes[step.node];
        let mut inputs: Vec<String> = node.inputs.iter().map(|&name| name.to_owned()).collect();
        inputs[step.table] = current;
        for &by_row in &step.by_row {
            let rows = fresh();
            nodes.push(with_ends(gather, &[node.inputs[by_row], ids], &rows)?);
            inputs[by_row] = rows;
        }
        current = match position + 1 == lookup.steps.len() {
            true => output.to_owned(),
            false => fresh(),
        };
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        nodes.push(with_ends(node, &inputs, &current)?);
    }
    Ok(nodes)
}

/// A node that does the same with other inputs and another output.
fn with_ends(node: &Node<'_>, inputs: &[&str], output: &str) -> Result<Vec<u8>, Malformed> {
    let mut message = Vec::new();
    for input in inputs {
        put_bytes(&mut message, 1, input.as_bytes());
    }
    put_bytes(&mut message, 2, output.as_bytes());
    let mut fields = Fields::of(node.message);
    while let Some(field) = fields.next_whole() {
        let (number, _, whole) = field?;
        // Without its name, which is not needed and would be there twice.
        if !(1..=3).contains(&number) {
            message.extend_from_slice(whole);
        }
    }
    Ok(message)
}

#[cfg(test)]
mod tests;

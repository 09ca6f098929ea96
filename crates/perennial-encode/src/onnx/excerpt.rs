//! The part of a graph that one output depends on, as a file of its own that holds all its data.
//!
//! A runtime that gets such a file needs no other one, so it never opens one by a name that a graph gives. What the format has beside graph and
//! opsets (settings for runtimes, functions, training) is left out.

use std::collections::{BTreeMap, BTreeSet};

use super::declared::element_size;
use super::error::GraphError;
use super::graph_file::GraphFile;
use super::wire::{self, Fields, Malformed, Value, bytes, text};
use crate::protobuf::{put_bytes, put_number};

/// The largest message of the format.
const LARGEST: usize = i32::MAX as usize;
/// The first version of the format in which tensors need not be inputs as well.
const TENSORS_ALONE: u64 = 4;

/// Writes the part of a graph that `output` depends on. `graph` is what was read of `content`, and `data` has the files beside it by name.
///
/// # Errors
/// [`GraphError::Tensor`] for data that lie beyond the end of their file; [`GraphError::Runtime`] for more than 2 GB.
pub(super) fn excerpt(
    file: &str,
    content: &[u8],
    graph: &GraphFile<'_>,
    data: &BTreeMap<String, Vec<u8>>,
    output: &str,
) -> Result<Vec<u8>, GraphError> {
    let writer = Writer {
        file,
        data,
        elsewhere: !graph.external.is_empty(),
    };
    let (mut version, mut opsets, mut body) = (TENSORS_ALONE, Vec::new(), Vec::new());
    // The outermost nodes, in the order of the file.
    let mut nodes = graph.nodes.iter();
    let reached = graph.reached(output);
    let kept = |names: &[&str]| {
        let reached = reached.as_ref();
        reached.is_none_or(|reached| names.iter().any(|name| reached.contains(name)))
    };
    let free: BTreeSet<&str> = graph
        .inputs
        .iter()
        .map(|input| input.name.as_str())
        .collect();
    let mut fields = Fields::of(content);
    while let Some(field) = fields.next_whole() {
        match writer.sound(field)? {
            (1, Value::Number(number), _) => version = number.max(TENSORS_ALONE),
            (7, Value::Bytes(message), _) => {
                let mut fields = Fields::of(message);
                while let Some(field) = fields.next_whole() {
                    let (field, value, whole) = writer.sound(field)?;
                    let keep = match field {
                        1 => nodes.next().is_some_and(|node| kept(&node.outputs)),
                        5 => kept(&[writer.sound(name(value, 8))?]),
                        11 => {
                            let name = writer.sound(name(value, 1))?;
                            // A tensor that is also an input would not be taken for a constant.
                            free.contains(name) && kept(&[name])
                        }
                        12 => writer.sound(name(value, 1))? == output,
                        2 => true,
                        _ => false,
                    };
                    if keep {
                        writer.part_of_graph(field, value, whole, &mut body)?;
                    }
                }
            }
            (8, _, whole) => opsets.extend_from_slice(whole),
            _ => {}
        }
    }
    let mut model = Vec::with_capacity(body.len() + opsets.len() + 32);
    put_number(&mut model, 1, version);
    put_bytes(&mut model, 7, &body);
    model.extend(opsets);
    writer.bounded(model.len())?;
    Ok(model)
}

/// The name in a message.
fn name(message: Value<'_>, field: u64) -> Result<&str, Malformed> {
    for found in Fields::of(bytes(message)?) {
        let (found, value) = found?;
        if found == field {
            return text(value);
        }
    }
    Ok("")
}

struct Writer<'a> {
    file: &'a str,
    data: &'a BTreeMap<String, Vec<u8>>,
    /// Whether data of any tensor lie in another file.
    elsewhere: bool,
}

impl Writer<'_> {
    fn sound<T>(&self, part: Result<T, Malformed>) -> Result<T, GraphError> {
        part.map_err(|_| GraphError::Damaged {
            file: self.file.to_owned(),
        })
    }

    fn bounded(&self, size: usize) -> Result<(), GraphError> {
        if size <= LARGEST {
            return Ok(());
        }
        Err(GraphError::Runtime {
            file: self.file.to_owned(),
            problem: "graph and data together have more than 2 GB, which onnxruntime does not take in one piece; run it by rten, without \
                      onnxruntime's library"
                .to_owned(),
        })
    }

    /// Appends a field of a graph.
    fn part_of_graph(
        &self,
        field: u64,
        value: Value<'_>,
        whole: &[u8],
        into: &mut Vec<u8>,
    ) -> Result<(), GraphError> {
        match field {
            1 if self.elsewhere => {
                self.message(1, value, into, |field, value, whole, into| match field {
                    5 => self.message(5, value, into, |field, value, whole, into| match field {
                        5 | 10 => self.tensor(field, value, into),
                        6 | 11 => self.message(field, value, into, |field, value, whole, into| {
                            self.part_of_graph(field, value, whole, into)
                        }),
                        _ => {
                            into.extend_from_slice(whole);
                            Ok(())
                        }
                    }),
                    _ => {
                        into.extend_from_slice(whole);
                        Ok(())
                    }
                })?;
            }
            5 if self.elsewhere => self.tensor(5, value, into)?,
            // As it is, since nothing in it names a file.
            _ => into.extend_from_slice(whole),
        }
        self.bounded(into.len())
    }

    /// Appends a message whose fields are appended by `part`.
    fn message(
        &self,
        field: u64,
        value: Value<'_>,
        into: &mut Vec<u8>,
        mut part: impl FnMut(u64, Value<'_>, &[u8], &mut Vec<u8>) -> Result<(), GraphError>,
    ) -> Result<(), GraphError> {
        let (mut fields, mut inner) = (Fields::of(self.sound(bytes(value))?), Vec::new());
        while let Some(found) = fields.next_whole() {
            let (field, value, whole) = self.sound(found)?;
            part(field, value, whole, &mut inner)?;
        }
        put_bytes(into, field, &inner);
        Ok(())
    }

    /// Appends a tensor, with its data if they lie elsewhere.
    fn tensor(&self, field: u64, value: Value<'_>, into: &mut Vec<u8>) -> Result<(), GraphError> {
        let message = self.sound(bytes(value))?;
        let external = self.sound(External::of(message))?;
        let (mut fields, mut inner) = (Fields::of(message), Vec::new());
        while let Some(found) = fields.next_whole() {
            let (field, _, whole) = self.sound(found)?;
            let replaced = match field {
                13 | 14 => true,
                9 => external.is_some(),
                _ => false,
            };
            if !replaced {
                inner.extend_from_slice(whole);
            }
        }
        if let Some(external) = external {
            let bytes = external.data(self.data).ok_or_else(|| GraphError::Tensor {
                file: self.file.to_owned(),
                tensor: external.tensor.to_owned(),
                problem: format!("its data are not all in {}", external.location),
            })?;
            self.bounded(into.len().saturating_add(bytes.len()))?;
            put_bytes(&mut inner, 9, bytes);
        }
        put_bytes(into, field, &inner);
        Ok(())
    }
}

/// Where the data of a tensor lie.
#[derive(Default)]
struct External<'a> {
    tensor: &'a str,
    location: &'a str,
    /// First byte. `None` for what is no number.
    offset: Option<usize>,
    /// Bytes. `None` for what is no number.
    length: Option<usize>,
}

impl<'a> External<'a> {
    /// `None` for a tensor that holds its data itself.
    fn of(tensor: &'a [u8]) -> Result<Option<Self>, Malformed> {
        let mut found = Self {
            offset: Some(0),
            ..Self::default()
        };
        let (mut external, mut element, mut dims, mut said) = (false, 0, Vec::new(), None);
        for field in Fields::of(tensor) {
            match field? {
                (1, value) => wire::numbers(value, &mut dims)?,
                (2, Value::Number(number)) => element = number,
                (8, value) => found.tensor = text(value)?,
                (13, value) => {
                    let (mut key, mut content) = ("", "");
                    for field in Fields::of(bytes(value)?) {
                        match field? {
                            (1, value) => key = text(value)?,
                            (2, value) => content = text(value)?,
                            _ => {}
                        }
                    }
                    match key {
                        "location" => found.location = content,
                        "offset" => found.offset = content.parse().ok(),
                        "length" => said = Some(content.parse().ok()),
                        _ => {}
                    }
                }
                (14, value) => external = value == Value::Number(1),
                _ => {}
            }
        }
        let elements = dims.iter().try_fold(1_usize, |product, &dim| {
            product.checked_mul(usize::try_from(dim).ok()?)
        });
        let size = element_size(element)
            .and_then(|size| elements?.checked_mul(usize::try_from(size).ok()?));
        found.length = match (said, size) {
            (Some(said), Some(size)) => said.filter(|said| *said == size),
            (Some(said), None) => said,
            (None, size) => size,
        };
        Ok(external.then_some(found))
    }

    /// The data; `None` if they are not all there.
    fn data<'b>(&self, files: &'b BTreeMap<String, Vec<u8>>) -> Option<&'b [u8]> {
        let end = self.offset?.checked_add(self.length?)?;
        files.get(self.location)?.get(self.offset?..end)
    }
}

#[cfg(test)]
mod tests;

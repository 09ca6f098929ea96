//! The constants of a graph's outermost level.

use super::wire::{Fields, Malformed, Value, numbers, text};

/// Element types, as the format numbers them.
pub(super) const FLOAT: u64 = 1;
pub(super) const UINT8: u64 = 2;
pub(super) const INT8: u64 = 3;

/// A constant. Its sizes were compared with its data when the graph was read.
pub(super) struct Initializer<'a> {
    pub name: &'a str,
    /// The type of its elements, as the format numbers them.
    pub element: u64,
    pub dims: Vec<i64>,
    /// Its elements as bytes of the file, if that is how they are kept.
    pub data: Option<&'a [u8]>,
}

/// All constants of a file's graph.
pub(super) fn initializers(content: &[u8]) -> Result<Vec<Initializer<'_>>, Malformed> {
    let mut found = Vec::new();
    for field in Fields::of(content) {
        let (7, Value::Bytes(graph)) = field? else {
            continue;
        };
        for field in Fields::of(graph) {
            let (5, Value::Bytes(message)) = field? else {
                continue;
            };
            let (mut name, mut element, mut dims, mut data) = ("", 0, Vec::new(), None);
            for field in Fields::of(message) {
                match field? {
                    (1, value) => numbers(value, &mut dims)?,
                    (2, Value::Number(number)) => element = number,
                    (8, value) => name = text(value)?,
                    (9, Value::Bytes(raw)) => data = Some(raw),
                    _ => {}
                }
            }
            found.push(Initializer {
                name,
                element,
                dims,
                data,
            });
        }
    }
    Ok(found)
}

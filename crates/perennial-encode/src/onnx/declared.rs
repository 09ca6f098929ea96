//! Inputs, outputs and values as a graph declares them.

use super::limits::{DIMS, ELEMENTS};
use super::wire::{Fields, Malformed, Value, bytes, text};

/// An input or an output of a graph, as the file declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declared {
    /// Its name.
    pub name: String,
    /// The type of its elements, as the format numbers them.
    pub element: u64,
    /// Its dimensions, `None` where they are free; `None` if nothing is said.
    pub shape: Option<Vec<Option<u64>>>,
}

/// Whether a value is declared as sequences of sequences: the runtime reads these by recursion, as deep as the file goes.
pub(super) fn nests_sequences(declaration: &[u8]) -> Result<bool, Malformed> {
    let mut open = vec![declaration];
    // To the type, its sequence, the type of the elements, and a sequence again.
    for step in [2, 4, 1, 4] {
        let mut inner = Vec::new();
        for message in open {
            for field in Fields::of(message) {
                let (field, value) = field?;
                if field == step {
                    inner.push(bytes(value)?);
                }
            }
        }
        open = inner;
    }
    Ok(!open.is_empty())
}

/// What a declaration says.
pub(super) fn declared(message: &[u8]) -> Result<Declared, Malformed> {
    let mut declared = Declared {
        name: String::new(),
        element: 0,
        shape: None,
    };
    for field in Fields::of(message) {
        match field? {
            (1, value) => declared.name = text(value)?.to_owned(),
            (2, value) => {
                for field in Fields::of(bytes(value)?) {
                    // Only tensors: sequences and maps have no element type here and are refused by their users.
                    if let (1, value) = field? {
                        tensor_type(bytes(value)?, &mut declared)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(declared)
}

fn tensor_type(message: &[u8], declared: &mut Declared) -> Result<(), Malformed> {
    for field in Fields::of(message) {
        match field? {
            (1, Value::Number(element)) => declared.element = element,
            (2, value) => {
                let mut shape = Vec::new();
                for field in Fields::of(bytes(value)?) {
                    let (1, dimension) = field? else { continue };
                    if shape.len() >= DIMS {
                        return Err(Malformed);
                    }
                    let mut size = None;
                    for field in Fields::of(bytes(dimension)?) {
                        if let (1, Value::Number(number)) = field? {
                            // Some exporters write 0 or -1 for a free dimension.
                            size = Some(number).filter(|&number| (1..=ELEMENTS).contains(&number));
                        }
                    }
                    shape.push(size);
                }
                declared.shape = Some(shape);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Bytes of one element, for the types of which raw data is a whole number of bytes.
pub(super) fn element_size(element: u64) -> Option<u64> {
    match element {
        2 | 3 | 9 => Some(1),
        4 | 5 | 10 | 16 => Some(2),
        1 | 6 | 12 => Some(4),
        7 | 11 | 13 => Some(8),
        _ => None,
    }
}

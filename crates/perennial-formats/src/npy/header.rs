//! The header of an npy array: one literal of Python.

use std::io::Read;

use crate::numbers::{Float, Integer, Order};

/// Longest header accepted, in bytes; NumPy's own are about a hundred.
const MAX_HEADER_BYTES: u64 = 65_536;

/// The type of an array's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    Float(Float),
    Integer(Integer),
    /// Texts of so many characters.
    Utf32(usize),
    /// Texts of so many bytes.
    Bytes(usize),
}

#[derive(Debug)]
pub(crate) struct ArrayHeader {
    /// The type as the file spells it.
    pub(crate) descr: String,
    pub(crate) element: Element,
    pub(crate) order: Order,
    pub(crate) fortran_order: bool,
    pub(crate) shape: Vec<usize>,
}

impl Element {
    fn bytes(self) -> Option<usize> {
        match self {
            Self::Float(float) => Some(float.bytes()),
            Self::Integer(integer) => Some(integer.bytes()),
            Self::Utf32(width) => width.checked_mul(4),
            Self::Bytes(width) => Some(width),
        }
    }

    fn parse(descr: &str) -> Option<(Self, Order)> {
        let order = match descr.chars().next()? {
            '<' | '|' => Order::Little,
            '>' => Order::Big,
            _ => return None,
        };
        let element = match &descr[1..] {
            "f2" => Self::Float(Float::F16),
            "f4" => Self::Float(Float::F32),
            "f8" => Self::Float(Float::F64),
            "i1" => Self::Integer(Integer::I8),
            "i2" => Self::Integer(Integer::I16),
            "i4" => Self::Integer(Integer::I32),
            "i8" => Self::Integer(Integer::I64),
            // Truth values are labels of 0 and 1.
            "u1" | "b1" => Self::Integer(Integer::U8),
            "u2" => Self::Integer(Integer::U16),
            "u4" => Self::Integer(Integer::U32),
            "u8" => Self::Integer(Integer::U64),
            text => match text.split_at_checked(1)? {
                ("U", width) => Self::Utf32(width.parse().ok()?),
                ("S", width) => Self::Bytes(width.parse().ok()?),
                _ => return None,
            },
        };
        Some((element, order))
    }
}

impl ArrayHeader {
    /// Reads the header from the start of an array of `size` bytes. Returns how many bytes are left for the values.
    pub(crate) fn read(source: &mut impl Read, size: u64) -> Result<(Self, u64), String> {
        let cut = |_| "this is not an npy array; write one with `numpy.save`".to_owned();
        let mut start = [0; 10];
        source.read_exact(&mut start).map_err(cut)?;
        if !start.starts_with(b"\x93NUMPY") {
            return Err("this is not an npy array; write one with `numpy.save`".to_owned());
        }
        let (length, length_end) = match start[6] {
            1 => (u64::from(u16::from_le_bytes([start[8], start[9]])), 10),
            2 | 3 => {
                let mut high = [0; 2];
                source.read_exact(&mut high).map_err(cut)?;
                let length = u32::from_le_bytes([start[8], start[9], high[0], high[1]]);
                (u64::from(length), 12)
            }
            other => {
                return Err(format!(
                    "npy version {other} is unknown; save it with a current NumPy"
                ));
            }
        };
        if length > MAX_HEADER_BYTES || length_end + length > size {
            return Err(format!(
                "the header claims {length} bytes in an array of {size}; the file is damaged"
            ));
        }
        let mut text = vec![0; length as usize];
        source.read_exact(&mut text).map_err(cut)?;
        let parsed = std::str::from_utf8(&text).ok().and_then(parse);
        let Some((descr, fortran_order, shape)) = parsed else {
            return Err(
                "the npy header cannot be parsed; arrays of records are not read, save one array of numbers with `numpy.save`"
                    .to_owned(),
            );
        };
        let Some((element, order)) = Element::parse(&descr) else {
            return Err(format!(
                "the array is `{descr}`; convert it with `.astype('<f4')` for vectors, `.astype('<i8')` or `.astype(str)` for ids and labels"
            ));
        };
        let header = Self {
            descr,
            element,
            order,
            fortran_order,
            shape,
        };
        Ok((header, size - length_end - length))
    }

    /// The bytes that all values take, unless that is more than can be counted.
    pub(crate) fn data_bytes(&self) -> Option<u64> {
        let count = self
            .shape
            .iter()
            .try_fold(1_usize, |product, &side| product.checked_mul(side))?;
        count
            .checked_mul(self.element.bytes()?)
            .map(|bytes| bytes as u64)
    }
}

/// Parses what NumPy writes: a dictionary of `descr`, `fortran_order` and `shape`.
fn parse(text: &str) -> Option<(String, bool, Vec<usize>)> {
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    while !rest.is_empty() {
        let (key, after) = quoted(rest)?;
        let value = after.trim_start().strip_prefix(':')?.trim_start();
        rest = match key {
            "descr" => {
                let (value, after) = quoted(value)?;
                descr = Some(value.to_string());
                after
            }
            "fortran_order" => {
                let after = value.strip_prefix("True").map(|after| (true, after));
                let (value, after) =
                    after.or_else(|| value.strip_prefix("False").map(|after| (false, after)))?;
                fortran_order = Some(value);
                after
            }
            "shape" => {
                let (inside, after) = value.strip_prefix('(')?.split_once(')')?;
                let sides = inside
                    .split(',')
                    .map(str::trim)
                    .filter(|side| !side.is_empty());
                shape = Some(
                    sides
                        .map(|side| side.parse().ok())
                        .collect::<Option<Vec<usize>>>()?,
                );
                after
            }
            _ => return None,
        }
        .trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    Some((descr?, fortran_order?, shape?))
}

/// Splits a Python string literal without escapes from what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text
        .chars()
        .next()
        .filter(|quote| ['\'', '"'].contains(quote))?;
    text[1..].split_once(quote)
}

/// What `numpy.save` writes before the values of a C-ordered array, as version 1.0.
pub(crate) fn to_bytes(descr: &str, shape: &str) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    // Magic, version and length take 10 bytes; the values start at a multiple of 64.
    let padding = 63 - (10 + header.len()) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes
}

//! NumPy's `.npy` files: embeddings and labels from other tools.
//!
//! **Source**: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.
//!
//! Read are C-ordered little-endian arrays in format versions 1.0 to 3.0; nothing in a file is ever executed (object arrays are refused).

use std::io::{BufReader, Read};
use std::path::Path;

use crate::DataError;
use crate::error::MAX_BYTES;
use crate::record_file::{allocate, file_size};

/// Longest header accepted, in bytes; NumPy's own are about a hundred.
const MAX_HEADER_BYTES: u64 = 65_536;

/// A matrix of numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// `[rows, columns]`, row-major.
    pub values: Vec<f32>,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
}

/// Reads a 2-D array of `f32` or `f64`; `f64` is rounded to `f32`.
///
/// **Shapes**: `[rows, columns]`. Values are not checked for being finite.
///
/// **Errors**: [`DataError`] for a missing, cut or oversized file, for a header that is not understood, and for other types, orders and
/// numbers of dimensions; the message says how to convert the array.
pub fn read(path: &Path) -> Result<Matrix, DataError> {
    let mut array = open(path)?;
    let &[rows, columns] = array.header.shape.as_slice() else {
        return Err(array.refuse("a 2-D array [rows, columns] is needed", "reshape it"));
    };
    let values = match array.header.descr.as_str() {
        "<f4" => array.values(path, |bytes: [u8; 4]| Ok(f32::from_le_bytes(bytes)))?,
        "<f8" => array.values(path, |bytes: [u8; 8]| Ok(f64::from_le_bytes(bytes) as f32))?,
        _ => {
            return Err(array.refuse(
                "little-endian f32 or f64 is needed",
                "convert it with `.astype('<f4')`",
            ));
        }
    };
    Ok(Matrix {
        values,
        rows,
        columns,
    })
}

/// Reads a 1-D array of integers as labels.
///
/// **Shapes**: `[n]`.
///
/// **Errors**: as [`read`], and [`DataError::Format`] for a value outside of `u32`.
pub fn read_labels(path: &Path) -> Result<Vec<u32>, DataError> {
    let mut array = open(path)?;
    if array.header.shape.len() != 1 {
        return Err(array.refuse("a 1-D array of labels is needed", "reshape it"));
    }
    match array.header.descr.as_str() {
        "|u1" => array.values(path, |[byte]| Ok(u32::from(byte))),
        "<u4" => array.values(path, |bytes| Ok(u32::from_le_bytes(bytes))),
        "<i4" => array.values(path, |bytes| label(i32::from_le_bytes(bytes))),
        "<u8" => array.values(path, |bytes| label(u64::from_le_bytes(bytes))),
        "<i8" => array.values(path, |bytes| label(i64::from_le_bytes(bytes))),
        _ => Err(array.refuse(
            "little-endian integers are needed",
            "convert it with `.astype('<i8')`",
        )),
    }
}

fn label<T: TryInto<u32> + Copy + std::fmt::Display>(value: T) -> Result<u32, String> {
    value
        .try_into()
        .map_err(|_| format!("{value} is not a label; labels are 0 to {}", u32::MAX))
}

/// The bytes of a version 1.0 file of `f32` with shape `[rows, columns]`, as `numpy.save` writes it.
///
/// **Errors**: [`DataError::Invalid`] if `values` does not have `rows * columns` numbers.
pub fn to_bytes(values: &[f32], rows: usize, columns: usize) -> Result<Vec<u8>, DataError> {
    if rows.checked_mul(columns) != Some(values.len()) {
        return Err(DataError::invalid(
            "npy",
            format!("{} values do not make {rows} x {columns}", values.len()),
        ));
    }
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    // Magic, version and length take 10 bytes; the values start at a multiple of 64.
    let padding = 63 - (10 + header.len()) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    let mut bytes = Vec::with_capacity(10 + header.len() + 4 * values.len());
    bytes.extend_from_slice(b"\x93NUMPY\x01\x00");
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    Ok(bytes)
}

struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

/// A file whose header has been read.
struct Array<'a> {
    path: &'a Path,
    header: Header,
    source: BufReader<std::fs::File>,
    data_offset: u64,
    data_bytes: u64,
}

fn open(path: &Path) -> Result<Array<'_>, DataError> {
    let size = file_size(path)?;
    if size > MAX_BYTES {
        return Err(DataError::TooLarge {
            path: path.to_path_buf(),
            bytes: size,
            limit: MAX_BYTES,
        });
    }
    let mut source = BufReader::new(std::fs::File::open(path).map_err(DataError::io(path))?);
    let mut start = Vec::new();
    source
        .by_ref()
        .take(10)
        .read_to_end(&mut start)
        .map_err(DataError::io(path))?;
    if start.len() < 10 || !start.starts_with(b"\x93NUMPY") {
        return Err(DataError::format(
            path,
            0,
            "this is not an npy file; write one with `numpy.save`",
        ));
    }
    let (length, length_end) = match start[6] {
        1 => (u64::from(u16::from_le_bytes([start[8], start[9]])), 10),
        2 | 3 => {
            let mut high = [0; 2];
            source.read_exact(&mut high).map_err(DataError::io(path))?;
            (
                u64::from(u32::from_le_bytes([start[8], start[9], high[0], high[1]])),
                12,
            )
        }
        other => {
            return Err(DataError::format(
                path,
                6,
                format!("npy version {other} is unknown; save it with a current NumPy"),
            ));
        }
    };
    let data_offset = length_end + length;
    if length > MAX_HEADER_BYTES || data_offset > size {
        let problem =
            format!("the header claims {length} bytes in a file of {size}; the file is damaged");
        return Err(DataError::format(path, 8, problem));
    }
    let mut text = vec![0; length as usize];
    source.read_exact(&mut text).map_err(DataError::io(path))?;
    let header = std::str::from_utf8(&text)
        .ok()
        .and_then(parse_header)
        .ok_or_else(|| {
            DataError::format(
                path,
                length_end,
                "the npy header cannot be parsed; save the array again with `numpy.save`",
            )
        })?;
    let array = Array {
        path,
        header,
        source,
        data_offset,
        data_bytes: size - data_offset,
    };
    if array.header.fortran_order {
        return Err(array.refuse(
            "C order is needed",
            "convert it with `numpy.ascontiguousarray`",
        ));
    }
    Ok(array)
}

impl Array<'_> {
    fn refuse(&self, need: &str, advice: &str) -> DataError {
        let Header {
            descr,
            fortran_order,
            shape,
        } = &self.header;
        let order = if *fortran_order { "Fortran" } else { "C" };
        let problem =
            format!("the array is `{descr}` of shape {shape:?} in {order} order; {need}, {advice}");
        DataError::format(self.path, 10, problem)
    }

    /// Reads all values of `SIZE` bytes each; memory is allocated only after the file has proven to be as large as its header claims.
    fn values<T, const SIZE: usize>(
        &mut self,
        path: &Path,
        convert: impl Fn([u8; SIZE]) -> Result<T, String>,
    ) -> Result<Vec<T>, DataError> {
        let count = self
            .header
            .shape
            .iter()
            .try_fold(1_usize, |product, &side| product.checked_mul(side));
        let expected = count
            .and_then(|count| count.checked_mul(SIZE))
            .map(|bytes| bytes as u64);
        let (Some(count), Some(expected)) = (count, expected) else {
            return Err(self.refuse("the shape is too large", "the header is damaged"));
        };
        if expected != self.data_bytes {
            let offset = self.data_offset + expected.min(self.data_bytes);
            let problem = format!(
                "{} bytes of values where shape {:?} needs {expected}",
                self.data_bytes, self.header.shape
            );
            return Err(DataError::format(
                path,
                offset,
                problem + "; the file was cut or changed, save it again",
            ));
        }
        let mut values = allocate(path, count)?;
        let mut bytes = [0; SIZE];
        for index in 0..count {
            self.source
                .read_exact(&mut bytes)
                .map_err(DataError::io(path))?;
            let offset = self.data_offset + (index * SIZE) as u64;
            values
                .push(convert(bytes).map_err(|problem| DataError::format(path, offset, problem))?);
        }
        Ok(values)
    }
}

/// Parses the one Python literal that NumPy writes: a dictionary of `descr`, `fortran_order` and `shape`.
fn parse_header(text: &str) -> Option<Header> {
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
                    .trim()
                    .trim_end_matches(',')
                    .split(',')
                    .filter(|side| !side.trim().is_empty());
                shape = Some(
                    sides
                        .map(|side| side.trim().parse().ok())
                        .collect::<Option<Vec<usize>>>()?,
                );
                after
            }
            _ => return None,
        }
        .trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    Some(Header {
        descr: descr?,
        fortran_order: fortran_order?,
        shape: shape?,
    })
}

/// Splits a Python string literal without escapes from what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text
        .chars()
        .next()
        .filter(|quote| ['\'', '"'].contains(quote))?;
    text[1..].split_once(quote)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with_file<T>(bytes: &[u8], read: impl FnOnce(&Path) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("array.npy");
        std::fs::write(&path, bytes).unwrap();
        read(&path)
    }

    fn npy(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = [b"\x93NUMPY".as_slice(), &[version, 0]].concat();
        let length = header.len() as u32;
        bytes.extend_from_slice(&length.to_le_bytes()[..if version == 1 { 2 } else { 4 }]);
        [&bytes, header.as_bytes(), data].concat()
    }

    #[test]
    fn reads_what_numpy_writes() {
        let data: Vec<u8> = [1.5_f64, -2.0]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2), }          \n";
        for version in [1, 2, 3] {
            let matrix = with_file(&npy(version, header, &data), |path| read(path).unwrap());
            assert_eq!(
                matrix,
                Matrix {
                    values: vec![1.5, -2.0],
                    rows: 1,
                    columns: 2
                }
            );
        }
        let labels = npy(
            1,
            "{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }\n",
            &[7, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0],
        );
        assert_eq!(
            with_file(&labels, |path| read_labels(path).unwrap()),
            [7, 257]
        );
    }

    #[test]
    fn what_does_not_fit_is_explained() {
        let header = |descr: &str, order: &str, shape: &str| {
            npy(
                1,
                &format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"),
                &[0; 8],
            )
        };
        let cases = [
            (b"PK\x03\x04 an npz file".to_vec(), "not an npy file"),
            (vec![], "not an npy file"),
            (npy(9, "", &[]), "version 9 is unknown"),
            (npy(1, "not a dictionary", &[]), "cannot be parsed"),
            (
                header("[('a', '<f4')]", "False", "(1, 2)"),
                "cannot be parsed",
            ),
            (header("'|O'", "False", "(1, 1)"), "astype('<f4')"),
            (header("'>f4'", "False", "(1, 2)"), "`>f4`"),
            (
                header("'<f4'", "True", "(1, 2)"),
                "Fortran order; C order is needed",
            ),
            (header("'<f4'", "False", "(2,)"), "a 2-D array"),
            (
                header("'<f4'", "False", "(3, 1)"),
                "8 bytes of values where shape [3, 1] needs 12",
            ),
            (
                header("'<f4'", "False", "(4611686018427387904, 4)"),
                "the shape is too large",
            ),
            (
                header("'<f4'", "False", "(1000000000, 1000000)"),
                "the file was cut",
            ),
            (header("'<f4'", "False", "(-1, 2)"), "cannot be parsed"),
        ];
        for (bytes, message) in cases {
            let error = with_file(&bytes, |path| read(path).unwrap_err().to_string());
            assert!(
                error.contains(message) && error.contains("array.npy"),
                "{error} | {message}"
            );
        }
        let negative = npy(
            1,
            "{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }",
            &[1, 0, 0, 0, 255, 255, 255, 255],
        );
        let error = with_file(&negative, |path| read_labels(path).unwrap_err().to_string());
        assert!(error.contains("-1 is not a label"), "{error}");
    }

    #[test]
    fn a_header_longer_than_the_file_is_refused() {
        let mut bytes = b"\x93NUMPY\x02\x00".to_vec();
        bytes.extend(u32::MAX.to_le_bytes());
        let error = with_file(&bytes, |path| read(path).unwrap_err().to_string());
        assert!(error.contains("claims 4294967295 bytes"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn written_matrices_come_back(rows in 0_usize..5, columns in 0_usize..40, first in any::<f32>()) {
            let values: Vec<f32> = (0..rows * columns).map(|i| first + i as f32).collect();
            let bytes = to_bytes(&values, rows, columns).unwrap();
            prop_assert_eq!((bytes.len() - 4 * values.len()) % 64, 0);
            let matrix = with_file(&bytes, |path| read(path).unwrap());
            prop_assert_eq!((matrix.rows, matrix.columns), (rows, columns));
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&matrix.values), bits(&values));
        }

        #[test]
        fn damaged_files_never_panic(position in 0_usize..200, value in any::<u8>(), length in 0_usize..200) {
            let mut bytes = to_bytes(&[1.0; 6], 2, 3).unwrap();
            let position = position % bytes.len();
            bytes[position] = value;
            bytes.truncate(length.max(position));
            with_file(&bytes, |path| { let _ = (read(path), read_labels(path)); });
        }
    }
}

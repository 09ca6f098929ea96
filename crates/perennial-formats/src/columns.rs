//! Ids and labels alone.

use std::path::Path;

use perennial_core::ItemId;

use crate::delimited;
use crate::error::FormatError;
use crate::format::Format;
use crate::input::{head, text_start};
use crate::jsonl;
use crate::label::Label;
use crate::lines::Lines;
use crate::npy::Array;
use crate::rows;
use crate::vector_file::open;
use crate::vector_set::VectorSet;

/// Rows that are read at once while their vectors are dropped.
const BATCH_ROWS: usize = 4096;

/// Reads the label of each row from a file of vectors, or from a file of labels alone: a 1-D npy array of integers or texts, the column
/// `label` of a CSV or JSONL file, or a text of one label a line. The content decides.
///
/// **Shapes**: `[n]`.
///
/// # Errors
/// [`FormatError`] for a file that cannot be read or holds no labels, and for a row without one.
pub fn read_labels(path: &Path) -> Result<Vec<Label>, FormatError> {
    match source(path, "label")? {
        Source::Array => Array::open(path)?.labels(),
        Source::Json => rows::column(jsonl::rows(path)?, "label", |row| row.label),
        Source::Table => rows::column(delimited::rows(path)?, "label", |row| row.label),
        Source::Vectors => from_vectors(path, "labels", VectorSet::labels),
        Source::Lines => from_lines(path),
    }
}

/// Reads the id of each row, from the same files as [`read_labels`].
///
/// **Shapes**: `[n]`.
///
/// # Errors
/// Those of [`read_labels`], for ids.
pub fn read_ids(path: &Path) -> Result<Vec<ItemId>, FormatError> {
    match source(path, "id")? {
        Source::Array => Array::open(path)?.ids(),
        Source::Json => rows::column(jsonl::rows(path)?, "id", |row| row.id),
        Source::Table => rows::column(delimited::rows(path)?, "id", |row| row.id),
        Source::Vectors => from_vectors(path, "ids", VectorSet::ids),
        Source::Lines => from_lines(path),
    }
}

enum Source {
    Array,
    Json,
    Table,
    Vectors,
    Lines,
}

fn source(path: &Path, column: &str) -> Result<Source, FormatError> {
    let start = head(path)?;
    match Format::of_content(&start) {
        Some(Format::Npy) => return Ok(Source::Array),
        Some(Format::Jsonl) => return Ok(Source::Json),
        Some(Format::Npz | Format::Parquet | Format::Safetensors) => return Ok(Source::Vectors),
        Some(Format::Csv) | None => {}
    }
    let Some(text) = text_start(&start).filter(|text| !text.is_empty()) else {
        let problem = format!(
            "is neither a file of vectors nor a text with one {column} a line, so it holds no {column}s"
        );
        return Err(FormatError::file(path, problem));
    };
    let names = delimited::column_names(text.lines().next().unwrap_or_default());
    let named = |name: &String| name == column || (column == "id" && name == "_id");
    if names.iter().any(named) {
        return Ok(Source::Table);
    }
    if names.len() > 1 && delimited::is_header(text) {
        let problem = format!("is a table without a column `{column}`");
        return Err(FormatError::file(path, problem));
    }
    Ok(Source::Lines)
}

fn from_lines<T: std::str::FromStr>(path: &Path) -> Result<Vec<T>, FormatError>
where
    T::Err: std::fmt::Display,
{
    let mut lines = Lines::open(path)?;
    let mut values = Vec::new();
    while let Some(line) = lines.next()? {
        let value = line.parse();
        values.push(
            value.map_err(|error: T::Err| lines.error(format_args!("cannot be used: {error}")))?,
        );
    }
    Ok(values)
}

fn from_vectors<T: Clone>(
    path: &Path,
    what: &str,
    column: impl Fn(&VectorSet) -> Option<&[T]>,
) -> Result<Vec<T>, FormatError> {
    let mut reader = open(path)?;
    let mut values = Vec::new();
    while let Some(set) = reader.next(BATCH_ROWS)? {
        let Some(found) = column(&set) else {
            return Err(FormatError::file(path, format_args!("holds no {what}")));
        };
        values.extend_from_slice(found);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::file;

    #[test]
    fn labels_come_from_many_files() {
        let array = [crate::npy::header_bytes("|u1", "(2,)"), vec![3, 200]].concat();
        let texts = [
            crate::npy::header_bytes("<U2", "(2,)"),
            b"a\0\0\0\0\0\0\0b\0\0\0c\0\0\0".to_vec(),
        ]
        .concat();
        let cases: [(&[u8], [Label; 2]); 7] = [
            (&array, [3_i64.into(), 200_i64.into()]),
            (&texts, ["a".into(), "bc".into()]),
            (b"3\n200\n", [3_i64.into(), 200_i64.into()]),
            (
                b"\xef\xbb\xbfred cat\r\n\r\n-1",
                ["red cat".into(), (-1_i64).into()],
            ),
            (b"id;label\n1;a\n2;b", ["a".into(), "b".into()]),
            (b"label\na\nb\n", ["a".into(), "b".into()]),
            (
                b"{\"label\":\"1\"}\n{\"label\":2}",
                [1_i64.into(), 2_i64.into()],
            ),
        ];
        for (bytes, labels) in cases {
            let (_folder, path) = file(bytes);
            assert_eq!(read_labels(&path).unwrap(), labels, "{bytes:?}");
        }
    }

    #[test]
    fn missing_labels_and_ids_are_refused() {
        let cases: [(&[u8], &str); 5] = [
            (b"", "neither"),
            (b"id,label\n1,a\n2,\n", "line 3 holds no `label`"),
            (b"id,embedding\n1,[1]\n", "without a column `label`"),
            (b"{\"id\":1}", "line 1 holds no `label`"),
            (b"\x00\x01", "neither"),
        ];
        for (bytes, says) in cases {
            let (_folder, path) = file(bytes);
            let error = read_labels(&path).unwrap_err().to_string();
            assert!(error.contains(says), "{bytes:?}: {error}");
        }
        let (_folder, path) = file("id,label\na,1\n12,2\n");
        assert_eq!(read_ids(&path).unwrap(), ["a".into(), ItemId::Number(12)]);
        let floats = [crate::npy::header_bytes("<f4", "(1,)"), vec![0; 4]].concat();
        let (_folder, path) = file(&floats);
        let error = read_ids(&path).unwrap_err().to_string();
        assert!(error.contains("astype('<i8')"), "{error}");
    }
}

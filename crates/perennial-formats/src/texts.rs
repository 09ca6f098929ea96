//! Tables with a column of texts: JSONL, CSV and Parquet.

use std::path::Path;

use perennial_core::ItemId;
use serde_json::{Map, Value};

use crate::delimited::Cells;
use crate::error::FormatError;
use crate::format::Format;
use crate::input::{head, text_start};
use crate::jsonl::in_line;
use crate::lines::Lines;
use crate::parquet;
use crate::text_row::{TextColumns, TextReader, TextRow, without_column};

/// Opens a table with a column of texts: JSONL, CSV with a header line (commas, tabs or semicolons), or Parquet. The content decides which it is.
///
/// # Errors
/// [`FormatError`] for a file that cannot be read or is none of these, and for a table without the columns.
pub fn open_texts(path: &Path, columns: &TextColumns) -> Result<Box<dyn TextReader>, FormatError> {
    let start = head(path)?;
    match Format::of_content(&start) {
        Some(Format::Parquet) => return parquet::open_texts(path, columns),
        Some(Format::Jsonl) => {
            return Ok(Box::new(Jsonl {
                lines: Lines::open(path)?,
                columns: columns.clone(),
            }));
        }
        Some(Format::Csv) | None => {}
        Some(other) => {
            let problem = format!(
                "is a file of format {}, which holds no texts; JSONL, CSV and Parquet do",
                other.name()
            );
            return Err(FormatError::file(path, problem));
        }
    }
    if text_start(&start).is_none_or(str::is_empty) {
        let problem =
            "is no table; texts are read from JSONL, from CSV with a header line, and from Parquet";
        return Err(FormatError::file(path, problem));
    }
    let cells = Cells::open(path)?;
    let position = |name: &str| {
        let found = cells.names.iter().position(|column| column == name);
        found.ok_or_else(|| FormatError::file(path, without_column(name, &cells.names)))
    };
    let text = position(&columns.text)?;
    let id = columns.id.as_deref().map(position).transpose()?;
    Ok(Box::new(Table { cells, text, id }))
}

struct Jsonl {
    lines: Lines,
    columns: TextColumns,
}

impl Jsonl {
    fn row(&mut self) -> Result<Option<TextRow>, FormatError> {
        let parsed = match self.lines.next()? {
            None => return Ok(None),
            Some(line) => serde_json::from_str::<Map<String, Value>>(line),
        };
        let mut row = parsed.map_err(|error| self.lines.error(in_line(&error)))?;
        let TextColumns { text, id } = &self.columns;
        let Some(Value::String(found)) = row.remove(text) else {
            return Err(self.lines.error(format_args!("holds no text {text:?}")));
        };
        let id = match id {
            Some(id) => Some(
                item_id(row.get(id))
                    .map_err(|problem| self.lines.error(format_args!("{id:?}: {problem}")))?,
            ),
            None => None,
        };
        Ok(Some(TextRow { text: found, id }))
    }
}

impl TextReader for Jsonl {
    fn rows(&self) -> Option<u64> {
        None
    }

    fn next(&mut self, max_rows: usize) -> Result<Option<Vec<TextRow>>, FormatError> {
        batch(max_rows, || self.row())
    }
}

/// An id as JSON has it: an unsigned number or a text.
fn item_id(value: Option<&Value>) -> Result<ItemId, String> {
    match value {
        Some(Value::String(text)) => text.parse().map_err(|error| format!("{error}")),
        Some(Value::Number(number)) => match number.as_u64() {
            Some(number) => Ok(ItemId::Number(number)),
            None => Err(format!(
                "{number} is neither a whole number from 0 on nor a text"
            )),
        },
        _ => Err("is missing; every row needs a number or a text there".to_owned()),
    }
}

struct Table {
    cells: Cells,
    text: usize,
    id: Option<usize>,
}

impl Table {
    fn row(&mut self) -> Result<Option<TextRow>, FormatError> {
        let columns = self.cells.names.len();
        let Some(record) = self.cells.next()? else {
            return Ok(None);
        };
        let found = record.len();
        let (text, id) = (record.get(self.text), self.id.map(|id| record.get(id)));
        let text = text.unwrap_or_default().to_owned();
        let id = id.map(|id| id.unwrap_or_default().parse());
        if found != columns {
            let problem = format!("has {found} columns where the header names {columns}");
            return Err(self.cells.error(problem));
        }
        let id = id.transpose().map_err(|error| {
            self.cells
                .error(format_args!("its id cannot be used: {error}"))
        })?;
        Ok(Some(TextRow { text, id }))
    }
}

impl TextReader for Table {
    fn rows(&self) -> Option<u64> {
        None
    }

    fn next(&mut self, max_rows: usize) -> Result<Option<Vec<TextRow>>, FormatError> {
        batch(max_rows, || self.row())
    }
}

fn batch(
    max_rows: usize,
    mut row: impl FnMut() -> Result<Option<TextRow>, FormatError>,
) -> Result<Option<Vec<TextRow>>, FormatError> {
    let mut rows = Vec::new();
    while rows.len() < max_rows.max(1)
        && let Some(row) = row()?
    {
        rows.push(row);
    }
    Ok((!rows.is_empty()).then_some(rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::file;

    fn columns(id: Option<&str>) -> TextColumns {
        TextColumns {
            text: "body".to_owned(),
            id: id.map(str::to_owned),
        }
    }

    fn all(bytes: impl AsRef<[u8]>, id: Option<&str>) -> Result<Vec<TextRow>, FormatError> {
        let (_folder, path) = file(bytes);
        let mut reader = open_texts(&path, &columns(id))?;
        let mut rows = Vec::new();
        while let Some(batch) = reader.next(2)? {
            assert!(batch.len() <= 2);
            rows.extend(batch);
        }
        Ok(rows)
    }

    fn row(text: &str, id: Option<ItemId>) -> TextRow {
        TextRow {
            text: text.to_owned(),
            id,
        }
    }

    #[test]
    fn texts_and_ids_come_from_jsonl_and_csv() {
        let expected = [
            row("a, \"b\"", Some(ItemId::Number(7))),
            row("", Some("x".into())),
            row("größer", Some("y/1".into())),
        ];
        let jsonl = "{\"body\":\"a, \\\"b\\\"\",\"key\":7,\"other\":[1]}\n\n{\"key\":\"x\",\"body\":\"\"}\n{\"body\":\"größer\",\"key\":\"y/1\"}";
        assert_eq!(all(jsonl, Some("key")).unwrap(), expected);
        let csv = "\u{feff}key;body;e0\n7;\"a, \"\"b\"\"\";1\nx;;2\ny/1;größer;3\n";
        assert_eq!(all(csv, Some("key")).unwrap(), expected);
        let one = "body\nfirst line\nsecond line\n";
        let rows = all(one, None).unwrap();
        assert_eq!(rows, [row("first line", None), row("second line", None)]);
    }

    #[test]
    fn what_is_missing_is_named_with_its_place() {
        let cases: [(&[u8], Option<&str>, &str); 7] = [
            (
                b"title,text\na,b\n",
                None,
                "has no column \"body\"; its columns are title, text",
            ),
            (
                b"body,id\na\n",
                None,
                "has 1 columns where the header names 2",
            ),
            (
                b"body,key\na,\n",
                Some("key"),
                "line 2 its id cannot be used",
            ),
            (b"{\"body\":3}", None, "line 1 holds no text \"body\""),
            (
                b"{\"body\":\"a\"}\n{\"body\":\"b\",\"key\":-1}",
                Some("key"),
                "line 1 \"key\": is missing",
            ),
            (b"", None, "is no table"),
            (b"\x93NUMPY\x01\x00", None, "holds no texts"),
        ];
        for (bytes, id, says) in cases {
            let error = all(bytes, id).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}

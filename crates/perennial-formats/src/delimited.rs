//! Comma-separated values with a header line; tabs and semicolons separate as well.

use std::collections::HashSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord};
use fs_err::File;
use perennial_core::OutputFile;
use serde_json::Value;

use crate::error::FormatError;
use crate::format::Format;
use crate::input::{head, open_file, text_start};
use crate::jsonl::join;
use crate::lines::MAX_LINE_BYTES;
use crate::rows::{Place, Row, RowReader, RowSource};
use crate::stream::{BatchReader, BatchWriter, Header};
use crate::vector_set::{Payload, VectorSet};

/// Names of a column that holds a JSON array.
const VECTOR_COLUMNS: [&str; 4] = ["embedding", "vector", "values", "embeddings"];
/// What stands before the number in the names of columns that hold one value each.
const NUMBERED: [&str; 13] = [
    "",
    "e",
    "d",
    "v",
    "x",
    "f",
    "dim",
    "dim_",
    "emb_",
    "feature_",
    "embedding_",
    "vector_",
    "feat_",
];

/// What a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Column {
    Id,
    Label,
    /// The whole vector.
    Vector,
    /// One value of it.
    Value(usize),
    /// A JSON object.
    Payload,
    /// One entry of the payload, under the column's name.
    Entry,
    /// A column without a name, such as pandas' row numbers.
    Unnamed,
}

/// Separates nothing, since no text holds it.
const NOTHING: u8 = b'\0';

/// The character that separates the columns of a header line. One that names a single column separates nothing, and then the rows do
/// not either: a JSON array or a sentence holds commas.
pub(crate) fn separator(line: &str) -> u8 {
    let count = |separator: u8| line.bytes().filter(|&byte| byte == separator).count();
    [b',', b'\t', b';']
        .into_iter()
        .filter(|&separator| count(separator) > 0)
        .max_by_key(|&separator| (count(separator), separator == b','))
        .unwrap_or(NOTHING)
}

/// The names of the columns, as a header line gives them.
pub(crate) fn column_names(line: &str) -> Vec<String> {
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .delimiter(separator(line))
        .from_reader(line.as_bytes());
    let mut record = StringRecord::new();
    match reader.read_record(&mut record) {
        Ok(true) => record.iter().map(|name| name.trim().to_owned()).collect(),
        _ => Vec::new(),
    }
}

/// Whether a text starts with a line that names what a table of vectors or labels holds.
pub(crate) fn is_header(text: &str) -> bool {
    let names = column_names(text.lines().next().unwrap_or_default());
    let known = |name: &String| {
        VECTOR_COLUMNS.contains(&name.as_str())
            || ["id", "_id", "label"].contains(&name.as_str())
            || numbered(name) == Some(0)
    };
    names.iter().any(known)
}

fn prefix_and_number(name: &str) -> Option<(&str, usize)> {
    let digits = name.len() - name.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (prefix, number) = name.split_at(digits);
    let plain = !number.is_empty() && (number == "0" || !number.starts_with('0'));
    let known = NUMBERED.contains(&prefix.to_ascii_lowercase().as_str());
    (plain && known).then_some(())?;
    Some((prefix, number.parse().ok()?))
}

fn numbered(name: &str) -> Option<usize> {
    prefix_and_number(name).map(|(_, number)| number)
}

/// Says what each column is, and how many values a vector has when they have a column each.
fn columns(names: &[String]) -> Result<(Vec<Column>, Option<usize>), String> {
    let mut found: Vec<Column> = Vec::with_capacity(names.len());
    // Sets, because a line may name millions of columns.
    let (mut known, mut singular) = (HashSet::new(), HashSet::new());
    for name in names {
        let column = match name.as_str() {
            "id" | "_id" => Column::Id,
            "label" => Column::Label,
            "payload" | "metadata" => Column::Payload,
            "" => Column::Unnamed,
            name if VECTOR_COLUMNS.contains(&name) => Column::Vector,
            _ => Column::Entry,
        };
        if !name.is_empty() && !known.insert(name) {
            return Err(format!("names the column `{name}` twice"));
        }
        let once = matches!(column, Column::Id | Column::Label | Column::Vector);
        if once && !singular.insert(column) {
            return Err(format!(
                "has a second column for the same as `{name}`; remove one"
            ));
        }
        found.push(column);
    }
    if found.contains(&Column::Vector) {
        return Ok((found, None));
    }
    // A group of numbered columns starts at 0; other numbers at the end of a name mean nothing.
    let mut starts = names
        .iter()
        .filter_map(|name| prefix_and_number(name))
        .filter_map(|(prefix, number)| (number == 0).then_some(prefix));
    let Some(prefix) = starts.next() else {
        return Ok((found, None));
    };
    if let Some(other) = starts.next() {
        return Err(format!(
            "has two groups of numbered columns, `{prefix}0` and `{other}0`; remove one"
        ));
    }
    let mut dim = 0;
    let mut highest = 0;
    for (column, name) in found.iter_mut().zip(names) {
        if let Some((_, number)) = prefix_and_number(name).filter(|(found, _)| *found == prefix) {
            *column = Column::Value(number);
            dim += 1;
            highest = highest.max(number);
        }
    }
    if highest + 1 != dim {
        return Err(format!(
            "has {dim} columns `{prefix}0` to `{prefix}{highest}`, so at least one is missing"
        ));
    }
    Ok((found, Some(dim)))
}

/// A reader that stops in the middle of a record without end, such as one with an open quotation mark.
struct Bounded {
    file: File,
    left: u64,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            let problem = format!(
                "a row is longer than {MAX_LINE_BYTES} bytes; a quotation mark may not be closed"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        let most = buffer.len().min(self.left as usize);
        let read = self.file.read(&mut buffer[..most])?;
        self.left -= read as u64;
        Ok(read)
    }
}

struct Source {
    place: Place,
    reader: csv::Reader<Bounded>,
    record: StringRecord,
    names: Vec<String>,
    columns: Vec<Column>,
    dim: Option<usize>,
}

pub(crate) fn open(path: &Path) -> Result<Box<dyn BatchReader>, FormatError> {
    let source = source(path)?;
    if source.dim.is_none() && !source.columns.contains(&Column::Vector) {
        return Err(source.place.error(
            "names no column `embedding` with JSON arrays and no numbered columns `e0`, `e1`, …",
        ));
    }
    Ok(Box::new(RowReader::new(path, Format::Csv, source)?))
}

/// The rows of a table, which need not hold vectors.
pub(crate) fn rows(path: &Path) -> Result<impl RowSource + use<>, FormatError> {
    source(path)
}

fn source(path: &Path) -> Result<Source, FormatError> {
    let Cells {
        place,
        reader,
        record,
        names,
    } = Cells::open(path)?;
    let (columns, dim) = columns(&names).map_err(|problem| place.error(problem))?;
    Ok(Source {
        place,
        reader,
        record,
        names,
        columns,
        dim,
    })
}

/// The cells of a table as they are written.
pub(crate) struct Cells {
    place: Place,
    reader: csv::Reader<Bounded>,
    record: StringRecord,
    /// The names of the columns.
    pub(crate) names: Vec<String>,
}

impl Cells {
    /// Reads the header line.
    pub(crate) fn open(path: &Path) -> Result<Self, FormatError> {
        let start = head(path)?;
        // Only the separator is taken from here: the line may be longer.
        let line = text_start(&start).and_then(|text| text.lines().next());
        let delimiter = separator(line.unwrap_or_default());
        let (file, _) = open_file(path)?;
        let bounded = Bounded {
            file,
            left: MAX_LINE_BYTES,
        };
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .from_reader(bounded);
        let mut cells = Self {
            place: Place {
                path: path.to_owned(),
                line: 1,
            },
            reader,
            record: StringRecord::new(),
            names: Vec::new(),
        };
        if cells.next()?.is_none() {
            return Err(cells
                .place
                .error("is missing; the first line names the columns"));
        }
        let names = cells.record.iter();
        cells.names = names
            .map(|name| name.trim_start_matches('\u{feff}').trim().to_owned())
            .collect();
        Ok(cells)
    }

    /// The cells of the next row.
    pub(crate) fn next(&mut self) -> Result<Option<&StringRecord>, FormatError> {
        let more = advance(&mut self.reader, &mut self.record, &mut self.place)?;
        Ok(more.then_some(&self.record))
    }

    /// An error about the row last read.
    pub(crate) fn error(&self, problem: impl std::fmt::Display) -> FormatError {
        self.place.error(problem)
    }
}

/// Reads the next record; lines of nothing are passed over.
fn advance(
    reader: &mut csv::Reader<Bounded>,
    record: &mut StringRecord,
    place: &mut Place,
) -> Result<bool, FormatError> {
    reader.get_mut().left = MAX_LINE_BYTES;
    let read = reader.read_record(record);
    match read {
        Ok(more) => {
            if let Some(position) = record.position() {
                place.line = position.line();
            }
            Ok(more)
        }
        Err(error) => {
            if let Some(position) = error.position() {
                place.line = position.line();
            }
            Err(place.error(format_args!("cannot be read: {error}")))
        }
    }
}

impl Source {
    fn advance(&mut self) -> Result<bool, FormatError> {
        advance(&mut self.reader, &mut self.record, &mut self.place)
    }

    fn row(&self) -> Result<Row, String> {
        let mut row = Row {
            vector: self.dim.map(|dim| vec![0.0; dim]),
            ..Row::default()
        };
        if self.record.len() != self.columns.len() {
            return Err(format!(
                "has {} columns where the header names {}",
                self.record.len(),
                self.columns.len()
            ));
        }
        for ((cell, &column), name) in self.record.iter().zip(&self.columns).zip(&self.names) {
            match column {
                Column::Id if !cell.is_empty() => {
                    row.id = Some(
                        cell.parse()
                            .map_err(|error| format!("cannot be used: {error}"))?,
                    );
                }
                Column::Label if !cell.is_empty() => {
                    row.label = Some(
                        cell.parse()
                            .map_err(|error| format!("cannot be used: {error}"))?,
                    );
                }
                Column::Vector if !cell.is_empty() => {
                    let vector = serde_json::from_str(cell).map_err(|error| {
                        format!("holds `{name}` that is not a JSON array of numbers: {error}")
                    })?;
                    row.vector = Some(vector);
                }
                Column::Value(index) => {
                    let value = cell.trim().parse().map_err(|_| {
                        let shown: String = cell.chars().take(40).collect();
                        format!("holds {shown:?} in the column `{name}`, which is not a number")
                    })?;
                    if let Some(vector) = &mut row.vector {
                        vector[index] = value;
                    }
                }
                Column::Payload if !cell.is_empty() => {
                    let payload: Payload = serde_json::from_str(cell).map_err(|error| {
                        format!("holds `{name}` that is not a JSON object: {error}")
                    })?;
                    if join(&mut row.payload, payload) {
                        return Err("has a key both in the payload and beside it".to_owned());
                    }
                }
                Column::Entry
                    if !cell.is_empty()
                        && row.payload.insert(name.clone(), entry(cell)).is_some() =>
                {
                    return Err(format!("has `{name}` both in the payload and beside it"));
                }
                _ => {}
            }
        }
        Ok(row)
    }
}

/// A cell of the payload: a number or a truth value where it is written as JSON writes them, otherwise a text.
fn entry(cell: &str) -> Value {
    let text = || Value::from(cell);
    match serde_json::from_str::<Value>(cell) {
        Ok(value @ Value::Bool(_)) => value,
        Ok(value @ Value::Number(_)) => {
            // An integer of more than 64 bits would be rounded.
            let rounded = value.is_f64() && cell.bytes().all(|b| b.is_ascii_digit() || b == b'-');
            if rounded { text() } else { value }
        }
        _ => text(),
    }
}

impl RowSource for Source {
    fn next(&mut self) -> Result<Option<Row>, FormatError> {
        if !self.advance()? {
            return Ok(None);
        }
        self.row()
            .map(Some)
            .map_err(|problem| self.place.error(problem))
    }

    fn error(&self, problem: &str) -> FormatError {
        self.place.error(problem)
    }
}

struct Writer {
    path: PathBuf,
    output: csv::Writer<OutputFile>,
    payload: bool,
    started: bool,
}

pub(crate) fn create(
    output: OutputFile,
    _header: &Header,
) -> Result<Box<dyn BatchWriter>, FormatError> {
    let path = output.path().to_owned();
    let tabs = path.extension().is_some_and(|ending| ending == "tsv");
    Ok(Box::new(Writer {
        output: csv::WriterBuilder::new()
            .delimiter(if tabs { b'\t' } else { b',' })
            .from_writer(output),
        path,
        payload: false,
        started: false,
    }))
}

impl Writer {
    fn record(&mut self, cells: &[String]) -> Result<(), FormatError> {
        Ok(self.output.write_record(cells).map_err(io::Error::from)?)
    }
}

impl BatchWriter for Writer {
    fn write(&mut self, batch: &VectorSet) -> Result<(), FormatError> {
        if !self.started {
            self.started = true;
            self.payload = batch.payload().is_some();
            let names = [
                batch.ids().map(|_| "id"),
                batch.labels().map(|_| "label"),
                Some("embedding"),
                batch.payload().map(|_| "payload"),
            ];
            let names: Vec<String> = names.into_iter().flatten().map(str::to_owned).collect();
            self.record(&names)?;
        }
        if batch.payload().is_some() && !self.payload {
            let problem = "the first rows have no payload and later ones do; write JSONL, or give the first rows an empty payload";
            return Err(FormatError::file(&self.path, problem));
        }
        let json = |value: Result<String, serde_json::Error>| value.map_err(io::Error::from);
        for row in 0..batch.len() {
            let mut cells = Vec::with_capacity(4);
            cells.extend(batch.ids().map(|ids| ids[row].to_string()));
            cells.extend(batch.labels().map(|labels| labels[row].to_string()));
            cells.push(json(serde_json::to_string(batch.row(row)))?);
            if self.payload {
                cells.push(match batch.payload() {
                    Some(payload) => json(serde_json::to_string(&payload[row]))?,
                    None => String::new(),
                });
            }
            self.record(&cells)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, _rows: u64) -> Result<(), FormatError> {
        self.output.flush()?;
        let output = self
            .output
            .into_inner()
            .map_err(|error| io::Error::new(error.error().kind(), error.error().to_string()))?;
        Ok(output.finish()?)
    }
}

#[cfg(test)]
mod tests;

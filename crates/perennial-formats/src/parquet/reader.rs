//! Reading by record batches.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Schema};
use perennial_core::{ItemId, SpaceId};

use super::cells::{self, Full, MAX_PAYLOAD_BYTES, Room, Scalar};
use super::columns::type_read;
use super::opened::{Batches, Opened, guarded};
use super::writer::SPACE_KEY;
use crate::error::FormatError;
use crate::format::Format;
use crate::jsonl::join;
use crate::label::Label;
use crate::numbers;
use crate::stream::{Batch, BatchReader, Header};
use crate::vector_set::Payload;

const VECTOR_COLUMNS: [&str; 4] = ["embedding", "vector", "embeddings", "values"];
/// Values of vectors for which room is made at once.
const BATCH_VALUES: usize = 1 << 20;
/// Rows of a record batch.
const MAX_BATCH_ROWS: usize = 4096;

/// What a column is, by its position.
#[derive(Default)]
struct Roles {
    vector: usize,
    id: Option<usize>,
    label: Option<usize>,
    payload: Option<usize>,
    entries: Vec<usize>,
}

struct Reader {
    path: PathBuf,
    header: Header,
    roles: Roles,
    batches: Batches,
    /// What is left of the record batch in hand.
    rest: Option<RecordBatch>,
    done: u64,
}

pub(super) fn open(path: &Path) -> Result<Box<dyn BatchReader>, FormatError> {
    let opened = Opened::open(path)?;
    let schema = opened.schema().clone();
    let roles = roles(&schema).map_err(|problem| FormatError::file(path, problem))?;
    let space = opened.value(SPACE_KEY).map(SpaceId::new).transpose();
    let space =
        space.map_err(|error| FormatError::file(path, format_args!("the space: {error}")))?;
    let rows = opened.rows();
    let declared = match schema.field(roles.vector).data_type() {
        DataType::FixedSizeList(_, dim) => Some(usize::try_from(*dim).unwrap_or(0)),
        _ => None,
    };
    if declared == Some(0) {
        return Err(FormatError::file(
            path,
            "the vectors have 0 dimensions; at least 1 is needed",
        ));
    }
    for (what, column) in [("id", roles.id), ("label", roles.label)] {
        let kind = column.map(|column| schema.field(column).data_type());
        if let Some(kind) = kind.filter(|kind| !cells::is_scalar(kind)) {
            let problem =
                format!("the column `{what}` is {kind}; integers or texts are needed in every row");
            return Err(FormatError::file(path, problem));
        }
    }
    let columns = roles.columns();
    let payload = |column| roles.is_payload(column);
    let batches = opened.batches(&columns, payload, MAX_BATCH_ROWS)?;
    let mut reader = Reader {
        path: path.to_owned(),
        header: Header {
            dim: declared.unwrap_or_default(),
            rows,
            space,
            format: Format::Parquet,
        },
        roles: roles.within(&columns),
        batches,
        rest: None,
        done: 0,
    };
    if declared.is_none() {
        reader.advance()?;
        reader.header.dim = reader.first_length()?;
    }
    Ok(Box::new(reader))
}

impl Roles {
    /// The columns that are read, in the order of the file.
    fn columns(&self) -> Vec<usize> {
        let single = [Some(self.vector), self.id, self.label, self.payload];
        let mut columns: Vec<usize> = single.into_iter().flatten().collect();
        columns.extend(&self.entries);
        columns.sort_unstable();
        columns
    }

    fn is_payload(&self, column: usize) -> bool {
        self.payload == Some(column) || self.entries.contains(&column)
    }

    /// The places where there are only these columns.
    fn within(&self, columns: &[usize]) -> Self {
        let place = |column: usize| columns.partition_point(|&before| before < column);
        Self {
            vector: place(self.vector),
            id: self.id.map(place),
            label: self.label.map(place),
            payload: self.payload.map(place),
            entries: self.entries.iter().map(|&column| place(column)).collect(),
        }
    }
}

fn roles(schema: &Schema) -> Result<Roles, String> {
    let mut roles = Roles::default();
    let (mut vector, mut entries) = (None, HashSet::new());
    for (index, field) in schema.fields().iter().enumerate() {
        let twice = match field.name().as_str() {
            "id" | "_id" => roles.id.replace(index).is_some(),
            "label" => roles.label.replace(index).is_some(),
            "payload" | "metadata" => roles.payload.replace(index).is_some(),
            name if VECTOR_COLUMNS.contains(&name) => vector.replace(index).is_some(),
            // The row numbers that pandas adds.
            name if name.starts_with("__index_level_") => false,
            _ => {
                if cells::is_json(field.data_type()) {
                    // Of two entries of one name, one would be lost.
                    if !entries.insert(field.name()) {
                        return Err(format!("names the column `{}` twice", field.name()));
                    }
                    roles.entries.push(index);
                }
                false
            }
        };
        if twice {
            return Err(format!(
                "has a second column for the same as `{}`; leave one out",
                field.name()
            ));
        }
    }
    let Some(vector) = vector else {
        let names: Vec<&str> = schema
            .fields()
            .iter()
            .take(20)
            .map(|field| field.name().as_str())
            .collect();
        return Err(format!(
            "has no column `embedding`, `vector` or `values`, but {names:?}"
        ));
    };
    let kind = schema.field(vector).data_type();
    let read = type_read(kind);
    let item = match &read {
        DataType::FixedSizeList(item, _) | DataType::List(item) | DataType::LargeList(item) => {
            Some(item.data_type())
        }
        _ => None,
    };
    if !item.is_some_and(DataType::is_floating) {
        return Err(format!(
            "column `{}` is {kind}; a list, or a fixed-size list, of f16, f32 or f64 is needed: convert it before it is written",
            schema.field(vector).name()
        ));
    }
    roles.vector = vector;
    Ok(roles)
}

impl Reader {
    fn error(&self, row: usize, problem: impl std::fmt::Display) -> FormatError {
        let row = self.done + row as u64;
        FormatError::file(&self.path, format_args!("row {row} {problem}"))
    }

    /// Takes the next record batch that has rows in hand.
    fn advance(&mut self) -> Result<(), FormatError> {
        if self.rest.is_none() {
            self.rest = self.batches.next()?;
        }
        Ok(())
    }

    /// The length of the first vector, for lists that do not declare it.
    fn first_length(&self) -> Result<usize, FormatError> {
        let Some(batch) = &self.rest else {
            let problem = "holds no rows, so its dimension is unknown; write at least one, or a fixed-size list";
            return Err(FormatError::file(&self.path, problem));
        };
        match cells::list(batch.column(self.roles.vector), 0) {
            Some(items) => Ok(items.len()),
            None => Err(self.error(0, "holds no vector")),
        }
    }

    /// The first rows of a record batch: all of them, or as many as have a payload of the size that a single row may have.
    fn batch(&self, rows: &RecordBatch) -> Result<(Batch, usize), FormatError> {
        let payload = self.payload(rows)?;
        let count = payload.as_ref().map_or(rows.num_rows(), Vec::len);
        let rows = &rows.slice(0, count);
        let dim = self.header.dim;
        let mut vectors = Vec::with_capacity(count.saturating_mul(dim).min(BATCH_VALUES));
        let column = rows.column(self.roles.vector);
        for row in 0..count {
            let Some(items) = cells::list(column, row) else {
                return Err(self.error(row, "holds no vector"));
            };
            if items.len() != dim {
                return Err(self.error(
                    row,
                    format_args!(
                        "holds {} values, but the first row holds {dim}",
                        items.len()
                    ),
                ));
            }
            if !cells::floats(&items, &mut vectors) {
                return Err(self.error(row, "holds a vector with missing values"));
            }
        }
        let ids: Option<Vec<ItemId>> = match self.roles.id {
            Some(id) => Some(self.column(rows.column(id), "id", numbers::item_id)?),
            None => None,
        };
        let labels: Option<Vec<Label>> = match self.roles.label {
            Some(label) => Some(self.column(rows.column(label), "label", numbers::label)?),
            None => None,
        };
        let payload = payload.filter(|rows| rows.iter().any(|payload| !payload.is_empty()));
        let batch = Batch {
            vectors,
            ids,
            labels,
            payload,
        };
        Ok((batch, count))
    }

    fn column<T: std::str::FromStr>(
        &self,
        column: &ArrayRef,
        what: &str,
        number: impl Fn(u64, i128) -> Result<T, String>,
    ) -> Result<Vec<T>, FormatError>
    where
        T::Err: std::fmt::Display,
    {
        let value = |row: usize| {
            match cells::scalar(column, row) {
            Some(Scalar::Number(value)) => number(self.done + row as u64, value)
                .map_err(|problem| FormatError::file(&self.path, problem)),
            Some(Scalar::Text(text)) => text
                .parse()
                .map_err(|error| self.error(row, format_args!("cannot be used: {error}"))),
            None => Err(self.error(
                row,
                format_args!(
                    "holds no `{what}` (the column is {}); integers or texts are needed in every row",
                    column.data_type()
                ),
            )),
        }
        };
        (0..column.len()).map(value).collect()
    }

    fn payload(&self, rows: &RecordBatch) -> Result<Option<Vec<Payload>>, FormatError> {
        if self.roles.payload.is_none() && self.roles.entries.is_empty() {
            return Ok(None);
        }
        let (mut all, mut bytes) = (Vec::new(), 0);
        while all.len() < rows.num_rows() && bytes < MAX_PAYLOAD_BYTES {
            let mut room = Room::new();
            all.push(self.payload_of(rows, all.len(), &mut room)?);
            bytes += room.taken();
        }
        Ok(Some(all))
    }

    fn payload_of(
        &self,
        rows: &RecordBatch,
        row: usize,
        room: &mut Room,
    ) -> Result<Payload, FormatError> {
        let full = |_: Full| {
            self.error(
                row,
                format_args!(
                    "holds a payload of more than {MAX_PAYLOAD_BYTES} bytes, of which each value that is no text takes 8; leave its longest column out"
                ),
            )
        };
        let mut payload = match self.roles.payload {
            Some(column) => self.object(rows.column(column), row, room)?.map_err(full)?,
            None => Payload::new(),
        };
        let schema = rows.schema();
        let mut entries = Payload::new();
        for &column in &self.roles.entries {
            let name = schema.field(column).name();
            room.take(name.len()).map_err(full)?;
            let value = cells::json(rows.column(column), row, room).map_err(full)?;
            if !value.is_null() {
                entries.insert(name.clone(), value);
            }
        }
        if join(&mut payload, entries) {
            return Err(self.error(row, "has a key both in the payload and beside it"));
        }
        Ok(payload)
    }

    /// A payload that is a struct, or a text with a JSON object.
    fn object(
        &self,
        column: &ArrayRef,
        row: usize,
        room: &mut Room,
    ) -> Result<Result<Payload, Full>, FormatError> {
        if column.is_null(row) {
            return Ok(Ok(Payload::new()));
        }
        if let DataType::Struct(_) = column.data_type() {
            return Ok(cells::entries(column, row, room));
        }
        let Some(text) = cells::text(column, row) else {
            return Err(self.error(row, "holds a payload that is not a JSON object"));
        };
        if let Err(full) = room.take(text.len()) {
            return Ok(Err(full));
        }
        serde_json::from_str(text).map(Ok).map_err(|error| {
            self.error(
                row,
                format_args!("holds a payload that is not a JSON object: {error}"),
            )
        })
    }
}

impl BatchReader for Reader {
    fn header(&self) -> &Header {
        &self.header
    }

    fn next(&mut self, max_rows: usize) -> Result<Option<Batch>, FormatError> {
        self.advance()?;
        let Some(batch) = self.rest.take() else {
            return Ok(None);
        };
        let part = batch.slice(0, max_rows.min(batch.num_rows()));
        let (read, rows) = guarded(&self.path, || Ok::<_, String>(self.batch(&part)))??;
        if rows < batch.num_rows() {
            self.rest = Some(batch.slice(rows, batch.num_rows() - rows));
        }
        self.done += rows as u64;
        Ok(Some(read))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{FixedSizeListArray, Float32Array, Int32Array, RecordBatch};
    use arrow_schema::{DataType, Field, Schema};
    use parquet::arrow::ArrowWriter;

    use crate::testing::{problem, read};

    /// A file of one vector and columns of one number each.
    fn table(names: &[&str]) -> Vec<u8> {
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let kind = DataType::FixedSizeList(item.clone(), 1);
        let mut fields = vec![Field::new("embedding", kind, false)];
        fields.extend(
            names
                .iter()
                .map(|name| Field::new(*name, DataType::Int32, false)),
        );
        let values = Arc::new(Float32Array::from(vec![1.0]));
        let vectors = FixedSizeListArray::try_new(item, 1, values, None).unwrap();
        let mut columns: Vec<super::ArrayRef> = vec![Arc::new(vectors)];
        for number in 0..names.len() {
            columns.push(Arc::new(Int32Array::from(vec![number as i32])));
        }
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), schema, None).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    }

    #[test]
    fn two_entries_of_one_name_are_refused() {
        let set = read(table(&["price", "size"])).unwrap();
        assert_eq!(set.payload().unwrap()[0]["size"], 1);
        let text = problem(table(&["price", "size", "price"]));
        assert!(text.contains("names the column `price` twice"), "{text}");
    }
}

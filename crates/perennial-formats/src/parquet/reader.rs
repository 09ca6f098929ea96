//! Reading by record batches.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Schema};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use perennial_core::{ItemId, SpaceId};

use super::cells::{self, Scalar};
use super::writer::SPACE_KEY;
use crate::error::FormatError;
use crate::format::Format;
use crate::input::open_file;
use crate::jsonl::join;
use crate::label::Label;
use crate::numbers;
use crate::stream::{Batch, BatchReader, Header};
use crate::vector_set::Payload;

const VECTOR_COLUMNS: [&str; 4] = ["embedding", "vector", "embeddings", "values"];
/// Values of vectors in a record batch.
const BATCH_VALUES: usize = 1 << 20;
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
    batches: ParquetRecordBatchReader,
    /// What is left of the record batch in hand.
    rest: Option<RecordBatch>,
    done: u64,
}

/// Calls the Parquet library, which panics on some damaged files.
pub(super) fn guarded<T, E: std::fmt::Display>(
    path: &Path,
    call: impl FnOnce() -> Result<T, E>,
) -> Result<T, FormatError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let error = error.to_string();
            Err(match error.contains("Disabled feature at compile time") {
                true => FormatError::file(
                    path,
                    format_args!(
                        "is compressed in a way that is not read ({error}); write it without compression, or with Snappy, gzip, LZ4 or Zstandard"
                    ),
                ),
                false => {
                    FormatError::file(path, format_args!("is a damaged Parquet file: {error}"))
                }
            })
        }
        Err(_) => Err(FormatError::file(
            path,
            "is a damaged Parquet file; write it again",
        )),
    }
}

pub(super) fn open(path: &Path) -> Result<Box<dyn BatchReader>, FormatError> {
    let (file, _) = open_file(path)?;
    let (file, _) = file.into_parts();
    let builder = guarded(path, || ParquetRecordBatchReaderBuilder::try_new(file))?;
    let schema = builder.schema().clone();
    let roles = roles(&schema).map_err(|problem| FormatError::file(path, problem))?;
    let metadata = builder.metadata().file_metadata();
    let space = metadata
        .key_value_metadata()
        .into_iter()
        .flatten()
        .find(|entry| entry.key == SPACE_KEY)
        .and_then(|entry| entry.value.clone());
    let space = space
        .map(SpaceId::new)
        .transpose()
        .map_err(|error| FormatError::file(path, format_args!("the space: {error}")))?;
    let rows = u64::try_from(metadata.num_rows()).ok();
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
    let batch_rows = declared.map_or(MAX_BATCH_ROWS / 4, |dim| BATCH_VALUES / dim);
    let batch_rows = batch_rows.clamp(1, MAX_BATCH_ROWS);
    let batches = guarded(path, || builder.with_batch_size(batch_rows).build())?;
    let mut reader = Reader {
        path: path.to_owned(),
        header: Header {
            dim: declared.unwrap_or_default(),
            rows,
            space,
            format: Format::Parquet,
        },
        roles,
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
    let item = match kind {
        DataType::FixedSizeList(item, _) | DataType::List(item) | DataType::LargeList(item) => {
            Some(item.data_type())
        }
        _ => None,
    };
    if !item.is_some_and(DataType::is_floating) {
        return Err(format!(
            "column `{}` is {kind}; a list, or a fixed-size list, of f16, f32 or f64 is needed",
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
        while self.rest.is_none() {
            let batches = &mut self.batches;
            let next = guarded(&self.path, || batches.next().transpose())?;
            let Some(batch) = next else { break };
            self.rest = Some(batch).filter(|batch| batch.num_rows() > 0);
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

    fn batch(&self, rows: &RecordBatch) -> Result<Batch, FormatError> {
        let count = rows.num_rows();
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
        Ok(Batch {
            vectors,
            ids,
            labels,
            payload: self.payload(rows)?,
        })
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
        let schema = rows.schema();
        let mut all = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            let mut payload = match self.roles.payload {
                Some(column) => self.object(rows.column(column), row)?,
                None => Payload::new(),
            };
            let entries = self.roles.entries.iter().filter_map(|&index| {
                let column = rows.column(index);
                let value = cells::json(column, row);
                (!value.is_null()).then(|| (schema.field(index).name().clone(), value))
            });
            if join(&mut payload, entries.collect()) {
                return Err(self.error(row, "has a key both in the payload and beside it"));
            }
            all.push(payload);
        }
        let any = all.iter().any(|payload| !payload.is_empty());
        Ok(any.then_some(all))
    }

    /// A payload that is a struct, or a text with a JSON object.
    fn object(&self, column: &ArrayRef, row: usize) -> Result<Payload, FormatError> {
        if let DataType::Struct(_) = column.data_type() {
            return Ok(if column.is_null(row) {
                Payload::new()
            } else {
                cells::entries(column, row)
            });
        }
        match cells::scalar(column, row) {
            None => Ok(Payload::new()),
            Some(Scalar::Text(text)) => serde_json::from_str(&text).map_err(|error| {
                self.error(
                    row,
                    format_args!("holds a payload that is not a JSON object: {error}"),
                )
            }),
            Some(Scalar::Number(_)) => {
                Err(self.error(row, "holds a payload that is not a JSON object"))
            }
        }
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
        let rows = max_rows.min(batch.num_rows());
        if rows < batch.num_rows() {
            self.rest = Some(batch.slice(rows, batch.num_rows() - rows));
        }
        let part = batch.slice(0, rows);
        let read = guarded(&self.path, || Ok::<_, String>(self.batch(&part)))??;
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

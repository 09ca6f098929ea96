//! Writing: columns `id`, `label`, `embedding` and `payload`.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray, UInt64Array,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use perennial_core::{ItemId, OutputFile, SpaceId};

use crate::error::FormatError;
use crate::label::Label;
use crate::stream::{BatchWriter, Header};
use crate::vector_set::VectorSet;

/// The key of the file's metadata that names the space.
pub(super) const SPACE_KEY: &str = "perennial.space";
/// Values of vectors that are held in memory before they are written as one row group.
const GROUP_VALUES: usize = 1 << 24;

struct Writer {
    path: PathBuf,
    dim: usize,
    space: Option<SpaceId>,
    state: State,
}

/// The types of the columns are known with the first rows.
enum State {
    Waiting(Option<OutputFile>),
    Open(Box<ArrowWriter<OutputFile>>, Columns),
}

struct Columns {
    schema: SchemaRef,
    payload: bool,
}

pub(super) fn create(
    output: OutputFile,
    header: &Header,
) -> Result<Box<dyn BatchWriter>, FormatError> {
    let path = output.path().to_owned();
    if i32::try_from(header.dim).is_err() {
        let problem = format!(
            "vectors of {} values are longer than Parquet's lists",
            header.dim
        );
        return Err(FormatError::file(&path, problem));
    }
    Ok(Box::new(Writer {
        path,
        dim: header.dim,
        space: header.space.clone(),
        state: State::Waiting(Some(output)),
    }))
}

fn item() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Float32, false))
}

impl Writer {
    fn failed(&self, error: impl std::fmt::Display) -> FormatError {
        FormatError::file(&self.path, format_args!("could not be written: {error}"))
    }

    fn open(&mut self, first: &VectorSet) -> Result<(), FormatError> {
        let State::Waiting(output) = &mut self.state else {
            return Ok(());
        };
        let Some(output) = output.take() else {
            return Err(self.failed("an earlier error"));
        };
        let mut fields = Vec::new();
        if let Some(ids) = first.ids() {
            let numbers = ids.iter().all(|id| matches!(id, ItemId::Number(_)));
            let kind = if numbers {
                DataType::UInt64
            } else {
                DataType::Utf8
            };
            fields.push(Field::new("id", kind, false));
        }
        if let Some(labels) = first.labels() {
            let numbers = labels.iter().all(|label| matches!(label, Label::Number(_)));
            let kind = if numbers {
                DataType::Int64
            } else {
                DataType::Utf8
            };
            fields.push(Field::new("label", kind, false));
        }
        let dim = self.dim as i32;
        fields.push(Field::new(
            "embedding",
            DataType::FixedSizeList(item(), dim),
            false,
        ));
        let payload = first.payload().is_some();
        if payload {
            fields.push(Field::new("payload", DataType::Utf8, true));
        }
        let schema = Arc::new(Schema::new(fields));
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            // Vectors hardly repeat a value.
            .set_dictionary_enabled(false)
            .set_max_row_group_row_count(Some((GROUP_VALUES / self.dim).max(1)))
            .build();
        let mut writer = ArrowWriter::try_new(output, schema.clone(), Some(properties))
            .map_err(|error| self.failed(error))?;
        if let Some(space) = &self.space {
            writer
                .append_key_value_metadata(KeyValue::new(SPACE_KEY.to_owned(), space.to_string()));
        }
        self.state = State::Open(Box::new(writer), Columns { schema, payload });
        Ok(())
    }

    fn columns(&self, columns: &Columns, batch: &VectorSet) -> Result<RecordBatch, FormatError> {
        let mut arrays: Vec<ArrayRef> = Vec::new();
        let kind = |name: &str| {
            columns
                .schema
                .field_with_name(name)
                .map(Field::data_type)
                .ok()
        };
        if let Some(ids) = batch.ids() {
            arrays.push(if kind("id") == Some(&DataType::UInt64) {
                let numbers = ids.iter().map(|id| match id {
                    ItemId::Number(number) => Ok(*number),
                    ItemId::Text(text) => Err(self.late_text("id", text)),
                });
                Arc::new(numbers.collect::<Result<UInt64Array, _>>()?)
            } else {
                Arc::new(StringArray::from_iter_values(
                    ids.iter().map(ItemId::to_string),
                ))
            });
        }
        if let Some(labels) = batch.labels() {
            arrays.push(if kind("label") == Some(&DataType::Int64) {
                let numbers = labels.iter().map(|label| match label {
                    Label::Number(number) => Ok(*number),
                    Label::Text(text) => Err(self.late_text("label", text)),
                });
                Arc::new(numbers.collect::<Result<Int64Array, _>>()?)
            } else {
                Arc::new(StringArray::from_iter_values(
                    labels.iter().map(Label::to_string),
                ))
            });
        }
        let values = Float32Array::from(batch.vectors().to_vec());
        let vectors = FixedSizeListArray::try_new(item(), self.dim as i32, Arc::new(values), None)
            .map_err(|error| self.failed(error))?;
        arrays.push(Arc::new(vectors));
        if columns.payload {
            let texts: Vec<Option<String>> = match batch.payload() {
                None => vec![None; batch.len()],
                Some(payload) => payload
                    .iter()
                    .map(|payload| serde_json::to_string(payload).map(Some))
                    .collect::<Result<_, _>>()
                    .map_err(|error| self.failed(error))?,
            };
            arrays.push(Arc::new(StringArray::from(texts)));
        } else if batch.payload().is_some() {
            return Err(self.failed("the first rows have no payload and later ones do; give the first rows an empty payload"));
        }
        RecordBatch::try_new(columns.schema.clone(), arrays).map_err(|error| self.failed(error))
    }

    fn late_text(&self, what: &str, text: &str) -> FormatError {
        self.failed(format_args!(
            "the first rows have numbers as {what}s, so the text {text:?} has no place; use texts that are no numbers from the first row on, or another format"
        ))
    }
}

impl BatchWriter for Writer {
    fn write(&mut self, batch: &VectorSet) -> Result<(), FormatError> {
        self.open(batch)?;
        let State::Open(_, columns) = &self.state else {
            return Err(self.failed("an earlier error"));
        };
        let rows = self.columns(columns, batch)?;
        let State::Open(writer, _) = &mut self.state else {
            return Err(self.failed("an earlier error"));
        };
        writer.write(&rows).map_err(|error| {
            FormatError::file(&self.path, format_args!("could not be written: {error}"))
        })
    }

    fn finish(mut self: Box<Self>, _rows: u64) -> Result<(), FormatError> {
        if let State::Waiting(Some(_)) = &self.state {
            self.open(&VectorSet::new(self.dim, Vec::new())?)?;
        }
        let path = self.path;
        let State::Open(writer, _) = self.state else {
            return Err(FormatError::file(
                &path,
                "could not be written: an earlier error",
            ));
        };
        let output = writer.into_inner().map_err(|error| {
            FormatError::file(&path, format_args!("could not be written: {error}"))
        })?;
        Ok(output.finish()?)
    }
}

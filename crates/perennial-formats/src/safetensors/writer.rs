//! Our own embeddings file.

use std::io::{self, Write};

use perennial_core::{ItemId, OutputFile, SpaceId};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::Serialize;

use super::{OWN_FORMAT, OWN_VERSION};
use crate::error::FormatError;
use crate::label::Label;
use crate::spool::SpooledFile;
use crate::stream::{BatchWriter, Header};
use crate::vector_set::VectorSet;

const HEADER_ALIGNMENT: usize = 8;
const CHUNK_BYTES: usize = 1 << 16;

/// Field order is file order: the safetensors crate would order the metadata at random, and equal vectors would not give equal files.
/// Numbers come before texts, so that they lie at multiples of their size.
#[derive(Serialize)]
struct FileHeader<'a> {
    #[serde(rename = "__metadata__")]
    metadata: FileMetadata<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<TensorInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids_offsets: Option<TensorInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<TensorInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels_offsets: Option<TensorInfo>,
    embeddings: TensorInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids_text: Option<TensorInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels_text: Option<TensorInfo>,
}

#[derive(Serialize)]
struct FileMetadata<'a> {
    format: &'static str,
    format_version: &'static str,
    /// A model version has a space of the same name, and the file is older than spaces are.
    #[serde(skip_serializing_if = "Option::is_none")]
    model_version: Option<&'a str>,
}

/// A column of the file: numbers, or texts end to end with where each begins and the last ends.
enum Column<T> {
    Numbers(Vec<T>),
    Texts { offsets: Vec<u64>, text: Vec<u8> },
}

impl<T: Copy> Column<T> {
    fn of<V: std::fmt::Display>(values: &[V], number: impl Fn(&V) -> Option<T>) -> Self {
        if let Some(numbers) = values.iter().map(number).collect() {
            return Self::Numbers(numbers);
        }
        let mut text = Vec::new();
        let mut offsets = vec![0];
        for value in values {
            text.extend_from_slice(value.to_string().as_bytes());
            offsets.push(text.len() as u64);
        }
        Self::Texts { offsets, text }
    }

    fn numbers(&self) -> Option<&[T]> {
        match self {
            Self::Numbers(numbers) => Some(numbers),
            Self::Texts { .. } => None,
        }
    }

    fn texts(&self) -> Option<(&[u64], &[u8])> {
        match self {
            Self::Numbers(_) => None,
            Self::Texts { offsets, text } => Some((offsets, text)),
        }
    }
}

/// What stands beside the vectors.
pub(crate) struct Beside<'a> {
    pub(crate) space: Option<&'a str>,
    pub(crate) ids: Option<&'a [ItemId]>,
    pub(crate) labels: Option<&'a [Label]>,
}

/// Writes the whole file but for the vectors, which `vectors` writes when it is their turn.
pub(crate) fn write(
    file: &mut dyn Write,
    (rows, dim): (usize, usize),
    beside: &Beside<'_>,
    vectors: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let ids = beside.ids.map(|ids| {
        Column::of(ids, |id| match id {
            ItemId::Number(number) => Some(*number),
            ItemId::Text(_) => None,
        })
    });
    let labels = beside.labels.map(|labels| {
        Column::of(labels, |label| match label {
            Label::Number(number) => Some(*number),
            Label::Text(_) => None,
        })
    });
    let id_numbers = ids.as_ref().and_then(Column::numbers);
    let id_texts = ids.as_ref().and_then(Column::texts);
    let label_numbers = labels.as_ref().and_then(Column::numbers);
    let label_texts = labels.as_ref().and_then(Column::texts);

    let mut end = 0;
    let mut tensor = |dtype: Dtype, shape: Vec<usize>, value_bytes: usize| {
        let start = end;
        end += shape.iter().product::<usize>() * value_bytes;
        TensorInfo {
            dtype,
            shape,
            data_offsets: (start, end),
        }
    };
    let header = FileHeader {
        metadata: FileMetadata {
            format: OWN_FORMAT,
            format_version: OWN_VERSION,
            model_version: beside.space,
        },
        ids: id_numbers.map(|ids| tensor(Dtype::U64, vec![ids.len()], 8)),
        ids_offsets: id_texts.map(|(offsets, _)| tensor(Dtype::U64, vec![offsets.len()], 8)),
        // Signed 64-bit is the label type that every framework can index with.
        labels: label_numbers.map(|labels| tensor(Dtype::I64, vec![labels.len()], 8)),
        labels_offsets: label_texts.map(|(offsets, _)| tensor(Dtype::U64, vec![offsets.len()], 8)),
        embeddings: tensor(Dtype::F32, vec![rows, dim], 4),
        ids_text: id_texts.map(|(_, text)| tensor(Dtype::U8, vec![text.len()], 1)),
        labels_text: label_texts.map(|(_, text)| tensor(Dtype::U8, vec![text.len()], 1)),
    };
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(HEADER_ALIGNMENT), b' ');
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    write_values(file, id_numbers.unwrap_or_default(), u64::to_le_bytes)?;
    let offsets = |texts: Option<(&[u64], &[u8])>, file: &mut dyn Write| {
        let (offsets, _) = texts.unwrap_or_default();
        write_values(file, offsets, u64::to_le_bytes)
    };
    offsets(id_texts, file)?;
    write_values(file, label_numbers.unwrap_or_default(), i64::to_le_bytes)?;
    offsets(label_texts, file)?;
    vectors(file)?;
    for (_, text) in [id_texts, label_texts].into_iter().flatten() {
        file.write_all(text)?;
    }
    Ok(())
}

pub(crate) fn write_values<T: Copy, const N: usize>(
    file: &mut dyn Write,
    values: &[T],
    to_bytes: impl Fn(T) -> [u8; N],
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(CHUNK_BYTES.min(values.len() * N));
    for chunk in values.chunks(CHUNK_BYTES / N) {
        buffer.clear();
        buffer.extend(chunk.iter().flat_map(|&value| to_bytes(value)));
        file.write_all(&buffer)?;
    }
    Ok(())
}

/// The numbers of rows, ids and labels stand before the vectors, so the vectors wait; ids and labels are kept in memory.
struct Writer(SpooledFile);

pub(crate) fn create(
    output: OutputFile,
    header: &Header,
) -> Result<Box<dyn BatchWriter>, FormatError> {
    Ok(Box::new(Writer(SpooledFile::new(output, header))))
}

impl BatchWriter for Writer {
    fn write(&mut self, batch: &VectorSet) -> Result<(), FormatError> {
        Ok(self.0.write(batch)?)
    }

    fn finish(self: Box<Self>, rows: u64) -> Result<(), FormatError> {
        let SpooledFile {
            mut output,
            dim,
            space,
            ids,
            labels,
            vectors,
        } = self.0;
        let beside = Beside {
            space: space.as_ref().map(SpaceId::as_str),
            ids: ids.as_deref(),
            labels: labels.as_deref(),
        };
        let shape = (rows as usize, dim);
        write(&mut output, shape, &beside, |mut file| {
            vectors.copy_to(&mut file)
        })?;
        Ok(output.finish()?)
    }
}

//! Safetensors: our own embeddings file, and any file with one 2-D tensor of floating-point numbers.

pub(crate) mod tensor_file;
pub(crate) mod writer;

use std::path::Path;

use perennial_core::{ItemId, SpaceId};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

pub(crate) use writer::create;

use crate::error::FormatError;
use crate::format::Format;
use crate::label::Label;
use crate::numbers::{self, Float, Integer};
use crate::stream::{Batch, BatchReader, Header};
use tensor_file::{TensorFile, float, integer};

/// The value of the metadata key `format` in files of our own.
pub(crate) const OWN_FORMAT: &str = "perennial-embeddings";
/// The value of `format_version` there.
pub(crate) const OWN_VERSION: &str = "1";
/// Names that the tensor of vectors may have beside other 2-D tensors.
const VECTOR_NAMES: [&str; 3] = ["embeddings", "vectors", "embedding"];
/// A header of this many bytes is no header of safetensors.
const MAX_HEADER_BYTES: u64 = 1 << 27;

/// Eight bytes of length, then a JSON object.
pub(crate) fn recognise(head: &[u8]) -> bool {
    let Some((length, rest)) = head.split_first_chunk() else {
        return false;
    };
    rest.first() == Some(&b'{') && u64::from_le_bytes(*length) < MAX_HEADER_BYTES
}

/// A column of numbers or texts.
enum Column {
    Numbers(TensorInfo, Integer),
    Texts {
        offsets: TensorInfo,
        text: TensorInfo,
    },
}

struct Reader {
    file: TensorFile,
    header: Header,
    vectors: TensorInfo,
    float: Float,
    ids: Option<Column>,
    labels: Option<Column>,
    rows: usize,
    done: usize,
}

pub(crate) fn open(path: &Path) -> Result<Box<dyn BatchReader>, FormatError> {
    let file = TensorFile::open(path)?;
    let own = file.metadata("format") == Some(OWN_FORMAT);
    if own && file.metadata("format_version") != Some(OWN_VERSION) {
        return Err(file.error(unknown_version(&file)));
    }
    let (vectors, float) = vectors(&file)?;
    let (rows, dim) = (vectors.shape[0], vectors.shape[1]);
    // Ahead of everything else, because a tensor without columns may claim any number of rows for no bytes at all.
    if dim == 0 {
        return Err(file.error("the vectors have 0 dimensions; at least 1 is needed"));
    }
    let space = file
        .metadata("space")
        .or(own.then(|| file.metadata("model_version")).flatten());
    let space = space
        .map(SpaceId::new)
        .transpose()
        .map_err(|error| file.error(format_args!("the space: {error}")))?;
    Ok(Box::new(Reader {
        header: Header {
            dim,
            rows: Some(rows as u64),
            space,
            format: Format::Safetensors,
        },
        ids: column(&file, "ids", rows)?,
        labels: column(&file, "labels", rows)?,
        vectors,
        float,
        file,
        rows,
        done: 0,
    }))
}

pub(crate) fn unknown_version(file: &TensorFile) -> String {
    format!(
        "has format_version {:?}, this program reads {OWN_VERSION:?}",
        file.metadata("format_version").unwrap_or("(none)")
    )
}

/// The tensor of vectors: by its name, or the only one that can be it.
fn vectors(file: &TensorFile) -> Result<(TensorInfo, Float), FormatError> {
    for name in VECTOR_NAMES {
        if let Some(info) = file.tensor(name) {
            return match float(info.dtype) {
                Some(float) if info.shape.len() == 2 => Ok((info.clone(), float)),
                _ => Err(file.error(format_args!(
                    "tensor `{name}` is {} of shape {:?}; F16, BF16, F32 or F64 of shape [n, d] is needed",
                    info.dtype, info.shape
                ))),
            };
        }
    }
    let all = file.tensors();
    let mut matrices = all
        .iter()
        .filter(|(_, info)| info.shape.len() == 2)
        .filter_map(|(name, info)| Some((name, *info, float(info.dtype)?)));
    match (matrices.next(), matrices.next()) {
        (Some((_, info, float)), None) => Ok((info.clone(), float)),
        (Some((one, ..)), Some((another, ..))) => Err(file.error(format_args!(
            "lacks the tensor `embeddings`, and `{one}` and `{another}` could both be it; name the one that holds the vectors `embeddings`"
        ))),
        (None, _) => Err(file.error(
            "lacks the tensor `embeddings` with floating-point numbers of shape [n, d]",
        )),
    }
}

fn column(file: &TensorFile, name: &str, rows: usize) -> Result<Option<Column>, FormatError> {
    let shaped = |name: &str, expected: usize| {
        let Some(info) = file.tensor(name) else {
            return Ok(None);
        };
        if info.shape != [expected] {
            return Err(file.error(format_args!(
                "tensor `{name}` has shape {:?}, expected [{expected}] for {rows} vectors",
                info.shape
            )));
        }
        let kind = integer(info.dtype).ok_or_else(|| {
            file.error(format_args!(
                "tensor `{name}` is {}, expected an integer type such as I64",
                info.dtype
            ))
        })?;
        Ok(Some((info.clone(), kind)))
    };
    if let Some((info, kind)) = shaped(name, rows)? {
        return Ok(Some(Column::Numbers(info, kind)));
    }
    let (texts_name, offsets_name) = (format!("{name}_text"), format!("{name}_offsets"));
    let Some(text) = file.tensor(&texts_name) else {
        return Ok(None);
    };
    let offsets = shaped(&offsets_name, rows.saturating_add(1))?;
    match offsets {
        Some((offsets, Integer::U64)) if text.dtype == Dtype::U8 && text.shape.len() == 1 => {
            Ok(Some(Column::Texts {
                offsets,
                text: text.clone(),
            }))
        }
        _ => Err(file.error(format_args!(
            "texts need tensor `{texts_name}` of U8 [bytes] and tensor `{offsets_name}` of U64 [n + 1]"
        ))),
    }
}

impl Reader {
    fn values<T: std::str::FromStr>(
        file: &mut TensorFile,
        column: &Column,
        what: &str,
        (first, count): (usize, usize),
        number: impl Fn(u64, i128) -> Result<T, String>,
    ) -> Result<Vec<T>, FormatError>
    where
        T::Err: std::fmt::Display,
    {
        let rows = first as u64..;
        match column {
            Column::Numbers(info, kind) => {
                let values = file.integers(info, *kind, (first, count))?;
                rows.zip(values)
                    .map(|(row, value)| number(row, value))
                    .collect::<Result<_, _>>()
                    .map_err(|problem| file.error(problem))
            }
            Column::Texts { offsets, text } => {
                let ends = file.integers(offsets, Integer::U64, (first, count + 1))?;
                let length = text.shape[0] as i128;
                // The whole column must be in order, or a small file could make the same bytes count many times.
                let ordered = ends.is_sorted() && ends[count] <= length;
                let complete = first > 0 || ends[0] == 0;
                if !ordered || !complete {
                    return Err(file.error(format_args!(
                        "`{what}_offsets` must rise from 0 to the number of bytes in `{what}_text`"
                    )));
                }
                let start = ends[0] as usize;
                let bytes = file.bytes(text, (start, ends[count] as usize - start))?;
                rows.zip(ends.array_windows())
                    .map(|(row, &[from, to])| {
                        let text = &bytes[from as usize - start..to as usize - start];
                        let text = std::str::from_utf8(text)
                            .map_err(|_| format!("`{what}_text` of row {row} is not UTF-8"))?;
                        text.parse::<T>()
                            .map_err(|error| format!("row {row}: {error}"))
                    })
                    .collect::<Result<_, _>>()
                    .map_err(|problem| file.error(problem))
            }
        }
    }
}

impl BatchReader for Reader {
    fn header(&self) -> &Header {
        &self.header
    }

    fn next(&mut self, max_rows: usize) -> Result<Option<Batch>, FormatError> {
        let rows = max_rows.min(self.rows - self.done);
        if rows == 0 {
            return Ok(None);
        }
        let (range, dim) = ((self.done, rows), self.header.dim);
        let file = &mut self.file;
        let ids: Option<Vec<ItemId>> = self
            .ids
            .as_ref()
            .map(|ids| Self::values(file, ids, "ids", range, numbers::item_id))
            .transpose()?;
        let labels: Option<Vec<Label>> = self
            .labels
            .as_ref()
            .map(|labels| Self::values(file, labels, "labels", range, numbers::label))
            .transpose()?;
        let vectors = file.floats(&self.vectors, self.float, (self.done * dim, rows * dim))?;
        self.done += rows;
        Ok(Some(Batch {
            vectors,
            ids,
            labels,
            payload: None,
        }))
    }
}

#[cfg(test)]
mod tests;

//! The embeddings file of model versions: safetensors with a fixed set of tensors and metadata.

use std::path::Path;

use perennial_core::{Embeddings, FileKind, ItemId, Output};
use safetensors::Dtype;

use crate::error::FormatError;
use crate::format::Format;
use crate::label::Label;
use crate::npz;
use crate::numbers::{Float, Integer};
use crate::safetensors::tensor_file::{TensorFile, integer};
use crate::safetensors::writer::{Beside, write, write_values};
use crate::safetensors::{OWN_FORMAT, OWN_VERSION, unknown_version};
use crate::vector_file::detect;

/// How an embeddings file is recognised.
pub const EMBEDDINGS_FILE_KIND: FileKind = FileKind {
    name: "an embeddings file",
    // Eight bytes of length, then the header, whose metadata come first.
    recognise: |head| {
        head.get(8) == Some(&b'{')
            && String::from_utf8_lossy(head).contains(&format!("\"{OWN_FORMAT}\""))
    },
};

/// Reads a file written by [`write_embeddings`], or by another program in the same format.
///
/// The file is safetensors with tensors `embeddings` (F32 `[n, d]`, rows of unit length), `ids` (any integer type, `[n]`, not negative)
/// and optionally `labels` (any integer type, `[n]`, 0 to 2^32 - 1), and with the metadata `format = "perennial-embeddings"`,
/// `format_version = "1"` and `model_version`. Other tensors are ignored. [`read`](crate::read) asks for less.
///
/// # Errors
/// A file that cannot be read, is not of this format, or fails the checks of [`Embeddings::new`]. Sizes are checked against the file's
/// length before memory is allocated.
pub fn read_embeddings(path: impl AsRef<Path>) -> Result<Embeddings, FormatError> {
    read_as(path.as_ref(), Embeddings::new)
}

/// As [`read_embeddings`], by the checks of [`Embeddings::with_missing`].
///
/// # Errors
/// As [`read_embeddings`], but for rows of zeros.
pub fn read_embeddings_with_missing(path: impl AsRef<Path>) -> Result<Embeddings, FormatError> {
    read_as(path.as_ref(), Embeddings::with_missing)
}

/// [`Embeddings::new`], or what takes its place.
type Make = fn(
    String,
    usize,
    Vec<f32>,
    Vec<u64>,
    Option<Vec<u32>>,
) -> Result<Embeddings, perennial_core::EmbeddingsError>;

/// What a file of vectors lacks to be the embeddings of a model version.
const NEEDED: &str = "safetensors with the tensors `embeddings` (F32, [n, d]) and `ids` (integers, [n]), optionally `labels` (integers, [n]), and the metadata format = \"perennial-embeddings\", format_version = \"1\" and model_version; `perennial embed VERSION … --out FILE.safetensors` writes it, and the page of the format safetensors shows how Python does";

/// Says what a file of another format holds, and what is needed.
fn refuse_other_formats(path: &Path) -> Result<(), FormatError> {
    let format = match detect(path) {
        Ok(Format::Safetensors) | Err(_) => return Ok(()),
        Ok(format) => format,
    };
    let holds = match format {
        Format::Npz => format!(" that holds {}", npz::arrays(path)?),
        _ => String::new(),
    };
    let problem = format!(
        "is {}{holds}; embeddings of a model version are {NEEDED}",
        format.file_kind().name
    );
    Err(FormatError::file(path, problem))
}

fn read_as(path: &Path, make: Make) -> Result<Embeddings, FormatError> {
    refuse_other_formats(path)?;
    let mut file = TensorFile::open(path)?;
    let model_version = check_metadata(&file)?.to_owned();
    let embeddings = tensor(&file, "embeddings")?;
    let &[count, dim] = embeddings.shape.as_slice() else {
        return Err(file.error(format_args!(
            "tensor `embeddings` has shape {:?}, expected [n, d]",
            embeddings.shape
        )));
    };
    if embeddings.dtype != Dtype::F32 {
        return Err(file.error(format_args!(
            "tensor `embeddings` is {}, expected F32; convert it to float32",
            embeddings.dtype
        )));
    }
    // Checked ahead of the values, because a tensor without columns may claim any number of rows for no bytes at all.
    if dim == 0 {
        return Err(file.error("tensor `embeddings` has 0 columns"));
    }
    tensor(&file, "ids")?;
    let ids = integers(&mut file, "ids", count, u64::MAX, |id| id)?.unwrap_or_default();
    let limit = u64::from(u32::MAX);
    let labels = integers(&mut file, "labels", count, limit, |label| label as u32)?;
    let vectors = file.floats(&embeddings, Float::F32, (0, count * dim))?;
    make(model_version, dim, vectors, ids, labels).map_err(|error| file.error(error))
}

/// Writes the file that [`read_embeddings`] describes, in one step. Equal embeddings give equal bytes.
///
/// # Errors
/// The file cannot be written; an earlier file of that name then stays as it was.
pub fn write_embeddings(embeddings: &Embeddings, output: Output) -> Result<(), FormatError> {
    let ids: Vec<ItemId> = embeddings.ids().iter().map(|&id| id.into()).collect();
    let labels: Option<Vec<Label>> = embeddings
        .labels()
        .map(|labels| labels.iter().map(|&label| label.into()).collect());
    let beside = Beside {
        space: Some(embeddings.model_version()),
        ids: Some(&ids),
        labels: labels.as_deref(),
    };
    output.commit_with(|file| {
        write(
            file,
            (embeddings.len(), embeddings.dim()),
            &beside,
            |file| write_values(file, embeddings.vectors(), f32::to_le_bytes),
        )
    })?;
    Ok(())
}

fn check_metadata(file: &TensorFile) -> Result<&str, FormatError> {
    if file.metadata("format") != Some(OWN_FORMAT) {
        return Err(file.error(format_args!(
            "is not marked as embeddings of a model version: it holds {}; needed is {NEEDED}",
            file.described()
        )));
    }
    if file.metadata("format_version") != Some(OWN_VERSION) {
        return Err(file.error(unknown_version(file)));
    }
    file.metadata("model_version")
        .ok_or_else(|| file.error("lacks the metadata key model_version"))
}

fn tensor(file: &TensorFile, name: &str) -> Result<safetensors::tensor::TensorInfo, FormatError> {
    file.tensor(name).cloned().ok_or_else(|| {
        file.error(format_args!(
            "lacks the tensor `{name}`: it holds {}",
            file.described()
        ))
    })
}

fn integers<T>(
    file: &mut TensorFile,
    name: &str,
    count: usize,
    limit: u64,
    convert: impl Fn(u64) -> T,
) -> Result<Option<Vec<T>>, FormatError> {
    let Some(info) = file.tensor(name).cloned() else {
        return Ok(None);
    };
    if info.shape != [count] {
        return Err(file.error(format_args!(
            "tensor `{name}` has shape {:?}, expected [{count}] for as many embeddings",
            info.shape
        )));
    }
    let kind: Integer = integer(info.dtype).ok_or_else(|| {
        file.error(format_args!(
            "tensor `{name}` is {}, expected an integer type such as I64",
            info.dtype
        ))
    })?;
    let values = file.integers(&info, kind, (0, count))?;
    let converted = values
        .iter()
        .enumerate()
        .map(|(row, &value)| match u64::try_from(value) {
            Ok(value) if value <= limit => Ok(convert(value)),
            _ => Err(file.error(format_args!(
                "`{name}` of row {row} is {value}, expected 0 to {limit}"
            ))),
        });
    converted.collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests;

//! Parquet files of Arrow's types. Reading and writing need the feature `parquet`; without it the files are recognised.

use std::path::Path;

use perennial_core::OutputFile;

use crate::error::FormatError;
use crate::stream::{BatchReader, BatchWriter, Header};
use crate::text_row::{TextColumns, TextReader};

#[cfg(feature = "parquet")]
mod cells;
#[cfg(feature = "parquet")]
mod columns;
#[cfg(feature = "parquet")]
mod encodings;
#[cfg(feature = "parquet")]
mod opened;
#[cfg(feature = "parquet")]
mod pages;
#[cfg(feature = "parquet")]
mod reader;
#[cfg(all(test, feature = "parquet"))]
mod tests;
#[cfg(feature = "parquet")]
mod texts;
#[cfg(feature = "parquet")]
mod thrift;
#[cfg(feature = "parquet")]
mod writer;

#[cfg(feature = "parquet")]
pub(crate) fn open(path: &Path) -> Result<Box<dyn BatchReader>, FormatError> {
    reader::open(path)
}

#[cfg(feature = "parquet")]
pub(crate) fn create(
    output: OutputFile,
    header: &Header,
) -> Result<Box<dyn BatchWriter>, FormatError> {
    writer::create(output, header)
}

#[cfg(feature = "parquet")]
pub(crate) fn open_texts(
    path: &Path,
    columns: &TextColumns,
) -> Result<Box<dyn TextReader>, FormatError> {
    texts::open(path, columns)
}

#[cfg(not(feature = "parquet"))]
pub(crate) fn open_texts(
    path: &Path,
    _columns: &TextColumns,
) -> Result<Box<dyn TextReader>, FormatError> {
    Err(left_out(path))
}

#[cfg(not(feature = "parquet"))]
pub(crate) fn open(path: &Path) -> Result<Box<dyn BatchReader>, FormatError> {
    Err(left_out(path))
}

#[cfg(not(feature = "parquet"))]
pub(crate) fn create(
    output: OutputFile,
    _header: &Header,
) -> Result<Box<dyn BatchWriter>, FormatError> {
    Err(left_out(output.path()))
}

#[cfg(not(feature = "parquet"))]
fn left_out(path: &Path) -> FormatError {
    FormatError::Feature {
        path: path.to_owned(),
        format: "Parquet",
        feature: "parquet",
    }
}

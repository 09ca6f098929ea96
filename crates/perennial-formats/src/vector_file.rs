//! Files of vectors of any format: recognised, read and written.

use std::path::Path;

use perennial_core::Output;

use crate::error::FormatError;
use crate::format::Format;
use crate::input::head;
use crate::stream::{Header, VectorReader, VectorWriter, checked, checked_writer};
use crate::table::FORMATS;
use crate::vector_set::VectorSet;

/// Values of a batch when a whole file is read that does not say how many rows it has.
const BATCH_VALUES: usize = 1 << 22;

/// The format of a file, by its content.
///
/// # Errors
/// The file cannot be read, or is of no known format.
pub fn detect(path: &Path) -> Result<Format, FormatError> {
    Format::of_content(&head(path)?).ok_or_else(|| {
        let names: Vec<&str> = FORMATS.iter().map(|entry| entry.name).collect();
        let problem = format!(
            "is of no format that holds vectors; those are {} (texts in UTF-8)",
            names.join(", ")
        );
        FormatError::file(path, problem)
    })
}

/// Opens a file of vectors. Its content decides which format it is, not its ending.
///
/// # Errors
/// [`FormatError`]: the file cannot be read, is of no known format, or its header is not understood.
pub fn open(path: &Path) -> Result<Box<dyn VectorReader>, FormatError> {
    let entry = detect(path)?.entry();
    checked(path, (entry.open)(path)?)
}

/// Reads a whole file. See [`open`].
///
/// # Errors
/// Those of [`open`] and [`VectorReader::next`]; a value that is not finite is refused with its row. Vectors of zeros are
/// left to [`VectorSet::check_directions`].
pub fn read(path: &Path) -> Result<VectorSet, FormatError> {
    let mut reader = open(path)?;
    let Header {
        dim, rows, space, ..
    } = reader.header().clone();
    let batch = match rows {
        Some(_) => usize::MAX,
        None => (BATCH_VALUES / dim).max(1),
    };
    let mut whole: Option<VectorSet> = None;
    while let Some(set) = reader.next(batch)? {
        match &mut whole {
            None => whole = Some(set),
            Some(whole) => whole
                .append(set)
                .map_err(|error| FormatError::file(path, error))?,
        }
    }
    match whole {
        Some(whole) => Ok(whole),
        None => Ok(VectorSet::new(dim, Vec::new())?.with_space(space)),
    }
}

/// Checks an output path and says in which format to write, which the ending decides. A file of another kind is not replaced.
///
/// # Errors
/// [`FormatError::Ending`] and those of [`Output::prepare_kind`].
pub fn prepare(path: &Path) -> Result<(Output, Format), FormatError> {
    let format = Format::of_ending(path)?;
    Ok((Output::prepare_kind(path, format.file_kind())?, format))
}

/// Starts a file of vectors. It takes its name when it is [finished](VectorWriter::finish).
///
/// Of the header, the dimension and the space count; `header.format` does not, so that a reader's header can be passed on. A number of rows
/// given must be the number written: npy files are then written in one go.
///
/// # Errors
/// The output cannot be written, or dimension 0.
pub fn create(
    output: Output,
    format: Format,
    header: &Header,
) -> Result<Box<dyn VectorWriter>, FormatError> {
    if header.dim == 0 {
        return Err(FormatError::file(
            output.path(),
            "vectors need at least 1 dimension",
        ));
    }
    let create = format.entry().create;
    let path = output.path().to_owned();
    Ok(checked_writer(
        path,
        header.dim,
        create(output.begin()?, header)?,
    ))
}

//! Files of vectors of any format: recognised, read and written.

use std::path::Path;

use perennial_core::Output;

use crate::error::FormatError;
use crate::format::Format;
use crate::input::{head, open_file, text_start};
use crate::stream::{Header, VectorReader, VectorWriter, checked, checked_writer};
use crate::table::FORMATS;
use crate::vector_set::VectorSet;

/// Values of a batch when a whole file is read that does not say how many rows it has.
const BATCH_VALUES: usize = 1 << 22;

/// A whole file is refused that has so many times as many bytes in memory as on disk, and more than so many altogether.
const MOST_TIMES: u64 = 1100;
const SMALL_BYTES: u64 = 1 << 30;

/// The format of a file, by its content.
///
/// # Errors
/// The file cannot be read, or is of no known format.
pub fn detect(path: &Path) -> Result<Format, FormatError> {
    let head = head(path)?;
    Format::of_content(&head).ok_or_else(|| {
        let names: Vec<&str> = FORMATS.iter().map(|entry| entry.name).collect();
        let problem = format!(
            "{}; formats of vectors are {} (texts in UTF-8)",
            other_content(&head).unwrap_or("is of no format that holds vectors"),
            names.join(", ")
        );
        FormatError::file(path, problem)
    })
}

/// What a file is that is often taken for one of vectors, and what to do with it.
fn other_content(head: &[u8]) -> Option<&'static str> {
    let starts: [(&[u8], &str); 9] = [
        (b"\x1f\x8b", "is compressed with gzip: unpack it"),
        (
            b"\x28\xb5\x2f\xfd",
            "is compressed with Zstandard: unpack it",
        ),
        (b"\xff\xfe", "is text in UTF-16: save it as UTF-8"),
        (b"\xfe\xff", "is text in UTF-16: save it as UTF-8"),
        (
            b"\x80\x02",
            "is a pickle, which is not read since it can run programs: save its array with `numpy.save`",
        ),
        (
            b"\x80\x04",
            "is a pickle, which is not read since it can run programs: save its array with `numpy.save`",
        ),
        (
            b"\x80\x05",
            "is a pickle, which is not read since it can run programs: save its array with `numpy.save`",
        ),
        (b"\x89HDF", "is HDF5: save its array with `numpy.save`"),
        (b"ARROW1", "is Arrow IPC (Feather): write it as Parquet"),
    ];
    if head.is_empty() {
        return Some("is empty");
    }
    if let Some((_, is)) = starts.iter().find(|(start, _)| head.starts_with(start)) {
        return Some(is);
    }
    match text_start(head) {
        Some(text) if text.starts_with('[') => {
            Some("is one JSON array: write its objects one a line (`jq -c '.[]'`)")
        }
        Some(_) => None,
        None => std::str::from_utf8(head)
            .err()
            .filter(|error| error.error_len().is_some() && !head.contains(&0))
            .map(|_| "is not UTF-8: if it is a text, save it as UTF-8"),
    }
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
    let declared = rows.map(|rows| rows.saturating_mul(4 * dim as u64));
    if let Some(bytes) = declared.filter(|&bytes| bytes > SMALL_BYTES) {
        let (_, length) = open_file(path)?;
        let limit = length.saturating_mul(MOST_TIMES).max(SMALL_BYTES);
        if bytes > limit {
            let problem = format!(
                "has {length} bytes, but declares vectors of {} MiB, and as a whole at most {} MiB of a file of this size are read; it is damaged, or its vectors are all alike",
                bytes >> 20,
                limit >> 20
            );
            return Err(FormatError::file(path, problem));
        }
    }
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

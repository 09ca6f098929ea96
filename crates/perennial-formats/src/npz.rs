//! NumPy's `.npz` archives: `embeddings` with `ids`, `labels` and `space`.

mod summed;

use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fs_err::File;
use perennial_core::{ItemId, OutputFile, SpaceId};
use zip::read::ZipArchive;
use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, result::ZipError};

use crate::error::FormatError;
use crate::format::Format;
use crate::input::open_file;
use crate::label::Label;
use crate::npy::{Array, ArrayHeader, Matrix, header_bytes, matrix_header};
use crate::spool::SpooledFile;
use crate::stream::{Batch, BatchReader, BatchWriter, Header};
use crate::vector_set::VectorSet;
use summed::Summed;

/// Names of the array of vectors, the first that is there counts.
const VECTOR_NAMES: [&str; 4] = ["embeddings", "vectors", "embedding", "arr_0"];
/// More than deflate can do: what claims to expand further is a bomb.
const MAX_EXPANSION: u64 = 1100;
/// Arrays that an error lists.
const LISTED: usize = 20;
/// An archive of more entries is no file of vectors.
const MAX_ENTRIES: usize = 1024;

struct Archive {
    path: PathBuf,
    /// Of the whole file.
    bytes: u64,
    zip: ZipArchive<BufReader<File>>,
}

impl Archive {
    fn open(path: &Path) -> Result<Self, FormatError> {
        let (file, bytes) = open_file(path)?;
        let zip = ZipArchive::new(BufReader::new(file)).map_err(broken(path))?;
        if zip.len() > MAX_ENTRIES {
            let problem = format!(
                "holds {} entries; an archive of vectors has a few",
                zip.len()
            );
            return Err(FormatError::file(path, problem));
        }
        Ok(Self {
            path: path.to_owned(),
            bytes,
            zip,
        })
    }

    fn has(&self, name: &str) -> bool {
        self.zip.index_for_name(&format!("{name}.npy")).is_some()
    }

    /// The second name where there is no array of the first.
    fn first(&self, [usual, other]: [&'static str; 2]) -> &'static str {
        if self.has(usual) { usual } else { other }
    }

    /// The arrays in words.
    fn arrays(&mut self) -> String {
        let names: Vec<String> = self
            .zip
            .file_names()
            .take(LISTED)
            .filter_map(Result::ok)
            .map(|name| name.into_owned())
            .collect();
        let mut words = Vec::new();
        for file in &names {
            let Some(name) = file.strip_suffix(".npy") else {
                words.push(format!("the file {file:?}"));
                continue;
            };
            let header = self.zip.by_name(file).ok().and_then(|mut entry| {
                let size = entry.size();
                ArrayHeader::read(&mut entry, size).ok()
            });
            words.push(match header {
                Some((header, _)) => format!("{name:?} ({} {:?})", header.descr, header.shape),
                None => format!("{name:?}"),
            });
        }
        match words.is_empty() {
            true => "nothing".to_owned(),
            false => words.join(", "),
        }
    }

    /// Reads an array to its end, which checks its sum.
    fn array<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(Array<&mut dyn Read>) -> Result<(T, Array<&mut dyn Read>), FormatError>,
    ) -> Result<Option<T>, FormatError> {
        if !self.has(name) {
            return Ok(None);
        }
        let mut entry = self
            .zip
            .by_name(&format!("{name}.npy"))
            .map_err(broken(&self.path))?;
        let size = entry.size();
        // The archive's list may claim anything; nothing is longer than the file that it stands in.
        let packed = entry.compressed_size();
        if packed > self.bytes || size / MAX_EXPANSION > packed {
            return Err(too_much(&self.path, name, size));
        }
        let source: &mut dyn Read = &mut entry;
        let array = Array::new(&self.path, Some(name.to_owned()), source, size)?;
        let (value, rest) = read(array)?;
        rest.finish()?;
        Ok(Some(value))
    }

    /// The place of an array that is stored as it is, and can be read by parts.
    fn stored(&mut self, name: &str) -> Result<Option<Place>, FormatError> {
        let entry = self
            .zip
            .by_name(&format!("{name}.npy"))
            .map_err(broken(&self.path))?;
        let as_it_is = entry.compression() == CompressionMethod::Stored
            && !entry.encrypted()
            && entry.size() == entry.compressed_size();
        let Some(start) = entry.data_start().filter(|_| as_it_is) else {
            return Ok(None);
        };
        let size = entry.size();
        if start.checked_add(size).is_none_or(|end| end > self.bytes) {
            return Err(too_much(&self.path, name, size));
        }
        Ok(Some(Place {
            start,
            size,
            sum: entry.crc32(),
        }))
    }
}

/// Where the bytes of an array stand, and their CRC-32.
struct Place {
    start: u64,
    size: u64,
    sum: u32,
}

fn too_much(path: &Path, name: &str, size: u64) -> FormatError {
    let problem = format!("array `{name}` claims to hold {size} bytes, more than it can");
    FormatError::file(path, problem)
}

fn broken(path: &Path) -> impl Fn(ZipError) -> FormatError + '_ {
    move |error| FormatError::file(path, format_args!("is a damaged npz archive: {error}"))
}

/// The arrays of an archive in words, such as `"ids" (<i8 [3])`.
pub(crate) fn arrays(path: &Path) -> Result<String, FormatError> {
    Ok(Archive::open(path)?.arrays())
}

/// The vectors: read by parts, or already in memory because they are compressed.
enum Vectors {
    Stored(Box<Matrix<Summed<BufReader<File>>>>),
    Whole { values: Vec<f32>, done: usize },
}

struct Reader {
    path: PathBuf,
    header: Header,
    vectors: Vectors,
    ids: Option<std::vec::IntoIter<ItemId>>,
    labels: Option<std::vec::IntoIter<Label>>,
}

pub(crate) fn open(path: &Path) -> Result<Box<dyn BatchReader>, FormatError> {
    let mut archive = Archive::open(path)?;
    let Some(name) = VECTOR_NAMES.into_iter().find(|name| archive.has(name)) else {
        let problem = format!(
            "holds no array `embeddings`, `vectors`, `embedding` or `arr_0`, but {}; save it with `numpy.savez(file, embeddings=…, ids=…)`",
            archive.arrays()
        );
        return Err(FormatError::file(path, problem));
    };
    let (vectors, rows, dim) = match archive.stored(name)? {
        Some(Place { start, size, sum }) => {
            let (mut file, _) = open_file(path)?;
            file.seek(SeekFrom::Start(start))?;
            let part = Summed::new(BufReader::with_capacity(1 << 16, file), size, sum);
            let matrix = Array::new(path, Some(name.to_owned()), part, size)?.matrix()?;
            let (rows, dim) = (matrix.rows, matrix.dim);
            (Vectors::Stored(Box::new(matrix)), rows, dim)
        }
        None => {
            let whole = archive.array(name, |array| {
                let mut matrix = array.matrix()?;
                let values = matrix.next(usize::MAX)?.unwrap_or_default();
                Ok(((values, matrix.rows, matrix.dim), matrix.into_array()))
            })?;
            let (values, rows, dim) = whole.unwrap_or_default();
            (Vectors::Whole { values, done: 0 }, rows, dim)
        }
    };
    let ids = archive.first(["ids", "id"]);
    let ids = archive.array(ids, |mut array| Ok((array.ids()?, array)))?;
    let labels = archive.first(["labels", "label"]);
    let labels = archive.array(labels, |mut array| Ok((array.labels()?, array)))?;
    let space = archive.array("space", |mut array| Ok((array.texts()?, array)))?;
    for (what, found) in [
        ("ids", ids.as_ref().map(Vec::len)),
        ("labels", labels.as_ref().map(Vec::len)),
    ] {
        if let Some(found) = found.filter(|&found| found != rows) {
            let problem = format!("{found} {what} for {rows} vectors; give one for each");
            return Err(FormatError::file(path, problem));
        }
    }
    let space = match space.as_deref() {
        None => None,
        Some([name]) => Some(
            SpaceId::new(name.as_str())
                .map_err(|error| FormatError::file(path, format_args!("the space: {error}")))?,
        ),
        Some(_) => return Err(FormatError::file(path, "array `space` must hold one text")),
    };
    Ok(Box::new(Reader {
        path: path.to_owned(),
        header: Header {
            dim,
            rows: Some(rows as u64),
            space,
            format: Format::Npz,
        },
        vectors,
        ids: ids.map(Vec::into_iter),
        labels: labels.map(Vec::into_iter),
    }))
}

impl BatchReader for Reader {
    fn header(&self) -> &Header {
        &self.header
    }

    fn next(&mut self, max_rows: usize) -> Result<Option<Batch>, FormatError> {
        let dim = self.header.dim;
        let vectors = match &mut self.vectors {
            Vectors::Stored(matrix) => matrix.next(max_rows)?,
            Vectors::Whole { values, done } => {
                let rows = max_rows.min(values.len() / dim - *done);
                let from = *done * dim;
                *done += rows;
                if rows * dim == values.len() {
                    (rows > 0)
                        .then(|| std::mem::take(values))
                        .inspect(|_| *done = 0)
                } else {
                    (rows > 0).then(|| values[from..from + rows * dim].to_vec())
                }
            }
        };
        let Some(vectors) = vectors else {
            return Ok(None);
        };
        let rows = vectors.len() / dim;
        let short = || FormatError::file(&self.path, "fewer ids or labels than vectors");
        let ids = self
            .ids
            .as_mut()
            .map(|ids| ids.take(rows).collect::<Vec<_>>());
        let labels = self
            .labels
            .as_mut()
            .map(|labels| labels.take(rows).collect::<Vec<_>>());
        if ids.as_ref().is_some_and(|ids| ids.len() != rows) {
            return Err(short());
        }
        Ok(Some(Batch {
            vectors,
            ids,
            labels,
            payload: None,
        }))
    }
}

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
        let file = self.0;
        let path = file.output.path().to_owned();
        let failed = |error: ZipError| match error {
            ZipError::Io(error) => FormatError::Io(error),
            other => FormatError::file(&path, format_args!("could not be written: {other}")),
        };
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(true);
        let mut zip = ZipWriter::new_stream(file.output);
        zip.start_file("embeddings.npy", options).map_err(failed)?;
        zip.write_all(&matrix_header(rows, file.dim))?;
        file.vectors.copy_to(&mut zip)?;
        if let Some(ids) = &file.ids {
            zip.start_file("ids.npy", options).map_err(failed)?;
            write_column(&mut zip, ids, "<u8", |id| match id {
                ItemId::Number(number) => Some(number.to_le_bytes()),
                ItemId::Text(_) => None,
            })?;
        }
        if let Some(labels) = &file.labels {
            zip.start_file("labels.npy", options).map_err(failed)?;
            write_column(&mut zip, labels, "<i8", |label| match label {
                Label::Number(number) => Some(number.to_le_bytes()),
                Label::Text(_) => None,
            })?;
        }
        if let Some(space) = &file.space {
            zip.start_file("space.npy", options).map_err(failed)?;
            write_texts(&mut zip, "()", &[space.as_str()])?;
        }
        let output = zip.finish().map_err(failed)?.into_inner();
        Ok(output.finish()?)
    }
}

/// Writes a column as numbers of 8 bytes, or as texts where not all of it are numbers.
fn write_column<T: std::fmt::Display>(
    target: &mut impl Write,
    values: &[T],
    descr: &str,
    number: impl Fn(&T) -> Option<[u8; 8]>,
) -> std::io::Result<()> {
    let shape = format!("({},)", values.len());
    let numbers: Option<Vec<[u8; 8]>> = values.iter().map(number).collect();
    match numbers {
        Some(numbers) => {
            target.write_all(&header_bytes(descr, &shape))?;
            target.write_all(numbers.as_flattened())
        }
        None => {
            let texts: Vec<String> = values.iter().map(T::to_string).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            write_texts(target, &shape, &texts)
        }
    }
}

fn write_texts(target: &mut impl Write, shape: &str, texts: &[&str]) -> std::io::Result<()> {
    let width = texts.iter().map(|text| text.chars().count()).max();
    let width = width.unwrap_or(0).max(1);
    target.write_all(&header_bytes(&format!("<U{width}"), shape))?;
    let mut element = Vec::with_capacity(4 * width);
    for text in texts {
        element.clear();
        element.extend(text.chars().flat_map(|c| u32::from(c).to_le_bytes()));
        element.resize(4 * width, 0);
        target.write_all(&element)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! NumPy's `.npy` files.
//!
//! **Source**: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.
//!
//! Nothing in a file is ever executed: arrays of objects are refused.

mod header;

use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use fs_err::File;
use perennial_core::bounded_read::reserve;
use perennial_core::{ItemId, OutputFile};

pub(crate) use header::{ArrayHeader, Element, to_bytes as header_bytes};

use crate::error::FormatError;
use crate::format::Format;
use crate::input::open_file;
use crate::label::Label;
use crate::numbers::{self, Float, Order};
use crate::spool::Spool;
use crate::stream::{Batch, BatchReader, BatchWriter, Header};
use crate::vector_set::VectorSet;

const CHUNK_BYTES: usize = 1 << 16;
/// Columns of a Fortran-ordered array that are transposed at once.
const BLOCK_COLUMNS: usize = 16;

/// One array whose header has been read, in a file of its own or in an archive.
pub(crate) struct Array<R> {
    path: PathBuf,
    /// The name within an archive.
    member: Option<String>,
    header: ArrayHeader,
    source: R,
}

impl Array<BufReader<File>> {
    pub(crate) fn open(path: &Path) -> Result<Self, FormatError> {
        let (file, size) = open_file(path)?;
        Self::new(
            path,
            None,
            BufReader::with_capacity(CHUNK_BYTES, file),
            size,
        )
    }
}

impl<R: Read> Array<R> {
    /// Reads the header. `size` is the number of bytes that `source` has.
    pub(crate) fn new(
        path: &Path,
        member: Option<String>,
        mut source: R,
        size: u64,
    ) -> Result<Self, FormatError> {
        let (header, data_bytes) = ArrayHeader::read(&mut source, size)
            .map_err(|problem| FormatError::file(path, named(member.as_deref(), &problem)))?;
        let array = Self {
            path: path.to_owned(),
            member,
            header,
            source,
        };
        let expected = array.header.data_bytes();
        if expected != Some(data_bytes) {
            let expected =
                expected.map_or("more than any file holds".to_owned(), |n| n.to_string());
            return Err(array.error(format_args!(
                "{data_bytes} bytes of values where shape {:?} needs {expected}; the file was cut or changed, save it again",
                array.header.shape
            )));
        }
        Ok(array)
    }

    fn error(&self, problem: impl std::fmt::Display) -> FormatError {
        FormatError::file(&self.path, named(self.member.as_deref(), &problem))
    }

    /// Refuses the array for its type or shape.
    fn refuse(&self, need: &str, advice: &str) -> FormatError {
        self.error(format_args!(
            "the array is `{}` of shape {:?}; {need}, {advice}",
            self.header.descr, self.header.shape
        ))
    }

    /// Takes the array for vectors, `[n, dim]`.
    pub(crate) fn matrix(self) -> Result<Matrix<R>, FormatError> {
        let &[rows, dim] = self.header.shape.as_slice() else {
            return Err(self.refuse("vectors need a 2-D array [n, dim]", "reshape it"));
        };
        let Element::Float(float) = self.header.element else {
            return Err(self.refuse(
                "vectors need f16, f32 or f64",
                "convert it with `.astype('<f4')`",
            ));
        };
        if dim == 0 {
            return Err(self.error("the vectors have 0 dimensions; at least 1 is needed"));
        }
        Ok(Matrix {
            rows,
            dim,
            float,
            done: 0,
            transposed: None,
            array: self,
        })
    }

    /// Reads the elements of a 1-D array, or the one of a 0-D array, `convert`ing several at once.
    fn elements<T>(
        &mut self,
        size: usize,
        mut convert: impl FnMut(u64, &[u8], &mut Vec<T>) -> Result<(), String>,
    ) -> Result<Vec<T>, FormatError> {
        // Sizes of the file and of the shape have been compared, so this is at most the file's length.
        let count: usize = self.header.shape.iter().product();
        let mut values = reserve(&self.path, count as u64)?;
        let at_once = (CHUNK_BYTES / size).max(1);
        let mut buffer = Vec::new();
        for first in (0..count).step_by(at_once) {
            let wanted = at_once.min(count - first) * size;
            fill(&mut self.source, &mut buffer, wanted).map_err(|error| self.reading(&error))?;
            convert(first as u64, &buffer, &mut values).map_err(|problem| self.error(problem))?;
        }
        Ok(values)
    }

    fn reading(&self, error: &std::io::Error) -> FormatError {
        self.error(format_args!("could not be read: {error}"))
    }

    /// Reads a column of numbers or texts.
    fn column<T: std::str::FromStr>(
        &mut self,
        what: &str,
        number: impl Fn(u64, i128) -> Result<T, String>,
    ) -> Result<Vec<T>, FormatError>
    where
        T::Err: std::fmt::Display,
    {
        if self.header.shape.len() != 1 {
            return Err(self.refuse(&format!("{what} need a 1-D array"), "reshape it"));
        }
        let order = self.header.order;
        match self.header.element {
            Element::Integer(integer) => {
                let mut integers = Vec::new();
                self.elements(integer.bytes(), |first, bytes, out| {
                    integers.clear();
                    integer.decode(bytes, order, &mut integers);
                    for (row, &value) in (first..).zip(&integers) {
                        out.push(number(row, value)?);
                    }
                    Ok(())
                })
            }
            Element::Utf32(_) | Element::Bytes(_) => {
                let texts = self.texts()?;
                let parse = |(row, text): (usize, String)| {
                    text.parse::<T>()
                        .map_err(|error| self.error(format_args!("row {row}: {error}")))
                };
                texts.into_iter().enumerate().map(parse).collect()
            }
            Element::Float(_) => Err(self.refuse(
                &format!("{what} are integers or texts"),
                "convert it with `.astype('<i8')`",
            )),
        }
    }

    pub(crate) fn ids(&mut self) -> Result<Vec<ItemId>, FormatError> {
        self.column("ids", numbers::item_id)
    }

    pub(crate) fn labels(&mut self) -> Result<Vec<Label>, FormatError> {
        self.column("labels", numbers::label)
    }

    /// Reads texts of fixed width; zeros at the end are no part of them.
    pub(crate) fn texts(&mut self) -> Result<Vec<String>, FormatError> {
        let (size, utf32) = match self.header.element {
            Element::Utf32(width) => (width.saturating_mul(4), true),
            Element::Bytes(width) => (width, false),
            _ => return Err(self.refuse("texts are needed", "convert it with `.astype(str)`")),
        };
        if size == 0 {
            return Err(self.refuse("the texts have no width", "save it again"));
        }
        let order = self.header.order;
        self.elements(size, |first, bytes, out| {
            for (row, element) in (first..).zip(bytes.chunks_exact(size)) {
                let text = if utf32 {
                    utf32_text(element, order)
                } else {
                    String::from_utf8(element.to_vec()).ok()
                };
                let text = text.ok_or_else(|| format!("row {row} holds no valid text"))?;
                out.push(text.trim_end_matches('\0').to_owned());
            }
            Ok(())
        })
    }

    /// Reads past the end, which lets an archive check its sum.
    pub(crate) fn finish(mut self) -> Result<(), FormatError> {
        match self.source.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.error("more bytes follow than the archive's list says")),
            Err(error) => Err(self.reading(&error)),
        }
    }
}

fn named(member: Option<&str>, problem: &dyn std::fmt::Display) -> String {
    match member {
        Some(member) => format!("array `{member}`: {problem}"),
        None => problem.to_string(),
    }
}

fn utf32_text(bytes: &[u8], order: Order) -> Option<String> {
    let (units, _) = bytes.as_chunks::<4>();
    units
        .iter()
        .map(|&unit| {
            char::from_u32(match order {
                Order::Little => u32::from_le_bytes(unit),
                Order::Big => u32::from_be_bytes(unit),
            })
        })
        .collect()
}

/// Reads exactly `wanted` bytes. The buffer grows with what comes, not with what is promised.
fn fill(source: &mut impl Read, buffer: &mut Vec<u8>, wanted: usize) -> std::io::Result<()> {
    buffer.clear();
    source.by_ref().take(wanted as u64).read_to_end(buffer)?;
    if buffer.len() < wanted {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// An array of vectors, read by rows.
pub(crate) struct Matrix<R> {
    array: Array<R>,
    pub(crate) rows: usize,
    pub(crate) dim: usize,
    float: Float,
    done: usize,
    /// A Fortran-ordered array has to be read whole before its first row is known.
    transposed: Option<Vec<f32>>,
}

impl<R: Read> Matrix<R> {
    /// The next rows, or `None` at the end.
    pub(crate) fn next(&mut self, max_rows: usize) -> Result<Option<Vec<f32>>, FormatError> {
        let rows = max_rows.min(self.rows - self.done);
        if rows == 0 {
            return Ok(None);
        }
        let values = if self.array.header.fortran_order {
            self.transposed_rows(rows)?
        } else {
            self.values(rows * self.dim)?
        };
        self.done += rows;
        Ok(Some(values))
    }

    fn values(&mut self, count: usize) -> Result<Vec<f32>, FormatError> {
        let array = &mut self.array;
        let mut values = reserve(&array.path, count as u64)?;
        let at_once = CHUNK_BYTES / self.float.bytes();
        let mut buffer = Vec::new();
        for first in (0..count).step_by(at_once) {
            let wanted = at_once.min(count - first) * self.float.bytes();
            let filled = fill(&mut array.source, &mut buffer, wanted);
            filled.map_err(|error| array.reading(&error))?;
            self.float.decode(&buffer, array.header.order, &mut values);
        }
        Ok(values)
    }

    fn transposed_rows(&mut self, rows: usize) -> Result<Vec<f32>, FormatError> {
        let whole = match self.transposed.take() {
            Some(whole) => whole,
            None => self.transpose()?,
        };
        if rows == self.rows {
            return Ok(whole);
        }
        let values = whole[self.done * self.dim..][..rows * self.dim].to_vec();
        if self.done + rows < self.rows {
            self.transposed = Some(whole);
        }
        Ok(values)
    }

    fn transpose(&mut self) -> Result<Vec<f32>, FormatError> {
        let (rows, dim) = (self.rows, self.dim);
        let mut whole: Vec<f32> = reserve(&self.array.path, (rows * dim) as u64)?;
        whole.resize(rows * dim, 0.0);
        for first in (0..dim).step_by(BLOCK_COLUMNS) {
            let columns = BLOCK_COLUMNS.min(dim - first);
            let block = self.values(columns * rows)?;
            for (row, target) in whole.chunks_exact_mut(dim).enumerate() {
                for (column, value) in target[first..first + columns].iter_mut().enumerate() {
                    *value = block[column * rows + row];
                }
            }
        }
        Ok(whole)
    }

    /// The array, of which the values have been read.
    pub(crate) fn into_array(self) -> Array<R> {
        self.array
    }
}

struct Reader {
    header: Header,
    matrix: Matrix<BufReader<File>>,
}

pub(crate) fn open(path: &Path) -> Result<Box<dyn BatchReader>, FormatError> {
    let matrix = Array::open(path)?.matrix()?;
    Ok(Box::new(Reader {
        header: Header {
            dim: matrix.dim,
            rows: Some(matrix.rows as u64),
            space: None,
            format: Format::Npy,
        },
        matrix,
    }))
}

impl BatchReader for Reader {
    fn header(&self) -> &Header {
        &self.header
    }

    fn next(&mut self, max_rows: usize) -> Result<Option<Batch>, FormatError> {
        let vectors = self.matrix.next(max_rows)?;
        Ok(vectors.map(|vectors| Batch {
            vectors,
            ..Batch::default()
        }))
    }
}

struct Writer {
    output: OutputFile,
    dim: usize,
    /// The rows that the header written first speaks of; without them the values wait.
    promised: Option<u64>,
    waiting: Spool,
}

pub(crate) fn create(
    mut output: OutputFile,
    header: &Header,
) -> Result<Box<dyn BatchWriter>, FormatError> {
    if let Some(rows) = header.rows {
        output.write_all(&matrix_header(rows, header.dim))?;
    }
    Ok(Box::new(Writer {
        output,
        dim: header.dim,
        promised: header.rows,
        waiting: Spool::default(),
    }))
}

/// What stands before the values of an array of f32.
pub(crate) fn matrix_header(rows: u64, dim: usize) -> Vec<u8> {
    header_bytes("<f4", &format!("({rows}, {dim})"))
}

impl BatchWriter for Writer {
    fn write(&mut self, batch: &VectorSet) -> Result<(), FormatError> {
        if self.promised.is_none() {
            self.waiting.write(&self.output, batch.vectors())?;
            return Ok(());
        }
        for values in batch.vectors().chunks(CHUNK_BYTES) {
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            self.output.write_all(&bytes)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, rows: u64) -> Result<(), FormatError> {
        match self.promised {
            None => {
                self.output.write_all(&matrix_header(rows, self.dim))?;
                self.waiting.copy_to(&mut self.output)?;
            }
            Some(promised) if promised != rows => {
                let problem = format!("{rows} rows were written where {promised} were announced");
                return Err(FormatError::file(self.output.path(), problem));
            }
            Some(_) => {}
        }
        Ok(self.output.finish()?)
    }
}

#[cfg(test)]
mod tests;

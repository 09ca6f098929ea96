//! The pages of a file, each of which is handed to the Parquet library only if there is room for what it becomes.

use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::read::MultiGzDecoder;
use parquet::arrow::arrow_reader::RowGroups;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use super::columns::Leaf;
use super::encodings::{differences, repeated_starts, widest_rows};
use super::thrift::{INDEX_PAGE, PageHeader, page_header};

/// What reading a file may take, whatever its size.
const SMALLEST_LIMIT: u64 = 256 << 20;
/// And how many times the size of the file.
const LIMIT_TIMES: u64 = 16;
/// Stored bytes up to which a gzip page, which may become 1032 times as long, is not measured first.
const SMALL_GZIP: u64 = 64 << 10;

/// The memory that the pages and the values of a batch may take.
pub(super) fn limit(file_bytes: u64) -> u64 {
    file_bytes.saturating_mul(LIMIT_TIMES).max(SMALLEST_LIMIT)
}

/// What was refused because it would take too much memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TooLarge {
    pub(super) column: String,
    pub(super) bytes: u64,
}

/// The memory that is left for a batch, of all columns together.
pub(super) struct Budget {
    limit: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: u64,
    /// Of each leaf: its dictionary and its page in hand.
    held: Vec<[u64; 2]>,
    refused: Option<TooLarge>,
}

impl Budget {
    pub(super) fn new(limit: u64, leaves: usize) -> Arc<Self> {
        let held = vec![[0; 2]; leaves];
        Arc::new(Self {
            limit,
            state: Mutex::new(State {
                held,
                ..State::default()
            }),
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A new batch: what is held from the last one are the pages in hand.
    pub(super) fn next_batch(&self) {
        self.with(|state| state.used = state.held.iter().flatten().sum());
    }

    pub(super) fn refused(&self) -> Option<TooLarge> {
        self.with(|state| state.refused.clone())
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    fn left(&self) -> u64 {
        self.with(|state| self.limit.saturating_sub(state.used))
    }

    fn check(&self, more: u64, column: &ColumnChunkMetaData) -> Result<()> {
        self.with(|state| {
            let bytes = state.used.saturating_add(more);
            if bytes <= self.limit {
                return Ok(());
            }
            let column = column.column_path().string();
            state.refused = Some(TooLarge { column, bytes });
            Err(ParquetError::General("too large".to_owned()))
        })
    }

    fn take(&self, more: u64, leaf: usize, dictionary: bool) {
        self.with(|state| {
            state.used = state.used.saturating_add(more);
            state.held[leaf][usize::from(!dictionary)] = more;
        });
    }
}

/// All row groups of a file.
pub(super) struct Groups {
    file: Arc<File>,
    metadata: Arc<ParquetMetaData>,
    leaves: Arc<[Leaf]>,
    batch_rows: u64,
    budget: Arc<Budget>,
}

impl Groups {
    pub(super) fn new(
        file: File,
        metadata: Arc<ParquetMetaData>,
        leaves: Vec<Leaf>,
        batch_rows: usize,
        budget: Arc<Budget>,
    ) -> Self {
        Self {
            file: Arc::new(file),
            metadata,
            leaves: leaves.into(),
            batch_rows: batch_rows as u64,
            budget,
        }
    }
}

impl RowGroups for Groups {
    fn num_rows(&self) -> usize {
        self.metadata.file_metadata().num_rows() as usize
    }

    fn column_chunks(&self, index: usize) -> Result<Box<dyn PageIterator>> {
        let place = self.leaves.iter().position(|leaf| leaf.index == index);
        let Some(place) = place else {
            return Err(ParquetError::General("a column too many".to_owned()));
        };
        Ok(Box::new(Chunks {
            file: self.file.clone(),
            metadata: self.metadata.clone(),
            leaf: self.leaves[place],
            place,
            batch_rows: self.batch_rows,
            budget: self.budget.clone(),
            next: 0,
        }))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.metadata.row_groups().iter())
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

/// One column in all row groups.
struct Chunks {
    file: Arc<File>,
    metadata: Arc<ParquetMetaData>,
    leaf: Leaf,
    place: usize,
    batch_rows: u64,
    budget: Arc<Budget>,
    next: usize,
}

impl Iterator for Chunks {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        let group = self.metadata.row_groups().get(self.next)?;
        self.next += 1;
        let open = || -> Result<Box<dyn PageReader>> {
            let column = group
                .columns()
                .get(self.leaf.index)
                .ok_or_else(|| ParquetError::General("a column is missing".to_owned()))?;
            let rows = usize::try_from(group.num_rows())?;
            let (start, bytes) = column.byte_range();
            let within = start
                .checked_add(bytes)
                .is_some_and(|end| end <= self.file.len());
            if !within {
                return Err(ParquetError::EOF(
                    "a column goes beyond the file".to_owned(),
                ));
            }
            let inner = SerializedPageReader::new(self.file.clone(), column, rows, None)?;
            Ok(Box::new(Pages {
                file: self.file.clone(),
                column: column.clone(),
                leaf: self.leaf,
                place: self.place,
                batch_rows: self.batch_rows,
                budget: self.budget.clone(),
                inner,
                start,
                bytes,
                peeked: None,
            }))
        };
        Some(open())
    }
}

impl PageIterator for Chunks {}

/// The pages of one column in one row group.
struct Pages {
    file: Arc<File>,
    column: ColumnChunkMetaData,
    leaf: Leaf,
    place: usize,
    batch_rows: u64,
    budget: Arc<Budget>,
    inner: SerializedPageReader<File>,
    /// Where the next page starts, and the bytes from there to the end of the column.
    start: u64,
    bytes: u64,
    peeked: Option<PageHeader>,
}

impl Pages {
    /// The header of the next page, which lies within the column.
    fn header(&mut self) -> Result<Option<PageHeader>> {
        while self.peeked.is_none() {
            if self.bytes == 0 {
                return Ok(None);
            }
            let mut source = self.file.get_read(self.start)?.take(self.bytes);
            let header = page_header(&mut source)?;
            // The header read at most the bytes that are left.
            let body = self.bytes - header.bytes;
            if header.stored as u64 > body {
                return Err(ParquetError::EOF(
                    "a page goes beyond its column".to_owned(),
                ));
            }
            if header.kind == INDEX_PAGE {
                self.pass(&header);
            } else {
                self.peeked = Some(header);
            }
        }
        Ok(self.peeked)
    }

    fn pass(&mut self, header: &PageHeader) {
        let whole = header.bytes + header.stored as u64;
        self.start += whole;
        self.bytes -= whole;
    }

    /// Whether a gzip page becomes as long as it says; the library believes the page instead.
    fn measured(&self, header: &PageHeader) -> Result<()> {
        let gzip = matches!(self.column.compression(), Compression::GZIP(_));
        if !gzip || !header.compressed || header.stored as u64 <= SMALL_GZIP {
            return Ok(());
        }
        let levels = header.levels.min(header.stored) as u64;
        let start = self.start + header.bytes + levels;
        let packed = self
            .file
            .get_read(start)?
            .take(header.stored as u64 - levels);
        let expected = (header.expanded as u64).saturating_sub(levels);
        let unpacked = MultiGzDecoder::new(packed).take(expected + 1);
        let bytes = io::copy(&mut { unpacked }, &mut io::sink())?;
        if bytes > expected {
            return Err(ParquetError::General(
                "a page becomes longer than it says".to_owned(),
            ));
        }
        Ok(())
    }

    /// What the values of a page become in memory, beside the page itself.
    fn values(&self, page: &Page) -> Result<u64> {
        let damaged = || ParquetError::General("a damaged page".to_owned());
        let count = u64::from(page.num_values());
        let buffer = page.buffer();
        if let Page::DictionaryPage { .. } = page {
            // A text has its length before it, and any other value at least a byte.
            let least = if self.leaf.texts { 4 } else { 1 };
            if count.saturating_mul(least) > buffer.len() as u64 {
                return Err(damaged());
            }
            return Ok(count * 16);
        }
        let descriptor = self.column.column_descr();
        let (repetition, values) =
            parts(page, descriptor.max_rep_level(), descriptor.max_def_level())
                .ok_or_else(damaged)?;
        let mut memory = match repetition {
            Repetition::None => 0,
            Repetition::Levels(levels) => {
                let bits = bits(descriptor.max_rep_level());
                // Consecutive rows may lie across two windows.
                let widest = widest_rows(levels, bits, count, self.batch_rows);
                widest.saturating_mul(2).min(count)
            }
            Repetition::Unknown => count,
        }
        .saturating_mul(self.leaf.per_value);
        self.budget.check(memory, &self.column)?;
        if self.leaf.texts {
            // Each number takes 4 bytes, here and in the library.
            let most = count.min(self.budget.left().saturating_sub(memory) / 16);
            let texts = match page.encoding() {
                Encoding::DELTA_LENGTH_BYTE_ARRAY => {
                    differences(values, most).ok_or_else(damaged)?;
                    0
                }
                Encoding::DELTA_BYTE_ARRAY => repeated_starts(values, most).ok_or_else(damaged)?,
                _ => return Ok(memory),
            };
            memory = memory.saturating_add(count * 16).saturating_add(texts);
        }
        Ok(memory)
    }
}

enum Repetition<'a> {
    None,
    Levels(&'a [u8]),
    Unknown,
}

fn bits(max_level: i16) -> u32 {
    u16::BITS - max_level.unsigned_abs().leading_zeros()
}

/// The repetition levels of a data page, and its values.
fn parts(page: &Page, repetition: i16, definition: i16) -> Option<(Repetition<'_>, &[u8])> {
    let whole: &[u8] = page.buffer();
    match page {
        Page::DataPageV2 {
            rep_levels_byte_len,
            def_levels_byte_len,
            ..
        } => {
            let (levels, rest) = whole.split_at_checked(*rep_levels_byte_len as usize)?;
            let (_, values) = rest.split_at_checked(*def_levels_byte_len as usize)?;
            let levels = match repetition {
                0 => Repetition::None,
                _ => Repetition::Levels(levels),
            };
            Some((levels, values))
        }
        Page::DataPage {
            num_values,
            rep_level_encoding,
            def_level_encoding,
            ..
        } => {
            let mut rest = whole;
            let mut first = |encoding: Encoding, most: i16| {
                if most == 0 {
                    return Some(Repetition::None);
                }
                if encoding == Encoding::RLE {
                    let (length, after) = rest.split_first_chunk::<4>()?;
                    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
                    let (levels, after) = after.split_at_checked(length)?;
                    rest = after;
                    return Some(Repetition::Levels(levels));
                }
                let bytes = (*num_values as usize).checked_mul(bits(most) as usize)?;
                (_, rest) = rest.split_at_checked(bytes.div_ceil(8))?;
                Some(Repetition::Unknown)
            };
            let levels = first(*rep_level_encoding, repetition)?;
            first(*def_level_encoding, definition)?;
            Some((levels, rest))
        }
        Page::DictionaryPage { .. } => Some((Repetition::None, whole)),
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let Some(header) = self.header()? else {
            return Ok(None);
        };
        self.budget.check(header.expanded as u64, &self.column)?;
        self.measured(&header)?;
        let page = self.inner.get_next_page()?;
        self.peeked = None;
        self.pass(&header);
        let Some(page) = page else {
            return Ok(None);
        };
        let bytes = page.buffer().len() as u64;
        let memory = self.values(&page)?.saturating_add(bytes);
        self.budget.check(memory, &self.column)?;
        self.budget
            .take(memory, self.place, page.is_dictionary_page());
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        match self.header()? {
            Some(_) => self.inner.peek_next_page(),
            None => Ok(None),
        }
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.get_next_page().map(drop)
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

//! Opening a file, and reading its rows in batches that stay within the limit of memory.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReader};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels};
use parquet::file::metadata::ParquetMetaData;
use perennial_core::catch_quietly;

use super::columns::{Leaf, leaves, types_read};
use super::pages::{Budget, Groups, TooLarge, limit};
use crate::error::FormatError;
use crate::input::open_file;

/// Memory that a batch has on average.
const BATCH_BYTES: u64 = 16 << 20;

/// A file of which the schema is known.
pub(super) struct Opened {
    path: PathBuf,
    file: File,
    bytes: u64,
    metadata: ArrowReaderMetadata,
}

/// Calls the Parquet library, which panics on some damaged files.
pub(super) fn guarded<T, E: std::fmt::Display>(
    path: &Path,
    call: impl FnOnce() -> Result<T, E>,
) -> Result<T, FormatError> {
    match catch_quietly(call) {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => {
            let error = error.to_string();
            Err(match error.contains("Disabled feature at compile time") {
                true => FormatError::file(
                    path,
                    format_args!(
                        "is compressed in a way that is not read ({error}); write it without compression, or with Snappy, gzip, LZ4 or Zstandard"
                    ),
                ),
                false => {
                    FormatError::file(path, format_args!("is a damaged Parquet file: {error}"))
                }
            })
        }
        None => Err(FormatError::file(
            path,
            "is a damaged Parquet file; write it again",
        )),
    }
}

impl Opened {
    pub(super) fn open(path: &Path) -> Result<Self, FormatError> {
        let (file, bytes) = open_file(path)?;
        let (file, _) = file.into_parts();
        let metadata = guarded(path, || {
            ArrowReaderMetadata::load(&file, Default::default())
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            bytes,
            metadata,
        })
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// The number of rows that the file declares.
    pub(super) fn rows(&self) -> Option<u64> {
        let rows = self.metadata.metadata().file_metadata().num_rows();
        u64::try_from(rows).ok()
    }

    /// A value of the file's metadata.
    pub(super) fn value(&self, key: &str) -> Option<String> {
        let metadata = self.metadata.metadata().file_metadata();
        let mut entries = metadata.key_value_metadata().into_iter().flatten();
        entries.find(|entry| entry.key == key)?.value.clone()
    }

    /// Reads these columns, in the order of the file. `payload` says which become JSON.
    pub(super) fn batches(
        self,
        columns: &[usize],
        payload: impl Fn(usize) -> bool,
        most_rows: usize,
    ) -> Result<Batches, FormatError> {
        let metadata = self.metadata.metadata().clone();
        let schema = metadata.file_metadata().schema_descr();
        let fields = types_read(self.schema().fields());
        let path = self.path;
        let leaves = guarded(&path, || {
            leaves(schema, &fields, columns, payload).ok_or("its schema contradicts itself")
        })?;
        let budget = Budget::new(limit(self.bytes), leaves.len());
        if let Some(wide) = leaves.iter().find(|leaf| leaf.per_row > budget.limit()) {
            let refused = TooLarge {
                column: schema.column(wide.index).path().string(),
                bytes: wide.per_row,
            };
            return Err(too_large(&path, refused, budget.limit()));
        }
        let batch_rows = batch_rows(&metadata, &leaves, most_rows);
        let reader = guarded(&path, || {
            let mask = ProjectionMask::roots(schema, columns.iter().copied());
            let levels = parquet_to_arrow_field_levels(schema, mask, Some(&fields))?;
            let file = self.file;
            let groups = Groups::new(file, metadata.clone(), leaves, batch_rows, budget.clone());
            ParquetRecordBatchReader::try_new_with_row_groups(&levels, &groups, batch_rows, None)
        })?;
        Ok(Batches {
            path,
            reader,
            budget,
        })
    }
}

/// As many rows as have the memory of a batch on average.
fn batch_rows(metadata: &ParquetMetaData, leaves: &[Leaf], most: usize) -> usize {
    let (mut rows, mut memory) = (0_u64, 0_u64);
    for group in metadata.row_groups() {
        rows = rows.saturating_add(u64::try_from(group.num_rows()).unwrap_or(0));
        for leaf in leaves {
            let Some(column) = group.columns().get(leaf.index) else {
                continue;
            };
            let values = u64::try_from(column.num_values()).unwrap_or(0);
            memory = memory.saturating_add(values.saturating_mul(leaf.per_value));
            if leaf.texts {
                let bytes = u64::try_from(column.uncompressed_size()).unwrap_or(0);
                memory = memory.saturating_add(bytes);
            }
        }
    }
    let fixed: u64 = leaves
        .iter()
        .fold(0, |sum, leaf| sum.saturating_add(leaf.per_row));
    let of_a_row = (memory / rows.max(1)).saturating_add(fixed).max(1);
    let fitting = usize::try_from(BATCH_BYTES / of_a_row).unwrap_or(most);
    fitting.clamp(1, most)
}

fn too_large(path: &Path, refused: TooLarge, limit: u64) -> FormatError {
    FormatError::Memory {
        path: path.to_owned(),
        column: refused.column,
        bytes: refused.bytes,
        limit,
    }
}

/// The rows, in batches.
pub(super) struct Batches {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    budget: Arc<Budget>,
}

impl Batches {
    /// The next record batch that has rows.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>, FormatError> {
        loop {
            self.budget.next_batch();
            let reader = &mut self.reader;
            let next = guarded(&self.path, || reader.next().transpose());
            if let Some(refused) = self.budget.refused() {
                return Err(too_large(&self.path, refused, self.budget.limit()));
            }
            match next? {
                Some(batch) if batch.num_rows() == 0 => {}
                other => return Ok(other),
            }
        }
    }
}

//! Files of fixed-size records: a few label bytes, then the pixels. CIFAR and the 32x32 Tiny-ImageNet file look like this.

use std::io::{BufReader, Read};
use std::path::Path;

use crate::error::MAX_BYTES;
use crate::{DataError, ImageSet};

/// Layout of one record.
pub(crate) struct RecordLayout {
    /// Bytes before the pixels.
    pub label_bytes: usize,
    /// Finds the label among them.
    pub label: fn(&[u8]) -> u32,
    /// Offset of that label inside the record, for messages.
    pub label_offset: u64,
    /// Number of classes; labels are below it.
    pub classes: usize,
}

/// `[channels, height, width]` of every record format here.
const SHAPE: [usize; 3] = [3, 32, 32];
const IMAGE_BYTES: usize = SHAPE[0] * SHAPE[1] * SHAPE[2];

/// Reads the files one after the other into one set.
pub(crate) fn read(
    name: &str,
    paths: &[&Path],
    layout: &RecordLayout,
) -> Result<ImageSet, DataError> {
    let Some(&first) = paths.first() else {
        return Err(DataError::invalid(name, "no file was given"));
    };
    let record_bytes = (layout.label_bytes + IMAGE_BYTES) as u64;
    let mut counts = Vec::with_capacity(paths.len());
    let mut total: u64 = 0;
    for path in paths {
        let bytes = file_size(path)?;
        total = total.saturating_add(bytes);
        if total > MAX_BYTES {
            return Err(DataError::TooLarge {
                path: path.to_path_buf(),
                bytes: total,
                limit: MAX_BYTES,
            });
        }
        if bytes == 0 {
            return Err(DataError::Empty {
                path: path.to_path_buf(),
            });
        }
        if bytes % record_bytes != 0 {
            return Err(DataError::PartialRecord {
                path: path.to_path_buf(),
                offset: bytes - bytes % record_bytes,
                found: bytes % record_bytes,
                record_bytes,
            });
        }
        counts.push(bytes / record_bytes);
    }

    let images = (total / record_bytes) as usize;
    let mut pixels = allocate::<u8>(first, images * IMAGE_BYTES)?;
    let mut labels = allocate::<u32>(first, images)?;
    let mut record = vec![0; record_bytes as usize];
    for (path, count) in paths.iter().zip(counts) {
        let file = std::fs::File::open(path).map_err(DataError::io(path))?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        for index in 0..count {
            reader
                .read_exact(&mut record)
                .map_err(DataError::io(path))?;
            let label = (layout.label)(&record[..layout.label_bytes]);
            if label as usize >= layout.classes {
                return Err(DataError::LabelOutOfRange {
                    path: path.to_path_buf(),
                    offset: index * record_bytes + layout.label_offset,
                    label: i64::from(label),
                    classes: layout.classes,
                });
            }
            labels.push(label);
            pixels.extend_from_slice(&record[layout.label_bytes..]);
        }
    }
    ImageSet::new(name, SHAPE, pixels, labels, layout.classes)
}

/// Size of a regular file in bytes.
pub(crate) fn file_size(path: &Path) -> Result<u64, DataError> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(DataError::Missing {
                path: path.to_path_buf(),
                remedy: "check the path, or fetch the data set again".into(),
            });
        }
        Err(error) => return Err(DataError::io(path)(error)),
    };
    if !metadata.is_file() {
        return Err(DataError::NotAFile {
            path: path.to_path_buf(),
        });
    }
    Ok(metadata.len())
}

/// An empty vector with room for `length` values; a failed allocation becomes an error.
pub(crate) fn allocate<T>(path: &Path, length: usize) -> Result<Vec<T>, DataError> {
    let mut values = Vec::new();
    values
        .try_reserve_exact(length)
        .map_err(|_| DataError::OutOfMemory {
            path: path.to_path_buf(),
            bytes: length as u64 * size_of::<T>() as u64,
        })?;
    Ok(values)
}

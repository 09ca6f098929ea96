//! Tiny-ImageNet: [`official`] reads the published folders; this module a file of records of 32x32 pixels, which is smaller and
//! read at once.
//!
//! A record is a 2-byte little-endian label below 200, then 1,024 red, 1,024 green and 1,024 blue bytes, each plane row by row.

pub mod official;

use std::path::Path;

use crate::record_file::{self, RecordLayout};
use crate::{DataError, ImageSet};

/// Classes of the set.
const CLASSES: usize = 200;
/// Rows and columns of a record's image.
const RECORD_SIZE: usize = 32;

/// Reads the file into a set of 200 classes.
///
/// **Shapes**: `[n, 3, 32, 32]`. Any whole number of records is accepted.
///
/// **Errors**: [`DataError`] for a missing, empty, cut or oversized file and for labels above 199.
pub fn read(path: &Path) -> Result<ImageSet, DataError> {
    let layout = RecordLayout {
        label_bytes: 2,
        label: |bytes| u32::from(u16::from_le_bytes([bytes[0], bytes[1]])),
        label_offset: 0,
        classes: CLASSES,
    };
    record_file::read("tinyimagenet32", &[path], &layout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_bytes(bytes: &[u8]) -> Result<ImageSet, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.bin");
        std::fs::write(&path, bytes).unwrap();
        read(&path)
    }

    #[test]
    fn labels_are_little_endian_and_checked() {
        let record = |label: u16| [label.to_le_bytes().as_slice(), &[5; 3072]].concat();
        let set = read_bytes(&[record(199), record(0)].concat()).unwrap();
        assert_eq!((set.labels(), set.classes()), ([199, 0].as_slice(), 200));
        assert_eq!(set.image(0), [5; 3072]);
        let error = read_bytes(&[record(3), record(256)].concat()).unwrap_err();
        assert!(
            matches!(
                error,
                DataError::LabelOutOfRange {
                    offset: 3074,
                    label: 256,
                    ..
                }
            ),
            "{error}"
        );
        let error = read_bytes(&[record(3), vec![1]].concat()).unwrap_err();
        assert!(
            matches!(
                error,
                DataError::PartialRecord {
                    offset: 3074,
                    found: 1,
                    ..
                }
            ),
            "{error}"
        );
    }
}

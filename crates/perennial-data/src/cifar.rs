//! CIFAR-10 and CIFAR-100 in the official binary layout.
//!
//! **Source**: <https://www.cs.toronto.edu/~kriz/cifar.html>, "Binary version". A record is the label, or the coarse and the fine
//! label, one byte each, then 1,024 red, 1,024 green and 1,024 blue bytes, each plane row by row.

use std::path::Path;

use crate::record_file::{self, RecordLayout};
use crate::{DataError, ImageSet};

/// Which of CIFAR-100's two label sets to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// 100 classes.
    Fine,
    /// 20 superclasses.
    Coarse,
}

/// Reads CIFAR-10 files (`data_batch_1.bin`, ...) one after the other into one set of 10 classes.
///
/// **Shapes**: `[n, 3, 32, 32]`. Any whole number of records is accepted.
///
/// **Errors**: [`DataError`] for missing, empty, cut and oversized files and for labels above 9; also if `paths` is empty.
pub fn read_cifar10(paths: &[&Path]) -> Result<ImageSet, DataError> {
    let layout = RecordLayout {
        label_bytes: 1,
        label: |bytes| u32::from(bytes[0]),
        label_offset: 0,
        classes: 10,
    };
    record_file::read("cifar10", paths, &layout)
}

/// Reads a CIFAR-100 file (`train.bin` or `test.bin`) into a set of 100 fine or 20 coarse classes.
///
/// **Shapes**: `[n, 3, 32, 32]`. Any whole number of records is accepted.
///
/// **Errors**: [`DataError`] for a missing, empty, cut or oversized file and for labels out of range.
pub fn read_cifar100(path: &Path, labels: Labels) -> Result<ImageSet, DataError> {
    let layout = match labels {
        Labels::Fine => RecordLayout {
            label_bytes: 2,
            label: |bytes| u32::from(bytes[1]),
            label_offset: 1,
            classes: 100,
        },
        Labels::Coarse => RecordLayout {
            label_bytes: 2,
            label: |bytes| u32::from(bytes[0]),
            label_offset: 0,
            classes: 20,
        },
    };
    record_file::read("cifar100", &[path], &layout)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(labels: &[u8], shade: u8) -> Vec<u8> {
        let mut record = labels.to_vec();
        record.extend((0..3072).map(|i| shade.wrapping_add((i / 1024) as u8)));
        record
    }

    fn written(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set.bin");
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    #[test]
    fn planes_and_labels_are_found() {
        let (_folder, path) = written(&[record(&[7], 10), record(&[9], 20)].concat());
        let set = read_cifar10(&[&path, &path]).unwrap();
        assert_eq!((set.shape(), set.classes()), ([3, 32, 32], 10));
        assert_eq!(set.labels(), [7, 9, 7, 9]);
        assert_eq!(
            [set.image(1)[0], set.image(1)[1024], set.image(1)[3071]],
            [20, 21, 22]
        );
        assert!(read_cifar10(&[]).is_err());
    }

    #[test]
    fn fine_and_coarse_labels_are_told_apart() {
        let (_folder, path) = written(&record(&[19, 99], 0));
        assert_eq!(read_cifar100(&path, Labels::Fine).unwrap().labels(), [99]);
        assert_eq!(read_cifar100(&path, Labels::Coarse).unwrap().labels(), [19]);
        assert_eq!(read_cifar100(&path, Labels::Coarse).unwrap().classes(), 20);
    }

    #[test]
    fn a_label_out_of_range_is_located() {
        let (_folder, path) = written(&[record(&[0, 99], 0), record(&[20, 100], 0)].concat());
        let offset = |labels| match read_cifar100(&path, labels).unwrap_err() {
            DataError::LabelOutOfRange { offset, label, .. } => (offset, label),
            other => panic!("{other}"),
        };
        assert_eq!(offset(Labels::Fine), (3075, 100));
        assert_eq!(offset(Labels::Coarse), (3074, 20));
    }

    #[test]
    fn cut_empty_and_missing_files_are_named() {
        let (_folder, path) = written(&record(&[1], 0)[..3000]);
        let error = read_cifar10(&[&path]).unwrap_err();
        assert!(
            matches!(
                error,
                DataError::PartialRecord {
                    offset: 0,
                    found: 3000,
                    record_bytes: 3073,
                    ..
                }
            ),
            "{error}"
        );
        let (folder, path) = written(&[]);
        assert!(matches!(
            read_cifar10(&[&path]),
            Err(DataError::Empty { .. })
        ));
        assert!(matches!(
            read_cifar10(&[folder.path()]),
            Err(DataError::NotAFile { .. })
        ));
        let missing = folder.path().join("other.bin");
        assert!(
            read_cifar10(&[&missing])
                .unwrap_err()
                .to_string()
                .contains("other.bin does not exist")
        );
    }

    #[test]
    fn an_absurd_size_is_refused_without_reading() {
        let (_folder, path) = written(&[]);
        // A sparse file: the size is claimed, and no disk is used.
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(3073 << 30)
            .unwrap();
        assert!(matches!(
            read_cifar10(&[&path]),
            Err(DataError::TooLarge { .. })
        ));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_file_is_read_exactly_if_it_holds_whole_records(length in 0_usize..7000, exact: bool, fill in 0_u8..10) {
            let length = if exact { length - length % 3073 } else { length };
            let (_folder, path) = written(&vec![fill; length]);
            match read_cifar10(&[&path]) {
                Ok(set) => prop_assert_eq!(set.len() * 3073, length),
                Err(DataError::Empty { .. }) => prop_assert_eq!(length, 0),
                Err(DataError::PartialRecord { offset, found, .. }) => {
                    prop_assert_eq!(offset + found, length as u64);
                    prop_assert!(!length.is_multiple_of(3073));
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }
}

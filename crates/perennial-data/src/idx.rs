//! The idx format of MNIST and Fashion-MNIST, plain or gzip-compressed.
//!
//! **Source**: <http://yann.lecun.com/exdb/mnist/>. A header of big-endian numbers (two zero bytes, a type code, the number of
//! dimensions, the sides), then the values. Images are unsigned bytes `[n, rows, columns]`, labels unsigned bytes `[n]`.

use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::error::MAX_BYTES;
use crate::record_file::{allocate, file_size};
use crate::{DataError, ImageSet};

/// Code for unsigned bytes, the only type that images and labels use.
const UNSIGNED_BYTE: u8 = 0x08;

/// Number of classes in the sets of this format.
const CLASSES: usize = 10;

/// Reads an image file and its label file into a grey set of 10 classes; files that start with the gzip signature are unpacked.
///
/// **Shapes**: `[n, 1, rows, columns]`; [`ImageSet::into_rgb`] makes three channels of it.
///
/// **Errors**: [`DataError`] for missing, cut, oversized and misshapen files, for different numbers of images and labels and for labels above 9.
pub fn read(images: &Path, labels: &Path) -> Result<ImageSet, DataError> {
    let (sides, pixels) = read_bytes::<3>(images)?;
    let (label_sides, label_bytes) = read_bytes::<1>(labels)?;
    let [count, rows, columns] = sides;
    if count != label_sides[0] {
        let problem = format!(
            "{} labels for the {count} images of {}",
            label_sides[0],
            images.display()
        );
        return Err(DataError::format(
            labels,
            4,
            problem + "; the two files do not belong together",
        ));
    }
    if let Some(position) = label_bytes
        .iter()
        .position(|&label| usize::from(label) >= CLASSES)
    {
        return Err(DataError::LabelOutOfRange {
            path: labels.to_path_buf(),
            offset: 8 + position as u64,
            label: i64::from(label_bytes[position]),
            classes: CLASSES,
        });
    }
    let name = images
        .file_name()
        .map_or_else(|| "idx".into(), |name| name.to_string_lossy().into_owned());
    ImageSet::new(
        name,
        [1, rows, columns],
        pixels,
        label_bytes.into_iter().map(u32::from).collect(),
        CLASSES,
    )
}

/// Reads the sides and the values of an idx file of unsigned bytes in `N` dimensions.
fn read_bytes<const N: usize>(path: &Path) -> Result<([usize; N], Vec<u8>), DataError> {
    let size = file_size(path)?;
    if size == 0 {
        return Err(DataError::Empty {
            path: path.to_path_buf(),
        });
    }
    if size > MAX_BYTES {
        return Err(DataError::TooLarge {
            path: path.to_path_buf(),
            bytes: size,
            limit: MAX_BYTES,
        });
    }
    let mut signature = Vec::new();
    let file = std::fs::File::open(path).map_err(DataError::io(path))?;
    file.take(2)
        .read_to_end(&mut signature)
        .map_err(DataError::io(path))?;
    let file = BufReader::new(std::fs::File::open(path).map_err(DataError::io(path))?);
    if signature == [0x1f, 0x8b] {
        parse(path, MultiGzDecoder::new(file), None)
    } else {
        parse(path, file, Some(size))
    }
}

/// Parses the format; `size` is the file's, where it is known before reading.
fn parse<const N: usize>(
    path: &Path,
    mut source: impl Read,
    size: Option<u64>,
) -> Result<([usize; N], Vec<u8>), DataError> {
    let unreadable = |error: std::io::Error| match size {
        Some(_) => DataError::io(path)(error),
        None => {
            let problem =
                format!("the compressed data is damaged ({error}); fetch or copy it again");
            DataError::format(path, 0, problem)
        }
    };
    let header_bytes = 4 + 4 * N as u64;
    let mut header = Vec::new();
    source
        .by_ref()
        .take(header_bytes)
        .read_to_end(&mut header)
        .map_err(unreadable)?;
    let magic = &header[..header.len().min(4)];
    if !header.is_empty() && magic != &[0, 0, UNSIGNED_BYTE, N as u8][..magic.len()] {
        let problem = format!(
            "this is not an idx file of unsigned bytes in {N} dimensions: it starts with {magic:02x?}"
        );
        return Err(DataError::format(
            path,
            0,
            problem + "; check that images and labels are not swapped",
        ));
    }
    if header.len() as u64 != header_bytes {
        return Err(DataError::format(
            path,
            header.len() as u64,
            "the file ends inside its header; fetch or copy it again",
        ));
    }
    let mut sides = [0_usize; N];
    let mut expected: u64 = 1;
    for (side, bytes) in sides.iter_mut().zip(header[4..].chunks_exact(4)) {
        let value = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        *side = value as usize;
        expected = expected.saturating_mul(u64::from(value));
    }
    if expected == 0 {
        return Err(DataError::Empty {
            path: path.to_path_buf(),
        });
    }
    if expected > MAX_BYTES {
        return Err(DataError::TooLarge {
            path: path.to_path_buf(),
            bytes: expected,
            limit: MAX_BYTES,
        });
    }
    // A plain file must have the announced size before memory is allocated for it. A compressed one cannot tell, so its
    // values are collected as they come, which a lying header cannot exploit.
    let mut values = Vec::new();
    if let Some(size) = size {
        check_length(path, header_bytes, expected, size - header_bytes)?;
        values = allocate(path, expected as usize)?;
    }
    source
        .by_ref()
        .take(expected)
        .read_to_end(&mut values)
        .map_err(unreadable)?;
    let surplus = source
        .take(1)
        .read_to_end(&mut Vec::new())
        .map_err(unreadable)?;
    check_length(
        path,
        header_bytes,
        expected,
        (values.len() + surplus) as u64,
    )?;
    Ok((sides, values))
}

fn check_length(
    path: &Path,
    header_bytes: u64,
    expected: u64,
    found: u64,
) -> Result<(), DataError> {
    if found == expected {
        return Ok(());
    }
    let problem = if found < expected {
        format!("the file ends after {found} of {expected} values; fetch or copy it again")
    } else {
        format!(
            "more than the {expected} values of the header follow; the file is damaged, fetch or copy it again"
        )
    };
    Err(DataError::format(
        path,
        header_bytes + found.min(expected),
        problem,
    ))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;

    fn idx(sides: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, sides.len() as u8];
        bytes.extend(sides.iter().flat_map(|side| side.to_be_bytes()));
        bytes.extend(values);
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read_both(images: &[u8], labels: &[u8]) -> Result<ImageSet, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = ["images", "labels"]
            .iter()
            .map(|name| folder.path().join(name))
            .collect();
        std::fs::write(&paths[0], images).unwrap();
        std::fs::write(&paths[1], labels).unwrap();
        read(&paths[0], &paths[1])
    }

    #[test]
    fn reads_plain_and_compressed_files() {
        let images = idx(&[2, 1, 3], &[1, 2, 3, 4, 5, 6]);
        let labels = idx(&[2], &[9, 0]);
        let set = read_both(&images, &labels).unwrap();
        assert_eq!(
            (set.shape(), set.labels(), set.image(1)),
            ([1, 1, 3], [9, 0].as_slice(), [4, 5, 6].as_slice())
        );
        assert_eq!(read_both(&gzip(&images), &gzip(&labels)).unwrap(), set);
    }

    #[test]
    fn damage_is_named() {
        let images = idx(&[1, 1, 2], &[1, 2]);
        let labels = idx(&[1], &[3]);
        let packed = gzip(&images);
        let cases: [(&[u8], &[u8], &str); 9] = [
            (&[], &labels, "no records"),
            (
                &images[..7],
                &labels,
                "byte 7: the file ends inside its header",
            ),
            (
                &images[..17],
                &labels,
                "byte 17: the file ends after 1 of 2 values",
            ),
            (
                &idx(&[1, 1, 2], &[1, 2, 3]),
                &labels,
                "more than the 2 values",
            ),
            (
                &packed[..packed.len() - 9],
                &labels,
                "compressed data is damaged",
            ),
            (
                &gzip(&idx(&[1, 1, 2], &[1, 2, 3])),
                &labels,
                "more than the 2 values",
            ),
            (&labels, &images, "images and labels are not swapped"),
            (&images, &idx(&[2], &[3, 3]), "2 labels for the 1 images"),
            (&images, &idx(&[1], &[10]), "label 10 at byte 8"),
        ];
        for (images, labels, message) in cases {
            let error = read_both(images, labels).unwrap_err().to_string();
            assert!(error.contains(message), "{error} | {message}");
        }
    }

    #[test]
    fn a_lying_header_takes_no_memory() {
        let huge = idx(&[u32::MAX, u32::MAX, u32::MAX], &[1]);
        assert!(matches!(
            read_both(&huge, &idx(&[1], &[1])),
            Err(DataError::TooLarge { .. })
        ));
        let large = idx(&[1 << 20, 32, 32], &[1]);
        for bytes in [large.clone(), gzip(&large)] {
            assert!(matches!(
                read_both(&bytes, &idx(&[1], &[1])),
                Err(DataError::Format { .. })
            ));
        }
        assert!(matches!(
            read_both(&idx(&[0, 2, 2], &[]), &idx(&[0], &[])),
            Err(DataError::Empty { .. })
        ));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn damaged_files_never_panic(position in 0_usize..26, value: u8, length in 0_usize..26, packed: bool) {
            let mut images = idx(&[2, 1, 5], &[7; 10]);
            if packed {
                images = gzip(&images);
            }
            let position = position % images.len();
            images[position] = value;
            images.truncate(length.max(position));
            let _ = read_both(&images, &idx(&[2], &[1, 2]));
        }
    }
}

//! Image files and files of labelled images.

use perennial_data::cifar::{Labels, read_cifar10, read_cifar100};
use perennial_data::{ImageSet, idx, tinyimagenet};
use perennial_encode::{DecodeLimits, decode_square, encode_png};

use crate::Target;
use crate::scratch::Scratch;

/// CIFAR-10, CIFAR-100 and Tiny-ImageNet records; the first byte says which, the rest is the file.
pub struct LabelledRecords(Scratch);

impl Target for LabelledRecords {
    fn new() -> Self {
        Self(Scratch::new())
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let Some((&kind, file)) = bytes.split_first() else {
            return false;
        };
        let path = self.0.write("set.bin", file);
        let (read, label_bytes) = match kind % 4 {
            0 => (read_cifar10(&[&path]), 1),
            1 => (read_cifar100(&path, Labels::Fine), 2),
            2 => (read_cifar100(&path, Labels::Coarse), 2),
            _ => (tinyimagenet::read(&path), 2),
        };
        let Ok(set) = read else {
            return false;
        };
        let record_bytes = label_bytes + set.image_len();
        assert_eq!(set.len() * record_bytes, file.len());
        for (index, record) in file.chunks_exact(record_bytes).enumerate() {
            let label = match kind % 4 {
                0 | 2 => u32::from(record[0]),
                1 => u32::from(record[1]),
                _ => u32::from(u16::from_le_bytes([record[0], record[1]])),
            };
            assert_eq!(set.labels()[index], label);
            assert_eq!(set.image(index), &record[label_bytes..]);
        }
        true
    }
}

/// A pair of idx files: the length of the first as a little-endian `u16`, then both.
pub struct Idx(Scratch);

impl Target for Idx {
    fn new() -> Self {
        Self(Scratch::new())
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let Some((length, files)) = bytes.split_first_chunk() else {
            return false;
        };
        let length = usize::from(u16::from_le_bytes(*length)).min(files.len());
        let (images, labels) = files.split_at(length);
        let images = self.0.write("images", images);
        let labels = self.0.write("labels", labels);
        let Ok(set) = idx::read(&images, &labels) else {
            return false;
        };
        let (plain_images, plain_labels) = idx_files(&set);
        std::fs::write(&images, plain_images).unwrap();
        std::fs::write(&labels, plain_labels).unwrap();
        assert!(idx::read(&images, &labels).unwrap() == set);
        true
    }
}

/// A grey set as idx files, uncompressed.
pub(crate) fn idx_files(set: &ImageSet) -> (Vec<u8>, Vec<u8>) {
    let side = |side: usize| (side as u32).to_be_bytes();
    let (count, height, width) = (side(set.len()), side(set.height()), side(set.width()));
    let labels: Vec<u8> = set.labels().iter().map(|&label| label as u8).collect();
    (
        [&[0, 0, 8, 3][..], &count, &height, &width, set.pixels()].concat(),
        [&[0, 0, 8, 1][..], &count, &labels].concat(),
    )
}

/// Picture files of every format, decoded within limits that keep the memory of a run far below the engine's own.
pub struct Image;

/// The side of the squares.
const SIDE: usize = 8;

impl Target for Image {
    fn new() -> Self {
        Self
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let limits = DecodeLimits {
            side: 1024,
            pixels: 1 << 18,
            bytes: 4 << 20,
        };
        let Ok(square) = decode_square(bytes, SIDE, limits) else {
            return false;
        };
        let png = encode_png(&square, [3, SIDE, SIDE]).unwrap();
        assert_eq!(decode_square(&png, SIDE, limits).unwrap(), square);
        true
    }
}

//! The published files, where they are at hand: set `PERENNIAL_DATA` to the folder that holds them.

#![allow(clippy::unwrap_used, missing_docs)]

use std::path::PathBuf;

use perennial_data::cifar::{Labels, read_cifar100};
use perennial_data::{DataError, ImageSet, open};

/// The data folder, or nothing after a line that says so.
fn data_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("PERENNIAL_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: PERENNIAL_DATA is not set");
    }
    folder
}

/// Opens a set, or says why not if the folder does not hold it.
fn open_if_present(name: &str, split: &str) -> Option<ImageSet> {
    match open(&data_folder()?, name, split) {
        Err(DataError::Missing { path, .. }) => {
            eprintln!("skipped: {} is missing", path.display());
            None
        }
        result => Some(result.unwrap()),
    }
}

fn images_per_class(set: &ImageSet) -> Vec<usize> {
    let mut counts = vec![0; set.classes()];
    set.labels()
        .iter()
        .for_each(|&label| counts[label as usize] += 1);
    counts
}

#[test]
fn cifar100_has_equally_many_images_per_class() {
    let Some(set) = open_if_present("cifar100", "train") else {
        return;
    };
    assert_eq!((set.shape(), set.classes()), ([3, 32, 32], 100));
    let counts = images_per_class(&set);
    assert!(
        counts[0] >= 300 && counts.iter().all(|&count| count == counts[0]),
        "{counts:?}"
    );
    // The first image of the official file: cattle (19), a large omnivore or herbivore (11).
    assert_eq!(set.label(0), 19);
    let path = data_folder().unwrap().join("cifar-100-binary/train.bin");
    let coarse = read_cifar100(&path, Labels::Coarse).unwrap();
    assert_eq!((coarse.classes(), coarse.label(0)), (20, 11));
    assert_eq!(coarse.pixels(), set.pixels());
    // The constants in use everywhere were measured on all 500 images a class.
    let first = set.first_per_class(300);
    assert_eq!(first.len(), 30_000);
    let measured = perennial_data::Preprocessing::measure(&first).unwrap();
    let published = perennial_data::Preprocessing::CIFAR100;
    for channel in 0..3 {
        assert!(
            (measured.mean[channel] - published.mean[channel]).abs() < 0.005,
            "{measured:?}"
        );
        assert!(
            (measured.std[channel] - published.std[channel]).abs() < 0.005,
            "{measured:?}"
        );
    }
}

#[test]
fn cifar10_test_has_1000_images_per_class() {
    let Some(set) = open_if_present("cifar10", "test") else {
        return;
    };
    assert_eq!(images_per_class(&set), [1000; 10]);
    assert_eq!(set.labels()[..4], [3, 8, 8, 0], "cat, ship, ship, airplane");
}

#[test]
fn cifar10_train_holds_whole_batches() {
    let Some(set) = open_if_present("cifar10", "train") else {
        return;
    };
    assert_eq!(set.len() % 10_000, 0);
}

#[test]
fn tinyimagenet_is_dealt_out_class_by_class() {
    let Some(set) = open_if_present("tinyimagenet32", "train") else {
        return;
    };
    assert_eq!(set.classes(), 200);
    let counts = images_per_class(&set);
    assert!(counts.iter().all(|&count| count == counts[0]), "{counts:?}");
    assert!((0..200).all(|index| set.label(index) as usize == index));
}

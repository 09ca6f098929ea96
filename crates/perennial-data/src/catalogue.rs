//! Sets by name: what configurations and commands call a data set.

use std::path::{Path, PathBuf};

use crate::cifar::{self, Labels};
use crate::tinyimagenet::official;
use crate::{
    Completeness, DataError, GeneratedConfig, ImageSet, celeba, cub200, folder, generate, idx,
    official_images, tinyimagenet,
};

/// The names that [`open`] knows, for messages and completions. `folder:PATH` stands for any path.
pub const NAMES: [&str; 9] = [
    "cifar10",
    "cifar100",
    "tinyimagenet",
    "tinyimagenet32",
    "cub200",
    "celeba",
    "fashion-mnist",
    "generated",
    "folder:PATH",
];

/// Side of the images that `folder:PATH`, `tinyimagenet`, `cub200` and `celeba` yield where nobody says otherwise, in pixels: what the
/// published recipes train on.
pub const FOLDER_SIZE: usize = 32;

/// Whether the images of a set are pictures of files, which are scaled to the size that is asked for. Other sets have a size of their own.
pub fn is_of_pictures(name: &str) -> bool {
    name.starts_with("folder:") || matches!(name, "tinyimagenet" | "cub200" | "celeba")
}

/// Opens a set by name below the data folder `root`.
///
/// | name | splits | looked for below `root` |
/// |---|---|---|
/// | `cifar100` | `train`, `test` | `cifar-100-binary/SPLIT.bin`, fine labels |
/// | `cifar10` | `train` (all batches present, in order), `batch1` .. `batch5`, `test` | `cifar-10-batches-bin/` |
/// | `tinyimagenet` | `train`, `val` | `tiny-imagenet-200/`, the published folders; scaled to 32x32 |
/// | `tinyimagenet32` | `train`, `val` | `tinyimagenet32/SPLIT.bin`, records of 32x32 pixels |
/// | `cub200` | `train`, `test`, `all` | `CUB_200_2011/`, the published folder; scaled to 32x32 |
/// | `celeba` | `train`, `val`, `test`, `all` | `celeba/`, lists and aligned pictures; scaled to 32x32 |
/// | `fashion-mnist` | `train`, `test` | `fashion-mnist/` with the four idx files, `.gz` or not |
/// | `generated` | `train`, `test` | nothing: made by [`generate`] with the default configuration, seed 0 or 1 |
/// | `folder:PATH` | `all` | nothing: the pictures of the folder, see [`folder::read`], scaled to 32x32 |
///
/// Where a number of images is published, [`ImageSet::completeness`] compares.
///
/// **Errors**: [`DataError::UnknownSet`] and [`DataError::UnknownSplit`] list what exists; [`DataError::Missing`] says how to get the
/// files; otherwise the reader's errors.
pub fn open(root: &Path, name: &str, split: &str) -> Result<ImageSet, DataError> {
    open_sized(root, name, split, FOLDER_SIZE)
}

/// The same, with pictures of sets without a size of their own ([`is_of_pictures`]) scaled to `size` x `size` pixels.
///
/// **Errors**: those of [`open`].
pub fn open_sized(
    root: &Path,
    name: &str,
    split: &str,
    size: usize,
) -> Result<ImageSet, DataError> {
    if let Some(path) = name.strip_prefix("folder:") {
        check_split(name, split, &["all"])?;
        return Ok(folder::read(Path::new(path), size)?.images);
    }
    let set = open_named(root, name, split, size)?;
    Ok(match official_images(name, split) {
        Some(official_images) if set.completeness().is_none() => {
            let completeness = Completeness {
                images: set.len(),
                official_images,
                missing: missing_files(root, name, split),
            };
            set.with_completeness(completeness)
        }
        _ => set,
    })
}

/// Folder of Tiny-ImageNet as it is unzipped.
pub const TINY_IMAGENET_FOLDER: &str = "tiny-imagenet-200";

fn open_named(root: &Path, name: &str, split: &str, size: usize) -> Result<ImageSet, DataError> {
    match name {
        "cifar100" => {
            check_split(name, split, &["train", "test"])?;
            let path = root.join("cifar-100-binary").join(format!("{split}.bin"));
            present(&path, Remedy::Fetch("cifar100"))?;
            cifar::read_cifar100(&path, Labels::Fine)
        }
        "cifar10" => open_cifar10(root, split),
        "tinyimagenet32" => {
            check_split(name, split, &["train", "val"])?;
            let path = root.join("tinyimagenet32").join(format!("{split}.bin"));
            present(&path, Remedy::Convert)?;
            tinyimagenet::read(&path)
        }
        "tinyimagenet" => {
            check_split(name, split, &["train", "val"])?;
            let folder = root.join(TINY_IMAGENET_FOLDER);
            present(&folder, Remedy::Unzip)?;
            let split = official::Split::from_name(split).unwrap_or(official::Split::Train);
            official::list(&folder, split)?.read(size)
        }
        "cub200" => {
            check_split(name, split, &cub200::SPLITS)?;
            let folder = root.join(cub200::FOLDER);
            present(&folder, Remedy::Place)?;
            cub200::read(&folder, split, size)
        }
        "celeba" => {
            check_split(name, split, &celeba::SPLITS)?;
            let folder = root.join(celeba::FOLDER);
            present(&folder, Remedy::Place)?;
            celeba::read(&folder, split, size)
        }
        "fashion-mnist" => open_fashion_mnist(root, split),
        "generated" => {
            check_split(name, split, &["train", "test"])?;
            generate(&generated_split(split))
        }
        _ => Err(DataError::UnknownSet {
            name: name.to_string(),
            known: NAMES.join(", "),
        }),
    }
}

const BATCHES: [&str; 5] = ["batch1", "batch2", "batch3", "batch4", "batch5"];

/// Files that the split consists of as published and that are not there.
fn missing_files(root: &Path, name: &str, split: &str) -> Vec<String> {
    let folder = root.join("cifar-10-batches-bin");
    let batches = match (name, split) {
        ("cifar10", "train") => 1..=BATCHES.len(),
        _ => return Vec::new(),
    };
    batches
        .map(|number| format!("data_batch_{number}.bin"))
        .filter(|file| !folder.join(file).exists())
        .collect()
}

fn open_cifar10(root: &Path, split: &str) -> Result<ImageSet, DataError> {
    check_split(
        "cifar10",
        split,
        &[
            "train", "batch1", "batch2", "batch3", "batch4", "batch5", "test",
        ],
    )?;
    let folder = root.join("cifar-10-batches-bin");
    let batch = |number: usize| folder.join(format!("data_batch_{number}.bin"));
    let paths: Vec<PathBuf> = match BATCHES.iter().position(|name| *name == split) {
        Some(index) => vec![batch(index + 1)],
        None if split == "test" => vec![folder.join("test_batch.bin")],
        None => {
            let all: Vec<PathBuf> = (1..=BATCHES.len())
                .map(batch)
                .filter(|path| path.exists())
                .collect();
            if all.is_empty() { vec![batch(1)] } else { all }
        }
    };
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    for path in &paths {
        present(path, Remedy::Fetch("cifar10"))?;
    }
    cifar::read_cifar10(&paths)
}

fn open_fashion_mnist(root: &Path, split: &str) -> Result<ImageSet, DataError> {
    check_split("fashion-mnist", split, &["train", "test"])?;
    let prefix = if split == "train" { "train" } else { "t10k" };
    let find = |kind: &str| {
        let plain = root
            .join("fashion-mnist")
            .join(format!("{prefix}-{kind}-ubyte"));
        let packed = plain.with_extension("gz");
        let path = if packed.exists() { packed } else { plain };
        present(&path, Remedy::Place).map(|()| path)
    };
    idx::read(&find("images-idx3")?, &find("labels-idx1")?)
}

/// Both splits show the same classes; only the seed, and with it every image, differs.
fn generated_split(split: &str) -> GeneratedConfig {
    GeneratedConfig {
        seed: u64::from(split == "test"),
        ..GeneratedConfig::default()
    }
}

fn check_split(set: &str, split: &str, known: &[&str]) -> Result<(), DataError> {
    if known.contains(&split) {
        return Ok(());
    }
    Err(DataError::UnknownSplit {
        set: set.to_string(),
        split: split.to_string(),
        known: known.join(", "),
    })
}

enum Remedy {
    /// `perennial data fetch` knows the set.
    Fetch(&'static str),
    /// `perennial data convert` makes it of the published folders.
    Convert,
    /// The user has to unzip an archive.
    Unzip,
    /// The user has to bring the file.
    Place,
}

fn present(path: &Path, remedy: Remedy) -> Result<(), DataError> {
    if path.try_exists().map_err(DataError::io(path))? {
        return Ok(());
    }
    let remedy = match remedy {
        Remedy::Fetch(name) => {
            format!(
                "run `perennial data fetch {name}`, or set PERENNIAL_DATA to the folder that holds the data sets"
            )
        }
        Remedy::Convert => {
            "create it with `perennial data convert tinyimagenet`, copy it there, or set PERENNIAL_DATA to the folder that holds the data sets"
                .to_string()
        }
        Remedy::Unzip => {
            "run `perennial data fetch tinyimagenet` for instructions, or set PERENNIAL_DATA to the folder that holds the data sets"
                .to_string()
        }
        Remedy::Place => {
            "put it there, or set PERENNIAL_DATA to the folder that holds the data sets"
                .to_string()
        }
    };
    Err(DataError::Missing {
        path: path.to_path_buf(),
        remedy,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(root: &Path, name: &str, split: &str) -> String {
        open(root, name, split).unwrap_err().to_string()
    }

    #[test]
    fn errors_say_what_exists_and_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert!(message(root, "cifar", "train").contains("known are cifar10, cifar100"));
        assert!(message(root, "cifar10", "batch6").contains("it has train, batch1"));
        for (name, split, file) in [
            ("cifar100", "test", "cifar-100-binary/test.bin"),
            ("cifar10", "train", "cifar-10-batches-bin/data_batch_1.bin"),
            ("cifar10", "batch3", "cifar-10-batches-bin/data_batch_3.bin"),
        ] {
            let message = message(root, name, split);
            assert!(
                message.contains(&root.join(file).display().to_string()),
                "{message}"
            );
            assert!(
                message.contains(&format!("perennial data fetch {name}")),
                "{message}"
            );
        }
        assert!(message(root, "tinyimagenet32", "train").contains("PERENNIAL_DATA"));
        assert!(message(root, "tinyimagenet32", "val").contains("data convert tinyimagenet"));
        assert!(message(root, "tinyimagenet", "val").contains("data fetch tinyimagenet"));
        assert!(message(root, "tinyimagenet", "test").contains("it has train, val"));
        assert!(message(root, "cub200", "train").contains("CUB_200_2011"));
        assert!(message(root, "cub200", "val").contains("it has train, test, all"));
        assert!(message(root, "celeba", "val").contains("celeba does not exist"));
        assert!(message(root, "fashion-mnist", "train").contains("train-images-idx3-ubyte"));
        assert!(message(root, "folder:/does/not/exist", "all").contains("/does/not/exist"));
    }

    #[test]
    fn sets_of_pictures_are_known_by_name() {
        let of_pictures = NAMES.iter().filter(|name| is_of_pictures(name));
        assert!(of_pictures.eq(&["tinyimagenet", "cub200", "celeba", "folder:PATH"]));
    }

    #[test]
    fn cifar10_train_is_every_batch_present() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("cifar-10-batches-bin");
        std::fs::create_dir(&folder).unwrap();
        for (number, label) in [(4, 4_u8), (2, 2)] {
            std::fs::write(
                folder.join(format!("data_batch_{number}.bin")),
                [vec![label], vec![0; 3072]].concat(),
            )
            .unwrap();
        }
        let train = open(root.path(), "cifar10", "train").unwrap();
        assert_eq!(train.labels(), [2, 4]);
        assert_eq!(
            train.first_per_class(1).completeness().unwrap().to_string(),
            "2 of 50,000 images; missing: data_batch_1.bin, data_batch_3.bin, data_batch_5.bin"
        );
        assert_eq!(
            open(root.path(), "cifar10", "batch4").unwrap().labels(),
            [4]
        );
    }

    #[test]
    fn the_generated_splits_differ_in_the_seed_alone() {
        let (train, test) = (generated_split("train"), generated_split("test"));
        assert_ne!(train.seed, test.seed);
        assert_eq!(
            train,
            GeneratedConfig {
                seed: train.seed,
                ..test
            }
        );
        assert!(
            message(Path::new("nowhere"), "generated", "validation").contains("it has train, test")
        );
    }
}

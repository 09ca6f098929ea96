//! Sets by name: what configurations and commands call a data set.

use std::path::{Path, PathBuf};

use crate::cifar::{self, Labels};
use crate::{DataError, GeneratedConfig, ImageSet, folder, generate, idx, tinyimagenet};

/// The names that [`open`] knows, for messages and completions. `folder:PATH` stands for any path.
pub const NAMES: [&str; 6] = [
    "cifar10",
    "cifar100",
    "tinyimagenet32",
    "fashion-mnist",
    "generated",
    "folder:PATH",
];

/// Side of the images that `folder:PATH` yields where no version says otherwise, in pixels.
pub const FOLDER_SIZE: usize = 32;

/// Opens a set by name below the data folder `root`.
///
/// | name | splits | looked for below `root` |
/// |---|---|---|
/// | `cifar100` | `train`, `test` | `cifar-100-binary/SPLIT.bin`, fine labels |
/// | `cifar10` | `train` (all batches present, in order), `batch1` .. `batch5`, `test` | `cifar-10-batches-bin/` |
/// | `tinyimagenet32` | `train` | `tinyimagenet32/train.bin` |
/// | `fashion-mnist` | `train`, `test` | `fashion-mnist/` with the four idx files, `.gz` or not |
/// | `generated` | `train`, `test` | nothing: made by [`generate`] with the default configuration, seed 0 or 1 |
/// | `folder:PATH` | `all` | nothing: the pictures of the folder, see [`folder::read`], scaled to 32x32 |
///
/// **Errors**: [`DataError::UnknownSet`] and [`DataError::UnknownSplit`] list what exists; [`DataError::Missing`] says how to get the
/// files; otherwise the reader's errors.
pub fn open(root: &Path, name: &str, split: &str) -> Result<ImageSet, DataError> {
    if let Some(path) = name.strip_prefix("folder:") {
        check_split(name, split, &["all"])?;
        return Ok(folder::read(Path::new(path), FOLDER_SIZE)?.images);
    }
    match name {
        "cifar100" => {
            check_split(name, split, &["train", "test"])?;
            let path = root.join("cifar-100-binary").join(format!("{split}.bin"));
            present(&path, Remedy::Fetch("cifar100"))?;
            cifar::read_cifar100(&path, Labels::Fine)
        }
        "cifar10" => open_cifar10(root, split),
        "tinyimagenet32" => {
            check_split(name, split, &["train"])?;
            let path = root.join("tinyimagenet32").join("train.bin");
            present(&path, Remedy::Place)?;
            tinyimagenet::read(&path)
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

fn open_cifar10(root: &Path, split: &str) -> Result<ImageSet, DataError> {
    const BATCHES: [&str; 5] = ["batch1", "batch2", "batch3", "batch4", "batch5"];
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
        Remedy::Place => {
            "put the file there, or set PERENNIAL_DATA to the folder that holds the data sets"
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
        assert!(message(root, "fashion-mnist", "train").contains("train-images-idx3-ubyte"));
        assert!(message(root, "folder:/does/not/exist", "all").contains("/does/not/exist"));
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
        assert_eq!(
            open(root.path(), "cifar10", "train").unwrap().labels(),
            [2, 4]
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

//! CelebA, faces of 10,177 people, as it is published: aligned pictures and the list of identities.
//!
//! ```text
//! celeba/
//!   identity_CelebA.txt        or Anno/identity_CelebA.txt       000001.jpg 2880
//!   list_eval_partition.txt    or Eval/list_eval_partition.txt   000001.jpg 0        0 training, 1 validation, 2 test
//!   img_align_celeba/*.jpg     or Img/img_align_celeba/          202,599
//! ```
//!
//! Labels are identities less one: a query is right when it finds the same person. Images come in the order of the list of identities.
//!
//! **Source**: Liu et al., Deep Learning Face Attributes in the Wild, ICCV 2015.

use std::path::{Path, PathBuf};

use crate::listed::{ListedImages, PairList};
use crate::{DataError, ImageSet, official_images};

/// Folder of the set.
pub const FOLDER: &str = "celeba";
/// The splits.
pub const SPLITS: [&str; 4] = ["train", "val", "test", "all"];
const IDENTITIES: u32 = 10_177;

/// Reads a split: the square in the middle of every picture, scaled to `size` x `size`. Listed pictures that are not there make the set
/// partial.
///
/// **Shapes**: `[n, 3, size, size]`.
///
/// **Errors**: [`DataError`] that names the file: lists that are missing, damaged or do not fit one another; no picture; one that cannot be
/// decoded; a set above 8 GiB.
pub fn read(folder: &Path, split: &str, size: usize) -> Result<ImageSet, DataError> {
    let identities = PairList::read(
        either(folder, "Anno", "identity_CelebA.txt")?,
        "000001.jpg 2880",
    )?;
    let partition = PairList::read(
        either(folder, "Eval", "list_eval_partition.txt")?,
        "000001.jpg 0",
    )?;
    partition.check_within(&identities)?;
    let pictures = either(folder, "Img", "img_align_celeba")?;
    let official = official_images("celeba", split).unwrap_or(0);
    let mut found = ListedImages::new("celeba", folder, IDENTITIES as usize, official);
    for (place, file, _) in identities.rows() {
        let label = identities.number(file, 1..=IDENTITIES)? - 1;
        let part = partition.number(file, 0..=2)?;
        // Of images of other splits as well: a damaged list is damaged whatever is read of it.
        let path = identities.key_below(place, &pictures)?;
        let wanted = match split {
            "train" => part == 0,
            "val" => part == 1,
            "test" => part == 2,
            _ => true,
        };
        if wanted {
            found.add(path, label);
        }
    }
    found.read(size)
}

/// A file or folder of the set, which lies in a folder of its own in the published archives.
fn either(folder: &Path, inner: &str, name: &str) -> Result<PathBuf, DataError> {
    let paths = [folder.join(name), folder.join(inner).join(name)];
    let found = paths.iter().find(|path| path.exists());
    found.cloned().ok_or_else(|| DataError::Missing {
        path: folder.join(name),
        remedy: format!("put it there, or as {inner}/{name} as in the published archive"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listed::write_picture;

    const LIST: &str = "000001.jpg 2880\n000002.jpg 1\n000003.jpg 2880\n";
    const PARTITION: &str = "000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n";

    /// `places`: the folders of identities, partition and pictures.
    fn made(places: [&str; 3]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let [identities, partition, pictures] = places.map(|place| folder.path().join(place));
        for (place, file, text) in [
            (identities, "identity_CelebA.txt", LIST),
            (partition, "list_eval_partition.txt", PARTITION),
        ] {
            std::fs::create_dir_all(&place).unwrap();
            std::fs::write(place.join(file), text).unwrap();
        }
        for number in 1..=3 {
            let file = format!("img_align_celeba/{number:06}.jpg");
            write_picture(&pictures.join(file), [17, 21], 10 * number);
        }
        folder
    }

    #[test]
    fn both_layouts_give_the_same_set() {
        let flat = made(["", "", ""]);
        let archive = made(["Anno", "Eval", "Img"]);
        let all = read(flat.path(), "all", 8).unwrap();
        assert_eq!(all.labels(), [2879, 0, 2879]);
        assert_eq!((all.classes(), all.shape()), (10_177, [3, 8, 8]));
        assert!(read(archive.path(), "all", 8).unwrap() == all);
        for (split, shade, official) in [
            ("train", 10, 162_770),
            ("val", 20, 19_867),
            ("test", 30, 19_962),
        ] {
            let part = read(archive.path(), split, 8).unwrap();
            assert_eq!((part.len(), part.image(0)[0]), (1, shade));
            assert_eq!(part.completeness().unwrap().official_images, official);
        }
    }

    #[test]
    fn missing_parts_and_damaged_lists_are_named() {
        let folder = made(["", "", ""]);
        let message = |split: &str| read(folder.path(), split, 8).unwrap_err().to_string();
        std::fs::remove_file(folder.path().join("img_align_celeba/000002.jpg")).unwrap();
        assert!(message("val").contains("img_align_celeba/000002.jpg"));
        let all = read(folder.path(), "all", 8).unwrap();
        assert!(
            all.completeness()
                .unwrap()
                .to_string()
                .starts_with("2 of 202,599 images; missing")
        );

        for (file, text, expected) in [
            (
                "identity_CelebA.txt",
                "000001.jpg\n",
                "is not a line such as `000001.jpg 2880`",
            ),
            (
                "identity_CelebA.txt",
                "000001.jpg 2880\n",
                "000002.jpg is not in",
            ),
            (
                "identity_CelebA.txt",
                "000001.jpg 0\n000002.jpg 1\n000003.jpg 1\n",
                "from 1 to 10177",
            ),
            (
                "identity_CelebA.txt",
                "000001.jpg 1\n000002.jpg 1\n000003.jpg 1\n../x.jpg 1\n",
                "has no line for ../x.jpg",
            ),
            (
                "list_eval_partition.txt",
                "000001.jpg 0\n000002.jpg 1\n",
                "has no line for 000003.jpg",
            ),
            (
                "list_eval_partition.txt",
                "000001.jpg 3\n000002.jpg 1\n000003.jpg 1\n",
                "from 0 to 2",
            ),
        ] {
            let folder = made(["", "", ""]);
            std::fs::write(folder.path().join(file), text).unwrap();
            let error = read(folder.path(), "all", 8).unwrap_err().to_string();
            assert!(
                error.contains(expected) && error.contains(".txt"),
                "{text:?}: {error}"
            );
        }
        for gone in ["identity_CelebA.txt", "list_eval_partition.txt"] {
            let folder = made(["", "", ""]);
            std::fs::remove_file(folder.path().join(gone)).unwrap();
            let error = read(folder.path(), "all", 8).unwrap_err().to_string();
            assert!(error.contains(gone) && error.contains("archive"), "{error}");
        }
        let escaping = made(["", "", ""]);
        for (file, text) in [
            ("identity_CelebA.txt", "../x.jpg 1\n000002.jpg 1\n"),
            ("list_eval_partition.txt", "../x.jpg 1\n000002.jpg 0\n"),
        ] {
            std::fs::write(escaping.path().join(file), text).unwrap();
        }
        for split in ["all", "train"] {
            let error = read(escaping.path(), split, 8).unwrap_err().to_string();
            assert!(error.contains("is not the path of an image"), "{error}");
        }
    }
}

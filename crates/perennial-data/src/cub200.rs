//! CUB-200-2011, birds of 200 species, as it is published.
//!
//! ```text
//! CUB_200_2011/
//!   images.txt               image id, path below images/      1 001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg
//!   image_class_labels.txt   image id, class id from 1         1 1
//!   train_test_split.txt     image id, 1 for training          1 0
//!   images/*/*.jpg           11,788
//! ```
//!
//! Labels are class ids less one. Images come in the order of `images.txt`, which is by class. Retrieval by class uses the split `all` with
//! `classes = [0, 100]` for training and `[100, 200]` for tests, or the published split of images, `train` and `test`.
//!
//! **Source**: Wah et al., The Caltech-UCSD Birds-200-2011 Dataset, CNS-TR-2011-001.

use std::path::Path;

use crate::listed::{ListedImages, PairList};
use crate::{DataError, ImageSet, official_images};

/// Folder of the set as it is unpacked.
pub const FOLDER: &str = "CUB_200_2011";
/// The splits.
pub const SPLITS: [&str; 3] = ["train", "test", "all"];
const CLASSES: u32 = 200;

/// Reads a split: the square in the middle of every picture, scaled to `size` x `size`. Listed pictures that are not there make the set
/// partial.
///
/// **Shapes**: `[n, 3, size, size]`.
///
/// **Errors**: [`DataError`] that names the file: lists that are missing, damaged or do not fit one another; no picture; one that cannot be
/// decoded; a set above 8 GiB.
pub fn read(folder: &Path, split: &str, size: usize) -> Result<ImageSet, DataError> {
    let list = |file: &str, example| PairList::read(folder.join(file), example);
    let images = list("images.txt", "1 001.Black_footed_Albatross/a.jpg")?;
    let labels = list("image_class_labels.txt", "1 1")?;
    let splits = list("train_test_split.txt", "1 0")?;
    labels.check_within(&images)?;
    splits.check_within(&images)?;
    let official = official_images("cub200", split).unwrap_or(0);
    let mut found = ListedImages::new("cub200", folder, CLASSES as usize, official);
    for (place, id, _) in images.rows() {
        let label = labels.number(id, 1..=CLASSES)? - 1;
        let training = splits.number(id, 0..=1)? == 1;
        // Of images of other splits as well: a damaged list is damaged whatever is read of it.
        let path = images.path_below(place, &folder.join("images"))?;
        let wanted = match split {
            "train" => training,
            "test" => !training,
            _ => true,
        };
        if wanted {
            found.add(path, label);
        }
    }
    found.read(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listed::write_picture;

    const IMAGES: &str = "1 001.A/a_1.jpg\n2 001.A/a_2.jpg\n3 002.B/b_1.jpg\n";
    const LABELS: &str = "1 1\n2 1\n3 2\n";
    const SPLIT: &str = "1 1\n2 0\n3 1\n";

    fn made() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, "images.txt", IMAGES);
        write(&folder, "image_class_labels.txt", LABELS);
        write(&folder, "train_test_split.txt", SPLIT);
        for (name, shade) in [
            ("001.A/a_1.jpg", 10),
            ("001.A/a_2.jpg", 20),
            ("002.B/b_1.jpg", 30),
        ] {
            write_picture(&folder.path().join("images").join(name), [50, 40], shade);
        }
        folder
    }

    fn write(folder: &tempfile::TempDir, file: &str, text: &str) {
        std::fs::write(folder.path().join(file), text).unwrap();
    }

    #[test]
    fn splits_have_their_images_and_labels() {
        let folder = made();
        let all = read(folder.path(), "all", 8).unwrap();
        assert_eq!((all.labels(), all.shape()), (&[0, 0, 1][..], [3, 8, 8]));
        assert_eq!(all.classes(), 200);
        assert_eq!([all.image(0)[0], all.image(2)[0]], [10, 30]);
        let train = read(folder.path(), "train", 8).unwrap();
        assert_eq!(train.labels(), [0, 1]);
        let test = read(folder.path(), "test", 8).unwrap();
        assert_eq!(test.image(0)[0], 20);
        let completeness = test.completeness().unwrap();
        assert_eq!(completeness.to_string(), "1 of 5,794 images");
    }

    #[test]
    fn missing_pictures_make_the_set_partial_and_none_is_an_error() {
        let folder = made();
        std::fs::remove_file(folder.path().join("images/001.A/a_2.jpg")).unwrap();
        let all = read(folder.path(), "all", 8).unwrap();
        assert_eq!(
            all.completeness().unwrap().to_string(),
            "2 of 11,788 images; missing: images/001.A/a_2.jpg"
        );
        let error = read(folder.path(), "test", 8).unwrap_err().to_string();
        assert!(error.contains("none of the 1 listed images"), "{error}");
        std::fs::write(folder.path().join("images/002.B/b_1.jpg"), "no picture").unwrap();
        let error = read(folder.path(), "all", 8).unwrap_err().to_string();
        assert!(error.contains("b_1.jpg"), "{error}");
    }

    #[test]
    fn damaged_and_cut_lists_are_named() {
        for (file, text, expected) in [
            (
                "images.txt",
                "1 001.A/a_1.jpg\n2\n",
                "byte 16: \"2\" is not a line",
            ),
            ("images.txt", "1 a b\n", "is not a line"),
            (
                "images.txt",
                "1 a.jpg\n1 b.jpg\n",
                "byte 8: 1 appears twice",
            ),
            ("images.txt", "1 001.A/a_1.jpg\n", "2 is not in"),
            (
                "images.txt",
                "1 ../../etc/passwd\n2 a\n3 b\n",
                "is not the path of an image",
            ),
            (
                "images.txt",
                "1 /etc/passwd\n2 a\n3 b\n",
                "is not the path of an image",
            ),
            ("images.txt", "\n\n", "no records"),
            ("image_class_labels.txt", "1 1\n2 1\n", "has no line for 3"),
            (
                "image_class_labels.txt",
                "1 1\n2 201\n3 1\n",
                "byte 4: \"201\" is not a number from 1 to 200",
            ),
            ("image_class_labels.txt", "1 1\n2 0\n3 1\n", "from 1 to 200"),
            ("train_test_split.txt", "1 1\n2 2\n3 1\n", "from 0 to 1"),
            (
                "train_test_split.txt",
                "1 1\n2 1\n3 1\n4 1\n",
                "4 is not in",
            ),
        ] {
            let folder = made();
            write(&folder, file, text);
            let error = read(folder.path(), "all", 8).unwrap_err().to_string();
            assert!(error.contains(expected), "{file} {text:?}: {error}");
            assert!(error.contains(".txt"), "{error}");
        }
        let folder = made();
        write(
            &folder,
            "images.txt",
            "1 /a.jpg\n2 001.A/a_2.jpg\n3 c.jpg\n",
        );
        let error = read(folder.path(), "test", 8).unwrap_err().to_string();
        assert!(error.contains("is not the path of an image"), "{error}");
        for file in [
            "images.txt",
            "image_class_labels.txt",
            "train_test_split.txt",
        ] {
            let folder = made();
            std::fs::remove_file(folder.path().join(file)).unwrap();
            let error = read(folder.path(), "all", 8).unwrap_err().to_string();
            assert!(error.contains(file), "{error}");
            std::fs::write(folder.path().join(file), [0xff, 0xfe, b'\n']).unwrap();
            let error = read(folder.path(), "all", 8).unwrap_err().to_string();
            assert!(error.contains(file), "{error}");
        }
    }
}

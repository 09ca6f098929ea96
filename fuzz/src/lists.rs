//! Lists of images and labels, as CUB-200-2011 and CelebA are published.

use std::path::Path;

use perennial_data::{DataError, ImageSet, celeba, cub200};
use perennial_encode::encode_png;

use crate::Target;
use crate::scratch::Scratch;

/// Between the lists of one input.
const SEPARATOR: &[u8] = b"\n%%\n";
/// The side of the squares.
const SIDE: usize = 2;
/// Pictures of the sets, by paths below their folder of images.
const PICTURES: [&str; 4] = ["001.A/a.jpg", "002.B/b.jpg", "000001.jpg", "000002.jpg"];
/// The shade of the sets' pictures, and that of one outside of them.
const SHADES: [u8; 2] = [40, 200];

/// The lists of one set, one after the other: those of CelebA (identities, partition) after a first byte that is odd, else those of
/// CUB-200-2011 (images, classes, splits).
pub struct ImageLists(Scratch);

impl Target for ImageLists {
    fn new() -> Self {
        let scratch = Scratch::new();
        let picture = |path: &Path, shade| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let pixels = [shade; 3 * SIDE * SIDE];
            std::fs::write(path, encode_png(&pixels, [3, SIDE, SIDE]).unwrap()).unwrap();
        };
        for images in ["cub/images", "celeba/img_align_celeba"] {
            for path in PICTURES {
                picture(&scratch.path().join(images).join(path), SHADES[0]);
            }
        }
        for outside in ["outside.jpg", "cub/outside.jpg", "celeba/outside.jpg"] {
            picture(&scratch.path().join(outside), SHADES[1]);
        }
        Self(scratch)
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let Some((&kind, text)) = bytes.split_first() else {
            return false;
        };
        match kind & 1 {
            0 => {
                let folder = self.0.path().join("cub");
                let lists = [
                    "images.txt",
                    "image_class_labels.txt",
                    "train_test_split.txt",
                ];
                check(&folder, &lists, text, cub200::read, &cub200::SPLITS)
            }
            _ => {
                let folder = self.0.path().join("celeba");
                let lists = ["identity_CelebA.txt", "list_eval_partition.txt"];
                check(&folder, &lists, text, celeba::read, &celeba::SPLITS)
            }
        }
    }
}

/// Writes the lists and reads every split.
fn check(
    folder: &Path,
    lists: &[&str],
    text: &[u8],
    read: fn(&Path, &str, usize) -> Result<ImageSet, DataError>,
    splits: &[&str],
) -> bool {
    let mut rest = text;
    for list in lists {
        let end = rest.windows(SEPARATOR.len()).position(|w| w == SEPARATOR);
        let (content, after) = match end {
            Some(end) => (&rest[..end], &rest[end + SEPARATOR.len()..]),
            None => (rest, &[][..]),
        };
        std::fs::write(folder.join(list), content).unwrap();
        rest = after;
    }
    let read = |split: &str| {
        let set = read(folder, split, SIDE).ok()?;
        assert_eq!(set.shape(), [3, SIDE, SIDE]);
        assert!(set.pixels().iter().all(|&value| value == SHADES[0]));
        assert!(
            set.labels()
                .iter()
                .all(|&label| (label as usize) < set.classes())
        );
        let completeness = set.completeness().unwrap();
        assert_eq!(completeness.images, set.len());
        Some(set.len() + completeness.missing.len())
    };
    // The last split holds every listed image.
    let (all, parts) = splits.split_last().unwrap();
    let all = read(all);
    let parts: usize = parts.iter().filter_map(|split| read(split)).sum();
    assert!(parts <= all.unwrap_or(0));
    all.is_some()
}

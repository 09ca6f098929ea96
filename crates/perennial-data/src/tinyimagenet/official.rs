//! Tiny-ImageNet as it is published: JPEG files in folders.
//!
//! ```text
//! tiny-imagenet-200/
//!   wnids.txt                          the 200 class ids, such as n01443537
//!   words.txt                          id, tab, names
//!   train/n01443537/images/*.JPEG      500 of each class
//!   val/images/*.JPEG                  10,000
//!   val/val_annotations.txt            file, tab, class id, tab, a box
//! ```
//!
//! Labels are positions in the sorted ids. Images come round-robin by class, so that any beginning is balanced. The test split is
//! published without labels and is not read.
//!
//! **Source**: <http://cs231n.stanford.edu/tiny-imagenet-200.zip>.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{CLASSES, RECORD_SIZE};
use crate::completeness::{Completeness, official_images};
use crate::listed::{decode_all, image_bytes, lines, read_text};
use crate::{DataError, ImageSet};
use perennial_encode::{DecodeLimits, decode_square};

/// Rows and columns of the published images.
const OFFICIAL_SIZE: usize = 64;
/// Images that are decoded at a time while a file is written.
const BATCH: usize = 1024;

/// A labelled part of the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// 500 images of each class.
    Train,
    /// 50 images of each class.
    Val,
}

impl Split {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Train, Self::Val];

    /// The name of its folder, and of the split.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
        }
    }

    /// The split of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|split| split.name() == name)
    }
}

/// The files of a split with their labels, before any image is decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    folder: PathBuf,
    files: Vec<(PathBuf, u32)>,
    completeness: Completeness,
}

/// Ids of the classes, sorted: a label is a position in this list.
///
/// **Errors**: [`DataError`] if `wnids.txt` is missing or holds anything but ids, one a line, or more than 200 of them.
pub fn class_ids(folder: &Path) -> Result<Vec<String>, DataError> {
    let path = folder.join("wnids.txt");
    let text = read_text(&path)?;
    let mut ids = Vec::new();
    for (offset, line) in lines(&text) {
        let plain = |c: char| c.is_ascii_alphanumeric();
        if !line.chars().all(plain) || line.len() > 32 {
            return Err(DataError::Format {
                path,
                offset,
                problem: format!("{line:?} is not a class id such as n01443537"),
            });
        }
        ids.push(line.to_owned());
    }
    ids.sort();
    ids.dedup();
    if ids.is_empty() || ids.len() > CLASSES {
        return Err(DataError::Folder {
            path,
            problem: format!("names {} classes; supported are 1 to {CLASSES}", ids.len()),
        });
    }
    Ok(ids)
}

/// Names of the classes by `words.txt`, in the order of [`class_ids`]; the id where there is none.
///
/// **Errors**: as [`class_ids`].
pub fn class_names(folder: &Path) -> Result<Vec<String>, DataError> {
    let ids = class_ids(folder)?;
    let words = read_text(&folder.join("words.txt")).unwrap_or_default();
    let names: BTreeMap<&str, &str> = words
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .collect();
    let name = |id: &String| {
        names
            .get(id.as_str())
            .map_or(id.clone(), |name| name.trim().to_owned())
    };
    Ok(ids.iter().map(name).collect())
}

/// Finds the images of a split.
///
/// **Errors**: [`DataError`] for text files that are missing or not as published, and for a split without any image. Classes and
/// listed images that are not there make the set partial, which [`Listing::completeness`] tells.
pub fn list(folder: &Path, split: Split) -> Result<Listing, DataError> {
    let ids = class_ids(folder)?;
    let mut missing = Vec::new();
    let by_class = match split {
        Split::Train => train_files(folder, &ids, &mut missing)?,
        Split::Val => val_files(folder, &ids, &mut missing)?,
    };
    let longest = by_class.iter().map(Vec::len).max().unwrap_or(0);
    let mut files = Vec::new();
    for position in 0..longest {
        for (label, class) in by_class.iter().enumerate() {
            if let Some(file) = class.get(position) {
                files.push((file.clone(), label as u32));
            }
        }
    }
    if files.is_empty() {
        return Err(DataError::Empty {
            path: folder.join(split.name()),
        });
    }
    let completeness = Completeness {
        images: files.len(),
        official_images: official_images("tinyimagenet", split.name()).unwrap_or(0),
        missing,
    };
    Ok(Listing {
        folder: folder.to_path_buf(),
        files,
        completeness,
    })
}

impl Listing {
    /// Images found beside those published.
    pub fn completeness(&self) -> &Completeness {
        &self.completeness
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is none, which [`list`] does not let happen.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Decodes every image to `size` x `size` pixels: means of whole blocks where 64 is a multiple of `size` (2x2 for the usual
    /// 32), otherwise interpolated.
    ///
    /// **Shapes**: `[n, 3, size, size]`.
    ///
    /// **Errors**: [`DataError`] for an image that cannot be decoded, and for a set above 8 GiB.
    pub fn read(&self, size: usize) -> Result<ImageSet, DataError> {
        let pixels = decode_all(&self.folder, &self.files, size, |path| decode(path, size))?;
        let labels = self.files.iter().map(|(_, label)| *label).collect();
        let set = ImageSet::new("tinyimagenet", [3, size, size], pixels, labels, CLASSES)?;
        Ok(set.with_completeness(self.completeness.clone()))
    }

    /// Writes the images as records of 32x32 pixels, the file that [`read`](super::read) reads, to a path that must be free.
    /// `progress` is called with the number of images done.
    ///
    /// **Errors**: as [`read`](Self::read); a file that is already there; a disk that is full. Nothing is left behind then.
    pub fn write_records(
        &self,
        path: &Path,
        progress: &mut dyn FnMut(usize),
    ) -> Result<(), DataError> {
        check_free(path)?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(DataError::io(folder))?;
        }
        let mut undecodable = None;
        let written = perennial_core::write_atomically_with(path, |out| {
            for batch in self.files.chunks(BATCH) {
                let records: Result<Vec<Vec<u8>>, DataError> = batch
                    .par_iter()
                    .map(|(file, label)| {
                        let mut record = (*label as u16).to_le_bytes().to_vec();
                        record.extend(decode(file, RECORD_SIZE)?);
                        Ok(record)
                    })
                    .collect();
                match records {
                    Ok(records) => records
                        .iter()
                        .try_for_each(|record| out.write_all(record))?,
                    Err(error) => {
                        undecodable = Some(error);
                        return Err(std::io::Error::other("an image could not be decoded"));
                    }
                }
                progress(batch.len());
            }
            Ok(())
        });
        match (undecodable, written) {
            (Some(error), _) => Err(error),
            (None, written) => written.map_err(DataError::io(path)),
        }
    }
}

/// Refuses a path that already exists.
///
/// **Errors**: [`DataError::Folder`].
pub fn check_free(path: &Path) -> Result<(), DataError> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(DataError::io(path)(error)),
        Ok(_) => Err(DataError::Folder {
            path: path.to_path_buf(),
            problem:
                "already exists and is not overwritten; move it away, or write to another path"
                    .into(),
        }),
    }
}

fn train_files(
    folder: &Path,
    ids: &[String],
    missing: &mut Vec<String>,
) -> Result<Vec<Vec<PathBuf>>, DataError> {
    let root = folder.join("train");
    if !root.is_dir() {
        return Err(missing_folder(root));
    }
    let mut by_class = Vec::with_capacity(ids.len());
    for id in ids {
        let images = root.join(id).join("images");
        if images.is_dir() {
            by_class.push(image_files(&images)?);
        } else {
            missing.push(format!("train/{id}/images"));
            by_class.push(Vec::new());
        }
    }
    Ok(by_class)
}

fn val_files(
    folder: &Path,
    ids: &[String],
    missing: &mut Vec<String>,
) -> Result<Vec<Vec<PathBuf>>, DataError> {
    let images = folder.join("val").join("images");
    if !images.is_dir() {
        return Err(missing_folder(images));
    }
    let path = folder.join("val").join("val_annotations.txt");
    let text = read_text(&path)?;
    let mut by_class = vec![Vec::new(); ids.len()];
    for (offset, line) in lines(&text) {
        let problem = |problem: String| DataError::Format {
            path: path.clone(),
            offset,
            problem,
        };
        let mut fields = line.split_whitespace();
        let (Some(file), Some(id)) = (fields.next(), fields.next()) else {
            return Err(problem(format!(
                "{line:?} is not a line such as val_0.JPEG, tab, n03444034"
            )));
        };
        let name = Path::new(file);
        // A name with folders in it would leave the set.
        if name.file_name() != Some(name.as_os_str()) {
            return Err(problem(format!("{file:?} is not a file name")));
        }
        let Ok(label) = ids.binary_search_by(|known| known.as_str().cmp(id)) else {
            return Err(problem(format!("class {id:?} is not in wnids.txt")));
        };
        let image = images.join(name);
        if image.is_file() {
            by_class[label].push(image);
        } else {
            missing.push(format!("val/images/{file}"));
        }
    }
    Ok(by_class)
}

fn missing_folder(path: PathBuf) -> DataError {
    DataError::Missing {
        path,
        remedy: "the folder of Tiny-ImageNet is not complete; unzip the archive again".into(),
    }
}

/// Files of a folder in the order of the numbers in their names, without hidden ones.
fn image_files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io(folder))? {
        let entry = entry.map_err(DataError::io(folder))?;
        let path = entry.path();
        if !entry.file_name().as_encoded_bytes().starts_with(b".") && path.is_file() {
            files.push(path);
        }
    }
    files.sort_by_key(|path| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let digits: String = name
            .rsplit('_')
            .next()
            .unwrap_or_default()
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        (digits.parse::<u64>().unwrap_or(u64::MAX), name)
    });
    Ok(files)
}

/// One image as `[3, size, size]`.
fn decode(path: &Path, size: usize) -> Result<Vec<u8>, DataError> {
    let limits = DecodeLimits::FILES;
    let bytes = image_bytes(path)?;
    let in_blocks = size > 0 && size < OFFICIAL_SIZE && OFFICIAL_SIZE.is_multiple_of(size);
    let decoded = if in_blocks {
        decode_square(&bytes, OFFICIAL_SIZE, limits).map(|pixels| block_means(&pixels, size))
    } else {
        decode_square(&bytes, size, limits)
    };
    decoded.map_err(|source| DataError::Image {
        path: path.to_path_buf(),
        source,
    })
}

/// Means of square blocks, rounded to the nearest: `[3, 64, 64]` to `[3, size, size]`.
fn block_means(pixels: &[u8], size: usize) -> Vec<u8> {
    let block = OFFICIAL_SIZE / size;
    let count = (block * block) as u32;
    let mut means = Vec::with_capacity(3 * size * size);
    for plane in pixels.chunks_exact(OFFICIAL_SIZE * OFFICIAL_SIZE) {
        for row in 0..size {
            for column in 0..size {
                let sum: u32 = (0..block)
                    .flat_map(|y| {
                        let start = (row * block + y) * OFFICIAL_SIZE + column * block;
                        &plane[start..start + block]
                    })
                    .map(|&value| u32::from(value))
                    .sum();
                means.push(((sum + count / 2) / count) as u8);
            }
        }
    }
    means
}

#[cfg(test)]
mod tests {
    use super::*;
    use perennial_encode::encode_png;

    /// A small copy of the layout. The pictures are PNG under the published names: content decides.
    fn published(folder: &Path) {
        let write = |path: &str, bytes: &[u8]| {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        let picture = |shade: u8| {
            let pixels: Vec<u8> = (0..3 * 64 * 64)
                .map(|i| if i % 2 == 0 { shade } else { shade + 3 })
                .collect();
            encode_png(&pixels, [3, 64, 64]).unwrap()
        };
        write("wnids.txt", b"n02\nn01\n\nn03\n");
        write(
            "words.txt",
            b"n01\tgoldfish, Carassius\nn02\tacorn\nn99\tother\n",
        );
        for (class, number, shade) in [
            ("n01", 0, 10),
            ("n01", 10, 30),
            ("n01", 2, 20),
            ("n02", 0, 50),
        ] {
            write(
                &format!("train/{class}/images/{class}_{number}.JPEG"),
                &picture(shade),
            );
        }
        write("val/images/val_0.JPEG", &picture(70));
        write("val/images/val_1.JPEG", &picture(80));
        write(
            "val/val_annotations.txt",
            b"val_0.JPEG\tn02\t0\t32\t44\t62\nval_1.JPEG\tn01\t0\t0\t1\t1\nval_2.JPEG\tn01\t0\t0\t1\t1\n",
        );
    }

    #[test]
    fn the_published_folders_are_read_and_converted_alike() {
        let root = tempfile::tempdir().unwrap();
        published(root.path());
        assert_eq!(class_ids(root.path()).unwrap(), ["n01", "n02", "n03"]);
        assert_eq!(
            class_names(root.path()).unwrap(),
            ["goldfish, Carassius", "acorn", "n03"]
        );
        let train = list(root.path(), Split::Train).unwrap();
        let set = train.read(32).unwrap();
        assert_eq!(set.labels(), [0, 1, 0, 0], "round-robin by class");
        assert_eq!((set.shape(), set.classes()), ([3, 32, 32], 200));
        let shades: Vec<u8> = (0..4).map(|image| set.image(image)[0]).collect();
        // The mean of shade and shade + 3 is rounded up; numbers are sorted as numbers.
        assert_eq!(shades, [12, 52, 22, 32]);
        let completeness = set.completeness().unwrap();
        assert_eq!(
            completeness.to_string(),
            "4 of 100,000 images; missing: train/n03/images"
        );
        let val = list(root.path(), Split::Val).unwrap();
        assert_eq!(val.read(64).unwrap().labels(), [0, 1]);
        assert_eq!(val.completeness().missing, ["val/images/val_2.JPEG"]);

        let records = root.path().join("out/train.bin");
        let mut done = 0;
        train
            .write_records(&records, &mut |images| done += images)
            .unwrap();
        assert_eq!(done, 4);
        let read = super::super::read(&records).unwrap();
        assert_eq!((read.labels(), read.pixels()), (set.labels(), set.pixels()));
        let error = train.write_records(&records, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("not overwritten"), "{error}");
    }

    #[test]
    fn what_is_not_as_published_is_named() {
        let root = tempfile::tempdir().unwrap();
        let fails = |split: Split, part: &str| {
            let error = list(root.path(), split)
                .and_then(|listing| listing.read(32))
                .unwrap_err()
                .to_string();
            assert!(error.contains(part), "{error} | {part}");
        };
        fails(Split::Train, "wnids.txt does not exist");
        published(root.path());
        let write = |path: &str, text: &str| std::fs::write(root.path().join(path), text).unwrap();
        write("wnids.txt", "n01\n../n02\n");
        fails(Split::Train, "wnids.txt, byte 4");
        write("wnids.txt", "\n");
        fails(Split::Train, "names 0 classes");
        write("wnids.txt", "n01\nn02\n");
        write("val/val_annotations.txt", "val_0.JPEG\tn07\n");
        fails(Split::Val, "class \"n07\" is not in wnids.txt");
        write("val/val_annotations.txt", "../../secret\tn01\n");
        fails(Split::Val, "is not a file name");
        write("val/val_annotations.txt", "val_0.JPEG\n");
        fails(Split::Val, "val_annotations.txt, byte 0");
        write("val/val_annotations.txt", "gone.JPEG\tn01\n");
        fails(Split::Val, "holds no records");
        write("train/n01/images/n01_2.JPEG", "no picture");
        fails(Split::Train, "n01_2.JPEG");
        let out = root.path().join("out.bin");
        let listing = list(root.path(), Split::Train).unwrap();
        assert!(listing.write_records(&out, &mut |_| {}).is_err() && !out.exists());
    }
}

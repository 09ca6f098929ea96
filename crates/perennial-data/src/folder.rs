//! A folder of images, one sub-folder per class: `PATH/CLASS/IMAGE.png`.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::codec::{DecodeLimits, decode_into};
use crate::error::MAX_BYTES;
use crate::record_file::allocate;
use crate::{DataError, ImageSet};

const DECODED: [&str; 3] = ["png", "jpg", "jpeg"];
/// Formats that are surely meant to be images, so that passing over them in silence would mislead.
const NOT_DECODED: [&str; 8] = ["webp", "gif", "bmp", "tif", "tiff", "heic", "avif", "jp2"];

/// Reads every PNG and JPEG image of a folder of classes as `size` x `size` RGB.
///
/// The square in the middle of an image is scaled; transparency is dropped. Classes are numbered in the order of their
/// folders' names (see [`class_names`]), images come in the order of their files' names. Hidden files and files that are no images are passed over.
///
/// **Shapes**: `[n, 3, size, size]`.
///
/// **Errors**: [`DataError`] naming the folder or file, if nothing is found, an image cannot be decoded, is in another format or
/// larger than 16,384 pixels a side, or the set would exceed 8 GiB.
pub fn read(path: &Path, size: usize) -> Result<ImageSet, DataError> {
    let classes = class_folders(path)?;
    let mut files = Vec::new();
    let mut labels = Vec::new();
    for (label, class) in classes.iter().enumerate() {
        let images = image_files(class)?;
        labels.resize(labels.len() + images.len(), label as u32);
        files.extend(images);
    }
    if files.is_empty() {
        return Err(DataError::Empty {
            path: path.to_path_buf(),
        });
    }
    let image_bytes = (size as u64).saturating_mul(size as u64).saturating_mul(3);
    let bytes = image_bytes.saturating_mul(files.len() as u64);
    if size == 0 {
        return Err(DataError::invalid(
            format!("image folder {}", path.display()),
            "the image size must be above 0",
        ));
    }
    if bytes > MAX_BYTES {
        return Err(DataError::TooLarge {
            path: path.to_path_buf(),
            bytes,
            limit: MAX_BYTES,
        });
    }
    let mut pixels = allocate::<u8>(path, bytes as usize)?;
    pixels.resize(bytes as usize, 0);
    pixels
        .par_chunks_exact_mut(image_bytes as usize)
        .zip(files.par_iter())
        .try_for_each(|(target, file)| decode(file, size as u32, target))?;
    let name = path.file_name().map_or_else(
        || "folder".into(),
        |name| name.to_string_lossy().into_owned(),
    );
    ImageSet::new(name, [3, size, size], pixels, labels, classes.len())
}

/// Names of the classes of an image folder, in the order of their labels.
///
/// **Errors**: [`DataError`] if the folder cannot be listed or has no sub-folder.
pub fn class_names(path: &Path) -> Result<Vec<String>, DataError> {
    let name = |folder: &PathBuf| {
        folder
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    };
    Ok(class_folders(path)?.iter().map(name).collect())
}

fn class_folders(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if !path.exists() {
        return Err(DataError::Missing {
            path: path.to_path_buf(),
            remedy: "name a folder with one sub-folder per class".into(),
        });
    }
    let folders: Vec<PathBuf> = visible_entries(path)?
        .into_iter()
        .filter(|entry| entry.is_dir())
        .collect();
    if folders.is_empty() {
        let problem =
            "no sub-folder found; images belong into one sub-folder per class".to_string();
        return Err(DataError::Folder {
            path: path.to_path_buf(),
            problem,
        });
    }
    Ok(folders)
}

fn image_files(class: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for file in visible_entries(class)? {
        let extension = file
            .extension()
            .map(|text| text.to_string_lossy().to_ascii_lowercase())
            .unwrap_or_default();
        if NOT_DECODED.contains(&extension.as_str()) {
            let problem = format!("{extension} images are not read; convert it to PNG or JPEG");
            return Err(DataError::Folder {
                path: file,
                problem,
            });
        }
        if DECODED.contains(&extension.as_str()) && file.is_file() {
            files.push(file);
        }
    }
    Ok(files)
}

/// Entries of a folder sorted by name, without hidden ones.
fn visible_entries(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).map_err(DataError::io(path))? {
        let entry = entry.map_err(DataError::io(path))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            entries.push(entry.path());
        }
    }
    entries.sort();
    Ok(entries)
}

/// Writes the scaled middle square of an image file as `[3, size, size]`.
fn decode(path: &Path, size: u32, target: &mut [u8]) -> Result<(), DataError> {
    let file = File::open(path).map_err(DataError::io(path))?;
    decode_into(BufReader::new(file), size, DecodeLimits::FILES, target).map_err(|source| {
        DataError::Image {
            path: path.to_path_buf(),
            source,
        }
    })
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    fn save(path: &Path, image: &RgbImage) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image.save(path).unwrap();
    }

    #[test]
    fn classes_and_images_come_in_the_order_of_their_names() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let exact = RgbImage::from_fn(4, 4, |x, y| Rgb([x as u8, y as u8, 200]));
        save(&path("dog/2.png"), &exact);
        save(
            &path("dog/10.PNG"),
            &RgbImage::from_pixel(8, 6, Rgb([10, 20, 30])),
        );
        save(
            &path("cat/x.jpg"),
            &RgbImage::from_pixel(9, 9, Rgb([100, 100, 100])),
        );
        std::fs::write(path("cat/.hidden.png"), b"no image").unwrap();
        std::fs::write(path("cat/notes.txt"), b"no image").unwrap();
        std::fs::write(path("readme.md"), b"no class").unwrap();
        let set = read(root.path(), 4).unwrap();
        assert_eq!(class_names(root.path()).unwrap(), ["cat", "dog"]);
        assert_eq!(
            (set.shape(), set.labels(), set.classes()),
            ([3, 4, 4], [0, 1, 1].as_slice(), 2)
        );
        assert!(set.image(0).iter().all(|value| value.abs_diff(100) <= 3));
        assert_eq!(
            [set.image(1)[0], set.image(1)[16], set.image(1)[47]],
            [10, 20, 30]
        );
        let planes: Vec<u8> = (0..48)
            .map(|i| [i % 4, i / 4 % 4, 200][usize::from(i / 16)])
            .collect();
        assert_eq!(
            set.image(2),
            planes,
            "an image of the right size is taken as it is"
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let root = tempfile::tempdir().unwrap();
        let fails = |message: &str| {
            let error = read(root.path(), 4).unwrap_err().to_string();
            assert!(error.contains(message), "{error} | {message}");
        };
        fails("no sub-folder found");
        std::fs::create_dir(root.path().join("a")).unwrap();
        fails("no records");
        std::fs::write(root.path().join("a/bad.png"), b"\x89PNG\r\n\x1a\nrubbish").unwrap();
        fails("bad.png");
        std::fs::write(root.path().join("a/b.webp"), b"RIFF").unwrap();
        fails("b.webp: webp images are not read");
        assert!(read(root.path(), 0).is_err() && read(&root.path().join("none"), 4).is_err());
    }

    #[test]
    fn a_huge_canvas_in_a_small_file_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/bomb.png");
        save(&path, &RgbImage::new(1, 1));
        let mut bytes = std::fs::read(&path).unwrap();
        // Width and height of the IHDR chunk; its checksum then no longer fits, which the decoder may notice first.
        bytes[16..24].copy_from_slice(&[0x00, 0x0f, 0x42, 0x40, 0x00, 0x0f, 0x42, 0x40]);
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(read(root.path(), 4), Err(DataError::Image { .. })));
    }
}

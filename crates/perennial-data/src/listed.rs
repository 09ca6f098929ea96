//! Sets that are published as image files and text lists: reading lists line by line, and the images that they name.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;

use crate::error::MAX_BYTES;
use crate::record_file::{allocate, file_size};
use crate::{Completeness, DataError, ImageSet};
use perennial_encode::{DecodeLimits, decode_square};

/// Longest text file that is read.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// The text of a list.
///
/// **Errors**: [`DataError`] for a file that is missing, above 64 MiB or not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String, DataError> {
    let bytes = file_size(path)?;
    if bytes > MAX_TEXT_BYTES {
        return Err(DataError::TooLarge {
            path: path.to_path_buf(),
            bytes,
            limit: MAX_TEXT_BYTES,
        });
    }
    std::fs::read_to_string(path).map_err(DataError::io(path))
}

/// Lines that are not blank, with the byte where each starts.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (u64, &str)> {
    let start = text.as_ptr() as usize;
    text.lines()
        .map(move |line| ((line.as_ptr() as usize - start) as u64, line.trim()))
        .filter(|(_, line)| !line.is_empty())
}

/// A list of two columns, a key and a value, in the order of the file.
#[derive(Debug)]
pub(crate) struct PairList {
    path: PathBuf,
    rows: Vec<(String, String)>,
    offsets: Vec<u64>,
    places: HashMap<String, usize>,
}

impl PairList {
    /// Reads a list whose lines look like `example`.
    ///
    /// **Errors**: [`DataError`] that names the file and the byte: a line without two columns, a key that appears twice, no line at all.
    pub(crate) fn read(path: PathBuf, example: &str) -> Result<Self, DataError> {
        let text = read_text(&path)?;
        let mut list = Self {
            rows: Vec::new(),
            offsets: Vec::new(),
            places: HashMap::new(),
            path,
        };
        for (offset, line) in lines(&text) {
            let mut fields = line.split_whitespace();
            let (Some(key), Some(value), None) = (fields.next(), fields.next(), fields.next())
            else {
                let shown: String = line.chars().take(80).collect();
                return Err(DataError::format(
                    &list.path,
                    offset,
                    format!(
                        "{shown:?} is not a line such as `{example}`; the list is damaged, copy it again"
                    ),
                ));
            };
            if list
                .places
                .insert(key.to_owned(), list.rows.len())
                .is_some()
            {
                return Err(DataError::format(
                    &list.path,
                    offset,
                    format!("{key} appears twice; the list is damaged, copy it again"),
                ));
            }
            list.rows.push((key.to_owned(), value.to_owned()));
            list.offsets.push(offset);
        }
        if list.rows.is_empty() {
            return Err(DataError::Empty { path: list.path });
        }
        Ok(list)
    }

    /// Key and value of every line.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (usize, &str, &str)> {
        let rows = self.rows.iter().enumerate();
        rows.map(|(place, (key, value))| (place, key.as_str(), value.as_str()))
    }

    /// The value of a key, as a number from `numbers`.
    ///
    /// **Errors**: [`DataError`] that names the file: no such key, which means that the list was cut or belongs to other images; a value
    /// that is no such number.
    pub(crate) fn number(
        &self,
        key: &str,
        numbers: std::ops::RangeInclusive<u32>,
    ) -> Result<u32, DataError> {
        let Some(&place) = self.places.get(key) else {
            return Err(DataError::Folder {
                path: self.path.clone(),
                problem: format!(
                    "has no line for {key}, which another list names; the file was cut or is of another edition, copy it again"
                ),
            });
        };
        let value = &self.rows[place].1;
        match value.parse() {
            Ok(number) if numbers.contains(&number) => Ok(number),
            _ => Err(self.wrong(
                place,
                format!(
                    "{value:?} is not a number from {} to {}",
                    numbers.start(),
                    numbers.end()
                ),
            )),
        }
    }

    /// Refuses keys that `other` does not have: one of the two lists was cut then.
    pub(crate) fn check_within(&self, other: &Self) -> Result<(), DataError> {
        let beyond = self
            .rows()
            .find(|(_, key, _)| !other.places.contains_key(*key));
        beyond.map_or(Ok(()), |(place, key, _)| {
            Err(self.wrong(
                place,
                format!(
                    "{key} is not in {}; that file was cut or is of another edition, copy it again",
                    other.path.display()
                ),
            ))
        })
    }

    /// A path within the set's folder that the value of a line names.
    pub(crate) fn path_below(&self, place: usize, folder: &Path) -> Result<PathBuf, DataError> {
        self.below(place, &self.rows[place].1, folder)
    }

    /// The same for the key of a line.
    pub(crate) fn key_below(&self, place: usize, folder: &Path) -> Result<PathBuf, DataError> {
        self.below(place, &self.rows[place].0, folder)
    }

    fn below(&self, place: usize, name: &str, folder: &Path) -> Result<PathBuf, DataError> {
        let name = Path::new(name);
        // Any other would leave the set.
        if name
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
        {
            return Ok(folder.join(name));
        }
        Err(self.wrong(place, format!("{name:?} is not the path of an image")))
    }

    fn wrong(&self, place: usize, problem: String) -> DataError {
        DataError::format(&self.path, self.offsets[place], problem)
    }
}

/// The files of a split with their labels, before any image is decoded.
#[derive(Debug)]
pub(crate) struct ListedImages {
    pub(crate) name: &'static str,
    pub(crate) folder: PathBuf,
    pub(crate) classes: usize,
    pub(crate) official_images: usize,
    files: Vec<(PathBuf, u32)>,
    missing: Vec<String>,
}

impl ListedImages {
    pub(crate) fn new(
        name: &'static str,
        folder: &Path,
        classes: usize,
        official_images: usize,
    ) -> Self {
        Self {
            name,
            folder: folder.to_path_buf(),
            classes,
            official_images,
            files: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// Adds an image of a list; one that is not there makes the set partial.
    pub(crate) fn add(&mut self, path: PathBuf, label: u32) {
        if path.is_file() {
            self.files.push((path, label));
        } else {
            let shown = path.strip_prefix(&self.folder).unwrap_or(&path);
            self.missing.push(shown.display().to_string());
        }
    }

    /// Decodes every image: the square in its middle, scaled.
    ///
    /// **Shapes**: `[n, 3, size, size]`.
    ///
    /// **Errors**: [`DataError`] if no listed image is there, for an image that cannot be decoded, and for a set above 8 GiB.
    pub(crate) fn read(self, size: usize) -> Result<ImageSet, DataError> {
        if self.files.is_empty() {
            let problem = match self.missing.first() {
                Some(first) => format!(
                    "none of the {} listed images is there (the first is {first}); unpack the images",
                    self.missing.len()
                ),
                None => "its lists name no image of this split; copy them again".to_owned(),
            };
            return Err(DataError::Folder {
                path: self.folder,
                problem,
            });
        }
        let pixels = decode_all(&self.folder, &self.files, size, |path| {
            let bytes = image_bytes(path)?;
            decode_square(&bytes, size, DecodeLimits::FILES).map_err(|source| DataError::Image {
                path: path.to_path_buf(),
                source,
            })
        })?;
        let labels = self.files.iter().map(|(_, label)| *label).collect();
        let set = ImageSet::new(self.name, [3, size, size], pixels, labels, self.classes)?;
        Ok(set.with_completeness(Completeness {
            images: self.files.len(),
            official_images: self.official_images,
            missing: self.missing,
        }))
    }
}

/// Decodes files in parallel.
///
/// **Shapes**: `[n, 3, size, size]`, which `decode` gives one by one.
///
/// **Errors**: those of `decode`; [`DataError::TooLarge`] above 8 GiB.
pub(crate) fn decode_all(
    folder: &Path,
    files: &[(PathBuf, u32)],
    size: usize,
    decode: impl Fn(&Path) -> Result<Vec<u8>, DataError> + Sync,
) -> Result<Vec<u8>, DataError> {
    let image_bytes = size.saturating_mul(size).saturating_mul(3);
    let bytes = (image_bytes as u64).saturating_mul(files.len() as u64);
    if image_bytes == 0 || bytes > MAX_BYTES {
        return Err(DataError::TooLarge {
            path: folder.to_path_buf(),
            bytes,
            limit: MAX_BYTES,
        });
    }
    let mut pixels = allocate::<u8>(folder, bytes as usize)?;
    pixels.resize(bytes as usize, 0);
    pixels
        .par_chunks_exact_mut(image_bytes)
        .zip(files.par_iter())
        .try_for_each(|(target, (file, _))| {
            target.copy_from_slice(&decode(file)?);
            Ok::<(), DataError>(())
        })?;
    Ok(pixels)
}

/// The content of an image file of bounded size.
pub(crate) fn image_bytes(path: &Path) -> Result<Vec<u8>, DataError> {
    let limit = DecodeLimits::FILES.bytes;
    let bytes = file_size(path)?;
    if bytes > limit {
        return Err(DataError::TooLarge {
            path: path.to_path_buf(),
            bytes,
            limit,
        });
    }
    std::fs::read(path).map_err(DataError::io(path))
}

/// Writes a picture of one colour, for tests.
#[cfg(test)]
pub(crate) fn write_picture(path: &Path, size: [u32; 2], shade: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_pixel(size[0], size[1], image::Rgb([shade, 100, 200]))
        .save_with_format(path, image::ImageFormat::Png)
        .unwrap();
}

//! Labelled images in memory.

use std::collections::HashMap;
use std::ops::Range;

use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest, Sha256};

use crate::{Completeness, DataError};

/// Labelled images of one size, kept as bytes: a quarter of the memory of `f32`, and the exact content of the files.
///
/// **Shapes**: `pixels` is `[n, channels, height, width]`, row-major; `labels` is `[n]` with values below `classes`. A subset keeps
/// `classes` and the labels' values, so that class `c` means the same in every part of a set.
#[derive(Clone, PartialEq, Eq)]
pub struct ImageSet {
    name: String,
    channels: usize,
    height: usize,
    width: usize,
    pixels: Vec<u8>,
    labels: Vec<u32>,
    classes: usize,
    completeness: Option<Completeness>,
}

impl ImageSet {
    /// Builds a set; `shape` is `[channels, height, width]` of one image.
    ///
    /// **Errors**: [`DataError::Invalid`] if a side is 0, if the numbers of pixels and labels do not fit each other, or if a label
    /// is not below `classes`. A set without images is allowed: a filter may leave nothing.
    pub fn new(
        name: impl Into<String>,
        shape: [usize; 3],
        pixels: Vec<u8>,
        labels: Vec<u32>,
        classes: usize,
    ) -> Result<Self, DataError> {
        let name = name.into();
        let [channels, height, width] = shape;
        let fail =
            |problem: String| Err(DataError::invalid(format!("image set `{name}`"), problem));
        let image_len = channels
            .checked_mul(height)
            .and_then(|a| a.checked_mul(width))
            .unwrap_or(0);
        if image_len == 0 {
            return fail(format!(
                "an image of {channels} x {height} x {width} is empty or too large"
            ));
        }
        if image_len.checked_mul(labels.len()) != Some(pixels.len()) {
            return fail(format!(
                "{} pixels do not make {} images of {channels} x {height} x {width}",
                pixels.len(),
                labels.len()
            ));
        }
        if let Some(position) = labels.iter().position(|&label| label as usize >= classes) {
            return fail(format!(
                "label {} of image {position} is not below {classes}",
                labels[position]
            ));
        }
        Ok(Self {
            name,
            channels,
            height,
            width,
            pixels,
            labels,
            classes,
            completeness: None,
        })
    }

    /// The same set with what is known about its files. A selection of it keeps that: it is about where the images come from.
    pub(crate) fn with_completeness(self, completeness: Completeness) -> Self {
        Self {
            completeness: Some(completeness),
            ..self
        }
    }

    /// How much of the published set the files hold, where a number is published.
    pub fn completeness(&self) -> Option<&Completeness> {
        self.completeness.as_ref()
    }

    /// Name of the set, as used in records of a run.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether the set has no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Number of channels: 3 for RGB, 1 for grey.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Rows of an image.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Columns of an image.
    pub fn width(&self) -> usize {
        self.width
    }

    /// `[channels, height, width]` of one image.
    pub fn shape(&self) -> [usize; 3] {
        [self.channels, self.height, self.width]
    }

    /// Whether batches can be made of the images.
    pub(crate) fn check_channels(&self) -> Result<(), DataError> {
        match self.channels {
            1 | 3 => Ok(()),
            other => Err(DataError::invalid(
                format!("image set `{}`", self.name),
                format!("has {other} channels; batches are made of 1 or 3"),
            )),
        }
    }

    /// Number of classes; labels are below it. Not every class needs to have an image.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// All pixels, `[n, channels, height, width]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// All labels, `[n]`.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Bytes of one image.
    pub fn image_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Pixels of image `index`, `[channels, height, width]`. Panics if `index` is not below [`len`](Self::len), as slices do.
    pub fn image(&self, index: usize) -> &[u8] {
        let length = self.image_len();
        &self.pixels[index * length..(index + 1) * length]
    }

    /// Label of image `index`. Panics if `index` is not below [`len`](Self::len), as slices do.
    pub fn label(&self, index: usize) -> u32 {
        self.labels[index]
    }

    /// The images at `indices`, in that order; an index may repeat. Panics if one is not below [`len`](Self::len).
    pub fn subset(&self, indices: &[usize]) -> Self {
        let mut pixels = Vec::with_capacity(indices.len() * self.image_len());
        for &index in indices {
            pixels.extend_from_slice(self.image(index));
        }
        Self {
            name: self.name.clone(),
            pixels,
            labels: indices.iter().map(|&index| self.labels[index]).collect(),
            completeness: self.completeness.clone(),
            ..*self
        }
    }

    /// The images whose label lies in `range`, in order.
    pub fn filter_classes(&self, range: Range<u32>) -> Self {
        let indices: Vec<usize> = (0..self.len())
            .filter(|&i| range.contains(&self.labels[i]))
            .collect();
        self.subset(&indices)
    }

    /// Positions of the images of `class`, ascending.
    pub fn indices_of_class(&self, class: u32) -> Vec<usize> {
        (0..self.len())
            .filter(|&i| self.labels[i] == class)
            .collect()
    }

    /// The first `n` images of every class, in their original order (300 of each make "CIFAR100R" of CIFAR-100).
    pub fn first_per_class(&self, n: usize) -> Self {
        self.by_place_in_class(|place| place < n)
    }

    /// All but the first `n` images of every class, in their original order: what [`first_per_class`](Self::first_per_class) leaves out.
    pub fn after_first_per_class(&self, n: usize) -> Self {
        self.by_place_in_class(|place| place >= n)
    }

    /// The images whose place among those of their class, counted from 0, is wanted.
    fn by_place_in_class(&self, wanted: impl Fn(usize) -> bool) -> Self {
        let mut seen = HashMap::new();
        let indices: Vec<usize> = (0..self.len())
            .filter(|&i| {
                let next = seen.entry(self.labels[i]).or_insert(0_usize);
                let place = *next;
                *next += 1;
                wanted(place)
            })
            .collect();
        self.subset(&indices)
    }

    /// The same images with three channels: grey is repeated, RGB is unchanged.
    ///
    /// **Errors**: [`DataError::Invalid`] for any other number of channels.
    pub fn into_rgb(self) -> Result<Self, DataError> {
        match self.channels {
            3 => Ok(self),
            1 => {
                let plane = self.height * self.width;
                let pixels = self
                    .pixels
                    .chunks_exact(plane)
                    .flat_map(|grey| [grey; 3])
                    .flatten()
                    .copied()
                    .collect();
                Ok(Self {
                    channels: 3,
                    pixels,
                    ..self
                })
            }
            other => Err(DataError::invalid(
                format!("image set `{}`", self.name),
                format!("{other} channels cannot be shown as RGB; only 1 or 3 can"),
            )),
        }
    }

    /// SHA-256 of shape, labels and pixels in lower-case hexadecimal. Sets with equal content have equal hashes whatever their name.
    pub fn content_sha256(&self) -> String {
        let mut content = ContentHash::new(self.shape());
        content.pixels.update(&self.pixels);
        content.labels.extend(&self.labels);
        content.finish()
    }
}

/// [`ImageSet::content_sha256`] of images that are never all in memory.
pub struct ContentHash {
    shape: [usize; 3],
    pixels: Sha256,
    labels: Vec<u32>,
}

impl ContentHash {
    /// Begins; `shape` is `[channels, height, width]` of every image.
    pub fn new(shape: [usize; 3]) -> Self {
        Self {
            shape,
            pixels: Sha256::new(),
            labels: Vec::new(),
        }
    }

    /// Adds the next image.
    ///
    /// **Shapes**: `pixels` is `[channels, height, width]`.
    pub fn add(&mut self, label: u32, pixels: &[u8]) {
        self.pixels.update(pixels);
        self.labels.push(label);
    }

    /// What has been added up to now, for [`go_on`](Self::go_on).
    pub fn state(&self) -> String {
        hexadecimal(&self.pixels.serialize())
    }

    /// The hash of `labels.len()` images up to now, of which the labels and the [`state`](Self::state) are known; `None` for a state that
    /// this program did not write.
    pub fn go_on(shape: [usize; 3], labels: Vec<u32>, state: &str) -> Option<Self> {
        let digit = |byte: u8| (byte as char).to_digit(16);
        let bytes: Option<Vec<u8>> = state
            .as_bytes()
            .chunks(2)
            .map(|pair| match pair {
                &[high, low] => Some((16 * digit(high)? + digit(low)?) as u8),
                _ => None,
            })
            .collect();
        let state = SerializedState::<Sha256>::try_from(bytes?.as_slice()).ok()?;
        Some(Self {
            shape,
            pixels: Sha256::deserialize(&state).ok()?,
            labels,
        })
    }

    /// The hash in lower-case hexadecimal.
    pub fn finish(self) -> String {
        let mut hasher = Sha256::new();
        for side in [self.labels.len()].into_iter().chain(self.shape) {
            hasher.update((side as u64).to_le_bytes());
        }
        for label in &self.labels {
            hasher.update(label.to_le_bytes());
        }
        hasher.update(self.pixels.finalize());
        hexadecimal(&hasher.finalize())
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

// Leaves the pixels out: they would flood the message of a failed assertion.
impl std::fmt::Debug for ImageSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageSet")
            .field("name", &self.name)
            .field("images", &self.len())
            .field("shape", &self.shape())
            .field("classes", &self.classes)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> ImageSet {
        ImageSet::new("toy", [1, 1, 2], (0..10).collect(), vec![0, 2, 0, 1, 0], 3).unwrap()
    }

    #[test]
    fn construction_checks_shape_and_labels() {
        assert!(ImageSet::new("x", [3, 0, 2], vec![], vec![], 1).is_err());
        assert!(ImageSet::new("x", [3, usize::MAX, 2], vec![], vec![], 1).is_err());
        assert!(ImageSet::new("x", [1, 1, 2], vec![0; 3], vec![0; 2], 1).is_err());
        let error = ImageSet::new("x", [1, 1, 1], vec![0; 2], vec![0, 7], 7).unwrap_err();
        assert_eq!(
            error.to_string(),
            "image set `x`: label 7 of image 1 is not below 7"
        );
    }

    #[test]
    fn selections_keep_order_and_class_numbers() {
        let set = set();
        assert_eq!(set.image(1), [2, 3]);
        assert_eq!(set.subset(&[4, 0]).pixels(), [8, 9, 0, 1]);
        assert_eq!(set.filter_classes(1..3).labels(), [2, 1]);
        assert_eq!(set.filter_classes(1..3).classes(), 3);
        assert_eq!(set.indices_of_class(0), [0, 2, 4]);
        assert_eq!(set.first_per_class(1).labels(), [0, 2, 1]);
        assert!(set.first_per_class(0).is_empty());
        assert_eq!(set.after_first_per_class(0).labels(), set.labels());
        assert_eq!(set.after_first_per_class(1).pixels(), [4, 5, 8, 9]);
        assert!(set.after_first_per_class(3).is_empty());
    }

    #[test]
    fn grey_becomes_rgb() {
        let rgb = set().into_rgb().unwrap();
        assert_eq!(rgb.image(1), [2, 3, 2, 3, 2, 3]);
        assert!(
            ImageSet::new("x", [2, 1, 1], vec![0; 2], vec![0], 1)
                .unwrap()
                .into_rgb()
                .is_err()
        );
    }

    #[test]
    fn a_hash_goes_on_from_its_state() {
        let set = set();
        let mut first = ContentHash::new(set.shape());
        first.add(set.labels()[0], set.image(0));
        let state = first.state();
        let mut rest = ContentHash::go_on(set.shape(), vec![set.labels()[0]], &state).unwrap();
        for index in 1..set.len() {
            rest.add(set.labels()[index], set.image(index));
        }
        assert_eq!(rest.finish(), set.content_sha256());
        for wrong in ["", "0", "zz", &state[2..]] {
            assert!(
                ContentHash::go_on(set.shape(), vec![0], wrong).is_none(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn hash_sees_content_and_not_the_name() {
        let set = set();
        let renamed = ImageSet {
            name: "other".into(),
            ..set.clone()
        };
        assert_eq!(set.content_sha256(), renamed.content_sha256());
        assert_ne!(
            set.content_sha256(),
            set.subset(&[0, 1, 2, 4, 3]).content_sha256()
        );
        let reshaped = ImageSet {
            height: 2,
            width: 1,
            ..set.clone()
        };
        assert_ne!(set.content_sha256(), reshaped.content_sha256());
        assert_eq!(set.content_sha256().len(), 64);
        let mut one_by_one = ContentHash::new(set.shape());
        for image in 0..set.len() {
            one_by_one.add(set.label(image), set.image(image));
        }
        assert_eq!(one_by_one.finish(), set.content_sha256());
    }
}

//! Altered copies of images, for tests of item-like retrieval: a copy looks for its original.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::{DataError, ImageSet};

/// Altered copies, and the positions of their originals.
#[derive(Debug)]
pub struct AlteredCopies {
    /// The copies, with the labels of their originals.
    pub images: ImageSet,
    /// Position of each copy's original in the set, ascending and without repetition, `[count]`.
    pub originals: Vec<usize>,
}

/// Draws `count` images of a set and alters each: a crop of 5/8 to 7/8 of the sides, scaled back to the full size, every second one mirrored,
/// with other brightness, contrast, saturation and tint. Equal arguments give equal copies.
///
/// **Shapes**: the copies have the shape of the set's images.
///
/// **Errors**: [`DataError::Invalid`] for more copies than images, or none.
pub fn altered_copies(set: &ImageSet, count: usize, seed: u64) -> Result<AlteredCopies, DataError> {
    if count == 0 || count > set.len() {
        return Err(DataError::invalid(
            format!("altered copies of `{}`", set.name()),
            format!("asked for {count}, but the set has {} images", set.len()),
        ));
    }
    let mut originals: Vec<usize> = (0..set.len()).collect();
    originals.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    originals.truncate(count);
    originals.sort_unstable();
    let copies: Vec<Vec<u8>> = originals
        .par_iter()
        .map(|&position| {
            // A copy does not depend on which others are made.
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(position as u64 + 1);
            alter(set.image(position), set.shape(), &mut rng)
        })
        .collect();
    let labels = originals.iter().map(|&position| set.label(position));
    let images = ImageSet::new(
        format!("{} altered", set.name()),
        set.shape(),
        copies.concat(),
        labels.collect(),
        set.classes(),
    )?;
    Ok(AlteredCopies { images, originals })
}

fn alter(image: &[u8], [channels, height, width]: [usize; 3], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let share = rng.random_range(0.625..=0.875);
    let (crop_height, crop_width) = (height as f32 * share, width as f32 * share);
    let top = rng.random_range(0.0..=height as f32 - crop_height);
    let left = rng.random_range(0.0..=width as f32 - crop_width);
    let mirrored = rng.random_bool(0.5);
    let [brightness, contrast, saturation] = [(); 3].map(|()| rng.random_range(0.6..=1.4f32));
    let tints: Vec<f32> = (0..channels)
        .map(|_| brightness * rng.random_range(0.8..=1.2f32))
        .collect();

    let plane = height * width;
    let mut pixels = vec![0.0f32; channels * plane];
    for channel in 0..channels {
        let source = &image[channel * plane..][..plane];
        for row in 0..height {
            let y = top + (row as f32 + 0.5) * share - 0.5;
            for column in 0..width {
                let place = if mirrored { width - 1 - column } else { column };
                let x = left + (place as f32 + 0.5) * share - 0.5;
                pixels[channel * plane + row * width + column] =
                    tints[channel] * sample(source, [height, width], y, x);
            }
        }
    }
    // Saturation: away from or towards the mean of the channels.
    for position in 0..plane {
        let grey = (0..channels).map(|channel| pixels[channel * plane + position]);
        let grey = grey.sum::<f32>() / channels as f32;
        for channel in 0..channels {
            let pixel = &mut pixels[channel * plane + position];
            *pixel = grey + saturation * (*pixel - grey);
        }
    }
    let mean = pixels.iter().sum::<f32>() / pixels.len() as f32;
    pixels
        .into_iter()
        .map(|pixel| (mean + contrast * (pixel - mean)).round() as u8)
        .collect()
}

/// The value between the four pixels around a place; beyond the border, the border's.
fn sample(plane: &[u8], [height, width]: [usize; 2], y: f32, x: f32) -> f32 {
    let (y, x) = (
        y.clamp(0.0, (height - 1) as f32),
        x.clamp(0.0, (width - 1) as f32),
    );
    let (top, left) = (y as usize, x as usize);
    let (bottom, right) = ((top + 1).min(height - 1), (left + 1).min(width - 1));
    let (down, across) = (y - top as f32, x - left as f32);
    let at = |row: usize, column: usize| f32::from(plane[row * width + column]);
    let upper = at(top, left) * (1.0 - across) + at(top, right) * across;
    let lower = at(bottom, left) * (1.0 - across) + at(bottom, right) * across;
    upper * (1.0 - down) + lower * down
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GeneratedConfig, generate};

    fn set() -> ImageSet {
        generate(&GeneratedConfig {
            classes: 3,
            images_per_class: 5,
            ..Default::default()
        })
        .unwrap()
    }

    fn distance(a: &[u8], b: &[u8]) -> f64 {
        let differences = a.iter().zip(b).map(|(&a, &b)| f64::from(a.abs_diff(b)));
        differences.sum::<f64>() / a.len() as f64
    }

    #[test]
    fn copies_are_other_pictures_of_their_originals() {
        let set = set();
        let copies = altered_copies(&set, 6, 7).unwrap();
        assert_eq!(copies.images.len(), 6);
        assert_eq!(copies.images.shape(), set.shape());
        assert!(copies.originals.windows(2).all(|pair| pair[0] < pair[1]));
        for (copy, &original) in copies.originals.iter().enumerate() {
            assert_eq!(copies.images.label(copy), set.label(original));
            assert!(distance(copies.images.image(copy), set.image(original)) > 1.0);
        }
        let again = altered_copies(&set, 6, 7).unwrap();
        assert!(again.images == copies.images && again.originals == copies.originals);
        let other = altered_copies(&set, 6, 8).unwrap();
        assert!(other.images != copies.images);
    }

    #[test]
    fn a_copy_does_not_depend_on_the_others() {
        let set = set();
        let all = altered_copies(&set, set.len(), 3).unwrap();
        let few = altered_copies(&set, 4, 3).unwrap();
        for (copy, &original) in few.originals.iter().enumerate() {
            assert_eq!(few.images.image(copy), all.images.image(original));
        }
    }

    #[test]
    fn impossible_numbers_are_refused() {
        for count in [0, 16] {
            let error = altered_copies(&set(), count, 0).unwrap_err().to_string();
            assert!(error.contains("has 15 images"), "{error}");
        }
    }

    #[test]
    fn one_pixel_is_altered_too() {
        let one = ImageSet::new("one", [1, 1, 1], vec![100], vec![0], 1).unwrap();
        let copies = altered_copies(&one, 1, 0).unwrap();
        assert_eq!(copies.images.len(), 1);
    }
}

//! A generated image data set: procedural classes for demonstrations and tests without any file.
//!
//! A class is a figure: a body with a shape, a texture and two colours, and one or two smaller parts, or pairs of them, at fixed places around it.
//! All figures are drawn from one vocabulary of shapes and textures, so what a network learns on some classes helps to tell others apart.
//! Every image shows its figure at another place, size, angle and stretch, mirrored or not, in shifted and sometimes quite other colours,
//! under other light, before another background, among clutter, partly covered, and with noise.

mod figure;
mod image;
mod shape;
mod texture;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::error::MAX_BYTES;
use crate::{DataError, ImageSet};

/// Sides of generated images, in pixels.
const SIZES: std::ops::RangeInclusive<usize> = 8..=256;

/// What to generate.
///
/// Class `c` has the same figure in every configuration; `seed` only changes how it is shown. So the sets of two seeds are train and
/// test images of the same classes, and two ranges of classes that do not overlap make an open-set retrieval test. A larger
/// `images_per_class` only adds images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GeneratedConfig {
    /// Number of classes.
    pub classes: usize,
    /// Images of each class.
    pub images_per_class: usize,
    /// Rows and columns of an image, in pixels, 8 to 256.
    pub size: usize,
    /// Seed of everything that differs between images of a class.
    pub seed: u64,
    /// Number of the first class; any `u32`, so the number of classes is practically unlimited.
    pub first_class: u32,
}

impl Default for GeneratedConfig {
    /// 20 classes of 100 images, 32x32.
    fn default() -> Self {
        Self {
            classes: 20,
            images_per_class: 100,
            size: 32,
            seed: 0,
            first_class: 0,
        }
    }
}

/// Generates the set, class after class, with all threads; the result depends on the configuration only.
///
/// **Shapes**: `[classes * images_per_class, 3, size, size]`. Labels are `first_class ..`, and the set's number of classes is
/// `first_class + classes`, as if the classes before had no images.
///
/// **Errors**: [`DataError::Invalid`] for 0 classes or images, a size out of range, class numbers beyond `u32`, or more than 8 GiB.
pub fn generate(config: &GeneratedConfig) -> Result<ImageSet, DataError> {
    let &GeneratedConfig {
        classes,
        images_per_class,
        size,
        seed,
        first_class,
    } = config;
    let fail = |problem: String| Err(DataError::invalid("generated data set", problem));
    if classes == 0 || images_per_class == 0 {
        return fail(format!(
            "got {classes} classes of {images_per_class} images; both must be at least 1"
        ));
    }
    if !SIZES.contains(&size) {
        return fail(format!(
            "a size of {size} is not within {} to {} pixels",
            SIZES.start(),
            SIZES.end()
        ));
    }
    let Some(end) = u32::try_from(classes)
        .ok()
        .and_then(|classes| first_class.checked_add(classes))
    else {
        return fail(format!(
            "{classes} classes from {first_class} on exceed the largest class number {}",
            u32::MAX
        ));
    };
    let image_len = 3 * size * size;
    let images = classes
        .checked_mul(images_per_class)
        .filter(|images| (*images as u64) <= MAX_BYTES / image_len as u64);
    let Some(images) = images else {
        return fail(format!(
            "{classes} classes of {images_per_class} images exceed the limit of {MAX_BYTES} bytes"
        ));
    };

    let mut pixels = Vec::new();
    if pixels.try_reserve_exact(images * image_len).is_err() {
        return fail(format!(
            "no memory for {images} images; generate fewer or smaller ones"
        ));
    }
    pixels.resize(images * image_len, 0_u8);
    pixels
        .par_chunks_exact_mut(image_len)
        .enumerate()
        .for_each(|(position, target)| {
            let (class, index) = (position / images_per_class, position % images_per_class);
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(
                (u64::from(first_class) + class as u64) << 32 | index as u64 & u64::from(u32::MAX),
            );
            let figure = figure::Figure::of_class(first_class + class as u32);
            image::render(&figure, size, &mut random, target);
        });
    let labels = (first_class..end)
        .flat_map(|label| std::iter::repeat_n(label, images_per_class))
        .collect();
    ImageSet::new("generated", [3, size, size], pixels, labels, end as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: GeneratedConfig = GeneratedConfig {
        classes: 4,
        images_per_class: 3,
        size: 32,
        seed: 9,
        first_class: 0,
    };

    #[test]
    fn a_class_looks_the_same_whatever_else_is_generated() {
        let set = generate(&SMALL).unwrap();
        let part = generate(&GeneratedConfig {
            classes: 2,
            images_per_class: 2,
            first_class: 2,
            ..SMALL
        })
        .unwrap();
        assert_eq!(
            (part.labels(), part.classes()),
            ([2, 2, 3, 3].as_slice(), 4)
        );
        for class in 2..4 {
            let (whole, part) = (
                set.filter_classes(class..class + 1),
                part.filter_classes(class..class + 1),
            );
            assert_eq!(whole.first_per_class(2).pixels(), part.pixels());
        }
    }

    #[test]
    fn the_configuration_alone_decides() {
        let run = |threads: usize, seed: u64| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| generate(&GeneratedConfig { seed, ..SMALL }))
                .unwrap()
        };
        assert_eq!(run(1, 9), run(3, 9));
        assert_ne!(run(1, 9), run(1, 10));
    }

    #[test]
    fn no_two_of_hundreds_of_classes_share_a_figure() {
        let figures: Vec<_> = (0..500).map(figure::Figure::of_class).collect();
        for (number, figure) in figures.iter().enumerate() {
            assert!((2..=5).contains(&figure.parts.len()));
            assert!(
                !figures[..number].contains(figure),
                "class {number} repeats"
            );
        }
    }

    /// The set is meant to be learnable, but not from raw pixels.
    #[test]
    fn raw_pixels_beat_chance_and_not_by_far() {
        let config = GeneratedConfig {
            classes: 10,
            images_per_class: 20,
            ..SMALL
        };
        let (train, test) = (
            generate(&config).unwrap(),
            generate(&GeneratedConfig { seed: 10, ..config }).unwrap(),
        );
        let mut means = vec![vec![0.0_f32; train.image_len()]; 10];
        for index in 0..train.len() {
            let mean = &mut means[train.label(index) as usize];
            mean.iter_mut()
                .zip(train.image(index))
                .for_each(|(sum, &pixel)| *sum += f32::from(pixel) / 20.0);
        }
        let distance = |mean: &[f32], image: &[u8]| -> f32 {
            mean.iter()
                .zip(image)
                .map(|(mean, &pixel)| (mean - f32::from(pixel)).powi(2))
                .sum()
        };
        let right = (0..test.len()).filter(|&index| {
            let image = test.image(index);
            let nearest = (0..10)
                .min_by(|&a, &b| distance(&means[a], image).total_cmp(&distance(&means[b], image)));
            nearest == Some(test.label(index) as usize)
        });
        let share = right.count() as f64 / test.len() as f64;
        assert!((0.13..0.5).contains(&share), "{share}");
    }

    #[test]
    fn impossible_configurations_are_refused() {
        let refused = |config: GeneratedConfig| generate(&config).unwrap_err().to_string();
        assert!(
            refused(GeneratedConfig {
                classes: 0,
                ..SMALL
            })
            .contains("0 classes")
        );
        assert!(
            refused(GeneratedConfig {
                images_per_class: 0,
                ..SMALL
            })
            .contains("0 images")
        );
        assert!(refused(GeneratedConfig { size: 7, ..SMALL }).contains("8 to 256"));
        assert!(
            refused(GeneratedConfig {
                first_class: u32::MAX,
                ..SMALL
            })
            .contains("exceed the largest class")
        );
        assert!(
            refused(GeneratedConfig {
                images_per_class: usize::MAX,
                ..SMALL
            })
            .contains("limit")
        );
    }
}

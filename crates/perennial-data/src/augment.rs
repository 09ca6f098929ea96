//! Batches with random crops and flips for training.

use perennial_encode::{grey, scale_square};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::{DataError, ImageSet, Preprocessing};

/// Random changes to a training image. Crop comes first, then flip, then scaling to the network's size, then normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Augmentation {
    /// Pixels of black border on every side, out of which a window of the image's own size is cut at random. 0 turns cropping off.
    pub crop_padding: usize,
    /// Mirror left and right with probability one half.
    pub horizontal_flip: bool,
}

impl Augmentation {
    /// Nothing random.
    pub const NONE: Self = Self {
        crop_padding: 0,
        horizontal_flip: false,
    };
    /// The usual choice for 32x32 images: padding of 4 and flips.
    pub const STANDARD: Self = Self {
        crop_padding: 4,
        horizontal_flip: true,
    };
}

/// Augmentation and preprocessing together: makes batches.
///
/// The random draws of an image depend on the seed and on its position in the batch only, so that a batch is the same
/// whatever the number of threads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pipeline {
    /// Normalisation.
    pub preprocessing: Preprocessing,
    /// Random changes before it.
    pub augmentation: Augmentation,
    /// The side in pixels of the squares that a network takes, where images have another size. They are scaled as an encoder scales them,
    /// to bytes, after the random changes.
    pub side: Option<usize>,
}

impl Pipeline {
    /// What evaluation and serving see: nothing random.
    pub fn plain(preprocessing: Preprocessing, side: Option<usize>) -> Self {
        Self {
            preprocessing,
            augmentation: Augmentation::NONE,
            side,
        }
    }

    /// Makes a batch of the images at `indices` of one set.
    ///
    /// **Shapes**: `out` becomes `[indices.len(), c, h, w]`, or `[indices.len(), c, side, side]`; its memory is reused.
    ///
    /// **Errors**: [`DataError::Invalid`] for an index beyond the set, a set of neither 1 nor 3 channels, unusable preprocessing, and a side
    /// that no image can be scaled to.
    pub fn batch(
        &self,
        set: &ImageSet,
        indices: &[usize],
        seed: u64,
        out: &mut Vec<f32>,
    ) -> Result<(), DataError> {
        let sources: Vec<(usize, usize)> = indices.iter().map(|&index| (0, index)).collect();
        self.batch_of(&[set], &sources, seed, out)
    }

    /// Makes a batch of images from several sets; a source is (which set, which image).
    ///
    /// **Shapes**: `out` becomes `[sources.len(), c, h, w]`, or `[sources.len(), c, side, side]`; its memory is reused.
    ///
    /// **Errors**: as [`batch`](Self::batch), and if sets that are used differ in shape.
    pub fn batch_from(
        &self,
        sets: &[ImageSet],
        sources: &[(usize, usize)],
        seed: u64,
        out: &mut Vec<f32>,
    ) -> Result<(), DataError> {
        let sets: Vec<&ImageSet> = sets.iter().collect();
        self.batch_of(&sets, sources, seed, out)
    }

    fn batch_of(
        &self,
        sets: &[&ImageSet],
        sources: &[(usize, usize)],
        seed: u64,
        out: &mut Vec<f32>,
    ) -> Result<(), DataError> {
        self.preprocessing.check()?;
        if self.side == Some(0) {
            return Err(DataError::invalid(
                "the side that images are scaled to",
                "is 0",
            ));
        }
        let Some(&(first, _)) = sources.first() else {
            out.clear();
            return Ok(());
        };
        let shape = sets.get(first).map_or([0; 3], |set| set.shape());
        for (position, &(which, index)) in sources.iter().enumerate() {
            let fail = |problem: String| {
                Err(DataError::invalid(
                    format!("batch position {position}"),
                    problem,
                ))
            };
            let Some(set) = sets.get(which) else {
                return fail(format!(
                    "set {which} does not exist, there are {}",
                    sets.len()
                ));
            };
            if index >= set.len() {
                return fail(format!(
                    "image {index} does not exist, `{}` has {}",
                    set.name(),
                    set.len()
                ));
            }
            if set.shape() != shape {
                return fail(format!(
                    "an image of {:?} does not fit the batch's {shape:?}",
                    set.shape()
                ));
            }
            set.check_channels()?;
        }
        let [channels, height, width] = shape;
        let side = self
            .side
            .filter(|&side| [height, width] != [side; 2] && height * width > 0);
        let image_len = side.map_or(height * width, |side| side * side) * channels;
        // Every value is written below, so what is left of an earlier batch needs no clearing.
        out.resize(sources.len() * image_len, 0.0);
        out.par_chunks_exact_mut(image_len.max(1))
            .zip(sources.par_iter())
            .enumerate()
            .try_for_each(|(position, (target, &(which, index)))| {
                let window = self.augmentation.draw(seed, position);
                let image = sets[which].image(index);
                match side {
                    None => write_window(image, shape, window, target, self.normalised()),
                    Some(side) => self.write_scaled(image, shape, window, side, target)?,
                }
                Ok(())
            })
    }

    /// From a byte of a channel to its value.
    fn normalised(&self) -> impl Fn(usize, u8) -> f32 {
        let channels: [(f32, f32); 3] =
            std::array::from_fn(|channel| self.preprocessing.affine(channel));
        move |channel, byte| {
            let (scale, bias) = channels[channel];
            f32::from(byte) * scale + bias
        }
    }

    /// **Shapes**: `target` is `[c, side, side]`.
    fn write_scaled(
        &self,
        image: &[u8],
        shape: [usize; 3],
        window: Window,
        side: usize,
        target: &mut [f32],
    ) -> Result<(), DataError> {
        let [channels, height, width] = shape;
        let mut cut = vec![0; image.len()];
        write_window(image, shape, window, &mut cut, |_, byte| byte);
        if channels == 1 {
            cut = cut.repeat(3);
        }
        let mut scaled = scale_square(&cut, [height, width], side).map_err(|error| {
            DataError::invalid(format!("image scaled to {side}x{side}"), error.to_string())
        })?;
        if channels == 1 {
            scaled = grey(&scaled);
        }
        let whole = Window::default();
        write_window(
            &scaled,
            [channels, side, side],
            whole,
            target,
            self.normalised(),
        );
        Ok(())
    }
}

/// Writes a window of an image with a black border around it, each byte as `value` of its channel makes it.
///
/// **Shapes**: `image` and `target` are `[c, h, w]`.
fn write_window<T: Copy>(
    image: &[u8],
    [_, height, width]: [usize; 3],
    window: Window,
    target: &mut [T],
    value: impl Fn(usize, u8) -> T,
) {
    // Column range of the window that lies on the image; the rest is border.
    let shift = window.left.unsigned_abs().min(width);
    let (from, to, start) = if window.left >= 0 {
        (shift, width, 0)
    } else {
        (0, width - shift, shift)
    };
    let plane = height * width;
    let planes = image
        .chunks_exact(plane)
        .zip(target.chunks_exact_mut(plane))
        .enumerate();
    for (channel, (source, target)) in planes {
        let value = |byte| value(channel, byte);
        let border = value(0);
        for (y, row) in target.chunks_exact_mut(width).enumerate() {
            let source_y = y
                .checked_add_signed(window.top)
                .filter(|&source_y| source_y < height);
            let Some(source_y) = source_y else {
                row.fill(border);
                continue;
            };
            let pixels = &source[source_y * width + from..source_y * width + to];
            row[..start].fill(border);
            row[start + pixels.len()..].fill(border);
            for (target, &pixel) in row[start..].iter_mut().zip(pixels) {
                *target = value(pixel);
            }
            if window.flip {
                row.reverse();
            }
        }
    }
}

impl Preprocessing {
    /// Normalises the images at `indices` without augmentation: what evaluation and serving see.
    ///
    /// **Shapes**: `out` becomes `[indices.len(), c, h, w]`; its memory is reused.
    ///
    /// **Errors**: as [`Pipeline::batch`].
    pub fn normalize(
        &self,
        set: &ImageSet,
        indices: &[usize],
        out: &mut Vec<f32>,
    ) -> Result<(), DataError> {
        Pipeline::plain(*self, None).batch(set, indices, 0, out)
    }
}

/// Where the cut window starts relative to the image, and whether it is mirrored.
#[derive(Clone, Copy, Default)]
struct Window {
    top: isize,
    left: isize,
    flip: bool,
}

impl Augmentation {
    fn draw(&self, seed: u64, position: usize) -> Window {
        let mut window = Window::default();
        if *self == Self::NONE {
            return window;
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(position as u64);
        // Far outside of any image, so a larger padding changes nothing but the odds.
        let padding = i32::try_from(self.crop_padding)
            .unwrap_or(i32::MAX / 2)
            .min(i32::MAX / 2);
        if padding > 0 {
            window.top = random.random_range(-padding..=padding) as isize;
            window.left = random.random_range(-padding..=padding) as isize;
        }
        window.flip = self.horizontal_flip && random.random_bool(0.5);
        window
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: Preprocessing = Preprocessing {
        mean: [0.0; 3],
        std: [1.0; 3],
    };

    /// Images whose pixels are all different and never 0, so that every pixel's origin can be told.
    fn set(images: usize) -> ImageSet {
        let pixels = (0..images * 3 * 5 * 6)
            .map(|i| (i % 251 + 1) as u8)
            .collect();
        ImageSet::new("toy", [3, 5, 6], pixels, vec![0; images], 1).unwrap()
    }

    #[test]
    fn what_cannot_be_batched_is_refused() {
        let set = set(2);
        let pipeline = Pipeline {
            preprocessing: PLAIN,
            augmentation: Augmentation::STANDARD,
            side: None,
        };
        let mut out = Vec::new();
        assert!(
            pipeline
                .batch(&set, &[2], 0, &mut out)
                .unwrap_err()
                .to_string()
                .contains("image 2 does not exist")
        );
        let other = ImageSet::new("other", [3, 6, 5], vec![0; 90], vec![0], 1).unwrap();
        let sets = [set.clone(), other];
        assert!(
            pipeline
                .batch_from(&sets, &[(0, 0), (1, 0)], 0, &mut out)
                .is_err()
        );
        assert!(pipeline.batch_from(&sets, &[(2, 0)], 0, &mut out).is_err());
        let two = ImageSet::new("two", [2, 1, 1], vec![0; 2], vec![0], 1).unwrap();
        assert!(pipeline.batch(&two, &[0], 0, &mut out).is_err());
    }

    #[test]
    fn every_window_and_both_directions_occur() {
        let set = set(1);
        let pipeline = Pipeline {
            preprocessing: PLAIN,
            augmentation: Augmentation {
                crop_padding: 1,
                horizontal_flip: true,
            },
            side: None,
        };
        let mut out = Vec::new();
        pipeline.batch(&set, &[0; 400], 5, &mut out).unwrap();
        let mut images: Vec<Vec<u32>> = out
            .chunks_exact(90)
            .map(|image| image.iter().map(|v| v.to_bits()).collect())
            .collect();
        images.sort();
        images.dedup();
        assert_eq!(images.len(), 9 * 2);
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let set = set(10);
        let pipeline = Pipeline {
            preprocessing: Preprocessing::CIFAR100,
            augmentation: Augmentation::STANDARD,
            side: None,
        };
        let run = |threads: usize, seed: u64| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let mut out = Vec::new();
            pool.install(|| pipeline.batch(&set, &[3, 1, 4, 1, 5, 9, 2, 6], seed, &mut out))
                .unwrap();
            out
        };
        assert_eq!(run(1, 7), run(3, 7));
        assert_ne!(run(1, 7), run(1, 8));
        let (first, second) = (&run(1, 7)[90..180], &run(1, 7)[270..360]);
        assert_ne!(first, second, "one image at two positions is drawn twice");
    }

    #[test]
    fn images_of_another_size_are_scaled_as_encoders_scale_them() {
        let pixels = (0..4 * 3 * 36).map(|i| (i * 7 % 251) as u8).collect();
        let set = ImageSet::new("toy", [3, 6, 6], pixels, vec![0; 4], 1).unwrap();
        let mut out = Vec::new();
        let plain = Pipeline::plain(Preprocessing::CIFAR100, Some(9));
        plain.batch(&set, &[1, 3], 0, &mut out).unwrap();
        let mut expected = Vec::new();
        for image in [1, 3] {
            let scaled = scale_square(set.image(image), [6, 6], 9).unwrap();
            Preprocessing::CIFAR100.append(&scaled, 3, &mut expected);
        }
        assert_eq!(out, expected);

        // The window is drawn in the set's own pixels, whatever the size of the result.
        let twice = Pipeline {
            preprocessing: PLAIN,
            augmentation: Augmentation::STANDARD,
            side: Some(12),
        };
        twice.batch(&set, &[0; 8], 3, &mut out).unwrap();
        let mut cut = Vec::new();
        let own = Pipeline {
            side: None,
            ..twice
        };
        own.batch(&set, &[0; 8], 3, &mut cut).unwrap();
        for (scaled, cut) in out.chunks_exact(3 * 144).zip(cut.chunks_exact(108)) {
            let bytes: Vec<u8> = cut
                .iter()
                .map(|value| (value * 255.0).round() as u8)
                .collect();
            let mut expected = Vec::new();
            PLAIN.append(&scale_square(&bytes, [6, 6], 12).unwrap(), 3, &mut expected);
            assert_eq!(scaled, expected);
        }

        let grey = ImageSet::new("grey", [1, 2, 2], vec![7; 8], vec![0; 2], 1).unwrap();
        let four = Pipeline::plain(PLAIN, Some(4));
        four.batch(&grey, &[0, 1], 0, &mut out).unwrap();
        assert_eq!(out.len(), 2 * 16);
        assert!(out.iter().all(|value| (value * 255.0).round() == 7.0));
        let error = Pipeline::plain(PLAIN, Some(0)).batch(&grey, &[0], 0, &mut out);
        assert!(error.unwrap_err().to_string().contains("is 0"));
    }

    /// The plain way: a padded image, a window of it, mirrored.
    fn expected(image: &[u8], window: Window, [channels, height, width]: [usize; 3]) -> Vec<f32> {
        let mut out = Vec::new();
        for (channel, y, x) in (0..channels)
            .flat_map(|c| (0..height).flat_map(move |y| (0..width).map(move |x| (c, y, x))))
        {
            let x = if window.flip { width - 1 - x } else { x };
            let (y, x) = (y as isize + window.top, x as isize + window.left);
            let inside = (0..height as isize).contains(&y) && (0..width as isize).contains(&x);
            let byte = if inside {
                image[(channel * height + y as usize) * width + x as usize]
            } else {
                0
            };
            out.push(f32::from(byte) * (1.0 / 255.0));
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn windows_are_cut_as_from_a_padded_image(top in -8_isize..=8, left in -8_isize..=8, flip: bool) {
            let set = set(1);
            let window = Window { top, left, flip };
            let mut out = vec![f32::NAN; 90];
            let pipeline = Pipeline::plain(PLAIN, None);
            write_window(set.image(0), set.shape(), window, &mut out, pipeline.normalised());
            prop_assert_eq!(out, expected(set.image(0), window, set.shape()));
        }

        #[test]
        fn absurd_paddings_do_not_panic(crop_padding: usize, seed: u64) {
            let pipeline = Pipeline { preprocessing: PLAIN, augmentation: Augmentation { crop_padding, horizontal_flip: true }, side: None };
            pipeline.batch(&set(1), &[0, 0], seed, &mut Vec::new()).unwrap();
        }
    }
}

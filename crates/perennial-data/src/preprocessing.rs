//! Bytes to normalised numbers.

use rayon::prelude::*;

use crate::{DataError, ImageSet};

/// Mean and standard deviation per channel, as fractions of full brightness. A pixel byte `p` of channel `c` becomes
/// `(p / 255 - mean[c]) / std[c]`. Images with one channel use the first entry.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preprocessing {
    /// Mean per channel, fraction in 0..=1.
    pub mean: [f32; 3],
    /// Standard deviation per channel, above 0.
    pub std: [f32; 3],
}

impl Preprocessing {
    /// The usual constants of CIFAR-100.
    pub const CIFAR100: Self = Self {
        mean: [0.5071, 0.4867, 0.4408],
        std: [0.2675, 0.2565, 0.2761],
    };

    /// Checks the values.
    ///
    /// **Errors**: [`DataError::Invalid`] if a mean is not finite or a standard deviation is not a positive finite number.
    pub fn new(mean: [f32; 3], std: [f32; 3]) -> Result<Self, DataError> {
        let preprocessing = Self { mean, std };
        preprocessing.check()?;
        Ok(preprocessing)
    }

    /// Mean and standard deviation measured over a whole set of 1 or 3 channels.
    ///
    /// **Errors**: [`DataError::Invalid`] for an empty set, another number of channels, or a channel without any variation.
    pub fn measure(set: &ImageSet) -> Result<Self, DataError> {
        set.check_channels()?;
        if set.is_empty() {
            return Err(DataError::invalid(
                format!("image set `{}`", set.name()),
                "has no image to measure",
            ));
        }
        let plane = set.height() * set.width();
        // Integer sums are exact, so the order in which threads add does not matter.
        let sums = set
            .pixels()
            .par_chunks_exact(set.image_len())
            .map(|image| {
                let mut sums = [[0_u64; 2]; 3];
                for (channel, pixels) in image.chunks_exact(plane).enumerate() {
                    for &pixel in pixels {
                        let value = u64::from(pixel);
                        sums[channel][0] += value;
                        sums[channel][1] += value * value;
                    }
                }
                sums
            })
            .reduce(
                || [[0; 2]; 3],
                |mut a, b| {
                    for (a, b) in a.as_flattened_mut().iter_mut().zip(b.as_flattened()) {
                        *a += b;
                    }
                    a
                },
            );
        let count = (set.len() * plane) as f64;
        let mut mean = [0.0; 3];
        let mut std = [0.0; 3];
        for channel in 0..3 {
            let [sum, squares] = sums[if set.channels() == 1 { 0 } else { channel }];
            let average = sum as f64 / count;
            let variance = (squares as f64 / count - average * average).max(0.0);
            mean[channel] = (average / 255.0) as f32;
            std[channel] = (variance.sqrt() / 255.0) as f32;
        }
        Self::new(mean, std)
    }

    /// Normalises one image, with the same result as [`normalize`](Self::normalize).
    ///
    /// **Shapes**: `pixels` is `[c, h, w]` with `c` of 1 or 3, as is what is appended to `out`.
    pub fn append(&self, pixels: &[u8], channels: usize, out: &mut Vec<f32>) {
        let plane = (pixels.len() / channels.max(1)).max(1);
        for (channel, pixels) in pixels.chunks_exact(plane).enumerate() {
            let (scale, bias) = self.affine(channel.min(2));
            out.extend(pixels.iter().map(|&pixel| f32::from(pixel) * scale + bias));
        }
    }

    pub(crate) fn check(&self) -> Result<(), DataError> {
        let positive = |value: &f32| value.is_finite() && *value > 0.0;
        if self.mean.iter().all(|value| value.is_finite()) && self.std.iter().all(positive) {
            return Ok(());
        }
        Err(DataError::invalid(
            "preprocessing",
            format!(
                "mean {:?} must be finite and std {:?} finite and above 0; a channel without variation cannot be normalised",
                self.mean, self.std
            ),
        ))
    }

    /// `value = byte * scale + bias`, the same affine map with one multiplication per pixel.
    pub(crate) fn affine(&self, channel: usize) -> (f32, f32) {
        let (mean, std) = (f64::from(self.mean[channel]), f64::from(self.std[channel]));
        ((1.0 / (255.0 * std)) as f32, (-mean / std) as f32)
    }
}

impl TryFrom<&perennial_core::Preprocessing> for Preprocessing {
    type Error = DataError;

    /// A model version's own constants, so that training and inference use the same.
    fn try_from(constants: &perennial_core::Preprocessing) -> Result<Self, DataError> {
        let per_channel = |values: &[f32]| match *values {
            [grey] => Some([grey; 3]),
            [red, green, blue] => Some([red, green, blue]),
            _ => None,
        };
        let both = per_channel(&constants.mean).zip(per_channel(&constants.std));
        let (mean, std) = both.ok_or_else(|| {
            DataError::invalid("preprocessing", "has neither 1 nor 3 channels".to_owned())
        })?;
        Self::new(mean, std)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(images: usize) -> ImageSet {
        let pixels = (0..images * 3 * 5 * 6).map(|i| (i % 251) as u8).collect();
        ImageSet::new("toy", [3, 5, 6], pixels, vec![0; images], 1).unwrap()
    }

    #[test]
    fn normalisation_follows_the_formula() {
        let set = set(3);
        let mut out = vec![9.0; 7];
        Preprocessing::CIFAR100
            .normalize(&set, &[2, 0], &mut out)
            .unwrap();
        assert_eq!(out.len(), 2 * 90);
        for (position, image) in [2, 0].into_iter().enumerate() {
            for (i, &byte) in set.image(image).iter().enumerate() {
                let (mean, std) = (
                    Preprocessing::CIFAR100.mean[i / 30],
                    Preprocessing::CIFAR100.std[i / 30],
                );
                assert!(
                    (out[position * 90 + i] - (f32::from(byte) / 255.0 - mean) / std).abs() < 1e-5
                );
            }
        }
        let mut one = Vec::new();
        Preprocessing::CIFAR100.append(set.image(2), 3, &mut one);
        assert_eq!(one, out[..90]);
        Preprocessing::CIFAR100
            .normalize(&set, &[], &mut out)
            .unwrap();
        assert!(out.is_empty());
    }

    #[test]
    fn measured_statistics_normalise_to_mean_0_and_deviation_1() {
        let set = set(4);
        let preprocessing = Preprocessing::measure(&set).unwrap();
        let mut out = Vec::new();
        preprocessing
            .normalize(&set, &[0, 1, 2, 3], &mut out)
            .unwrap();
        let mean = out.iter().sum::<f32>() / out.len() as f32;
        let variance = out.iter().map(|value| value * value).sum::<f32>() / out.len() as f32;
        assert!(
            mean.abs() < 1e-4 && (variance - 1.0).abs() < 1e-3,
            "{mean} {variance}"
        );
        let flat = ImageSet::new("flat", [1, 1, 2], vec![3; 2], vec![0], 1).unwrap();
        assert!(Preprocessing::measure(&flat).is_err());
        assert!(Preprocessing::measure(&set.subset(&[])).is_err());
    }

    #[test]
    fn unusable_constants_are_refused() {
        assert!(Preprocessing::new([0.0; 3], [1.0, 0.0, 1.0]).is_err());
        assert!(Preprocessing::new([f32::NAN, 0.0, 0.0], [1.0; 3]).is_err());
    }
}

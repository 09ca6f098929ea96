//! From a decoded picture to what the network of another program is given: resize, crop, channels, normalisation.
//!
//! The arithmetic is that of the libraries with which such networks are trained, so that an imported network sees here what it saw
//! there:
//!
//! - Pixels in between are computed as Pillow does up to version 12, antialiased, along the rows first, in its fixed-point arithmetic.
//!   The results are the same bytes; with [`Lanczos`](perennial_core::Interpolation::Lanczos), whose weights need a sine, they may differ by 1 of 255 where the
//!   system's sine does. Pillow 13 scales along the columns first where a picture gets lower but hardly narrower, and its bicubic
//!   results differ from its earlier ones there; pictures that keep their proportions are not concerned.
//! - With [`Resize::ShortestSide`] the other side is `size * long / short`, rounded down, and the middle is cut out at
//!   `(length - size) / 2`, rounded to the nearest, halves to the even number (torchvision).
//! - Where the resized picture is smaller than the network's input, black is added around it before normalisation, the odd pixel
//!   behind (torchvision).
//! - [`Resize::MiddleSquare`] cuts first and scales then, so nothing outside the square counts.
//! - For [`ChannelOrder::Grey`] a colour picture is turned to brightness before it is scaled (ITU-R BT.601); a grey picture is given
//!   to a colour network three times.
//!
//! Only the pixels that the crop keeps are computed. The result is the same, and the memory is bounded by the picture and the
//! network's input: a picture of 1 x 10,000 pixels whose shorter side is scaled to 224 would be 2,240,000 pixels high.

mod error;
mod geometry;
mod resample;
mod weights;

use perennial_core::outside_encoder::{
    ChannelOrder, ImagePreparation, MAX_INPUT_SIDE, MAX_SHORTEST_SIDE, Resize,
};

use crate::codec::{DecodeError, Picture, brightness, interleaved};
use crate::encoder::PrepareError;
pub use error::PreparationError;
use geometry::{Axis, axes};
use resample::{View, resample};

/// Whether a preparation can be carried out on every picture.
///
/// **Errors**: [`PreparationError`], which names the value.
pub fn check_preparation(spec: &ImagePreparation) -> Result<(), PreparationError> {
    let [height, width] = spec.size;
    let possible = 1..=MAX_INPUT_SIDE;
    if !possible.contains(&height) || !possible.contains(&width) {
        return Err(PreparationError::Size { height, width });
    }
    match spec.resize {
        Resize::ShortestSide(side) if !(1..=MAX_SHORTEST_SIDE).contains(&side) => {
            return Err(PreparationError::ShortestSide(side));
        }
        Resize::MiddleSquare if height != width => {
            return Err(PreparationError::NoSquare { height, width });
        }
        _ => {}
    }
    let channels = spec.channels.count();
    for (key, values) in [("mean", &spec.mean), ("std", &spec.std)] {
        if values.len() != channels {
            return Err(PreparationError::Channels {
                key,
                values: values.len(),
                channels,
            });
        }
    }
    let wrong = |key, value, rule| Err(PreparationError::Value { key, value, rule });
    if !spec.scale.is_finite() || spec.scale == 0.0 {
        return wrong(
            "scale",
            spec.scale,
            "it must be a finite number other than 0",
        );
    }
    if let Some(&mean) = spec.mean.iter().find(|mean| !mean.is_finite()) {
        return wrong("mean", f64::from(mean), "it must be finite");
    }
    let impossible = |std: &&f32| !std.is_finite() || **std <= 0.0;
    if let Some(&std) = spec.std.iter().find(impossible) {
        return wrong("std", f64::from(std), "it must be finite and above 0");
    }
    // Straight lines: the two ends decide.
    if (0..channels).any(|channel| {
        [0, 255]
            .iter()
            .any(|&byte| !normalized(spec, channel, byte).is_finite())
    }) {
        return wrong(
            "scale",
            spec.scale,
            "with mean and std it makes pixels infinite",
        );
    }
    Ok(())
}

/// A picture as a network of another program is given it.
///
/// **Shapes**: the result is `[c, h, w]`, with `c` of `spec.channels` and `[h, w]` of `spec.size`.
///
/// **Errors**: [`PrepareError::Preparation`] if no picture can be prepared so.
pub fn prepare_picture(
    picture: &Picture,
    spec: &ImagePreparation,
) -> Result<Vec<f32>, PrepareError> {
    check_preparation(spec)?;
    let size = [picture.height() as usize, picture.width() as usize];
    Ok(match spec.channels {
        ChannelOrder::Rgb | ChannelOrder::Bgr => prepare(picture.pixels(), size, 3, spec),
        ChannelOrder::Grey => prepare(&brightnesses(picture.pixels()), size, 1, spec),
    })
}

/// An image in memory as a network of another program is given it, like [`prepare_picture`].
///
/// **Shapes**: `pixels` is `[channels, height, width]` with 1 or 3 channels, the result `[c, h, w]` as there.
///
/// **Errors**: [`PrepareError::Decode`] if the bytes are no such image, and [`PrepareError::Preparation`].
pub fn prepare_pixels(
    pixels: &[u8],
    shape: [usize; 3],
    spec: &ImagePreparation,
) -> Result<Vec<f32>, PrepareError> {
    check_preparation(spec)?;
    let [channels, height, width] = shape;
    let pixels = interleaved(pixels, shape)?;
    if pixels.is_empty() {
        return Err(DecodeError::Size(0).into());
    }
    Ok(match (channels, spec.channels) {
        (3, ChannelOrder::Grey) => prepare(&brightnesses(&pixels), [height, width], 1, spec),
        _ => prepare(&pixels, [height, width], channels, spec),
    })
}

/// The brightness of every pixel. **Shapes**: `[pixels, 3]` to `[pixels]`.
fn brightnesses(pixels: &[u8]) -> Vec<u8> {
    let (pixels, _) = pixels.as_chunks();
    pixels.iter().map(|&pixel| brightness(pixel)).collect()
}

/// **Shapes**: `pixels` is `[height, width, channels]` and not empty, the result `[c, h, w]`.
fn prepare(
    pixels: &[u8],
    [height, width]: [usize; 2],
    channels: usize,
    spec: &ImagePreparation,
) -> Vec<f32> {
    let [vertical, horizontal] = axes([height, width], spec.size, spec.resize);
    let view = View {
        pixels,
        width,
        channels,
    };
    let resized = resample(&view, &vertical, &horizontal, spec.interpolation);
    normalize(&resized, channels, &vertical, &horizontal, spec)
}

/// Pixels to normalised planes, with black around them where they are fewer than the network needs.
fn normalize(
    resized: &[u8],
    channels: usize,
    vertical: &Axis,
    horizontal: &Axis,
    spec: &ImagePreparation,
) -> Vec<f32> {
    let (rows, columns) = (vertical.side, horizontal.side);
    let mut planes = Vec::with_capacity(spec.channels.count() * rows * columns);
    for channel in 0..spec.channels.count() {
        let values: [f32; 256] = std::array::from_fn(|byte| normalized(spec, channel, byte as u8));
        let source = match (channels, spec.channels) {
            (1, _) => 0,
            (_, ChannelOrder::Bgr) => 2 - channel,
            _ => channel,
        };
        let black = values[0];
        let plane = planes.len();
        planes.resize(plane + vertical.before * columns, black);
        for row in resized.chunks_exact(horizontal.kept_len() * channels) {
            let start = planes.len();
            planes.resize(start + horizontal.before, black);
            planes.extend(
                row.iter()
                    .skip(source)
                    .step_by(channels)
                    .map(|&byte| values[usize::from(byte)]),
            );
            planes.resize(start + columns, black);
        }
        planes.resize(plane + rows * columns, black);
    }
    planes
}

/// What a byte of a channel becomes.
fn normalized(spec: &ImagePreparation, channel: usize, byte: u8) -> f32 {
    let (mean, std) = (f64::from(spec.mean[channel]), f64::from(spec.std[channel]));
    ((f64::from(byte) * spec.scale - mean) / std) as f32
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

//! Image files: decoded to the square that a network sees, one way for training, evaluation and serving; and encoded as PNG.

use std::io::{BufRead, Cursor, Seek};

use image::codecs::png::PngEncoder;
use image::imageops::FilterType;
use image::{ImageDecoder, ImageEncoder, ImageReader, Limits};

/// What a decoder may spend on one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Width and height of the image, in pixels.
    pub side: u32,
    /// Width times height, in pixels.
    pub pixels: u64,
    /// Memory, in bytes.
    pub bytes: u64,
}

impl DecodeLimits {
    /// For files that the user chose.
    pub const FILES: Self = Self {
        side: 16_384,
        pixels: 1 << 28,
        bytes: 1 << 30,
    };
    /// For images from strangers.
    pub const STRANGERS: Self = Self {
        side: 8_192,
        pixels: 1 << 25,
        bytes: 1 << 28,
    };
}

/// Why bytes are no usable image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Neither PNG nor JPEG, or damaged, or above a limit that the decoder itself checks.
    #[error("{0}")]
    Image(#[from] image::ImageError),
    /// Width or height is above the limit; found in the header, before any pixel is decoded.
    #[error(
        "the image has {width}x{height} pixels; at most {side} a side and {pixels} in all are decoded, scale it down"
    )]
    TooLarge {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The limit of a side, in pixels.
        side: u32,
        /// The limit of width times height, in pixels.
        pixels: u64,
    },
    /// Pixels that are no image of 1 or 3 channels.
    #[error("{bytes} bytes are no image of {shape:?} (1 or 3 channels, height, width)")]
    Shape {
        /// Bytes given.
        bytes: usize,
        /// Channels, height and width given.
        shape: [usize; 3],
    },
    /// The square asked for has no pixels, or more than an image may have.
    #[error("an image cannot be scaled to a side of {0} pixels")]
    Size(usize),
}

/// Decodes a PNG or JPEG and scales the square in its middle to `size` x `size` RGB; transparency is dropped.
///
/// **Shapes**: the result is `[3, size, size]`, bytes.
///
/// **Errors**: [`DecodeError`]. The header is checked before memory is taken for pixels.
pub fn decode_square(
    bytes: &[u8],
    size: usize,
    limits: DecodeLimits,
) -> Result<Vec<u8>, DecodeError> {
    let plane = size.saturating_mul(size);
    if plane == 0 || plane as u64 > DecodeLimits::FILES.pixels {
        return Err(DecodeError::Size(size));
    }
    let mut target = vec![0; 3 * plane];
    decode_into(Cursor::new(bytes), size as u32, limits, &mut target)?;
    Ok(target)
}

/// An image as PNG.
///
/// **Shapes**: `pixels` is `[c, h, w]` with `c` of 1 or 3.
///
/// **Errors**: [`DecodeError::Shape`] for other pixels, and [`DecodeError::Size`] for sides that do not fit a PNG.
pub fn encode_png(
    pixels: &[u8],
    [channels, height, width]: [usize; 3],
) -> Result<Vec<u8>, DecodeError> {
    let plane = height.saturating_mul(width);
    if !matches!(channels, 1 | 3) || pixels.len() != plane.saturating_mul(channels) {
        return Err(DecodeError::Shape {
            bytes: pixels.len(),
            shape: [channels, height, width],
        });
    }
    let side = |side: usize| u32::try_from(side).map_err(|_| DecodeError::Size(side));
    let (rows, columns) = (side(height)?, side(width)?);
    let interleaved: Vec<u8> = (0..plane)
        .flat_map(|position| (0..channels).map(move |channel| channel * plane + position))
        .filter_map(|index| pixels.get(index).copied())
        .collect();
    let color = match channels {
        1 => image::ExtendedColorType::L8,
        _ => image::ExtendedColorType::Rgb8,
    };
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes).write_image(&interleaved, columns, rows, color)?;
    Ok(bytes)
}

/// As [`decode_square`], into `[3, size, size]`.
pub(crate) fn decode_into(
    bytes: impl BufRead + Seek,
    size: u32,
    limits: DecodeLimits,
    target: &mut [u8],
) -> Result<(), DecodeError> {
    let mut reader = ImageReader::new(bytes)
        .with_guessed_format()
        .map_err(image::ImageError::IoError)?;
    let mut spending = Limits::default();
    spending.max_alloc = Some(limits.bytes);
    reader.limits(spending.clone());
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    if width.max(height) > limits.side || u64::from(width) * u64::from(height) > limits.pixels {
        return Err(DecodeError::TooLarge {
            width,
            height,
            side: limits.side,
            pixels: limits.pixels,
        });
    }
    spending.reserve(decoder.total_bytes())?;
    decoder.set_limits(spending)?;
    let image = image::DynamicImage::from_decoder(decoder)?.into_rgb8();
    let side = width.min(height);
    let square =
        image::imageops::crop_imm(&image, (width - side) / 2, (height - side) / 2, side, side);
    let plane = size as usize * size as usize;
    let mut write = |scaled: &image::RgbImage| {
        for (position, pixel) in scaled.pixels().enumerate() {
            for (channel, &value) in pixel.0.iter().enumerate() {
                target[channel * plane + position] = value;
            }
        }
    };
    if side == size {
        // Already the right size: the file's own bytes, not filtered ones.
        write(&square.to_image());
    } else {
        write(&image::imageops::resize(
            &*square,
            size,
            size,
            FilterType::Triangle,
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, Rgb, RgbImage};

    use super::*;

    fn png(image: &RgbImage) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn the_middle_square_is_scaled() {
        let image = RgbImage::from_fn(12, 4, |x, _| {
            Rgb([if (4..8).contains(&x) { 90 } else { 0 }; 3])
        });
        let square = decode_square(&png(&image), 2, DecodeLimits::STRANGERS).unwrap();
        assert_eq!(square, [90; 12]);
    }

    #[test]
    fn a_png_holds_the_same_pixels() {
        let pixels: Vec<u8> = (0..3 * 4 * 4).collect();
        let png = encode_png(&pixels, [3, 4, 4]).unwrap();
        assert_eq!(decode_square(&png, 4, DecodeLimits::FILES).unwrap(), pixels);
        assert!(encode_png(&pixels, [3, 4, 5]).is_err());
        assert!(encode_png(&pixels, [2, 4, 6]).is_err());
    }

    #[test]
    fn limits_are_checked_on_the_header() {
        let bytes = png(&RgbImage::new(40, 30));
        let side = DecodeLimits {
            side: 39,
            ..DecodeLimits::STRANGERS
        };
        let pixels = DecodeLimits {
            pixels: 1199,
            ..DecodeLimits::STRANGERS
        };
        for limits in [side, pixels] {
            let error = decode_square(&bytes, 8, limits).unwrap_err();
            assert!(error.to_string().contains("40x30"), "{error}");
        }
        let memory = DecodeLimits {
            bytes: 1000,
            ..DecodeLimits::STRANGERS
        };
        assert!(decode_square(&bytes, 8, memory).is_err());
        assert!(matches!(
            decode_square(&bytes, 0, DecodeLimits::STRANGERS),
            Err(DecodeError::Size(0))
        ));
        assert!(decode_square(b"no image", 8, DecodeLimits::STRANGERS).is_err());
        assert!(decode_square(&bytes[..60], 8, DecodeLimits::STRANGERS).is_err());
    }
}

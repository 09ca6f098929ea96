//! Pictures from files: decoded, turned upright and scaled to the square that a network sees, one way for training, the command
//! line and the service; thumbnails; and images as PNG.

mod container;
mod jpeg;

use std::io::Cursor;
use std::sync::{Mutex, PoisonError};

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, Limits, RgbImage};
use perennial_core::catch_quietly;

pub use container::{HEAD_BYTES, Kind, kind};
use container::{Walk, walk};

/// Pixels above which pictures are decoded one after the other, whatever the number of threads: 32 megapixels.
const LARGE: u64 = 1 << 25;
/// Quality of a thumbnail's JPEG, 1 to 100.
const THUMBNAIL_QUALITY: u8 = 80;

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
    /// For untrusted input.
    pub const UNTRUSTED: Self = Self {
        side: 8_192,
        pixels: 1 << 25,
        bytes: 1 << 28,
    };
}

/// Why bytes cannot be used as an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The first bytes match no known format.
    #[error("the content is not a picture; supported are PNG, JPEG, WebP, GIF, BMP and TIFF")]
    NotAPicture,
    /// A picture, but in a format that is not decoded.
    #[error("{format} is not supported; convert the picture to JPEG or PNG")]
    Unsupported {
        /// The format's name.
        format: &'static str,
    },
    /// The file ends before the picture does.
    #[error(
        "the {format} file is incomplete: a part is missing from its {bytes} bytes; copy or download it again"
    )]
    Truncated {
        /// The format's name.
        format: &'static str,
        /// Bytes that there are.
        bytes: usize,
    },
    /// The pixels cannot be read.
    #[error("the {format} file is damaged: its pixels cannot be read; copy or download it again")]
    Damaged {
        /// The format's name.
        format: &'static str,
    },
    /// Damaged, or above a limit that the decoder itself checks.
    #[error("{0}")]
    Image(#[from] image::ImageError),
    /// The decoder panicked.
    #[error("the {format} decoder failed on it; the file is damaged, or the decoder has a defect")]
    Decoder {
        /// The format's name.
        format: &'static str,
    },
    /// Width or height is above the limit; found in the header, before any pixel is decoded.
    #[error(
        "the image has {width}x{height} pixels; the limit is {side} per side and {pixels} in total; scale it down"
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
    /// The pixels are not an image of 1 or 3 channels.
    #[error("{bytes} bytes are not an image of {shape:?} (1 or 3 channels, height, width)")]
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

/// A decoded picture, upright as viewers show it, RGB; transparency is dropped.
#[derive(Debug, Clone)]
pub struct Picture(RgbImage);

impl Picture {
    /// Decodes a PNG, JPEG, WebP, BMP or TIFF, or the first frame of a GIF or an animated WebP; the content says which. The EXIF
    /// orientation is applied. A file of which a part is missing is refused; data after its end is ignored.
    ///
    /// **Errors**: [`DecodeError`]. The header is checked before memory is allocated for pixels.
    pub fn decode(bytes: &[u8], limits: DecodeLimits) -> Result<Self, DecodeError> {
        let format = match kind(&bytes[..bytes.len().min(HEAD_BYTES)]) {
            Kind::Decoded(format) => format,
            Kind::Other(format) => return Err(DecodeError::Unsupported { format }),
            Kind::Unknown => return Err(DecodeError::NotAPicture),
        };
        let exif = match walk(format, bytes, limits.pixels) {
            Walk::Whole(exif) => exif,
            Walk::Cut => {
                return Err(DecodeError::Truncated {
                    format: name(format),
                    bytes: bytes.len(),
                });
            }
            Walk::Damaged => {
                return Err(DecodeError::Damaged {
                    format: name(format),
                });
            }
        };
        // A decoder may panic; one file must not abort the work on thousands.
        catch_quietly(|| decode(format, bytes, exif, limits)).unwrap_or_else(|| {
            Err(DecodeError::Decoder {
                format: name(format),
            })
        })
    }

    /// Columns of the upright picture.
    pub fn width(&self) -> u32 {
        self.0.width()
    }

    /// Rows of the upright picture.
    pub fn height(&self) -> u32 {
        self.0.height()
    }

    /// The pixels of the upright picture. **Shapes**: `[height, width, 3]`.
    pub(crate) fn pixels(&self) -> &[u8] {
        self.0.as_raw()
    }

    /// The square in the middle, scaled.
    ///
    /// **Shapes**: the result is `[3, size, size]`, bytes.
    ///
    /// **Errors**: [`DecodeError::Size`] for a side of 0 or far too many pixels.
    pub fn square(&self, size: usize) -> Result<Vec<u8>, DecodeError> {
        let mut target = vec![0; square_bytes(size)?];
        self.square_into(size as u32, &mut target);
        Ok(target)
    }

    fn square_into(&self, size: u32, target: &mut [u8]) {
        let (width, height) = self.0.dimensions();
        let side = width.min(height);
        let (left, top) = ((width - side) / 2, (height - side) / 2);
        let square = image::imageops::crop_imm(&self.0, left, top, side, side);
        if side == size {
            // Already the right size: the file's own bytes, not filtered ones.
            planes(&square.to_image(), target);
        } else {
            let scaled = image::imageops::resize(&*square, size, size, FilterType::Triangle);
            planes(&scaled, target);
        }
    }

    /// The whole picture as a JPEG of at most `side` pixels a side; a smaller picture keeps its size.
    ///
    /// **Errors**: [`DecodeError`] if it cannot be encoded.
    pub fn thumbnail(&self, side: u32) -> Result<Vec<u8>, DecodeError> {
        let (width, height) = self.0.dimensions();
        let longest = width.max(height);
        let scaled;
        let small = if longest <= side {
            &self.0
        } else {
            let fit = |length: u32| {
                let fitted = u64::from(length) * u64::from(side) / u64::from(longest);
                fitted.max(1) as u32
            };
            scaled = image::imageops::thumbnail(&self.0, fit(width), fit(height));
            &scaled
        };
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, THUMBNAIL_QUALITY).encode_image(small)?;
        Ok(bytes)
    }
}

/// Decodes a picture and scales the square in its middle to `size` x `size` RGB: [`Picture::decode`] and [`Picture::square`].
///
/// **Shapes**: the result is `[3, size, size]`, bytes.
///
/// **Errors**: [`DecodeError`]. The header is checked before memory is allocated for pixels.
pub fn decode_square(
    bytes: &[u8],
    size: usize,
    limits: DecodeLimits,
) -> Result<Vec<u8>, DecodeError> {
    square_bytes(size)?;
    Picture::decode(bytes, limits)?.square(size)
}

/// Planar RGB images scaled to another side, as [`Picture::square`] scales; an image that is no square is cut to the one in its
/// middle.
///
/// **Shapes**: `pixels` is `[3, height, width]`, the result `[3, size, size]`.
///
/// **Errors**: [`DecodeError::Shape`] and [`DecodeError::Size`].
pub fn scale_square(
    pixels: &[u8],
    [height, width]: [usize; 2],
    size: usize,
) -> Result<Vec<u8>, DecodeError> {
    let picture = interleaved(pixels, [3, height, width])?;
    let side = |side: usize| u32::try_from(side).map_err(|_| DecodeError::Size(side));
    let picture = RgbImage::from_raw(side(width)?, side(height)?, picture);
    let picture = picture.filter(|picture| !picture.is_empty());
    Picture(picture.ok_or(DecodeError::Size(0))?).square(size)
}

/// Brightness of planar RGB after ITU-R BT.601, in integers; leaves a grey image as it is.
///
/// **Shapes**: `rgb` is `[3, height, width]`, the result `[1, height, width]`.
pub fn grey(rgb: &[u8]) -> Vec<u8> {
    let plane = rgb.len() / 3;
    let (red, rest) = rgb.split_at(plane);
    let (green, blue) = rest.split_at(plane);
    red.iter()
        .zip(green)
        .zip(blue)
        .map(|((&red, &green), &blue)| brightness([red, green, blue]))
        .collect()
}

/// Brightness of an RGB pixel after ITU-R BT.601, in integers; leaves a grey pixel as it is.
pub(crate) fn brightness([red, green, blue]: [u8; 3]) -> u8 {
    let sum = 299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue);
    // At most 255: the weights add up to 1000.
    ((sum + 500) / 1000) as u8
}

/// An image as PNG.
///
/// **Shapes**: `pixels` is `[c, h, w]` with `c` of 1 or 3.
///
/// **Errors**: [`DecodeError::Shape`] for other pixels, and [`DecodeError::Size`] for sides that do not fit a PNG.
pub fn encode_png(pixels: &[u8], shape: [usize; 3]) -> Result<Vec<u8>, DecodeError> {
    let interleaved = interleaved(pixels, shape)?;
    let [channels, height, width] = shape;
    let side = |side: usize| u32::try_from(side).map_err(|_| DecodeError::Size(side));
    let (rows, columns) = (side(height)?, side(width)?);
    let color = match channels {
        1 => image::ExtendedColorType::L8,
        _ => image::ExtendedColorType::Rgb8,
    };
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes).write_image(&interleaved, columns, rows, color)?;
    Ok(bytes)
}

/// Planes to pixels. **Shapes**: `[channels, height, width]`, with 1 or 3 channels, to `[height, width, channels]`.
pub(crate) fn interleaved(
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
    Ok((0..plane)
        .flat_map(|position| (0..channels).map(move |channel| channel * plane + position))
        .filter_map(|index| pixels.get(index).copied())
        .collect())
}

/// Pixels to planes.
fn planes(image: &RgbImage, target: &mut [u8]) {
    let plane = target.len() / 3;
    for (position, pixel) in image.pixels().enumerate() {
        for (channel, &value) in pixel.0.iter().enumerate() {
            target[channel * plane + position] = value;
        }
    }
}

/// Bytes of a square, within limits.
fn square_bytes(size: usize) -> Result<usize, DecodeError> {
    let plane = size.saturating_mul(size);
    if plane == 0 || plane as u64 > DecodeLimits::FILES.pixels {
        return Err(DecodeError::Size(size));
    }
    Ok(3 * plane)
}

fn decode(
    format: ImageFormat,
    bytes: &[u8],
    exif: Option<&[u8]>,
    limits: DecodeLimits,
) -> Result<Picture, DecodeError> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut spending = Limits::default();
    spending.max_alloc = Some(limits.bytes);
    reader.limits(spending.clone());
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if width.max(height) > limits.side || pixels > limits.pixels {
        return Err(DecodeError::TooLarge {
            width,
            height,
            side: limits.side,
            pixels: limits.pixels,
        });
    }
    // A dozen of the largest at once would take the memory of a large machine.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn =
        (pixels > LARGE).then(|| ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner));
    spending.reserve(decoder.total_bytes())?;
    decoder.set_limits(spending)?;
    let orientation = match exif {
        Some(exif) => Orientation::from_exif_chunk(exif),
        // A damaged tag is no tag.
        None => decoder.orientation().ok(),
    };
    let mut image = DynamicImage::ImageRgb8(DynamicImage::from_decoder(decoder)?.into_rgb8());
    image.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    let upright = image.into_rgb8();
    if upright.is_empty() {
        return Err(DecodeError::Size(0));
    }
    Ok(Picture(upright))
}

fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Gif => "GIF",
        ImageFormat::WebP => "WebP",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Tiff => "TIFF",
        _ => "image",
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    fn png(image: &RgbImage) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn grey_images_stay_as_they_are() {
        for value in 0..=255 {
            assert_eq!(grey(&[value; 3]), [value]);
        }
        assert_eq!(grey(&[255, 0, 0, 255, 0, 0]), [76, 150]);
    }

    #[test]
    fn the_middle_square_is_scaled() {
        let image = RgbImage::from_fn(12, 4, |x, _| {
            Rgb([if (4..8).contains(&x) { 90 } else { 0 }; 3])
        });
        let square = decode_square(&png(&image), 2, DecodeLimits::UNTRUSTED).unwrap();
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
            ..DecodeLimits::UNTRUSTED
        };
        let pixels = DecodeLimits {
            pixels: 1199,
            ..DecodeLimits::UNTRUSTED
        };
        for limits in [side, pixels] {
            let error = decode_square(&bytes, 8, limits).unwrap_err();
            assert!(error.to_string().contains("40x30"), "{error}");
        }
        let memory = DecodeLimits {
            bytes: 1000,
            ..DecodeLimits::UNTRUSTED
        };
        assert!(decode_square(&bytes, 8, memory).is_err());
        assert!(matches!(
            decode_square(&bytes, 0, DecodeLimits::UNTRUSTED),
            Err(DecodeError::Size(0))
        ));
        assert!(decode_square(b"no image", 8, DecodeLimits::UNTRUSTED).is_err());
        assert!(decode_square(&bytes[..60], 8, DecodeLimits::UNTRUSTED).is_err());
    }
}

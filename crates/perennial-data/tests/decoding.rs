//! One decoder for every format: upright, whole, within limits.

#![allow(clippy::unwrap_used)]

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{DynamicImage, ExtendedColorType, ImageEncoder, ImageFormat, Rgb, RgbImage};
use perennial_encode::{DecodeError, DecodeLimits, Picture, decode_square};

const PROGRESSIVE: &[u8] = include_bytes!("../testdata/progressive.jpg");
const BASELINE: &[u8] = include_bytes!("../testdata/baseline.jpg");
const RESTART: &[u8] = include_bytes!("../testdata/restart.jpg");
const CMYK: &[u8] = include_bytes!("../testdata/cmyk.jpg");
const LOSSY_WEBP: &[u8] = include_bytes!("../testdata/lossy.webp");
const LZW_TIFF: &[u8] = include_bytes!("../testdata/lzw.tif");

/// The upright picture: every quarter another colour, wider than high.
fn upright() -> RgbImage {
    RgbImage::from_fn(48, 32, |x, y| match (x < 24, y < 16) {
        (true, true) => Rgb([230, 20, 20]),
        (false, true) => Rgb([20, 230, 20]),
        (true, false) => Rgb([20, 20, 230]),
        (false, false) => Rgb([230, 230, 20]),
    })
}

/// What a camera stores for the upright picture, with an orientation of 1 to 8.
fn stored(orientation: u16) -> RgbImage {
    use image::imageops::{flip_horizontal, flip_vertical, rotate90, rotate180, rotate270};
    let up = upright();
    match orientation {
        2 => flip_horizontal(&up),
        3 => rotate180(&up),
        4 => flip_vertical(&up),
        // The transposes: a quarter turn and a mirror.
        5 => flip_horizontal(&rotate90(&up)),
        6 => rotate270(&up),
        7 => flip_vertical(&rotate90(&up)),
        8 => rotate90(&up),
        _ => up,
    }
}

/// EXIF data that says nothing but the orientation.
fn exif(orientation: u16, big_endian: bool) -> Vec<u8> {
    let short = |value: u16| match big_endian {
        true => value.to_be_bytes(),
        false => value.to_le_bytes(),
    };
    let long = |value: u32| match big_endian {
        true => value.to_be_bytes(),
        false => value.to_le_bytes(),
    };
    let mut bytes = match big_endian {
        true => b"MM\0*".to_vec(),
        false => b"II*\0".to_vec(),
    };
    bytes.extend(long(8));
    for value in [1, 0x0112, 3] {
        bytes.extend(short(value));
    }
    bytes.extend(long(1));
    bytes.extend(short(orientation));
    bytes.extend(short(0));
    bytes.extend(long(0));
    bytes
}

fn jpeg(image: &RgbImage, exif: Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
    encoder.set_exif_metadata(exif).unwrap();
    encoder.encode_image(image).unwrap();
    bytes
}

fn png(image: &RgbImage, exif: Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = PngEncoder::new(&mut bytes);
    encoder.set_exif_metadata(exif).unwrap();
    let (width, height) = image.dimensions();
    encoder
        .write_image(image, width, height, ExtendedColorType::Rgb8)
        .unwrap();
    bytes
}

fn webp(image: &RgbImage, exif: Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = WebPEncoder::new_lossless(&mut bytes);
    encoder.set_exif_metadata(exif).unwrap();
    let (width, height) = image.dimensions();
    encoder
        .write_image(image, width, height, ExtendedColorType::Rgb8)
        .unwrap();
    bytes
}

/// An uncompressed TIFF of one strip, its directory in front or at the end, as scanners write it.
fn tiff(image: &RgbImage, orientation: u16, directory_first: bool) -> Vec<u8> {
    let pixels = image.as_raw();
    let (width, height) = image.dimensions();
    let entries = 10;
    let directory_bytes = 2 + 12 * entries + 4;
    let bits_bytes = 6;
    let (directory, strip) = match directory_first {
        true => (8, 8 + directory_bytes + bits_bytes),
        false => (8 + pixels.len() + bits_bytes, 8),
    };
    let bits = match directory_first {
        true => 8 + directory_bytes,
        false => 8 + pixels.len(),
    };
    let mut table = Vec::new();
    table.extend((entries as u16).to_le_bytes());
    for (tag, kind, count, value) in [
        (256_u16, 3_u16, 1_u32, width),
        (257, 3, 1, height),
        (258, 3, 3, bits as u32),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, strip as u32),
        (274, 3, 1, u32::from(orientation)),
        (277, 3, 1, 3),
        (278, 3, 1, height),
        (279, 4, 1, pixels.len() as u32),
    ] {
        table.extend(tag.to_le_bytes());
        table.extend(kind.to_le_bytes());
        table.extend(count.to_le_bytes());
        table.extend(value.to_le_bytes());
    }
    table.extend([0; 4]);
    let bits: Vec<u8> = [8_u16; 3]
        .iter()
        .flat_map(|bits| bits.to_le_bytes())
        .collect();
    let mut bytes = b"II*\0".to_vec();
    bytes.extend((directory as u32).to_le_bytes());
    match directory_first {
        true => bytes.extend([&table[..], &bits, pixels].concat()),
        false => bytes.extend([&pixels[..], &bits, &table].concat()),
    }
    bytes
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn decode(bytes: &[u8]) -> Result<Picture, DecodeError> {
    Picture::decode(bytes, DecodeLimits::FILES)
}

/// The colours in the middle of the four quarters, and the picture's size.
fn quarters(bytes: &[u8]) -> ([usize; 2], [[u8; 3]; 4]) {
    let picture = decode(bytes).unwrap();
    // The square in the middle: 32 pixels of the longer side.
    let square = picture.square(32).unwrap();
    let at = |x: usize, y: usize| [0, 1, 2].map(|channel| square[channel * 1024 + y * 32 + x]);
    (
        [picture.width() as usize, picture.height() as usize],
        [at(4, 4), at(27, 4), at(4, 27), at(27, 27)],
    )
}

fn assert_upright(bytes: &[u8], what: &str) {
    let (size, found) = quarters(bytes);
    assert_eq!(size, [48, 32], "{what}");
    let expected = [[230, 20, 20], [20, 230, 20], [20, 20, 230], [230, 230, 20]];
    for (found, expected) in found.iter().zip(expected) {
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                found.abs_diff(expected) <= 12,
                "{what}: {found} for {expected}"
            );
        }
    }
}

#[test]
fn every_orientation_is_turned_upright_in_every_format_that_carries_one() {
    for orientation in 1..=8 {
        let image = stored(orientation);
        for big_endian in [false, true] {
            let exif = exif(orientation, big_endian);
            assert_upright(&jpeg(&image, exif.clone()), &format!("JPEG {orientation}"));
            assert_upright(&png(&image, exif.clone()), &format!("PNG {orientation}"));
            assert_upright(&webp(&image, exif.clone()), &format!("WebP {orientation}"));
            let prefixed = [b"Exif\0\0", &exif[..]].concat();
            assert_upright(
                &webp(&image, prefixed),
                &format!("WebP, prefix {orientation}"),
            );
        }
        for first in [false, true] {
            let bytes = tiff(&image, orientation, first);
            assert_upright(&bytes, &format!("TIFF {orientation}"));
        }
    }
}

#[test]
fn a_tag_behind_the_pixels_of_a_png_counts() {
    let plain = png(&stored(6), Vec::new());
    let data = exif(6, true);
    let mut chunk = (data.len() as u32).to_be_bytes().to_vec();
    let body = [b"eXIf", &data[..]].concat();
    chunk.extend(&body);
    chunk.extend(crc(&body).to_be_bytes());
    let end = plain.len() - 12;
    assert_upright(
        &[&plain[..end], &chunk, &plain[end..]].concat(),
        "eXIf last",
    );
}

/// The checksum of a PNG chunk.
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (0_u32.wrapping_sub(crc & 1)));
        }
    }
    !crc
}

#[test]
fn damaged_or_unknown_tags_change_nothing() {
    let image = stored(1);
    for tag in [
        exif(0, true),
        exif(9, false),
        exif(300, true),
        b"II*\0junk".to_vec(),
        vec![0; 3],
    ] {
        assert_upright(&jpeg(&image, tag.clone()), &format!("JPEG {tag:?}"));
        assert_upright(&png(&image, tag.clone()), &format!("PNG {tag:?}"));
    }
}

/// One file of every format and kind of compression.
fn all_formats() -> Vec<(&'static str, Vec<u8>)> {
    let image = DynamicImage::from(upright());
    vec![
        ("baseline JPEG", BASELINE.to_vec()),
        ("progressive JPEG", PROGRESSIVE.to_vec()),
        ("JPEG with restart marks", RESTART.to_vec()),
        ("CMYK JPEG", CMYK.to_vec()),
        ("JPEG with a tag", jpeg(&upright(), exif(1, true))),
        ("PNG", png(&upright(), Vec::new())),
        (
            "PNG of 16 bits",
            encoded(&image.to_rgb16().into(), ImageFormat::Png),
        ),
        (
            "PNG with alpha",
            encoded(&image.to_rgba8().into(), ImageFormat::Png),
        ),
        ("lossless WebP", webp(&upright(), exif(1, false))),
        ("lossy WebP", LOSSY_WEBP.to_vec()),
        ("GIF", encoded(&image, ImageFormat::Gif)),
        ("BMP", encoded(&image, ImageFormat::Bmp)),
        ("TIFF", encoded(&image, ImageFormat::Tiff)),
        ("LZW TIFF", LZW_TIFF.to_vec()),
        ("TIFF, directory first", tiff(&upright(), 1, true)),
    ]
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    for (what, whole) in all_formats() {
        let picture = decode(&whole).unwrap();
        assert_eq!((picture.width(), picture.height()), (48, 32), "{what}");
        // The last row of an uncompressed BMP may lack its padding, and nothing else of any file.
        for length in (0..whole.len()).rev() {
            let cut = decode(&whole[..length]);
            if what == "BMP" && length + 3 >= whole.len() {
                continue;
            }
            assert!(cut.is_err(), "{what}, {length} of {} bytes", whole.len());
        }
        let long = [&whole[..], &[0xff, 0xda, 0, 0, b'x']].concat();
        assert!(decode(&long).is_ok(), "{what} with bytes behind its end");
    }
}

#[test]
fn scans_that_end_early_are_refused_even_with_an_end_mark() {
    for (what, whole) in [
        ("baseline", BASELINE),
        ("progressive", PROGRESSIVE),
        ("restart marks", RESTART),
        ("CMYK", CMYK),
    ] {
        let pixels = whole
            .windows(2)
            .position(|pair| pair == [0xff, 0xda])
            .unwrap()
            + 14;
        for length in (pixels + 8..whole.len() - 24).step_by(7) {
            let closed = [&whole[..length], &[0xff, 0xd9]].concat();
            assert!(
                decode(&closed).is_err(),
                "{what}, closed after {length} bytes"
            );
        }
    }
}

#[test]
fn depth_transparency_and_print_colours_become_rgb() {
    let image = DynamicImage::from(upright());
    for (what, bytes) in [
        (
            "16 bits",
            encoded(&image.to_rgb16().into(), ImageFormat::Png),
        ),
        ("alpha", encoded(&image.to_rgba8().into(), ImageFormat::Png)),
        (
            "16 bits and alpha",
            encoded(&image.to_rgba16().into(), ImageFormat::Tiff),
        ),
        ("GIF", encoded(&image, ImageFormat::Gif)),
        ("BMP", encoded(&image, ImageFormat::Bmp)),
    ] {
        assert_upright(&bytes, what);
    }
    // Both were made of one picture, so that wrong inks would show.
    let print = decode_square(CMYK, 8, DecodeLimits::FILES).unwrap();
    let screen = decode_square(BASELINE, 8, DecodeLimits::FILES).unwrap();
    let far = print.iter().zip(&screen).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(far.unwrap() < 60, "{far:?}");
}

#[test]
fn only_the_first_frame_of_a_film_counts() {
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
    for image in [upright(), RgbImage::new(48, 32)] {
        let frame = image::Frame::new(DynamicImage::from(image).into_rgba8());
        encoder.encode_frame(frame).unwrap();
    }
    drop(encoder);
    assert_upright(&bytes, "film");
}

#[test]
fn hostile_sizes_are_refused_before_memory_is_taken() {
    let mut bomb = png(&upright(), Vec::new());
    bomb[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
    let checksum = crc(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&checksum.to_be_bytes());
    assert!(matches!(
        decode(&bomb).err().unwrap(),
        DecodeError::TooLarge { width: 65_535, .. }
    ));
    let mut bomb = encoded(&DynamicImage::from(upright()), ImageFormat::Gif);
    bomb[6..10].copy_from_slice(&[0xff; 4]);
    assert!(matches!(decode(&bomb), Err(DecodeError::TooLarge { .. })));
    for whole in [BASELINE, PROGRESSIVE] {
        let mut bomb = whole.to_vec();
        let frame = bomb
            .windows(2)
            .position(|pair| matches!(pair, [0xff, 0xc0 | 0xc2]))
            .unwrap();
        bomb[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
        assert!(decode(&bomb).is_err());
    }
}

#[test]
fn thumbnails_fit_and_keep_their_shape() {
    let wide = RgbImage::from_fn(500, 100, |x, _| Rgb([(x / 2) as u8; 3]));
    let thumbnail = decode(&png(&wide, Vec::new()))
        .unwrap()
        .thumbnail(96)
        .unwrap();
    let small = decode(&thumbnail).unwrap();
    assert_eq!((small.width(), small.height()), (96, 19));
    let thumbnail = decode(&png(&stored(6), exif(6, true)))
        .unwrap()
        .thumbnail(96)
        .unwrap();
    assert_upright(&thumbnail, "thumbnail");
    let line = decode(&png(&RgbImage::new(3000, 1), Vec::new())).unwrap();
    assert_eq!(decode(&line.thumbnail(96).unwrap()).unwrap().height(), 1);
}

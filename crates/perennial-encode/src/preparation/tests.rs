use std::io::Cursor;

use image::{DynamicImage, ImageFormat, LumaA, Rgba, RgbaImage};
use perennial_core::outside_encoder::Interpolation;
use proptest::prelude::*;

use super::golden::{picture, plain};
use super::*;
use crate::codec::{DecodeLimits, encode_png};

const INTERPOLATIONS: [Interpolation; 5] = [
    Interpolation::Nearest,
    Interpolation::Box,
    Interpolation::Bilinear,
    Interpolation::Bicubic,
    Interpolation::Lanczos,
];

fn decoded(image: &DynamicImage) -> Picture {
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, ImageFormat::Png).unwrap();
    Picture::decode(&file.into_inner(), DecodeLimits::UNTRUSTED).unwrap()
}

fn exact(channels: ChannelOrder) -> ImagePreparation {
    plain([6, 5], Resize::Exact, Interpolation::Bicubic, channels)
}

#[test]
fn a_file_and_its_pixels_give_the_same() {
    let shape = [3, 21, 34];
    let pixels = picture(shape, 5);
    let file = encode_png(&pixels, shape).unwrap();
    let file = Picture::decode(&file, DecodeLimits::UNTRUSTED).unwrap();
    for order in [ChannelOrder::Rgb, ChannelOrder::Bgr, ChannelOrder::Grey] {
        for interpolation in INTERPOLATIONS {
            let spec = plain([9, 9], Resize::ShortestSide(10), interpolation, order);
            let of_file = prepare_picture(&file, &spec).unwrap();
            assert_eq!(of_file, prepare_pixels(&pixels, shape, &spec).unwrap());
        }
    }
}

#[test]
fn transparency_does_not_count() {
    let opaque = RgbaImage::from_fn(11, 13, |x, y| Rgba([x as u8 * 20, y as u8 * 15, 99, 255]));
    let mut clear = opaque.clone();
    clear.pixels_mut().for_each(|pixel| pixel.0[3] = pixel.0[0]);
    let spec = exact(ChannelOrder::Rgb);
    let [opaque, clear] = [opaque, clear]
        .map(|image| prepare_picture(&decoded(&DynamicImage::ImageRgba8(image)), &spec).unwrap());
    assert_eq!(opaque, clear);
}

#[test]
fn grey_files_and_grey_pixels_are_alike() {
    let image = image::GrayAlphaImage::from_fn(9, 7, |x, y| LumaA([(x * 28 + y) as u8, 255]));
    let pixels: Vec<u8> = image.pixels().map(|pixel| pixel.0[0]).collect();
    let file = decoded(&DynamicImage::ImageLumaA8(image));
    for order in [ChannelOrder::Rgb, ChannelOrder::Grey] {
        let spec = exact(order);
        let of_file = prepare_picture(&file, &spec).unwrap();
        assert_eq!(of_file, prepare_pixels(&pixels, [1, 7, 9], &spec).unwrap());
        assert_eq!(of_file.len(), order.count() * 30);
    }
}

#[test]
fn channels_are_ordered_and_normalised() {
    let mut spec = exact(ChannelOrder::Bgr);
    spec.scale = 1.0 / 255.0;
    spec.mean = vec![0.5, 0.25, 0.0];
    spec.std = vec![0.5, 0.25, 1.0];
    let pixels = [[255; 4], [51; 4], [0; 4]].concat();
    let planes = prepare_pixels(&pixels, [3, 2, 2], &spec).unwrap();
    let expected = [[-1.0; 30], [(0.2 - 0.25) / 0.25; 30], [1.0; 30]].concat();
    for (value, expected) in planes.iter().zip(expected) {
        assert!((value - expected).abs() < 1e-6, "{value} {expected}");
    }
}

#[test]
fn padding_is_black_before_normalisation() {
    let mut spec = plain(
        [4, 4],
        Resize::ShortestSide(2),
        Interpolation::Bilinear,
        ChannelOrder::Grey,
    );
    spec.mean = vec![10.0];
    let planes = prepare_pixels(&[30; 4], [1, 2, 2], &spec).unwrap();
    let expected = [
        [-10.0; 4],
        [-10.0, 20.0, 20.0, -10.0],
        [-10.0, 20.0, 20.0, -10.0],
        [-10.0; 4],
    ];
    assert_eq!(planes, expected.concat());
}

#[test]
fn a_strip_is_prepared_like_any_picture() {
    let strip = vec![77; 3 * 10_000];
    for shape in [[3, 1, 10_000], [3, 10_000, 1]] {
        for interpolation in INTERPOLATIONS {
            for resize in [
                Resize::ShortestSide(256),
                Resize::Exact,
                Resize::MiddleSquare,
            ] {
                let spec = plain([224, 224], resize, interpolation, ChannelOrder::Rgb);
                let planes = prepare_pixels(&strip, shape, &spec).unwrap();
                assert!(planes.len() == 3 * 224 * 224 && planes.iter().all(|&value| value == 77.0));
            }
        }
    }
}

/// Makes a preparation impossible.
type Spoil = fn(&mut ImagePreparation);

#[test]
fn what_cannot_be_carried_out_is_named() {
    let good = exact(ChannelOrder::Rgb);
    let cases: [(&str, Spoil); 10] = [
        ("0 x 5 pixels", |spec| spec.size[0] = 0),
        ("6 x 4097 pixels", |spec| spec.size[1] = 4097),
        ("shortest_side is 0", |spec| {
            spec.resize = Resize::ShortestSide(0)
        }),
        ("shortest_side is 99999", |spec| {
            spec.resize = Resize::ShortestSide(99_999)
        }),
        ("middle_square", |spec| spec.resize = Resize::MiddleSquare),
        ("mean has 1 values", |spec| spec.mean = vec![0.0]),
        ("std has 3 values", |spec| {
            spec.channels = ChannelOrder::Grey;
            spec.mean = vec![0.0];
        }),
        ("std is 0", |spec| spec.std[1] = 0.0),
        ("mean is NaN", |spec| spec.mean[2] = f32::NAN),
        ("scale is", |spec| spec.scale = 1e300),
    ];
    assert_eq!(check_preparation(&good), Ok(()));
    for (message, spoil) in cases {
        let mut spec = good.clone();
        spoil(&mut spec);
        let error = prepare_pixels(&[0; 3], [3, 1, 1], &spec).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
    for shape in [[3, 1, 2], [2, 1, 1], [3, 0, 0], [3, usize::MAX, 2]] {
        let pixels = if shape[1] == 0 {
            &[][..]
        } else {
            &[1, 2, 3][..]
        };
        assert!(prepare_pixels(pixels, shape, &good).is_err(), "{shape:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn sizes_are_right_and_values_stay_bytes(
        (height, width, grey) in (1_usize..40, 1_usize..40, any::<bool>()),
        (rows, columns, side) in (1_usize..30, 1_usize..30, 1_usize..50),
        (way, interpolation, order) in (0..3, 0..5_usize, 0..3),
        start in any::<u32>(),
    ) {
        let (resize, columns) = match way {
            0 => (Resize::Exact, columns),
            1 => (Resize::ShortestSide(side), columns),
            _ => (Resize::MiddleSquare, rows),
        };
        let order = [ChannelOrder::Rgb, ChannelOrder::Bgr, ChannelOrder::Grey][order as usize];
        let shape = [if grey { 1 } else { 3 }, height, width];
        let spec = plain([rows, columns], resize, INTERPOLATIONS[interpolation], order);
        let planes = prepare_pixels(&picture(shape, start), shape, &spec).unwrap();
        prop_assert_eq!(planes.len(), order.count() * rows * columns);
        prop_assert!(planes.iter().all(|value| (0.0..=255.0).contains(value) && value.fract() == 0.0));
    }

    /// Weights add up to 1.
    #[test]
    fn an_even_picture_stays_even(
        (height, width, rows, columns) in (1_usize..300, 1_usize..30, 1_usize..30, 1_usize..300),
        (interpolation, value) in (0..5_usize, any::<u8>()),
    ) {
        let spec = plain([rows, columns], Resize::Exact, INTERPOLATIONS[interpolation], ChannelOrder::Grey);
        let planes = prepare_pixels(&vec![value; height * width], [1, height, width], &spec).unwrap();
        prop_assert!(planes.iter().all(|&given| given == f32::from(value)));
    }
}

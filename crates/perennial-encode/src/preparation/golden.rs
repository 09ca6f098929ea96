//! What Pillow makes of small pictures, by `experiments/encoders/make_preparation_golden.py`.

use perennial_core::outside_encoder::{ChannelOrder, ImagePreparation, Interpolation, Resize};

use super::prepare_pixels;

const CASES: &str = include_str!("../../testdata/preparation.txt");
const RESULTS: &[u8] = include_bytes!("../../testdata/preparation.bin");

/// Bytes as a network would be given them that wants them as they are.
pub(super) fn plain(
    size: [usize; 2],
    resize: Resize,
    interpolation: Interpolation,
    channels: ChannelOrder,
) -> ImagePreparation {
    ImagePreparation {
        size,
        resize,
        interpolation,
        channels,
        scale: 1.0,
        mean: vec![0.0; channels.count()],
        std: vec![1.0; channels.count()],
    }
}

/// Random bytes, a quarter of them 0 and a quarter 255, as the script makes them. **Shapes**: planar, `[channels, height, width]`.
pub(super) fn picture([channels, height, width]: [usize; 3], start: u32) -> Vec<u8> {
    let mut state = start;
    let mut pixels = vec![0; channels * height * width];
    for position in 0..height * width {
        for channel in 0..channels {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            pixels[channel * height * width + position] = match (state >> 24) as u8 {
                ..64 => 0,
                192.. => 255,
                value => value,
            };
        }
    }
    pixels
}

#[test]
fn results_are_those_of_pillow() {
    let mut cases = 0;
    for line in CASES.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let number = |index: usize| fields[index].parse::<usize>().unwrap();
        let (shape, start) = ([number(2), number(0), number(1)], number(3) as u32);
        let (resize, size) = (fields[4], [number(5), number(6)]);
        let resize = match resize.split_once(':') {
            Some((_, side)) => Resize::ShortestSide(side.parse().unwrap()),
            None if resize == "exact" => Resize::Exact,
            None => Resize::MiddleSquare,
        };
        let (interpolation, tolerance) = match fields[7] {
            "nearest" => (Interpolation::Nearest, 0),
            "box" => (Interpolation::Box, 0),
            "bilinear" => (Interpolation::Bilinear, 0),
            "bicubic" => (Interpolation::Bicubic, 0),
            _ => (Interpolation::Lanczos, 1),
        };
        let channels = if shape[0] == 1 {
            ChannelOrder::Grey
        } else {
            ChannelOrder::Rgb
        };
        let spec = plain(size, resize, interpolation, channels);
        let result = prepare_pixels(&picture(shape, start), shape, &spec).unwrap();
        let plane = size[0] * size[1];
        let expected = &RESULTS[number(8)..][..plane * shape[0]];
        for (index, &value) in result.iter().enumerate() {
            let reference = i32::from(expected[index % plane * shape[0] + index / plane]);
            let difference = (value as i32 - reference).abs();
            assert!(
                difference <= tolerance,
                "{line}: {value} at {index}, Pillow has {reference}"
            );
        }
        cases += 1;
    }
    assert_eq!(cases, 70);
}

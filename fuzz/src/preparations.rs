//! Configurations of how pictures are prepared.

use perennial_encode::presets::preparation_from_json;
use perennial_encode::{check_preparation, prepare_pixels};

use crate::Target;

/// A configuration as model hubs have them, and a picture that is prepared as it says. The first two bytes are the picture's height and
/// width, less 1.
pub struct Preparation;

/// Larger inputs of a network are only checked, not computed.
const LARGEST: usize = 64;

impl Target for Preparation {
    fn new() -> Self {
        Self
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let Some((&[height, width], json)) = bytes.split_first_chunk() else {
            return false;
        };
        let Ok(json) = std::str::from_utf8(json) else {
            return false;
        };
        let Ok(spec) = preparation_from_json("config.json", json) else {
            return false;
        };
        check_preparation(&spec).unwrap();
        let [rows, columns] = spec.size;
        if rows.max(columns) <= LARGEST {
            let shape = [3, usize::from(height) + 1, usize::from(width) + 1];
            let length = shape.iter().product();
            let pixels: Vec<u8> = (0..length).map(|index| (index * 37) as u8).collect();
            let planes = prepare_pixels(&pixels, shape, &spec).unwrap();
            assert_eq!(planes.len(), spec.channels.count() * rows * columns);
            assert!(planes.iter().all(|value| value.is_finite()));
        }
        true
    }
}

//! What all images of a class have in common.

use std::f32::consts::{FRAC_PI_2, TAU};
use std::ops::Range;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::shape::Shape;
use super::texture::Texture;

/// Seed of the figures. Another value gives other classes.
const UNIVERSE: u64 = 0x7065_7265_6e6e_6961;

/// Hues that figures use, evenly spaced; few, so that colour alone does not tell classes apart.
const HUES: u32 = 8;

/// The figure of a class in its standard pose: the body has radius 1 at the origin.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figure {
    /// Painted in this order.
    pub parts: Vec<Part>,
}

/// A piece of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Part {
    pub shape: Shape,
    pub texture: Texture,
    pub centre: [f32; 2],
    pub radius: f32,
    /// Height over width.
    pub aspect: f32,
    pub angle: f32,
    /// Two colours as hue (a fraction of the circle), saturation and brightness.
    pub colours: [[f32; 3]; 2],
}

impl Figure {
    /// The figure of a class, for any number.
    pub(super) fn of_class(class: u32) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(UNIVERSE);
        random.set_stream(u64::from(class));
        let random = &mut random;
        let body = Part {
            shape: Shape::draw(random),
            texture: Texture::draw(random),
            centre: [0.0; 2],
            radius: 1.0,
            aspect: random.random_range(0.7..1.3),
            angle: random.random_range(0..4) as f32 * FRAC_PI_2,
            colours: colours(random),
        };
        let mut behind = Vec::new();
        let mut before = Vec::new();
        for _ in 0..random.random_range(1..=2) {
            let in_front = random.random_bool(0.6);
            // Closer behind the body it would hardly be seen.
            let part = attachment(if in_front { 0.45..1.15 } else { 0.85..1.15 }, random);
            let pair = random.random_bool(0.35);
            let target = if in_front { &mut before } else { &mut behind };
            target.push(part);
            if pair {
                // Like ears or eyes: the same part on the other side.
                target.push(Part {
                    centre: [-part.centre[0], part.centre[1]],
                    angle: -part.angle,
                    ..part
                });
            }
        }
        behind.push(body);
        behind.append(&mut before);
        Self { parts: behind }
    }
}

/// A smaller part whose centre lies within a range of distances from the body's.
fn attachment(distances: Range<f32>, random: &mut ChaCha8Rng) -> Part {
    let direction = random.random_range(0.0..TAU);
    let distance = random.random_range(distances);
    Part {
        shape: Shape::draw(random),
        texture: if random.random_bool(0.6) {
            Texture::Plain
        } else {
            Texture::draw(random)
        },
        centre: [distance * direction.cos(), distance * direction.sin()],
        radius: random.random_range(0.35..0.6),
        aspect: random.random_range(0.7..1.3),
        angle: random.random_range(0.0..TAU),
        colours: colours(random),
    }
}

/// Two colours of different brightness.
fn colours(random: &mut ChaCha8Rng) -> [[f32; 3]; 2] {
    let mut hue = || random.random_range(0..HUES) as f32 / HUES as f32;
    let hues = [hue(), hue()];
    let saturation = random.random_range(0.45..0.95);
    let dark = random.random_range(0.2..0.5);
    let light = random.random_range(0.75..1.0);
    let [first, second] = if random.random_bool(0.5) {
        [dark, light]
    } else {
        [light, dark]
    };
    [[hues[0], saturation, first], [hues[1], saturation, second]]
}

//! The patterns that fill shapes and backgrounds.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// A pattern of two colours over the plane; a frequency is a number of periods per unit of length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Texture {
    Plain,
    Shaded,
    Stripes { frequency: f32, angle: f32 },
    Checks { frequency: f32, angle: f32 },
    Dots { frequency: f32 },
    Rings { frequency: f32 },
}

impl Texture {
    pub(super) fn draw(random: &mut ChaCha8Rng) -> Self {
        let frequency = random.random_range(1.0..2.4);
        let angle = random.random_range(0..4) as f32 * std::f32::consts::FRAC_PI_4;
        match random.random_range(0..8) {
            0 => Self::Plain,
            1 => Self::Shaded,
            2..=4 => Self::Stripes { frequency, angle },
            5 => Self::Checks {
                frequency: 0.7 * frequency,
                angle,
            },
            6 => Self::Dots {
                frequency: 0.8 * frequency,
            },
            _ => Self::Rings { frequency },
        }
    }

    /// Share of the second colour at a point, 0 to 1. `phase` shifts the pattern, in periods.
    pub(super) fn share(&self, x: f32, y: f32, phase: [f32; 2]) -> f32 {
        use std::f32::consts::TAU;
        let wave = |position: f32| (TAU * position).sin();
        let turned = |angle: f32| {
            let (sin, cos) = angle.sin_cos();
            (x * cos + y * sin, y * cos - x * sin)
        };
        // A steep but not hard edge: hard ones would alias on so few pixels.
        let edge = |value: f32| (0.5 + 1.6 * value).clamp(0.0, 1.0);
        match *self {
            Self::Plain => 0.0,
            Self::Shaded => (0.5 + 0.5 * y).clamp(0.0, 1.0),
            Self::Stripes { frequency, angle } => {
                edge(wave(turned(angle).0 * frequency + phase[0]))
            }
            Self::Checks { frequency, angle } => {
                let (u, v) = turned(angle);
                edge(wave(u * frequency + phase[0]) * wave(v * frequency + phase[1]))
            }
            Self::Dots { frequency } => {
                edge(wave(x * frequency + phase[0]) + wave(y * frequency + phase[1]) - 0.7)
            }
            Self::Rings { frequency } => edge(wave(x.hypot(y) * frequency + phase[0])),
        }
    }
}

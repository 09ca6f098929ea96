//! The outlines that figures and clutter are made of.

use std::f32::consts::{PI, TAU};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// An outline around the origin that fits into the unit circle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Shape {
    Disc,
    HalfDisc,
    Polygon { corners: f32 },
    Star { points: f32, depth: f32 },
    Flower { petals: f32, depth: f32 },
    Ring { hole: f32 },
    Cross { arm: f32 },
    Crescent { shift: f32 },
    Bar { breadth: f32 },
    Angle { breadth: f32 },
}

impl Shape {
    pub(super) fn draw(random: &mut ChaCha8Rng) -> Self {
        match random.random_range(0..12) {
            0 => Self::Disc,
            1 => Self::HalfDisc,
            2 => Self::Polygon { corners: 3.0 },
            3 => Self::Polygon { corners: 4.0 },
            4 => Self::Polygon {
                corners: random.random_range(5..=6) as f32,
            },
            5 => Self::Star {
                points: random.random_range(4..=6) as f32,
                depth: random.random_range(0.45..0.65),
            },
            6 => Self::Flower {
                petals: random.random_range(3..=5) as f32,
                depth: random.random_range(0.35..0.55),
            },
            7 => Self::Ring {
                hole: random.random_range(0.4..0.65),
            },
            8 => Self::Cross {
                arm: random.random_range(0.22..0.36),
            },
            9 => Self::Crescent {
                shift: random.random_range(0.45..0.7),
            },
            10 => Self::Bar {
                breadth: random.random_range(0.25..0.45),
            },
            _ => Self::Angle {
                breadth: random.random_range(0.25..0.4),
            },
        }
    }

    /// Roughly how far the point lies inside of the outline; negative outside.
    pub(super) fn depth(&self, x: f32, y: f32) -> f32 {
        let radius = x.hypot(y);
        let bar = |half_x: f32, half_y: f32| (half_x - x.abs()).min(half_y - y.abs());
        match *self {
            Self::Disc => 1.0 - radius,
            Self::HalfDisc => (1.0 - radius).min(y + 0.3),
            Self::Polygon { corners } => {
                let sector = TAU / corners;
                let angle = (y.atan2(x) + PI / 2.0).rem_euclid(sector) - sector / 2.0;
                (sector / 2.0).cos() - radius * angle.cos()
            }
            Self::Star { points, depth } => {
                let turn = (y.atan2(x) * points / TAU).rem_euclid(1.0);
                1.0 - depth * (2.0 * turn - 1.0).abs().mul_add(-1.0, 1.0) - radius
            }
            Self::Flower { petals, depth } => {
                1.0 - depth * (0.5 - 0.5 * (petals * y.atan2(x)).cos()) - radius
            }
            Self::Ring { hole } => (1.0 - radius).min(radius - hole),
            Self::Cross { arm } => bar(0.95, arm).max(bar(arm, 0.95)),
            Self::Crescent { shift } => (1.0 - radius).min((x - shift).hypot(y) - 0.8),
            Self::Bar { breadth } => bar(0.95, breadth),
            Self::Angle { breadth } => {
                let upright = (breadth - (x + 0.5).abs()).min(0.85 - y.abs());
                let foot = (0.8 - x.abs()).min(breadth - (y - 0.85 + breadth).abs());
                upright.max(foot)
            }
        }
    }
}

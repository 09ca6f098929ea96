//! The filters, and the weights with which a side's pixels count.

use std::f64::consts::PI;
use std::ops::Range;

use super::geometry::Axis;

/// Bits behind the point of a weight. A byte times weights that add up to less than 2 stays below the 31 bits of an `i32`.
pub(super) const PRECISION: u32 = 22;

/// A filter: the weight of a pixel by its distance from the centre, and the distance from which it is 0, both in pixels of the
/// smaller of the two pictures.
#[derive(Clone, Copy)]
pub(super) struct Filter {
    weight: fn(f64) -> f64,
    support: f64,
}

pub(super) const BOX: Filter = Filter {
    // Half open, so that a pixel on the border counts once.
    weight: |x| if x > -0.5 && x <= 0.5 { 1.0 } else { 0.0 },
    support: 0.5,
};

pub(super) const BILINEAR: Filter = Filter {
    weight: |x| (1.0 - x.abs()).max(0.0),
    support: 1.0,
};

/// Keys' cubic with a = -0.5.
pub(super) const BICUBIC: Filter = Filter {
    weight: |x| {
        const A: f64 = -0.5;
        let x = x.abs();
        if x < 1.0 {
            ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
        } else if x < 2.0 {
            (((x - 5.0) * x + 8.0) * x - 4.0) * A
        } else {
            0.0
        }
    },
    support: 2.0,
};

/// The cardinal sine, windowed by its own middle lobe three times as wide.
pub(super) const LANCZOS: Filter = Filter {
    weight: |x| {
        if (-3.0..3.0).contains(&x) {
            sinc(x) * sinc(x / 3.0)
        } else {
            0.0
        }
    },
    support: 3.0,
};

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * PI;
    x.sin() / x
}

/// For each pixel that is computed along a side: the source's pixels that count, and by how much.
pub(super) struct Weights {
    windows: Vec<Window>,
    values: Vec<i32>,
}

struct Window {
    first: usize,
    values: Range<usize>,
}

impl Weights {
    /// The weights of one side.
    ///
    /// **Source**: Pillow's resampling, which every filter's support is widened for when a picture is scaled down (antialiasing).
    pub fn new(axis: &Axis, filter: Filter) -> Self {
        let length = axis.source.len();
        let scale = length as f64 / axis.resized as f64;
        let widened = scale.max(1.0);
        let support = filter.support * widened;
        let mut weights = Self {
            windows: Vec::with_capacity(axis.kept_len()),
            values: Vec::new(),
        };
        let mut exact = Vec::new();
        for position in axis.kept.clone() {
            let centre = (position as f64 + 0.5) * scale;
            // The conversions round towards 0, and what is negative becomes 0. A window is never empty.
            let first = ((centre - support + 0.5) as usize).min(length - 1);
            let end = ((centre + support + 0.5) as usize).clamp(first + 1, length);
            exact.clear();
            exact.extend(
                (first..end)
                    .map(|pixel| (filter.weight)((pixel as f64 - centre + 0.5) * (1.0 / widened))),
            );
            let sum: f64 = exact.iter().sum();
            let sum = if sum == 0.0 { 1.0 } else { sum };
            let start = weights.values.len();
            weights
                .values
                .extend(exact.iter().map(|weight| fixed(weight / sum)));
            weights.windows.push(Window {
                first: axis.source.start + first,
                values: start..weights.values.len(),
            });
        }
        weights
    }

    /// The pixels of the source that count for any pixel, as one range.
    pub fn reach(&self) -> Range<usize> {
        let ends = self
            .windows
            .iter()
            .map(|window| window.first + window.values.len());
        let first = self.windows.iter().map(|window| window.first).min();
        first.unwrap_or(0)..ends.max().unwrap_or(0)
    }

    /// The first pixel that counts and the weights from there on, for one computed pixel after the other.
    #[inline(always)]
    pub fn windows(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.windows
            .iter()
            .map(|window| (window.first, &self.values[window.values.clone()]))
    }
}

/// A weight as an integer, rounded to the nearest, halves away from 0.
fn fixed(weight: f64) -> i32 {
    (weight * f64::from(1 << PRECISION)).round() as i32
}

/// The pixel that is nearest to each computed pixel's centre.
pub(super) fn nearest(axis: &Axis) -> Vec<usize> {
    let length = axis.source.len();
    let step = length as f64 / axis.resized as f64;
    let mut position = step * 0.5;
    // Step by step from the side's beginning, not by a product: where a centre falls on a border between pixels, the rounding of these
    // additions decides, in Pillow too.
    for _ in 0..axis.kept.start {
        position += step;
    }
    let mut pixels = Vec::with_capacity(axis.kept_len());
    for _ in axis.kept.clone() {
        pixels.push(axis.source.start + (position as usize).min(length - 1));
        position += step;
    }
    pixels
}

//! Which pixels of a picture become which of the network's input: the rounding of torchvision.

use std::ops::Range;

use perennial_core::outside_encoder::Resize;

/// One side of a picture on its way to the network's input. All lengths in pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Axis {
    /// The part of the picture that is scaled; nothing outside of it counts.
    pub source: Range<usize>,
    /// The length of the whole side after scaling.
    pub resized: u64,
    /// What of it the network sees.
    pub kept: Range<u64>,
    /// Padding in front of what is kept.
    pub before: usize,
    /// The length that the network is given; what is missing behind is padding too.
    pub side: usize,
}

impl Axis {
    fn new(source: Range<usize>, resized: u64, side: usize) -> Self {
        let wanted = side as u64;
        let (kept, before) = match resized.checked_sub(wanted) {
            None => (0..resized, (wanted - resized) / 2),
            Some(surplus) => {
                let first = round_half(surplus);
                (first..first + wanted, 0)
            }
        };
        Self {
            source,
            resized,
            kept,
            before: before as usize,
            side,
        }
    }

    /// The number of pixels that are computed: at most `side`.
    pub fn kept_len(&self) -> usize {
        (self.kept.end - self.kept.start) as usize
    }
}

/// The vertical and the horizontal axis of a picture of `height` x `width` pixels, none of which is 0.
pub(super) fn axes([height, width]: [usize; 2], size: [usize; 2], resize: Resize) -> [Axis; 2] {
    let [rows, columns] = size;
    match resize {
        Resize::Exact => [
            Axis::new(0..height, rows as u64, rows),
            Axis::new(0..width, columns as u64, columns),
        ],
        Resize::ShortestSide(side) => {
            let short = height.min(width);
            let scaled = |length: usize| match length == short {
                true => side as u64,
                // One division of exact numbers, rounded down, as Python's int(side * length / short).
                false => (side as f64 * length as f64 / short as f64) as u64,
            };
            [
                Axis::new(0..height, scaled(height), rows),
                Axis::new(0..width, scaled(width), columns),
            ]
        }
        Resize::MiddleSquare => {
            let side = height.min(width);
            let middle = |length: usize| {
                let first = (length - side) / 2;
                first..first + side
            };
            [
                Axis::new(middle(height), rows as u64, rows),
                Axis::new(middle(width), columns as u64, columns),
            ]
        }
    }
}

/// Half of a number, rounded to the nearest, halves to the even number.
fn round_half(number: u64) -> u64 {
    let down = number / 2;
    down + (number % 2) * (down % 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_rounded_to_even() {
        let halves: Vec<u64> = (0..9).map(round_half).collect();
        // Python: [round(n / 2) for n in range(9)].
        assert_eq!(halves, [0, 0, 1, 2, 2, 2, 3, 4, 4]);
    }

    #[test]
    fn the_longer_side_is_rounded_down() {
        // 224 * 500 / 333 = 336.3, 256 * 101 / 100 = 258.56.
        let [vertical, horizontal] = axes([333, 500], [224, 224], Resize::ShortestSide(224));
        assert_eq!((vertical.resized, horizontal.resized), (224, 336));
        assert_eq!(horizontal.kept, 56..280);
        let [vertical, _] = axes([101, 100], [224, 224], Resize::ShortestSide(256));
        assert_eq!(vertical.resized, 258);
        assert_eq!(vertical.kept, 17..241);
    }

    #[test]
    fn the_odd_pixel_of_padding_is_behind() {
        let [vertical, horizontal] = axes([10, 30], [13, 13], Resize::ShortestSide(10));
        assert_eq!((vertical.before, vertical.kept_len()), (1, 10));
        assert_eq!((horizontal.before, horizontal.kept), (0, 8..21));
    }

    #[test]
    fn a_strip_is_computed_only_where_it_is_seen() {
        let [vertical, _] = axes([10_000, 1], [224, 224], Resize::ShortestSide(224));
        assert_eq!(vertical.resized, 2_240_000);
        assert_eq!(vertical.kept_len(), 224);
    }
}

//! Preparations that cannot be carried out.

use perennial_core::outside_encoder::{MAX_INPUT_SIDE, MAX_SHORTEST_SIDE};
use thiserror::Error;

/// A preparation that cannot be carried out.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum PreparationError {
    /// Height or width is 0 or too large.
    #[error(
        "the network's input is {height} x {width} pixels; each side must be 1 to {MAX_INPUT_SIDE}"
    )]
    Size {
        /// Height in pixels.
        height: usize,
        /// Width in pixels.
        width: usize,
    },
    /// The shorter side is scaled to 0 or too many pixels.
    #[error("shortest_side is {0} pixels; it must be 1 to {MAX_SHORTEST_SIDE}")]
    ShortestSide(usize),
    /// A square for an input that is none.
    #[error(
        "middle_square needs a square input, not {height} x {width} pixels; use exact or shortest_side"
    )]
    NoSquare {
        /// Height in pixels.
        height: usize,
        /// Width in pixels.
        width: usize,
    },
    /// `mean` or `std` does not have one value per channel.
    #[error(
        "{key} has {values} values, and the input has {channels} channels; give one value per channel"
    )]
    Channels {
        /// `mean` or `std`.
        key: &'static str,
        /// Its values.
        values: usize,
        /// Channels of the network's input.
        channels: usize,
    },
    /// A number that makes the input infinite, NaN or constant.
    #[error("{key} is {value}; {rule}")]
    Value {
        /// `scale`, `mean` or `std`.
        key: &'static str,
        /// What it is.
        value: f64,
        /// What it must be.
        rule: &'static str,
    },
}

//! Encoders: pictures and texts in, unit embeddings out.
//!
//! - [`Encoder`]: prepares its own inputs (decodes, scales and normalises pictures, or splits texts into tokens) and encodes batches of them.
//! - [`Input`] and [`Prepared`]: what an encoder is given, and what it makes of it.
//! - [`Picture`]: the one decoder of image files.
//! - [`prepare_picture`]: from a picture to the input of another program's network, with the arithmetic of Pillow and torchvision.
//! - [`presets`]: such preparations by name, and from the files of model hubs.

#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod codec;
mod encoder;
mod input;
mod preparation;
pub mod presets;

pub use codec::{
    DecodeError, DecodeLimits, HEAD_BYTES, Kind, Picture, decode_square, encode_png, grey, kind,
    scale_square,
};
pub use encoder::{EncodeError, Encoder, PrepareError};
pub use input::{Input, InputType, Prepared, Values};
pub use preparation::{
    MAX_INPUT_SIDE, MAX_SHORTEST_SIDE, PreparationError, check_preparation, prepare_picture,
    prepare_pixels,
};

//! Encoders: pictures and texts in, unit embeddings out.
//!
//! - [`Encoder`]: prepares its own inputs (decodes, scales and normalises pictures, or splits texts into tokens) and encodes batches of them.
//! - [`Input`] and [`Prepared`]: what an encoder is given, and what it makes of it.
//! - [`Picture`]: the one decoder of image files.

#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod codec;
mod encoder;
mod input;

pub use codec::{
    DecodeError, DecodeLimits, HEAD_BYTES, Kind, Picture, decode_square, encode_png, grey, kind,
    scale_square,
};
pub use encoder::{EncodeError, Encoder, PrepareError};
pub use input::{Input, InputType, Prepared, Values};

#![doc = include_str!("../README.md")]
//! # What is here
//!
//! - [`Encoder`]: prepares its own inputs (decodes, scales and normalises pictures, or splits texts into tokens) and encodes batches of them.
//! - [`Input`] and [`Prepared`]: what an encoder is given, and what it makes of it.
//! - [`Picture`]: the one decoder of image files.
//! - [`prepare_picture`]: from a picture to the input of another program's network, with the arithmetic of Pillow and torchvision.
//! - [`presets`]: such preparations by name, and from the files of model hubs.
//! - [`GraphWriter`]: ONNX graphs, written.
//!
//! With the feature `endpoint`, encoders that are embedding services elsewhere:
//!
//! - `endpoint`: the client of such a service, and the encoder that asks it.
//!
//! With the feature `onnx`, encoders of other programs:
//!
//! - `OutsideModel`: an encoder of other programs, loaded from its files: ONNX graphs and tables of token vectors, and a linear layer behind them.
//! - `import`: what such an encoder is, from a graph or from a folder of a model hub.
//! - [`GraphRuntime`]: what runs their graphs, `rten` or, with the feature `onnxruntime`, a library of onnxruntime.

#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod codec;
mod encoder;
#[cfg(feature = "endpoint")]
pub mod endpoint;
mod graph_runtime;
mod graph_writer;
#[cfg(feature = "onnx")]
mod head;
#[cfg(feature = "onnx")]
pub mod import;
mod input;
mod library_error;
#[cfg(feature = "onnx")]
mod onnx;
#[cfg(feature = "onnx")]
mod outside_model;
mod preparation;
pub mod presets;
mod protobuf;
mod service_failure;
#[cfg(feature = "onnx")]
mod text;
#[cfg(feature = "onnx")]
mod token_table;

pub use codec::{
    DecodeError, DecodeLimits, HEAD_BYTES, Kind, Picture, decode_square, encode_png, grey, kind,
    scale_square,
};
pub use encoder::{EncodeError, Encoder, PrepareError};
pub use graph_runtime::GraphRuntime;
pub use graph_writer::{Attribute, GraphWriter, OPSET, Value};
#[cfg(feature = "onnx")]
pub use head::HeadError;
pub use input::{Input, InputType, Prepared, Values};
pub use library_error::LibraryError;
#[cfg(feature = "onnx")]
pub use onnx::{GraphError, GraphSummary, graph_summary};
#[cfg(feature = "onnx")]
pub use outside_model::{LoadModelError, OutsideModel};
pub use preparation::{PreparationError, check_preparation, prepare_picture, prepare_pixels};
pub use service_failure::ServiceFailure;
#[cfg(feature = "onnx")]
pub use text::TokenizerError;
#[cfg(feature = "onnx")]
pub use token_table::TableError;

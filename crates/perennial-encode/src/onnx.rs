//! ONNX graphs as encoders.
//!
//! **The runtime** is `rten` 0.27: pure Rust, no build script, no C. With the feature `onnxruntime` it may be onnxruntime instead, from a shared library
//! that whoever runs the program names ([`GraphRuntime`](crate::GraphRuntime)). `docs/encoders.md` has the measurements that decided, and the
//! command that repeats them.
//!
//! **A file is hostile until it is read**: [`graph_file`](self) walks it without allocating what it claims to need, and only then does the runtime
//! see it. What a graph computes cannot hurt anything but itself: it reads its own weights and inputs and writes its own outputs. It can still ask
//! for more memory or time than there is, as any program can, so import what you trust to that degree.
//!
//! **An embedding does not depend on its neighbours**: pictures are independent of one another; texts are padded, and masked, to within an eighth
//! of their length. Where a graph takes its int8 scales from the whole batch, or takes one input only, every input runs alone.

mod apart;
mod declared;
mod description;
mod error;
#[cfg(any(feature = "onnxruntime", test))]
mod excerpt;
mod graph_file;
mod initializers;
mod limits;
#[cfg(feature = "onnxruntime")]
mod onnxruntime;
mod other_formats;
mod pooling;
mod rows_first;
mod rten_runtime;
mod run;
mod session;
#[cfg(test)]
mod small_graphs;
mod summary;
mod towers;
mod widened;
mod wire;

pub(crate) use description::Description;
pub use error::GraphError;
#[cfg(test)]
pub(crate) use graph_file::GraphFile;
#[cfg(feature = "onnxruntime")]
pub(crate) use onnxruntime::open as open_onnxruntime;
pub(crate) use session::Session;
pub use summary::{GraphSummary, graph_summary};
pub(crate) use towers::{ImageGraph, TextGraph};

/// The largest graph that is read: the format's own limit.
pub(crate) const MAX_GRAPH_BYTES: u64 = 2 << 30;
/// The largest file of tensors beside a graph that is read.
pub(crate) const MAX_EXTERNAL_BYTES: u64 = 32 << 30;

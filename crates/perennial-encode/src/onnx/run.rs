//! What goes into a run of a graph and comes out of it, whichever runtime it is.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::GraphError;

/// What goes into one run. More than that takes more memory and not less time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunSize {
    /// Bytes of input pixels.
    pub pixel_bytes: usize,
    /// Tokens, padding included.
    pub tokens: usize,
}

/// The tensor of one input of a run.
pub(crate) struct Given<'a> {
    /// The input's name.
    pub name: &'a str,
    pub shape: Vec<usize>,
    /// As many as the shape says.
    pub numbers: Numbers,
}

/// Numbers of an input, which a runtime brings into the type that the graph declares.
pub(crate) enum Numbers {
    Floats(Vec<f32>),
    Integers(Vec<i32>),
}

/// The result of a run: an f32 tensor.
pub(crate) struct Output {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// Loads by a runtime, whose defects must not end a service.
pub(super) fn guarded<T>(file: &str, load: impl FnOnce() -> T) -> Result<T, GraphError> {
    catch_unwind(AssertUnwindSafe(load)).map_err(|_| GraphError::Runtime {
        file: file.to_owned(),
        problem: "the runtime has a defect that this file meets".to_owned(),
    })
}

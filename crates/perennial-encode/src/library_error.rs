//! Libraries that cannot run graphs.

use std::path::PathBuf;

use thiserror::Error;

/// What to do where a file is no library of onnxruntime.
const WHERE: &str = "name the library of onnxruntime's package for this machine (libonnxruntime.so.1.x in its folder capi; docs/encoders.md), or leave it out, and rten runs them";

/// A library of onnxruntime that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// The program was built without onnxruntime.
    #[error(
        "{} was named to run graphs, and this program was built without onnxruntime; build it with --features onnxruntime (or full), or leave the \
         library out to run them by rten", file.display()
    )]
    NotBuilt {
        /// The library.
        file: PathBuf,
    },
    /// No such file.
    #[error("onnxruntime's library {} cannot be read: {problem}; {WHERE}", file.display())]
    Missing {
        /// The library.
        file: PathBuf,
        /// Why.
        problem: String,
    },
    /// The file is no shared library, or one of another machine, or lacks a library that it needs itself.
    #[error("onnxruntime's library {} cannot be loaded: {problem}; {WHERE}", file.display())]
    NotLoaded {
        /// The library.
        file: PathBuf,
        /// What the system says.
        problem: String,
    },
    /// A shared library of something else.
    #[error("{} is not onnxruntime's library (it has no OrtGetApiBase); {WHERE}", file.display())]
    Other {
        /// The library.
        file: PathBuf,
    },
    /// A version that lacks what is needed.
    #[error(
        "{} is onnxruntime {found}, and at least 1.{needed} is needed; install a later one (docs/encoders.md), or leave the library out",
        file.display()
    )]
    TooOld {
        /// The library.
        file: PathBuf,
        /// Its version.
        found: String,
        /// The number behind `1.` of the first version that can be used.
        needed: u32,
    },
    /// A second library.
    #[error(
        "{} cannot be loaded beside {}: a program uses one library of onnxruntime; start it again with the one to use",
        file.display(), loaded.display()
    )]
    Second {
        /// The library.
        file: PathBuf,
        /// The one that is loaded already.
        loaded: PathBuf,
    },
    /// The library was loaded and does not work.
    #[error("onnxruntime's library {} does not start: {problem}; {WHERE}", file.display())]
    NotStarted {
        /// The library.
        file: PathBuf,
        /// What it says.
        problem: String,
    },
}

//! What runs ONNX graphs, and the libraries that cannot.

use std::path::PathBuf;

use thiserror::Error;

/// What runs ONNX graphs. Whoever runs the program chooses, never a file of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum GraphRuntime {
    /// `rten`, which is part of the program.
    #[default]
    Rten,
    /// onnxruntime, from this shared library, in a build with the feature `onnxruntime`. The library is code: it runs with all rights of the
    /// program, from the moment it is loaded. A program loads one such library, which stays loaded.
    Onnxruntime(PathBuf),
}

impl GraphRuntime {
    /// Loads the library, if there is one to load, and says what it is. Without this call the first graph loads it.
    ///
    /// # Errors
    /// See [`LibraryError`].
    pub fn open(&self) -> Result<String, LibraryError> {
        match self {
            Self::Rten => Ok("rten".to_owned()),
            #[cfg(feature = "onnxruntime")]
            Self::Onnxruntime(file) => crate::onnx::open_onnxruntime(file),
            #[cfg(not(feature = "onnxruntime"))]
            Self::Onnxruntime(file) => Err(LibraryError::NotBuilt { file: file.clone() }),
        }
    }
}

impl From<Option<PathBuf>> for GraphRuntime {
    /// onnxruntime where a library is named, else rten.
    fn from(library: Option<PathBuf>) -> Self {
        library.map_or(Self::Rten, Self::Onnxruntime)
    }
}

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

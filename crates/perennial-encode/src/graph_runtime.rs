//! What runs ONNX graphs.

use std::path::PathBuf;

use crate::library_error::LibraryError;

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

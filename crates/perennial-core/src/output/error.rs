//! Why an output path cannot be used.

use std::io;
use std::path::PathBuf;

/// An output path cannot be used. Nothing was written or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The folder that the file is to go to does not exist.
    #[error("{}: the folder {} does not exist; create it first", path.display(), folder.display())]
    NoFolder {
        /// The path given.
        path: PathBuf,
        /// The folder that is missing.
        folder: PathBuf,
    },
    /// The path names something that no result can be written to.
    #[error("{}: {problem}", path.display())]
    Unusable {
        /// The path given.
        path: PathBuf,
        /// The problem and the remedy.
        problem: String,
    },
    /// A file is there already, and it does not look like one that the program wrote.
    #[error(
        "{} exists and is not {expected}; it is not overwritten: name another, or remove it first", path.display()
    )]
    NotOurs {
        /// The path given.
        path: PathBuf,
        /// What the program would have written, such as "an embeddings file".
        expected: &'static str,
    },
    /// An error of the operating system.
    #[error("{} cannot be written: {source}", path.display())]
    Io {
        /// The path given, or the folder that refuses.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl From<OutputError> for io::Error {
    fn from(error: OutputError) -> Self {
        let kind = match &error {
            OutputError::NoFolder { .. } => io::ErrorKind::NotFound,
            OutputError::Unusable { .. } => io::ErrorKind::InvalidInput,
            OutputError::NotOurs { .. } => io::ErrorKind::AlreadyExists,
            OutputError::Io { source, .. } => source.kind(),
        };
        Self::new(kind, error)
    }
}

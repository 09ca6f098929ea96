//! What can be wrong with a file.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use perennial_core::OutputError;
use thiserror::Error;

use crate::vector_set::VectorSetError;

/// A file that cannot be read or written. The message names the file and, where there is one, the line or the row.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The content of a file is not what its format demands.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The problem, its place and the remedy.
        problem: String,
    },
    /// The ending of an output names no format.
    #[error("{}: the ending says in which format to write; use one of {endings}", path.display())]
    Ending {
        /// The output.
        path: PathBuf,
        /// The endings that there are.
        endings: String,
    },
    /// A small file that would become large in memory.
    #[error(
        "{}: column `{column}` would take {} MiB of memory or more, and the limit for a file of this size is {} MiB; write it with smaller pages and row groups, or leave the column out",
        path.display(), bytes >> 20, limit >> 20
    )]
    Memory {
        /// The file.
        path: PathBuf,
        /// The column that goes beyond the limit.
        column: String,
        /// The memory of all columns up to there.
        bytes: u64,
        /// The most that there may be.
        limit: u64,
    },
    /// The format was left out when the program was built.
    #[error("{}: {format} files need a program that was built with `--features {feature}`", path.display())]
    Feature {
        /// The file.
        path: PathBuf,
        /// The name of the format.
        format: &'static str,
        /// The feature that adds it.
        feature: &'static str,
    },
    /// Vectors, ids and labels that do not belong together.
    #[error(transparent)]
    Set(#[from] VectorSetError),
    /// An output path that cannot be used.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The file could not be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl FormatError {
    pub(crate) fn file(path: &Path, problem: impl Display) -> Self {
        Self::File {
            path: path.to_owned(),
            problem: problem.to_string(),
        }
    }

    /// For errors of readers that do not know the file's name.
    pub(crate) fn reading(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |error| Self::file(path, format_args!("could not be read: {error}"))
    }
}

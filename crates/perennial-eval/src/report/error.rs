//! Why a report cannot be made, read or written.

use std::path::PathBuf;

use crate::{BootstrapError, ComparisonError, MatrixError};

/// The `schema_version` that this crate writes. Files may gain keys under the same number; a changed meaning raises it.
///
/// 1 (programs before 0.2) is read as well: there, a pair's `verdict` was the sign of its margin.
pub const SCHEMA_VERSION: u32 = 2;

/// Why a report cannot be made, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The file cannot be read or written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The file is not a compatibility report.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<ReportError>,
    },
    /// The text is not JSON, or a key is missing, misplaced or contradicts the others.
    #[error("not a compatibility report: {0}")]
    Json(#[from] serde_json::Error),
    /// Another schema.
    #[error(
        "key `schema_version` is {found}, this program reads {SCHEMA_VERSION}; use the program version that wrote the file, \
         or measure again"
    )]
    Schema {
        /// The version found.
        found: u32,
    },
    /// Parts do not fit together.
    #[error("key `{key}`: {reason}")]
    Content {
        /// Path of the key.
        key: String,
        /// What is wrong and what it should be.
        reason: String,
    },
    /// The accuracies are no matrix.
    #[error(transparent)]
    Matrix(#[from] MatrixError),
    /// The versions cannot be compared.
    #[error(transparent)]
    Comparison(#[from] ComparisonError),
    /// The metrics have no intervals.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
}

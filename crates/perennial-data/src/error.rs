//! Errors of reading sets and making batches.

use std::path::{Path, PathBuf};

/// Largest file, and largest decoded set, that the readers accept: 8 GiB.
pub(crate) const MAX_BYTES: u64 = 8 << 30;

/// A set could not be read or a batch could not be made. Every message names the file or value and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// An input or output error of the operating system.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },

    /// A file or folder that the set needs is not there.
    #[error("{path} does not exist; {remedy}", path = path.display())]
    Missing {
        /// What was looked for.
        path: PathBuf,
        /// How to get it.
        remedy: String,
    },

    /// The path names a folder, a pipe or a device.
    #[error("{path} is not a regular file; name the data file itself", path = path.display())]
    NotAFile {
        /// The path given.
        path: PathBuf,
    },

    /// The file, or what it would decode to, is larger than the readers accept.
    #[error("{path}: {bytes} bytes exceed the limit of {limit} bytes; split the set or check that this is the right file", path = path.display())]
    TooLarge {
        /// The file or folder.
        path: PathBuf,
        /// Size found, in bytes.
        bytes: u64,
        /// Size accepted, in bytes.
        limit: u64,
    },

    /// The memory for a set could not be allocated.
    #[error("{path}: no memory for {bytes} bytes; use a smaller set or a larger machine", path = path.display())]
    OutOfMemory {
        /// The file or folder.
        path: PathBuf,
        /// Bytes asked for.
        bytes: u64,
    },

    /// The file or folder is empty.
    #[error("{path} holds no records; the file is empty or was not written completely, fetch or copy it again", path = path.display())]
    Empty {
        /// The file or folder.
        path: PathBuf,
    },

    /// The file ends inside a record.
    #[error(
        "{path}: the record at byte {offset} has only {found} of {record_bytes} bytes; the file was cut or has another layout, fetch or copy it again",
        path = path.display()
    )]
    PartialRecord {
        /// The file.
        path: PathBuf,
        /// Where the incomplete record starts, in bytes.
        offset: u64,
        /// Bytes present of it.
        found: u64,
        /// Bytes of a whole record.
        record_bytes: u64,
    },

    /// A label that the set does not have.
    #[error(
        "{path}: label {label} at byte {offset} is out of range, the labels are 0..{classes}; the file is damaged or has another layout",
        path = path.display()
    )]
    LabelOutOfRange {
        /// The file.
        path: PathBuf,
        /// Where the label stands, in bytes.
        offset: u64,
        /// The label found.
        label: i64,
        /// Number of classes.
        classes: usize,
    },

    /// The file does not follow its format.
    #[error("{path}, byte {offset}: {problem}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where, in bytes.
        offset: u64,
        /// The problem and the remedy.
        problem: String,
    },

    /// An image could not be decoded.
    #[error("{path}: {source}; replace or remove the image", path = path.display())]
    Image {
        /// The image file.
        path: PathBuf,
        /// The decoder's complaint.
        source: perennial_encode::DecodeError,
    },

    /// The content of an image folder is not usable.
    #[error("{path}: {problem}", path = path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// The problem and the remedy.
        problem: String,
    },

    /// No set of this name.
    #[error("unknown data set `{name}`; known are {known}")]
    UnknownSet {
        /// The name given.
        name: String,
        /// The names that exist.
        known: String,
    },

    /// The set has no such split.
    #[error("data set `{set}` has no split `{split}`; it has {known}")]
    UnknownSplit {
        /// The set.
        set: String,
        /// The split asked for.
        split: String,
        /// The splits that exist.
        known: String,
    },

    /// Numbers that do not describe an image set, a preprocessing or a batch.
    #[error("{what}: {problem}")]
    Invalid {
        /// The set, configuration or batch.
        what: String,
        /// What is wrong.
        problem: String,
    },

    /// The thread that prepares batches panicked.
    #[error("the batch worker failed: {message}; this is a defect, please report it")]
    WorkerPanicked {
        /// The panic's message.
        message: String,
    },
}

impl DataError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn format(path: &Path, offset: u64, problem: impl Into<String>) -> Self {
        Self::Format {
            path: path.to_path_buf(),
            offset,
            problem: problem.into(),
        }
    }

    pub(crate) fn invalid(what: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid {
            what: what.into(),
            problem: problem.into(),
        }
    }
}

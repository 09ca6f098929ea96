//! Why a data set could not be fetched.

use std::path::{Path, PathBuf};

/// A data set could not be fetched. A partial download is kept unless its checksum proved it worthless.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The operating system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },

    /// The folder cannot take the files.
    #[error(transparent)]
    Folder(#[from] perennial_core::OutputError),

    /// A file has the name of the partial download and is none.
    #[error("{path} is no beginning of an archive; move it away or fetch into another folder, it is not overwritten", path = path.display())]
    NotAnArchive {
        /// The file.
        path: PathBuf,
    },

    /// An unpacked file could not be written; the cause names it.
    #[error("{0}; make room there and run the same command again")]
    Write(std::io::Error),

    /// The server could not be asked.
    #[error("{url}: {source}; check the network and run the same command again")]
    Request {
        /// The address.
        url: String,
        /// The cause.
        source: Box<ureq::Error>,
    },

    /// The server refused.
    #[error(
        "{url}: the server answers with status {status}; check the address, or try again later"
    )]
    Status {
        /// The address.
        url: String,
        /// HTTP status.
        status: u16,
    },

    /// The connection broke off.
    #[error(
        "{url}: the connection broke off after {received_bytes} bytes ({reason}); run the same command again to go on from there"
    )]
    Interrupted {
        /// The address.
        url: String,
        /// Bytes on disk.
        received_bytes: u64,
        /// What happened.
        reason: String,
    },

    /// The download is longer than the archive can be.
    #[error(
        "{url}: the download exceeds {limit} bytes and cannot be the right archive; check the address"
    )]
    TooLarge {
        /// The address.
        url: String,
        /// Bytes accepted.
        limit: u64,
    },

    /// The archive is not the one that was published.
    #[error(
        "{url}: the MD5 is {found} and should be {expected}; the download was deleted, check the address and run the same command again"
    )]
    Checksum {
        /// The address.
        url: String,
        /// The published sum.
        expected: String,
        /// The sum of what was received.
        found: String,
    },

    /// The archive does not hold what it should.
    #[error("{path}: {problem}", path = path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },

    /// Another file has the name of one that would be unpacked.
    #[error("{path} has {found} bytes and not the official {expected}; move it away or fetch into another folder, it is not overwritten", path = path.display())]
    InTheWay {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The official size in bytes.
        expected: u64,
    },

    /// Another process is downloading the same archive.
    #[error("{path} is in use; wait for the other download to end", path = path.display())]
    Busy {
        /// The partial download.
        path: PathBuf,
    },
}

impl FetchError {
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

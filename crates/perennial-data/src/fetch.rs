//! Downloading the official CIFAR archives.
//!
//! The archive goes to `NAME.tar.gz.partial` in the destination folder. An interrupted download is resumed, the archive's MD5
//! is checked before anything is unpacked, and only the expected files are written, each in one step. Files that are
//! already there are never overwritten.
//!
//! **Source**: <https://www.cs.toronto.edu/~kriz/cifar.html>, which publishes the MD5 sums.

mod download;
mod unpack;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use ureq::tls::TlsConfig;

/// Where the official archives are.
const OFFICIAL_URL: &str = "https://www.cs.toronto.edu/~kriz";

/// An archive that [`fetch`] can download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatasetArchive {
    /// CIFAR-10, 162 MiB to download, 176 MiB unpacked.
    Cifar10,
    /// CIFAR-100, 161 MiB to download, 176 MiB unpacked.
    Cifar100,
}

impl DatasetArchive {
    /// Every archive.
    pub const ALL: [Self; 2] = [Self::Cifar10, Self::Cifar100];

    /// Name of the data set, the one that [`open`](crate::open) uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
        }
    }

    /// The archive of a data set.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|archive| archive.name() == name)
    }

    /// What to download and what to expect in it.
    pub fn spec(self) -> ArchiveSpec {
        const MIB: u64 = 1 << 20;
        let batch = |name: &str| ArchiveFile {
            name: name.into(),
            size: FileSize::Exactly(30_730_000),
        };
        let text = |name: &str| ArchiveFile {
            name: name.into(),
            size: FileSize::AtMost(MIB),
        };
        match self {
            Self::Cifar10 => ArchiveSpec {
                archive: "cifar-10-binary.tar.gz".into(),
                md5: "c32a1d4ab5d03f1284b67883e8d87530".into(),
                max_archive_bytes: 256 * MIB,
                folder: "cifar-10-batches-bin".into(),
                files: (1..=5)
                    .map(|number| batch(&format!("data_batch_{number}.bin")))
                    .chain([
                        batch("test_batch.bin"),
                        text("batches.meta.txt"),
                        text("readme.html"),
                    ])
                    .collect(),
            },
            Self::Cifar100 => ArchiveSpec {
                archive: "cifar-100-binary.tar.gz".into(),
                md5: "03b5dce01913d631647c71ecec9e9cb8".into(),
                max_archive_bytes: 256 * MIB,
                folder: "cifar-100-binary".into(),
                files: vec![
                    ArchiveFile {
                        name: "train.bin".into(),
                        size: FileSize::Exactly(153_700_000),
                    },
                    ArchiveFile {
                        name: "test.bin".into(),
                        size: FileSize::Exactly(30_740_000),
                    },
                    text("coarse_label_names.txt"),
                    text("fine_label_names.txt"),
                ],
            },
        }
    }
}

/// A gzip-compressed tar archive to download: its name, its checksum and the files in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveSpec {
    /// File name below the base URL.
    pub archive: String,
    /// MD5 of the archive in lower-case hexadecimal.
    pub md5: String,
    /// Longest download accepted, in bytes.
    pub max_archive_bytes: u64,
    /// The one folder inside of the archive; its files go to a folder of this name in the destination.
    pub folder: String,
    /// The files to take from that folder; anything else in the archive is left there.
    pub files: Vec<ArchiveFile>,
}

/// A file inside of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveFile {
    /// Name without folders.
    pub name: String,
    /// Its size.
    pub size: FileSize,
}

/// How large a file of an archive is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSize {
    /// A data file: it must be in the archive, in this size.
    Exactly(u64),
    /// A text that comes with the data: up to this size, and not missed where it is absent.
    AtMost(u64),
}

impl FileSize {
    fn allows(self, bytes: u64) -> bool {
        match self {
            Self::Exactly(size) => bytes == size,
            Self::AtMost(limit) => bytes <= limit,
        }
    }

    fn limit(self) -> u64 {
        match self {
            Self::Exactly(bytes) | Self::AtMost(bytes) => bytes,
        }
    }
}

/// How far a download has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the archive on disk, those of earlier attempts included.
    pub received_bytes: u64,
    /// Size of the archive in bytes, where the server tells it.
    pub total_bytes: Option<u64>,
}

/// Result of [`fetch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Folder with the data files.
    pub folder: PathBuf,
    /// Whether every file was there before, so that nothing was downloaded.
    pub already_present: bool,
}

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
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

/// Downloads, verifies and unpacks a data set into a folder of its own below `destination`, which is created if it is missing.
///
/// `base_url` replaces the official address, for a mirror; `tls` says whose certificates are trusted. `progress` is called as bytes arrive. If every file is already there
/// in its official size, nothing is downloaded. Interrupt it at any time: the next call resumes.
///
/// **Errors**: [`FetchError`]; each says whether to run the command again.
pub fn fetch(
    archive: DatasetArchive,
    destination: &Path,
    base_url: Option<&str>,
    tls: Option<TlsConfig>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Fetched, FetchError> {
    fetch_archive(
        &archive.spec(),
        destination,
        base_url.unwrap_or(OFFICIAL_URL),
        tls,
        progress,
    )
}

/// Does the work of [`fetch`] for any archive.
///
/// **Errors**: [`FetchError`].
pub fn fetch_archive(
    spec: &ArchiveSpec,
    destination: &Path,
    base_url: &str,
    tls: Option<TlsConfig>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Fetched, FetchError> {
    let folder = destination.join(&spec.folder);
    if !folder.is_dir() {
        // A file in its place must be named before files are looked for in it.
        perennial_core::output::check_folder(&folder)?;
    }
    if unpack::missing_files(spec, &folder)?.is_empty() {
        return Ok(Fetched {
            folder,
            already_present: true,
        });
    }
    perennial_core::output::check_folder(&folder)?;
    std::fs::create_dir_all(destination).map_err(FetchError::io(destination))?;
    let url = format!("{}/{}", base_url.trim_end_matches('/'), spec.archive);
    let partial = download::download(spec, &url, destination, tls, progress)?;
    unpack::unpack(spec, partial.path(), &folder)?;
    partial.delete()?;
    Ok(Fetched {
        folder,
        already_present: false,
    })
}

//! Downloading the official CIFAR archives.
//!
//! The archive goes to `NAME.tar.gz.partial` in the destination folder. An interrupted download is resumed, the archive's MD5
//! is checked before anything is unpacked, and only the expected files are written, each in one step. Files that are
//! already there are never overwritten.
//!
//! **Source**: <https://www.cs.toronto.edu/~kriz/cifar.html>, which publishes the MD5 sums.

mod archive;
mod download;
mod error;
mod unpack;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use ureq::tls::TlsConfig;

pub use archive::{ArchiveFile, ArchiveSpec, DatasetArchive, FileSize};
pub use download::Progress;
pub use error::FetchError;

/// Where the official archives are.
const OFFICIAL_URL: &str = "https://www.cs.toronto.edu/~kriz";

/// Result of [`fetch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Folder with the data files.
    pub folder: PathBuf,
    /// Whether every file was there before, so that nothing was downloaded.
    pub already_present: bool,
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

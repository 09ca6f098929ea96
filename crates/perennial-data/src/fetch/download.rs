//! One file over HTTP, resumable, with its checksum.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use md5::{Digest, Md5};
use ureq::http::{HeaderMap, StatusCode, header};
use ureq::tls::TlsConfig;

use super::archive::ArchiveSpec;
use super::error::FetchError;
use crate::image_set::hexadecimal;

/// The most requests for one download.
const MAX_REQUESTS: u32 = 8;

/// The first bytes of every archive; a file with others is not a partial download.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Timeout for a server that sends nothing.
const SILENCE: Duration = Duration::from_secs(60);

/// How far a download has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the archive on disk, those of earlier attempts included.
    pub received_bytes: u64,
    /// Size of the archive in bytes, where the server tells it.
    pub total_bytes: Option<u64>,
}

/// Downloads the archive and verifies its MD5.
pub(super) fn download(
    spec: &ArchiveSpec,
    url: &str,
    destination: &Path,
    tls: Option<TlsConfig>,
    progress: &mut dyn FnMut(Progress),
) -> Result<PartialFile, FetchError> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .accept_encoding("identity")
        .tls_config(tls.unwrap_or_default())
        .user_agent(concat!("perennial/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(SILENCE))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .build()
        .into();
    let mut partial = PartialFile::open(destination.join(format!("{}.partial", spec.archive)))?;
    if partial.length > spec.max_archive_bytes {
        partial.restart()?;
    }
    match receive_all(&agent, spec, url, &mut partial, progress) {
        Ok(()) => Ok(partial),
        Err(error) => {
            if partial.length == 0 {
                partial.delete()?; // Nothing to go on from.
            }
            Err(error)
        }
    }
}

/// Requests the archive until it is complete, or until another request would not help.
fn receive_all(
    agent: &ureq::Agent,
    spec: &ArchiveSpec,
    url: &str,
    partial: &mut PartialFile,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), FetchError> {
    let mut resumed = partial.length > 0;
    for request in 1.. {
        // Also where an earlier run was stopped between the last byte and the unpacking.
        if partial.length > 0 && partial.md5() == spec.md5 {
            return partial
                .file
                .sync_all()
                .map_err(FetchError::io(&partial.path));
        }
        let before = partial.length;
        match receive(agent, spec, url, partial, progress) {
            Ok(Received::Everything) if partial.md5() == spec.md5 => {}
            // The partial file may be of another archive; a download from the start is not.
            Ok(Received::Everything) if resumed => {
                partial.restart()?;
                resumed = false;
            }
            Ok(Received::Everything) => {
                let found = partial.md5();
                partial.restart()?;
                return Err(FetchError::Checksum {
                    url: url.into(),
                    expected: spec.md5.clone(),
                    found,
                });
            }
            Ok(Received::WrongRange) if before > 0 => partial.restart()?,
            Ok(Received::WrongRange) => {
                return Err(FetchError::Status {
                    url: url.into(),
                    status: StatusCode::RANGE_NOT_SATISFIABLE.as_u16(),
                });
            }
            Err(FetchError::Interrupted { .. })
                if partial.length > before && request < MAX_REQUESTS =>
            {
                resumed = true
            }
            Err(error) => return Err(error),
        }
    }
    unreachable!("the loop has no end but its returns")
}

enum Received {
    Everything,
    /// The server has no such range of the file: the file on disk cannot be its beginning.
    WrongRange,
}

/// Requests the missing bytes once and appends the answer.
fn receive(
    agent: &ureq::Agent,
    spec: &ArchiveSpec,
    url: &str,
    partial: &mut PartialFile,
    progress: &mut dyn FnMut(Progress),
) -> Result<Received, FetchError> {
    let mut request = agent.get(url);
    if partial.length > 0 {
        request = request.header(header::RANGE, format!("bytes={}-", partial.length));
    }
    let response = request.call().map_err(|source| FetchError::Request {
        url: url.into(),
        source: Box::new(source),
    })?;
    let total = match response.status() {
        StatusCode::OK => {
            if partial.length > 0 {
                partial.restart()?; // The server does not know ranges and sends the whole file.
            }
            header_text(response.headers(), header::CONTENT_LENGTH)
                .and_then(|length| length.parse().ok())
        }
        StatusCode::PARTIAL_CONTENT => {
            let range = header_text(response.headers(), header::CONTENT_RANGE)
                .and_then(parse_content_range);
            match range {
                Some((start, total)) if start == partial.length => total,
                _ => return Ok(Received::WrongRange),
            }
        }
        StatusCode::RANGE_NOT_SATISFIABLE => return Ok(Received::WrongRange),
        status => {
            return Err(FetchError::Status {
                url: url.into(),
                status: status.as_u16(),
            });
        }
    };
    let too_large = || FetchError::TooLarge {
        url: url.into(),
        limit: spec.max_archive_bytes,
    };
    if total.is_some_and(|total| total > spec.max_archive_bytes) {
        return Err(too_large());
    }
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    let interrupted = |received_bytes, reason| FetchError::Interrupted {
        url: url.into(),
        received_bytes,
        reason,
    };
    progress(Progress {
        received_bytes: partial.length,
        total_bytes: total,
    });
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => return Err(interrupted(partial.length, error.to_string())),
        };
        if partial.length + count as u64 > spec.max_archive_bytes {
            return Err(too_large());
        }
        partial.append(&buffer[..count])?;
        progress(Progress {
            received_bytes: partial.length,
            total_bytes: total,
        });
    }
    match total {
        Some(total) if partial.length < total => Err(interrupted(
            partial.length,
            format!("{total} bytes were announced"),
        )),
        _ => Ok(Received::Everything),
    }
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// First byte and, where known, size of the whole file from `bytes FIRST-LAST/SIZE`.
fn parse_content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = text
        .trim()
        .strip_prefix("bytes")?
        .trim_start()
        .split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, size.trim().parse().ok()))
}

/// A partial download: locked against other processes, with the checksum of what it holds.
pub(super) struct PartialFile {
    path: PathBuf,
    file: File,
    hasher: Md5,
    length: u64,
}

impl PartialFile {
    fn open(path: PathBuf) -> Result<Self, FetchError> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(FetchError::io(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FetchError::Busy { path }),
            Err(TryLockError::Error(error)) => return Err(FetchError::io(&path)(error)),
        }
        let mut partial = Self {
            path,
            file,
            hasher: Md5::new(),
            length: 0,
        };
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = partial
                .file
                .read(&mut buffer)
                .map_err(FetchError::io(&partial.path))?;
            let compared = count.min(GZIP_MAGIC.len());
            if partial.length == 0 && buffer[..compared] != GZIP_MAGIC[..compared] {
                return Err(FetchError::NotAnArchive { path: partial.path });
            }
            if count == 0 {
                return Ok(partial);
            }
            partial.hasher.update(&buffer[..count]);
            partial.length += count as u64;
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn md5(&self) -> String {
        hexadecimal(&self.hasher.clone().finalize())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.file
            .write_all(bytes)
            .map_err(FetchError::io(&self.path))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), FetchError> {
        self.file.set_len(0).map_err(FetchError::io(&self.path))?;
        self.file
            .seek(SeekFrom::Start(0))
            .map_err(FetchError::io(&self.path))?;
        self.hasher = Md5::new();
        self.length = 0;
        Ok(())
    }

    pub(super) fn delete(self) -> Result<(), FetchError> {
        std::fs::remove_file(&self.path).map_err(FetchError::io(&self.path))
    }
}

//! What an output path names, at the end of all links.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::error::OutputError;

/// What a `-` for standard output stands for.
pub(super) const STDOUT: &str = "/dev/stdout";

/// Other names of standard output.
const STDOUT_NAMES: [&str; 2] = ["/dev/fd/1", "/proc/self/fd/1"];
/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

#[derive(Debug)]
pub(super) enum Target {
    /// A regular file, there or not, at the end of all links.
    File {
        path: PathBuf,
        replaced: Option<Metadata>,
    },
    /// Something that takes bytes as they come, held open so that a pipe's reader waits.
    Stream(File),
    Stdout,
}

impl Target {
    pub(super) fn of(path: &Path) -> Result<Self, OutputError> {
        let unusable = |problem: &str| OutputError::Unusable {
            path: path.to_owned(),
            problem: problem.to_owned(),
        };
        let io_error = |source| OutputError::Io {
            path: path.to_owned(),
            source,
        };
        if path.as_os_str().is_empty() {
            return Err(unusable("an empty path; name a file"));
        }
        if path.file_name().is_none() {
            return Err(unusable("is a folder; name a file"));
        }
        if path == Path::new(STDOUT) || STDOUT_NAMES.iter().any(|name| path == Path::new(name)) {
            return Ok(Self::Stdout);
        }
        let end = follow_links(path).map_err(io_error)?;
        if is_descriptor(&end) {
            return open_stream(&end).map(Self::Stream).map_err(io_error);
        }
        // A name that ends in a slash can only be a folder's.
        let folder_name = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        match std::fs::metadata(&end) {
            Ok(found) if found.is_dir() => Err(unusable("is a folder; name a file")),
            Ok(found) if found.is_file() => {
                require_writable(&end).map_err(io_error)?;
                Ok(Self::File {
                    path: end,
                    replaced: Some(found),
                })
            }
            Ok(found) => Self::special(&end, &found, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = folder_of(&end);
                if !folder.is_dir() {
                    return Err(OutputError::NoFolder {
                        path: path.to_owned(),
                        folder: folder.to_owned(),
                    });
                }
                if folder_name {
                    return Err(unusable("names a folder; name a file"));
                }
                Ok(Self::File {
                    path: end,
                    replaced: None,
                })
            }
            Err(error) => Err(io_error(error)),
        }
    }

    #[cfg(unix)]
    fn special(end: &Path, found: &Metadata, shown: &Path) -> Result<Self, OutputError> {
        use rustix::io::Errno;
        use std::os::unix::fs::FileTypeExt;
        use std::time::{Duration, Instant};

        /// How long to wait for a pipe's reader.
        const READER_WAIT: Duration = Duration::from_secs(2);

        let kind = found.file_type();
        let unusable = |problem: &str| OutputError::Unusable {
            path: shown.to_owned(),
            problem: problem.to_owned(),
        };
        if kind.is_block_device() {
            return Err(unusable(
                "is a block device, and writing would destroy what is on it; name a file",
            ));
        }
        if kind.is_socket() {
            return Err(unusable("is a socket; name a file, a pipe or a device"));
        }
        let begun = Instant::now();
        loop {
            return match open_stream(end) {
                Ok(file) => Ok(Self::Stream(file)),
                Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
                    // A reader that was started just before needs a moment.
                    if begun.elapsed() < READER_WAIT {
                        std::thread::sleep(READER_WAIT / 50);
                        continue;
                    }
                    Err(unusable(
                        "is a pipe without a reader; start the reader first",
                    ))
                }
                Err(source) => Err(OutputError::Io {
                    path: shown.to_owned(),
                    source,
                }),
            };
        }
    }

    #[cfg(not(unix))]
    fn special(_end: &Path, _found: &Metadata, shown: &Path) -> Result<Self, OutputError> {
        Err(OutputError::Unusable {
            path: shown.to_owned(),
            problem: "is not a regular file; name a file".to_owned(),
        })
    }
}

pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The end of a chain of links, which need not exist. Stops at an open file of a process, which is not a real link.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut at = path.to_owned();
    for _ in 0..MAX_LINKS {
        if is_descriptor(&at) {
            return Ok(at);
        }
        match std::fs::symlink_metadata(&at) {
            Ok(found) if found.is_symlink() => {
                // An absolute target takes the place of the whole path.
                at = folder_of(&at).join(std::fs::read_link(&at)?);
            }
            _ => return Ok(at),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

/// Whether a path names an open file of a process: `/dev/fd/63` and `/proc/self/fd/63`, as shells pass for `>(command)`.
fn is_descriptor(path: &Path) -> bool {
    let in_process = path.starts_with("/proc") && folder_of(path).ends_with("fd");
    path.starts_with("/dev/fd") || in_process
}

#[cfg(unix)]
fn require_writable(path: &Path) -> io::Result<()> {
    // A rename would get around a write protection that only concerns the file.
    Ok(rustix::fs::access(path, rustix::fs::Access::WRITE_OK)?)
}

#[cfg(not(unix))]
fn require_writable(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path)?.permissions().readonly() {
        true => Err(io::ErrorKind::PermissionDenied.into()),
        false => Ok(()),
    }
}

/// Opens a device or pipe without waiting for a pipe's reader; writing then waits as usual.
#[cfg(unix)]
fn open_stream(path: &Path) -> io::Result<File> {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    use std::os::unix::fs::OpenOptionsExt;
    let file = File::options()
        .write(true)
        .truncate(true)
        .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32)
        .open(path)?;
    let flags = fcntl_getfl(&file)?;
    fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    Ok(file)
}

#[cfg(not(unix))]
fn open_stream(path: &Path) -> io::Result<File> {
    File::options().write(true).open(path)
}

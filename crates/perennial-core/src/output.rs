//! Output paths: checked before the work begins, written when the result is ready.
//!
//! [`Output::prepare`] refuses a path at once, not after hours of work, if it cannot be written: a folder that is missing or
//! write-protected, a folder in the place of a file, a file of another program. [`Output::commit`] then replaces a
//! file in one step, or writes to a device or pipe as it is.
//!
//! | what the path names | what happens |
//! |---|---|
//! | nothing, or a regular file | replaced by a temporary file in the same folder, with the old file's mode and owner |
//! | a symbolic link | followed, also where its target does not exist yet; the link stays |
//! | a character device, a pipe with a reader, `/dev/fd/N` | written to; never replaced |
//! | `-`, `/dev/stdout` | standard output |
//! | a pipe without a reader, a socket, a block device, a folder | refused |

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::atomic::temporary_file;

mod file;

pub use file::OutputFile;

/// What a `-` for standard output stands for.
const STDOUT: &str = "/dev/stdout";
/// Other names of standard output.
const STDOUT_NAMES: [&str; 2] = ["/dev/fd/1", "/proc/self/fd/1"];
/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;
/// Bytes of an existing file that are read to recognise its kind.
const HEAD_BYTES: u64 = 4096;
/// How long to wait for a pipe's reader.
const READER_WAIT: Duration = Duration::from_secs(2);

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

/// A kind of file, and how an existing file of this kind is recognised.
#[derive(Clone, Copy, Debug)]
pub struct FileKind {
    /// With its article, such as "an embeddings file".
    pub name: &'static str,
    /// Whether the first bytes of a file, up to 4 KiB, are those of this kind.
    pub recognise: fn(&[u8]) -> bool,
}

/// A place for one result, checked and ready to be written. Dropping it writes nothing.
#[derive(Debug)]
pub struct Output {
    shown: PathBuf,
    target: Target,
}

#[derive(Debug)]
enum Target {
    /// A regular file, there or not, at the end of all links.
    File {
        path: PathBuf,
        replaced: Option<Metadata>,
    },
    /// Something that takes bytes as they come, held open so that a pipe's reader waits.
    Stream(File),
    Stdout,
}

impl Output {
    /// Checks a path that the user named, where `-` is standard output.
    ///
    /// # Errors
    /// [`OutputError`]: any problem that can be detected before the work.
    pub fn prepare(path: impl Into<PathBuf>) -> Result<Self, OutputError> {
        let path = path.into();
        if path == Path::new("-") {
            return Ok(Self {
                shown: path,
                target: Target::Stdout,
            });
        }
        let output = Self::at(path)?;
        if let Target::File { path, .. } = &output.target {
            probe(folder_of(path)).map_err(|source| OutputError::Io {
                path: output.shown.clone(),
                source,
            })?;
        }
        Ok(output)
    }

    /// [`prepare`](Self::prepare), which also refuses to replace a file of another kind. An empty file may be replaced.
    ///
    /// # Errors
    /// [`OutputError::NotOurs`], and those of [`prepare`](Self::prepare).
    pub fn prepare_kind(path: impl Into<PathBuf>, kind: FileKind) -> Result<Self, OutputError> {
        let output = Self::prepare(path)?;
        output.require(kind)?;
        Ok(output)
    }

    /// The checks that cost nothing, for files that are written at once.
    pub(crate) fn at(path: PathBuf) -> Result<Self, OutputError> {
        let target = Target::of(&path)?;
        Ok(Self {
            shown: path,
            target,
        })
    }

    /// The path as it was given; for `-` the device that stands for standard output.
    pub fn path(&self) -> &Path {
        if self.shown == Path::new("-") {
            Path::new(STDOUT)
        } else {
            &self.shown
        }
    }

    /// Whether the result goes to standard output. If so, print nothing else there.
    pub fn is_stdout(&self) -> bool {
        matches!(self.target, Target::Stdout)
    }

    /// Refuses to replace a file that is not of this kind.
    fn require(&self, kind: FileKind) -> Result<(), OutputError> {
        let Target::File {
            path,
            replaced: Some(metadata),
        } = &self.target
        else {
            return Ok(());
        };
        let mut head = Vec::new();
        File::open(path)
            .and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head))
            .map_err(|source| OutputError::Io {
                path: self.shown.clone(),
                source,
            })?;
        if metadata.len() == 0 || (kind.recognise)(&head) {
            return Ok(());
        }
        Err(OutputError::NotOurs {
            path: self.shown.clone(),
            expected: kind.name,
        })
    }

    /// Writes the result.
    ///
    /// # Errors
    /// The error names the path. A file that was there keeps its content then, and no temporary file stays behind.
    pub fn commit(self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.commit_with(|file| file.write_all(bytes.as_ref()))
    }

    /// Writes a result that is produced piece by piece.
    ///
    /// # Errors
    /// Those of [`commit`](Self::commit), and whatever `write` returns.
    pub fn commit_with(
        self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut file = self.begin()?;
        write(&mut file).map_err(|error| file.name_error(error))?;
        file.finish()
    }

    /// Starts a result whose pieces come from several calls. Nothing takes the path's name before
    /// [`finish`](OutputFile::finish).
    ///
    /// # Errors
    /// A temporary file cannot be made in the path's folder.
    pub fn begin(self) -> io::Result<OutputFile> {
        OutputFile::new(self.shown, self.target)
    }
}

impl Target {
    fn of(path: &Path) -> Result<Self, OutputError> {
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

/// Checks that files can be written into a folder, which may be missing as long as it can be made: nothing is made yet.
///
/// # Errors
/// [`OutputError`] for a path that is not a folder's, or a folder without the right to write.
pub fn check_folder(folder: &Path) -> Result<(), OutputError> {
    let mut nearest = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    loop {
        match std::fs::symlink_metadata(nearest) {
            Ok(_) if nearest.is_dir() => break,
            Ok(_) => {
                let what = if nearest == folder { "" } else { " on the way" };
                return Err(OutputError::Unusable {
                    path: folder.to_owned(),
                    problem: format!("{}{what} is not a folder; name another", nearest.display()),
                });
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                nearest = folder_of(nearest);
            }
            Err(source) => {
                return Err(OutputError::Io {
                    path: folder.to_owned(),
                    source,
                });
            }
        }
    }
    probe(nearest).map_err(|source| OutputError::Io {
        path: nearest.to_owned(),
        source,
    })
}

/// Makes a folder and whatever is missing above it. Returns the folders that are new, outermost first, so that they can
/// be taken back.
///
/// # Errors
/// The error names the folder that could not be made.
pub fn make_folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut missing = Vec::new();
    let mut at = folder;
    while !at.as_os_str().is_empty() && !at.exists() {
        missing.push(at.to_owned());
        match at.parent() {
            Some(parent) => at = parent,
            None => break,
        }
    }
    fs_err::create_dir_all(folder)?;
    missing.reverse();
    Ok(missing)
}

fn folder_of(path: &Path) -> &Path {
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

/// Whether a file may be made in a folder, found out by making one.
fn probe(folder: &Path) -> io::Result<()> {
    temporary_file(folder)?.close()
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

/// Gives the new file the mode of the one that it replaces and, where that is allowed, the owner.
#[cfg(unix)]
fn keep_access(file: &File, replaced: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (replaced.uid(), replaced.gid()) {
        // Only a privileged user may give files away; for others the new file is theirs.
        let _ = fchown(file, Some(replaced.uid()), Some(replaced.gid()));
    }
    let mode = replaced.permissions().mode() & 0o777;
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn keep_access(_file: &File, _replaced: &Metadata) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests;

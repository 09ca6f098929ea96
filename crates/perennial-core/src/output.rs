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

mod error;
mod file;
mod target;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::durable::temporary_file;
use target::{STDOUT, Target, folder_of};

pub use error::OutputError;
pub use file::OutputFile;

/// Bytes of an existing file that are read to recognise its kind.
const HEAD_BYTES: u64 = 4096;
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

    /// The regular file that the result becomes, there or not, at the end of all links; `None` for a device, a pipe and standard output.
    pub fn file(&self) -> Option<&Path> {
        match &self.target {
            Target::File { path, .. } => Some(path),
            Target::Stream(_) | Target::Stdout => None,
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

/// Whether a file may be made in a folder, found out by making one.
fn probe(folder: &Path) -> io::Result<()> {
    temporary_file(folder)?.close()
}

#[cfg(test)]
mod tests;

//! An output that is being written.

use std::fs::{File, Metadata};
use std::io::{self, BufWriter, Stdout, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::target::{Target, folder_of};
use crate::durable::{sync_folder, temporary_file};

const BUFFER_BYTES: usize = 1 << 18;

/// A result that is being written, piece by piece. Dropping it before [`finish`](Self::finish) leaves what was at the path as it was;
/// what a device or a pipe has taken cannot be taken back.
#[derive(Debug)]
pub struct OutputFile {
    shown: PathBuf,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    File {
        temporary: BufWriter<NamedTempFile>,
        path: PathBuf,
        replaced: Option<Box<Metadata>>,
    },
    Stream(BufWriter<File>),
    Stdout(BufWriter<Stdout>),
}

impl OutputFile {
    pub(super) fn new(shown: PathBuf, target: Target) -> io::Result<Self> {
        let sink = match target {
            Target::File { path, replaced } => {
                temporary_file(folder_of(&path)).map(|file| Sink::File {
                    temporary: BufWriter::with_capacity(BUFFER_BYTES, file),
                    path,
                    replaced: replaced.map(Box::new),
                })
            }
            Target::Stream(file) => Ok(Sink::Stream(BufWriter::with_capacity(BUFFER_BYTES, file))),
            Target::Stdout => Ok(Sink::Stdout(BufWriter::with_capacity(
                BUFFER_BYTES,
                io::stdout(),
            ))),
        };
        match sink {
            Ok(sink) => Ok(Self { shown, sink }),
            Err(error) => Err(name_error(&shown, error)),
        }
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.shown
    }

    /// A nameless file for parts whose place in the result is not known yet. It lies on the disk that the result goes to, where there
    /// is one, and is gone when it is dropped.
    ///
    /// # Errors
    /// The file cannot be made; the error names the path of the result.
    pub fn scratch(&self) -> io::Result<File> {
        let made = match &self.sink {
            Sink::File { path, .. } => tempfile::tempfile_in(folder_of(path)),
            Sink::Stream(_) | Sink::Stdout(_) => tempfile::tempfile(),
        };
        made.map_err(|error| self.name_error(error))
    }

    /// Makes what was written the result: the file is flushed to the disk and takes the path's name in one step.
    ///
    /// # Errors
    /// The error names the path. A file that was there keeps its content then, and no temporary file stays behind.
    pub fn finish(self) -> io::Result<()> {
        let shown = self.shown;
        let finished = match self.sink {
            Sink::File {
                temporary,
                path,
                replaced,
            } => replace(temporary, &path, replaced.as_deref()),
            Sink::Stream(mut file) => file.flush(),
            Sink::Stdout(mut file) => file.flush(),
        };
        finished.map_err(|error| name_error(&shown, error))
    }

    pub(super) fn name_error(&self, error: io::Error) -> io::Error {
        name_error(&self.shown, error)
    }
}

/// Errors name the path, which the system's do not.
impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.sink {
            Sink::File { temporary, .. } => temporary.write(bytes),
            Sink::Stream(file) => file.write(bytes),
            Sink::Stdout(file) => file.write(bytes),
        };
        written.map_err(|error| name_error(&self.shown, error))
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = match &mut self.sink {
            Sink::File { temporary, .. } => temporary.flush(),
            Sink::Stream(file) => file.flush(),
            Sink::Stdout(file) => file.flush(),
        };
        flushed.map_err(|error| name_error(&self.shown, error))
    }
}

/// An error that names the output it is about.
#[derive(Debug, thiserror::Error)]
#[error("could not write {}: {source}", shown.display())]
struct Named {
    shown: PathBuf,
    source: io::Error,
}

/// Adds the name once, however many callers an error passes through. An interruption is left alone, because writers try again then.
fn name_error(shown: &Path, source: io::Error) -> io::Error {
    let named = source.get_ref().is_some_and(|inner| inner.is::<Named>());
    if named || source.kind() == io::ErrorKind::Interrupted {
        return source;
    }
    io::Error::new(
        source.kind(),
        Named {
            shown: shown.to_owned(),
            source,
        },
    )
}

/// Replaces or creates a regular file in one step.
fn replace(
    temporary: BufWriter<NamedTempFile>,
    path: &Path,
    replaced: Option<&Metadata>,
) -> io::Result<()> {
    let temporary = temporary
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    if let Some(replaced) = replaced {
        keep_access(temporary.as_file(), replaced)?;
    }
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    sync_folder(folder_of(path))
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

//! An exclusive lock for writers, across threads and processes.

use std::fs::File;
use std::io;
use std::path::Path;

/// Waits for other writers. The lock ends with the file handle, so a crash cannot leave it behind.
///
/// # Errors
/// The error names `path`: it cannot be created or locked.
pub(crate) fn lock(path: &Path) -> io::Result<File> {
    let open = || {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        file.lock()?;
        Ok(file)
    };
    open().map_err(|error: io::Error| {
        let message = format!("could not lock {}: {error}", path.display());
        io::Error::new(error.kind(), message)
    })
}

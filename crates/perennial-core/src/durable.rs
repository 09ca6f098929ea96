//! What survives a crash or a power cut: files that are flushed, and the folder entries that name them.

use std::io::{self, Write};
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

/// A file that takes its place by a rename within the same folder, when it is complete.
pub(crate) fn temporary_file(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(".partial-");
    // Temporary files are private by default; the final file follows the umask as any other new file does.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

/// Flushes a folder's entries, without which a rename may not survive a power cut.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

/// Folders cannot be opened for flushing here; the file system orders the rename itself.
#[cfg(not(unix))]
pub(crate) fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// Gives a file another name, in place of any file that has it, so that this survives a power cut.
///
/// # Errors
/// What the system says, with the paths.
pub fn move_durably(from: &Path, to: &Path) -> io::Result<()> {
    fs_err::rename(from, to)?;
    for folder in [from, to].map(Path::parent) {
        if let Some(folder) = folder.filter(|folder| !folder.as_os_str().is_empty()) {
            sync_folder(folder)?;
        }
    }
    Ok(())
}

/// Removes a file so that this survives a power cut.
///
/// # Errors
/// What the system says, with the path.
pub fn remove_durably(path: &Path) -> io::Result<()> {
    fs_err::remove_file(path)?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => sync_folder(folder),
        _ => sync_folder(Path::new(".")),
    }
}

/// Writes and flushes a file that must not exist yet, inside a private folder.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs_err::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

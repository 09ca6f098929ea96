//! What survives a crash or a power cut: files that are flushed, and the folder entries that name them.

use std::io::{self, Write};
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

/// What the names of files begin with that are not complete yet; random characters follow.
const PARTIAL_PREFIX: &str = ".partial-";

/// A file that takes its place by a rename within the same folder, when it is complete.
pub(crate) fn temporary_file(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(PARTIAL_PREFIX);
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

/// Removes the files in a folder that a killed process had not completed. Only for a folder that nobody else writes to meanwhile, such as one under a
/// lock. What cannot be removed stays: it costs space, but does no harm.
pub fn remove_partial_files(folder: &Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let random = name.to_string_lossy();
        let random = random.strip_prefix(PARTIAL_PREFIX).unwrap_or_default();
        // A folder of that name, or one with more after a second dash, is something else.
        let is_ours = !random.is_empty() && random.chars().all(|c| c.is_ascii_alphanumeric());
        if is_ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let _ = std::fs::remove_file(entry.path());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_files_go_and_everything_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let abandoned = temporary_file(folder.path()).unwrap().keep().unwrap().1;
        assert!(abandoned.exists());
        for file in [
            "latest.safetensors",
            ".partial-",
            ".partial-bridge-7",
            ".lock",
        ] {
            std::fs::write(folder.path().join(file), "kept").unwrap();
        }
        std::fs::create_dir(folder.path().join(".partial-a1b2c3")).unwrap();
        remove_partial_files(folder.path());
        remove_partial_files(&folder.path().join("missing"));
        let entries = std::fs::read_dir(folder.path()).unwrap();
        let mut left: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let kept = [".lock", ".partial-", ".partial-a1b2c3", ".partial-bridge-7"];
        assert_eq!(left, [&kept[..], &["latest.safetensors"]].concat());
    }
}

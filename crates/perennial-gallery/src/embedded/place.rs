//! The file at the database's path, and its atomic replacement.
//!
//! A database is never made at its own path: it is made beside it, completely, and then renamed. So a file of 0 bytes, or one
//! without tables, is never the beginning of a gallery but what is left of one.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::error::GalleryError;

pub(super) const FILE_NAME: &str = "gallery.redb";
/// What the copy of a compaction is called until it takes the database's place.
const COPY_SUFFIX: &str = "compacting";
/// What the name of a new database begins with until it is complete, behind the database's own name.
const NEW_SUFFIX: &str = "creating-";

/// The file behind a database's path, links followed; `None` where nothing is there.
///
/// # Errors
/// [`GalleryError::NotAGallery`], [`GalleryError::Corrupt`] for an empty file, or what the system says.
pub(super) fn look(path: &Path) -> Result<Option<PathBuf>, GalleryError> {
    let not_a_gallery = |problem: &str| GalleryError::NotAGallery {
        path: path.to_owned(),
        problem: problem.to_owned(),
    };
    match path.symlink_metadata() {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(system(path, error)),
    }
    let file = match path.canonicalize() {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(not_a_gallery("it is a symbolic link to a missing file"));
        }
        Err(error) => return Err(system(path, error)),
    };
    let metadata = file.metadata().map_err(|error| system(path, error))?;
    if metadata.is_dir() {
        return Err(not_a_gallery("it is a folder"));
    }
    if !metadata.is_file() {
        return Err(not_a_gallery("it is not a regular file"));
    }
    if metadata.len() == 0 {
        return Err(GalleryError::Corrupt {
            path: path.to_owned(),
            problem: "the file has 0 bytes; even a gallery without items is larger".to_owned(),
        });
    }
    Ok(Some(file))
}

/// A new file beside a path, for a database that is not complete yet. It is removed when it is dropped.
pub(super) fn new_file(path: &Path) -> io::Result<(File, TempPath)> {
    let (folder, name) = split(path);
    let mut builder = tempfile::Builder::new();
    let prefix = format!("{name}.{NEW_SUFFIX}");
    builder.prefix(&prefix);
    // As any other new file, not private as temporary files are.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    Ok(builder.tempfile_in(folder)?.into_parts())
}

/// Gives a complete new file its name, unless another process was faster: then that one's file stays.
pub(super) fn publish(new: TempPath, path: &Path) -> io::Result<()> {
    match new.persist_noclobber(path) {
        Ok(()) => sync_folder(path),
        Err(_) if path.symlink_metadata().is_ok() => Ok(()),
        Err(error) => Err(error.error),
    }
}

/// The file of a compaction beside the database, open and empty. Only the process that holds the database may call this.
pub(super) fn copy_file(path: &Path) -> io::Result<(File, TempPath)> {
    let (folder, name) = split(path);
    let copy = folder.join(format!("{name}.{COPY_SUFFIX}"));
    match std::fs::remove_file(&copy) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    if let Ok(metadata) = path.metadata() {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        // Keep the permissions of the gallery's file.
        options.mode(metadata.permissions().mode() & 0o7777);
    }
    let file = options.open(&copy)?;
    let temporary = TempPath::try_from_path(copy)?;
    #[cfg(unix)]
    if let Ok(metadata) = path.metadata() {
        file.set_permissions(metadata.permissions())?;
    }
    Ok((file, temporary))
}

/// Removes files that killed processes left beside the database. Only the process that holds it may call this.
pub(super) fn remove_leftovers(path: &Path) {
    let (folder, name) = split(path);
    let Ok(entries) = folder.read_dir() else {
        return;
    };
    for entry in entries.flatten() {
        let found = entry.file_name();
        let rest = found
            .to_str()
            .and_then(|found| found.strip_prefix(name.as_str())?.strip_prefix('.'));
        if rest.is_some_and(|rest| rest == COPY_SUFFIX || rest.starts_with(NEW_SUFFIX))
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::warn!(file = %entry.path().display(), %error, "a file that a killed process left cannot be removed");
        }
    }
}

/// Whether an open file is still the one at a path: a compaction may have put another one there in the meantime, and what is
/// written to the old one would be lost.
#[cfg(unix)]
pub(super) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (open, there) = (file.metadata()?, path.metadata()?);
    Ok((open.dev(), open.ino()) == (there.dev(), there.ino()))
}

/// An open file cannot be replaced here.
#[cfg(not(unix))]
pub(super) fn is_at(_file: &File, _path: &Path) -> io::Result<bool> {
    Ok(true)
}

/// Makes a rename in a file's folder durable.
#[cfg(unix)]
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(split(path).0)?.sync_all()
}

/// The file system orders renames itself here.
#[cfg(not(unix))]
pub(super) fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Bytes that this process may still write where a file lies; `None` where the system does not tell.
#[cfg(target_os = "linux")]
pub(super) fn free_space(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(split(path).0).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn free_space(_path: &Path) -> Option<u64> {
    None
}

/// What the system says about a database, by what can be done about it.
pub(super) fn system(path: &Path, error: io::Error) -> GalleryError {
    let (path, problem) = (path.to_owned(), error.to_string());
    match error.kind() {
        io::ErrorKind::NotFound => GalleryError::Missing { path },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            GalleryError::NotWritable { path, problem }
        }
        _ => GalleryError::Storage { path, problem },
    }
}

fn split(path: &Path) -> (&Path, String) {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().unwrap_or_default();
    (folder, name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_database_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        assert!(look(&path).unwrap().is_none());
        std::fs::write(&path, "").unwrap();
        let error = look(&path).unwrap_err();
        assert!(matches!(error, GalleryError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(FILE_NAME) && error.to_string().contains("snapshot"));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let error = look(&path).unwrap_err().to_string();
        assert!(error.contains("folder"), "{error}");
        std::fs::remove_dir(&path).unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("nowhere", &path).unwrap();
            let error = look(&path).unwrap_err().to_string();
            assert!(error.contains("symbolic link"), "{error}");
            std::fs::write(folder.path().join("nowhere"), "x").unwrap();
            let found = look(&path).unwrap().unwrap();
            assert_eq!(found.file_name().unwrap(), "nowhere");
        }
    }

    #[test]
    fn leftovers_go_and_other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let kept = [
            FILE_NAME,
            "gallery.redb.bak",
            "gallery.redbcreating-1",
            "hnsw.json",
        ];
        for name in kept {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        for name in ["gallery.redb.compacting", "gallery.redb.creating-abc"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        remove_leftovers(&path);
        let mut left: Vec<String> = folder
            .path()
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut kept = kept.to_vec();
        kept.sort_unstable();
        assert_eq!(left, kept);
    }

    #[test]
    fn the_first_of_two_new_databases_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let (_, first) = new_file(&path).unwrap();
        let (_, second) = new_file(&path).unwrap();
        std::fs::write(&first, "first").unwrap();
        std::fs::write(&second, "second").unwrap();
        publish(first, &path).unwrap();
        publish(second, &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_was_replaced_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        std::fs::write(&path, "old").unwrap();
        let old = File::open(&path).unwrap();
        assert!(is_at(&old, &path).unwrap());
        let (_, copy) = copy_file(&path).unwrap();
        copy.persist(&path).unwrap();
        assert!(!is_at(&old, &path).unwrap());
    }
}

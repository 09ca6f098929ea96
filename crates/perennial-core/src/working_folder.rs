//! Folders for work that is under way. One that a killed process left can be told from one in use, and is removed by the next process that makes one.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::Builder;

/// The file in a working folder that its process keeps locked. The lock ends with the process, however that ends.
const MARK: &str = ".in-use";
/// Tries to make a folder that nobody takes for a leftover before it is locked.
const TRIES: usize = 16;

/// A new folder that is removed with this value.
#[derive(Debug)]
pub struct WorkingFolder {
    path: PathBuf,
    mark: Option<File>,
}

impl WorkingFolder {
    /// Makes a folder in `parent` whose name begins with `prefix`, and removes those of processes that ended without removing theirs.
    ///
    /// # Errors
    /// The folder cannot be made. That a leftover cannot be removed is no error.
    pub fn create(parent: &Path, prefix: &str) -> io::Result<Self> {
        Self::remove_abandoned(parent, prefix);
        for _ in 0..TRIES {
            let mut builder = Builder::new();
            builder.prefix(prefix);
            // Like any other new folder, by the umask: it may be renamed to stay.
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                builder.permissions(std::fs::Permissions::from_mode(0o777));
            }
            let folder = builder.tempdir_in(parent)?;
            let mark = fs_err::File::create_new(folder.path().join(MARK))?;
            if let Some(mark) = hold(mark)? {
                return Ok(Self {
                    path: folder.keep(),
                    mark: Some(mark),
                });
            }
        }
        Err(io::Error::other(format!(
            "could not make a folder in {}: others remove it at once",
            parent.display()
        )))
    }

    /// Removes the working folders in `parent` whose process has ended, and says how many there were. Folders without a mark are no working folders,
    /// and what cannot be read or removed stays: it costs space, but does no harm.
    pub fn remove_abandoned(parent: &Path, prefix: &str) -> usize {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        let named = entries.filter(|entry| {
            let is_folder = || entry.file_type().is_ok_and(|kind| kind.is_dir());
            // A link to a folder is none.
            entry.file_name().to_string_lossy().starts_with(prefix) && is_folder()
        });
        let abandoned = named.filter(|entry| {
            let mark = File::options().write(true).open(entry.path().join(MARK));
            // Kept locked while the folder is removed, so that two processes do not both count it.
            let ended = mark.ok().filter(|mark| mark.try_lock().is_ok());
            ended.is_some_and(|_mark| {
                clear(&entry.path());
                true
            })
        });
        abandoned.count()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends the work: the folder holds nothing but what was put there, and is the caller's to rename or remove.
    ///
    /// # Errors
    /// The mark cannot be removed; the folder is removed then.
    pub fn release(mut self) -> io::Result<PathBuf> {
        fs_err::remove_file(self.path.join(MARK))?;
        self.mark = None;
        Ok(std::mem::take(&mut self.path))
    }
}

impl Drop for WorkingFolder {
    fn drop(&mut self) {
        if self.mark.is_some() {
            clear(&self.path);
        }
    }
}

/// Locks a new mark; nothing if another process took it for a leftover before it was locked.
fn hold(mark: fs_err::File) -> io::Result<Option<File>> {
    let (mark, path) = mark.into_parts();
    match mark.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        // Without locks nobody removes what others left.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(TryLockError::Error(error)) => return Err(error),
    }
    Ok(path.exists().then_some(mark))
}

/// The mark goes last: what is interrupted here as well is still known for a leftover.
fn clear(folder: &Path) {
    let mark = folder.join(MARK);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let _ = match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => std::fs::remove_dir_all(&path),
            false if path == mark => Ok(()),
            false => std::fs::remove_file(&path),
        };
    }
    let _ = std::fs::remove_file(mark);
    let _ = std::fs::remove_dir(folder);
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    const PREFIX: &str = ".trial-";
    /// Names the parent folder to the process that [`held_by_another_process`] starts.
    const PARENT: &str = "PERENNIAL_TEST_WORKING_FOLDER";

    fn names(parent: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(parent).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A test only for the process that is started with [`PARENT`]: it is killed while it works.
    #[test]
    fn held_by_another_process() {
        let Some(parent) = std::env::var_os(PARENT) else {
            return;
        };
        let folder = WorkingFolder::create(Path::new(&parent), PREFIX).unwrap();
        std::fs::write(folder.path().join("weights"), "half").unwrap();
        println!("\nworking in {}", folder.path().display());
        // Until it is killed.
        std::io::stdin().lines().for_each(drop);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_is_in_use_stays() {
        let parent = tempfile::tempdir().unwrap();
        let mut other = Command::new(std::env::current_exe().unwrap())
            .args(["working_folder::tests::held_by_another_process", "--exact"])
            .arg("--nocapture")
            .env(PARENT, parent.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
        let theirs = lines
            .find_map(|line| Some(PathBuf::from(line.unwrap().strip_prefix("working in ")?)))
            .unwrap();

        // Neither of a working process nor a working folder at all.
        std::fs::create_dir(parent.path().join(".trial-notes")).unwrap();
        std::fs::write(parent.path().join(".trial-notes/text"), "mine").unwrap();
        let own = WorkingFolder::create(parent.path(), PREFIX).unwrap();
        assert_eq!(WorkingFolder::remove_abandoned(parent.path(), PREFIX), 0);
        assert!(theirs.join("weights").exists() && own.path().is_dir());

        other.kill().unwrap();
        other.wait().unwrap();
        assert!(theirs.join("weights").exists());
        // Of another kind.
        assert_eq!(
            WorkingFolder::remove_abandoned(parent.path(), ".publish-"),
            0
        );
        let next = WorkingFolder::create(parent.path(), PREFIX).unwrap();
        assert!(!theirs.exists() && own.path().is_dir());

        drop((own, next));
        assert_eq!(names(parent.path()), [".trial-notes"]);
        assert_eq!(names(&parent.path().join(".trial-notes")), ["text"]);
    }

    #[test]
    fn a_released_folder_stays_with_its_content() {
        let parent = tempfile::tempdir().unwrap();
        let folder = WorkingFolder::create(parent.path(), PREFIX).unwrap();
        std::fs::write(folder.path().join("weights"), "whole").unwrap();
        let released = folder.release().unwrap();
        assert_eq!(WorkingFolder::remove_abandoned(parent.path(), PREFIX), 0);
        assert_eq!(names(&released), ["weights"]);
        std::fs::rename(&released, parent.path().join("b0001")).unwrap();
    }
}

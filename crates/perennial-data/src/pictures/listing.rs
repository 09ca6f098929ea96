//! Which files a folder holds.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{LeftOut, LeftOutFile, PictureFile, Reason};
use crate::DataError;

/// Folders inside folders that are followed; deeper ones are more likely a mistake than pictures.
const MAX_DEPTH: usize = 100;

/// Files of file managers and archivers, compared in lower case; names that begin with a dot are hidden as well.
const HIDDEN: [&str; 4] = ["thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx"];

/// The files of a folder and of the folders below it that may be pictures.
#[derive(Debug, Clone)]
pub struct PictureFolder {
    root: PathBuf,
    files: Vec<PictureFile>,
    left_out: LeftOut,
    unlisted: Vec<String>,
}

impl PictureFolder {
    /// Walks through a folder. Files come in the order of their paths below it, compared part by part. Links to files are followed,
    /// and links to folders unless the folder is read anyway, so that no folder is read twice and no circle is walked.
    ///
    /// **Errors**: [`DataError`] if the folder is missing, is no folder or cannot be listed. A folder below it that cannot be listed
    /// is left out as unreadable.
    pub fn list(path: &Path) -> Result<Self, DataError> {
        check_folder(path)?;
        let root = path.canonicalize().map_err(DataError::io(path))?;
        let entries = entries(&root).map_err(DataError::io(path))?;
        let mut walk = Walk {
            trees: vec![root.clone()],
            listing: Self {
                root,
                files: Vec::new(),
                left_out: LeftOut::default(),
                unlisted: Vec::new(),
            },
        };
        walk.folder(&Place::default(), entries, 1);
        Ok(walk.listing)
    }

    /// The folder's absolute path, without links.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The files, in order.
    pub fn files(&self) -> &[PictureFile] {
        &self.files
    }

    /// What is left out by its name or kind alone.
    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// Folders, relative to the root, whose content is unknown because they could not be listed.
    pub fn unlisted(&self) -> &[String] {
        &self.unlisted
    }

    /// The names of the class folders, sorted: the folders directly below the root that hold files.
    pub fn classes(&self) -> Vec<&str> {
        let mut classes: Vec<&str> = self.files.iter().filter_map(PictureFile::class).collect();
        classes.sort_unstable();
        classes.dedup();
        classes
    }

    /// Takes every file that fails a check out of the list.
    pub fn retain(&mut self, mut check: impl FnMut(&PictureFile) -> Result<(), LeftOutFile>) {
        let left_out = &mut self.left_out;
        self.files.retain(|file| match check(file) {
            Ok(()) => true,
            Err(refused) => {
                left_out.add(refused);
                false
            }
        });
    }

    /// Takes the files apart from what is left out.
    pub fn into_parts(self) -> (Vec<PictureFile>, LeftOut) {
        (self.files, self.left_out)
    }
}

/// Whether a path is a folder that can be listed, before work that needs it begins.
///
/// **Errors**: [`DataError`] saying what it is instead.
pub fn check_folder(path: &Path) -> Result<(), DataError> {
    if !path.exists() {
        return Err(DataError::Missing {
            path: path.to_path_buf(),
            remedy: "name a folder of pictures".into(),
        });
    }
    if !path.is_dir() {
        return Err(DataError::invalid(
            path.display().to_string(),
            "is not a folder; name the folder that holds the pictures",
        ));
    }
    Ok(())
}

/// A place below the root: the path to open, and its name, which ends with `/` unless it is empty.
#[derive(Default)]
struct Place(String);

impl Place {
    fn name(&self, entry: &str) -> String {
        format!("{}{entry}", self.0)
    }
}

struct Walk {
    /// Folders without links, whose whole content is read.
    trees: Vec<PathBuf>,
    listing: PictureFolder,
}

impl Walk {
    fn folder(&mut self, place: &Place, entries: Vec<PathBuf>, depth: usize) {
        for path in entries {
            let Some(name) = path.file_name() else {
                continue;
            };
            if is_hidden(name) {
                self.leave_out(place, name, Reason::Hidden, "is hidden");
                continue;
            }
            let Some(text) = name.to_str() else {
                let problem = "its name is not UTF-8; rename it";
                self.leave_out(place, name, Reason::UnusableName, problem);
                continue;
            };
            match std::fs::metadata(&path) {
                Err(error) => {
                    let problem = match path.is_symlink() {
                        true => format!("is a broken link: {error}"),
                        false => error.to_string(),
                    };
                    self.leave_out(place, name, Reason::Unreadable, &problem);
                }
                Ok(found) if found.is_dir() => self.enter(place, text, &path, depth),
                Ok(found) if found.is_file() => self.listing.files.push(PictureFile {
                    relative: place.name(text),
                    path,
                }),
                Ok(_) => {
                    let problem = "is a pipe, socket or device";
                    self.leave_out(place, name, Reason::NotAPicture, problem);
                }
            }
        }
    }

    fn enter(&mut self, place: &Place, name: &str, path: &Path, depth: usize) {
        if path.is_symlink() && !self.is_new(path) {
            let problem = "is a link to a folder already read";
            self.leave_out(place, OsStr::new(name), Reason::RepeatedFolder, problem);
            return;
        }
        let entries = match depth < MAX_DEPTH {
            true => entries(path).map_err(|error| error.to_string()),
            false => Err(format!("is nested more than {MAX_DEPTH} folders deep")),
        };
        match entries {
            Ok(entries) => {
                let place = Place(format!("{}/", place.name(name)));
                self.folder(&place, entries, depth + 1);
            }
            Err(problem) => {
                let problem = format!("the folder cannot be read: {problem}");
                self.leave_out(place, OsStr::new(name), Reason::Unreadable, &problem);
                self.listing.unlisted.push(place.name(name));
            }
        }
    }

    /// Whether nothing below a linked folder is read otherwise; it is from now on.
    fn is_new(&mut self, link: &Path) -> bool {
        let Ok(target) = link.canonicalize() else {
            return false;
        };
        let overlaps = |tree: &PathBuf| target.starts_with(tree) || tree.starts_with(&target);
        if self.trees.iter().any(overlaps) {
            return false;
        }
        self.trees.push(target);
        true
    }

    fn leave_out(&mut self, place: &Place, name: &OsStr, reason: Reason, problem: &str) {
        self.listing.left_out.add(LeftOutFile {
            file: place.name(&name.to_string_lossy()),
            reason,
            problem: problem.to_owned(),
        });
    }
}

/// The entries of a folder, sorted by name.
fn entries(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut entries = std::fs::read_dir(path)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

fn is_hidden(name: &OsStr) -> bool {
    let lower = name.to_ascii_lowercase();
    name.as_encoded_bytes().starts_with(b".") || HIDDEN.iter().any(|hidden| lower == *hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(root: &Path, name: &str) {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, name).unwrap();
    }

    fn names(folder: &PictureFolder) -> Vec<&str> {
        folder.files().iter().map(PictureFile::relative).collect()
    }

    fn left_out(folder: &PictureFolder) -> Vec<(&str, Reason)> {
        let files = folder.left_out().files().iter();
        files
            .map(|file| (file.file.as_str(), file.reason))
            .collect()
    }

    #[test]
    fn any_depth_any_ending_and_what_is_hidden() {
        let root = tempfile::tempdir().unwrap();
        for name in [
            "c.png",
            "cat/a.PNG",
            "cat/2024/b",
            "dog/ü ß.jfif",
            ".DS_Store",
            "cat/Thumbs.db",
            ".git/config",
        ] {
            touch(root.path(), name);
        }
        std::fs::create_dir(root.path().join("empty")).unwrap();
        let folder = PictureFolder::list(root.path()).unwrap();
        assert_eq!(
            names(&folder),
            ["c.png", "cat/2024/b", "cat/a.PNG", "dog/ü ß.jfif"]
        );
        assert_eq!(folder.classes(), ["cat", "dog"]);
        assert_eq!(
            left_out(&folder),
            [".DS_Store", ".git", "cat/Thumbs.db"].map(|name| (name, Reason::Hidden))
        );
        assert!(PictureFolder::list(&root.path().join("none")).is_err());
        assert!(PictureFolder::list(&root.path().join("c.png")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_but_never_in_circles_or_twice() {
        use std::os::unix::fs::symlink;
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| root.path().join(name);
        touch(root.path(), "cat/a.png");
        touch(elsewhere.path(), "far/b.png");
        touch(elsewhere.path(), "c.png");
        symlink(root.path(), at("cat/up")).unwrap();
        symlink(at("cat"), at("again")).unwrap();
        symlink(elsewhere.path().join("far"), at("dog")).unwrap();
        symlink(elsewhere.path().join("far"), at("dog2")).unwrap();
        symlink(elsewhere.path(), at("whole")).unwrap();
        symlink(elsewhere.path().join("c.png"), at("file.png")).unwrap();
        symlink("nowhere", at("dead.png")).unwrap();
        symlink("loop.png", at("loop.png")).unwrap();
        // A circle outside: a folder that links back to the one that holds it.
        symlink(
            elsewhere.path().join("far"),
            elsewhere.path().join("far/self"),
        )
        .unwrap();
        let folder = PictureFolder::list(root.path()).unwrap();
        assert_eq!(names(&folder), ["cat/a.png", "dog/b.png", "file.png"]);
        let mut found = left_out(&folder);
        found.sort_unstable();
        assert_eq!(
            found,
            [
                ("again", Reason::RepeatedFolder),
                ("cat/up", Reason::RepeatedFolder),
                ("dead.png", Reason::Unreadable),
                ("dog/self", Reason::RepeatedFolder),
                ("dog2", Reason::RepeatedFolder),
                ("loop.png", Reason::Unreadable),
                ("whole", Reason::RepeatedFolder),
            ]
        );
        // The root may be a link itself.
        symlink(root.path(), elsewhere.path().join("link")).unwrap();
        let linked = PictureFolder::list(&elsewhere.path().join("link")).unwrap();
        assert_eq!(linked.root(), root.path().canonicalize().unwrap());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_that_are_no_text_are_told() {
        use std::os::unix::ffi::OsStrExt;
        let root = tempfile::tempdir().unwrap();
        for name in [&b"a\xff.png"[..], b"a\xfe.png"] {
            std::fs::write(root.path().join(OsStr::from_bytes(name)), name).unwrap();
        }
        let folder = PictureFolder::list(root.path()).unwrap();
        assert!(folder.files().is_empty());
        assert_eq!(
            folder.left_out().counts().into_iter().collect::<Vec<_>>(),
            [(Reason::UnusableName, 2)]
        );
    }
}

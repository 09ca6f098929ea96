//! Originals in a folder of pictures or texts.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use perennial_core::read_at_most;
use perennial_gallery::StoredItem;
use serde_json::Value;

use super::failure::{Failure, FailureReason};
use super::originals::{Found, Originals};

/// The payload's key for the path below the folder, with `/` between the parts.
const FILE: &str = "file";

/// A folder of pictures or texts. Nothing outside of it is read: payloads come from clients, so their paths are not trusted.
#[derive(Debug)]
pub struct FolderOriginals {
    /// Without symbolic links.
    root: PathBuf,
    max_bytes: u64,
}

impl FolderOriginals {
    /// Opens a folder.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn open(folder: &Path, max_bytes: u64) -> Result<Self, String> {
        let root =
            fs_err::canonicalize(folder).map_err(|error| format!("originals.folder: {error}"))?;
        if !root.is_dir() {
            return Err(format!(
                "originals.folder: {} is not a folder",
                folder.display()
            ));
        }
        Ok(Self { root, max_bytes })
    }

    /// The file of a relative path, with every symbolic link resolved, if it lies in the folder.
    fn place(&self, relative: &str) -> Result<PathBuf, Failure> {
        let refused = |what: &str| {
            Failure::new(
                FailureReason::Refused,
                format!("the path {relative:?} {what}"),
            )
        };
        let path = Path::new(relative);
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        if relative.is_empty() || relative.contains('\0') || !path.components().all(plain) {
            return Err(refused("is not a plain path below the folder"));
        }
        let found = match std::fs::canonicalize(self.root.join(path)) {
            Ok(found) => found,
            Err(error) => return Err(unreadable(relative, &error)),
        };
        if !found.starts_with(&self.root) {
            return Err(refused("leads out of the folder"));
        }
        Ok(found)
    }
}

impl Originals for FolderOriginals {
    fn fetch(&self, item: &StoredItem) -> Result<Found, Failure> {
        let Some(relative) = item.payload.get(FILE).and_then(Value::as_str) else {
            let problem = format!("the payload has no text under `{FILE}`");
            return Err(Failure::new(FailureReason::NoSource, problem));
        };
        let place = self.place(relative)?;
        let file = read_at_most(&place, self.max_bytes);
        file.map(Found::File)
            .map_err(|error| unreadable(relative, &error))
    }
}

fn unreadable(relative: &str, error: &std::io::Error) -> Failure {
    // The folder's own place is no business of clients.
    let (reason, what) = match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            (FailureReason::Gone, "is not there".to_owned())
        }
        ErrorKind::InvalidData => (
            FailureReason::Unreadable,
            "is not a regular file, or is too large".to_owned(),
        ),
        kind => (FailureReason::Unreadable, format!("cannot be read: {kind}")),
    };
    Failure::new(reason, format!("the file {relative:?} {what}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn item(file: Value) -> StoredItem {
        let payload = json!({ "file": file });
        StoredItem {
            id: 1.into(),
            model_version: "v0001".to_owned(),
            label: None,
            payload: payload.as_object().unwrap().clone(),
            embedding: None,
        }
    }

    #[test]
    fn only_files_of_the_folder_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("pictures");
        std::fs::create_dir_all(root.join("cats")).unwrap();
        std::fs::write(root.join("cats/a.png"), b"picture").unwrap();
        std::fs::write(root.join("large.png"), [0; 100]).unwrap();
        std::fs::write(folder.path().join("secret"), b"secret").unwrap();
        let originals = FolderOriginals::open(&root, 50).unwrap();
        assert_eq!(
            originals.fetch(&item(json!("cats/a.png"))).unwrap(),
            Found::File(b"picture".to_vec())
        );
        let secret = folder.path().join("secret");
        let reason = |file: Value| originals.fetch(&item(file)).unwrap_err().reason;
        for path in [
            json!("../secret"),
            json!("cats/../../secret"),
            json!("cats/../cats/a.png"),
            json!("/etc/passwd"),
            json!(secret.to_str().unwrap()),
            json!(""),
            json!("."),
            json!("a\0b"),
        ] {
            assert_eq!(reason(path.clone()), FailureReason::Refused, "{path}");
        }
        assert_eq!(reason(json!("cats/b.png")), FailureReason::Gone);
        assert_eq!(reason(json!("cats/a.png/b.png")), FailureReason::Gone);
        assert_eq!(reason(json!("cats")), FailureReason::Unreadable);
        assert_eq!(reason(json!("large.png")), FailureReason::Unreadable);
        assert_eq!(reason(json!(7)), FailureReason::NoSource);
        let failure = originals.fetch(&item(json!("cats/b.png"))).unwrap_err();
        assert!(
            !failure.detail.contains(root.to_str().unwrap()),
            "{failure}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_may_not_lead_out() {
        use std::os::unix::fs::symlink;

        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("pictures");
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("a.png"), b"picture").unwrap();
        std::fs::write(folder.path().join("secret"), b"secret").unwrap();
        symlink("a.png", root.join("inside.png")).unwrap();
        symlink("../secret", root.join("out.png")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        // The folder itself may be a link.
        let link = folder.path().join("link");
        symlink(&root, &link).unwrap();
        let originals = FolderOriginals::open(&link, 50).unwrap();
        assert_eq!(
            originals.fetch(&item(json!("inside.png"))).unwrap(),
            Found::File(b"picture".to_vec())
        );
        for file in ["out.png", "up/secret"] {
            let reason = originals.fetch(&item(json!(file))).unwrap_err().reason;
            assert_eq!(reason, FailureReason::Refused, "{file}");
        }
        let reason = originals.fetch(&item(json!("loop"))).unwrap_err().reason;
        assert_eq!(reason, FailureReason::Unreadable);
    }
}

//! The inputs of a space's canaries, by which its encoder is asked again for their embeddings.

use std::path::{Path, PathBuf};

use perennial_core::{SpaceId, read_at_most};
use thiserror::Error;

use crate::canaries::Canaries;

const MAX_BYTES: u64 = 16 << 20;

/// Texts from a file with one a line, in the order in which their embeddings were registered.
#[derive(Debug, Clone)]
pub struct CanaryInputs {
    path: PathBuf,
    lines: Vec<String>,
}

/// A file of inputs that cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CanaryInputsError {
    /// The file cannot be read, or has more than 16 MiB; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Bytes that are no text.
    #[error("{} is not UTF-8 text", path.display())]
    NoText {
        /// The file.
        path: PathBuf,
    },
    /// Other inputs than those registered.
    #[error(
        "{} has {found} lines, but {registered} canaries of space {space} are registered; write one input a line, in their order", path.display()
    )]
    Count {
        /// The file.
        path: PathBuf,
        /// Its lines.
        found: usize,
        /// Canaries of the space.
        registered: usize,
        /// The space.
        space: SpaceId,
    },
}

impl CanaryInputs {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read or is no text.
    pub fn read(path: &Path) -> Result<Self, CanaryInputsError> {
        let text = String::from_utf8(read_at_most(path, MAX_BYTES)?);
        let text = text.map_err(|_| CanaryInputsError::NoText {
            path: path.to_owned(),
        })?;
        Ok(Self {
            path: path.to_owned(),
            lines: text.lines().map(str::to_owned).collect(),
        })
    }

    /// The texts, if there is one for each canary of a space.
    ///
    /// # Errors
    /// Another number of them.
    pub fn of_space(
        self,
        space: &SpaceId,
        canaries: &Canaries,
    ) -> Result<Vec<String>, CanaryInputsError> {
        if self.lines.len() == canaries.len() {
            return Ok(self.lines);
        }
        Err(CanaryInputsError::Count {
            path: self.path,
            found: self.lines.len(),
            registered: canaries.len(),
            space: space.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_text_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inputs.txt");
        let message = |path: &Path| CanaryInputs::read(path).unwrap_err().to_string();
        assert!(message(&path).contains("inputs.txt"));
        std::fs::write(&path, [b'a', 0xff]).unwrap();
        let text = message(&path);
        assert!(
            text.contains("inputs.txt") && text.contains("UTF-8"),
            "{text}"
        );
        let large = std::fs::File::create(&path).unwrap();
        large.set_len(MAX_BYTES + 1).unwrap();
        assert!(message(&path).contains("inputs.txt"));
        std::fs::write(&path, "one\r\n\ntwo").unwrap();
        assert_eq!(CanaryInputs::read(&path).unwrap().lines, ["one", "", "two"]);
    }
}

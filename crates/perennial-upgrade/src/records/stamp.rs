//! What tells that a file was replaced, without reading it.

use std::path::Path;
use std::time::SystemTime;

/// Changes with every replacement of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: SystemTime,
    bytes: u64,
    /// Of Unix: when the file or its name was changed last, which no program can set back.
    changed: (i64, i64),
}

impl Stamp {
    /// Of a file that can be seen.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs_err::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok()?,
            bytes: metadata.len(),
            changed: changed(&metadata),
        })
    }
}

#[cfg(unix)]
fn changed(metadata: &std::fs::Metadata) -> (i64, i64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn changed(_: &std::fs::Metadata) -> (i64, i64) {
    (0, 0)
}

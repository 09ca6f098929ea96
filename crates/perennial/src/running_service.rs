//! `service.toml`: the address of the service that has a gallery open, so that commands find it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const FILE: &str = "service.toml";
const MAX_BYTES: u64 = 1 << 12;

#[derive(Serialize, Deserialize)]
struct Content {
    url: String,
    process: u32,
}

/// The file in a gallery's folder; removed when the service ends. A file left behind by a crash is ignored, since a gallery
/// without a service is not locked.
pub struct Announcement(PathBuf);

impl Announcement {
    /// Notes the address of this process's service. A folder that cannot be written only costs the convenience.
    pub fn write(gallery: &Path, url: &str) -> Option<Self> {
        let path = gallery.join(FILE);
        let content = Content {
            url: url.to_owned(),
            process: std::process::id(),
        };
        let text = toml::to_string(&content).ok()?;
        match perennial_core::write_atomically(&path, text) {
            Ok(()) => Some(Self(path)),
            Err(error) => {
                tracing::warn!(%error, "service.toml cannot be written; commands need --server to find this service");
                None
            }
        }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // The next service replaces it, and without a service it is not read.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The address of the service that holds a gallery, as it noted it.
pub fn address(gallery: &Path) -> Option<String> {
    let bytes = perennial_core::read_at_most(gallery.join(FILE), MAX_BYTES).ok()?;
    let content: Content = toml::from_str(std::str::from_utf8(&bytes).ok()?).ok()?;
    Some(content.url)
}

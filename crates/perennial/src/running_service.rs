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

/// The file in a gallery's folder; removed when the service ends. A file left behind by a crash is ignored, since its process is
/// gone.
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
        // Only the own one: another service may have replaced it meanwhile.
        if read(&self.0).is_some_and(|content| content.process == std::process::id()) {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

/// The address of the service that holds a gallery, as it noted it; none where that process has ended.
pub fn address(gallery: &Path) -> Option<String> {
    let content = read(&gallery.join(FILE))?;
    is_running(content.process).then_some(content.url)
}

fn read(path: &Path) -> Option<Content> {
    let bytes = perennial_core::read_at_most(path, MAX_BYTES).ok()?;
    toml::from_str(std::str::from_utf8(&bytes).ok()?).ok()
}

/// Whether a process exists, where the system says so in `/proc`; elsewhere it is assumed.
fn is_running(process: u32) -> bool {
    let all = Path::new("/proc/self");
    !all.exists() || Path::new("/proc").join(process.to_string()).exists()
}

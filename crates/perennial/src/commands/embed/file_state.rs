//! What stands for the content of files before they are read.

use std::path::Path;
use std::time::UNIX_EPOCH;

use perennial_core::sha256_hex;

/// A hash of files' names, sizes and times of the last change. A file that cannot be looked at has a state as well.
pub fn states<'a>(files: impl IntoIterator<Item = (&'a str, &'a Path)>) -> String {
    let mut lines = String::new();
    for (name, path) in files {
        lines.push_str(&format!("{name}\t{}\n", state(path)));
    }
    sha256_hex(lines.as_bytes())
}

fn state(path: &Path) -> String {
    let Ok(found) = std::fs::metadata(path) else {
        return "unreadable".to_owned();
    };
    let changed = found.modified().ok();
    let since = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    format!(
        "{} {}",
        found.len(),
        since.map_or(0, |since| since.as_nanos())
    )
}

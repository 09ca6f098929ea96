//! Opening files that came from outside, and looking at their first bytes.

use std::io::Read;
use std::path::Path;

use fs_err::File;
use perennial_core::bounded_read::open_regular;

use crate::error::FormatError;

/// Bytes of a file's start that show its format.
const HEAD_BYTES: u64 = 4096;

/// Opens a regular file of any size and says how long it is.
pub(crate) fn open_file(path: &Path) -> Result<(File, u64), FormatError> {
    Ok(open_regular(path, u64::MAX)?)
}

/// The first bytes as text without byte order mark and leading space, unless they are no text. A character cut at the end is left out.
pub(crate) fn text_start(head: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let control = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
    (!text.contains(control)).then_some(text)
}

/// The first 4 KiB of a regular file.
pub(crate) fn head(path: &Path) -> Result<Vec<u8>, FormatError> {
    let (file, _) = open_regular(path, u64::MAX)?;
    let mut head = Vec::new();
    file.take(HEAD_BYTES).read_to_end(&mut head)?;
    Ok(head)
}

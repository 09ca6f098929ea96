//! Text files by lines of bounded length.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use fs_err::File;

use crate::error::FormatError;
use crate::input::open_file;

/// The longest line, in bytes: a vector of 65,536 values takes about 1.5 MB.
pub(crate) const MAX_LINE_BYTES: u64 = 1 << 24;

/// The lines of a text file that are not blank.
pub(crate) struct Lines {
    path: PathBuf,
    source: BufReader<File>,
    line: u64,
    buffer: Vec<u8>,
}

impl Lines {
    pub(crate) fn open(path: &Path) -> Result<Self, FormatError> {
        let (file, _) = open_file(path)?;
        Ok(Self {
            path: path.to_owned(),
            source: BufReader::with_capacity(1 << 16, file),
            line: 0,
            buffer: Vec::new(),
        })
    }

    /// The next line that is not blank, without the space around it.
    pub(crate) fn next(&mut self) -> Result<Option<&str>, FormatError> {
        Ok(self.next_as_it_is()?.map(str::trim))
    }

    /// The next line that is not blank, for tables, where a tab in front means an empty cell.
    pub(crate) fn next_as_it_is(&mut self) -> Result<Option<&str>, FormatError> {
        loop {
            self.buffer.clear();
            self.line += 1;
            let mut limited = self.source.by_ref().take(MAX_LINE_BYTES);
            let read = limited
                .read_until(b'\n', &mut self.buffer)
                .map_err(FormatError::reading(&self.path))?;
            if read == 0 {
                return Ok(None);
            }
            if read as u64 == MAX_LINE_BYTES {
                return Err(self.error(format_args!("is longer than {MAX_LINE_BYTES} bytes")));
            }
            if !self.buffer.trim_ascii().is_empty() && self.buffer != b"\xef\xbb\xbf\n" {
                break;
            }
        }
        match std::str::from_utf8(&self.buffer) {
            Ok(text) => {
                let start = if self.line == 1 { "\u{feff}" } else { "" };
                let text = text.strip_prefix(start).unwrap_or(text);
                Ok(Some(text.trim_end_matches(['\r', '\n'])))
            }
            Err(_) => Err(self.error("is not UTF-8 text; save the file as UTF-8")),
        }
    }

    /// An error about the line last read.
    pub(crate) fn error(&self, problem: impl std::fmt::Display) -> FormatError {
        FormatError::file(&self.path, format_args!("line {} {problem}", self.line))
    }
}

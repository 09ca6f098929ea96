//! Reading files of untrusted size.

use std::io::{self, Read};
use std::path::Path;

use fs_err::File;

/// Reads a whole regular file of at most `limit` bytes.
///
/// The size is checked before memory is allocated, and a failed allocation is an error instead of an abort.
///
/// # Errors
/// The error names `path`: it is missing, is not a regular file, exceeds `limit`, or cannot be read.
pub fn read_at_most(path: impl AsRef<Path>, limit: u64) -> io::Result<Vec<u8>> {
    let (file, length) = open_regular(path.as_ref(), limit)?;
    let mut bytes = reserve(path.as_ref(), length)?;
    // A file that grows while it is read must not grow the buffer past the limit either.
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The same as a text.
///
/// # Errors
/// Those of [`read_at_most`], and a file that is no UTF-8.
pub fn read_text_at_most(path: impl AsRef<Path>, limit: u64) -> io::Result<String> {
    let path = path.as_ref();
    String::from_utf8(read_at_most(path, limit)?).map_err(|_| invalid(path, "is not UTF-8"))
}

/// Whether a file holds these bytes and nothing else. It is read only where it is as long.
///
/// # Errors
/// The file is missing, is not a regular file, or cannot be read.
pub fn holds(path: impl AsRef<Path>, content: &[u8]) -> io::Result<bool> {
    let (mut file, length) = open_regular(path.as_ref(), u64::MAX)?;
    if length != content.len() as u64 {
        return Ok(false);
    }
    let mut found = Vec::with_capacity(content.len());
    file.by_ref().take(length).read_to_end(&mut found)?;
    Ok(found == content)
}

/// Opens a regular file of at most `limit` bytes and says how long it is.
///
/// # Errors
/// The error names `path`: it is missing, is not a regular file, or exceeds `limit`.
pub fn open_regular(path: &Path, limit: u64) -> io::Result<(File, u64)> {
    // Opening a pipe would block until somebody writes to it, so the type is checked first.
    let metadata = std::fs::metadata(path).map_err(|error| {
        let problem = match error.kind() {
            io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            _ => error.to_string(),
        };
        io::Error::new(
            error.kind(),
            format!("cannot read {}: {problem}", path.display()),
        )
    })?;
    if !metadata.is_file() {
        return Err(invalid(path, "is not a regular file"));
    }
    if metadata.len() > limit {
        let problem = format!(
            "holds {} bytes, more than the limit of {limit}",
            metadata.len()
        );
        return Err(invalid(path, &problem));
    }
    Ok((File::open(path)?, metadata.len()))
}

/// An empty vector with room for `length` elements.
///
/// # Errors
/// The memory is not available; the error names the file that asked for it.
pub fn reserve<T>(path: &Path, length: u64) -> io::Result<Vec<T>> {
    let mut elements = Vec::new();
    usize::try_from(length)
        .ok()
        .and_then(|length| elements.try_reserve_exact(length).ok())
        .ok_or_else(|| {
            let problem = format!("needs memory for {length} elements, which is not available");
            io::Error::new(io::ErrorKind::OutOfMemory, message(path, &problem))
        })?;
    Ok(elements)
}

fn invalid(path: &Path, problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message(path, problem))
}

fn message(path: &Path, problem: &str) -> String {
    format!("{} {problem}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_up_to_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        std::fs::write(&path, [7; 10]).unwrap();
        assert_eq!(read_at_most(&path, 10).unwrap(), [7; 10]);
        let error = read_at_most(&path, 9).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(
            error.to_string().contains("a.bin holds 10 bytes"),
            "{error}"
        );
    }

    #[test]
    fn refuses_what_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = read_at_most(folder.path(), 10).unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
        let error = read_at_most(folder.path().join("missing"), 10).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let text = error.to_string();
        assert!(
            text.starts_with("cannot read ")
                && text.ends_with("missing: no such file or directory"),
            "{text}"
        );
    }

    #[test]
    fn texts_are_checked_and_contents_compared() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, "some text").unwrap();
        assert_eq!(read_text_at_most(&path, 9).unwrap(), "some text");
        assert!(read_text_at_most(&path, 8).is_err());
        assert!(holds(&path, b"some text").unwrap());
        assert!(!holds(&path, b"some test").unwrap());
        assert!(!holds(&path, b"some").unwrap());
        assert!(holds(folder.path().join("b.txt"), b"").is_err());
        std::fs::write(&path, b"\xff").unwrap();
        let error = read_text_at_most(&path, 9).unwrap_err();
        assert!(error.to_string().ends_with("a.txt is not UTF-8"), "{error}");
    }

    #[test]
    fn absurd_lengths_are_errors() {
        let error = reserve::<u64>(Path::new("a.bin"), u64::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    }
}

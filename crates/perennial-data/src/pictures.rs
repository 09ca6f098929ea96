//! Pictures in folders: listing them, reading them a few at a time, and the files left out with reasons.
//!
//! [`PictureFolder::list`] walks a folder of any depth and looks at names only. [`PictureFile::read`] gives a file's bytes, and
//! [`PictureFile::decode`] its picture: the content decides, whatever the name ends in. [`in_batches`] does that on all cores, ahead
//! of the consumer, with a few batches in memory. Every file that is not used is reported, with a [`Reason`].

mod batches;
mod left_out;
mod listing;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

pub use batches::in_batches;
pub use left_out::{LeftOut, LeftOutFile, Reason};
pub use listing::{PictureFolder, check_folder};

use perennial_encode::DecodeError;
use perennial_encode::{DecodeLimits, HEAD_BYTES, Kind, Picture, kind};

/// The largest file that is read as a picture, in bytes: 256 MiB.
pub const MAX_FILE_BYTES: u64 = 256 << 20;

/// Endings of files that are meant to be pictures, whatever they hold.
const ENDINGS: [&str; 20] = [
    "avif", "bmp", "dib", "gif", "heic", "heif", "hif", "j2k", "jfif", "jp2", "jpe", "jpeg", "jpg",
    "jxl", "pjpeg", "png", "apng", "tif", "tiff", "webp",
];

/// A file that may be a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureFile {
    path: PathBuf,
    relative: String,
}

impl PictureFile {
    /// A file that is named elsewhere than in a listed folder, by its path and by the name under which it is reported.
    pub fn new(path: PathBuf, relative: String) -> Self {
        Self { path, relative }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its path below the folder, with `/` between the parts.
    pub fn relative(&self) -> &str {
        &self.relative
    }

    /// The first folder of [`relative`](Self::relative); `None` for a file in the listed folder itself.
    pub fn class(&self) -> Option<&str> {
        self.relative.split_once('/').map(|(class, _)| class)
    }

    /// The bytes of the file, once the first of them are those of a picture.
    ///
    /// **Errors**: why it is left out.
    pub fn read(&self) -> Result<Vec<u8>, LeftOutFile> {
        let unreadable = |error: std::io::Error| self.left_out(Reason::Unreadable, error);
        let file = File::open(&self.path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let mut bytes = Vec::new();
        let head = &mut (&file).take(HEAD_BYTES as u64);
        head.read_to_end(&mut bytes).map_err(unreadable)?;
        match kind(&bytes) {
            Kind::Decoded(_) => {}
            Kind::Other(format) => {
                return Err(self.refused(&DecodeError::Unsupported { format }));
            }
            Kind::Unknown => return Err(self.refused(&DecodeError::NotAPicture)),
        }
        let too_large = |size: u64| {
            let problem = format!("has {size} bytes; at most {MAX_FILE_BYTES} are read");
            self.left_out(Reason::TooLarge, problem)
        };
        if size > MAX_FILE_BYTES {
            return Err(too_large(size));
        }
        bytes.reserve(size as usize);
        // One byte more than allowed detects a growing file.
        let rest = &mut (&file).take(MAX_FILE_BYTES + 1);
        rest.read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(too_large(bytes.len() as u64));
        }
        Ok(bytes)
    }

    /// The picture in the file's bytes.
    ///
    /// **Errors**: why it is left out.
    pub fn decode(&self, bytes: &[u8]) -> Result<Picture, LeftOutFile> {
        Picture::decode(bytes, DecodeLimits::FILES).map_err(|error| self.refused(&error))
    }

    /// Reads and decodes.
    ///
    /// **Errors**: why it is left out.
    pub fn picture(&self) -> Result<Picture, LeftOutFile> {
        self.decode(&self.read()?)
    }

    fn refused(&self, error: &DecodeError) -> LeftOutFile {
        let reason = match error {
            DecodeError::Unsupported { .. } => Reason::UnsupportedFormat,
            DecodeError::TooLarge { .. } => Reason::TooLarge,
            DecodeError::Image(image::ImageError::Limits(_)) => Reason::TooLarge,
            DecodeError::NotAPicture => {
                let ending = self
                    .path
                    .extension()
                    .map(|ending| ending.to_ascii_lowercase());
                let meant = ending.filter(|ending| ENDINGS.iter().any(|known| ending == known));
                return match meant {
                    None => self.left_out(Reason::NotAPicture, "is not a picture (checked by content)"),
                    Some(ending) => self.left_out(
                        Reason::Unreadable,
                        format!(
                            "ends in .{} but is empty or holds something else; copy or download it again",
                            ending.display()
                        ),
                    ),
                };
            }
            _ => Reason::Unreadable,
        };
        self.left_out(reason, error)
    }

    fn left_out(&self, reason: Reason, problem: impl ToString) -> LeftOutFile {
        LeftOutFile {
            file: self.relative.clone(),
            reason,
            problem: problem.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, name: &str, bytes: &[u8]) -> PictureFile {
        std::fs::write(folder.join(name), bytes).unwrap();
        PictureFile {
            path: folder.join(name),
            relative: name.to_owned(),
        }
    }

    #[test]
    fn the_content_decides_and_the_name_tells_what_was_meant() {
        let folder = tempfile::tempdir().unwrap();
        let png = perennial_encode::encode_png(&[7; 3 * 4], [3, 2, 2]).unwrap();
        for name in ["a.PNG", "b.jpg", "c.jfif", "d", "e.txt"] {
            let picture = file(folder.path(), name, &png).picture().unwrap();
            assert_eq!((picture.width(), picture.height()), (2, 2), "{name}");
        }
        let heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic";
        for (name, bytes, reason) in [
            ("f.txt", &b"a text"[..], Reason::NotAPicture),
            ("g", b"", Reason::NotAPicture),
            ("h.WEBP", b"", Reason::Unreadable),
            ("i.jpg", b"<html>not found</html>", Reason::Unreadable),
            ("j.heic", heic, Reason::UnsupportedFormat),
            ("k.jpg", heic, Reason::UnsupportedFormat),
            ("l.png", &png[..png.len() - 1], Reason::Unreadable),
        ] {
            let refused = file(folder.path(), name, bytes).picture().err().unwrap();
            assert_eq!(
                (refused.file.as_str(), refused.reason),
                (name, reason),
                "{refused}"
            );
        }
        let gone = PictureFile {
            path: folder.path().join("gone.png"),
            relative: "gone.png".into(),
        };
        assert_eq!(gone.picture().err().unwrap().reason, Reason::Unreadable);
    }

    #[test]
    fn a_huge_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let large = file(folder.path(), "large.jpg", b"\xff\xd8\xff\xe0");
        let open = File::options().write(true).open(large.path()).unwrap();
        open.set_len(MAX_FILE_BYTES + 1).unwrap();
        assert_eq!(large.read().unwrap_err().reason, Reason::TooLarge);
    }

    #[test]
    fn the_class_is_the_first_folder() {
        let class = |relative: &str| {
            let file = PictureFile {
                path: PathBuf::new(),
                relative: relative.to_owned(),
            };
            file.class().map(str::to_owned)
        };
        assert_eq!(class("cat/2024/b.png").as_deref(), Some("cat"));
        assert_eq!(class("b.png"), None);
    }
}

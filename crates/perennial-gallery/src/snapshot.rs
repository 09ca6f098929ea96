//! One file that holds a whole gallery.
//!
//! Magic, format `u32`, header length `u32`, header as JSON, then per item a length `u32` and its record, and at the end the
//! SHA-256 of everything before. All numbers little-endian. The header has the spaces of the items and their partitions; in format 1 it
//! had one dimension and one simplex for all.

mod header;

use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use fs_err::File;
use perennial_core::{FileKind, write_atomically_with};
use sha2::{Digest, Sha256};

pub(crate) use self::header::{Header, HeaderPartition, HeaderSpace};
use crate::embedded::record::{MAX_RECORD_BYTES, Record};
use crate::error::GalleryError;
use crate::item::check_vector;
use crate::stats::SnapshotInfo;

const MAGIC: &[u8; 18] = b"perennial gallery\n";
/// How a snapshot file is recognised.
pub const FILE_KIND: FileKind = FileKind {
    name: "a snapshot of a gallery",
    recognise: |head| head.starts_with(MAGIC),
};
/// Format 1 had one dimension for all items; it is still read.
const FORMAT: u32 = 2;
const MAX_HEADER_BYTES: usize = 16 << 20;
const DIGEST_BYTES: u64 = 32;

/// Counts and digests what passes through.
struct Digesting<T> {
    inner: T,
    bytes: u64,
    digest: Sha256,
}

impl<T> Digesting<T> {
    fn new(inner: T) -> Self {
        Self {
            inner,
            bytes: 0,
            digest: Sha256::new(),
        }
    }

    fn take_in(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.digest.update(bytes);
    }
}

impl<T: Write> Write for Digesting<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.take_in(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Digesting<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.take_in(&bytes[..read]);
        Ok(read)
    }
}

/// Writes a snapshot piece by piece.
pub(crate) struct SnapshotWriter<'a> {
    file: Digesting<&'a mut dyn Write>,
    items: u64,
}

impl<'a> SnapshotWriter<'a> {
    pub(crate) fn new(file: &'a mut dyn Write, header: &Header) -> io::Result<Self> {
        let mut file = Digesting::new(file);
        let text = serde_json::to_vec(header)?;
        if text.len() > MAX_HEADER_BYTES {
            return Err(io::Error::other("its header would be too large to be read"));
        }
        file.write_all(MAGIC)?;
        file.write_all(&FORMAT.to_le_bytes())?;
        file.write_all(&(text.len() as u32).to_le_bytes())?;
        file.write_all(&text)?;
        Ok(Self {
            file,
            items: header.items,
        })
    }

    pub(crate) fn add(&mut self, record: &[u8]) -> io::Result<()> {
        self.file.write_all(&(record.len() as u32).to_le_bytes())?;
        self.file.write_all(record)
    }

    pub(crate) fn finish(mut self) -> io::Result<SnapshotInfo> {
        let digest = self.file.digest.clone().finalize();
        self.file.write_all(&digest)?;
        Ok(SnapshotInfo {
            items: self.items,
            bytes: self.file.bytes,
            sha256: hex(&self.file.digest.finalize()),
        })
    }
}

/// Writes a snapshot whose records `copy` adds; an older file stays as it was where it fails.
///
/// # Errors
/// [`GalleryError::File`], and those of `copy`.
pub(crate) fn write_file(
    path: &Path,
    header: &Header,
    copy: impl FnOnce(&mut SnapshotWriter<'_>) -> Result<(), GalleryError>,
) -> Result<SnapshotInfo, GalleryError> {
    let mut outcome = None;
    let written = write_atomically_with(path, |file| {
        let mut snapshot = SnapshotWriter::new(file, header)?;
        match copy(&mut snapshot) {
            Ok(()) => {
                outcome = Some(Ok(snapshot.finish()?));
                Ok(())
            }
            Err(error) => {
                let text = error.to_string();
                outcome = Some(Err(error));
                Err(io::Error::other(text))
            }
        }
    });
    match (written, outcome) {
        (Ok(()), Some(Ok(info))) => Ok(info),
        (_, Some(Err(error))) => Err(error),
        (Err(error), _) => Err(GalleryError::file(path, error)),
        (Ok(()), None) => Err(GalleryError::file(path, "nothing was written")),
    }
}

/// Reads a snapshot as untrusted input.
pub(crate) struct SnapshotReader<R> {
    path: PathBuf,
    file: Digesting<R>,
    header: Header,
}

impl SnapshotReader<BufReader<File>> {
    pub(crate) fn open(path: &Path) -> Result<Self, GalleryError> {
        let failed = |error: io::Error| GalleryError::snapshot(path, error.to_string());
        let metadata = fs_err::metadata(path).map_err(failed)?;
        if !metadata.is_file() {
            return Err(GalleryError::snapshot(path, "it is not a regular file"));
        }
        let file = File::open(path).map_err(failed)?;
        Self::new(path, BufReader::with_capacity(1 << 20, file))
    }
}

impl<R: Read> SnapshotReader<R> {
    pub(crate) fn new(path: &Path, file: R) -> Result<Self, GalleryError> {
        let mut file = Digesting::new(file);
        let failed = |problem: String| GalleryError::snapshot(path, problem);
        let mut magic = [0; MAGIC.len()];
        fill(&mut file, &mut magic).map_err(failed)?;
        if magic != *MAGIC {
            return Err(failed("it is not a snapshot of a gallery".to_owned()));
        }
        let format = number(&mut file).map_err(failed)?;
        if !(1..=FORMAT).contains(&format) {
            return Err(GalleryError::Format {
                path: path.to_owned(),
                found: format.into(),
                expected: FORMAT.into(),
            });
        }
        let length = number(&mut file).map_err(failed)? as usize;
        if length > MAX_HEADER_BYTES {
            return Err(failed(format!("its header claims {length} bytes")));
        }
        let mut text = Vec::new();
        let read = Read::take(&mut file, length as u64).read_to_end(&mut text);
        read.map_err(|error| failed(error.to_string()))?;
        if text.len() != length {
            return Err(failed("it is truncated".to_owned()));
        }
        let header = Header::read(format, &text).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            header,
        })
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Calls `f` with every record, then checks the digest: what `f` did counts only if this returns without error.
    pub(crate) fn read(
        mut self,
        mut f: impl FnMut(&[u8], Record<'_>) -> Result<(), GalleryError>,
    ) -> Result<SnapshotInfo, GalleryError> {
        let path = self.path.clone();
        let failed = |problem: String| GalleryError::snapshot(&path, problem);
        let mut bytes = Vec::new();
        for at in 0..self.header.items {
            let named = |problem: String| failed(format!("record {at}: {problem}"));
            let length = number(&mut self.file).map_err(named)? as usize;
            if length > MAX_RECORD_BYTES {
                return Err(named(format!("it claims {length} bytes")));
            }
            bytes.resize(length, 0);
            fill(&mut self.file, &mut bytes).map_err(named)?;
            let record = Record::decode(&bytes).map_err(named)?;
            self.check(&record).map_err(named)?;
            f(&bytes, record)?;
        }
        let expected = self.file.digest.clone().finalize();
        let mut digest = [0; DIGEST_BYTES as usize];
        fill(&mut self.file, &mut digest).map_err(failed)?;
        if digest != *expected {
            return Err(failed("it does not match its checksum".to_owned()));
        }
        let more = self.file.inner.read(&mut [0]);
        if more.map_err(|error| failed(error.to_string()))? > 0 {
            return Err(failed("it has extra bytes at its end".to_owned()));
        }
        Ok(SnapshotInfo {
            items: self.header.items,
            bytes: self.file.bytes,
            sha256: hex(&self.file.digest.finalize()),
        })
    }

    fn check(&self, record: &Record<'_>) -> Result<(), String> {
        let id = record.id()?;
        record.payload()?;
        let Some(dim) = self.header.dim(record.version) else {
            return Err(format!("its space {} is not stated", record.version));
        };
        let vector: Vec<f32> = record.embedding().collect();
        check_vector(&vector, Some(dim), || format!("item {id}")).map_err(|error| error.to_string())
    }
}

fn fill(file: &mut impl Read, bytes: &mut [u8]) -> Result<(), String> {
    file.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => "it is truncated".to_owned(),
        _ => error.to_string(),
    })
}

fn number(file: &mut impl Read) -> Result<u32, String> {
    let mut bytes = [0; 4];
    fill(file, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::record::encode;
    use crate::item::{Item, ItemId, SimplexIdentity};
    use proptest::prelude::*;

    fn snapshot(items: u64) -> (Vec<u8>, SnapshotInfo) {
        let header = Header {
            items,
            spaces: vec![HeaderSpace {
                name: "v0001".to_owned(),
                partition: Some(0),
            }],
            partitions: vec![HeaderPartition {
                dim: 2,
                simplex: Some(SimplexIdentity { vertices: 3 }),
            }],
        };
        let mut bytes = Vec::new();
        let mut writer = SnapshotWriter::new(&mut bytes, &header).unwrap();
        for id in 0..items {
            let item = Item {
                id: ItemId::Number(id),
                embedding: vec![0.6, 0.8],
                model_version: "v0001".to_owned(),
                label: None,
                payload: serde_json::Map::new(),
            };
            writer.add(&encode(&item, 0).unwrap()).unwrap();
        }
        let info = writer.finish().unwrap();
        (bytes, info)
    }

    fn read(bytes: &[u8]) -> Result<(usize, SnapshotInfo), GalleryError> {
        let mut seen = 0;
        let info = SnapshotReader::new(Path::new("s"), bytes)?.read(|_, _| {
            seen += 1;
            Ok(())
        })?;
        Ok((seen, info))
    }

    #[test]
    fn what_was_written_is_read() {
        for items in [0, 1, 7] {
            let (bytes, written) = snapshot(items);
            let (seen, info) = read(&bytes).unwrap();
            assert_eq!((seen as u64, &info), (items, &written));
            assert_eq!(info.bytes, bytes.len() as u64);
            assert_eq!(info.sha256, perennial_core::sha256_hex(&bytes));
        }
    }

    #[test]
    fn more_at_the_end_is_refused() {
        let (mut bytes, _) = snapshot(2);
        bytes.push(0);
        assert!(
            read(&bytes)
                .unwrap_err()
                .to_string()
                .contains("extra bytes at its end")
        );
    }

    #[test]
    fn another_format_is_named() {
        let (mut bytes, _) = snapshot(1);
        bytes[MAGIC.len()] = 9;
        assert!(matches!(
            read(&bytes),
            Err(GalleryError::Format { found: 9, .. })
        ));
    }

    #[test]
    fn a_snapshot_of_format_1_is_read() {
        let with_header = |text: &str| {
            let (bytes, _) = snapshot(2);
            let length = u32::from_le_bytes(*bytes[MAGIC.len() + 4..].first_chunk().unwrap());
            let records = &bytes[MAGIC.len() + 8 + length as usize..bytes.len() - 32];
            let length = (text.len() as u32).to_le_bytes();
            let mut file = [MAGIC, &[1, 0, 0, 0][..], &length, text.as_bytes(), records].concat();
            let digest = Sha256::digest(&file);
            file.extend(digest);
            read(&file)
        };
        let text = r#"{"items":2,"dim":2,"identity":{"vertices":3},"versions":["v0001"]}"#;
        assert_eq!(with_header(text).unwrap().0, 2);
        for (text, problem) in [
            (
                r#"{"items":2,"dim":2,"identity":{"vertices":5},"versions":["v0001"]}"#,
                "simplex",
            ),
            (
                r#"{"items":2,"dim":null,"identity":null,"versions":["v0001"]}"#,
                "no dimension",
            ),
            (
                r#"{"items":2,"dim":3,"identity":null,"versions":["v0001"]}"#,
                "dimensions",
            ),
            (
                r#"{"items":2,"dim":2,"identity":null,"versions":[]}"#,
                "not stated",
            ),
            (
                r#"{"items":2,"spaces":[],"partitions":[]}"#,
                "header is invalid",
            ),
        ] {
            let error = with_header(text).unwrap_err().to_string();
            assert!(error.contains(problem), "{error} lacks {problem}");
        }
    }

    proptest! {
        #[test]
        fn any_damage_is_noticed(at: prop::sample::Index, flip in 1u8..) {
            let (bytes, _) = snapshot(3);
            let at = at.index(bytes.len());
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            prop_assert!(read(&damaged).is_err());
            prop_assert!(read(&bytes[..at]).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), known_start: bool) {
            let start: &[u8] = if known_start { b"perennial gallery\n\x02\0\0\0" } else { b"" };
            prop_assert!(read(&[start, &bytes].concat()).is_err());
        }
    }
}

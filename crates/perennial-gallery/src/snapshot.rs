//! One file that holds a whole gallery.
//!
//! Magic, format `u32`, header length `u32`, header as JSON, then per item a length `u32` and its record, and at the end the
//! SHA-256 of everything before. All numbers little-endian.

use std::collections::HashSet;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use fs_err::File;
use perennial_core::{FileKind, check_name};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::embedded::record::{MAX_RECORD_BYTES, Record};
use crate::error::GalleryError;
use crate::item::{SimplexIdentity, check_vector};
use crate::limits::MAX_DIM;
use crate::stats::SnapshotInfo;

const MAGIC: &[u8; 18] = b"perennial gallery\n";
/// How a snapshot file is recognised.
pub const FILE_KIND: FileKind = FileKind {
    name: "a snapshot of a gallery",
    recognise: |head| head.starts_with(MAGIC),
};
const FORMAT: u32 = 1;
const MAX_HEADER_BYTES: usize = 16 << 20;
const DIGEST_BYTES: u64 = 32;

/// The header of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    /// Records that follow.
    pub(crate) items: u64,
    /// Dimension of the vectors, once there is one.
    pub(crate) dim: Option<usize>,
    /// The simplex, if it was set.
    pub(crate) identity: Option<SimplexIdentity>,
    /// Names of versions by the number that records use.
    pub(crate) versions: Vec<String>,
}

impl Header {
    fn check(&self) -> Result<(), String> {
        if let Some(identity) = self.identity {
            let dim = identity.dim().map_err(|error| error.to_string())?;
            if self.dim != Some(dim) {
                return Err("its simplex and its dimension do not match".to_owned());
            }
        }
        if self.items > 0 && self.dim.is_none() {
            return Err("it has items but no dimension".to_owned());
        }
        // A gallery that took any of these over could not be opened, or would confuse versions with its next item.
        if let Some(dim) = self.dim.filter(|dim| !(1..=MAX_DIM).contains(dim)) {
            return Err(format!("it states {dim} dimensions"));
        }
        if let Some(error) = self.versions.iter().find_map(|name| check_name(name).err()) {
            return Err(format!("model version: {error}"));
        }
        let distinct: HashSet<&String> = self.versions.iter().collect();
        if distinct.len() != self.versions.len() {
            return Err("the name of a version occurs twice".to_owned());
        }
        Ok(())
    }
}

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
        if format != FORMAT {
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
        let header: Header = serde_json::from_slice(&text)
            .map_err(|error| failed(format!("its header is invalid: {error}")))?;
        header.check().map_err(failed)?;
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
        if record.version as usize >= self.header.versions.len() {
            return Err(format!("its version {} has no name", record.version));
        }
        let vector: Vec<f32> = record.embedding().collect();
        check_vector(&vector, self.header.dim, || format!("item {id}"))
            .map_err(|error| error.to_string())
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

/// The SHA-256 and the length of a file.
pub(crate) fn digest_of_file(path: &Path) -> io::Result<(String, u64)> {
    let mut file = Digesting::new(File::open(path)?);
    let mut block = vec![0; 1 << 20];
    while file.read(&mut block)? > 0 {}
    Ok((hex(&file.digest.finalize()), file.bytes))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::record::encode;
    use crate::item::{Item, ItemId};
    use proptest::prelude::*;

    fn snapshot(items: u64) -> (Vec<u8>, SnapshotInfo) {
        let header = Header {
            items,
            dim: Some(2),
            identity: Some(SimplexIdentity { vertices: 3 }),
            versions: vec!["v0001".to_owned()],
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
    fn headers_that_a_gallery_could_not_live_with_are_refused() {
        let header = |dim: Option<usize>, versions: &[&str]| Header {
            items: 0,
            dim,
            identity: None,
            versions: versions.iter().map(|&name| name.to_owned()).collect(),
        };
        let read_header = |header: &Header| {
            let mut bytes = Vec::new();
            let writer = SnapshotWriter::new(&mut bytes, header).unwrap();
            writer.finish().unwrap();
            read(&bytes)
        };
        read_header(&header(None, &[])).unwrap();
        read_header(&header(Some(MAX_DIM), &["a", "b"])).unwrap();
        for (header, problem) in [
            (header(Some(MAX_DIM + 1), &[]), "dimensions"),
            (header(Some(0), &[]), "dimensions"),
            (header(Some(2), &["a", "b", "a"]), "twice"),
            (header(Some(2), &["a\n"]), "control"),
        ] {
            let error = read_header(&header).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
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
            let start: &[u8] = if known_start { b"perennial gallery\n\x01\0\0\0" } else { b"" };
            prop_assert!(read(&[start, &bytes].concat()).is_err());
        }
    }
}

//! What an interrupted `perennial embed` has done: a file beside the result, `FILE.unfinished`, from which the same command goes on.
//!
//! The first line names everything that the rows depend on. Each record after it has lengths and a SHA-256, so that a record which was being
//! written when the program ended is noticed and left out. A journal of anything else is begun anew, so rows of two versions, inputs or
//! options never come into one result.

use std::fs::{File, TryLockError};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use anyhow::Context;
use perennial_core::{ModelVersion, Output, sha256_hex};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::exit_status::usage;
use crate::terminal::Terminal;

/// What the ending of a journal is called.
const ENDING: &str = ".unfinished";
/// The begin of its first line.
const MARK: &str = "{\"format\":\"perennial-unfinished-embeddings\",\"format_version\":1,";
/// The longest first line, in bytes.
const MAX_LINE: u64 = 1 << 16;
/// Lengths and SHA-256 before each record.
const HEAD_BYTES: usize = 4 + 8 + 64;

/// Everything that the rows of a result depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The version's name.
    pub version: String,
    /// The fingerprint of its space: weights, network and preprocessing, or the files of an encoder of another program.
    pub fingerprint: Option<String>,
    /// Where it runs: another device or runtime of graphs rounds otherwise.
    pub device: String,
    /// This program, for the same reason.
    pub program: String,
    /// The SHA-256 of the input.
    pub input_sha256: String,
    /// The options that say what is made of it.
    pub options: String,
}

impl Origin {
    pub fn new(
        version: &ModelVersion,
        device: impl Into<String>,
        input_sha256: String,
        options: String,
    ) -> Self {
        Self {
            version: version.name.clone(),
            fingerprint: version.space().fingerprint,
            device: device.into(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            input_sha256,
            options,
        }
    }

    /// What differs, in words.
    fn difference(&self, other: &Self) -> &'static str {
        if (&self.version, &self.fingerprint) != (&other.version, &other.fingerprint) {
            "another version"
        } else if self.input_sha256 != other.input_sha256 {
            "another input, or one that has changed"
        } else if self.options != other.options {
            "other options"
        } else {
            "another device, library of onnxruntime or release of this program"
        }
    }
}

/// The first line.
#[derive(Serialize, Deserialize)]
struct FirstLine {
    format: String,
    format_version: u32,
    of: Origin,
}

/// The rows of an unfinished result. `T` says what a record holds beside its vectors.
pub struct Journal<T> {
    file: File,
    path: PathBuf,
    /// Where the records begin.
    first: u64,
    /// Whether it is ours and holds nothing.
    empty: bool,
    records: PhantomData<fn(T) -> T>,
}

/// The path of the journal of an output; `None` where the result is no file.
pub fn path_of(output: &Output) -> Option<PathBuf> {
    let mut name = output.file()?.as_os_str().to_owned();
    name.push(ENDING);
    Some(name.into())
}

impl<T: Serialize + DeserializeOwned> Journal<T> {
    /// Opens or begins the journal of an output, and gives `take` its records in order. A record that `take` does not accept, and all after
    /// it, are dropped.
    ///
    /// **Errors**: another process has it open, the file is none of ours, or it cannot be read or written.
    pub fn open(
        path: PathBuf,
        origin: &Origin,
        terminal: &Terminal,
        take: impl FnMut(T, Vec<f32>) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| path.display().to_string())?;
        match file.try_lock() {
            Ok(()) if is_at(&file, &path) => {}
            // Or has just removed it, as the result is complete.
            Ok(()) | Err(TryLockError::WouldBlock) => {
                return Err(usage(format!(
                    "{}: another process is writing this result; wait for it, or name another --out",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| path.display().to_string());
            }
        }
        let mut journal = Self {
            file,
            path,
            first: 0,
            empty: false,
            records: PhantomData,
        };
        journal
            .take_up(origin, terminal, take)
            .with_context(|| journal.path.display().to_string())?;
        Ok(journal)
    }

    fn take_up(
        &mut self,
        origin: &Origin,
        terminal: &Terminal,
        take: impl FnMut(T, Vec<f32>) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let mut line = Vec::new();
        let reader = &mut BufReader::new(&self.file);
        reader.take(MAX_LINE).read_until(b'\n', &mut line)?;
        let known = MARK.len().min(line.len());
        if line[..known] != MARK.as_bytes()[..known] {
            return Err(usage(
                "is needed for the rows that are done until the result is complete, and holds something else; move it away",
            ));
        }
        let ended = line.ends_with(b"\n");
        let found = serde_json::from_slice::<FirstLine>(&line).map(|found| found.of);
        match found {
            Ok(found) if ended && found == *origin => {
                self.first = line.len() as u64;
                let end = self.records(take)?;
                self.empty = end == self.first;
                self.file.set_len(end)?;
                self.file.seek(SeekFrom::Start(end))?;
                return Ok(());
            }
            Ok(found) if ended => terminal.say(format_args!(
                "{} holds rows of {}; beginning anew",
                self.path.display(),
                found.difference(origin)
            )),
            // The program ended while it was being begun.
            _ => {}
        }
        let line = serde_json::to_string(&FirstLine {
            format: "perennial-unfinished-embeddings".to_owned(),
            format_version: 1,
            of: origin.clone(),
        })?;
        debug_assert!(line.starts_with(MARK));
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.first = line.len() as u64 + 1;
        self.empty = true;
        Ok(())
    }

    /// Reads the records, and says where the last good one ends.
    fn records(
        &self,
        mut take: impl FnMut(T, Vec<f32>) -> anyhow::Result<bool>,
    ) -> anyhow::Result<u64> {
        let length = self.file.metadata()?.len();
        let mut end = self.first;
        let mut reader = BufReader::with_capacity(1 << 18, &self.file);
        reader.seek(SeekFrom::Start(end))?;
        loop {
            let mut head = [0; HEAD_BYTES];
            if length - end < HEAD_BYTES as u64 {
                return Ok(end);
            }
            reader.read_exact(&mut head)?;
            let Some((about, values, sha256)) = lengths(&head) else {
                return Ok(end);
            };
            // Checked before memory is taken.
            let bytes = about.saturating_add(values);
            if bytes > length - end - HEAD_BYTES as u64 || values % 4 != 0 {
                return Ok(end);
            }
            let mut content = vec![0; bytes as usize];
            reader.read_exact(&mut content)?;
            let (about, values) = content.split_at(about as usize);
            let Ok(about) = serde_json::from_slice(about) else {
                return Ok(end);
            };
            let values = values.chunks_exact(4);
            let values =
                values.map(|value| f32::from_le_bytes([value[0], value[1], value[2], value[3]]));
            if sha256_hex(&content).as_bytes() != sha256 || !take(about, values.collect())? {
                return Ok(end);
            }
            end += HEAD_BYTES as u64 + bytes;
        }
    }

    /// Adds a record at the end.
    pub fn add(&mut self, about: &T, vectors: &[f32]) -> anyhow::Result<()> {
        let mut content = serde_json::to_vec(about)?;
        let about = u32::try_from(content.len()).context("a record is too large")?;
        content.extend(vectors.iter().flat_map(|value| value.to_le_bytes()));
        let mut record = Vec::with_capacity(HEAD_BYTES + content.len());
        record.extend(about.to_le_bytes());
        record.extend((4 * vectors.len() as u64).to_le_bytes());
        record.extend(sha256_hex(&content).as_bytes());
        record.extend(content);
        self.empty = false;
        let written = self.file.write_all(&record);
        written.with_context(|| format!("could not write {}", self.path.display()))
    }

    /// Gives all records in order.
    ///
    /// **Errors**: those of `take`, and a record that cannot be read back: a result without its rows would look complete.
    pub fn replay(
        &self,
        mut take: impl FnMut(T, Vec<f32>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let end = self.records(|about, vectors| take(about, vectors).map(|()| true))?;
        if end != self.file.metadata()?.len() {
            anyhow::bail!(
                "{}: was damaged while it was written; give the same command again, which goes on before the damage",
                self.path.display()
            );
        }
        Ok(())
    }

    /// Removes it, once the result is complete.
    pub fn remove(mut self) -> anyhow::Result<()> {
        self.empty = false;
        std::fs::remove_file(&self.path).with_context(|| self.path.display().to_string())
    }
}

/// Work that failed before anything was done leaves nothing behind.
impl<T> Drop for Journal<T> {
    fn drop(&mut self) {
        if self.empty {
            // There is nothing to lose in it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Whether an open file is still the one at its path. Rows in a file that another process has removed would be lost in the end.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(opened), Ok(found)) = (file.metadata(), std::fs::metadata(path)) else {
        return false;
    };
    (opened.dev(), opened.ino()) == (found.dev(), found.ino())
}

/// Whether an open file is still the one at its path, as far as can be told here.
#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}

/// Bytes of what a record says about itself, bytes of its vectors, and the SHA-256 of both.
fn lengths(head: &[u8; HEAD_BYTES]) -> Option<(u64, u64, &[u8])> {
    let (about, rest) = head.split_first_chunk()?;
    let (values, sha256) = rest.split_first_chunk()?;
    Some((
        u32::from_le_bytes(*about).into(),
        u64::from_le_bytes(*values),
        sha256,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(options: &str) -> Origin {
        Origin {
            version: "v0001".to_owned(),
            fingerprint: None,
            device: "cpu".to_owned(),
            program: "1".to_owned(),
            input_sha256: "aa".to_owned(),
            options: options.to_owned(),
        }
    }

    type Records = Vec<(u64, Vec<f32>)>;

    /// The journal and the records that it held.
    fn open(path: &Path, options: &str) -> anyhow::Result<(Journal<u64>, Records)> {
        let mut found = Vec::new();
        let terminal = Terminal::new(true, false);
        let take = |about, vectors| {
            found.push((about, vectors));
            Ok(true)
        };
        let journal = Journal::open(path.to_owned(), &origin(options), &terminal, take)?;
        Ok((journal, found))
    }

    #[test]
    fn cut_off_anywhere_it_keeps_the_records_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.unfinished");
        let records = [(3, vec![1.0, -2.5]), (u64::MAX, vec![]), (5, vec![0.25])];
        let (mut journal, found) = open(&path, "a").unwrap();
        assert!(found.is_empty());
        let mut ends = vec![std::fs::metadata(&path).unwrap().len()];
        for (about, vectors) in &records {
            journal.add(about, vectors).unwrap();
            ends.push(std::fs::metadata(&path).unwrap().len());
        }
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let (mut journal, found) = open(&path, "a").unwrap();
            let kept = ends.iter().filter(|&&end| end <= length as u64).count();
            assert_eq!(found, records[..kept.saturating_sub(1)], "{length}");
            journal.add(&9, &[9.0]).unwrap();
            drop(journal);
            let (_journal, found) = open(&path, "a").unwrap();
            assert_eq!(found.last(), Some(&(9, vec![9.0])), "{length}");
        }
        // A changed byte ends it there.
        let mut damaged = whole.clone();
        damaged[ends[1] as usize + HEAD_BYTES] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(open(&path, "a").unwrap().1, records[..1]);
        // So does a length that the file does not have.
        let mut absurd = whole;
        absurd[ends[0] as usize + 4..][..8].fill(0xfc);
        std::fs::write(&path, absurd).unwrap();
        assert!(open(&path, "a").unwrap().1.is_empty());
    }

    #[test]
    fn a_record_that_is_gone_at_the_end_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.unfinished");
        let (mut journal, _) = open(&path, "a").unwrap();
        journal.add(&1, &[1.0]).unwrap();
        journal.add(&2, &[2.0]).unwrap();
        let replayed = |journal: &Journal<u64>| {
            let mut found = Vec::new();
            journal
                .replay(|about, _| {
                    found.push(about);
                    Ok(())
                })
                .map(|()| found)
        };
        assert_eq!(replayed(&journal).unwrap(), [1, 2]);
        let length = std::fs::metadata(&path).unwrap().len();
        journal.file.set_len(length - 1).unwrap();
        let error = replayed(&journal).unwrap_err().to_string();
        assert!(error.contains("damaged"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_was_removed_or_replaced_is_no_place_for_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.unfinished");
        let file = File::create(&path).unwrap();
        assert!(is_at(&file, &path));
        std::fs::remove_file(&path).unwrap();
        assert!(!is_at(&file, &path));
        std::fs::write(&path, "").unwrap();
        assert!(!is_at(&file, &path));
    }

    #[test]
    fn rows_of_another_origin_are_dropped_and_foreign_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.unfinished");
        let (mut journal, _) = open(&path, "a").unwrap();
        journal.add(&1, &[1.0]).unwrap();
        let error = open(&path, "a").err().unwrap();
        assert!(error.to_string().contains("another process"), "{error}");
        drop(journal);
        assert!(open(&path, "b").unwrap().1.is_empty());
        assert!(!path.exists(), "nothing is done, nothing is kept");
        std::fs::write(&path, "my notes").unwrap();
        assert!(open(&path, "a").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"my notes");
    }
}

//! An export as far as it came: a file beside the result, from which the same export goes on.
//!
//! It begins with a line of JSON that says which export it is of, and holds one record for each batch: the lengths of its two parts, ids and labels with the
//! place that reading goes on from, as JSON, the vectors, and a checksum. A record that was cut off is left out when the file is read. No format of vectors
//! begins like this, so that no command takes it for a whole file.

use std::fs::TryLockError;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fs_err::File;
use perennial_core::ItemId;
use perennial_core::checksum::short_hash;
use perennial_formats::{Label, Parts, VectorSet};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::ConnectError;

/// The ending that is added to the name of the result.
const ENDING: &str = ".partial";
/// The longest first line.
const MAX_LINE: u64 = 1 << 20;

/// How far an export came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reached {
    /// Rows of the result so far.
    pub(super) rows: u64,
    /// Rows left out for their dimension.
    pub(super) dimension: u64,
    /// Rows left out because they have no label.
    pub(super) without_label: u64,
    /// Where reading goes on; nothing at the end.
    pub(super) place: Option<String>,
}

/// What a record holds beside vectors.
#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    ids: Vec<ItemId>,
    labels: Option<Vec<Label>>,
    reached: Reached,
}

/// An unfinished export, which no other process works at meanwhile.
pub(super) struct Partial {
    file: File,
    path: PathBuf,
    dim: usize,
    /// Where the first record begins.
    records: u64,
    /// Where the last one ends.
    end: u64,
    reached: Option<Reached>,
}

impl Partial {
    /// Opens what an earlier try left beside `result`, or begins anew. `what` says everything that the rows of the export depend on.
    ///
    /// # Errors
    /// [`ConnectError::Usage`] if there are rows of another export, or another file has the name; [`ConnectError::Busy`] while another process
    /// writes it.
    pub(super) fn open(result: &Path, what: &Value, dim: usize) -> Result<Self, ConnectError> {
        let mut path = result.as_os_str().to_owned();
        path.push(ENDING);
        let path = PathBuf::from(path);
        let file = fs_err::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        match file.file().try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(ConnectError::Busy(format!(
                    "another process writes {}; wait for it, or choose another --out",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let line = json!({"perennial_partial_export": 1, "of": what}).to_string();
        let mut partial = Self {
            file,
            path,
            dim,
            records: 0,
            end: 0,
            reached: None,
        };
        let mut first = Vec::new();
        let mut reader = BufReader::new(&partial.file).take(MAX_LINE);
        reader.read_until(b'\n', &mut first)?;
        let ours = first.pop().is_none_or(|last| last == b'\n');
        let known = serde_json::from_slice::<Value>(&first).unwrap_or_default();
        if !(first.is_empty() || ours && known["perennial_partial_export"] == 1) {
            return Err(ConnectError::Usage(format!(
                "{} is in the way: an export keeps there what it has read so far; move it away, or choose another --out",
                partial.path.display()
            )));
        }
        partial.records = first.len() as u64 + 1;
        partial.end = partial.records;
        partial.file.seek(SeekFrom::Start(partial.records))?;
        let has_rows = partial.file.metadata()?.len() > partial.records;
        if !first.is_empty() && known["of"] == *what {
            partial.scan()?;
        } else if !first.is_empty() && has_rows {
            return Err(ConnectError::Usage(format!(
                "{} holds rows of another export ({}); go on with that one, or remove the file, or choose another --out",
                partial.path.display(),
                known["of"]
            )));
        } else {
            partial.file.set_len(0)?;
            partial.file.seek(SeekFrom::Start(0))?;
            partial.file.write_all(format!("{line}\n").as_bytes())?;
            partial.records = line.len() as u64 + 1;
            partial.end = partial.records;
        }
        // What was cut off within a record.
        partial.file.set_len(partial.end)?;
        partial.file.seek(SeekFrom::Start(partial.end))?;
        Ok(partial)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How far the export came; nothing where it has not begun.
    pub(super) fn reached(&self) -> Option<&Reached> {
        self.reached.as_ref()
    }

    /// Adds what was read.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn keep(
        &mut self,
        set: Option<&VectorSet>,
        reached: Reached,
    ) -> Result<(), ConnectError> {
        let meta = Meta {
            ids: set.and_then(VectorSet::ids).unwrap_or_default().to_vec(),
            labels: set.and_then(VectorSet::labels).map(<[Label]>::to_vec),
            reached,
        };
        let json = serde_json::to_vec(&meta).map_err(std::io::Error::other)?;
        let values = set.map_or(&[][..], VectorSet::vectors);
        let mut record = Vec::with_capacity(24 + json.len() + size_of_val(values));
        record.extend_from_slice(&(json.len() as u64).to_le_bytes());
        record.extend_from_slice(&(size_of_val(values) as u64).to_le_bytes());
        record.extend_from_slice(&json);
        record.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        record.extend_from_slice(&short_hash(&record).to_le_bytes());
        self.file.write_all(&record)?;
        self.end += record.len() as u64;
        self.reached = Some(meta.reached);
        Ok(())
    }

    /// Gives all rows in their order.
    ///
    /// # Errors
    /// Those of `each`; the file cannot be read, or was changed.
    pub(super) fn each(
        mut self,
        space: Option<&perennial_core::SpaceId>,
        mut each: impl FnMut(VectorSet) -> Result<(), ConnectError>,
    ) -> Result<Finished, ConnectError> {
        self.file.seek(SeekFrom::Start(self.records))?;
        let mut at = self.records;
        while at < self.end {
            let (meta, vectors, bytes) = self.read()?.ok_or_else(|| {
                ConnectError::State(format!(
                    "{} was changed by another program; remove it and start over",
                    self.path.display()
                ))
            })?;
            at += bytes;
            if meta.ids.is_empty() {
                continue;
            }
            each(VectorSet::from_parts(Parts {
                dim: self.dim,
                vectors,
                ids: Some(meta.ids),
                labels: meta.labels,
                payload: None,
                space: space.cloned(),
            })?)?;
        }
        Ok(Finished(self))
    }

    /// Removes a file that holds no rows, and says whether one with rows stays.
    pub(super) fn leave(self) -> bool {
        let stays = self
            .reached
            .as_ref()
            .is_some_and(|reached| reached.rows > 0);
        if !stays {
            // A file that cannot be removed is begun anew by the next export.
            let _ = fs_err::remove_file(&self.path);
        }
        stays
    }

    /// Finds the end of the last whole record.
    fn scan(&mut self) -> Result<(), ConnectError> {
        while let Some((meta, _, bytes)) = self.read()? {
            self.end += bytes;
            self.reached = Some(meta.reached);
        }
        Ok(())
    }

    /// The next record with its length in bytes; nothing where there is no whole one.
    fn read(&mut self) -> Result<Option<(Meta, Vec<f32>, u64)>, ConnectError> {
        let left = self
            .file
            .metadata()?
            .len()
            .saturating_sub(self.file.stream_position()?);
        let mut record = vec![0; 16];
        if left < 16 {
            return Ok(None);
        }
        self.file.read_exact(&mut record)?;
        let length = |bytes: &[u8]| {
            let bytes = bytes.try_into().expect("8 bytes were read");
            u64::from_le_bytes(bytes)
        };
        let (json, values) = (length(&record[..8]), length(&record[8..]));
        let body = json.saturating_add(values);
        if body.saturating_add(24) > left || !values.is_multiple_of(4 * self.dim as u64) {
            return Ok(None);
        }
        record.resize(16 + body as usize + 8, 0);
        self.file.read_exact(&mut record[16..])?;
        let (record, checksum) = record.split_at(16 + body as usize);
        if short_hash(record) != length(checksum) {
            return Ok(None);
        }
        let (json, values) = record[16..].split_at(json as usize);
        let Ok(meta) = serde_json::from_slice::<Meta>(json) else {
            return Ok(None);
        };
        let vectors = values
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes));
        Ok(Some((meta, vectors.collect(), 24 + body)))
    }
}

/// All of whose rows were given.
pub(super) struct Finished(Partial);

impl Finished {
    /// Removes the file, now that the result is there.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(super) fn remove(self) -> Result<(), ConnectError> {
        Ok(fs_err::remove_file(&self.0.path)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[u64]) -> VectorSet {
        let vectors = ids.iter().flat_map(|&id| [id as f32, -0.5]).collect();
        let ids = ids.iter().map(|&id| ItemId::Number(id)).collect();
        VectorSet::new(2, vectors).unwrap().with_ids(ids).unwrap()
    }

    fn reached(rows: u64) -> Reached {
        Reached {
            rows,
            place: Some(rows.to_string()),
            ..Reached::default()
        }
    }

    fn rows(partial: Partial) -> Vec<ItemId> {
        let mut all = Vec::new();
        let each = |set: VectorSet| {
            all.extend_from_slice(set.ids().unwrap());
            Ok(())
        };
        partial.each(None, each).map(drop).unwrap();
        all
    }

    #[test]
    fn rows_are_kept_until_the_record_that_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let result = folder.path().join("rows.npz");
        let what = json!({"table": "items"});
        let open = || Partial::open(&result, &what, 2).unwrap();
        let mut partial = open();
        assert_eq!(partial.reached(), None);
        partial.keep(Some(&set(&[1, 2])), reached(2)).unwrap();
        // Rows that are left out move the place as well.
        partial.keep(None, reached(2)).unwrap();
        let whole = partial.end;
        partial.keep(Some(&set(&[3])), reached(3)).unwrap();
        let (path, all) = (partial.path().to_owned(), partial.end);
        drop(partial);
        assert!(perennial_formats::open(&path).is_err());
        let bytes = fs_err::read(&path).unwrap();
        for length in (whole..=all).rev() {
            fs_err::write(&path, &bytes[..length as usize]).unwrap();
            let partial = open();
            let wanted = if length == all { 3 } else { 2 };
            assert_eq!(partial.reached(), Some(&reached(wanted)), "{length}");
            assert_eq!(rows(partial).len() as u64, wanted);
        }
        // A byte that changed.
        let mut changed = bytes.clone();
        changed[all as usize - 12] ^= 1;
        fs_err::write(&path, &changed).unwrap();
        assert_eq!(rows(open()), [1, 2].map(ItemId::Number));
        // What is added then follows the last whole record.
        let mut partial = open();
        partial.keep(Some(&set(&[9])), reached(3)).unwrap();
        drop(partial);
        assert_eq!(rows(open()), [1, 2, 9].map(ItemId::Number));
        assert!(open().leave() && path.exists());
    }

    #[test]
    fn a_server_that_says_0_dimensions_ends_nothing_in_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let result = folder.path().join("rows.npz");
        let open = || Partial::open(&result, &json!({"dim": 0}), 0).unwrap();
        open().keep(None, reached(0)).unwrap();
        assert_eq!(open().reached(), Some(&reached(0)));
    }

    #[test]
    fn another_export_and_another_file_stay() {
        let folder = tempfile::tempdir().unwrap();
        let result = folder.path().join("rows.npz");
        let of = |table: &str| Partial::open(&result, &json!({ "table": table }), 2);
        let mut partial = of("a").unwrap();
        let busy = of("a").err().unwrap();
        assert!(matches!(busy, ConnectError::Busy(_)), "{busy}");
        let path = partial.path().to_owned();
        partial.keep(Some(&set(&[1])), reached(1)).unwrap();
        drop(partial);
        let error = of("b").err().unwrap().to_string();
        assert!(error.contains("rows of another export"), "{error}");
        assert_eq!(of("a").unwrap().reached(), Some(&reached(1)));
        fs_err::write(&path, "id,vector\n").unwrap();
        let error = of("a").err().unwrap().to_string();
        assert!(error.contains("in the way"), "{error}");
        assert_eq!(fs_err::read(&path).unwrap(), b"id,vector\n");
        // Without rows, nothing is lost.
        fs_err::remove_file(&path).unwrap();
        drop(of("a").unwrap());
        assert!(!of("b").unwrap().leave());
        assert!(!path.exists());
    }
}

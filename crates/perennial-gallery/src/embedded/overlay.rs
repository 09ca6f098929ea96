//! A read-only file behind the writable interface that the database needs.
//!
//! After a crash the database repairs itself when it is opened, and it notes in the file that it is closed. Here such writes
//! go to memory and are discarded at the end, so a gallery opens on a disk that cannot be written, in whatever state the last
//! process left it. The file is locked as a reader locks it: several readers at once, but none beside a writer.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};

/// Bytes that are kept in memory together once one of them was written.
const BLOCK: u64 = 4096;

/// A file with changes that stay in memory.
#[derive(Debug)]
pub(super) struct Overlay {
    file: FileBackend,
    changes: Mutex<Changes>,
}

#[derive(Debug)]
struct Changes {
    /// As the database sees it.
    len: u64,
    /// Up to here the file's own bytes count; behind it, what was never written is zero.
    file_len: u64,
    /// By the number of the block, each of [`BLOCK`] bytes.
    blocks: BTreeMap<u64, Box<[u8]>>,
}

impl Overlay {
    pub(super) fn new(file: File) -> Result<Self, DatabaseError> {
        let file = FileBackend::new(file)?;
        let len = file.len()?;
        Ok(Self {
            file,
            changes: Mutex::new(Changes {
                len,
                file_len: len,
                blocks: BTreeMap::new(),
            }),
        })
    }

    // A panic inside leaves at worst a block that was not changed yet.
    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills `out` from the file alone.
    fn read_file(&self, file_len: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = file_len.saturating_sub(offset).min(out.len() as u64) as usize;
        let (there, beyond) = out.split_at_mut(there);
        beyond.fill(0);
        if there.is_empty() {
            return Ok(());
        }
        self.file.read(offset, there)
    }
}

/// The blocks that a range touches: number, where the range begins in the block, and its bytes there.
fn blocks(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        (done < length).then(|| {
            let at = offset + done as u64;
            let inside = (at % BLOCK) as usize;
            let bytes = (BLOCK as usize - inside).min(length - done);
            let range = done..done + bytes;
            done += bytes;
            (at / BLOCK, inside, range)
        })
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.changes().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let changes = self.changes();
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > changes.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Most reads meet no change, and must not wait for each other.
        let (first, last) = (offset / BLOCK, (offset + out.len() as u64) / BLOCK);
        let file_len = changes.file_len;
        if changes.blocks.range(first..=last).next().is_none() {
            drop(changes);
            return self.read_file(file_len, offset, out);
        }
        self.read_file(file_len, offset, out)?;
        for (block, inside, range) in blocks(offset, out.len()) {
            if let Some(bytes) = changes.blocks.get(&block) {
                let length = range.len();
                out[range].copy_from_slice(&bytes[inside..inside + length]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut changes = self.changes();
        if len < changes.len {
            // What comes back after a cut is zero.
            changes.file_len = changes.file_len.min(len);
            changes.blocks.split_off(&len.div_ceil(BLOCK));
            if let Some(last) = changes.blocks.get_mut(&(len / BLOCK)) {
                last[(len % BLOCK) as usize..].fill(0);
            }
        }
        changes.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut changes = self.changes();
        let file_len = changes.file_len;
        for (block, inside, range) in blocks(offset, data.len()) {
            let bytes = match changes.blocks.entry(block) {
                std::collections::btree_map::Entry::Occupied(old) => old.into_mut(),
                std::collections::btree_map::Entry::Vacant(new) => {
                    let mut bytes = vec![0; BLOCK as usize].into_boxed_slice();
                    self.read_file(file_len, block * BLOCK, &mut bytes)?;
                    new.insert(bytes)
                }
            };
            let length = range.len();
            bytes[inside..inside + length].copy_from_slice(&data[range]);
        }
        changes.len = changes.len.max(offset + data.len() as u64);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    // A writer's locks, held as a reader holds them.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn overlay(bytes: &[u8]) -> (Overlay, tempfile::NamedTempFile) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let reading = File::open(file.path()).unwrap();
        (Overlay::new(reading).unwrap(), file)
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, Vec<u8>),
        Cut(u64),
        Read(u64, usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0u64..20_000, prop::collection::vec(any::<u8>(), 0..9000))
                .prop_map(|(at, bytes)| Step::Write(at, bytes)),
            (0u64..24_000).prop_map(Step::Cut),
            (0u64..20_000, 0usize..9000).prop_map(|(at, length)| Step::Read(at, length)),
        ];
        prop::collection::vec(step, 1..20)
    }

    proptest! {
        #[test]
        fn it_reads_as_a_file_that_was_written(start in prop::collection::vec(any::<u8>(), 0..15_000), steps in steps()) {
            let (overlay, file) = overlay(&start);
            let mut model = start.clone();
            for step in steps {
                match step {
                    Step::Write(at, bytes) => {
                        let end = at as usize + bytes.len();
                        // A database makes a file longer before it writes.
                        if end > model.len() {
                            model.resize(end, 0);
                            overlay.set_len(end as u64).unwrap();
                        }
                        model[at as usize..end].copy_from_slice(&bytes);
                        overlay.write(at, &bytes).unwrap();
                    }
                    Step::Cut(len) => {
                        model.resize(len as usize, 0);
                        overlay.set_len(len).unwrap();
                    }
                    Step::Read(at, length) => {
                        let mut out = vec![9; length];
                        let found = overlay.read(at, &mut out);
                        match model.get(at as usize..at as usize + length) {
                            Some(bytes) => prop_assert_eq!(&out[..], bytes),
                            None => prop_assert!(found.is_err()),
                        }
                    }
                }
                prop_assert_eq!(overlay.len().unwrap(), model.len() as u64);
            }
            let mut all = vec![0; model.len()];
            overlay.read(0, &mut all).unwrap();
            prop_assert_eq!(all, model);
            prop_assert_eq!(std::fs::read(file.path()).unwrap(), start);
        }
    }
}

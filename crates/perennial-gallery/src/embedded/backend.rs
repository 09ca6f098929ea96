//! The file under the database, with its space taken before it is used.
//!
//! A sparse file grows at any write, so a full disk could break a write in the middle of a commit and even the repair after
//! it. Here a file grows only where the database asks for it, with real blocks: a full disk then fails that request, and
//! everything written within the old size still finds its place.

use std::fs::File;
use std::io;
use std::ops::Bound;

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};

/// A file whose blocks exist.
#[derive(Debug)]
pub(super) struct PreallocatedFile {
    file: FileBackend,
    handle: File,
}

impl PreallocatedFile {
    pub(super) fn new(file: File) -> Result<Self, DatabaseError> {
        let handle = file.try_clone()?;
        let file = FileBackend::new(file)?;
        Ok(Self { file, handle })
    }
}

/// Takes the blocks between two sizes, where the file system can.
#[cfg(target_os = "linux")]
fn allocate(file: &File, from: u64, to: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    match fallocate(file, FallocateFlags::empty(), from, to - from) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        result => Ok(result?),
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(_file: &File, _from: u64, _to: u64) -> io::Result<()> {
    Ok(())
}

impl StorageBackend for PreallocatedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let old = self.file.len()?;
        #[cfg(test)]
        tests::refuse_growth(old, len)?;
        if len > old {
            allocate(&self.handle, old, len).inspect_err(|_| {
                // A request that failed half-way may have taken blocks behind the old end.
                let _ = self.file.set_len(old);
            })?;
        }
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
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
pub(super) mod tests {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        /// The size beyond which files do not grow on this thread: a full disk without filling one.
        pub(crate) static DISK_SIZE: Cell<u64> = const { Cell::new(u64::MAX) };
    }

    pub(super) fn refuse_growth(old: u64, len: u64) -> io::Result<()> {
        if len > old && len > DISK_SIZE.get() {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_is_not_sparse() {
        use super::*;
        use std::os::unix::fs::MetadataExt;
        let backend = PreallocatedFile::new(tempfile::tempfile().unwrap()).unwrap();
        backend.set_len(1 << 20).unwrap();
        assert_eq!(backend.len().unwrap(), 1 << 20);
        assert!(backend.handle.metadata().unwrap().blocks() * 512 >= 1 << 20);
        backend.set_len(4096).unwrap();
        assert_eq!(backend.len().unwrap(), 4096);
    }
}

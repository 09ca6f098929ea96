//! Asks the system for the content of a file before it is read. Page by page, a disk gives a fraction of what it can.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bytes that are asked for at a time.
const PART: u64 = 4 << 20;
/// Bytes that are asked for before those that are being read: not so many that they are forgotten again where memory is short.
const AHEAD: u64 = 64 << 20;
/// How often is looked how far the reading is.
const PAUSE: Duration = Duration::from_millis(1);
/// The reading has ended.
const ENDED: u64 = u64::MAX;

/// A file that is read about from its start to its end.
pub(super) struct ReadAhead {
    file: File,
    bytes: u64,
    reached: AtomicU64,
}

impl ReadAhead {
    /// `None` where it would be of no use.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        let bytes = file.metadata().ok()?.len();
        (cfg!(target_os = "linux") && bytes > AHEAD).then_some(Self {
            file,
            bytes,
            reached: AtomicU64::new(0),
        })
    }

    /// States that of `count` parts of about the same size the one with number `at` is being read.
    pub(super) fn reach(&self, at: usize, count: usize) {
        let share = self.bytes / count.max(1) as u64;
        self.reached.fetch_max(share * at as u64, Ordering::Relaxed);
    }

    /// States that the reading has ended.
    fn end(&self) {
        self.reached.store(ENDED, Ordering::Relaxed);
    }

    /// Asks until the reading has ended, and waits for the disk.
    fn run(&self) {
        let mut from = 0;
        while from < self.bytes {
            match self.reached.load(Ordering::Relaxed) {
                ENDED => return,
                reached if from > reached + AHEAD => std::thread::sleep(PAUSE),
                _ => {
                    if let Err(error) = ask(&self.file, from) {
                        tracing::debug!(%error, "the database is not read ahead");
                        return;
                    }
                    from += PART;
                }
            }
        }
    }
}

/// Does some work, and asks for the file that it reads meanwhile.
pub(super) fn beside<T>(ahead: Option<&ReadAhead>, work: impl FnOnce() -> T) -> T {
    let Some(ahead) = ahead else {
        return work();
    };
    std::thread::scope(|scope| {
        let _ends = Ends(ahead);
        // Without it, all is read as well.
        let asking = std::thread::Builder::new().spawn_scoped(scope, || ahead.run());
        if let Err(error) = asking {
            tracing::debug!(%error, "the database is not read ahead");
        }
        work()
    })
}

/// States the end, also where the work panics.
struct Ends<'a>(&'a ReadAhead);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(target_os = "linux")]
fn ask(file: &File, from: u64) -> std::io::Result<()> {
    use rustix::fs::{Advice, fadvise};
    Ok(fadvise(
        file,
        from,
        std::num::NonZeroU64::new(PART),
        Advice::WillNeed,
    )?)
}

#[cfg(not(target_os = "linux"))]
fn ask(_file: &File, _from: u64) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn it_stays_near_the_reading_and_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = File::create(&path).unwrap();
        file.set_len(AHEAD).unwrap();
        assert!(ReadAhead::of(&path).is_none());
        assert!(ReadAhead::of(&folder.path().join("none")).is_none());
        file.set_len(4 * AHEAD).unwrap();
        let ahead = ReadAhead::of(&path).unwrap();
        std::thread::scope(|scope| {
            let running = scope.spawn(|| ahead.run());
            ahead.reach(1, 4);
            // A quarter is read: what is ahead of it ends before the file does.
            std::thread::sleep(Duration::from_millis(50));
            assert!(!running.is_finished());
            ahead.reach(0, 4);
            assert_eq!(ahead.reached.load(Ordering::Relaxed), AHEAD);
            ahead.end();
        });
        let ahead = ReadAhead::of(&path).unwrap();
        ahead.reach(4, 4);
        ahead.run();
    }
}

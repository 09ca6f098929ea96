//! Work without the interpreter's lock.

use std::sync::{Mutex, OnceLock, PoisonError};

use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// The process that loaded this module.
static LOADED_BY: OnceLock<u32> = OnceLock::new();
/// Threads of a process that was forked from it, and that process.
static FORKED: Mutex<Option<(u32, &'static ThreadPool)>> = Mutex::new(None);

/// Remembers the process. Called once, when the module is loaded.
pub fn loaded() {
    let _ = LOADED_BY.get_or_init(std::process::id);
}

/// Does work without the interpreter's lock.
///
/// A process that Python forks (`multiprocessing` with `fork`, loaders of data) has a copy of this one's memory, but none of its threads: work that
/// was handed to them would never be done. It gets threads of its own when it first works.
pub fn without_lock<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    // With the interpreter's lock, without which no process is forked: the mutex is never copied while it is held.
    let threads = forked_threads();
    py.detach(|| match threads {
        Some(threads) => threads.install(work),
        None => work(),
    })
}

/// The threads of a forked process; none in the process that loaded the module, whose threads are rayon's.
fn forked_threads() -> Option<&'static ThreadPool> {
    let this = std::process::id();
    if LOADED_BY.get().is_none_or(|&process| process == this) {
        return None;
    }
    let mut forked = FORKED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((process, threads)) = *forked
        && process == this
    {
        return Some(threads);
    }
    // Without threads the work is done by the calling one alone, as far as it is not shared out.
    let threads: &'static ThreadPool = Box::leak(Box::new(ThreadPoolBuilder::new().build().ok()?));
    *forked = Some((this, threads));
    Some(threads)
}

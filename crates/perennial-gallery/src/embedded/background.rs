//! Work behind the searches: indexes are built in threads that searches go before.

use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::error::GalleryError;

/// Added to the niceness of a thread: with all of the processor wanted, it gets about a third of what a thread of a search gets.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

/// A thread that others wait for once.
pub(super) struct Joined {
    thread: Mutex<Option<JoinHandle<()>>>,
    /// What it does, for the log.
    work: &'static str,
}

impl Joined {
    /// Starts a thread that searches go before.
    pub(super) fn start(
        name: &str,
        work: &'static str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<Self, GalleryError> {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                step_back();
                run();
            })
            .map_err(|error| GalleryError::InvalidConfig {
                key: "threads",
                problem: error.to_string(),
            })?;
        Ok(Self {
            thread: Mutex::new(Some(thread)),
            work,
        })
    }

    /// Waits until it has ended.
    pub(super) fn join(&self) {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            let work = self.work;
            tracing::error!("the thread that {work} ended with a defect");
        }
    }
}

/// Lets other threads of this process go first where the processor is short. Linux only: elsewhere priorities are those of whole processes.
pub(super) fn step_back() {
    #[cfg(target_os = "linux")]
    {
        let lowered = rustix::process::getpriority_process(None)
            .and_then(|now| rustix::process::setpriority_process(None, now + NICENESS));
        if let Err(error) = lowered {
            tracing::debug!(%error, "the priority of a thread that builds indexes stays as it is");
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_thread_steps_back() {
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let before = priority();
        let of_another = std::thread::spawn(move || {
            step_back();
            priority()
        });
        assert_eq!(of_another.join().unwrap(), (before + NICENESS).min(19));
        assert_eq!(priority(), before);
    }
}

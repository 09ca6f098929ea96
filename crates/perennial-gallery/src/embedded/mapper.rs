//! The thread that maps rows. The one that keeps the graphs loads and saves them, too, which takes long, and a promotion waits for mapped vectors.

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::background::step_back;
use super::mapping;
use super::state::Shared;
use crate::error::GalleryError;

/// The handle to the thread.
pub(super) struct Mapper {
    signals: Mutex<Option<SyncSender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Mapper {
    /// Maps on the threads of a pool that others may use.
    pub(super) fn start(
        shared: Arc<Shared>,
        pool: Arc<rayon::ThreadPool>,
    ) -> Result<Self, GalleryError> {
        // A signal that waits stands for all that come before it is taken.
        let (sender, signals) = sync_channel(1);
        let work = move || {
            step_back();
            while signals.recv().is_ok() {
                mapping::catch_up(&shared, &pool);
            }
        };
        let thread = std::thread::Builder::new()
            .name("gallery-mapper".to_owned())
            .spawn(work)
            .map_err(|error| GalleryError::InvalidConfig {
                key: "threads",
                problem: error.to_string(),
            })?;
        Ok(Self {
            signals: Mutex::new(Some(sender)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Says that rows have changed, or which indexes are kept.
    pub(super) fn wake(&self) {
        let signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signals) = &*signals {
            match signals.try_send(()) {
                Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
            }
        }
    }

    /// Waits until the thread has ended, which it does after the rows that it maps at the moment once the gallery is being closed.
    pub(super) fn stop(&self) {
        drop(
            self.signals
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the thread that maps rows of the gallery ended with a defect");
        }
    }
}

//! The thread that maps rows. The one that keeps the graphs loads and saves them, too, which takes long, and a promotion waits for mapped vectors.

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::background::Joined;
use super::mapping;
use super::state::Shared;
use crate::error::GalleryError;

/// The handle to the thread.
pub(super) struct Mapper {
    signals: Mutex<Option<SyncSender<()>>>,
    thread: Joined,
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
            while signals.recv().is_ok() {
                mapping::catch_up(&shared, &pool);
            }
        };
        Ok(Self {
            signals: Mutex::new(Some(sender)),
            thread: Joined::start("gallery-mapper", "maps rows of the gallery", work)?,
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
        self.thread.join();
    }
}

//! The gallery behind a service, with the rules and counts that belong to it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use perennial_gallery::{GalleryError, GalleryStats};
use perennial_upgrade::{Certification, Stored};
use tokio::sync::{OwnedMutexGuard, Semaphore};

use crate::samples::Samples;
use crate::served_store::ServedStore;
use crate::writes::Writes;

/// The store, and what is known about its content.
pub(crate) struct Gallery {
    pub(crate) store: Arc<dyn ServedStore>,
    pub(crate) certification: Certification,
    /// For the scale of similarities.
    pub(crate) samples: Samples,
    /// Concurrent searches. Each uses all processors, so more would only take memory.
    pub(crate) searches: Arc<Semaphore>,
    /// What is being stored, so that searches notice it. A write that is over is counted.
    pub(crate) writes: Writes,
    /// Items stored without a certificate since the start.
    pub(crate) forced_writes: AtomicU64,
    /// The spaces that the last look at them found left out of searches, with the reason.
    pub(crate) left_out: Mutex<BTreeMap<String, String>>,
    versions_in_gallery: Arc<tokio::sync::Mutex<()>>,
    stored: ArcSwap<Stored>,
    /// The last count of a gallery in a database failed.
    out_of_reach: AtomicBool,
    counting: Mutex<()>,
}

impl Gallery {
    /// Counts the store; blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn new(
        store: Arc<dyn ServedStore>,
        certification: Certification,
    ) -> Result<Self, GalleryError> {
        let stored = Stored::of(&*store)?;
        let searches = 2 * std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            store,
            certification,
            samples: Samples::default(),
            searches: Arc::new(Semaphore::new(searches)),
            writes: Writes::default(),
            forced_writes: AtomicU64::new(0),
            left_out: Mutex::default(),
            versions_in_gallery: Arc::default(),
            stored: ArcSwap::from_pointee(stored),
            out_of_reach: AtomicBool::new(false),
            counting: Mutex::new(()),
        })
    }

    /// Held while a version without items in the gallery gets its first ones, and while the live pointer moves: between the check of a pair and what it
    /// permits, nothing may change that the check rests on. Both are blocking work that goes on when a request is cut off, so it is that work that holds
    /// it and not the request.
    pub(crate) async fn hold_versions(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.versions_in_gallery).lock_owned().await
    }

    /// What the gallery holds, as of the last write.
    pub(crate) fn stored(&self) -> Arc<Stored> {
        self.stored.load_full()
    }

    /// Counts the gallery; blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn count(&self) -> Result<GalleryStats, GalleryError> {
        // In turn, so that an older count never replaces a newer one.
        let _turn = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = self
            .store
            .stats()
            .and_then(|stats| Ok((stats, Stored::of(&*self.store)?)));
        let out_of_reach = counted.is_err() && self.store.is_shared();
        self.out_of_reach.store(out_of_reach, Ordering::Relaxed);
        let (stats, stored) = counted?;
        self.samples.forget_emptied(&stored);
        self.stored.store(Arc::new(stored));
        Ok(stats)
    }

    /// Whether the database that the gallery lies in did not answer the last time.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        self.out_of_reach.load(Ordering::Relaxed)
    }

    /// Counts a gallery that others write to as well; blocks. What it held before stands until it can be counted again.
    pub(crate) fn count_for_others(&self) {
        if let Err(error) = self.count() {
            tracing::warn!(%error, "the gallery could not be counted");
        }
    }

    /// Counts the gallery after a write; blocks. What was written is durable whether or not it can be counted, so a failure is logged and not
    /// reported to whoever wrote; the next count makes up for it.
    pub(crate) fn count_after_write(&self) {
        if let Err(error) = self.count() {
            tracing::error!(%error, "the gallery could not be counted after a write; its figures are older than the write");
        }
    }
}

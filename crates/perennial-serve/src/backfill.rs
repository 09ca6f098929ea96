//! The state of a backfill: what it was told, how far it is, and what searches found meanwhile. [`crate::reembedding`] does its work.

mod counts;
mod places;
mod rate;
mod view;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use perennial_gallery::{GalleryError, Hit, MAX_LIMIT, StoredItem, VectorStore};
use perennial_upgrade::Stored;
use perennial_upgrade::backfill::{
    BackfillRecord, BackfillSettings, BackfillState, Expectation, FAILURES_WITHOUT_SUCCESS,
    FirstOriginals, Outcome, Progress, Retrievals,
};
use tokio::sync::Notify;

use self::places::Admitted;
pub(crate) use self::places::Places;
use self::rate::RecentRate;
pub(crate) use self::view::{View, others};
use crate::config::ServeConfig;
use crate::error::ApiError;

/// The record is written at least so far apart, and never takes more than a twentieth of the time. What is lost by a crash is a little of the
/// count and of the list of failures, which are then tried once more.
const SAVE_EVERY: Duration = Duration::from_secs(5);
const SAVE_SHARE: u32 = 20;

/// A client that sends originals, and neither sends any nor asks for items for so long, is taken to be gone.
pub(crate) const PUSH_SILENCE: Duration = Duration::from_secs(600);

/// The backfill of one service.
pub(crate) struct Backfill {
    /// The gallery's folder, where the record lies.
    folder: Option<PathBuf>,
    current: Mutex<Current>,
    retrievals: Mutex<Retrievals>,
    /// What the gallery held when the failures were compared with it, and when they may be again.
    looked: Mutex<Option<(Arc<Stored>, Instant)>>,
    woken: Arc<Notify>,
    /// Whatever begins and ends meanwhile, since what is stored counts in any case. Grows under the lock of `current` alone.
    admitted: Admitted,
}

#[derive(Default)]
struct Current {
    record: Option<BackfillRecord>,
    /// Grows whenever work begins or ends, so that the results of earlier work are recognised.
    run: u64,
    waits_for_load: bool,
    expectation: Option<Arc<Expectation>>,
    rate: RecentRate,
    first: FirstOriginals,
    unsaved: bool,
    save_from: Option<Instant>,
    /// When a client that sends originals was heard of last.
    heard: Option<Instant>,
}

/// Work to be done.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) number: u64,
    pub(crate) target: String,
    pub(crate) settings: BackfillSettings,
}

impl Backfill {
    /// The backfill that the gallery's folder has a record of, if there is one. A service that only reads has none.
    pub(crate) fn of(config: &ServeConfig) -> Self {
        let folder = config.gallery.clone().filter(|_| !config.read_only);
        let record = folder.as_deref().and_then(|folder| {
            BackfillRecord::read(folder).unwrap_or_else(|error| {
                tracing::error!(%error, "the backfill is not continued");
                None
            })
        });
        let current = Current {
            record,
            run: 1,
            heard: Some(Instant::now()),
            rate: RecentRate::since(Instant::now()),
            ..Current::default()
        };
        Self {
            folder,
            current: Mutex::new(current),
            retrievals: Mutex::default(),
            looked: Mutex::default(),
            woken: Arc::new(Notify::new()),
            admitted: Admitted::default(),
        }
    }

    /// Counts what a search found, each hit with its standard score where hits of several spaces were merged. Items of the query's own space are
    /// found as well as they can be. A search never waits for this.
    pub(crate) fn retrieved<'a>(
        &self,
        query_space: &str,
        hits: impl IntoIterator<Item = (&'a Hit, Option<f64>)>,
    ) {
        let mut hits = hits.into_iter();
        let others = hits
            .by_ref()
            .filter(|(hit, _)| hit.model_version != query_space);
        let mut others = others.peekable();
        if others.peek().is_none() {
            return;
        }
        let mut retrievals = match self.retrievals.try_lock() {
            Ok(retrievals) => retrievals,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        for (hit, standard_score) in others {
            retrievals.note(&hit.id, &hit.model_version, standard_score);
        }
    }

    /// What searches found. While it is locked, searches do not count, so nothing is read meanwhile.
    pub(crate) fn retrievals(&self) -> &Mutex<Retrievals> {
        &self.retrievals
    }

    /// Notified when there may be something to do.
    pub(crate) fn woken(&self) -> Arc<Notify> {
        Arc::clone(&self.woken)
    }

    /// The work, while there is some.
    pub(crate) fn run(&self) -> Option<Run> {
        let current = self.current();
        let record = current.record.as_ref()?;
        (record.state == BackfillState::Running).then(|| Run {
            number: current.run,
            target: record.target.clone(),
            settings: record.settings.clone(),
        })
    }

    /// Whether work goes on under this number.
    pub(crate) fn is_current(&self, run: u64) -> bool {
        self.run().is_some_and(|now| now.number == run)
    }

    /// Whether this item failed, as it is now.
    pub(crate) fn has_failed(&self, item: &StoredItem) -> bool {
        let current = self.current();
        let record = current.record.as_ref();
        record.is_some_and(|record| record.has_failed(item))
    }

    /// Begins; blocks. With `retry`, items that failed before are tried again.
    ///
    /// # Errors
    /// 409 while another backfill is running, 503 where the record cannot be written.
    pub(crate) fn start(
        &self,
        target: &str,
        settings: BackfillSettings,
        retry: bool,
    ) -> Result<(), ApiError> {
        let mut current = self.current();
        let before = current.record.clone();
        let mut record = BackfillRecord::new(target, settings);
        match before {
            Some(before) if before.state == BackfillState::Running => {
                return Err(ApiError::conflict(
                    "a backfill is running; pause it to begin another one",
                ));
            }
            Some(before) if !retry => record.keep_failures_of(before),
            _ => {}
        }
        let before = current.record.replace(record);
        if let Err(error) = self.save(&mut current) {
            current.record = before;
            return Err(error);
        }
        self.begin(&mut current);
        Ok(())
    }

    /// Stops the work, to be resumed; blocks.
    ///
    /// # Errors
    /// 409 unless it is running, 503 where the record cannot be written.
    pub(crate) fn pause(&self) -> Result<(), ApiError> {
        let mut current = self.current();
        let record = current.record.as_ref();
        if record.is_none_or(|record| record.state != BackfillState::Running) {
            return Err(ApiError::conflict("no backfill is running"));
        }
        self.change_state(&mut current, BackfillState::Paused)?;
        current.run += 1;
        current.waits_for_load = false;
        Ok(())
    }

    /// Goes on; blocks.
    ///
    /// # Errors
    /// 409 unless it is paused and its target is live, 503 where the record cannot be written.
    pub(crate) fn resume(&self, live: Option<&str>) -> Result<(), ApiError> {
        let mut current = self.current();
        let record = current.record.as_ref();
        let Some(record) = record.filter(|record| record.state == BackfillState::Paused) else {
            return Err(ApiError::conflict("no backfill is paused"));
        };
        if live != Some(record.target.as_str()) {
            return Err(ApiError::conflict(format!(
                "it embeds by {}, which is not live; begin another one",
                record.target
            )));
        }
        self.change_state(&mut current, BackfillState::Running)?;
        self.begin(&mut current);
        Ok(())
    }

    /// Forgets the backfill with its failures; blocks. What it embedded stays.
    ///
    /// # Errors
    /// 503 where the record cannot be removed.
    pub(crate) fn cancel(&self) -> Result<(), ApiError> {
        let mut current = self.current();
        if let Some(folder) = &self.folder {
            BackfillRecord::remove(folder).map_err(|error| unsaved(&error))?;
        }
        *current = Current {
            run: current.run + 1,
            ..Current::default()
        };
        Ok(())
    }

    /// Pauses for a reason of its own; blocks.
    pub(crate) fn pause_because(&self, run: u64, reason: impl Into<String>, stored: &Stored) {
        self.end(run, BackfillState::Paused, reason.into(), stored);
    }

    /// Finishes; blocks.
    pub(crate) fn finish(&self, run: u64, reason: impl Into<String>, stored: &Stored) {
        self.end(run, BackfillState::Finished, reason.into(), stored);
    }

    fn end(&self, run: u64, state: BackfillState, reason: String, stored: &Stored) {
        let mut current = self.current();
        if current.run != run {
            return;
        }
        let Current {
            record: Some(record),
            expectation,
            ..
        } = &mut *current
        else {
            return;
        };
        match state {
            BackfillState::Paused => tracing::warn!(reason, "the backfill pauses"),
            _ => tracing::info!(reason, done = record.done, "the backfill is finished"),
        }
        record.end(state, reason, stored, expectation.as_deref());
        current.run += 1;
        current.waits_for_load = false;
        // Already logged; nobody waits for it.
        let _ = self.save(&mut current);
    }

    /// Notes that the client that sends the originals is there.
    pub(crate) fn hear(&self, now: Instant) {
        self.current().heard = Some(now);
    }

    /// Whether the client that sends the originals has not been heard of for too long.
    pub(crate) fn is_silent(&self, run: u64, now: Instant) -> bool {
        let current = self.current();
        let heard = current.heard.filter(|_| current.run == run);
        heard.is_some_and(|heard| now.saturating_duration_since(heard) >= PUSH_SILENCE)
    }

    /// Says whether the work waits until the service is less busy.
    pub(crate) fn wait_for_load(&self, run: u64, waits: bool) {
        let mut current = self.current();
        if current.run == run {
            current.waits_for_load = waits;
        }
    }

    /// What the certificates let expect, from now on.
    pub(crate) fn expect(&self, run: u64, expectation: Arc<Expectation>) {
        let mut current = self.current();
        if current.run == run {
            if let Some(record) = &mut current.record {
                record.forget_failures_of_other_modality(&expectation);
            }
            current.expectation = Some(expectation);
        }
    }

    /// Takes in what became of some items; blocks. `worked` is the time since the last call. What an earlier run has done counts as well: it is in the
    /// gallery. What failed in it does not: the originals may lie elsewhere now, or are to be tried again.
    pub(crate) fn note(&self, run: u64, mut outcome: Outcome, worked: Duration, stored: &Stored) {
        {
            let retrievals = self.retrievals.lock();
            let mut retrievals = retrievals.unwrap_or_else(PoisonError::into_inner);
            let failed = outcome.failed.iter().map(|(item, _)| &item.id);
            let ids = outcome.done.iter().chain(&outcome.changed).chain(failed);
            ids.for_each(|id| retrievals.forget(id));
        }
        let mut current = self.current();
        if current.run != run {
            outcome.failed.clear();
        }
        let Current {
            record: Some(record),
            expectation,
            rate,
            first,
            ..
        } = &mut *current
        else {
            return;
        };
        let all_kept = record.note(&outcome, worked, stored, expectation.as_deref());
        let useless = first.are_useless(&outcome);
        rate.note(outcome.done.len() as u64);
        let lost = !all_kept;
        current.unsaved = true;
        let run = current.run;
        if current.save_from.is_none_or(|from| Instant::now() >= from) {
            let _ = self.save(&mut current);
        }
        drop(current);
        if useless {
            self.pause_because(
                run,
                format!("none of the first {FAILURES_WITHOUT_SUCCESS} originals could be used; look at the failures, and begin another one with `retry` (`perennial gallery backfill --retry`)"),
                stored,
            );
        } else if lost {
            self.pause_because(run, "too many items failed to remember them all", stored);
        }
    }

    /// Forgets failures of items that were deleted, stored anew or embedded again by others since, so that they are not counted; blocks. Nothing is
    /// read where the gallery was not counted since the last time, and it never takes more than a twentieth of the time.
    ///
    /// # Errors
    /// Those of the gallery.
    pub(crate) fn forget_changed(
        &self,
        store: &dyn VectorStore,
        stored: &Arc<Stored>,
    ) -> Result<(), GalleryError> {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let known = looked
            .as_ref()
            .is_some_and(|(seen, until)| Arc::ptr_eq(seen, stored) || Instant::now() < *until);
        if known {
            return Ok(());
        }
        let start = Instant::now();
        self.forget_changed_now(store)?;
        *looked = Some((
            Arc::clone(stored),
            Instant::now() + start.elapsed() * SAVE_SHARE,
        ));
        Ok(())
    }

    /// The same at once.
    ///
    /// # Errors
    /// Those of the gallery.
    pub(crate) fn forget_changed_now(&self, store: &dyn VectorStore) -> Result<(), GalleryError> {
        let failed = self.view(|view| view.record.map(BackfillRecord::failed_ids));
        for ids in failed.unwrap_or_default().chunks(MAX_LIMIT) {
            let found = store.get(ids, false)?;
            let mut current = self.current();
            if let Some(record) = &mut current.record {
                let forgotten = record.forget_unless_found(ids, &found);
                current.unsaved |= forgotten;
            }
        }
        Ok(())
    }

    /// How far it is, for its stop rule.
    pub(crate) fn progress(&self, stored: &Stored) -> Progress {
        let current = self.current();
        let Some(record) = &current.record else {
            return Progress::default();
        };
        record.progress(stored, current.expectation.as_deref())
    }

    /// Admits up to so many items that are about to be embedded again, as the stop rule allows beside those that others are at work on; `at_least` where
    /// nobody is. To be dropped once the outcome is [noted](Self::note).
    pub(crate) fn admit(&self, wanted: usize, at_least: usize, stored: &Stored) -> Places {
        let current = self.current();
        let left = current.record.as_ref().and_then(|record| {
            let admitted = self.admitted.count();
            let mut progress = record.progress(stored, current.expectation.as_deref());
            progress.done += admitted;
            progress.live_items += admitted;
            let left = record.settings.stop.items_left(&progress)?;
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            Some(if admitted == 0 {
                left.max(at_least)
            } else {
                left
            })
        });
        self.admitted.admit(wanted.min(left.unwrap_or(wanted)))
    }

    /// Everything that is shown, without a copy of the failures.
    pub(crate) fn view<T>(&self, show: impl FnOnce(&View<'_>) -> T) -> T {
        let mut current = self.current();
        let items_per_second = current.rate.per_second();
        show(&View {
            record: current.record.as_ref(),
            waits_for_load: current.waits_for_load,
            expectation: current.expectation.as_deref(),
            items_per_second,
        })
    }

    /// Writes another state, or leaves it as it was.
    fn change_state(&self, current: &mut Current, state: BackfillState) -> Result<(), ApiError> {
        let Some(record) = &mut current.record else {
            return Ok(());
        };
        let before = (record.state, record.reason.take());
        record.state = state;
        let saved = self.save(current);
        if saved.is_err()
            && let Some(record) = &mut current.record
        {
            (record.state, record.reason) = before;
        }
        saved
    }

    fn begin(&self, current: &mut Current) {
        current.run += 1;
        current.waits_for_load = false;
        current.expectation = None;
        current.rate = RecentRate::since(Instant::now());
        current.heard = Some(Instant::now());
        current.first = FirstOriginals::default();
        self.woken.notify_one();
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self, current: &mut Current) -> Result<(), ApiError> {
        let (Some(folder), Some(record)) = (&self.folder, &current.record) else {
            return Ok(());
        };
        let start = Instant::now();
        let written = record.write(folder);
        current.save_from = Some(Instant::now() + SAVE_EVERY.max(start.elapsed() * SAVE_SHARE));
        current.unsaved = written.is_err();
        written.map_err(|error| unsaved(&error))
    }
}

/// Keeps the last seconds of progress.
impl Drop for Backfill {
    fn drop(&mut self) {
        let mut current = self.current();
        if current.unsaved {
            // Already logged.
            let _ = self.save(&mut current);
        }
    }
}

fn unsaved(error: &std::io::Error) -> ApiError {
    tracing::error!(%error, "the record of the backfill could not be written");
    ApiError::unavailable("the gallery's folder is full or cannot be written; nothing was changed")
}

#[cfg(test)]
mod tests;

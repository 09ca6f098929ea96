//! `backfill.json` in a gallery's folder: settings, failures and progress of a backfill.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use perennial_core::{read_at_most, remove_durably, sha256_hex, write_atomically};
use perennial_gallery::{GalleryError, ItemId, MAX_LIMIT, StoredItem, VectorStore};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::curve::Curve;
use super::expectation::Expectation;
use super::failure::{Failure, FailureReason};
use super::order::Order;
use super::outcome::Outcome;
use super::pace::check_rate;
use super::source::OriginalsSource;
use super::stop::{Progress, StopRule};
use crate::stored::Stored;

const FILE: &str = "backfill.json";
const SCHEMA_VERSION: u32 = 1;
const MAX_BYTES: u64 = 1 << 28;
/// Failures that are remembered. A backfill with more has the wrong source.
const MAX_FAILURES: usize = 100_000;
/// Hexadecimal digits that tell an item from what it was before.
const SEEN_DIGITS: usize = 16;

/// What a backfill was told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackfillSettings {
    /// Where the originals lie.
    pub originals: OriginalsSource,
    /// Which items come first.
    #[serde(default)]
    pub order: Order,
    /// The most items per second, at least 0.001; none for as many as the machine gives beside its other work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items_per_second: Option<f64>,
    /// When it has done enough; unless told otherwise, when everything is embedded again.
    #[serde(default)]
    pub stop: StopRule,
}

impl BackfillSettings {
    /// Says whether the values can be meant.
    ///
    /// # Errors
    /// What is wrong, with the key.
    pub fn check(&self) -> Result<(), String> {
        if let Some(rate) = self.items_per_second {
            check_rate(rate).map_err(|problem| format!("items_per_second: {problem}"))?;
        }
        self.stop.check()
    }
}

/// What a backfill is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackfillState {
    /// It works, now or as soon as a process has the gallery open again.
    Running,
    /// It waits to be resumed.
    Paused,
    /// Nothing is left to do, or its stop rule is met.
    Finished,
}

/// A backfill, as its file keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackfillRecord {
    schema_version: u32,
    /// The version whose space the items go to: the live one when it was started.
    pub target: String,
    /// What it was told.
    pub settings: BackfillSettings,
    /// What it is doing.
    pub state: BackfillState,
    /// Why it is paused or finished, where it did that itself.
    pub reason: Option<String>,
    /// Items that it embedded again.
    pub done: u64,
    /// Items that were changed or deleted by others between reading and writing.
    pub changed: u64,
    /// Seconds that it worked.
    pub seconds: f64,
    /// Points of its curve.
    pub curve: Curve,
    #[serde(with = "as_list")]
    failures: BTreeMap<ItemId, Failed>,
}

#[derive(Debug, Clone, PartialEq)]
struct Failed {
    /// Tells whether the item is still the one that failed.
    seen: String,
    /// The space that it was in; not known of failures that an older program recorded.
    space: Option<String>,
    failure: Failure,
}

/// A file that is no record of a backfill.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It cannot be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("{}: {problem}; remove the file to forget the backfill", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl BackfillRecord {
    /// A backfill that begins.
    pub fn new(target: &str, settings: BackfillSettings) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            target: target.to_owned(),
            settings,
            state: BackfillState::Running,
            reason: None,
            done: 0,
            changed: 0,
            seconds: 0.0,
            curve: Curve::default(),
            failures: BTreeMap::new(),
        }
    }

    /// The file in a gallery's folder.
    pub fn path(gallery: &Path) -> PathBuf {
        gallery.join(FILE)
    }

    /// Reads the record of a gallery's folder, if there is one.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn read(gallery: &Path) -> Result<Option<Self>, RecordError> {
        let path = Self::path(gallery);
        let bytes = match read_at_most(&path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let content = |problem: String| RecordError::Content {
            path: path.clone(),
            problem,
        };
        let record: Self =
            serde_json::from_slice(&bytes).map_err(|error| content(error.to_string()))?;
        if record.schema_version != SCHEMA_VERSION {
            return Err(content(format!(
                "schema_version {} is not one that this program reads",
                record.schema_version
            )));
        }
        record.settings.check().map_err(content)?;
        Ok(Some(record))
    }

    /// Writes the record, in one step.
    ///
    /// # Errors
    /// The error names the file, which stays as it was.
    pub fn write(&self, gallery: &Path) -> io::Result<()> {
        let text = serde_json::to_string(self).map_err(io::Error::other)?;
        write_atomically(Self::path(gallery), text + "\n")
    }

    /// Removes the record of a gallery's folder, if there is one. A power cut does not bring it back.
    ///
    /// # Errors
    /// The error names the file.
    pub fn remove(gallery: &Path) -> io::Result<()> {
        match remove_durably(&Self::path(gallery)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes in what became of some items, and what the gallery holds now. `worked` is the time that it took. False where there are more
    /// failures than can be remembered.
    pub fn note(
        &mut self,
        outcome: &Outcome,
        worked: Duration,
        stored: &Stored,
        expectation: Option<&Expectation>,
    ) -> bool {
        self.done += outcome.done.len() as u64;
        self.changed += outcome.changed.len() as u64;
        self.seconds += worked.as_secs_f64();
        outcome.done.iter().for_each(|id| {
            self.failures.remove(id);
        });
        let mut all_kept = true;
        for (item, failure) in &outcome.failed {
            all_kept &= self.fail(item, failure.clone());
        }
        let progress = self.progress(stored, expectation);
        self.curve.add(&progress, false);
        all_kept
    }

    /// How far it is.
    pub fn progress(&self, stored: &Stored, expectation: Option<&Expectation>) -> Progress {
        let live_items = stored.per_version.get(&self.target);
        Progress {
            items: stored.items,
            live_items: live_items.copied().unwrap_or(0),
            done: self.done,
            seconds: self.seconds,
            quality: expectation.and_then(|one| one.quality(stored, &self.target)),
        }
    }

    /// Ends it, for a reason of its own; the curve gets its last point.
    pub fn end(
        &mut self,
        state: BackfillState,
        reason: String,
        stored: &Stored,
        expectation: Option<&Expectation>,
    ) {
        let progress = self.progress(stored, expectation);
        self.curve.add(&progress, true);
        self.state = state;
        self.reason = Some(reason);
    }

    /// Why nothing is left to do, in words. `of_other_modality` items cannot be embedded by the target at all.
    pub fn all_done(&self, of_other_modality: u64) -> String {
        let other = format!(
            "{of_other_modality} items of a modality that {} does not embed",
            self.target
        );
        match (self.failures(), of_other_modality) {
            (0, 0) => format!("everything is embedded by {}", self.target),
            (0, _) => format!("nothing is left but {other}"),
            (failed, 0) => format!("nothing is left but {failed} items that failed"),
            (failed, _) => format!("nothing is left but {failed} items that failed, and {other}"),
        }
    }

    /// Remembers that an item could not be embedded again. False where there are too many to be remembered.
    fn fail(&mut self, item: &StoredItem, failure: Failure) -> bool {
        if self.failures.len() >= MAX_FAILURES && !self.failures.contains_key(&item.id) {
            return false;
        }
        let failed = Failed {
            seen: seen(item),
            space: Some(item.model_version.clone()),
            failure,
        };
        self.failures.insert(item.id.clone(), failed);
        true
    }

    /// Whether this item failed, as it is now. One that was stored anew since is another item.
    pub fn has_failed(&self, item: &StoredItem) -> bool {
        let failed = self.failures.get(&item.id);
        failed.is_some_and(|failed| failed.seen == seen(item))
    }

    /// Takes over the failures of an earlier backfill, so that they are not tried again. What another version could not embed, this one may; and
    /// items of this one's own space are not to be embedded again, so they are among its items and not among its failures.
    pub fn keep_failures_of(&mut self, earlier: Self) {
        self.failures = earlier.failures;
        if earlier.target != self.target {
            let target = &self.target;
            self.failures.retain(|_, failed| {
                let by_version = matches!(
                    failed.failure.reason,
                    FailureReason::OtherModality | FailureReason::NoEmbedding
                );
                !by_version && failed.space.as_ref().is_some_and(|space| space != target)
            });
        }
    }

    /// Forgets failures of spaces whose items are not tried, since their version embeds nothing that the target embeds: these are counted as
    /// such, all of them.
    pub fn forget_failures_of_other_modality(&mut self, expectation: &Expectation) {
        self.failures.retain(|_, failed| {
            let space = failed.space.as_deref();
            !space.is_some_and(|space| expectation.is_of_other_modality(space))
        });
    }

    /// The failed items, in the order of their ids.
    pub fn failed_ids(&self) -> Vec<ItemId> {
        self.failures.keys().cloned().collect()
    }

    /// Forgets the failures of some items that are not among those found: they were deleted, stored anew or embedded again by others. Says whether
    /// there were any.
    pub fn forget_unless_found(&mut self, ids: &[ItemId], found: &[StoredItem]) -> bool {
        let before = self.failures.len();
        let found: BTreeMap<&ItemId, &StoredItem> =
            found.iter().map(|item| (&item.id, item)).collect();
        for id in ids {
            if !found.get(id).is_some_and(|item| self.has_failed(item)) {
                self.failures.remove(id);
            }
        }
        self.failures.len() < before
    }

    /// The same of all failed items, by what a gallery holds.
    ///
    /// # Errors
    /// Those of the gallery.
    pub fn forget_changed(&mut self, store: &dyn VectorStore) -> Result<(), GalleryError> {
        for ids in self.failed_ids().chunks(MAX_LIMIT) {
            self.forget_unless_found(ids, &store.get(ids, false)?);
        }
        Ok(())
    }

    /// The number of failed items by reason. `of_other_modality` are those that cannot be embedded by the target, whatever their originals are;
    /// they are not tried.
    pub fn failed(&self, of_other_modality: u64) -> BTreeMap<FailureReason, u64> {
        let mut counts = BTreeMap::new();
        if of_other_modality > 0 {
            counts.insert(FailureReason::OtherModality, of_other_modality);
        }
        for failed in self.failures.values() {
            *counts.entry(failed.failure.reason).or_default() += 1;
        }
        counts
    }

    /// Failed items in all.
    pub fn failures(&self) -> u64 {
        self.failures.len() as u64
    }

    /// The first failed items, in the order of their ids.
    pub fn first_failures(&self, limit: usize) -> impl Iterator<Item = (&ItemId, &Failure)> {
        let failures = self.failures.iter().take(limit);
        failures.map(|(id, failed)| (id, &failed.failure))
    }
}

/// Identifies space, label and payload of an item.
fn seen(item: &StoredItem) -> String {
    let content = (&item.model_version, item.label, &item.payload);
    let bytes = serde_json::to_vec(&content).unwrap_or_default();
    let mut hash = sha256_hex(&bytes);
    hash.truncate(SEEN_DIGITS);
    hash
}

/// JSON has no keys but texts, and ids may be numbers.
mod as_list {
    use serde::{Deserializer, Serializer};

    use super::{BTreeMap, Deserialize, Failed, Failure, ItemId, Serialize};

    #[derive(Serialize, Deserialize)]
    struct Entry {
        id: ItemId,
        seen: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        space: Option<String>,
        #[serde(flatten)]
        failure: Failure,
    }

    pub(super) fn serialize<S: Serializer>(
        failures: &BTreeMap<ItemId, Failed>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(failures.iter().map(|(id, failed)| Entry {
            id: id.clone(),
            seen: failed.seen.clone(),
            space: failed.space.clone(),
            failure: failed.failure.clone(),
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<ItemId, Failed>, D::Error> {
        let entries = Vec::<Entry>::deserialize(deserializer)?;
        let failed = |entry: Entry| {
            let Entry {
                id,
                seen,
                space,
                failure,
            } = entry;
            let failed = Failed {
                seen,
                space,
                failure,
            };
            (id, failed)
        };
        Ok(entries.into_iter().map(failed).collect())
    }
}

#[cfg(test)]
mod tests;

//! Items on their way into the gallery: their versions are checked, then all of them are stored at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use perennial_core::ModelVersion;
use perennial_gallery::{Item, Upserted};

use crate::admission::admit;
use crate::blocking::blocking;
use crate::error::ApiError;
use crate::gallery::Gallery;
use crate::inference::Inference;
use crate::planning::Planning;
use crate::telemetry::{Stage, Telemetry};
use crate::versions::Versions;

/// What storing items reads and changes.
pub(crate) struct Storing {
    pub(crate) planning: Arc<Planning>,
    pub(crate) versions: Arc<Versions>,
    pub(crate) inference: Arc<Inference>,
    pub(crate) gallery: Arc<Gallery>,
    pub(crate) telemetry: Arc<Telemetry>,
}

impl Storing {
    /// Stores items that have their embeddings, all or none; `force` also stores those of versions that are not certified.
    ///
    /// # Errors
    /// 409 for versions that the live one is not certified to find, 422 for items that cannot be stored, those of the gallery.
    pub(crate) async fn store(
        self: &Arc<Self>,
        items: Vec<Item>,
        force: bool,
    ) -> Result<Upserted, ApiError> {
        let stored = self.gallery.stored();
        let known = items
            .iter()
            .all(|item| stored.per_version.contains_key(&item.model_version));
        // Only a version's first items can create a pair of versions that was not checked yet.
        let first = match known {
            true => None,
            false => Some(self.gallery.hold_versions().await),
        };
        let upserted = {
            let storing = Arc::clone(self);
            blocking(move || {
                // Held here, since this goes on when the client leaves or the time is over.
                let _first = first;
                storing.commit(items, force)
            })
            .await?
        };
        if !known {
            // A dual route reaches the first items of a space with their own encoder only.
            let planning = Arc::clone(&self.planning);
            let kept = blocking(move || {
                planning.keep_encoders(false);
                Ok(())
            });
            if let Err(error) = kept.await {
                tracing::error!(%error, "old encoders are loaded a few seconds later");
            }
        }
        Ok(upserted)
    }

    /// The blocking part.
    fn commit(&self, items: Vec<Item>, force: bool) -> Result<Upserted, ApiError> {
        let mut versions: BTreeSet<&str> = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            if item.embedding.is_empty() {
                return Err(ApiError::unprocessable(format!(
                    "items[{index}]: expected `image`, `text` or `embedding`"
                )));
            }
            if item.model_version.is_empty() {
                return Err(ApiError::unprocessable(format!(
                    "items[{index}].model_version: name the version that produced the embedding"
                )));
            }
            versions.insert(&item.model_version);
        }
        let mut known: Vec<Arc<ModelVersion>> = Vec::with_capacity(versions.len());
        for name in &versions {
            let version = self.versions.get(name)?;
            if version.name != *name {
                return Err(ApiError::unprocessable(format!(
                    "model_version: {name} is an alias of {}; name the version itself",
                    version.name
                )));
            }
            known.push(version);
        }
        for (index, item) in items.iter().enumerate() {
            let version = known
                .iter()
                .find(|version| version.name == item.model_version);
            if let Some(version) = version.filter(|version| version.dim != item.embedding.len()) {
                return Err(ApiError::unprocessable(format!(
                    "items[{index}].embedding: has {} values, those of {} have {}",
                    item.embedding.len(),
                    version.name,
                    version.dim
                )));
            }
        }
        let live = self.inference.live.current();
        let admission = admit(&self.gallery, live.as_deref(), &known, force)?;
        let items_stored = items.len() as u64;
        let mut written: BTreeMap<String, u64> = BTreeMap::new();
        for item in &items {
            *written.entry(item.model_version.clone()).or_default() += 1;
        }
        let _writing = self.gallery.writes.begin(written.keys().cloned());
        let start = Instant::now();
        let upserted = self.gallery.store.upsert(items)?;
        admission.written(&self.gallery);
        self.telemetry.stage(Stage::Commit, start.elapsed());
        if admission.forced {
            self.gallery
                .forced_writes
                .fetch_add(items_stored, Ordering::Relaxed);
            self.telemetry.forced("upsert", items_stored);
        }
        for (version, items) in written {
            self.gallery.samples.wrote(&version, items);
        }
        self.gallery.count_after_write();
        Ok(upserted)
    }
}

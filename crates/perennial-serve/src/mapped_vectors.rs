//! The indexes of mapped vectors that certified routes need, kept in the gallery's memory.

use std::time::{Duration, Instant};

use perennial_gallery::{MappedIndex, VectorMap};
use perennial_upgrade::{LoadedModel, Need};

use crate::gallery::Gallery;
use crate::planning::Planning;

/// Between two looks at an index that is being built.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A build that makes no progress for so long is not waited for.
const STUCK: Duration = Duration::from_secs(60);

impl Gallery {
    /// Whether an index is built, so that searches may go through it.
    pub(crate) fn is_mapped(&self, need: Need<'_>) -> bool {
        match need {
            Need::OldEncoder(_) => false,
            Need::MappedIndex { space, map } => self.store.has_mapped(space, map.key()),
        }
    }

    /// Why an index cannot be used, if it cannot.
    pub(crate) fn mapped_problem(&self, need: Need<'_>) -> Result<(), String> {
        match (self.is_mapped(need), self.store.offers_mapped()) {
            (true, _) => Ok(()),
            (false, true) => Err("its index is not built yet".to_owned()),
            (false, false) => Err(
                "this gallery lies in a database, where no index of mapped vectors is kept in memory"
                    .to_owned(),
            ),
        }
    }
}

impl Planning {
    /// Has the gallery keep the indexes that the best routes of all versions need with which searches may be made, and no others. What is missing is
    /// built in the background.
    pub(crate) fn keep_mapped(&self) {
        let store = &self.gallery.store;
        if !store.offers_mapped() {
            return;
        }
        let stored = self.gallery.stored();
        let mut wanted: Vec<MappedIndex> = Vec::new();
        for model in self.inference.may_search() {
            for index in self.best_plan(&model.version, &stored).mapped_indexes() {
                if !wanted
                    .iter()
                    .any(|one| one.is(&index.space, index.map.key()))
                {
                    wanted.push(index);
                }
            }
        }
        let kept = store.mapped();
        let is_kept = |one: &MappedIndex| {
            let mut kept = kept.iter();
            kept.any(|kept| one.is(&kept.space, &kept.map))
        };
        if wanted.len() == kept.len() && wanted.iter().all(is_kept) {
            return;
        }
        if let Err(error) = store.keep_mapped(&wanted) {
            tracing::error!(%error, "indexes of mapped vectors cannot be kept");
        }
    }

    /// Waits until the indexes are built that the best routes of a version need; blocks. One that makes no progress is given up: the verdict says that
    /// it is missing.
    pub(crate) fn wait_for_mapped(&self, model: &LoadedModel) {
        let store = &self.gallery.store;
        let stored = self.gallery.stored();
        let wanted = self.best_plan(&model.version, &stored).mapped_indexes();
        let missing = || {
            let mut wanted = wanted.iter();
            wanted.any(|one| !store.has_mapped(one.space.as_str(), one.map.key()))
        };
        let mut progress = (0, Instant::now());
        while store.offers_mapped() && missing() {
            let done = store
                .mapped()
                .iter()
                .map(|one| one.items + one.refused)
                .sum();
            if done != progress.0 {
                progress = (done, Instant::now());
            }
            if progress.1.elapsed() > STUCK {
                tracing::error!(
                    "indexes of mapped vectors make no progress and are not waited for"
                );
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

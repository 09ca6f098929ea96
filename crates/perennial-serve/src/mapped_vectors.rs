//! The indexes of mapped vectors that certified routes need, kept in the gallery's memory.

use std::time::{Duration, Instant};

use perennial_gallery::{MappedIndex, VectorMap};
use perennial_upgrade::{LoadedModel, Need, Stored};

use crate::error::ApiError;
use crate::gallery::Gallery;
use crate::lifecycle::Lifecycle;
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

    /// What is to be said of an index that a swap needs, and why it cannot be used, if it cannot. In a dry run nothing is built, and it is said what
    /// will be.
    pub(crate) fn mapped_for_swap(
        &self,
        need: Need<'_>,
        stored: &Stored,
        dry_run: bool,
    ) -> Result<Option<String>, String> {
        match need {
            Need::MappedIndex { space, map }
                if dry_run && self.store.offers_mapped() && !self.is_mapped(need) =>
            {
                let items = stored.per_version.get(space).copied().unwrap_or(0);
                let bytes = self.store.mapped_bytes(items, map.output_dim());
                Ok(Some(Need::to_build(items, bytes)))
            }
            _ => self.mapped_problem(need).map(|()| None),
        }
    }

    /// Why an index cannot be used, if it cannot.
    fn mapped_problem(&self, need: Need<'_>) -> Result<(), String> {
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
    /// Has the gallery keep the indexes that all versions need with which searches may be made, and no others. What is missing is built in the
    /// background.
    pub(crate) fn keep_mapped(&self) {
        let store = &self.gallery.store;
        if !store.offers_mapped() {
            return;
        }
        let mut wanted: Vec<MappedIndex> = Vec::new();
        for model in self.inference.will_search() {
            add(&mut wanted, self.needed_mapped(&model));
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

    /// The indexes that the best routes of a version go through, and the routes that take their place where an old encoder fails.
    fn needed_mapped(&self, model: &LoadedModel) -> Vec<MappedIndex> {
        let stored = self.gallery.stored();
        let encoders = &self.inference.encoders;
        let mut needed = self.best_plan(&model.version, &stored).mapped_indexes();
        let offered = self.gallery.store.offers_mapped();
        let without = self.plan_if(&model.version, &stored, &|need| match need {
            Need::OldEncoder(name) => encoders.problem(name).is_none(),
            Need::MappedIndex { .. } => offered,
        });
        add(&mut needed, without.mapped_indexes());
        needed
    }

    /// Waits until the indexes are built that a version needs; blocks. One that makes no progress is given up: the verdict says that it is missing.
    ///
    /// # Errors
    /// 409 once the service is stopping, which must not wait for what is built for minutes.
    pub(crate) fn wait_for_mapped(
        &self,
        model: &LoadedModel,
        lifecycle: &Lifecycle,
    ) -> Result<(), ApiError> {
        let store = &self.gallery.store;
        let missing = || {
            // A certificate that goes meanwhile takes its index with it.
            let wanted = self.needed_mapped(model);
            let mut wanted = wanted.iter();
            wanted.any(|one| !store.has_mapped(one.space.as_str(), one.map.key()))
        };
        let mut progress = (0, Instant::now());
        while store.offers_mapped() && missing() {
            if lifecycle.is_draining() {
                return Err(ApiError::conflict(
                    "the service is stopping, and an index of mapped vectors that this version needs is not built yet; the live version stays",
                ));
            }
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
                return Ok(());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }
}

/// Adds indexes that are not there yet.
fn add(indexes: &mut Vec<MappedIndex>, more: Vec<MappedIndex>) {
    for index in more {
        let mut there = indexes.iter();
        if !there.any(|one| one.is(&index.space, index.map.key())) {
            indexes.push(index);
        }
    }
}

//! Plans of searches by picture or text, and the old encoders and mapped vectors that they need in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use perennial_core::{Modality, ModelVersion, Registry};
use perennial_upgrade::{
    Asking, LeftOutCause, LoadedModel, Need, NotSearched, PREVIOUS_ALIAS, SearchPlan, Stored,
};

use crate::answering::Answering;
use crate::gallery::Gallery;
use crate::inference::Inference;

/// How pictures or texts are searched, and the old encoders that embed them as well.
pub(crate) struct InputPlan {
    pub(crate) plan: SearchPlan,
    /// Those of the plan's dual parts, by version.
    pub(crate) old: BTreeMap<String, Arc<LoadedModel>>,
}

/// What plans are made of, and the encoders that they need.
pub(crate) struct Planning {
    pub(crate) registry: Arc<Registry>,
    pub(crate) inference: Arc<Inference>,
    pub(crate) gallery: Arc<Gallery>,
    pub(crate) answering: Arc<Answering>,
}

impl Planning {
    /// How pictures or texts that a version embeds are searched with the encoders that are in memory at this moment.
    pub(crate) fn plan_for(
        &self,
        version: &ModelVersion,
        modality: Modality,
        stored: &Stored,
        among: Option<&[String]>,
    ) -> InputPlan {
        self.plan_with(version, modality, stored, among, &|need| {
            self.gallery.is_mapped(need)
        })
    }

    /// The same with the indexes that count as built.
    fn plan_with(
        &self,
        version: &ModelVersion,
        modality: Modality,
        stored: &Stored,
        among: Option<&[String]>,
        is_mapped: &dyn Fn(Need<'_>) -> bool,
    ) -> InputPlan {
        let mut old = self.inference.encoders.all();
        old.retain(|_, model| model.version.accepts().contains(&modality));
        let mut plan = SearchPlan::of(
            &self.gallery.certification,
            Asking::Version(&version.name),
            version.dim,
            stored,
            among,
            &|need| match need {
                Need::OldEncoder(name) => old.contains_key(name),
                Need::MappedIndex { .. } => is_mapped(need),
            },
        );
        let limited = plan.parts.iter().any(|part| part.fallback.is_some());
        if limited || !plan.not_searched.is_empty() {
            let needed = self.best_plan(version, stored).old_encoders();
            self.explain(&mut plan, &needed);
        }
        let used = plan.old_encoders();
        old.retain(|name, _| used.contains(name));
        InputPlan { plan, old }
    }

    /// How what a version embeds is searched: pictures, if it embeds them.
    pub(crate) fn usual_plan(&self, version: &ModelVersion, stored: &Stored) -> SearchPlan {
        let modality = version.accepts().first().copied().unwrap_or_default();
        self.plan_for(version, modality, stored, None).plan
    }

    /// The same once every index is built that the store offers.
    pub(crate) fn usual_plan_once_built(
        &self,
        version: &ModelVersion,
        stored: &Stored,
    ) -> SearchPlan {
        let modality = version.accepts().first().copied().unwrap_or_default();
        let offered = self.gallery.store.offers_mapped();
        let planned = self.plan_with(version, modality, stored, None, &|_| offered);
        planned.plan
    }

    /// How what the live version embeds is searched: pictures, if it embeds them. Without a live version, nothing is.
    pub(crate) fn live_plan(&self) -> SearchPlan {
        let stored = self.gallery.stored();
        if let Some(live) = self.inference.live.current() {
            return self.usual_plan(&live.version, &stored);
        }
        let left_out = |stats: &perennial_gallery::SpaceStats| NotSearched {
            space: stats.space.id.clone(),
            items: stats.items,
            cause: LeftOutCause::NoLiveVersion,
            reason: "no model version is live".to_owned(),
        };
        SearchPlan {
            not_searched: stored.spaces.iter().map(left_out).collect(),
            ..SearchPlan::default()
        }
    }

    /// Looks what the live version does not search, and logs what was searched before and is not any more, or the other way round.
    pub(crate) fn log_left_out(&self) {
        if self.inference.live.current().is_none() {
            return;
        }
        let now: BTreeMap<String, (u64, String)> = self
            .live_plan()
            .not_searched
            .into_iter()
            .map(|left| (left.space.to_string(), (left.items, left.reason)))
            .collect();
        let mut before = self
            .gallery
            .left_out
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (space, (items, reason)) in &now {
            if before.get(space).is_none_or(|before| before != reason) {
                tracing::warn!(space, items, reason, "these items are not searched");
            }
        }
        for space in before.keys().filter(|space| !now.contains_key(*space)) {
            tracing::info!(
                space,
                "nothing of this space is left out of searches any more"
            );
        }
        *before = now
            .into_iter()
            .map(|(space, (_, reason))| (space, reason))
            .collect();
    }

    /// How searches go if every old encoder can be used, and every index that the store offers.
    pub(crate) fn best_plan(&self, version: &ModelVersion, stored: &Stored) -> SearchPlan {
        let offered = self.gallery.store.offers_mapped();
        self.plan_if(version, stored, &|need| match need {
            Need::OldEncoder(_) => true,
            Need::MappedIndex { .. } => offered,
        })
    }

    /// How searches go if this is there.
    pub(crate) fn plan_if(
        &self,
        version: &ModelVersion,
        stored: &Stored,
        available: &dyn Fn(Need<'_>) -> bool,
    ) -> SearchPlan {
        let asking = Asking::Version(&version.name);
        let certification = &self.gallery.certification;
        SearchPlan::of(certification, asking, version.dim, stored, None, available)
    }

    /// Adds why an old encoder that the best routes need is not used.
    fn explain(&self, plan: &mut SearchPlan, needed: &BTreeSet<String>) {
        let encoders = &self.inference.encoders;
        let problem = |space: &str| {
            needed.contains(space).then(|| {
                let other_kind = encoders.get(space).is_some();
                encoders
                    .public_problem(space)
                    .unwrap_or_else(|| match other_kind {
                        true => "it does not embed inputs of this kind".to_owned(),
                        false => "it is not loaded yet".to_owned(),
                    })
            })
        };
        for part in &mut plan.parts {
            for space in &part.spaces {
                if let (Some(fallback), Some(problem)) =
                    (&mut part.fallback, problem(space.as_str()))
                {
                    *fallback = format!("{fallback} (encoder of {space}: {problem})");
                }
            }
        }
        for left in &mut plan.not_searched {
            if let Some(problem) = problem(left.space.as_str()) {
                left.reason = format!("{} (encoder of {}: {problem})", left.reason, left.space);
            }
        }
    }

    /// The old versions whose encoders must be in memory: for the live version, for the one that a rollback returns to, for the one that is
    /// about to become live, and for one that searches are tried with. Those of them that are in memory anyway, also for answers in one space, are taken from there.
    fn needed_encoders(&self) -> BTreeSet<String> {
        let stored = self.gallery.stored();
        let in_memory = self.inference.may_search();
        let mut needed: BTreeSet<String> = in_memory
            .iter()
            .flat_map(|model| self.best_plan(&model.version, &stored).old_encoders())
            .collect();
        if let Some(live) = self.inference.live.current() {
            // An index of mapped vectors takes its time after a start or a restore, and its items are searched by the next route meanwhile.
            let now = self.plan_if(&live.version, &stored, &|need| match need {
                Need::OldEncoder(_) => true,
                Need::MappedIndex { .. } => self.gallery.is_mapped(need),
            });
            needed.extend(now.old_encoders());
        }
        let answering = self.answering.old_in_memory().map(Arc::clone);
        for model in in_memory.into_iter().chain(answering) {
            if needed.contains(model.name()) {
                self.inference.encoders.offer(model);
            }
        }
        needed
    }

    /// The version that a rollback would return to.
    pub(crate) fn previous(&self) -> Option<String> {
        if let Some(previous) = self.inference.live.previous() {
            return Some(previous.name().to_owned());
        }
        self.registry.aliases().ok()?.remove(PREVIOUS_ALIAS)
    }

    /// Tries old encoders again that a search put aside; blocks for their embedding services.
    pub(crate) fn try_encoders_again(&self) {
        let inference = &self.inference;
        let loader = &*inference.loader;
        inference.encoders.try_again(&self.registry, loader);
    }

    /// Loads the old encoders that are needed and lets go of the others, and the same with indexes of mapped vectors; blocks while encoders are loaded. Those that failed before are tried
    /// again at once with `retry`, otherwise after their pause; not those that a search put aside.
    pub(crate) fn keep_encoders(&self, retry: bool) {
        // In turn, so that what one call has loaded is not let go by another that has not seen why.
        let _turn = self
            .inference
            .keeping
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let needed = self.needed_encoders();
        let encoders = &self.inference.encoders;
        if retry || needed != encoders.versions() || encoders.is_retry_due() {
            encoders.keep(&needed, retry, &self.registry, &*self.inference.loader);
        }
        self.keep_mapped();
    }
}

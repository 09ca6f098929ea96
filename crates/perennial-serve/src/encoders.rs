//! Old encoders that dual queries need, kept in memory beside the live one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use perennial_core::{Registry, RegistryError, SpaceId};
use perennial_upgrade::{
    EncoderLoader, LoadedModel, QueryCost, StoredProbes, self_check, without_folder,
};

/// From a failed load to the next try; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// Why an encoder cannot be used.
pub(crate) struct Unusable {
    /// For the log, and for those who choose what is live: with the paths of files, and an embedding service's own words and its address.
    pub(crate) text: String,
    /// For everybody.
    pub(crate) public: String,
}

impl From<String> for Unusable {
    /// A text that everybody may read.
    fn from(text: String) -> Self {
        let public = text.clone();
        Self { text, public }
    }
}

/// Old encoders that are kept in memory beside the live one.
///
/// Reading never waits for a load: an encoder appears once it is checked and warm. One that cannot be used stays absent with the reason,
/// and the searches that would need it take their next certified route. It is tried again, after pauses that grow.
pub(crate) struct Encoders {
    kept: RwLock<Kept>,
    /// What the gallery recorded when a version first went live.
    probes: Option<Arc<StoredProbes>>,
}

#[derive(Default)]
struct Kept {
    loaded: BTreeMap<String, Arc<LoadedModel>>,
    problems: BTreeMap<String, Problem>,
}

/// An encoder that could not be used.
struct Problem {
    why: Unusable,
    /// Loads that failed, one after the other.
    failures: u32,
    /// When it was tried last.
    tried: Instant,
    /// Whether it failed in a search, after it was loaded.
    put_aside: bool,
}

impl Problem {
    fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.tried) >= pause_after(self.failures)
    }
}

/// How long a load waits that has failed so many times in a row.
fn pause_after(failures: u32) -> Duration {
    let doubled = 1u32.checked_shl(failures.saturating_sub(1));
    let pause = doubled.and_then(|times| FIRST_PAUSE.checked_mul(times));
    pause.unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE)
}

impl Encoders {
    /// No encoders yet. With `probes`, an encoder must reproduce the embeddings that the gallery recorded for it.
    pub(crate) fn new(probes: Option<Arc<StoredProbes>>) -> Self {
        Self {
            kept: RwLock::default(),
            probes,
        }
    }

    /// The encoder of a version, if it is kept and can be used.
    pub(crate) fn get(&self, version: &str) -> Option<Arc<LoadedModel>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.loaded.get(version).cloned()
    }

    /// All encoders that can be used at this moment, by version.
    pub(crate) fn all(&self) -> BTreeMap<String, Arc<LoadedModel>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.loaded.clone()
    }

    /// Why the encoder of a version cannot be used, if it was needed and failed; for those who choose what is live.
    pub(crate) fn problem(&self, version: &str) -> Option<String> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.problems.get(version).map(|one| one.why.text.clone())
    }

    /// The same in words that everybody may read.
    pub(crate) fn public_problem(&self, version: &str) -> Option<String> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.problems.get(version).map(|one| one.why.public.clone())
    }

    /// Whether [`keep`](Self::keep) would try an encoder again by now that failed.
    pub(crate) fn is_retry_due(&self) -> bool {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let mut failed = kept.problems.values().filter(|one| !one.put_aside);
        failed.any(|problem| problem.is_due(now))
    }

    /// The versions whose encoders are kept, and those that could not be used.
    pub(crate) fn versions(&self) -> BTreeSet<String> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let all = kept.loaded.keys().chain(kept.problems.keys());
        all.cloned().collect()
    }

    /// Puts an encoder aside whose embedding service failed in a search, until a load shows that it answers again: the searches after this one
    /// take the next certified route.
    pub(crate) fn put_aside(&self, version: &str, why: Unusable) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        // Another search may have been faster.
        if kept.loaded.remove(version).is_none() {
            return;
        }
        tracing::error!(
            version,
            problem = why.text,
            again_in_seconds = pause_after(1).as_secs(),
            "an old encoder is put aside; its items are searched by their next certified route, if there is one"
        );
        let problem = Problem {
            why,
            failures: 1,
            tried: Instant::now(),
            put_aside: true,
        };
        kept.problems.insert(version.to_owned(), problem);
    }

    /// Adds a version that is in memory and checked already, so that [`keep`](Self::keep) need not load it again; not one that failed in a search
    /// since.
    pub(crate) fn offer(&self, model: Arc<LoadedModel>) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let name = model.name().to_owned();
        if kept.problems.get(&name).is_some_and(|one| one.put_aside) {
            return;
        }
        kept.problems.remove(&name);
        kept.loaded.entry(name).or_insert(model);
    }

    /// Loads what is missing and lets go what is no longer needed; blocks for reading, hashing and a few forward passes per new
    /// encoder. Encoders that failed before are tried again with `retry`, or if their pause is over, but not those that a search put aside: nobody
    /// waits for an embedding service that hangs ([`try_again`](Self::try_again) does). Requests under way keep the encoders that they have. Calls come in turn.
    pub(crate) fn keep(
        &self,
        needed: &BTreeSet<String>,
        retry: bool,
        registry: &Registry,
        loader: &dyn EncoderLoader,
    ) {
        for name in needed {
            if self.get(name).is_some() || !self.may_try(name, retry) {
                continue;
            }
            let result = self.load(name, registry, loader);
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            kept.take_in(name, result);
        }
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        kept.problems.retain(|name, _| needed.contains(name));
        kept.loaded.retain(|name, _| {
            let stays = needed.contains(name);
            if !stays {
                tracing::info!(version = name, "an old encoder is let go");
            }
            stays
        });
    }

    /// Whether an encoder has not failed, or may be loaded nevertheless.
    fn may_try(&self, version: &str, retry: bool) -> bool {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let problem = kept.problems.get(version);
        problem.is_none_or(|one| !one.put_aside && (retry || one.is_due(Instant::now())))
    }

    /// Loads encoders again that a search put aside and whose pause is over; blocks for their embedding services, and holds nobody else up.
    pub(crate) fn try_again(&self, registry: &Registry, loader: &dyn EncoderLoader) {
        let due: Vec<String> = {
            let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let problems = kept.problems.iter();
            let due = problems.filter(|(_, one)| one.put_aside && one.is_due(now));
            due.map(|(name, _)| name.clone()).collect()
        };
        for name in due {
            let result = self.load(&name, registry, loader);
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            // It may not be needed any more.
            if kept.problems.contains_key(&name) {
                kept.take_in(&name, result);
            }
        }
    }

    /// Loads a version with the checks of a promotion, but for those that concern the gallery's other items; blocks.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(crate) fn load(
        &self,
        name: &str,
        registry: &Registry,
        loader: &dyn EncoderLoader,
    ) -> Result<LoadedModel, Unusable> {
        // These errors name paths of this machine, which are for the log only.
        let unreadable = |error: RegistryError| {
            tracing::error!(version = name, %error, "an old version cannot be read");
            "its description or weights are damaged or missing in the registry; the log says more"
                .to_owned()
        };
        if let Ok(space) = SpaceId::new(name)
            && registry.space(&space).is_ok()
        {
            let problem = "it is an outside encoder, which this service cannot run for its searches; certify route bridged";
            return Err(problem.to_owned().into());
        }
        let version = registry.get(name).map_err(unreadable)?;
        registry.verify(&version).map_err(unreadable)?;
        let outside = version.outside();
        let is_service = outside.is_some_and(|it| it.endpoint.is_some());
        let unusable = |text: String| match is_service {
            true => Unusable {
                text,
                public: "its embedding service cannot be used; the log says why".to_owned(),
            },
            false => {
                let mut public = without_folder(&text, registry.root(), "the registry");
                if let Some(probes) = &self.probes {
                    public = without_folder(&public, probes.folder(), "the stored probes");
                }
                Unusable { text, public }
            }
        };
        let model = LoadedModel::load(loader, registry, version)
            .map_err(|error| unusable(error.to_string()))?;
        // The first of its forward passes warms up.
        self_check::run(&model).map_err(unusable)?;
        if let Some(probes) = &self.probes {
            probes
                .check(&model, true)
                .map_err(|error| unusable(error.to_string()))?;
        }
        time_service(&model);
        Ok(model)
    }
}

/// Measures what a query costs by an embedding service while it is known to answer: a swap that shows it must not wait for it. Blocks.
pub(crate) fn time_service(model: &LoadedModel) {
    if model.encoder.batches_elsewhere().is_some() {
        QueryCost::of([model]);
    }
}

impl Kept {
    /// What came of a load.
    fn take_in(&mut self, name: &str, result: Result<LoadedModel, Unusable>) {
        match result {
            Ok(model) => {
                tracing::info!(version = name, "an old encoder is loaded for dual queries");
                self.problems.remove(name);
                self.loaded.insert(name.to_owned(), Arc::new(model));
            }
            Err(why) => {
                let before = self.problems.get(name);
                let failures = before.map_or(0, |problem| problem.failures) + 1;
                let put_aside = before.is_some_and(|problem| problem.put_aside);
                tracing::error!(
                    version = name,
                    problem = why.text,
                    again_in_seconds = pause_after(failures).as_secs(),
                    "an old encoder cannot be used; its items are searched by their next certified route, if there is one"
                );
                let problem = Problem {
                    why,
                    failures,
                    tried: Instant::now(),
                    put_aside,
                };
                self.problems.insert(name.to_owned(), problem);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let seconds: Vec<u64> = (1..=9)
            .map(|failures| pause_after(failures).as_secs())
            .collect();
        assert_eq!(seconds, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(pause_after(u32::MAX), LONGEST_PAUSE);
        let tried = Instant::now();
        let problem = failed(2, tried, false);
        assert!(!problem.is_due(tried + Duration::from_secs(9)));
        assert!(problem.is_due(tried + Duration::from_secs(10)));
    }

    fn failed(failures: u32, tried: Instant, put_aside: bool) -> Problem {
        Problem {
            why: String::new().into(),
            failures,
            tried,
            put_aside,
        }
    }

    #[test]
    fn a_swap_does_not_wait_for_what_was_put_aside() {
        let encoders = Encoders::new(None);
        let now = Instant::now();
        let before = now.checked_sub(LONGEST_PAUSE).unwrap_or(now);
        let mut kept = encoders.kept.write().unwrap();
        let mut add = |name: &str, problem| kept.problems.insert(name.to_owned(), problem);
        add("lately", failed(1, now, false));
        add("aside", failed(1, before, true));
        drop(kept);
        assert!(encoders.may_try("new", false) && encoders.may_try("lately", true));
        assert!(!encoders.may_try("lately", false));
        assert!(!encoders.may_try("aside", true) && !encoders.may_try("aside", false));
    }
}

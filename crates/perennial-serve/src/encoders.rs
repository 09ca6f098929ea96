//! Old encoders that dual queries need, kept in memory beside the live one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use perennial_core::{Registry, RegistryError, SpaceId};
use perennial_upgrade::{EncoderLoader, LoadedModel, StoredProbes, self_check};

/// Old encoders that are kept in memory beside the live one.
///
/// Reading never waits for a load: an encoder appears once it is checked and warm. One that cannot be used stays absent with the reason,
/// and the searches that would need it take their next certified route.
pub(crate) struct Encoders {
    kept: RwLock<Kept>,
    /// What the gallery recorded when a version first went live.
    probes: Option<Arc<StoredProbes>>,
}

#[derive(Default)]
struct Kept {
    loaded: BTreeMap<String, Arc<LoadedModel>>,
    problems: BTreeMap<String, String>,
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

    /// Why the encoder of a version cannot be used, if it was needed and failed.
    pub(crate) fn problem(&self, version: &str) -> Option<String> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.problems.get(version).cloned()
    }

    /// The versions whose encoders are kept, and those that could not be used.
    pub(crate) fn versions(&self) -> BTreeSet<String> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let all = kept.loaded.keys().chain(kept.problems.keys());
        all.cloned().collect()
    }

    /// Adds a version that is in memory and checked already, so that [`keep`](Self::keep) need not load it again.
    pub(crate) fn offer(&self, model: Arc<LoadedModel>) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let name = model.name().to_owned();
        kept.problems.remove(&name);
        kept.loaded.entry(name).or_insert(model);
    }

    /// Loads what is missing and lets go what is no longer needed; blocks for reading, hashing and a few forward passes per new
    /// encoder. Encoders that failed before are tried again. Requests under way keep the encoders that they have. Calls come in turn.
    pub(crate) fn keep(
        &self,
        needed: &BTreeSet<String>,
        registry: &Registry,
        loader: &dyn EncoderLoader,
    ) {
        for name in needed {
            if self.get(name).is_some() {
                continue;
            }
            let result = self.load(name, registry, loader);
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(model) => {
                    tracing::info!(version = name, "an old encoder is loaded for dual queries");
                    kept.problems.remove(name);
                    kept.loaded.insert(name.clone(), Arc::new(model));
                }
                Err(problem) => {
                    tracing::error!(
                        version = name,
                        problem,
                        "an old encoder cannot be used; its items are searched by their next certified route, if there is one"
                    );
                    kept.problems.insert(name.clone(), problem);
                }
            }
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

    /// The checks of a promotion, but for those that concern the gallery's other items.
    fn load(
        &self,
        name: &str,
        registry: &Registry,
        loader: &dyn EncoderLoader,
    ) -> Result<LoadedModel, String> {
        // These errors name paths of this machine, which are for the log only.
        let unreadable = |error: RegistryError| {
            tracing::error!(version = name, %error, "an old version cannot be read");
            "its description or weights are damaged or missing in the registry; the log says more"
                .to_owned()
        };
        if let Ok(space) = SpaceId::new(name)
            && registry.space(&space).is_ok()
        {
            return Err("it is an outside encoder, which this service cannot run for its searches; certify route bridged".to_owned());
        }
        let version = registry.get(name).map_err(unreadable)?;
        registry.verify(&version).map_err(unreadable)?;
        let model =
            LoadedModel::load(loader, registry, version).map_err(|error| error.to_string())?;
        // The first of its forward passes warms up.
        self_check::run(&model)?;
        if let Some(probes) = &self.probes {
            probes
                .check(&model, true)
                .map_err(|error| error.to_string())?;
        }
        Ok(model)
    }
}

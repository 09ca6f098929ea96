//! Versions that are added to the registry are tried first.

use std::sync::Arc;

use perennial_core::{ModelVersion, Registry, RegistryError, VersionDraft};
use perennial_upgrade::{EncoderLoader, LoadedModel, self_check};

use crate::error::ApiError;
use crate::versions::Versions;

/// What a trial needs, and where it publishes what works.
pub(crate) struct Trials {
    pub(crate) registry: Arc<Registry>,
    pub(crate) versions: Arc<Versions>,
    pub(crate) loader: Arc<dyn EncoderLoader>,
}

impl Trials {
    /// Tries a version in a folder aside and publishes it if it works; blocks.
    ///
    /// # Errors
    /// 422 for a version that does not work or a parent that does not exist, and those of the registry.
    pub(crate) fn publish(
        &self,
        mut draft: VersionDraft,
        publish_in: impl Fn(&Registry, VersionDraft) -> Result<ModelVersion, RegistryError>,
        parent: Option<String>,
    ) -> Result<ModelVersion, ApiError> {
        draft.parent = match parent {
            Some(parent) => Some(self.versions.get(&parent)?.name.clone()),
            None => None,
        };
        let folder = self.registry.trial_folder()?;
        let trial = Registry::open(folder.path())?;
        let refused = |problem: String| {
            ApiError::unprocessable(format!("the version does not work: {problem}"))
        };
        let version =
            publish_in(&trial, draft.clone()).map_err(|error| refused(error.to_string()))?;
        let snapshot = LoadedModel::load(&*self.loader, &trial, version)
            .map_err(|error| refused(error.problem))?;
        self_check::run(&snapshot).map_err(refused)?;
        drop(snapshot);
        Ok(publish_in(&self.registry, draft)?)
    }
}

//! Versions for searches as if they were live.

use std::sync::Arc;

use perennial_upgrade::LoadedModel;

use crate::blocking::blocking;
use crate::error::{ApiError, Code};
use crate::planning::Planning;
use crate::versions::Versions;

impl Planning {
    /// A version for a search as if it were live, by its name or alias. One that is not in memory is loaded, with the checks of a promotion that
    /// concern it alone, and takes the place of the one that was tried before; `may_load` says whether this caller may have that done.
    ///
    /// # Errors
    /// 422 for a name that the registry does not know, the error of `may_load`, 409 for a version that cannot be used.
    pub(crate) async fn as_if_live(
        self: &Arc<Self>,
        versions: &Arc<Versions>,
        name: &str,
        may_load: impl FnOnce() -> Result<(), ApiError>,
    ) -> Result<Arc<LoadedModel>, ApiError> {
        let name = {
            let (versions, name) = (Arc::clone(versions), name.to_owned());
            blocking(move || tried_name(&versions, &name)).await?
        };
        if let Some(model) = self.in_memory(&name) {
            return Ok(model);
        }
        may_load().map_err(|error| ApiError {
            message: format!(
                "as_version: {name} is not in memory, and loading it takes the right to write: {}",
                error.message
            ),
            ..error
        })?;
        let turn = Arc::clone(&self.inference.tried.loading).lock_owned().await;
        // Whoever was first may have loaded it.
        if let Some(model) = self.in_memory(&name) {
            return Ok(model);
        }
        let planning = Arc::clone(self);
        blocking(move || {
            let _turn = turn;
            let inference = &planning.inference;
            let model = inference
                .encoders
                .load(&name, &planning.registry, &*inference.loader)
                .map_err(|why| {
                    tracing::error!(
                        version = name,
                        problem = why.text,
                        "a version cannot be tried"
                    );
                    let message = format!("as_version: {name} cannot be used: {}", why.public);
                    ApiError::new(Code::CheckFailed, message)
                })?;
            let model = Arc::new(model);
            tracing::info!(version = name, "a version is loaded to be tried");
            inference.tried.set(&model);
            planning.keep_encoders(false);
            Ok(model)
        })
        .await
    }

    fn in_memory(&self, name: &str) -> Option<Arc<LoadedModel>> {
        let live = &self.inference.live;
        let by_name = |model: &Arc<LoadedModel>| model.name() == name;
        live.current()
            .filter(by_name)
            .or_else(|| live.previous().filter(by_name))
            .or_else(|| self.inference.encoders.get(name))
            .or_else(|| self.inference.tried.used(name))
    }
}

/// The version's own name; blocks.
fn tried_name(versions: &Versions, name: &str) -> Result<String, ApiError> {
    let version = versions.get(name).map_err(|error| ApiError {
        message: format!(
            "as_version: {}",
            error.message.trim_start_matches("model_version: ")
        ),
        ..error
    })?;
    Ok(version.name.clone())
}

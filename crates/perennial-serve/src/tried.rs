//! One version beside the live one, with which searches can be tried as if it were live.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use perennial_upgrade::LoadedModel;

use crate::error::{ApiError, Code};
use crate::service::{Service, blocking};

/// How long a version that nobody tries any more stays in memory.
const UNUSED: Duration = Duration::from_secs(600);

/// A version that was loaded in order to try it. There is one at a time, so trying versions costs the memory of one encoder, and of those that
/// its dual routes need.
#[derive(Default)]
pub(crate) struct Tried {
    kept: Mutex<Option<Kept>>,
    /// Held during a load: one at a time.
    loading: tokio::sync::Mutex<()>,
}

struct Kept {
    model: Arc<LoadedModel>,
    used: Instant,
}

impl Tried {
    /// The version that is in memory to be tried.
    pub(crate) fn current(&self) -> Option<Arc<LoadedModel>> {
        let kept = self.kept();
        kept.as_ref().map(|kept| Arc::clone(&kept.model))
    }

    /// Lets it go; requests under way keep it to their end.
    pub(crate) fn let_go(&self) {
        *self.kept() = None;
    }

    /// Lets it go if nobody has tried it for a while.
    pub(crate) fn let_go_unused(&self, now: Instant) {
        let mut kept = self.kept();
        let unused = |kept: &Kept| now.saturating_duration_since(kept.used) >= UNUSED;
        if let Some(old) = kept.take_if(|kept| unused(kept)) {
            let version = old.model.name();
            tracing::info!(version, "a version that was tried is let go");
        }
    }

    /// The version if it is this one, from now on as used.
    fn used(&self, name: &str) -> Option<Arc<LoadedModel>> {
        let mut kept = self.kept();
        let kept = kept.as_mut().filter(|kept| kept.model.name() == name)?;
        kept.used = Instant::now();
        Some(Arc::clone(&kept.model))
    }

    fn set(&self, model: &Arc<LoadedModel>) {
        *self.kept() = Some(Kept {
            model: Arc::clone(model),
            used: Instant::now(),
        });
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// A version for a search as if it were live, by its name or alias. One that is not in memory is loaded, with the checks of a promotion that
    /// concern it alone, and takes the place of the one that was tried before; `may_load` says whether this caller may have that done.
    ///
    /// # Errors
    /// 422 for a name that the registry does not know, the error of `may_load`, 409 for a version that cannot be used.
    pub(crate) async fn as_if_live(
        self: &Arc<Self>,
        name: &str,
        may_load: impl FnOnce() -> Result<(), ApiError>,
    ) -> Result<Arc<LoadedModel>, ApiError> {
        let name = {
            let (service, name) = (Arc::clone(self), name.to_owned());
            blocking(move || service.tried_name(&name)).await?
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
        let _turn = self.inference.tried.loading.lock().await;
        // Whoever was first may have loaded it.
        if let Some(model) = self.in_memory(&name) {
            return Ok(model);
        }
        let service = Arc::clone(self);
        blocking(move || {
            let inference = &service.inference;
            let model = inference
                .encoders
                .load(&name, &service.registry, &*inference.loader)
                .map_err(|problem| {
                    let message = format!("as_version: {name} cannot be used: {problem}");
                    ApiError::new(Code::CheckFailed, message)
                })?;
            let model = Arc::new(model);
            tracing::info!(version = name, "a version is loaded to be tried");
            inference.tried.set(&model);
            service.keep_encoders(false);
            Ok(model)
        })
        .await
    }

    /// The version's own name; blocks.
    fn tried_name(&self, name: &str) -> Result<String, ApiError> {
        let version = self.version(name).map_err(|error| ApiError {
            message: format!(
                "as_version: {}",
                error.message.trim_start_matches("model_version: ")
            ),
            ..error
        })?;
        Ok(version.name.clone())
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

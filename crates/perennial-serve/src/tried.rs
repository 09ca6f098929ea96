//! One version beside the live one, with which searches can be tried as if it were live.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use perennial_upgrade::LoadedModel;

/// How long a version that nobody tries any more stays in memory.
const UNUSED: Duration = Duration::from_secs(600);

/// A version that was loaded in order to try it. There is one at a time, so trying versions costs the memory of one encoder, and of those that
/// its dual routes need.
#[derive(Default)]
pub(crate) struct Tried {
    kept: Mutex<Option<Kept>>,
    /// Held by the thread that loads, to its end: one load at a time, even where clients leave.
    pub(crate) loading: Arc<tokio::sync::Mutex<()>>,
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
    pub(crate) fn used(&self, name: &str) -> Option<Arc<LoadedModel>> {
        let mut kept = self.kept();
        let kept = kept.as_mut().filter(|kept| kept.model.name() == name)?;
        kept.used = Instant::now();
        Some(Arc::clone(&kept.model))
    }

    pub(crate) fn set(&self, model: &Arc<LoadedModel>) {
        *self.kept() = Some(Kept {
            model: Arc::clone(model),
            used: Instant::now(),
        });
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

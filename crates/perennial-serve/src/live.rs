//! The live version: an immutable loaded model behind one atomic pointer.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use perennial_upgrade::LoadedModel;

/// The pointer. Reading it never waits.
pub(crate) struct Live {
    state: ArcSwap<Pointers>,
    /// What a swap under way may make live.
    upcoming: Mutex<Option<Upcoming>>,
    /// Held during a swap: one at a time.
    pub(crate) swapping: tokio::sync::Mutex<()>,
}

/// What a swap under way may make live.
#[derive(Clone)]
pub(crate) struct Upcoming {
    pub(crate) model: Arc<LoadedModel>,
    /// It is only asked what a swap would do.
    pub(crate) dry_run: bool,
}

#[derive(Default)]
pub(crate) struct Pointers {
    pub(crate) current: Option<Arc<LoadedModel>>,
    pub(crate) previous: Option<Arc<LoadedModel>>,
}

impl Live {
    pub(crate) fn new(current: Option<Arc<LoadedModel>>) -> Self {
        Self {
            state: ArcSwap::from_pointee(Pointers {
                current,
                previous: None,
            }),
            upcoming: Mutex::new(None),
            swapping: tokio::sync::Mutex::new(()),
        }
    }

    /// What answers now.
    pub(crate) fn current(&self) -> Option<Arc<LoadedModel>> {
        self.state.load().current.clone()
    }

    /// The version that was live before, if it was live in this process.
    pub(crate) fn previous(&self) -> Option<Arc<LoadedModel>> {
        self.state.load().previous.clone()
    }

    /// The version that a swap under way may make live.
    pub(crate) fn upcoming(&self) -> Option<Upcoming> {
        let upcoming = self.upcoming.lock();
        upcoming.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_upcoming(&self, upcoming: Option<Upcoming>) {
        *self.upcoming.lock().unwrap_or_else(PoisonError::into_inner) = upcoming;
    }

    /// Moves the pointer; requests under way keep the snapshot that they have.
    pub(crate) fn move_to(&self, next: Arc<LoadedModel>) {
        let previous = self.current();
        self.state.store(Arc::new(Pointers {
            current: Some(next),
            previous,
        }));
    }
}

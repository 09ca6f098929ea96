//! Since when a service runs, and whether it is stopping.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// From the start of a service to its end.
pub(crate) struct Lifecycle {
    started: Instant,
    draining: AtomicBool,
}

impl Lifecycle {
    /// A service that starts now.
    pub(crate) fn begin() -> Self {
        Self {
            started: Instant::now(),
            draining: AtomicBool::new(false),
        }
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether the service is stopping: requests in progress are finished, and nothing else is begun.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

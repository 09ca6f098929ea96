//! What searches with a second stage share: the place of the originals, and their turns.

use std::sync::Arc;
use std::time::Duration;

use perennial_upgrade::backfill::{Originals, OriginalsSource};
use tokio::sync::Semaphore;

use crate::config::ServeConfig;
use crate::durations::seconds;
use crate::error::{ApiError, ServeError};
use crate::reembedding::Reembedder;

/// Searches in their second stage at once; others wait for their turn, which counts as their time.
const AT_ONCE: usize = 2;

/// Where the second stage has its originals from, and who is at it.
pub(crate) struct SecondStages {
    originals: Option<Arc<dyn Originals>>,
    pub(crate) places: Arc<Semaphore>,
    /// What one search may take.
    pub(crate) time: Duration,
    /// What embeds the originals, and stores what was embedded.
    pub(crate) reembedder: Arc<Reembedder>,
}

impl SecondStages {
    /// Opens the place of the originals, if one is configured.
    ///
    /// # Errors
    /// A folder or an address that cannot be used.
    pub(crate) fn of(
        config: &ServeConfig,
        reembedder: Arc<Reembedder>,
    ) -> Result<Self, ServeError> {
        let open = |place: &String| {
            let max_bytes = config.limits.image_bytes as u64;
            OriginalsSource::of_argument(place)
                .open(config.downloads.client(), max_bytes)
                .map_err(|problem| ServeError::Config {
                    key: "originals".into(),
                    problem,
                })
        };
        let originals = config.originals.as_ref().map(open).transpose()?.flatten();
        Ok(Self {
            originals,
            places: Arc::new(Semaphore::new(AT_ONCE)),
            time: seconds(config.timeouts.rerank_seconds),
            reembedder,
        })
    }

    /// The place of the originals.
    ///
    /// # Errors
    /// 422 where none is configured.
    pub(crate) fn originals(&self) -> Result<&Arc<dyn Originals>, ApiError> {
        self.originals.as_ref().ok_or_else(|| {
            ApiError::unprocessable(
                "rerank: this service does not know where the originals are; its configuration names them (`originals`)",
            )
        })
    }
}

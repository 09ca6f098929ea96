//! What embeds items again: for a backfill, for originals that clients send, and for the second stage of a search.

use std::sync::Arc;

use perennial_core::Registry;

use crate::backfill::Backfill;
use crate::config::ServeConfig;
use crate::gallery::Gallery;
use crate::inference::Inference;
use crate::lifecycle::Lifecycle;
use crate::telemetry::Telemetry;

/// What embedding again reads and changes.
pub(crate) struct Reembedder {
    pub(crate) config: Arc<ServeConfig>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) inference: Arc<Inference>,
    pub(crate) gallery: Arc<Gallery>,
    pub(crate) backfill: Arc<Backfill>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) lifecycle: Arc<Lifecycle>,
}

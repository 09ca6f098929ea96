//! What a request meets before its handler does: keys, limits of clients, ids.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use crate::client_limits::ClientLimits;
use crate::config::ServeConfig;
use crate::keys::Keys;
use crate::request_id::RequestIds;

/// Who may send requests, and how many at once.
pub(crate) struct Transport {
    /// At first those of the configuration.
    pub(crate) keys: ArcSwap<Keys>,
    pub(crate) clients: Arc<ClientLimits>,
    /// Requests in work at once.
    pub(crate) in_flight: Semaphore,
    pub(crate) request_ids: RequestIds,
}

impl Transport {
    pub(crate) fn new(config: &ServeConfig) -> Self {
        Self {
            keys: ArcSwap::from_pointee(config.keys.clone()),
            clients: Arc::new(ClientLimits::new(&config.limits)),
            in_flight: Semaphore::new(config.limits.in_flight),
            request_ids: RequestIds::new(),
        }
    }
}

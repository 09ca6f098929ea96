//! What a request meets before its handler does: keys, limits of clients, memory for bodies, ids.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use crate::client_limits::ClientLimits;
use crate::config::ServeConfig;
use crate::keys::Keys;
use crate::receive::BUDGET_UNIT;
use crate::request_id::RequestIds;

/// Who may send what, and how much of it at once.
pub(crate) struct Transport {
    /// At first those of the configuration.
    pub(crate) keys: ArcSwap<Keys>,
    pub(crate) clients: Arc<ClientLimits>,
    /// Memory for bodies that are being received, in units of `BUDGET_UNIT`.
    pub(crate) body_budget: Arc<Semaphore>,
    /// Requests in work at once.
    pub(crate) in_flight: Semaphore,
    pub(crate) request_ids: RequestIds,
}

impl Transport {
    pub(crate) fn new(config: &ServeConfig) -> Self {
        let budget = config.limits.body_budget_bytes / BUDGET_UNIT;
        Self {
            keys: ArcSwap::from_pointee(config.keys.clone()),
            clients: Arc::new(ClientLimits::new(&config.limits)),
            body_budget: Arc::new(Semaphore::new(budget.min(Semaphore::MAX_PERMITS))),
            in_flight: Semaphore::new(config.limits.in_flight),
            request_ids: RequestIds::new(),
        }
    }
}

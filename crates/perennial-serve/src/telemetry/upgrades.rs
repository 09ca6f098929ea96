//! Gauges of what an upgrade leaves behind: routes, and the backfill.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use perennial_upgrade::LeftOutCause;

use super::{
    BACKFILL, BACKFILL_STATE, FALLBACK_ITEMS, Gauges, NOT_SEARCHED, ROUTE_ITEMS, Telemetry,
};

/// Every state of a backfill, so that the ones that are not are 0.
const STATES: [&str; 4] = ["idle", "running", "paused", "finished"];

impl Telemetry {
    pub(super) fn upgrades(&self, now: &Gauges<'_>) {
        self.route_items(now);
        for (state, items) in now.backfill {
            // What is left is what the gallery holds; the other figures are the backfill's own.
            let items = match state {
                "left" => now.items(items),
                _ => items as f64,
            };
            self.gauge(BACKFILL, &[("state", state)], items);
        }
        for state in STATES {
            let is_now = state == now.backfill_state;
            self.gauge(
                BACKFILL_STATE,
                &[("state", state)],
                f64::from(u8::from(is_now)),
            );
        }
    }

    /// The items of a space that searches leave out, by every kind of reason, so that those that do not hold are 0.
    pub(super) fn not_searched(&self, now: &Gauges<'_>, space: &str) {
        let mut left = now.plan.not_searched.iter();
        let left = left.find(|left| left.space.as_str() == space);
        for cause in LeftOutCause::ALL {
            let items = left.filter(|left| left.cause == cause);
            let items = items.map_or(0, |left| left.items);
            let labels = [("space", space), ("reason", cause.name())];
            self.gauge(NOT_SEARCHED, &labels, now.items(items));
        }
    }

    fn route_items(&self, now: &Gauges<'_>) {
        let mut seen = self
            .seen_routes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let by_route = now.plan.parts.iter().flat_map(|part| {
            let spaces = part.spaces.iter();
            spaces.map(|space| (space.to_string(), part.way.route().name()))
        });
        let by_route: BTreeSet<_> = by_route.collect();
        seen.extend(by_route.iter().cloned());
        // There before the first item.
        seen.extend(now.live.map(|live| (live.to_owned(), "own")));
        let limited = now.plan.parts.iter().filter(|part| part.fallback.is_some());
        let limited: BTreeSet<&str> = limited
            .flat_map(|part| &part.spaces)
            .map(|space| space.as_str())
            .collect();
        for place in seen.iter() {
            let (space, route) = place;
            let stored = now.per_version.get(space).copied().unwrap_or(0);
            let items = match by_route.contains(place) {
                true => stored,
                false => 0,
            };
            let labels = [("space", space.as_str()), ("route", *route)];
            self.gauge(ROUTE_ITEMS, &labels, now.items(items));
            let items = match limited.contains(space.as_str()) {
                true => stored,
                false => 0,
            };
            self.gauge(FALLBACK_ITEMS, &[("space", space)], now.items(items));
        }
    }
}

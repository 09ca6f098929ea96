//! What a way costs: encodings now, encodings per query later, and what has to be at hand.

use serde::{Deserialize, Serialize};

use super::reembedding::RERANKED;
use super::way_kind::WayKind;

/// Given or measured rates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Items of the real gallery; without it, those of the evaluation set's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<u64>,
    /// Items that the new encoder embeds per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items_per_second: Option<f64>,
    /// Price of embedding a thousand items with the new encoder, in the user's currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_per_thousand: Option<f64>,
}

/// The cost of a way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Items that the new encoder must embed before the way serves.
    pub items_embedded: u64,
    /// How long that takes, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// What it costs, in the user's currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
    /// Forward passes for each query.
    pub encodings_per_query: u64,
    /// Whether the old encoder must keep running.
    pub needs_old_encoder: bool,
    /// Whether the items' originals must be at hand.
    pub needs_originals: bool,
    /// Whether stored vectors are rewritten.
    pub rewrites_index: bool,
}

impl Cost {
    /// The cost for a gallery of so many items.
    pub(super) fn of(kind: WayKind, items: u64, rates: &Rates) -> Self {
        let items = rates.items.unwrap_or(items);
        let items_embedded = match kind {
            WayKind::ReembedAll => items,
            _ => 0,
        };
        Self::embedding(items_embedded, rates).with(kind)
    }

    /// The cost of embedding so many items.
    pub fn embedding(items_embedded: u64, rates: &Rates) -> Self {
        let items = items_embedded as f64;
        Self {
            items_embedded,
            seconds: rates.items_per_second.map(|rate| items / rate),
            price: rates.price_per_thousand.map(|price| items / 1000.0 * price),
            encodings_per_query: 1,
            needs_old_encoder: false,
            needs_originals: items_embedded > 0,
            rewrites_index: items_embedded > 0,
        }
    }

    fn with(mut self, kind: WayKind) -> Self {
        match kind {
            WayKind::DoNothing => self.needs_old_encoder = true,
            WayKind::DualQueries | WayKind::ReembedShare => {
                self.needs_old_encoder = true;
                self.encodings_per_query = 2;
            }
            WayKind::TwoStage => {
                self.needs_old_encoder = true;
                self.needs_originals = true;
                self.encodings_per_query = 2 + RERANKED as u64;
            }
            WayKind::MapStored => self.rewrites_index = true,
            WayKind::SwapAsItIs | WayKind::Bridge | WayKind::ReembedAll => {}
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_become_time_and_money() {
        let rates = Rates {
            items: Some(1_000_000),
            items_per_second: Some(500.0),
            price_per_thousand: Some(0.02),
        };
        let cost = Cost::of(WayKind::ReembedAll, 10, &rates);
        assert_eq!(
            (cost.items_embedded, cost.seconds, cost.price),
            (1_000_000, Some(2000.0), Some(20.0))
        );
        let cost = Cost::of(WayKind::DualQueries, 10, &rates);
        assert_eq!((cost.items_embedded, cost.encodings_per_query), (0, 2));
        assert!(cost.needs_old_encoder && !cost.needs_originals);
        assert_eq!(
            Cost::of(WayKind::ReembedAll, 10, &Rates::default()).seconds,
            None
        );
    }
}

//! What is shown of a backfill.

use perennial_upgrade::Stored;
use perennial_upgrade::backfill::{BackfillRecord, Expectation};

/// Everything that is shown of a backfill.
pub(crate) struct View<'a> {
    pub(crate) record: Option<&'a BackfillRecord>,
    pub(crate) waits_for_load: bool,
    pub(crate) expectation: Option<&'a Expectation>,
    pub(crate) items_per_second: Option<f64>,
}

impl<'a> View<'a> {
    /// The version that embeds, or would.
    pub(crate) fn target(&self, live: Option<&'a str>) -> Option<&'a str> {
        let of_record = self.record.map(|record| record.target.as_str());
        of_record.or(live)
    }
}

/// Items that another version embedded.
pub(crate) fn others(stored: &Stored, live: Option<&str>) -> u64 {
    let own = live.and_then(|live| stored.per_version.get(live));
    stored.items.saturating_sub(own.copied().unwrap_or(0))
}

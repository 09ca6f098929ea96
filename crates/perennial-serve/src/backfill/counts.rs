//! Items by state.

use perennial_upgrade::Stored;
use perennial_upgrade::backfill::Expectation;

use super::Backfill;
use super::view::others;

impl Backfill {
    /// Items by state, for the metrics. `read` is what is expected where no run has looked.
    pub(crate) fn counts(
        &self,
        stored: &Stored,
        live: Option<&str>,
        read: Option<&Expectation>,
    ) -> [(&'static str, u64); 4] {
        let current = self.current();
        let record = current.record.as_ref();
        let (done, mut failed, changed) = record.map_or((0, 0, 0), |record| {
            (record.done, record.failures(), record.changed)
        });
        let expectation = current.expectation.as_deref().or(read);
        let other = expectation.map_or(0, |expected| expected.of_other_modality(stored));
        let left = others(stored, live).saturating_sub(failed + other);
        if record.is_some() {
            failed += other;
        }
        [
            ("done", done),
            ("left", left),
            ("failed", failed),
            ("changed", changed),
        ]
    }
}

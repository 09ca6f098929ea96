//! How far a backfill is, from a service or from the record in a gallery's folder.

use std::collections::BTreeMap;

use perennial_gallery::ItemId;
use perennial_upgrade::Stored;
use perennial_upgrade::backfill::{
    BackfillRecord, BackfillState, CurvePoint, Expectation, Failure,
};
use serde::{Deserialize, Serialize};

/// Failed items that are named.
const NAMED_FAILURES: usize = 100;
/// Those of the text.
const TOLD_FAILURES: usize = 10;

/// As `GET /backfill` gives it, as far as the command line shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// `idle`, `running`, `paused` or `finished`.
    pub state: String,
    pub reason: Option<String>,
    pub model_version: Option<String>,
    pub items: u64,
    pub share: Option<f64>,
    pub done: u64,
    pub left: u64,
    pub changed: u64,
    pub failed: BTreeMap<String, u64>,
    pub failures: Vec<Failed>,
    pub seconds: f64,
    pub expected_quality: Option<Expected>,
    pub curve: Vec<CurvePoint>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failed {
    pub id: ItemId,
    #[serde(flatten)]
    pub failure: Failure,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Expected {
    pub measure: String,
    pub now: f64,
}

impl Report {
    /// Without a service. `live` is the version that counts where there is no record.
    pub fn of(
        record: Option<&BackfillRecord>,
        stored: &Stored,
        live: Option<&str>,
        expectation: Option<&Expectation>,
    ) -> Self {
        let target = record.map(|record| record.target.as_str()).or(live);
        let own = target.and_then(|target| stored.per_version.get(target));
        let own = own.copied().unwrap_or(0);
        let share = match stored.items {
            0 => 1.0,
            items => own as f64 / items as f64,
        };
        let failures = record.map_or(0, BackfillRecord::failures);
        let other = expectation.map_or(0, |expected| expected.of_other_modality(stored));
        let expected = expectation.zip(target).and_then(|(expectation, target)| {
            Some(Expected {
                measure: expectation.measure.clone()?,
                now: expectation.quality(stored, target)?,
            })
        });
        Self {
            state: match record.map(|record| record.state) {
                None => "idle",
                Some(BackfillState::Running) => "running",
                Some(BackfillState::Paused) => "paused",
                Some(BackfillState::Finished) => "finished",
            }
            .to_owned(),
            reason: record.and_then(|record| record.reason.clone()),
            model_version: target.map(str::to_owned),
            items: stored.items,
            share: target.map(|_| share),
            done: record.map_or(0, |record| record.done),
            left: (stored.items - own).saturating_sub(failures + other),
            changed: record.map_or(0, |record| record.changed),
            failed: record
                .map(|record| record.failed(other))
                .unwrap_or_default()
                .into_iter()
                .map(|(reason, items)| (reason.name().to_owned(), items))
                .collect(),
            failures: record.map_or_else(Vec::new, |record| {
                let first = record.first_failures(NAMED_FAILURES);
                let named = first.map(|(id, failure)| Failed {
                    id: id.clone(),
                    failure: failure.clone(),
                });
                named.collect()
            }),
            seconds: record.map_or(0.0, |record| record.seconds),
            expected_quality: expected,
            curve: record.map_or_else(Vec::new, |record| record.curve.points().to_vec()),
        }
    }

    /// Whether it stopped before it had done what it was told.
    pub fn gave_up(&self) -> bool {
        self.state == "paused"
    }

    /// A few lines.
    pub fn text(&self) -> String {
        let mut text = self.state.clone();
        if let Some(reason) = &self.reason {
            text.push_str(&format!(": {reason}"));
        }
        text.push_str(&format!(
            "\n{} items embedded again, {} left",
            self.done, self.left
        ));
        if let (Some(share), Some(version)) = (self.share, &self.model_version) {
            text.push_str(&format!(
                "; {:.1} % of {} are of {version}",
                100.0 * share,
                self.items
            ));
        }
        text.push('\n');
        if self.changed > 0 {
            text.push_str(&format!(
                "{} items were changed by others meanwhile and left alone\n",
                self.changed
            ));
        }
        if let Some(expected) = &self.expected_quality {
            text.push_str(&format!(
                "expected {} {:.4}, by the certificates of each space and not by a measurement\n",
                expected.measure, expected.now
            ));
        }
        if !self.failed.is_empty() {
            let counts: Vec<String> = self
                .failed
                .iter()
                .map(|(reason, items)| format!("{items} {reason}"))
                .collect();
            text.push_str(&format!(
                "failed, kept as they are: {}\n",
                counts.join(", ")
            ));
            for failed in self.failures.iter().take(TOLD_FAILURES) {
                text.push_str(&format!("  {}  {}\n", failed.id, failed.failure));
            }
            if self.failed.values().sum::<u64>() > TOLD_FAILURES as u64 {
                text.push_str("  ...\n");
            }
        }
        text
    }
}

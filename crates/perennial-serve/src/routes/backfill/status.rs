//! What `/backfill` shows.

use std::collections::BTreeMap;

use perennial_gallery::ItemId;
use perennial_upgrade::Stored;
use perennial_upgrade::backfill::{
    BackfillState, CurvePoint, Expectation, Failure, Order, OriginalsSource, StopRule,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::backfill::{View, others};
use crate::openapi::ItemIdSchema;
use crate::reembedding::{Reembedder, expectation_beside_runs};

/// Failed items that are named in an answer.
const NAMED_FAILURES: usize = 100;

/// When a backfill has done enough.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = StopRule)]
pub(crate) struct StopSchema {
    /// This share of the gallery is embedded by the live version; a fraction.
    share: Option<f64>,
    /// So many items were embedded again.
    items: Option<u64>,
    /// It worked for so many seconds.
    seconds: Option<f64>,
    /// The expected quality is at least this; a fraction.
    quality: Option<f64>,
}

impl From<StopRule> for StopSchema {
    fn from(rule: StopRule) -> Self {
        Self {
            share: rule.share,
            items: rule.items,
            seconds: rule.seconds,
            quality: rule.quality,
        }
    }
}

/// How far a backfill is.
#[derive(Serialize, ToSchema)]
pub(crate) struct BackfillBody {
    /// `idle`, `running`, `paused` or `finished`.
    state: &'static str,
    /// Whether it is running and waits until the service has less to do.
    waits_for_load: bool,
    /// Why it paused or finished, where it did that itself.
    reason: Option<String>,
    /// The version that embeds.
    model_version: Option<String>,
    /// `folder`, `url`, `payload` or `pushed`.
    originals: Option<&'static str>,
    #[schema(value_type = Option<String>)]
    order: Option<Order>,
    /// The most items per second.
    items_per_second: Option<f64>,
    stop: StopSchema,
    /// Items in the gallery.
    items: u64,
    /// Share of them that the live version embedded, a fraction; null while no version is live.
    share: Option<f64>,
    /// Items that this backfill embedded again.
    done: u64,
    /// Items of other versions that have not failed and can be embedded.
    left: u64,
    /// Items that others changed or deleted in the moment in which they were embedded again; those were left alone.
    changed: u64,
    /// Items that failed, by reason; those of a modality that the live version does not embed among them, which are not tried.
    failed: BTreeMap<&'static str, u64>,
    /// The first of them.
    failures: Vec<FailureBody>,
    /// Of the last minute.
    rate_items_per_second: Option<f64>,
    /// At this rate.
    seconds_left: Option<f64>,
    /// For which it worked.
    seconds: f64,
    /// What the certificates let expect; null where a space has none.
    expected_quality: Option<ExpectedBody>,
    /// How it went.
    curve: Vec<PointBody>,
}

/// An item that was not embedded again.
#[derive(Serialize, ToSchema)]
pub(crate) struct FailureBody {
    #[schema(value_type = ItemIdSchema)]
    id: ItemId,
    /// `no_source`, `gone`, `refused`, `unreachable`, `unreadable`, `undecodable`, `other_original`, `other_modality` or `no_embedding`.
    reason: &'static str,
    /// What was found.
    detail: String,
}

impl FailureBody {
    pub(in crate::routes) fn new(id: &ItemId, failure: &Failure) -> Self {
        Self {
            id: id.clone(),
            reason: failure.reason.name(),
            detail: failure.detail.clone(),
        }
    }
}

/// The mean of the certified figures of each space, weighted by its items. An expectation, not a measurement.
#[derive(Serialize, ToSchema)]
pub(crate) struct ExpectedBody {
    /// What the figures measure.
    measure: String,
    /// Now, a fraction.
    now: f64,
    /// Once the live version has embedded every item.
    complete: f64,
}

/// One point of the curve.
#[derive(Serialize, ToSchema)]
pub(crate) struct PointBody {
    /// For which the backfill had worked.
    seconds: f64,
    /// Items that it had embedded again.
    done: u64,
    /// Share of the gallery that the live version had embedded, a fraction.
    share: f64,
    /// The expected quality then, a fraction; an expectation, not a measurement.
    expected_quality: Option<f64>,
}

impl From<&CurvePoint> for PointBody {
    fn from(point: &CurvePoint) -> Self {
        Self {
            seconds: point.seconds,
            done: point.done,
            share: point.share,
            expected_quality: point.expected_quality,
        }
    }
}

/// A state as clients and metrics have it.
pub(crate) fn state_name(state: Option<BackfillState>) -> &'static str {
    match state {
        None => "idle",
        Some(BackfillState::Running) => "running",
        Some(BackfillState::Paused) => "paused",
        Some(BackfillState::Finished) => "finished",
    }
}

/// Everything that is known; blocks.
pub(super) fn view(reembedder: &Reembedder) -> BackfillBody {
    let live = reembedder.inference.live.current();
    let live = live.as_ref().map(|live| live.name());
    let stored = reembedder.gallery.stored();
    let read = expectation_beside_runs(reembedder, live);
    reembedder
        .backfill
        .view(|view| body(view, &stored, live, read.as_ref()))
}

fn body(
    view: &View<'_>,
    stored: &Stored,
    live: Option<&str>,
    read: Option<&Expectation>,
) -> BackfillBody {
    let record = view.record;
    let target = view.target(live);
    let failures = record.map_or(0, |record| record.failures());
    let others = others(stored, target);
    let expectation = view.expectation.or(read);
    let other_modality = expectation.map_or(0, |expected| expected.of_other_modality(stored));
    let left = others.saturating_sub(failures + other_modality);
    let ends_after = record.and_then(|record| {
        let progress = record.progress(stored, view.expectation);
        record.settings.stop.items_left(&progress)
    });
    let running = record.is_some_and(|record| record.state == BackfillState::Running);
    let rate = view.items_per_second.filter(|_| running);
    let share = |target: Option<&str>| {
        target?;
        Some(match stored.items {
            0 => 1.0,
            items => (items - others) as f64 / items as f64,
        })
    };
    let expected = expectation.zip(target);
    BackfillBody {
        state: state_name(record.map(|record| record.state)),
        waits_for_load: view.waits_for_load,
        reason: record.and_then(|record| record.reason.clone()),
        model_version: record.map(|record| record.target.clone()),
        originals: record.map(|record| match record.settings.originals {
            OriginalsSource::Folder(_) => "folder",
            OriginalsSource::Url(_) => "url",
            OriginalsSource::Payload(_) => "payload",
            OriginalsSource::Pushed => "pushed",
        }),
        order: record.map(|record| record.settings.order),
        items_per_second: record.and_then(|record| record.settings.items_per_second),
        stop: record
            .map(|record| record.settings.stop.into())
            .unwrap_or_default(),
        items: stored.items,
        share: share(target),
        done: record.map_or(0, |record| record.done),
        left,
        changed: record.map_or(0, |record| record.changed),
        failed: record
            .map(|record| record.failed(other_modality))
            .unwrap_or_default()
            .into_iter()
            .map(|(reason, items)| (reason.name(), items))
            .collect(),
        failures: record.map_or_else(Vec::new, |record| {
            let first = record.first_failures(NAMED_FAILURES);
            first
                .map(|(id, failure)| FailureBody::new(id, failure))
                .collect()
        }),
        rate_items_per_second: rate,
        seconds_left: rate.filter(|rate| *rate > 0.0).map(|rate| {
            let items = ends_after.map_or(left, |items| items.min(left));
            items as f64 / rate
        }),
        seconds: record.map_or(0.0, |record| record.seconds),
        expected_quality: expected.and_then(|(expectation, target)| {
            Some(ExpectedBody {
                measure: expectation.measure.clone()?,
                now: expectation.quality(stored, target)?,
                complete: expectation.complete()?,
            })
        }),
        curve: record.map_or_else(Vec::new, |record| {
            record.curve.points().iter().map(PointBody::from).collect()
        }),
    }
}

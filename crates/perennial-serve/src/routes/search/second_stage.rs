//! What an answer says of the second stage of a search.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::super::backfill::FailureBody;
use crate::two_stage::Ranked;

/// What became of the first hits in the second stage.
#[derive(Serialize, ToSchema)]
pub(crate) struct SecondStageBody {
    /// Hits that were to be ranked anew: `rerank`, or as many as were found.
    hits: usize,
    /// Those that the live version had embedded already, whose similarities needed nothing new.
    known: usize,
    /// Those that it embedded now, from their originals.
    embedded: usize,
    /// Those whose originals could not be used, by reason. They keep their places.
    failed: BTreeMap<&'static str, u64>,
    /// The same one by one.
    failures: Vec<FailureBody>,
    /// Those whose turn did not come within `timeouts.rerank_seconds`, or because the encoder's queue was full. They keep their places.
    out_of_time: usize,
    /// Those that were deleted in the meantime.
    deleted: usize,
    /// What was stored; null without `backfill`.
    backfill: Option<StoredBody>,
    /// For which originals were fetched, in seconds.
    fetch_seconds: f64,
    /// For which they were decoded and embedded.
    embed_seconds: f64,
    /// For which they were stored.
    store_seconds: f64,
}

/// What was stored of the items that were embedded.
#[derive(Serialize, ToSchema)]
pub(crate) struct StoredBody {
    /// Items that are in the live version's space now.
    done: usize,
    /// Items that others changed or deleted in the meantime; those were left alone.
    changed: usize,
    /// Why nothing was stored; null if it was.
    problem: Option<String>,
}

impl SecondStageBody {
    pub(super) fn new(ranked: &Ranked) -> Self {
        let mut failed = BTreeMap::new();
        for (_, failure) in &ranked.failed {
            *failed.entry(failure.reason.name()).or_default() += 1;
        }
        let failures = ranked.failed.iter();
        Self {
            hits: ranked.own.len(),
            known: ranked.known,
            embedded: ranked.embedded,
            failed,
            failures: failures
                .map(|(item, failure)| FailureBody::new(&item.id, failure))
                .collect(),
            out_of_time: ranked.out_of_time,
            deleted: ranked.deleted,
            backfill: ranked.written.as_ref().map(|written| match written {
                Ok(replaced) => StoredBody {
                    done: replaced.done.len(),
                    changed: replaced.changed.len(),
                    problem: None,
                },
                Err(error) => StoredBody {
                    done: 0,
                    changed: 0,
                    problem: Some(error.message.clone()),
                },
            }),
            fetch_seconds: ranked.fetching.as_secs_f64(),
            embed_seconds: ranked.embedding.as_secs_f64(),
            store_seconds: ranked.writing.as_secs_f64(),
        }
    }
}

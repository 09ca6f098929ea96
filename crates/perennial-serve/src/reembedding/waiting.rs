//! Which items wait to be embedded again, and what that lets expect.

use perennial_gallery::StoredItem;
use perennial_upgrade::Policy;
use perennial_upgrade::backfill::{Expectation, Queue};

use super::reembedder::Reembedder;
use crate::backfill::Run;
use crate::error::ApiError;

/// What the certificates let expect of queries of a version; blocks.
///
/// # Errors
/// A policy that cannot be read.
pub(crate) fn expectation(reembedder: &Reembedder, live: &str) -> Result<Expectation, ApiError> {
    let policy = match &reembedder.config.gallery {
        Some(folder) => Policy::of(folder).map_err(ApiError::internal)?,
        None => Policy::default(),
    };
    let stored = reembedder.gallery.stored();
    Ok(Expectation::of(
        &reembedder.registry,
        &policy,
        live,
        &stored,
    ))
}

/// The same where no run has looked: of the version that the last backfill embedded by, or else of the live one; blocks. What cannot be read lets
/// expect nothing; the start of a backfill reports it.
pub(crate) fn expectation_beside_runs(
    reembedder: &Reembedder,
    live: Option<&str>,
) -> Option<Expectation> {
    let target = reembedder.backfill.view(|view| match view.expectation {
        Some(_) => None,
        None => view.target(live).map(str::to_owned),
    });
    expectation(reembedder, &target?).ok()
}

/// The items that come first, up to `limit`; blocks.
///
/// # Errors
/// A policy that cannot be read, and those of the gallery.
pub(crate) fn waiting(
    reembedder: &Reembedder,
    run: &Run,
    limit: usize,
) -> Result<Vec<StoredItem>, ApiError> {
    let backfill = &reembedder.backfill;
    let stored = reembedder.gallery.stored();
    let spaces = expectation(reembedder, &run.target)?.worst_first(&stored, &run.target);
    let mut queue = Queue::new(run.settings.order, spaces);
    let skip = |item: &StoredItem| backfill.has_failed(item);
    let retrievals = backfill.retrievals();
    Ok(queue.next(&*reembedder.gallery.store, retrievals, limit, &skip)?)
}

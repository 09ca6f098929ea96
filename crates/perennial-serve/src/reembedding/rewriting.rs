//! Originals become embeddings, and embeddings items.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use perennial_encode::{DecodeLimits, Prepared};
use perennial_gallery::StoredItem;
use perennial_upgrade::LoadedModel;
use perennial_upgrade::backfill::{
    Failure, FailureReason, Outcome, Reembedded, Replaced, prepared_of, replace_unchanged,
};

use super::fetching::Fetched;
use super::reembedder::Reembedder;
use crate::admission::admit;
use crate::blocking::blocking;
use crate::error::{ApiError, Code};
use crate::telemetry::Stage;

/// Embeds items again whose originals are here, and writes those that nobody changed meanwhile.
///
/// # Errors
/// 429 for a full queue, 409 where the model is not live any more or not certified with what is stored, 503 for a failing disk. Nothing was
/// written then.
pub(crate) async fn reembed(
    reembedder: &Arc<Reembedder>,
    model: &Arc<LoadedModel>,
    fetched: Vec<Fetched>,
) -> Result<Outcome, ApiError> {
    let Embedded { batch, failed } = embed_originals(reembedder, model, fetched).await?;
    let Replaced { done, changed } = commit(reembedder, model, batch).await?;
    Ok(Outcome {
        done,
        changed,
        failed,
    })
}

/// Items with the embeddings of their originals, and those that have none.
#[derive(Default)]
pub(crate) struct Embedded {
    pub(crate) batch: Vec<Reembedded>,
    pub(crate) failed: Vec<(StoredItem, Failure)>,
}

/// Embeds items again whose originals are here. Nothing is written.
///
/// # Errors
/// 429 for a full queue.
pub(crate) async fn embed_originals(
    reembedder: &Arc<Reembedder>,
    model: &Arc<LoadedModel>,
    fetched: Vec<Fetched>,
) -> Result<Embedded, ApiError> {
    if fetched.is_empty() {
        return Ok(Embedded::default());
    }
    let ready = {
        let (model, limits) = (Arc::clone(model), reembedder.config.decode_limits());
        blocking(move || Ok(make_ready(&model, fetched, limits))).await?
    };
    let mut failed = ready.failed;
    let batch = embed(reembedder, model, ready.items, ready.prepared, &mut failed).await?;
    Ok(Embedded { batch, failed })
}

#[derive(Default)]
struct Ready {
    items: Vec<StoredItem>,
    /// One for each item.
    prepared: Vec<Prepared>,
    failed: Vec<(StoredItem, Failure)>,
}

fn make_ready(model: &LoadedModel, fetched: Vec<Fetched>, limits: DecodeLimits) -> Ready {
    let mut ready = Ready::default();
    for (item, original) in fetched {
        let prepared = original.and_then(|file| prepared_of(&item, &file, model, limits));
        match prepared {
            Ok(prepared) => {
                ready.items.push(item);
                ready.prepared.push(prepared);
            }
            Err(failure) => ready.failed.push((item, failure)),
        }
    }
    ready
}

/// Through the same queue as the inputs of clients.
async fn embed(
    reembedder: &Arc<Reembedder>,
    model: &Arc<LoadedModel>,
    items: Vec<StoredItem>,
    prepared: Vec<Prepared>,
    failed: &mut Vec<(StoredItem, Failure)>,
) -> Result<Vec<Reembedded>, ApiError> {
    let batcher = &reembedder.inference.batcher;
    let mut batch = Vec::with_capacity(items.len());
    if items.is_empty() {
        return Ok(batch);
    }
    let dim = model.version.dim;
    match batcher.encode(model, &prepared).await {
        Ok(embeddings) => {
            let rows = embeddings.chunks_exact(dim).map(<[f32]>::to_vec);
            let items = items.into_iter().zip(rows);
            batch.extend(items.map(|(item, embedding)| Reembedded { item, embedding }));
        }
        // One of them has no embedding; alone, the others have.
        Err(error) if error.code == Code::Unprocessable => {
            for (item, input) in items.into_iter().zip(&prepared) {
                match batcher.encode(model, std::slice::from_ref(input)).await {
                    Ok(embedding) => batch.push(Reembedded { item, embedding }),
                    Err(error) if error.code == Code::Unprocessable => {
                        let failure = Failure::new(FailureReason::NoEmbedding, error.message);
                        failed.push((item, failure));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Err(error) => return Err(error),
    }
    Ok(batch)
}

/// Writes items that nobody changed since they were read.
///
/// # Errors
/// 409 where the model is not live any more or not certified with what is stored, 503 for a failing disk. Nothing was written then.
pub(crate) async fn commit(
    reembedder: &Arc<Reembedder>,
    model: &Arc<LoadedModel>,
    batch: Vec<Reembedded>,
) -> Result<Replaced, ApiError> {
    if batch.is_empty() {
        return Ok(Replaced::default());
    }
    // The live version cannot move between the check and the write.
    let versions = reembedder.gallery.hold_versions().await;
    let (reembedder, model) = (Arc::clone(reembedder), Arc::clone(model));
    blocking(move || {
        // Held here, since this goes on when the client leaves or the time is over.
        let _versions = versions;
        let live = reembedder.inference.live.current();
        if live.as_ref().is_none_or(|live| live.name() != model.name()) {
            let problem = format!("{} is not live any more", model.name());
            return Err(ApiError::conflict(problem));
        }
        let admission = admit(
            &reembedder.gallery,
            live.as_deref(),
            &[Arc::new(model.version.clone())],
            false,
        )?;
        let _writing = reembedder.gallery.writes.begin([model.name().to_owned()]);
        let start = Instant::now();
        let replaced = replace_unchanged(&*reembedder.gallery.store, model.name(), batch)?;
        admission.written(&reembedder.gallery);
        reembedder.telemetry.stage(Stage::Commit, start.elapsed());
        if admission.forced {
            let items = replaced.done.len() as u64;
            reembedder
                .gallery
                .forced_writes
                .fetch_add(items, Ordering::Relaxed);
            reembedder.telemetry.forced("upsert", items);
        }
        let gallery = &reembedder.gallery;
        gallery
            .samples
            .wrote(model.name(), replaced.done.len() as u64);
        gallery.count_after_write();
        Ok(replaced)
    })
    .await
}

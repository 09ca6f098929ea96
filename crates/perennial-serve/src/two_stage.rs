//! The second stage of a search: the first hits whose originals can be fetched are embedded by the live version, and ranked by its own
//! similarities.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use perennial_gallery::{ItemId, StoredItem};
use perennial_upgrade::backfill::{Failure, ItemKinds, Originals, Outcome, Reembedded, Replaced};
use perennial_upgrade::{LoadedModel, rerank};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout_at;

use crate::blocking::blocking;
use crate::error::{ApiError, Code};
use crate::gallery::Gallery;
use crate::inference::Inference;
use crate::mixed_search::Found;
use crate::reembedding::{Embedded, Fetched, Reembedder, commit, embed_originals, fetch};
use crate::second_stages::SecondStages;
use crate::telemetry::Stage;

/// Originals of one step. With the number of searches that are in their second stage at once, it bounds the originals in memory.
const STEP: usize = 8;

/// What is asked for.
pub(crate) struct SecondStage {
    /// The first so many hits.
    pub(crate) hits: usize,
    /// Store what was embedded.
    pub(crate) backfill: bool,
}

/// What became of the first hits.
#[derive(Default)]
pub(crate) struct Ranked {
    /// The query's similarity to each of them in the live version's space, where it is known; in the order of the hits.
    pub(crate) own: Vec<Option<f32>>,
    /// Hits that the live version had embedded already.
    pub(crate) known: usize,
    /// Hits that it embedded now.
    pub(crate) embedded: usize,
    /// Hits whose originals could not be used.
    pub(crate) failed: Vec<(StoredItem, Failure)>,
    /// Hits that were deleted meanwhile.
    pub(crate) deleted: usize,
    /// Hits whose turn did not come in time.
    pub(crate) out_of_time: usize,
    /// What became of the write, or why there was none; `None` where none was asked for.
    pub(crate) written: Option<Result<Replaced, ApiError>>,
    pub(crate) fetching: Duration,
    pub(crate) embedding: Duration,
    pub(crate) writing: Duration,
}

/// Ranks the first hits again.
///
/// # Errors
/// 422 where no originals are configured or the query is not of the live version, and those of the gallery. A full queue ends the stage early. That an original
/// cannot be used is no error, nor that what was embedded cannot be stored.
pub(crate) async fn second_stage(
    stages: &SecondStages,
    found: &mut Found,
    asked: &SecondStage,
) -> Result<Ranked, ApiError> {
    let begun = Instant::now();
    let reembedder = &stages.reembedder;
    let deadline = tokio::time::Instant::from_std(begun + stages.time);
    let originals = Arc::clone(stages.originals()?);
    let model = live_model(&reembedder.inference, found)?;
    let mut work = Work {
        ranked: Ranked::default(),
        own: BTreeMap::new(),
        query: std::mem::take(&mut found.query),
        batch: Vec::new(),
    };
    let count = asked.hits.min(found.hits.len());
    let first = found.hits.iter().take(count);
    let ids: Vec<ItemId> = first.map(|merged| merged.hit.id.clone()).collect();
    let mut waiting = work.sort(&reembedder.gallery, &model, ids).await?;
    let mut place = None;
    if !waiting.is_empty() {
        let turn = Arc::clone(&stages.places).acquire_owned();
        if let Ok(turn) = timeout_at(deadline, turn).await {
            place = Some(Arc::new(turn.map_err(ApiError::internal)?));
        }
    }
    while let (Some(place), false) = (&place, waiting.is_empty()) {
        let rest = waiting.split_off(STEP.min(waiting.len()));
        let step = std::mem::replace(&mut waiting, rest);
        let step = (step.into(), Arc::clone(&model));
        let fetched = fetch_some(reembedder, place, &originals, step, deadline);
        let start = Instant::now();
        let fetched = timeout_at(deadline, fetched).await;
        work.ranked.fetching += start.elapsed();
        let Ok(fetched) = fetched else {
            break;
        };
        let start = Instant::now();
        let embedding = embed_originals(reembedder, &model, fetched?);
        let embedded = timeout_at(deadline, embedding).await;
        work.ranked.embedding += start.elapsed();
        match embedded {
            Ok(Ok(embedded)) => work.take_in(embedded),
            // A full queue costs the rest of the second stage, as slow originals do, and not the hits.
            Ok(Err(error)) if error.code == Code::TooManyRequests => break,
            Ok(Err(error)) => return Err(error),
            Err(_) => break,
        }
    }
    drop(place);
    let Work {
        mut ranked,
        mut own,
        batch,
        ..
    } = work;
    ranked.out_of_time =
        count - ranked.known - ranked.embedded - ranked.deleted - ranked.failed.len();
    if asked.backfill {
        let start = Instant::now();
        ranked.written = Some(write(reembedder, &model, batch).await);
        ranked.writing = start.elapsed();
    }
    let rest = found.hits.split_off(count);
    let first = std::mem::take(&mut found.hits).into_iter();
    let first = first.map(|merged| {
        let own = own.remove(&merged.hit.id);
        (merged, own)
    });
    for (merged, own) in rerank(first.collect()) {
        found.hits.push(merged);
        ranked.own.push(own);
    }
    found.hits.extend(rest);
    reembedder.telemetry.stage(Stage::Rerank, begun.elapsed());
    Ok(ranked)
}

/// The live version, if the query is of it.
fn live_model(inference: &Inference, found: &Found) -> Result<Arc<LoadedModel>, ApiError> {
    let model = match &found.model {
        Some(model) => Arc::clone(model),
        None => inference.snapshot()?,
    };
    if model.name() == found.version {
        return Ok(model);
    }
    Err(ApiError::unprocessable(format!(
        "rerank: hits are ranked by the live version {}, and this query is of {}; search by picture, or with an embedding or an item of {}",
        model.name(),
        found.version,
        model.name()
    )))
}

struct Work {
    ranked: Ranked,
    own: BTreeMap<ItemId, f32>,
    /// `[dim]`
    query: Vec<f32>,
    batch: Vec<Reembedded>,
}

impl Work {
    /// Both are of the live version, so that they have one dimension.
    fn similarity(&self, embedding: &[f32]) -> f32 {
        let products = self.query.iter().zip(embedding);
        products.map(|(one, other)| one * other).sum()
    }

    /// Reads the items; those of the live version are known already. Gives back the others, in the order of the hits.
    async fn sort(
        &mut self,
        gallery: &Arc<Gallery>,
        model: &Arc<LoadedModel>,
        ids: Vec<ItemId>,
    ) -> Result<VecDeque<StoredItem>, ApiError> {
        let items = {
            let (gallery, ids) = (Arc::clone(gallery), ids.clone());
            blocking(move || Ok(gallery.store.get(&ids, true)?)).await?
        };
        let items = items.into_iter().map(|item| (item.id.clone(), item));
        let mut items: BTreeMap<ItemId, StoredItem> = items.collect();
        let mut waiting = VecDeque::with_capacity(ids.len());
        for id in ids {
            match items.remove(&id) {
                None => self.ranked.deleted += 1,
                Some(StoredItem {
                    embedding: Some(embedding),
                    model_version,
                    ..
                }) if model_version == model.name() => {
                    self.ranked.known += 1;
                    self.own.insert(id, self.similarity(&embedding));
                }
                Some(item) => waiting.push_back(item),
            }
        }
        Ok(waiting)
    }

    fn take_in(&mut self, embedded: Embedded) {
        let Embedded { batch, failed } = embedded;
        for one in &batch {
            let similarity = self.similarity(&one.embedding);
            self.own.insert(one.item.id.clone(), similarity);
        }
        self.ranked.embedded += batch.len();
        self.batch.extend(batch);
        self.ranked.failed.extend(failed);
    }
}

/// Fetches the originals of one step.
async fn fetch_some(
    reembedder: &Arc<Reembedder>,
    place: &Arc<OwnedSemaphorePermit>,
    originals: &Arc<dyn Originals>,
    (items, model): (Vec<StoredItem>, Arc<LoadedModel>),
    deadline: tokio::time::Instant,
) -> Result<Vec<Fetched>, ApiError> {
    let (reembedder, originals) = (Arc::clone(reembedder), Arc::clone(originals));
    // Held by the threads that fetch, which go on when the time is over or the client leaves.
    let place = Arc::clone(place);
    blocking(move || {
        let _place = place;
        let go_on =
            || !reembedder.lifecycle.is_draining() && tokio::time::Instant::now() < deadline;
        let kinds = ItemKinds::of(&reembedder.registry, &items);
        let accepts = model.version.accepts();
        Ok(fetch(&*originals, items, &kinds, accepts, &go_on))
    })
    .await
}

/// Stores what was embedded, unless somebody changed it meanwhile. A backfill that runs counts it as its own.
async fn write(
    reembedder: &Arc<Reembedder>,
    model: &Arc<LoadedModel>,
    batch: Vec<Reembedded>,
) -> Result<Replaced, ApiError> {
    let replaced = commit(reembedder, model, batch).await?;
    let run = reembedder.backfill.run();
    if let Some(run) = run.filter(|run| run.target == model.name()) {
        let outcome = Outcome {
            done: replaced.done.clone(),
            changed: replaced.changed.clone(),
            failed: Vec::new(),
        };
        let reembedder = Arc::clone(reembedder);
        blocking(move || {
            let stored = reembedder.gallery.stored();
            let backfill = &reembedder.backfill;
            backfill.note(run.number, outcome, Duration::ZERO, &stored);
            Ok(())
        })
        .await?;
    }
    Ok(replaced)
}

//! The work of a backfill: a few items at a time are read, fetched, decoded, embedded and written, between the requests of clients.

mod fetching;
mod reembedder;
mod rewriting;
mod waiting;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use perennial_gallery::StoredItem;
use perennial_upgrade::Stored;
use perennial_upgrade::backfill::{
    Expectation, ItemKinds, Originals, Outcome, PlaceAway, Queue, Unanswered, next_items_at,
    place_answered,
};

pub(crate) use self::fetching::{Fetched, fetch};
pub(crate) use self::reembedder::Reembedder;
pub(crate) use self::rewriting::{Embedded, commit, embed_originals, reembed};
pub(crate) use self::waiting::{expectation, expectation_beside_runs, waiting};
use crate::backfill::{Backfill, PUSH_SILENCE, Run};
use crate::blocking::blocking;
use crate::error::ApiError;
use crate::supervised::supervised;

/// Items of one step: a client's image waits for at most one forward pass of so many.
const STEP: usize = 8;
/// How long a step waits while the service is busy with requests.
const BUSY: Duration = Duration::from_millis(100);
/// The longest that an embedding service may have it wait: what is longer is asked again.
const LONGEST_BUSY: Duration = Duration::from_secs(600);
/// How long it waits when there is nothing to do, before it looks whether the service is still there.
const IDLE: Duration = Duration::from_secs(1);

/// What one run needs beside what every run does.
struct Work {
    run: u64,
    queue: Option<Queue>,
    /// None where clients send them.
    originals: Option<Arc<dyn Originals>>,
    expectation: Arc<Expectation>,
    /// When the next step may begin.
    next: Instant,
    /// Until when the time that it worked is counted.
    counted: Instant,
    /// Items whose place did not answer. They are not handed out again.
    unanswered: Unanswered,
}

/// Works whenever there is something to do. Ends with the service. After a panic, which no step is meant to have, the backfill is paused, and the work
/// goes on with whatever is begun or resumed next.
pub(crate) async fn work(reembedder: Weak<Reembedder>) {
    let after_panic = |problem: String| {
        let reembedder = reembedder.upgrade();
        async move {
            tracing::error!(problem, "a step of the backfill has panicked");
            if let Some(reembedder) = reembedder {
                let stopped = blocking(move || {
                    stop_after_panic(&reembedder.backfill, &reembedder.gallery.stored());
                    Ok(())
                });
                // It fails only where the service ends.
                let _ = stopped.await;
            }
            tokio::time::sleep(IDLE).await;
        }
    };
    supervised(|| steps(Weak::clone(&reembedder)), after_panic).await;
}

/// Says in the backfill's status why it does not go on.
fn stop_after_panic(backfill: &Backfill, stored: &Stored) {
    if let Some(run) = backfill.run() {
        let reason = "a step failed in a way that the program does not expect; the log says how, and resuming goes on";
        backfill.pause_because(run.number, reason, stored);
    }
}

async fn steps(reembedder: Weak<Reembedder>) {
    let mut work = None;
    loop {
        let Some(strong) = reembedder.upgrade() else {
            return;
        };
        if strong.lifecycle.is_draining() {
            return;
        }
        let woken = strong.backfill.woken();
        let wait = step(&strong, &mut work).await;
        drop(strong);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = woken.notified() => {}
        }
    }
}

/// One step, and how long to wait for the next one.
async fn step(reembedder: &Arc<Reembedder>, work: &mut Option<Work>) -> Duration {
    let Some(run) = reembedder.backfill.run() else {
        *work = None;
        return IDLE;
    };
    let number = run.number;
    match try_step(reembedder, run, work).await {
        Ok(wait) => wait,
        // The queue is full of clients' images, or the gallery's database at work for them; or an embedding service says when to come back.
        Err(error) if error.is_passing() => {
            let wait = pause_of(&error);
            if let Some(work) = work {
                // Whatever wakes it meanwhile.
                work.next = Instant::now() + wait;
                // Waiting is no work.
                work.counted = work.next;
            }
            wait
        }
        Err(error) => {
            end(reembedder, number, Ending::Pause, error.message).await;
            IDLE
        }
    }
}

/// How long it waits after an error that passes: as long as that says.
fn pause_of(error: &ApiError) -> Duration {
    let named = error.retry_after.map(Duration::from_secs);
    named.map_or(BUSY, |named| named.min(LONGEST_BUSY))
}

enum Ending {
    Pause,
    Finish,
}

/// Writes the record, so not on a thread of requests.
async fn end(reembedder: &Arc<Reembedder>, run: u64, ending: Ending, reason: String) {
    let reembedder = Arc::clone(reembedder);
    let ended = blocking(move || {
        let stored = reembedder.gallery.stored();
        match ending {
            Ending::Pause => reembedder.backfill.pause_because(run, reason, &stored),
            Ending::Finish => reembedder.backfill.finish(run, reason, &stored),
        }
        Ok(())
    });
    // It fails only where the service ends.
    let _ = ended.await;
}

async fn try_step(
    reembedder: &Arc<Reembedder>,
    run: Run,
    slot: &mut Option<Work>,
) -> Result<Duration, ApiError> {
    let Some(model) = reembedder
        .inference
        .live
        .current()
        .filter(|live| live.name() == run.target)
    else {
        let problem = format!("{} is not live any more; begin another one", run.target);
        return Err(ApiError::conflict(problem));
    };
    if slot.as_ref().is_none_or(|work| work.run != run.number) {
        let (reembedder, run) = (Arc::clone(reembedder), run.clone());
        *slot = Some(blocking(move || prepare(&reembedder, &run)).await?);
    }
    let Some(work) = slot else {
        return Ok(IDLE);
    };
    let now = Instant::now();
    if now < work.next {
        return Ok((work.next - now).min(IDLE));
    }
    // In the queue of its own encoder: what hangs in another one keeps nothing from working.
    let busy = reembedder.inference.batcher.depth_for(&model) >= busy_from(reembedder);
    reembedder.backfill.wait_for_load(run.number, busy);
    if busy {
        work.counted = now;
        return Ok(BUSY);
    }
    let progress = reembedder.backfill.progress(&reembedder.gallery.stored());
    if let Some(reason) = run.settings.stop.met(&progress) {
        end(reembedder, run.number, Ending::Finish, reason).await;
        return Ok(IDLE);
    }
    let Some(originals) = work.originals.clone() else {
        return finish_pushed(reembedder, &run).await;
    };
    let rate = run.settings.items_per_second;
    let most = step_items(reembedder).min(rate.map_or(STEP, |rate| rate.ceil() as usize));
    let stored = reembedder.gallery.stored();
    let places = reembedder.backfill.admit(most.max(1), 1, &stored);
    if places.count() == 0 {
        // Clients have sent the last ones that the rule admits; some of them may fail.
        work.counted = now;
        return Ok(BUSY);
    }
    let items = read(reembedder, work, places.count()).await?;
    if items.is_empty() {
        return nothing_left(reembedder, &run, slot).await;
    }
    let begun = Instant::now();
    let (count, number) = (items.len(), run.number);
    let fetched = {
        let (reembedder, model) = (Arc::clone(reembedder), Arc::clone(&model));
        blocking(move || {
            let go_on =
                || !reembedder.lifecycle.is_draining() && reembedder.backfill.is_current(number);
            let kinds = ItemKinds::of(&reembedder.registry, &items);
            let accepts = model.version.accepts();
            Ok(fetch(&*originals, items, &kinds, accepts, &go_on))
        })
        .await?
    };
    let answered = fetched.iter().any(|(_, original)| place_answered(original));
    let fetched = work.unanswered.sort_out(fetched, answered).map_err(away)?;
    let outcome = reembed(reembedder, &model, fetched).await?;
    let worked = work.counted.elapsed();
    work.counted = Instant::now();
    if let Some(rate) = rate {
        work.next = next_items_at(begun, count, rate);
    }
    note(reembedder, run.number, outcome, worked).await?;
    drop(places);
    Ok(Duration::ZERO)
}

/// Takes in an outcome.
async fn note(
    reembedder: &Arc<Reembedder>,
    run: u64,
    outcome: Outcome,
    worked: Duration,
) -> Result<(), ApiError> {
    let reembedder = Arc::clone(reembedder);
    blocking(move || {
        let stored = reembedder.gallery.stored();
        reembedder.backfill.note(run, outcome, worked, &stored);
        Ok(())
    })
    .await
}

/// Images in the queue from which on the backfill stands back.
fn busy_from(reembedder: &Reembedder) -> usize {
    (reembedder.config.batching.max_batch / 4).max(1)
}

/// Items of one step: no more than the queue takes beside the requests of clients.
fn step_items(reembedder: &Reembedder) -> usize {
    let batching = &reembedder.config.batching;
    STEP.min(batching.max_batch)
        .min(batching.queue_images.div_ceil(2))
}

/// Opens the source and ranks the spaces; blocks.
fn prepare(reembedder: &Reembedder, run: &Run) -> Result<Work, ApiError> {
    let settings = &run.settings;
    let max_bytes = reembedder.config.limits.image_bytes as u64;
    let originals = settings
        .originals
        .open(reembedder.config.downloads.client(), max_bytes)
        .map_err(ApiError::unprocessable)?;
    let expectation = Arc::new(expectation(reembedder, &run.target)?);
    let stored = reembedder.gallery.stored();
    let spaces = expectation.worst_first(&stored, &run.target);
    reembedder
        .backfill
        .expect(run.number, Arc::clone(&expectation));
    Ok(Work {
        expectation,
        run: run.number,
        queue: Some(Queue::new(settings.order, spaces)),
        originals,
        next: Instant::now(),
        counted: Instant::now(),
        unanswered: Unanswered::default(),
    })
}

async fn read(
    reembedder: &Arc<Reembedder>,
    work: &mut Work,
    limit: usize,
) -> Result<Vec<StoredItem>, ApiError> {
    let Some(mut queue) = work.queue.take() else {
        return Ok(Vec::new());
    };
    let apart = work.unanswered.ids();
    let reembedder = Arc::clone(reembedder);
    let (queue, items) = blocking(move || {
        let backfill = &reembedder.backfill;
        let skip = |item: &StoredItem| apart.contains(&item.id) || backfill.has_failed(item);
        let retrievals = backfill.retrievals();
        let items = queue.next(&*reembedder.gallery.store, retrievals, limit, &skip);
        Ok((queue, items?))
    })
    .await?;
    work.queue = Some(queue);
    Ok(items)
}

/// The walk is over: everything is embedded again or has failed, unless items of another space were stored meanwhile.
async fn nothing_left(
    reembedder: &Arc<Reembedder>,
    run: &Run,
    slot: &mut Option<Work>,
) -> Result<Duration, ApiError> {
    let walked: Vec<String> = slot
        .as_mut()
        .and_then(|work| work.queue.as_ref())
        .map_or_else(Vec::new, |queue| queue.spaces().to_vec());
    let stored = reembedder.gallery.stored();
    let mut names = stored.per_version.keys();
    let expectation = slot.as_ref().map(|work| Arc::clone(&work.expectation));
    let waits = |name: &String| {
        let expected = expectation.as_ref();
        let cannot = expected.is_some_and(|expected| expected.is_of_other_modality(name));
        *name != run.target && !walked.contains(name) && !cannot
    };
    if names.any(waits) {
        *slot = None;
        return Ok(Duration::ZERO);
    }
    let failed = match slot {
        Some(work) => work.unanswered.at_end().map_err(away)?,
        None => Vec::new(),
    };
    let outcome = Outcome {
        failed,
        ..Outcome::default()
    };
    note(reembedder, run.number, outcome, Duration::ZERO).await?;
    let reason = all_done(reembedder).await?;
    end(reembedder, run.number, Ending::Finish, reason).await;
    Ok(IDLE)
}

/// Why nothing is left to do. Failed items that others changed or deleted since are no reason.
async fn all_done(reembedder: &Arc<Reembedder>) -> Result<String, ApiError> {
    let reembedder = Arc::clone(reembedder);
    blocking(move || {
        let (backfill, gallery) = (&reembedder.backfill, &reembedder.gallery);
        backfill.forget_changed_now(&*gallery.store)?;
        let stored = gallery.stored();
        let reason = backfill.view(|view| {
            let other = view
                .expectation
                .map_or(0, |expected| expected.of_other_modality(&stored));
            view.record.map(|record| record.all_done(other))
        });
        Ok(reason.unwrap_or_default())
    })
    .await
}

/// Where clients send the originals, the work is done when nothing is left but failures. Failed items that were deleted a moment ago are still
/// counted, so the count says only that it may be done.
async fn finish_pushed(reembedder: &Arc<Reembedder>, run: &Run) -> Result<Duration, ApiError> {
    let stored = reembedder.gallery.stored();
    let counts = reembedder.backfill.counts(&stored, Some(&run.target), None);
    if !counts.contains(&("left", 0)) {
        if reembedder.backfill.is_silent(run.number, Instant::now()) {
            let minutes = PUSH_SILENCE.as_secs() / 60;
            let reason = format!(
                "no client has asked for items or sent originals for {minutes} minutes; resume when it runs again"
            );
            end(reembedder, run.number, Ending::Pause, reason).await;
        }
        return Ok(IDLE);
    }
    let first = {
        let (reembedder, run) = (Arc::clone(reembedder), run.clone());
        blocking(move || waiting(&reembedder, &run, 1)).await?
    };
    if first.is_empty() {
        let reason = all_done(reembedder).await?;
        end(reembedder, run.number, Ending::Finish, reason).await;
    }
    Ok(IDLE)
}

/// Pauses the backfill until the originals can be reached.
fn away(away: PlaceAway) -> ApiError {
    ApiError::unavailable(away.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use perennial_upgrade::backfill::BackfillState;
    use serde_json::json;

    use super::*;
    use crate::config::ServeConfig;

    #[tokio::test]
    async fn a_panic_pauses_the_backfill_and_says_so() {
        let backfill = Backfill::of(&ServeConfig::default());
        let settings = || serde_json::from_value(json!({"originals": "pushed"})).unwrap();
        backfill.start("v0002", settings(), false).unwrap();
        let runs = Arc::new(AtomicUsize::new(0));
        let task = || {
            let runs = Arc::clone(&runs);
            async move { assert_ne!(runs.fetch_add(1, Ordering::SeqCst), 0, "a bug") }
        };
        let after_panic = |problem: String| {
            assert!(problem.contains("a bug"), "{problem}");
            stop_after_panic(&backfill, &Stored::default());
            std::future::ready(())
        };
        supervised(task, after_panic).await;
        assert_eq!(runs.load(Ordering::SeqCst), 2);
        let (state, reason) = backfill.view(|view| {
            let record = view.record.unwrap();
            (record.state, record.reason.clone().unwrap())
        });
        assert_eq!(state, BackfillState::Paused);
        assert!(reason.contains("the log says how"), "{reason}");
        backfill.resume(Some("v0002")).unwrap();
    }

    #[test]
    fn a_service_that_says_when_to_come_back_is_not_asked_before() {
        let error = ApiError::too_many("the queue is full");
        assert_eq!(pause_of(&error), BUSY);
        for (named, expected) in [(0.2, 1), (7.0, 7), (1e9, 600)] {
            let error = error.clone().retry_after(Duration::from_secs_f64(named));
            assert_eq!(pause_of(&error), Duration::from_secs(expected));
        }
    }
}

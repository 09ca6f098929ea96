//! A backfill of the gallery in a folder, without a service.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use perennial_core::Registry;
use perennial_data::pictures::MAX_FILE_BYTES;
use perennial_encode::{DecodeLimits, Prepared};
use perennial_gallery::{EmbeddedGallery, Maintenance, StoredItem, VectorStore};
use perennial_upgrade::backfill::{
    BackfillRecord, BackfillSettings, BackfillState, Download, Expectation,
    FAILURES_WITHOUT_SUCCESS, Failure, FailureReason, FirstOriginals, ItemKinds, Original,
    Originals, Outcome, Queue, Reembedded, Replaced, Retrievals, Unanswered, next_items_at,
    place_answered, prepared_of, replace_unchanged,
};
use perennial_upgrade::{Insertion, LIVE_ALIAS, LoadedModel, Policy, Stored};
use rayon::prelude::*;

use super::report::Report;
use crate::arguments::GlobalArguments;
use crate::commands::gallery::rules::certification;
use crate::exit_status::{gate_missed, usage};
use crate::gallery_folder::GalleryArguments;
use crate::interrupt::Interrupt;
use crate::model_loading::VersionLoader;
use crate::originals_download::OriginalsDownload;
use crate::progress::CountedProgress;
use crate::terminal::Terminal;

/// Items of one durable write.
const BATCH: usize = 64;
/// The record is written at least so far apart.
const SAVE_EVERY: Duration = Duration::from_secs(5);
/// What the record says of a backfill without a service while it works, and after a crash.
const BY_COMMAND: &str = "it was interrupted; `perennial gallery backfill resume` goes on";

/// The state, from the record and the gallery.
pub fn status(gallery: &GalleryArguments, global: &GlobalArguments) -> anyhow::Result<Report> {
    let store = gallery.open_read_only()?;
    let mut record = BackfillRecord::read(&gallery.gallery)?;
    if let Some(record) = &mut record {
        // As the next backfill has it.
        record.forget_changed(&store)?;
    }
    report(record.as_ref(), &store, gallery, global)
}

/// Keeps a service from going on with it.
pub fn pause(gallery: &GalleryArguments, global: &GlobalArguments) -> anyhow::Result<Report> {
    let store = gallery.open_existing()?;
    let mut record = BackfillRecord::read(&gallery.gallery)?
        .filter(|record| record.state == BackfillState::Running)
        .ok_or_else(|| usage("no backfill is running"))?;
    record.state = BackfillState::Paused;
    record.reason = None;
    record.write(&gallery.gallery)?;
    report(Some(&record), &store, gallery, global)
}

/// Forgets it.
pub fn cancel(gallery: &GalleryArguments, global: &GlobalArguments) -> anyhow::Result<Report> {
    let store = gallery.open_existing()?;
    BackfillRecord::remove(&gallery.gallery)?;
    report(None, &store, gallery, global)
}

fn report(
    record: Option<&BackfillRecord>,
    store: &EmbeddedGallery,
    gallery: &GalleryArguments,
    global: &GlobalArguments,
) -> anyhow::Result<Report> {
    let stored = Stored::of(store)?;
    let Ok(registry) = global.open_registry() else {
        return Ok(Report::of(record, &stored, None, None));
    };
    let live = registry.resolve(LIVE_ALIAS).ok();
    let target = record.map(|record| &record.target).or(live.as_ref());
    let policy = Policy::of(&gallery.gallery)?;
    let expectation = target.map(|target| Expectation::of(&registry, &policy, target, &stored));
    let live = live.as_deref();
    Ok(Report::of(record, &stored, live, expectation.as_ref()))
}

/// Goes on with the settings of the record.
pub fn resume(
    gallery: &GalleryArguments,
    global: &GlobalArguments,
    interrupt: Interrupt,
    terminal: &Terminal,
) -> anyhow::Result<Report> {
    let store = gallery.open_existing()?;
    let record = BackfillRecord::read(&gallery.gallery)?
        .filter(|record| record.state != BackfillState::Finished)
        .ok_or_else(|| usage("no backfill is paused; begin one with --originals"))?;
    let registry = global.open_registry()?;
    let live = registry.resolve(LIVE_ALIAS)?;
    if live != record.target {
        return Err(usage(format!(
            "it embeds by {}, and {live} is live now; begin another one with --originals",
            record.target
        )));
    }
    carry_out(
        record, &store, &registry, gallery, global, interrupt, terminal,
    )
}

/// Begins.
pub fn run(
    settings: BackfillSettings,
    retry: bool,
    gallery: &GalleryArguments,
    global: &GlobalArguments,
    interrupt: Interrupt,
    terminal: &Terminal,
) -> anyhow::Result<Report> {
    let registry = global.open_registry()?;
    let store = gallery.open_existing()?;
    let mut record = BackfillRecord::new(&registry.resolve(LIVE_ALIAS)?, settings);
    if let Some(before) = BackfillRecord::read(&gallery.gallery)?.filter(|_| !retry) {
        record.keep_failures_of(before);
    }
    carry_out(
        record, &store, &registry, gallery, global, interrupt, terminal,
    )
}

fn carry_out(
    mut record: BackfillRecord,
    store: &EmbeddedGallery,
    registry: &Registry,
    gallery: &GalleryArguments,
    global: &GlobalArguments,
    interrupt: Interrupt,
    terminal: &Terminal,
) -> anyhow::Result<Report> {
    let folder = &gallery.gallery;
    let download: Arc<dyn Download> = Arc::new(OriginalsDownload::new()?);
    let source = &record.settings.originals;
    let originals = source
        .open(Some(&download), MAX_FILE_BYTES)
        .map_err(|problem| usage(problem.replace("originals.folder", "--originals")))?
        .ok_or_else(|| usage("the originals were sent by a client; pass --originals"))?;
    let version = registry.get(&record.target)?;
    let stored = Stored::of(store)?;
    let rules = certification(registry, gallery)?;
    let insertion = Insertion::check(&rules, &[&version], &stored, Some(&version.name));
    if let Some(problem) = insertion.other_simplex {
        return Err(gate_missed(problem));
    }
    let expectation = Expectation::of(registry, &Policy::of(folder)?, &version.name, &stored);
    record.forget_failures_of_other_modality(&expectation);
    record.forget_changed(store)?;
    let target = record.settings.stop.quality;
    if target.is_some() && expectation.quality(&stored, &version.name).is_none() {
        return Err(usage(
            "--stop-quality: no quality is expected, since a stored version has no certificate with the live version's own figure; run \
             `perennial certify --record` with --new-gallery",
        ));
    }
    let model = LoadedModel::load(&VersionLoader::of(global)?, registry, version)?;
    for space in &insertion.new_spaces {
        store.create_space(space)?;
    }
    // A service that finds the record after a crash does not go on with it by itself.
    record.state = BackfillState::Paused;
    record.reason = Some(BY_COMMAND.to_owned());
    record.write(folder)?;

    let spaces = expectation.worst_first(&stored, model.name());
    let mut queue = Queue::new(record.settings.order, spaces);
    let retrievals = Mutex::new(Retrievals::default());
    let live_items = stored.per_version.get(model.name()).copied().unwrap_or(0);
    let other = expectation.of_other_modality(&stored);
    let left = (stored.items - live_items).saturating_sub(record.failures() + other);
    let title = format!("{} on {}", model.name(), folder.display());
    let progress = CountedProgress::new(terminal, title, left, "items");
    let (mut unanswered, mut first) = (Unanswered::default(), FirstOriginals::default());
    let mut saved = Instant::now();
    loop {
        let began = Instant::now();
        let stored = Stored::of(store)?;
        let now = record.progress(&stored, Some(&expectation));
        if let Some(reason) = record.settings.stop.met(&now) {
            record.end(BackfillState::Finished, reason, &stored, Some(&expectation));
            break;
        }
        let rate = record.settings.items_per_second;
        let allowed = record.settings.stop.items_left(&now);
        let limit = BATCH
            .min(rate.map_or(BATCH, |rate| rate.ceil() as usize))
            .min(allowed.map_or(BATCH, |items| usize::try_from(items).unwrap_or(BATCH)));
        let apart = unanswered.ids();
        let skip = |item: &StoredItem| apart.contains(&item.id) || record.has_failed(item);
        let items = queue.next(store, &retrievals, limit.max(1), &skip)?;
        if items.is_empty() {
            let (state, reason) = match unanswered.at_end() {
                Ok(failed) => {
                    let outcome = Outcome {
                        failed,
                        ..Outcome::default()
                    };
                    record.note(&outcome, Duration::ZERO, &stored, Some(&expectation));
                    let other = expectation.of_other_modality(&stored);
                    (BackfillState::Finished, record.all_done(other))
                }
                Err(away) => (BackfillState::Paused, away.to_string()),
            };
            record.end(state, reason, &stored, Some(&expectation));
            break;
        }
        let count = items.len();
        let kinds = ItemKinds::of(registry, &items);
        let (ready, answered) = prepare(&*originals, items, &kinds, &model);
        let ready = match unanswered.sort_out(ready, answered) {
            Ok(ready) => ready,
            Err(away) => {
                let reason = away.to_string();
                record.end(BackfillState::Paused, reason, &stored, Some(&expectation));
                break;
            }
        };
        let outcome = reembed(ready, &model, store)?;
        if let Some(rate) = rate {
            let until = next_items_at(began, count, rate);
            while Instant::now() < until && !interrupt.pressed() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let stored = Stored::of(store)?;
        let kept = record.note(&outcome, began.elapsed(), &stored, Some(&expectation));
        progress.advance(count as u64);
        if first.are_useless(&outcome) {
            let reason = format!(
                "none of the first {FAILURES_WITHOUT_SUCCESS} originals could be used; look at the failures, and begin another one with --retry"
            );
            record.end(BackfillState::Paused, reason, &stored, Some(&expectation));
            break;
        }
        if !kept {
            let reason = "too many items failed to remember them all".to_owned();
            record.end(BackfillState::Paused, reason, &stored, Some(&expectation));
            break;
        }
        if interrupt.pressed() {
            record.write(folder)?;
            store.flush()?;
            interrupt.check()?;
        }
        if saved.elapsed() > SAVE_EVERY {
            record.write(folder)?;
            saved = Instant::now();
        }
    }
    progress.finish();
    record.write(folder)?;
    store.flush()?;
    let stored = Stored::of(store)?;
    let live = Some(model.name());
    Ok(Report::of(Some(&record), &stored, live, Some(&expectation)))
}

/// An item as the version takes it, or why it cannot be embedded.
type Ready = (StoredItem, Result<Prepared, Failure>);

/// Fetches and prepares on all cores. Says whether the place of the originals has answered for any of them.
fn prepare(
    originals: &dyn Originals,
    items: Vec<StoredItem>,
    kinds: &ItemKinds,
    model: &LoadedModel,
) -> (Vec<Ready>, bool) {
    let accepts = model.version.accepts();
    let found: Vec<(Ready, bool)> = items
        .into_par_iter()
        .map(|item| {
            let original = Original::find(&item, kinds.kind(&item), accepts, originals);
            let answered = place_answered(&original);
            let prepared =
                original.and_then(|file| prepared_of(&item, &file, model, DecodeLimits::FILES));
            ((item, prepared), answered)
        })
        .collect();
    let answered = found.iter().any(|(_, answered)| *answered);
    (
        found.into_iter().map(|(ready, _)| ready).collect(),
        answered,
    )
}

/// Embeds, and writes.
fn reembed(
    ready: Vec<Ready>,
    model: &LoadedModel,
    store: &EmbeddedGallery,
) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let (mut fitting, mut prepared) = (Vec::new(), Vec::new());
    for (item, result) in ready {
        match result {
            Ok(input) => {
                fitting.push(item);
                prepared.push(input);
            }
            Err(failure) => outcome.failed.push((item, failure)),
        }
    }
    if fitting.is_empty() {
        return Ok(outcome);
    }
    let dim = model.version.dim;
    let mut batch = Vec::with_capacity(fitting.len());
    match model.encode(&prepared) {
        Ok(embeddings) => {
            let rows = embeddings.chunks_exact(dim).map(<[f32]>::to_vec);
            let items = fitting.into_iter().zip(rows);
            batch.extend(items.map(|(item, embedding)| Reembedded { item, embedding }));
        }
        // No item has failed then, and the next run goes on here.
        Err(error) if !error.may_concern_one_input() => return Err(error.into()),
        // One of them has no embedding; alone, the others have.
        Err(_) => {
            for (item, input) in fitting.into_iter().zip(&prepared) {
                match model.encode(std::slice::from_ref(input)) {
                    Ok(embedding) => batch.push(Reembedded { item, embedding }),
                    // The service behind the version has gone away meanwhile.
                    Err(error) if !error.may_concern_one_input() => return Err(error.into()),
                    Err(error) => {
                        let failure = Failure::new(FailureReason::NoEmbedding, error.to_string());
                        outcome.failed.push((item, failure));
                    }
                }
            }
        }
    }
    let Replaced { done, changed } = replace_unchanged(store, model.name(), batch)?;
    outcome.done = done;
    outcome.changed = changed;
    Ok(outcome)
}

use perennial_upgrade::backfill::{Failure, FailureReason, Order};
use serde_json::{Map, json};

use super::*;

fn backfill(folder: &std::path::Path) -> Backfill {
    Backfill::of(&ServeConfig {
        gallery: Some(folder.to_owned()),
        ..ServeConfig::default()
    })
}

fn settings() -> BackfillSettings {
    serde_json::from_value(json!({"originals": "pushed"})).unwrap()
}

fn item(id: u64) -> StoredItem {
    StoredItem {
        id: id.into(),
        model_version: "v0001".to_owned(),
        label: None,
        payload: Map::new(),
        embedding: None,
    }
}

#[test]
fn states_follow_one_another_and_outlast_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let first = backfill(folder.path());
    assert!(first.run().is_none() && first.pause().is_err());
    first.start("v0002", settings(), false).unwrap();
    assert!(first.start("v0002", settings(), false).is_err());
    assert!(first.resume(Some("v0002")).is_err());
    let run = first.run().unwrap();
    let failed = Outcome {
        failed: vec![(item(1), Failure::new(FailureReason::Gone, "gone"))],
        done: vec![2.into()],
        ..Outcome::default()
    };
    first.note(
        run.number,
        failed,
        Duration::from_secs(2),
        &Stored::default(),
    );
    drop(first);

    let second = backfill(folder.path());
    assert_eq!(second.run().unwrap().target, run.target);
    assert!(second.has_failed(&item(1)));
    second.pause().unwrap();
    assert!(second.resume(Some("v0001")).is_err());
    let third = backfill(folder.path());
    assert!(third.run().is_none());
    third.resume(Some("v0002")).unwrap();
    let record = third.view(|view| view.record.cloned()).unwrap();
    assert_eq!((record.done, record.seconds), (1, 2.0));
    third.cancel().unwrap();
    assert!(!BackfillRecord::path(folder.path()).exists());
    assert!(!third.has_failed(&item(1)));
}

#[test]
fn a_state_that_cannot_be_written_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = folder.path().join("gallery");
    std::fs::create_dir(&gallery).unwrap();
    let backfill = backfill(&gallery);
    backfill.start("v0002", settings(), false).unwrap();
    let run = backfill.run().unwrap().number;
    // A file in place of the folder, in which nothing can be written.
    std::fs::remove_dir_all(&gallery).unwrap();
    std::fs::write(&gallery, "").unwrap();
    assert!(backfill.pause().is_err());
    assert!(backfill.is_current(run));
    std::fs::remove_file(&gallery).unwrap();
    std::fs::create_dir(&gallery).unwrap();
    backfill.pause().unwrap();
    std::fs::remove_dir_all(&gallery).unwrap();
    std::fs::write(&gallery, "").unwrap();
    assert!(backfill.resume(Some("v0002")).is_err());
    assert!(backfill.run().is_none());
}

#[test]
fn results_of_an_earlier_run_do_not_end_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let backfill = backfill(folder.path());
    backfill.start("v0002", settings(), false).unwrap();
    let old = backfill.run().unwrap().number;
    backfill.pause().unwrap();
    backfill.resume(Some("v0002")).unwrap();
    backfill.finish(old, "late", &Stored::default());
    assert!(backfill.run().is_some() && !backfill.is_current(old));
    // Begun anew, with the originals in another place: what is embedded is embedded, and what failed there has not failed here.
    backfill.pause().unwrap();
    backfill.start("v0002", settings(), true).unwrap();
    let late = Outcome {
        failed: vec![(item(1), Failure::new(FailureReason::Gone, "gone"))],
        done: vec![2.into()],
        ..Outcome::default()
    };
    backfill.note(old, late, Duration::ZERO, &Stored::default());
    assert!(!backfill.has_failed(&item(1)));
    assert_eq!(backfill.view(|view| view.record.unwrap().done), 1);
}

#[test]
fn a_source_of_which_nothing_can_be_used_pauses() {
    let folder = tempfile::tempdir().unwrap();
    let backfill = backfill(folder.path());
    backfill.start("v0002", settings(), false).unwrap();
    let failed = (0..FAILURES_WITHOUT_SUCCESS).map(|id| {
        let failure = Failure::new(FailureReason::Gone, "gone");
        (item(id), failure)
    });
    let outcome = Outcome {
        failed: failed.collect(),
        ..Outcome::default()
    };
    let run = backfill.run().unwrap().number;
    backfill.note(run, outcome, Duration::ZERO, &Stored::default());
    let record = backfill.view(|view| view.record.cloned()).unwrap();
    assert_eq!(record.state, BackfillState::Paused);
    assert!(record.reason.unwrap().contains("none of the first"));
}

#[test]
fn searches_count_items_of_other_spaces() {
    let folder = tempfile::tempdir().unwrap();
    let backfill = backfill(folder.path());
    let hit = |id: u64, version: &str| Hit {
        id: id.into(),
        score: 0.5,
        model_version: version.to_owned(),
        label: None,
        payload: Map::new(),
    };
    let hits = [hit(1, "v0001"), hit(2, "v0002")];
    backfill.retrieved("v0002", hits.iter().map(|hit| (hit, Some(-0.5))));
    let retrievals = backfill.retrievals().lock().unwrap();
    let first = retrievals.first(Order::Retrieved, &|_| Some(0), 10);
    assert_eq!(first, [1.into()]);
    // A search does not wait while the counts are looked at.
    backfill.retrieved("v0002", hits.iter().map(|hit| (hit, None)));
}

#[test]
fn a_client_that_is_not_heard_of_any_more_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let backfill = backfill(folder.path());
    backfill.start("v0002", settings(), false).unwrap();
    let run = backfill.run().unwrap().number;
    let start = Instant::now();
    backfill.hear(start);
    assert!(!backfill.is_silent(run, start + PUSH_SILENCE / 2));
    assert!(backfill.is_silent(run, start + PUSH_SILENCE));
    backfill.hear(start + PUSH_SILENCE / 2);
    assert!(!backfill.is_silent(run, start + PUSH_SILENCE));
    assert!(!backfill.is_silent(run + 1, start + 9 * PUSH_SILENCE));
    // A resumed one is not paused by its old silence.
    backfill.pause().unwrap();
    backfill.resume(Some("v0002")).unwrap();
    let run = backfill.run().unwrap().number;
    assert!(!backfill.is_silent(run, Instant::now()));
}

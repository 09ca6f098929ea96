use perennial_gallery::{EmbeddedGallery, GalleryConfig, Item};
use serde_json::{Map, json};

use super::*;

fn settings() -> BackfillSettings {
    serde_json::from_value(json!({"originals": {"folder": "/srv/pictures"}})).unwrap()
}

fn item(id: impl Into<ItemId>) -> StoredItem {
    StoredItem {
        id: id.into(),
        model_version: "v0001".to_owned(),
        label: Some(1),
        payload: Map::new(),
        embedding: None,
    }
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    assert!(BackfillRecord::read(folder.path()).unwrap().is_none());
    let mut record = BackfillRecord::new("v0002", settings());
    assert!(record.fail(&item(7), Failure::new(FailureReason::Gone, "no such file")));
    assert!(record.fail(
        &item("7"),
        Failure::new(FailureReason::Unreadable, "it is large")
    ));
    record.state = BackfillState::Paused;
    record.write(folder.path()).unwrap();
    let read = BackfillRecord::read(folder.path()).unwrap().unwrap();
    assert_eq!(read, record);
    assert_eq!(read.failed(0)[&FailureReason::Gone], 1);
    assert!(read.has_failed(&item(7)) && !read.has_failed(&item(8)));
    BackfillRecord::remove(folder.path()).unwrap();
    BackfillRecord::remove(folder.path()).unwrap();
    assert!(BackfillRecord::read(folder.path()).unwrap().is_none());
}

#[test]
fn an_item_that_was_stored_anew_has_not_failed() {
    let mut record = BackfillRecord::new("v0002", settings());
    record.fail(&item(7), Failure::new(FailureReason::Gone, "no such file"));
    let mut anew = item(7);
    anew.payload.insert("file".to_owned(), json!("b.png"));
    assert!(!record.has_failed(&anew));
    let done = Outcome {
        done: vec![7.into()],
        ..Outcome::default()
    };
    assert!(record.note(&done, Duration::from_secs(1), &Stored::default(), None));
    assert!(!record.has_failed(&item(7)));
    assert_eq!((record.done, record.seconds), (1, 1.0));
}

#[test]
fn failures_of_items_that_are_gone_or_stored_anew_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedGallery::open(folder.path(), GalleryConfig::default()).unwrap();
    let stored = |id: u64, version: &str, label: Option<u32>| Item {
        id: id.into(),
        embedding: vec![1.0, 0.0],
        model_version: version.to_owned(),
        label,
        payload: Map::new(),
    };
    let items = [
        stored(1, "v0001", Some(1)),
        stored(2, "v0002", Some(1)),
        stored(3, "v0001", Some(2)),
    ];
    store.upsert(items.to_vec()).unwrap();
    let mut record = BackfillRecord::new("v0002", settings());
    // The second is of another version by now, the third has another label, and the fourth was deleted.
    for id in 1..=4u64 {
        record.fail(&item(id), Failure::new(FailureReason::Gone, ""));
    }
    record.forget_changed(&store).unwrap();
    assert_eq!(record.failed_ids(), [1.into()]);
    assert_eq!(
        record.all_done(0),
        "nothing is left but 1 items that failed"
    );
}

#[test]
fn what_another_version_could_not_embed_is_tried_again() {
    let mut earlier = BackfillRecord::new("v0002", settings());
    earlier.fail(&item(1), Failure::new(FailureReason::OtherModality, ""));
    earlier.fail(&item(2), Failure::new(FailureReason::NoEmbedding, ""));
    earlier.fail(&item(3), Failure::new(FailureReason::Gone, ""));
    for (target, failures) in [("v0002", 3), ("v0003", 1)] {
        let mut record = BackfillRecord::new(target, settings());
        record.keep_failures_of(earlier.clone());
        assert_eq!(record.failures(), failures, "{target}");
        assert!(record.has_failed(&item(3)));
    }
}

#[test]
fn failures_of_an_earlier_target_are_counted_once() {
    let mut earlier = BackfillRecord::new("v0001", settings());
    let of = |id: u64, space: &str| StoredItem {
        model_version: space.to_owned(),
        ..item(id)
    };
    for (id, space) in [(1, "v0002"), (2, "v0003"), (3, "texts")] {
        earlier.fail(&of(id, space), Failure::new(FailureReason::Gone, ""));
    }
    // Items of the target are among its own; the earlier backfill had to leave them where they are.
    let mut record = BackfillRecord::new("v0002", settings());
    record.keep_failures_of(earlier.clone());
    assert_eq!(record.failures(), 2);
    // Items that cannot be embedded by it at all are counted as such.
    record.forget_failures_of_other_modality(&Expectation::without_common_modality(&["texts"]));
    assert_eq!(record.failures(), 1);
    assert!(record.has_failed(&of(2, "v0003")));
    // A record of an older program does not know the spaces: they are tried once more.
    let mut value = serde_json::to_value(&earlier).unwrap();
    for failed in value["failures"].as_array_mut().unwrap() {
        failed.as_object_mut().unwrap().remove("space");
    }
    let old: BackfillRecord = serde_json::from_value(value).unwrap();
    for (target, failures) in [("v0001", 3), ("v0002", 0)] {
        let mut record = BackfillRecord::new(target, settings());
        record.keep_failures_of(old.clone());
        assert_eq!(record.failures(), failures, "{target}");
    }
}

#[test]
fn other_files_are_refused_with_their_name() {
    let folder = tempfile::tempdir().unwrap();
    let good = serde_json::to_value(BackfillRecord::new("v0002", settings())).unwrap();
    let mut newer = good.clone();
    newer["schema_version"] = json!(2);
    let mut senseless = good.clone();
    senseless["settings"]["stop"]["share"] = json!(7);
    for content in ["", "{}", "[1]", &newer.to_string(), &senseless.to_string()] {
        std::fs::write(BackfillRecord::path(folder.path()), content).unwrap();
        let error = BackfillRecord::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("backfill.json"), "{error}");
    }
    for rate in [0.0, -1.0, 1e-300, 1e9, f64::NAN] {
        let settings = BackfillSettings {
            items_per_second: Some(rate),
            ..settings()
        };
        assert!(settings.check().unwrap_err().contains("items_per_second"));
    }
}

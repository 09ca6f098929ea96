//! What a store does with snapshots.

use std::path::Path;

use perennial_core::checksum::sha256_hex;
use serde_json::json;

use super::scene::{Whole, ids, item, object, on_a_half_circle, search, space};
use crate::embedded::{EmbeddedGallery, GalleryConfig};
use crate::error::GalleryError;
use crate::filter::Filter;
use crate::item::{Item, SimplexIdentity, StoredItem};
use crate::limits::MAX_LIMIT;
use crate::space::StoreSpace;
use crate::store::VectorStore;

/// Everything that can be seen of a store's content.
type Content = (Vec<StoreSpace>, Vec<StoredItem>);

fn content<S: VectorStore + ?Sized>(store: &S) -> Content {
    let spaces = store.spaces().unwrap().into_iter();
    let page = store.scroll(None, MAX_LIMIT, &Filter::default(), true);
    let page = page.unwrap();
    assert_eq!(page.next, None, "the scene is smaller than a page");
    (spaces.map(|stats| stats.space).collect(), page.items)
}

/// Items of two dimensions and of a simplex, ids of both kinds, and a space without items.
fn fill<S: VectorStore + ?Sized>(store: &S) {
    for (name, dim, vertices) in [("a", 2, Some(3)), ("b", 2, Some(3)), ("empty", 5, None)] {
        let created = store.create_space(&StoreSpace {
            id: space(name),
            dim,
            simplex: vertices.map(|vertices| SimplexIdentity { vertices }),
        });
        created.unwrap();
    }
    let mut items = on_a_half_circle(40);
    items.push(Item {
        payload: object(json!({"n": 1.0, "m": 1, "list": [null, "ü"]})),
        label: Some(u32::MAX),
        ..item("ä/1", "c", &[0.0, 0.6, 0.8])
    });
    store.upsert(items).unwrap();
    // What was replaced and deleted is in no snapshot.
    store.upsert(vec![item(3, "c", &[1.0, 0.0, 0.0])]).unwrap();
    store.delete(&[4.into()]).unwrap();
}

pub(super) fn a_snapshot_brings_everything_back<S: Whole>(folder: &Path, store: &S) {
    fill(store);
    let before = content(store);
    let path = folder.join("all.snapshot");
    std::fs::write(&path, "older").unwrap();
    let info = store.snapshot(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(
        (info.items, info.bytes, &info.sha256),
        (40, bytes.len() as u64, &sha256_hex(&bytes))
    );
    assert_eq!(content(store), before);

    // Over other content, and over an empty store.
    store
        .upsert(vec![item(3, "d", &[1.0]), item(900, "d", &[1.0])])
        .unwrap();
    store
        .delete_where(&Filter {
            model_versions: Some(vec!["a".to_owned()]),
            ..Filter::default()
        })
        .unwrap();
    assert_eq!(store.restore(&path).unwrap(), info);
    assert_eq!(content(store), before);
    store.delete_where(&Filter::everything()).unwrap();
    assert_eq!(store.restore(&path).unwrap(), info);
    assert_eq!(content(store), before);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);

    // The items are found and can be changed as before.
    let hits = search(store, &["c"], &[0.0, 0.6, 0.8], 1, &Filter::default());
    assert_eq!(ids(&hits), ["ä/1".into()]);
    let done = store.upsert(vec![item(3, "a", &[0.0, 1.0])]).unwrap();
    assert_eq!((done.inserted, done.replaced), (0, 1));
    assert_eq!(store.delete(&[3.into(), 5.into()]).unwrap(), 2);
}

pub(super) fn a_snapshot_goes_to_another_store_and_back<S: Whole>(folder: &Path, store: &S) {
    fill(store);
    let before = content(store);
    let path = folder.join("there.snapshot");
    let info = store.snapshot(&path).unwrap();
    let other = EmbeddedGallery::open(folder.join("other"), GalleryConfig::default()).unwrap();
    assert_eq!(crate::Snapshots::restore(&other, &path).unwrap(), info);
    assert_eq!(content(&other), before);
    other.delete(&[8.into()]).unwrap();
    let back = folder.join("back.snapshot");
    crate::Snapshots::snapshot(&other, &back).unwrap();
    store.restore(&back).unwrap();
    assert_eq!(content(store), content(&other));
}

pub(super) fn an_empty_store_has_an_empty_snapshot<S: Whole>(folder: &Path, store: &S) {
    let path = folder.join("empty.snapshot");
    assert_eq!(store.snapshot(&path).unwrap().items, 0);
    fill(store);
    assert_eq!(store.restore(&path).unwrap().items, 0);
    assert_eq!(content(store), (Vec::new(), Vec::new()));
    store.upsert(vec![item(1, "a", &[1.0])]).unwrap();
    assert_eq!(content(store).1.len(), 1);
}

pub(super) fn what_is_no_whole_snapshot_changes_nothing<S: Whole>(folder: &Path, store: &S) {
    fill(store);
    let before = content(store);
    let path = folder.join("whole.snapshot");
    store.snapshot(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let damaged = folder.join("damaged.snapshot");
    for bytes in [
        &flipped[..],
        &whole[..whole.len() - 1],
        &whole[..whole.len() / 2],
        &[&whole[..], b"more"].concat(),
        b"no snapshot",
        b"",
    ] {
        std::fs::write(&damaged, bytes).unwrap();
        let error = store.restore(&damaged).unwrap_err();
        assert!(
            matches!(
                error,
                GalleryError::Snapshot { .. }
                    | GalleryError::Format { .. }
                    | GalleryError::File { .. }
            ),
            "{error:?}"
        );
        assert_eq!(content(store), before);
    }
    assert!(store.restore(&folder.join("missing.snapshot")).is_err());
    // One that cannot be written leaves neither a file nor a store that is stuck.
    let nowhere = folder.join("missing").join("a.snapshot");
    assert!(store.snapshot(&nowhere).is_err() && !nowhere.exists());
    assert_eq!(content(store), before);
    store.upsert(vec![item(1, "b", &[0.0, 1.0])]).unwrap();
}

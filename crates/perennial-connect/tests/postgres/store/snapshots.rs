//! Snapshots go from a database to a folder and back.

use perennial_core::SpaceId;
use perennial_gallery::{
    EmbeddedGallery, Filter, GalleryConfig, GalleryError, SimplexIdentity, Snapshots, StoreSpace,
    StoredItem, VectorStore,
};

use super::stock::{assert_counted, fill, open, open_with};
use crate::database::database;
use crate::items::{everything, item, items, vector};

fn contents(store: &dyn VectorStore) -> (Vec<StoredItem>, Vec<StoreSpace>) {
    let spaces = store.spaces().unwrap().into_iter();
    (everything(store), spaces.map(|stats| stats.space).collect())
}

#[test]
fn a_snapshot_restores_in_either_kind_of_store() {
    let Some(database) = database() else { return };
    let store = open(&database);
    for (name, dim, vertices) in [("v1", 3, Some(4)), ("v2", 3, Some(4)), ("empty", 5, None)] {
        store
            .create_space(&StoreSpace {
                id: SpaceId::new(name).unwrap(),
                dim,
                simplex: vertices.map(|vertices| SimplexIdentity { vertices }),
            })
            .unwrap();
    }
    // More than one piece, and vectors larger than a page.
    fill(&store, items(2500, "v1", 3));
    fill(
        &store,
        (3000..3010)
            .map(|id| item(id, "large", vector(id, 3000)))
            .collect(),
    );
    fill(&store, vec![item("text", "v2", vector(1, 3))]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.snapshot");
    let info = store.snapshot(&path).unwrap();
    assert_eq!(info.items, 2511);
    let before = contents(&store);

    let embedded = EmbeddedGallery::open(folder.path(), GalleryConfig::default()).unwrap();
    assert_eq!(embedded.restore(&path).unwrap(), info);
    assert_eq!(contents(&embedded), before);
    let back = folder.path().join("b.snapshot");
    embedded.snapshot(&back).unwrap();

    let other = open_with(&database, |options| options.schema = "other".to_owned());
    fill(&other, items(4, "gone", 2));
    other.restore(&back).unwrap();
    assert_eq!(contents(&other), before);
    // Into itself, over what is there.
    store.delete(&[7.into()]).unwrap();
    store.restore(&path).unwrap();
    assert_eq!(contents(&store), before);
    assert_counted(&database);
}

#[test]
fn a_damaged_snapshot_changes_nothing() {
    let Some(database) = database() else { return };
    let store = open(&database);
    fill(&store, items(20, "v1", 3));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.snapshot");
    store.snapshot(&path).unwrap();
    let before = contents(&store);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = store.restore(&path).unwrap_err();
    assert!(matches!(error, GalleryError::Snapshot { .. }), "{error}");
    assert!(store.restore(&folder.path().join("missing")).is_err());
    assert_eq!(contents(&store), before);
}

#[test]
fn a_snapshot_is_of_one_moment() {
    let Some(database) = database() else { return };
    let store = open(&database);
    fill(&store, items(3000, "v1", 16));
    let folder = tempfile::tempdir().unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                // All items or none, in one of two spaces.
                store.delete_where(&Filter::everything()).unwrap();
                store.upsert(items(3000, "v2", 16)).unwrap();
            }
        });
        for round in 0..5 {
            let path = folder.path().join(format!("{round}.snapshot"));
            let info = store.snapshot(&path).unwrap();
            assert!(info.items == 3000 || info.items == 0, "{info:?}");
            perennial_gallery::exchange::read_snapshot(&path, |_| Ok(()), |_| Ok(())).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

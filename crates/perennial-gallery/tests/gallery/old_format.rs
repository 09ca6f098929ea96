//! Galleries and snapshots of format 1, which had one dimension for all items: made by version 0.1.0 of the program, and readable for
//! ever.
//!
//! Eight items of two versions in a simplex of four vertices; one more was stored and deleted.

use std::path::{Path, PathBuf};

use perennial_gallery::{
    EmbeddedGallery, Filter, GalleryError, Item, Maintenance, Snapshots, StoredItem, VectorStore,
};

use crate::fixtures::*;

fn test_data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(name)
}

/// A folder with the old database in it.
pub fn old_gallery(folder: &Path) -> PathBuf {
    let path = folder.join("gallery.redb");
    std::fs::create_dir_all(folder).unwrap();
    std::fs::copy(test_data("format-1.redb"), &path).unwrap();
    path
}

/// Everything that the old gallery holds is there.
pub fn assert_old_content(gallery: &EmbeddedGallery) -> Vec<StoredItem> {
    let stats = gallery.stats().unwrap();
    assert_eq!((stats.items, stats.dim), (8, Some(3)));
    assert_eq!(
        (stats.per_version["v0001"], stats.per_version["v0002"]),
        (5, 3)
    );
    assert_eq!(stats.partitions.len(), 1);
    assert_eq!(vertices(gallery), Some(4));
    let items = gallery
        .scroll(None, 100, &Filter::default(), true)
        .unwrap()
        .items;
    let names: Vec<String> = items.iter().map(|item| item.id.to_string()).collect();
    let expected = [
        "0",
        "1",
        "2",
        "3",
        "4",
        "pictures/6.png",
        "pictures/7.png",
        "pictures/8.png",
    ];
    assert_eq!(names, expected);
    assert_eq!(items[4].embedding.as_deref(), Some(&[0.0, 0.6, 0.8][..]));
    assert_eq!((items[0].label, items[4].label), (None, Some(4)));
    assert_eq!(
        items[6].payload,
        payload(serde_json::json!({"name": "item 7"}))
    );
    let hits = search(gallery, &[0.0, 0.6, 0.8], 2, &Filter::default());
    assert_eq!(ids(&hits), [4.into(), 2.into()]);
    items
}

fn newcomer() -> Item {
    Item {
        model_version: "text".to_owned(),
        ..item("new", vec![0.6, 0.8])
    }
}

#[test]
fn an_old_gallery_opens_takes_new_spaces_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    old_gallery(folder.path());
    {
        let gallery = open(folder.path());
        assert_old_content(&gallery);
        // A version of the simplex joins the old ones, and a space of another dimension comes beside them.
        gallery.create_space(&simplex(4)).unwrap();
        gallery.upsert(vec![newcomer()]).unwrap();
        assert_eq!(gallery.stats().unwrap().partitions.len(), 2);
    }
    let gallery = open(folder.path());
    assert_eq!(gallery.stats().unwrap().items, 9);
    gallery.compact().unwrap();
    gallery.delete(&["new".into()]).unwrap();
    assert_old_content(&gallery);
}

#[test]
fn an_old_gallery_is_read_without_being_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = old_gallery(folder.path());
    let before = std::fs::read(&path).unwrap();
    let gallery = EmbeddedGallery::open_read_only(folder.path(), small()).unwrap();
    assert_old_content(&gallery);
    let snapshot = folder.path().join("snapshot");
    gallery.snapshot(&snapshot).unwrap();
    drop(gallery);
    assert!(std::fs::read(&path).unwrap() == before);
    let other = open(&folder.path().join("other"));
    other.restore(&snapshot).unwrap();
    assert_old_content(&other);
}

#[test]
fn an_old_snapshot_is_restored() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    gallery.upsert(vec![newcomer()]).unwrap();
    gallery.restore(&test_data("format-1.snapshot")).unwrap();
    assert_old_content(&gallery);
    drop(gallery);
    assert_old_content(&open(folder.path()));
}

#[test]
fn a_damaged_old_gallery_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = old_gallery(folder.path());
    let whole = std::fs::read(&path).unwrap();
    let vector = 0.6f32.to_le_bytes();
    let at = whole
        .windows(4)
        .position(|window| window == vector)
        .unwrap();
    let mut damaged = whole.clone();
    damaged[at] ^= 1;
    for bytes in [&damaged[..], &whole[..whole.len() / 2]] {
        std::fs::write(&path, bytes).unwrap();
        let error = EmbeddedGallery::open(folder.path(), small()).unwrap_err();
        assert!(
            matches!(
                error,
                GalleryError::Corrupt { .. } | GalleryError::Storage { .. }
            ),
            "{error}"
        );
    }
    std::fs::write(&path, &whole).unwrap();
    assert_old_content(&open(folder.path()));
}

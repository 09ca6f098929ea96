//! What survives closing, moving, damage and concurrency.

use std::sync::atomic::{AtomicBool, Ordering};

use perennial_gallery::{
    EmbeddedGallery, Filter, GalleryConfig, GalleryError, Maintenance, Snapshots, VectorStore,
};

use crate::fixtures::*;

#[test]
fn a_gallery_is_there_after_it_was_closed() {
    let folder = tempfile::tempdir().unwrap();
    let items = items(300, 8, 7);
    {
        let gallery = open(folder.path());
        gallery.upsert(items.clone()).unwrap();
        gallery.delete(&[3.into()]).unwrap();
        gallery.create_space(&simplex(9)).unwrap();
        let error = EmbeddedGallery::open(folder.path(), small()).unwrap_err();
        assert!(matches!(error, GalleryError::Locked { .. }), "{error}");
    }
    let gallery = open(folder.path());
    assert_eq!(gallery.stats().unwrap().items, 299);
    assert_eq!(vertices(&gallery), Some(9));
    let hits = search(&gallery, &items[5].embedding, 1, &Filter::default());
    assert_eq!(hits[0].id, 5.into());
    assert_eq!(hits[0].payload, items[5].payload);
}

#[test]
fn snapshots_move_to_another_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gallery.snapshot");
    let gallery = open(&folder.path().join("a"));
    let items = items(200, 3, 8);
    gallery.upsert(items.clone()).unwrap();
    gallery.create_space(&simplex(4)).unwrap();
    let written = gallery.snapshot(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!((written.items, written.bytes), (200, bytes.len() as u64));
    assert_eq!(written.sha256, perennial_core::sha256_hex(&bytes));
    gallery.delete_where(&Filter::everything()).unwrap();

    let other = open(&folder.path().join("b"));
    other.upsert(vec![item("old", vec![1.0, 0.0])]).unwrap();
    for (at, flip) in [(0, 1), (bytes.len() / 2, 4), (bytes.len() - 1, 128)] {
        let mut damaged = bytes.clone();
        damaged[at] ^= flip;
        let bad = folder.path().join("bad");
        std::fs::write(&bad, &damaged).unwrap();
        let error = other.restore(&bad).unwrap_err();
        assert!(matches!(error, GalleryError::Snapshot { .. }), "{error}");
        std::fs::write(&bad, &bytes[..at]).unwrap();
        assert!(other.restore(&bad).is_err());
    }
    assert!(other.restore(&folder.path().join("missing")).is_err());
    assert!(other.restore(folder.path()).is_err());
    assert_eq!(other.get(&["old".into()], false).unwrap().len(), 1);

    for gallery in [&gallery, &other] {
        assert_eq!(gallery.restore(&path).unwrap(), written);
        let stats = gallery.stats().unwrap();
        assert_eq!(
            (stats.items, stats.dim, stats.per_version["v0002"]),
            (200, Some(3), 100)
        );
        assert!(gallery.get(&["old".into()], false).unwrap().is_empty());
        let filter = Filter::default();
        let hits = search_all(gallery, &items[7].embedding, 3, 1, &filter, true).unwrap();
        assert_eq!(hits[0][0].id, 7.into());
        gallery
            .upsert(vec![item(7, items[7].embedding.clone())])
            .unwrap();
    }
    drop(other);
    let other = open(&folder.path().join("b"));
    assert_eq!(other.stats().unwrap().items, 200);
    assert_eq!(vertices(&other), Some(4));
    // The same content is the same file, wherever it was restored.
    let again = other.snapshot(&folder.path().join("again")).unwrap();
    assert_eq!(again.items, 200);
}

#[test]
fn a_damaged_database_is_an_error_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gallery.redb");
    {
        let gallery = open(folder.path());
        gallery.upsert(items(300, 64, 9)).unwrap();
    }
    let bytes = std::fs::read(&path).unwrap();
    let refused = |damaged: &[u8], what: &str| {
        std::fs::write(&path, damaged).unwrap();
        let error = EmbeddedGallery::open(folder.path(), small()).expect_err(what);
        assert!(
            matches!(
                error,
                GalleryError::Corrupt { .. } | GalleryError::Storage { .. }
            ),
            "{what}: {error}"
        );
        assert!(error.to_string().contains("gallery.redb"), "{error}");
    };
    refused(&bytes[..bytes.len() / 3], "cut off");
    refused(&bytes[..100], "hardly anything left");
    refused(b"no database at all", "something else");
    refused(&vec![7; bytes.len()], "nonsense");
    // A value in the middle of some vector: the structure of the file stays whole.
    let vector = items(300, 64, 9)[150].embedding[3].to_le_bytes();
    let at = bytes
        .windows(4)
        .position(|window| window == vector)
        .unwrap();
    let mut damaged = bytes.clone();
    damaged[at] ^= 1;
    refused(&damaged, "one bit of a vector");
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(open(folder.path()).stats().unwrap().items, 300);
}

#[test]
fn concurrent_writes_and_searches_agree() {
    let folder = tempfile::tempdir().unwrap();
    let config = GalleryConfig {
        hnsw_from: 100,
        ..small()
    };
    let gallery = EmbeddedGallery::open(folder.path(), config).unwrap();
    let all = items(240, 8, 12);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = all
            .chunks(60)
            .map(|part| {
                let gallery = &gallery;
                scope.spawn(move || {
                    for batch in part.chunks(5) {
                        gallery.upsert(batch.to_vec()).unwrap();
                        // What was acknowledged is found at once.
                        let last = batch.last().unwrap();
                        let hits = search(gallery, &last.embedding, 1, &Filter::default());
                        assert_eq!(hits[0].id, last.id);
                        gallery.delete(&[batch[0].id.clone()]).unwrap();
                        assert!(
                            gallery
                                .get(&[batch[0].id.clone()], false)
                                .unwrap()
                                .is_empty()
                        );
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for hit in search(&gallery, &all[0].embedding, 20, &Filter::default()) {
                        assert!(hit.payload["name"] == format!("item {}", hit.id));
                    }
                    gallery
                        .snapshot(&folder.path().join("live.snapshot"))
                        .unwrap();
                }
            });
        }
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(gallery.stats().unwrap().items, 240 - 48);
    drop(gallery);
    assert_eq!(open(folder.path()).stats().unwrap().items, 240 - 48);
}

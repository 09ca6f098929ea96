//! What survives closing, moving, damage and concurrency.

use std::sync::atomic::{AtomicBool, Ordering};

use perennial_gallery::{
    EmbeddedGallery, Filter, GalleryConfig, GalleryError, Item, ItemId, Maintenance, Snapshots,
    VectorStore,
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

/// An opening reads no ids, and the database meets damage among them with assertions.
#[test]
fn reads_of_damaged_ids_are_errors() {
    let whole = tempfile::tempdir().unwrap();
    let gallery = open(whole.path());
    let all: Vec<ItemId> = (0..3000).map(|id| format!("needle {id}").into()).collect();
    let stored = items(3000, 64, 1).into_iter().zip(&all);
    let stored = stored.map(|(item, id)| Item {
        id: id.clone(),
        ..item
    });
    gallery.upsert(stored.collect()).unwrap();
    drop(gallery);
    let bytes = std::fs::read(whole.path().join("gallery.redb")).unwrap();
    // Pages of records have few ids each.
    let holds_ids = |page: &&[u8]| page.windows(6).filter(|w| w == b"needle").count() > 30;
    let of_ids = Filter {
        ids: Some(all.clone()),
        ..Filter::default()
    };
    let query = items(1, 64, 2).remove(0).embedding;
    let mut errors = Vec::new();
    for filler in [0xff, 0x01] {
        let mut damaged = bytes.clone();
        for page in damaged.chunks_mut(4096) {
            if holds_ids(&&*page) {
                page[..64].fill(filler);
            }
        }
        assert_ne!(damaged, bytes);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("gallery.redb"), damaged).unwrap();
        let gallery = EmbeddedGallery::open_read_only(folder.path(), small()).unwrap();
        errors.push(gallery.get(&all, false).unwrap_err());
        let found = search_all(&gallery, &query, 64, 10, &of_ids, false);
        errors.push(found.unwrap_err());
        let page = gallery.scroll(None, 200, &Filter::default(), false);
        errors.push(page.unwrap_err());
    }
    for error in errors {
        let text = error.to_string();
        assert!(text.contains("gallery.redb"), "{text}");
    }
}

#[test]
fn counters_that_would_begin_anew_are_damage() {
    use redb::{Database, TableDefinition};
    for (counter, what) in [("next_row", "rows"), ("sequence", "transactions")] {
        let folder = tempfile::tempdir().unwrap();
        let gallery = open(folder.path());
        gallery.upsert(items(3, 2, 1)).unwrap();
        drop(gallery);
        let database = Database::open(folder.path().join("gallery.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        let meta = TableDefinition::<&str, u64>::new("meta");
        let mut table = transaction.open_table(meta).unwrap();
        table.insert(counter, u64::MAX).unwrap();
        drop(table);
        transaction.commit().unwrap();
        drop(database);
        let error = EmbeddedGallery::open(folder.path(), small()).unwrap_err();
        assert!(matches!(error, GalleryError::Corrupt { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("counter of {what}")), "{text}");
    }
}

#[test]
fn a_snapshot_does_not_take_the_place_of_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gallery.redb");
    let gallery = open(folder.path());
    gallery.upsert(items(10, 3, 1)).unwrap();
    let mut names = vec![path.clone()];
    #[cfg(unix)]
    {
        names.push(folder.path().join("link"));
        std::os::unix::fs::symlink(&path, &names[1]).unwrap();
    }
    for name in names {
        let error = gallery.snapshot(&name).unwrap_err().to_string();
        assert!(error.contains("another name"), "{error}");
    }
    gallery.upsert(items(20, 3, 2)).unwrap();
    drop(gallery);
    assert_eq!(open(folder.path()).stats().unwrap().items, 20);
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

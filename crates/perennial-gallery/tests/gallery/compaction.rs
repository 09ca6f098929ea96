//! Compaction: smaller files, the same items, and readers and writers that go on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use perennial_gallery::{
    EmbeddedGallery, Filter, GalleryConfig, GalleryError, Item, Maintenance, Snapshots, VectorStore,
};

use crate::fixtures::*;

/// Everything that a gallery says about its items.
fn content(gallery: &EmbeddedGallery) -> Vec<perennial_gallery::StoredItem> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = gallery
            .scroll(after.as_ref(), 1000, &Filter::default(), true)
            .unwrap();
        all.extend(page.items);
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

fn large(items: Vec<Item>) -> Vec<Item> {
    let text = "x".repeat(2000);
    let payload = payload(serde_json::json!({ "text": text }));
    items
        .into_iter()
        .map(|item| Item {
            payload: payload.clone(),
            ..item
        })
        .collect()
}

#[test]
fn a_compacted_gallery_is_smaller_and_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    gallery.create_space(&simplex(17)).unwrap();
    for _ in 0..4 {
        gallery.upsert(large(items(3000, 16, 1))).unwrap();
    }
    gallery
        .delete(&(100..3000u64).map(Into::into).collect::<Vec<_>>())
        .unwrap();
    gallery.upsert(items(50, 16, 2)).unwrap();
    let (before, stats) = (content(&gallery), gallery.stats().unwrap());
    assert_eq!(before.len(), 100);
    assert!(stats.disk.is_wasteful(), "{:?}", stats.disk);

    let compacted = gallery.compact().unwrap();
    assert_eq!(
        (compacted.items, compacted.bytes_before),
        (100, stats.disk.bytes)
    );
    assert!(
        compacted.bytes_after < compacted.bytes_before / 10,
        "{compacted:?}"
    );
    let after = gallery.stats().unwrap();
    assert_eq!(after.disk.bytes, compacted.bytes_after);
    assert!(
        !after.disk.is_wasteful() && after.disk.bytes < 1 << 20,
        "{:?}",
        after.disk
    );
    assert_eq!(content(&gallery), before);
    // Once more is no harm, and writes go on.
    let again = gallery.compact().unwrap();
    assert!(again.bytes_after <= 2 * compacted.bytes_after, "{again:?}");
    gallery
        .upsert(vec![item("new", items(1, 16, 3)[0].embedding.clone())])
        .unwrap();
    gallery.delete(&[7.into()]).unwrap();
    let last = content(&gallery);
    assert_eq!(last.len(), 100);
    drop(gallery);
    let names: Vec<_> = folder
        .path()
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["gallery.redb"]);
    let gallery = open(folder.path());
    assert_eq!(content(&gallery), last);
    assert_eq!(vertices(&gallery), Some(17));
}

#[test]
fn an_empty_gallery_can_be_compacted() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    assert_eq!(gallery.compact().unwrap().items, 0);
    gallery.upsert(items(20, 8, 1)).unwrap();
    gallery.delete_where(&Filter::everything()).unwrap();
    assert_eq!(gallery.compact().unwrap().items, 0);
    gallery.upsert(items(5, 4, 1)).unwrap();
    drop(gallery);
    assert_eq!(open(folder.path()).stats().unwrap().items, 5);
}

#[test]
fn readers_and_writers_go_on_during_a_compaction() {
    let folder = tempfile::tempdir().unwrap();
    let config = GalleryConfig {
        hnsw_from: 100,
        ..small()
    };
    let gallery = EmbeddedGallery::open(folder.path(), config.clone()).unwrap();
    let all = items(600, 8, 4);
    gallery.upsert(all.clone()).unwrap();
    let (done, writes) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for writer in 0..2u64 {
            let (gallery, all, done, writes) = (&gallery, &all, &done, &writes);
            scope.spawn(move || {
                let mut next = 0;
                while !done.load(Ordering::Relaxed) {
                    let new = 10_000 * (writer + 1) + next;
                    let old = 2 * (next % 300) + writer;
                    next += 1;
                    gallery
                        .upsert(vec![item(new, all[0].embedding.clone())])
                        .unwrap();
                    gallery.upsert(vec![all[old as usize].clone()]).unwrap();
                    if next.is_multiple_of(3) {
                        assert_eq!(gallery.delete(&[new.into()]).unwrap(), 1);
                    }
                    writes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let found = gallery.get(&[5.into(), 6.into()], false).unwrap();
                assert_eq!(found.len(), 2);
                let hits = search(&gallery, &all[9].embedding, 3, &Filter::default());
                assert_eq!(hits[0].id, 9.into());
                // A snapshot reads on where it began, whatever file is in place by then.
                let path = folder.path().join("live.snapshot");
                assert!(gallery.snapshot(&path).unwrap().items >= 600);
            }
        });
        for _ in 0..8 {
            let before = writes.load(Ordering::Relaxed);
            gallery.compact().unwrap();
            while writes.load(Ordering::Relaxed) < before + 5 {
                std::thread::yield_now();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    let (before, stats) = (content(&gallery), gallery.stats().unwrap());
    assert_eq!(before.len() as u64, stats.items);
    drop(gallery);
    let gallery = EmbeddedGallery::open(folder.path(), config).unwrap();
    assert_eq!(content(&gallery), before);
    assert_eq!(gallery.stats().unwrap().per_version, stats.per_version);
}

#[test]
fn one_compaction_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    gallery.upsert(large(items(2000, 8, 1))).unwrap();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| gallery.compact())).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(outcomes.iter().any(Result::is_ok));
    for outcome in outcomes {
        assert!(
            matches!(outcome, Ok(_) | Err(GalleryError::Compacting)),
            "{outcome:?}"
        );
    }
    assert_eq!(gallery.compact().unwrap().items, 2000);
}

#[test]
fn a_restored_gallery_catches_up_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    gallery.upsert(items(30, 8, 1)).unwrap();
    let path = folder.path().join("few.snapshot");
    gallery.snapshot(&path).unwrap();
    gallery.upsert(large(items(4000, 8, 2))).unwrap();
    std::thread::scope(|scope| {
        let compaction = scope.spawn(|| gallery.compact());
        gallery.restore(&path).unwrap();
        compaction.join().unwrap().unwrap();
    });
    let before = content(&gallery);
    assert_eq!(before.len(), 30);
    drop(gallery);
    assert_eq!(content(&open(folder.path())), before);
}

#[cfg(unix)]
#[test]
fn a_link_to_the_database_stays_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let (here, elsewhere) = (folder.path().join("here"), folder.path().join("elsewhere"));
    std::fs::create_dir(&here).unwrap();
    let gallery = open(&elsewhere);
    gallery.upsert(items(40, 8, 1)).unwrap();
    drop(gallery);
    let link = here.join("gallery.redb");
    std::os::unix::fs::symlink(elsewhere.join("gallery.redb"), &link).unwrap();
    open(&here).compact().unwrap();
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(open(&elsewhere).stats().unwrap().items, 40);
}

#[test]
fn a_damaged_item_stops_a_compaction_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    let all = items(60, 64, 9);
    gallery.upsert(all.clone()).unwrap();
    // Damaged under the open gallery, in a page that it has not read since.
    let path = folder.path().join("gallery.redb");
    let vector = all[40].embedding[3].to_le_bytes();
    let bytes = std::fs::read(&path).unwrap();
    let at = bytes
        .windows(4)
        .position(|window| window == vector)
        .unwrap();
    let damage = |byte: u8| {
        use std::io::{Seek, SeekFrom, Write};
        let mut file = std::fs::File::options().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&[byte]).unwrap();
    };
    drop(gallery);
    let config = GalleryConfig {
        cache_bytes: 0,
        ..small()
    };
    let gallery = EmbeddedGallery::open(folder.path(), config).unwrap();
    damage(bytes[at] ^ 1);
    let error = gallery.compact().unwrap_err();
    assert!(error.to_string().contains("gallery.redb"), "{error}");
    assert!(!folder.path().join("gallery.redb.compacting").exists());
    damage(bytes[at]);
    drop(gallery);
    assert_eq!(open(folder.path()).stats().unwrap().items, 60);
}

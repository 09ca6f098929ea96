//! A disk that fills up while the gallery is compacted.

use super::*;
use crate::embedded::compaction::Copied;

const DIM: usize = 256;

/// Items that were all written three times, so that two thirds of the file are to be given back.
fn wasteful(folder: &Path) -> EmbeddedGallery {
    let gallery = open(folder);
    for _ in 0..3 {
        gallery
            .upsert((0..1000).map(|id| item(id, DIM)).collect())
            .unwrap();
    }
    gallery
}

fn content(gallery: &EmbeddedGallery) -> Vec<StoredItem> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = gallery.scroll(after.as_ref(), 1000, &Filter::default(), true);
        let page = page.unwrap();
        all.extend(page.items);
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

fn files(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// What a compaction fails with on a full disk says what to do, and leaves nothing behind but the gallery as it was.
fn assert_unharmed(
    gallery: &EmbeddedGallery,
    error: &GalleryError,
    folder: &Path,
    before: &[StoredItem],
) {
    assert!(matches!(error, GalleryError::Storage { .. }), "{error}");
    let said = error.to_string();
    for part in [place::FILE_NAME, "no storage space", "free disk space"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(files(folder), [place::FILE_NAME]);
    assert!(content(gallery) == before);
    assert_eq!(gallery.stats().unwrap().items as usize, before.len());
}

/// The gallery serves and stores as before.
fn assert_goes_on(gallery: &EmbeddedGallery, number: u64) {
    let (one, gone) = (item(10_000 + number, DIM), 20_000 + number);
    let written = gallery.upsert(vec![one.clone(), item(number, DIM), item(gone, DIM)]);
    assert_eq!(written.unwrap().inserted, 2);
    assert_eq!(gallery.delete(&[gone.into()]).unwrap(), 1);
    let filter = Filter {
        ids: Some(vec![one.id.clone(), gone.into()]),
        ..Filter::default()
    };
    let hits = nearest(gallery, &one, 3, &filter, false);
    assert_eq!((hits.len(), &hits[0].id), (1, &one.id));
}

#[test]
fn a_disk_that_fills_up_while_items_are_copied_leaves_the_gallery_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = wasteful(folder.path());
    let size = gallery.stats().unwrap().disk.bytes;
    let mut failures = 0;
    // Copies are made on the caller's thread.
    for disk in (0..size).step_by(96 << 10) {
        let before = content(&gallery);
        DISK_SIZE.set(disk);
        let compacted = gallery.compact();
        DISK_SIZE.set(u64::MAX);
        let Err(error) = compacted else { break };
        failures += 1;
        assert_unharmed(&gallery, &error, folder.path(), &before);
        assert_goes_on(&gallery, failures);
    }
    assert!(failures > 3, "{failures}");
    let before = content(&gallery);
    let compacted = gallery.compact().unwrap();
    assert!(compacted.bytes_after < size / 2, "{compacted:?} of {size}");
    assert!(content(&gallery) == before);
    assert_goes_on(&gallery, 900);
    let before = content(&gallery);
    drop(gallery);
    assert_eq!(files(folder.path()), [place::FILE_NAME]);
    assert!(content(&open(folder.path())) == before);
}

#[test]
fn a_disk_that_fills_up_in_the_last_step_of_a_compaction_leaves_the_gallery_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = wasteful(folder.path());
    let size = gallery.stats().unwrap().disk.bytes;
    for round in 0..3 {
        let reader = gallery.ask(Command::Read).unwrap();
        let copied = Copied::of(&reader, 1 << 20).unwrap();
        drop(reader);
        // More is written meanwhile than the copy has room for; the old file has what was given back so far.
        let new = (2000..2600).map(|id| item(id, DIM)).collect();
        gallery.upsert(new).unwrap();
        gallery.delete(&[5.into(), (7 + round).into()]).unwrap();
        let before = content(&gallery);
        // The writer adds it.
        set_disk_size(&gallery, 0);
        let adopted = gallery.ask(|reply| Command::Adopt(Box::new(copied), reply));
        set_disk_size(&gallery, u64::MAX);
        assert_unharmed(&gallery, &adopted.unwrap_err(), folder.path(), &before);
        assert_goes_on(&gallery, round);
        gallery
            .delete(&(2000..2600).map(ItemId::Number).collect::<Vec<_>>())
            .unwrap();
    }
    let before = content(&gallery);
    let compacted = gallery.compact().unwrap();
    assert!(compacted.bytes_after < size, "{compacted:?} of {size}");
    assert!(content(&gallery) == before);
    assert_goes_on(&gallery, 900);
    let before = content(&gallery);
    drop(gallery);
    assert_eq!(files(folder.path()), [place::FILE_NAME]);
    assert!(content(&open(folder.path())) == before);
}

#[test]
fn compactions_on_a_full_disk_fail_beside_a_writer_and_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = wasteful(folder.path());
    let done = std::sync::atomic::AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut next = 5000;
            while !done.load(Ordering::Relaxed) {
                gallery
                    .upsert((next..next + 20).map(|id| item(id, DIM)).collect())
                    .unwrap();
                next += 20;
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            next
        });
        let (mut failed, mut compacted) = (0, 0);
        // Half of the copies run out of space, at a place of their own.
        for round in 0..24u64 {
            if round % 2 == 0 {
                DISK_SIZE.set(round * (40 << 10));
            }
            match gallery.compact() {
                Ok(_) => compacted += 1,
                Err(GalleryError::Storage { .. }) => failed += 1,
                Err(error) => panic!("{error}"),
            }
            DISK_SIZE.set(u64::MAX);
        }
        done.store(true, Ordering::Relaxed);
        assert!(failed > 3 && compacted > 3, "{failed} {compacted}");
        writer.join().unwrap()
    });
    let before = content(&gallery);
    assert_eq!(before.len() as u64, 1000 + written - 5000);
    drop(gallery);
    assert_eq!(files(folder.path()), [place::FILE_NAME]);
    assert!(content(&open(folder.path())) == before);
}

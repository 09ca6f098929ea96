//! Failures and defects of the writer, after which memory and database must agree again.

use super::*;

fn on_the_writer(gallery: &EmbeddedGallery, run: impl FnOnce() + Send + 'static) {
    let run = Box::new(run);
    gallery.ask(|reply| Command::Run(run, reply)).unwrap();
}

fn stored(gallery: &EmbeddedGallery) -> Vec<ItemId> {
    let page = gallery.scroll(None, 1000, &Filter::default(), false);
    page.unwrap()
        .items
        .into_iter()
        .map(|item| item.id)
        .collect()
}

fn numbers(ids: impl IntoIterator<Item = u64>) -> Vec<ItemId> {
    ids.into_iter().map(ItemId::Number).collect()
}

#[test]
fn nothing_is_written_over_rows_that_could_not_be_read_into_memory() {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = folder.path().join("snapshot");
    let other = open(&folder.path().join("other"));
    other
        .upsert((100..160).map(|id| item(id, 8)).collect())
        .unwrap();
    other.snapshot(&snapshot).unwrap();
    let gallery = open(&folder.path().join("gallery"));
    gallery
        .upsert((0..9).map(|id| item(id, 8)).collect())
        .unwrap();
    // The snapshot is in the database before it is read: three times without success.
    on_the_writer(&gallery, || UNREADABLE.set(3));
    let restored = gallery.restore(&snapshot).unwrap();
    assert_eq!(restored.items, 60);
    assert!(gallery.health().is_err());
    let refused = gallery.upsert(vec![item(500, 8)]).unwrap_err();
    assert!(matches!(refused, GalleryError::Storage { .. }), "{refused}");
    assert!(refused.to_string().contains("cannot be read"), "{refused}");
    gallery.upsert(vec![item(501, 8)]).unwrap();
    gallery.health().unwrap();
    let expected = numbers((100..160).chain([501]));
    assert_eq!(stored(&gallery), expected);
    drop(gallery);
    let gallery = open(&folder.path().join("gallery"));
    assert_eq!(stored(&gallery), expected);
    for id in [100, 159, 501] {
        let one = item(id, 8);
        let found = gallery.get(&[id.into()], true).unwrap();
        assert_eq!(found[0].embedding.as_ref(), Some(&one.embedding));
    }
}

#[test]
fn a_defect_of_the_writer_is_answered_and_overcome() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    gallery
        .upsert((0..9).map(|id| item(id, 8)).collect())
        .unwrap();
    let mut expected: Vec<u64> = (0..9).collect();
    let defect = |result: Result<(), GalleryError>, text: &str| {
        let error = result.unwrap_err();
        assert!(matches!(error, GalleryError::Defect { .. }), "{error}");
        assert!(error.to_string().contains(text), "{error}");
        gallery.health().unwrap();
    };
    let run = Box::new(|| panic!("on purpose"));
    defect(gallery.ask(|reply| Command::Run(run, reply)), "on purpose");
    for (place, id, is_stored) in [
        ("before the commit", 50, false),
        ("after the commit", 60, true),
        ("before the commit", 70, false),
    ] {
        on_the_writer(&gallery, move || DEFECT.set(place));
        let upserted = gallery.upsert(vec![item(id, 8), item(3, 8)]);
        defect(upserted.map(|_| ()), place);
        expected.extend(is_stored.then_some(id));
        assert_eq!(stored(&gallery), numbers(expected.clone()), "{place}");
        gallery.upsert(vec![item(id + 1, 8)]).unwrap();
        expected.push(id + 1);
        assert_eq!(stored(&gallery), numbers(expected.clone()), "{place}");
        let hits = nearest(&gallery, &item(3, 8), 1, &Filter::default(), true);
        assert!(hits[0].score > 0.999);
    }
    // Those that wait behind a defect are carried out, and those that were to share its transaction are told.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let gallery = &gallery;
        let run = Box::new(move || {
            wait.recv().unwrap();
            DEFECT.set("before the commit");
        });
        scope.spawn(move || gallery.ask(|reply| Command::Run(run, reply)).unwrap());
        let pause = || std::thread::sleep(std::time::Duration::from_millis(200));
        pause();
        let together = [80, 81].map(|id| scope.spawn(move || gallery.upsert(vec![item(id, 8)])));
        pause();
        go.send(()).unwrap();
        for one in together {
            let error = one.join().unwrap().unwrap_err();
            assert!(matches!(error, GalleryError::Defect { .. }), "{error}");
        }
    });
    assert_eq!(stored(&gallery), numbers(expected.clone()));
    drop(gallery);
    assert_eq!(stored(&open(folder.path())), numbers(expected));
}

#[test]
fn a_gallery_without_its_writer_is_not_healthy() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    gallery.upsert(vec![item(1, 8)]).unwrap();
    gallery.health().unwrap();
    let commands = gallery.commands.as_ref().unwrap();
    commands.send(Command::End).unwrap();
    let writer = gallery.writer.as_ref().unwrap();
    while !writer.is_finished() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(matches!(gallery.health(), Err(GalleryError::Closed)));
    let error = gallery.upsert(vec![item(2, 8)]).unwrap_err();
    assert!(matches!(error, GalleryError::Closed), "{error}");
    // The database went with it; what it holds is there for the next one.
    drop(gallery);
    assert_eq!(stored(&open(folder.path())), numbers([1]));
}

//! Galleries that are only read, and what lies where a gallery should.

use perennial_gallery::{
    EmbeddedGallery, Filter, GalleryConfig, GalleryError, Maintenance, Snapshots, VectorStore,
};

use crate::fixtures::*;

/// Names, sizes and contents of everything in a folder.
fn files(folder: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_gallery_is_read_without_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gallery");
    let config = GalleryConfig {
        hnsw_from: 50,
        ..small()
    };
    let all = items(200, 8, 1);
    {
        let gallery = EmbeddedGallery::open(&path, config.clone()).unwrap();
        gallery.upsert(all.clone()).unwrap();
        gallery.flush().unwrap();
    }
    let before = files(&path);
    assert!(before.len() > 1, "the index is saved");
    {
        let gallery = EmbeddedGallery::open_read_only(&path, config.clone()).unwrap();
        let beside = EmbeddedGallery::open_read_only(&path, config.clone()).unwrap();
        assert!(gallery.is_read_only());
        for gallery in [&gallery, &beside] {
            assert_eq!(gallery.stats().unwrap().items, 200);
            let hits = search(gallery, &all[5].embedding, 1, &Filter::default());
            assert_eq!(hits[0].id, 5.into());
        }
        let refused = |result: Result<(), GalleryError>| {
            assert!(
                matches!(result, Err(GalleryError::ReadOnly { .. })),
                "{result:?}"
            );
        };
        refused(gallery.upsert(all[..1].to_vec()).map(|_| ()));
        refused(gallery.delete(&[5.into()]).map(|_| ()));
        refused(gallery.delete_where(&Filter::everything()).map(|_| ()));
        refused(gallery.compact().map(|_| ()));
        refused(gallery.create_space(&simplex(9)));
        let snapshot = folder.path().join("snapshot");
        assert_eq!(gallery.snapshot(&snapshot).unwrap().items, 200);
        refused(gallery.restore(&snapshot).map(|_| ()));
        gallery.flush().unwrap();
        // Nobody writes while somebody reads.
        let error = EmbeddedGallery::open(&path, config.clone()).unwrap_err();
        assert!(matches!(error, GalleryError::Locked { .. }), "{error}");
    }
    assert_eq!(files(&path), before);

    let writer = EmbeddedGallery::open(&path, config.clone()).unwrap();
    let error = EmbeddedGallery::open_read_only(&path, config).unwrap_err();
    assert!(matches!(error, GalleryError::Locked { .. }), "{error}");
    drop(writer);
}

#[test]
fn a_gallery_that_was_not_closed_is_read_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (path, crashed) = (folder.path().join("gallery"), folder.path().join("crashed"));
    let gallery = open(&path);
    gallery.upsert(items(300, 16, 3)).unwrap();
    // As a crash leaves it: the file while the gallery is open.
    std::fs::create_dir(&crashed).unwrap();
    std::fs::copy(path.join("gallery.redb"), crashed.join("gallery.redb")).unwrap();
    let before = files(&crashed);
    for _ in 0..2 {
        let reading = EmbeddedGallery::open_read_only(&crashed, small()).unwrap();
        assert_eq!(reading.stats().unwrap().items, 300);
        assert_eq!(reading.get(&[299.into()], true).unwrap().len(), 1);
    }
    assert_eq!(files(&crashed), before);
    assert_eq!(open(&crashed).stats().unwrap().items, 300);
}

#[test]
fn what_is_no_gallery_is_refused_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let error = EmbeddedGallery::open_read_only(&missing, small()).unwrap_err();
    assert!(matches!(error, GalleryError::Missing { .. }), "{error}");
    assert!(!missing.exists());

    let (whole, other) = (folder.path().join("whole"), folder.path().join("other"));
    open(&whole).upsert(items(100, 32, 1)).unwrap();
    let whole = std::fs::read(whole.join("gallery.redb")).unwrap();
    std::fs::create_dir(&other).unwrap();
    let path = other.join("gallery.redb");
    let mut zeros = whole.clone();
    zeros.fill(0);
    for (content, what) in [
        (&b""[..], "nothing"),
        (b"\0", "one byte"),
        (b"SQLite format 3\0and so on", "another program's file"),
        (&whole[..whole.len() / 2], "half"),
        (&whole[..9], "the magic number"),
        (&whole[..4096], "the first page"),
        (&zeros, "zeros"),
    ] {
        std::fs::write(&path, content).unwrap();
        for error in [
            EmbeddedGallery::open(&other, small()).expect_err(what),
            EmbeddedGallery::open_read_only(&other, small()).expect_err(what),
        ] {
            let text = error.to_string();
            assert!(
                matches!(error, GalleryError::Corrupt { .. }),
                "{what}: {error:?}"
            );
            assert!(
                text.contains("gallery.redb") && text.contains("snapshot"),
                "{what}: {text}"
            );
        }
        assert_eq!(std::fs::read(&path).unwrap(), content, "{what}");
        assert_eq!(other.read_dir().unwrap().count(), 1, "{what}");
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    for error in [
        EmbeddedGallery::open(&other, small()).unwrap_err(),
        EmbeddedGallery::open_read_only(&other, small()).unwrap_err(),
    ] {
        assert!(error.to_string().contains("folder"), "{error}");
    }
}

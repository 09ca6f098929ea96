//! Storing, reading and deleting items, and what is refused.

use perennial_gallery::{
    EmbeddedGallery, Filter, GalleryConfig, GalleryError, IndexKind, Item, Maintenance, VectorStore,
};
use serde_json::json;

use crate::fixtures::*;

#[test]
fn items_are_stored_replaced_read_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    assert_eq!(gallery.stats().unwrap().dim, None);
    let first = Item {
        label: Some(4),
        payload: payload(json!({"name": "ü", "n": 0.1})),
        ..item("a", vec![1.0, 0.0])
    };
    let done = gallery
        .upsert(vec![first.clone(), item(7, vec![0.0, 1.0])])
        .unwrap();
    assert_eq!((done.inserted, done.replaced), (2, 0));
    let replaced = Item {
        model_version: "v0002".to_owned(),
        ..item(7, vec![0.6, 0.8])
    };
    let done = gallery
        .upsert(vec![item(8, vec![0.0, -1.0]), replaced])
        .unwrap();
    assert_eq!((done.inserted, done.replaced), (1, 1));

    let found = gallery
        .get(&["a".into(), 99.into(), 7.into()], true)
        .unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].embedding.as_deref(), Some(&[1.0, 0.0][..]));
    assert_eq!(
        (found[0].label, &found[0].payload),
        (Some(4), &first.payload)
    );
    assert_eq!((&*found[1].model_version, found[1].label), ("v0002", None));
    assert_eq!(
        gallery.get(&["a".into()], false).unwrap()[0].embedding,
        None
    );

    let hits = search(&gallery, &[0.6, 0.8], 10, &Filter::default());
    assert_eq!(ids(&hits), [7.into(), "a".into(), 8.into()]);
    assert!((hits[0].score - 1.0).abs() < 1e-6 && (hits[1].score - 0.6).abs() < 1e-6);
    assert_eq!(hits[1].payload, first.payload);

    let stats = gallery.stats().unwrap();
    assert_eq!((stats.items, stats.dim), (3, Some(2)));
    assert_eq!(stats.per_version["v0001"], 2);
    assert_eq!(stats.per_version["v0002"], 1);
    assert_eq!(stats.index.kind, IndexKind::Int8);
    assert!(stats.bytes_per_vector.memory > 10.0 && stats.bytes_per_vector.disk > 8.0);

    assert_eq!(
        gallery.delete(&[7.into(), 7.into(), 1234.into()]).unwrap(),
        1
    );
    assert!(gallery.get(&[7.into()], false).unwrap().is_empty());
    assert!(!gallery.stats().unwrap().per_version.contains_key("v0002"));
    assert_eq!(
        search(&gallery, &[0.6, 0.8], 10, &Filter::default()).len(),
        2
    );
}

#[test]
fn bad_batches_are_named_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    gallery.upsert(vec![item(1, vec![1.0, 0.0])]).unwrap();
    let good = || item(2, vec![0.0, 1.0]);
    let large = Item {
        payload: payload(json!({"text": "x".repeat(17_000)})),
        ..item(3, vec![0.0, 1.0])
    };
    let long_version = Item {
        model_version: "v".repeat(129),
        ..item(3, vec![0.0, 1.0])
    };
    for (bad, name) in [
        (item(3, vec![f32::NAN, 0.0]), "value 0"),
        (item(3, vec![0.0, f32::INFINITY]), "value 1"),
        (item(3, vec![1.0, 1.0]), "1.41"),
        (item(3, vec![1.0]), "1 dimensions"),
        (item(3, vec![]), "0 dimensions"),
        (item(2, vec![1.0, 0.0]), "twice"),
        (item("", vec![1.0, 0.0]), "empty"),
        (item("a\nb", vec![1.0, 0.0]), "control"),
        (item("x".repeat(1025), vec![1.0, 0.0]), "1025"),
        (large, "17"),
        (long_version, "model version"),
    ] {
        let error = gallery.upsert(vec![good(), bad]).unwrap_err();
        assert!(error.is_invalid_input(), "{error}");
        assert!(error.to_string().contains(name), "{error} lacks {name}");
        assert_eq!(gallery.stats().unwrap().items, 1);
    }
    let none = Filter::default();
    for (embedding, limit) in [
        (&[1.0][..], 1),
        (&[f32::NAN, 0.0], 1),
        (&[1.0, 0.0], 0),
        (&[1.0, 0.0], 1001),
    ] {
        assert!(
            search_all(&gallery, embedding, embedding.len(), limit, &none, true)
                .unwrap_err()
                .is_invalid_input()
        );
    }
    assert!(search_all(&gallery, &[1.0, 0.0, 1.0], 2, 1, &none, false).is_err());
    assert!(matches!(
        gallery.delete_where(&none),
        Err(GalleryError::EmptyFilter)
    ));
    assert_eq!(gallery.delete_where(&Filter::everything()).unwrap(), 1);
    assert_eq!(gallery.stats().unwrap().dim, None);
    gallery.upsert(vec![item(1, vec![1.0, 0.0, 0.0])]).unwrap();
    assert_eq!(search(&gallery, &[1.0, 0.0, 0.0], 1, &none).len(), 1);
}

#[test]
fn pages_visit_every_item_once() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    let mut items = items(60, 4, 5);
    items.push(item("text", vec![1.0, 0.0, 0.0, 0.0]));
    gallery
        .upsert(items.iter().rev().cloned().collect())
        .unwrap();
    for filter in filters() {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = gallery.scroll(after.as_ref(), 7, &filter, true).unwrap();
            assert!(page.items.len() <= 7);
            seen.extend(page.items.into_iter().map(|item| item.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let passing = items
            .iter()
            .filter(|i| filter.matches(&i.id, &i.model_version, i.label, &i.payload));
        assert_eq!(
            seen,
            passing.map(|i| i.id.clone()).collect::<Vec<_>>(),
            "{filter:?}"
        );
    }
}

#[test]
fn deleting_by_filter_deletes_what_passes() {
    for filter in filters().into_iter().skip(1) {
        let folder = tempfile::tempdir().unwrap();
        let gallery = open(folder.path());
        let items = items(50, 4, 6);
        gallery.upsert(items.clone()).unwrap();
        let passing = items
            .iter()
            .filter(|i| filter.matches(&i.id, &i.model_version, i.label, &i.payload))
            .count();
        assert_eq!(
            gallery.delete_where(&filter).unwrap(),
            passing,
            "{filter:?}"
        );
        assert_eq!(gallery.stats().unwrap().items as usize, 50 - passing);
        assert_eq!(gallery.delete_where(&filter).unwrap(), 0);
    }
}

#[test]
fn the_simplex_is_remembered_and_guarded() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    assert_eq!(vertices(&gallery), None);
    assert!(
        gallery
            .create_space(&simplex(1))
            .unwrap_err()
            .is_invalid_input()
    );
    gallery.create_space(&simplex(4)).unwrap();
    gallery.create_space(&simplex(3)).unwrap();
    let error = gallery.upsert(vec![item(1, vec![1.0])]).unwrap_err();
    assert!(
        matches!(
            error,
            GalleryError::WrongDimension {
                found: 1,
                expected: 2,
                ..
            }
        ),
        "{error}"
    );
    gallery.upsert(vec![item(1, vec![1.0, 0.0])]).unwrap();
    gallery.create_space(&simplex(3)).unwrap();
    let error = gallery.create_space(&simplex(5)).unwrap_err();
    assert!(
        matches!(
            error,
            GalleryError::IdentityMismatch {
                stored: 3,
                given: 5
            }
        ),
        "{error}"
    );

    let gallery = open(&folder.path().join("other"));
    gallery.upsert(vec![item(1, vec![1.0, 0.0])]).unwrap();
    let error = gallery.create_space(&simplex(5)).unwrap_err();
    assert!(
        matches!(error, GalleryError::IdentityDimension { .. }),
        "{error}"
    );
    gallery.create_space(&simplex(3)).unwrap();
}

#[test]
fn settings_that_cannot_work_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = GalleryConfig {
        queue: 0,
        ..small()
    };
    let error = EmbeddedGallery::open(folder.path(), config).unwrap_err();
    assert!(error.to_string().contains("queue"), "{error}");
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(EmbeddedGallery::open(&file, small()).is_err());
}

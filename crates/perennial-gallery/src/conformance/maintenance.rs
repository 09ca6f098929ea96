//! What a store says about itself, and how it is looked after.

use std::path::Path;

use super::scene::{Whole, counts, item, on_a_half_circle, space};
use crate::error::GalleryError;
use crate::filter::Filter;
use crate::item::SimplexIdentity;
use crate::space::StoreSpace;
use crate::stats::{GalleryStats, IndexProgress};

/// Numbers that must agree, whatever is stored.
fn assert_consistent<S: Whole>(store: &S) -> GalleryStats {
    let stats = store.stats().unwrap();
    let counted: u64 = counts(store).iter().map(|(_, items)| items).sum();
    assert_eq!(stats.items, counted, "{stats:?}");
    let per_version: Vec<(String, u64)> = stats.per_version.clone().into_iter().collect();
    assert_eq!(per_version, counts(store), "{stats:?}");
    if !stats.partitions.is_empty() {
        let parts = stats.partitions.iter();
        assert_eq!(parts.map(|part| part.items).sum::<u64>(), stats.items);
    }
    for part in &stats.partitions {
        assert!(part.items > 0, "{part:?}");
        assert_eq!(part.per_version.values().sum::<u64>(), part.items);
    }
    assert!(stats.index.backlog <= stats.items && stats.index.indexed <= stats.items);
    if stats.index.state == IndexProgress::Ready {
        assert_eq!(stats.index.backlog, 0, "{stats:?}");
    }
    let per_vector = [stats.bytes_per_vector.memory, stats.bytes_per_vector.disk];
    assert!(
        per_vector
            .iter()
            .all(|bytes| bytes.is_finite() && *bytes >= 0.0)
    );
    stats
}

pub(super) fn statistics_are_those_of_the_items<S: Whole>(_: &Path, store: &S) {
    let stats = assert_consistent(store);
    assert_eq!((stats.items, stats.bytes_per_vector.memory), (0, 0.0));
    for name in ["a", "b"] {
        let plane = StoreSpace {
            id: space(name),
            dim: 2,
            simplex: Some(SimplexIdentity { vertices: 3 }),
        };
        store.create_space(&plane).unwrap();
    }
    assert_consistent(store);
    store.upsert(on_a_half_circle(30)).unwrap();
    let stats = assert_consistent(store);
    assert_eq!((stats.items, stats.dim), (30, Some(2)));
    if let [part] = &stats.partitions[..] {
        assert_eq!(
            (part.dim, part.simplex),
            (2, Some(SimplexIdentity { vertices: 3 }))
        );
    }
    // An item that moves is counted once, and what is emptied is not counted at all.
    store.upsert(vec![item(0, "c", &[0.0, 0.6, 0.8])]).unwrap();
    let stats = assert_consistent(store);
    assert_eq!((stats.items, stats.dim), (30, None));
    assert_eq!(stats.per_version.get("c"), Some(&1));
    let of_a = Filter {
        model_versions: Some(vec!["a".to_owned(), "c".to_owned()]),
        ..Filter::default()
    };
    store.delete_where(&of_a).unwrap();
    let stats = assert_consistent(store);
    assert_eq!((stats.items, stats.per_version.len()), (15, 1));
    store.delete_where(&Filter::everything()).unwrap();
    assert_eq!(assert_consistent(store).items, 0);
}

pub(super) fn looking_after_it_changes_no_item<S: Whole>(_: &Path, store: &S) {
    let all = || {
        let page = store.scroll(None, 1000, &Filter::default(), true).unwrap();
        page.items
    };
    store.flush().unwrap();
    for round in 0..2 {
        store.upsert(on_a_half_circle(200)).unwrap();
        let gone: Vec<_> = (round..150).map(Into::into).collect();
        store.delete(&gone).unwrap();
        let before = all();
        store.flush().unwrap();
        match store.compact() {
            Ok(done) => assert_eq!(done.items, before.len() as u64),
            // A database does it by itself, and the error says what it does.
            Err(GalleryError::NotOffered { problem }) => assert!(!problem.is_empty()),
            Err(error) => panic!("{error}"),
        }
        assert_eq!(all(), before);
        assert_consistent(store);
    }
    store.upsert(vec![item(1, "a", &[0.0, 1.0])]).unwrap();
    assert_consistent(store);
}

//! What a store says about itself, and how it is looked after.

use std::path::Path;

use super::scene::{Whole, counts, item, on_a_half_circle, space};
use crate::error::GalleryError;
use crate::filter::Filter;
use crate::item::SimplexIdentity;
use crate::moves::Moves;
use crate::space::StoreSpace;
use crate::stats::{GalleryStats, IndexProgress};
use crate::store::Replacement;

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

pub(super) fn moves_are_counted_by_the_space_that_items_come_into<S: Whole>(
    folder: &Path,
    store: &S,
) {
    let Some(start) = store.moves() else {
        return;
    };
    let since = |before: &Moves| -> Vec<String> {
        let moves = store.moves().unwrap();
        moves.since(before).into_iter().collect()
    };
    store.upsert(on_a_half_circle(20)).unwrap();
    // New payloads, labels and embeddings, and what is deleted.
    store.upsert(on_a_half_circle(30)).unwrap();
    store.delete(&[3.into()]).unwrap();
    store.upsert(vec![item(3, "a", &[1.0, 0.0])]).unwrap();
    assert_eq!(since(&start), [""; 0]);
    store.upsert(vec![item(3, "b", &[1.0, 0.0])]).unwrap();
    assert_eq!(since(&start), ["b"]);
    let then = store.moves().unwrap();
    let items = [item(3, "b", &[0.0, 1.0]), item(5, "c", &[1.0, 0.0, 0.0])];
    store.upsert(items.to_vec()).unwrap();
    assert_eq!(since(&then), ["c"]);
    let read = store.get(&[7.into()], true).unwrap().remove(0);
    let replacement = Replacement {
        read,
        model_version: "a".to_owned(),
        embedding: vec![0.0, 1.0],
    };
    let then = store.moves().unwrap();
    store.replace_unchanged(vec![replacement]).unwrap();
    assert_eq!(since(&then), ["a"]);
    // Everything may have been somewhere else before.
    let snapshot = folder.join("snapshot");
    store.snapshot(&snapshot).unwrap();
    let then = store.moves().unwrap();
    store.restore(&snapshot).unwrap();
    assert_eq!(since(&then), ["a", "b", "c"]);
    store.flush().unwrap();
    assert_eq!(since(&store.moves().unwrap()), [""; 0]);
}

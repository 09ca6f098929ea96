//! What a store does with its spaces.

use super::scene::{counts, ids, item, on_a_half_circle, search, space};
use crate::filter::Filter;
use crate::item::SimplexIdentity;
use crate::limits::MAX_LIMIT;
use crate::space::StoreSpace;
use crate::store::{SearchRequest, VectorStore};

fn plane(id: &str, vertices: Option<usize>) -> StoreSpace {
    StoreSpace {
        id: space(id),
        dim: 2,
        simplex: vertices.map(|vertices| SimplexIdentity { vertices }),
    }
}

pub(super) fn only_the_named_spaces_are_searched(store: &dyn VectorStore) {
    store.upsert(on_a_half_circle(20)).unwrap();
    let filter = Filter::default();
    for (spaces, expected) in [
        (&["a"][..], 10),
        (&["b"], 10),
        (&["b", "a"], 20),
        (&["a", "unknown"], 10),
        (&["unknown"], 0),
        (&[], 0),
    ] {
        let hits = search(store, spaces, &[1.0, 0.0], MAX_LIMIT, &filter);
        assert_eq!(hits.len(), expected, "{spaces:?}");
        assert!(hits.iter().all(|hit| spaces.contains(&&*hit.model_version)));
    }
    let of_b = Filter {
        model_versions: Some(vec!["b".to_owned()]),
        ..Filter::default()
    };
    assert!(search(store, &["a"], &[1.0, 0.0], 5, &of_b).is_empty());
}

pub(super) fn spaces_are_known_before_their_items(store: &dyn VectorStore) {
    store.create_space(&plane("b", Some(3))).unwrap();
    store.create_space(&plane("a", Some(3))).unwrap();
    store.create_space(&plane("a", Some(3))).unwrap();
    let known = store.spaces().unwrap();
    let expected = [plane("a", Some(3)), plane("b", Some(3))];
    assert!(
        known.iter().map(|stats| &stats.space).eq(&expected),
        "{known:?}"
    );
    assert!(known.iter().all(|stats| stats.items == 0));
    store.upsert(vec![item(1, "b", &[1.0, 0.0])]).unwrap();
    let known = store.spaces().unwrap();
    assert_eq!((known[1].items, &known[1].space), (1, &expected[1]));
    // Whatever happens to the items of others, and with or without a simplex.
    store.create_space(&plane("c", None)).unwrap();
    store.delete(&[1.into()]).unwrap();
    let known = store.spaces().unwrap().into_iter();
    let known: Vec<StoreSpace> = known.map(|stats| stats.space).collect();
    assert_eq!(
        known,
        [plane("a", Some(3)), plane("b", Some(3)), plane("c", None)]
    );
    let impossible = StoreSpace {
        dim: 0,
        ..plane("d", None)
    };
    assert!(
        store
            .create_space(&impossible)
            .unwrap_err()
            .is_invalid_input()
    );
}

pub(super) fn a_space_keeps_its_dimension_and_its_simplex(store: &dyn VectorStore) {
    store.create_space(&plane("a", Some(3))).unwrap();
    let line = StoreSpace {
        dim: 1,
        simplex: Some(SimplexIdentity { vertices: 2 }),
        ..plane("a", None)
    };
    // While it has no items, it may be created anew.
    store.create_space(&line).unwrap();
    assert!(
        store
            .upsert(vec![item(1, "a", &[1.0, 0.0])])
            .unwrap_err()
            .is_invalid_input()
    );
    store.create_space(&plane("a", Some(3))).unwrap();
    store.upsert(vec![item(1, "a", &[1.0, 0.0])]).unwrap();
    assert!(store.create_space(&line).is_err());
    store.create_space(&plane("a", Some(3))).unwrap();
    let spaces = store.spaces().unwrap();
    assert_eq!(
        (&spaces[0].space, spaces[0].items),
        (&plane("a", Some(3)), 1)
    );
}

pub(super) fn spaces_of_several_dimensions_live_in_one_store(store: &dyn VectorStore) {
    let cube = StoreSpace {
        dim: 3,
        ..plane("cube", None)
    };
    store.create_space(&cube).unwrap();
    let line = |id: u64| item(id, "line", &[if id.is_multiple_of(2) { 1.0 } else { -1.0 }]);
    let solid = |id: u64| item(id, "cube", &[0.0, 0.6, 0.8]);
    store.upsert(on_a_half_circle(10)).unwrap();
    // One batch may hold several spaces.
    let mixed = (20..24).map(line).chain((30..33).map(solid));
    assert_eq!(store.upsert(mixed.collect()).unwrap().inserted, 7);
    let expected = [("a", 5), ("b", 5), ("cube", 3), ("line", 4)];
    assert_eq!(
        counts(store),
        expected.map(|(name, items)| (name.to_owned(), items))
    );
    let dims: Vec<usize> = store
        .spaces()
        .unwrap()
        .iter()
        .map(|stats| stats.space.dim)
        .collect();
    assert_eq!(dims, [2, 2, 3, 1]);

    let filter = Filter::default();
    let hits = search(store, &["cube"], &[0.0, 0.6, 0.8], 10, &filter);
    assert_eq!(ids(&hits), [30.into(), 31.into(), 32.into()]);
    let hits = search(store, &["line"], &[-1.0], 2, &filter);
    assert_eq!(ids(&hits), [21.into(), 23.into()]);
    assert_eq!(
        search(store, &["a", "b"], &[1.0, 0.0], 100, &filter).len(),
        10
    );
    // Queries of one dimension do not search spaces of two.
    let refused = store.search(&SearchRequest {
        spaces: &[space("a"), space("cube")],
        queries: &[1.0, 0.0],
        dim: 2,
        limit: 5,
        filter: &filter,
        exact: false,
    });
    assert!(refused.unwrap_err().is_invalid_input());
    // What is no search goes through all of them.
    let page = store.scroll(Some(&21.into()), 3, &filter, true).unwrap();
    let lengths = page
        .items
        .iter()
        .map(|item| item.embedding.as_ref().unwrap().len());
    assert_eq!(lengths.collect::<Vec<_>>(), [1, 1, 3]);
    let of_two = Filter {
        ids: Some(vec![20.into(), 31.into(), 0.into()]),
        model_versions: Some(vec!["line".to_owned(), "cube".to_owned()]),
        ..Filter::default()
    };
    assert_eq!(store.delete_where(&of_two).unwrap(), 2);
    assert_eq!(
        store
            .delete(&[21.into(), 22.into(), 23.into(), 1.into()])
            .unwrap(),
        4
    );
    let expected = [("a", 5), ("b", 4), ("cube", 2)];
    assert_eq!(
        counts(store),
        expected.map(|(name, items)| (name.to_owned(), items))
    );
    // A space that has lost its last item may come back with another dimension.
    store
        .upsert(vec![item("new", "line", &[0.0, 1.0])])
        .unwrap();
    assert_eq!(
        search(store, &["line", "a"], &[0.0, 1.0], 100, &filter).len(),
        6
    );
}

pub(super) fn an_item_is_in_one_space_at_a_time(store: &dyn VectorStore) {
    let filter = Filter::default();
    store.upsert(on_a_half_circle(4)).unwrap();
    for round in 0..3 {
        let moved = store
            .upsert(vec![item(2, "cube", &[0.0, 0.0, 1.0])])
            .unwrap();
        assert_eq!((moved.inserted, moved.replaced), (0, 1), "round {round}");
        assert_eq!(
            ids(&search(store, &["cube"], &[0.0, 0.0, 1.0], 9, &filter)),
            [2.into()]
        );
        let hits = search(store, &["a", "b"], &[1.0, 0.0], 9, &filter);
        assert!(hits.len() == 3 && hits.iter().all(|hit| hit.id != 2.into()));
        assert_eq!(
            &*store.get(&[2.into()], false).unwrap()[0].model_version,
            "cube"
        );
        let all = store.scroll(None, 10, &filter, false).unwrap().items;
        assert_eq!(all.len(), 4);

        store.upsert(vec![item(2, "a", &[1.0, 0.0])]).unwrap();
        assert!(search(store, &["cube"], &[0.0, 0.0, 1.0], 9, &filter).is_empty());
        assert_eq!(search(store, &["a", "b"], &[1.0, 0.0], 9, &filter).len(), 4);
    }
    assert_eq!(store.delete(&[2.into()]).unwrap(), 1);
    assert_eq!(
        store.scroll(None, 10, &filter, false).unwrap().items.len(),
        3
    );
}

pub(super) fn a_sample_has_different_items_of_its_space_only(store: &dyn VectorStore) {
    store.upsert(on_a_half_circle(20)).unwrap();
    let sample = |name: &str, limit, seed| store.sample(&space(name), limit, seed).unwrap();
    let of_a: Vec<Vec<f32>> = on_a_half_circle(20)
        .into_iter()
        .filter(|item| item.model_version == "a")
        .map(|item| item.embedding)
        .collect();
    let some = sample("a", 4, 1);
    assert_eq!(some.len(), 4 * 2);
    for (at, vector) in some.chunks(2).enumerate() {
        assert!(of_a.iter().any(|known| known == vector));
        assert!(!some.chunks(2).skip(at + 1).any(|other| other == vector));
    }
    assert_eq!(some, sample("a", 4, 1));
    assert_eq!(sample("a", 10, 1).len(), 10 * 2);
    assert_eq!(sample("a", 11, 2).len(), 10 * 2);
    assert!(sample("a", 0, 1).is_empty() && sample("unknown", 5, 1).is_empty());
    store.delete(&[0.into()]).unwrap();
    assert_eq!(sample("a", 11, 1).len(), 9 * 2);
}

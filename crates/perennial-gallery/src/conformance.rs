//! What every [`VectorStore`] must do, and every store with [`Snapshots`], [`Maintenance`] and [`MappedIndexes`], as tests for the tests of
//! each store. All three suites apply to every store: one that does not offer an operation says so, which the suites check.
//!
//! ```no_run
//! # use perennial_gallery::{EmbeddedGallery, GalleryConfig};
//! # let a_new_folder = "gallery";
//! let mut make = || EmbeddedGallery::open(a_new_folder, GalleryConfig::default()).unwrap();
//! perennial_gallery::conformance::run(&mut || Box::new(make()));
//! perennial_gallery::conformance::run_whole(&mut make);
//! perennial_gallery::conformance::run_mapped(&mut make);
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

mod maintenance;
mod mapped;
mod scene;
mod snapshots;
mod spaces;

use std::path::Path;

use serde_json::json;

use crate::error::GalleryError;
use crate::filter::{Filter, LabelFilter};
use crate::item::{Item, ItemId, StoredItem};
use crate::limits::{MAX_LIMIT, MAX_PAYLOAD_DEPTH};
use crate::mapped_index::MappedIndexes;
use crate::store::{Maintenance, Replacement, SearchRequest, Snapshots, VectorStore};
use scene::{counts, ids, item, object, on_a_half_circle, search, space};

/// Runs every test, each on an empty store of its own.
///
/// # Panics
/// Where the store does something else than [`VectorStore`] says.
pub fn run(make: &mut dyn FnMut() -> Box<dyn VectorStore>) {
    for test in [
        items_are_stored_replaced_read_and_deleted,
        the_deepest_payload_is_read_back,
        nothing_of_a_bad_batch_is_stored,
        only_items_that_nobody_changed_are_replaced,
        pages_visit_every_item_once,
        search_pages_and_deletion_agree_on_filters,
        the_best_come_first_and_equals_in_the_order_of_their_ids,
        spaces::only_the_named_spaces_are_searched,
        searches_that_make_no_sense_are_refused,
        spaces::spaces_are_known_before_their_items,
        spaces::a_space_keeps_its_dimension_and_its_simplex,
        spaces::spaces_of_several_dimensions_live_in_one_store,
        spaces::an_item_is_in_one_space_at_a_time,
        spaces::a_sample_has_different_items_of_its_space_only,
    ] as [fn(&dyn VectorStore); _]
    {
        test(&*make());
    }
}

/// Runs every test of [`Snapshots`] and [`Maintenance`], each on an empty store of its own. The tests of [`run`] come besides.
///
/// # Panics
/// Where the store does something else than these traits say.
pub fn run_whole<S: VectorStore + Snapshots + Maintenance>(make: &mut dyn FnMut() -> S) {
    for test in [
        snapshots::a_snapshot_brings_everything_back,
        snapshots::a_snapshot_goes_to_another_store_and_back,
        snapshots::an_empty_store_has_an_empty_snapshot,
        snapshots::what_is_no_whole_snapshot_changes_nothing,
        maintenance::statistics_are_those_of_the_items,
        maintenance::looking_after_it_changes_no_item,
        maintenance::moves_are_counted_by_the_space_that_items_come_into,
    ] as [fn(&Path, &S); _]
    {
        let folder = tempfile::tempdir().unwrap();
        test(folder.path(), &make());
    }
}

/// Runs every test of [`MappedIndexes`], each on an empty store of its own; of a store that does not offer them, the test of what it says then.
///
/// # Panics
/// Where the store does something else than the trait says.
pub fn run_mapped<S: VectorStore + Snapshots + MappedIndexes>(make: &mut dyn FnMut() -> S) {
    let folder = tempfile::tempdir().unwrap();
    let store = make();
    if !store.offers_mapped() {
        mapped::nothing_is_kept_where_it_is_not_offered(folder.path(), &store);
        return;
    }
    drop(store);
    for test in [
        mapped::searches_follow_every_write,
        mapped::what_is_restored_is_mapped_anew,
        mapped::an_index_that_is_not_kept_is_an_error_with_its_space,
        mapped::spaces_and_dimensions_are_told_apart,
        mapped::what_is_wanted_is_kept_and_no_more,
    ] as [fn(&Path, &S); _]
    {
        test(folder.path(), &make());
    }
}

fn items_are_stored_replaced_read_and_deleted(store: &dyn VectorStore) {
    assert_eq!(counts(store), []);
    let first = Item {
        label: Some(4),
        payload: object(json!({"name": "ü", "n": 0.1})),
        ..item("x", "a", &[1.0, 0.0])
    };
    let done = store
        .upsert(vec![first.clone(), item(7, "a", &[0.0, 1.0])])
        .unwrap();
    assert_eq!((done.inserted, done.replaced), (2, 0));
    let done = store
        .upsert(vec![item(8, "a", &[0.0, -1.0]), item(7, "b", &[0.6, 0.8])])
        .unwrap();
    assert_eq!((done.inserted, done.replaced), (1, 1));
    assert_eq!(counts(store), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    assert_eq!(store.upsert(Vec::new()).unwrap().inserted, 0);

    let found = store
        .get(&["x".into(), 99.into(), 7.into(), "7".into()], true)
        .unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].embedding.as_deref(), Some(&[1.0, 0.0][..]));
    assert_eq!(
        (found[0].label, &found[0].payload),
        (Some(4), &first.payload)
    );
    assert_eq!((&*found[1].model_version, found[1].label), ("b", None));
    assert_eq!(store.get(&["x".into()], false).unwrap()[0].embedding, None);

    assert_eq!(store.delete(&[7.into(), 7.into(), 1234.into()]).unwrap(), 1);
    assert!(store.get(&[7.into()], false).unwrap().is_empty());
    assert_eq!(counts(store), [("a".to_owned(), 2)]);
}

/// A payload of so many objects and lists inside one another.
fn nested(depth: usize) -> Item {
    let value = (1..depth).fold(json!(1), |value, _| json!([value]));
    Item {
        payload: object(json!({"deep": value})),
        ..item(3, "a", &[1.0, 0.0])
    }
}

fn the_deepest_payload_is_read_back(store: &dyn VectorStore) {
    let deepest = nested(MAX_PAYLOAD_DEPTH);
    store.upsert(vec![deepest.clone()]).unwrap();
    let found = store.get(&[3.into()], false).unwrap();
    assert_eq!(found[0].payload, deepest.payload);
    let page = store.scroll(None, 10, &Filter::default(), false).unwrap();
    assert_eq!(page.items[0].payload, deepest.payload);
}

fn nothing_of_a_bad_batch_is_stored(store: &dyn VectorStore) {
    store.upsert(vec![item(1, "a", &[1.0, 0.0])]).unwrap();
    for bad in [
        item(3, "a", &[f32::NAN, 0.0]),
        item(3, "a", &[0.0, f32::INFINITY]),
        item(3, "a", &[1.0, 1.0]),
        item(3, "a", &[1.0]),
        item(3, "a", &[]),
        item(2, "a", &[1.0, 0.0]),
        item("", "a", &[1.0, 0.0]),
        item(3, "", &[1.0, 0.0]),
        Item {
            payload: object(json!({"text": "x".repeat(17_000)})),
            ..item(3, "a", &[1.0, 0.0])
        },
        nested(MAX_PAYLOAD_DEPTH + 1),
    ] {
        let problem = format!("{bad:?}");
        let error = store
            .upsert(vec![item(2, "a", &[0.0, 1.0]), bad])
            .expect_err(&problem);
        assert!(error.is_invalid_input(), "{error}");
        assert_eq!(counts(store), [("a".to_owned(), 1)]);
    }
}

fn only_items_that_nobody_changed_are_replaced(store: &dyn VectorStore) {
    let as_read = |id: u64| Item {
        label: Some(3),
        payload: object(json!({"name": format!("ü {id}"), "n": 0.1})),
        ..item(id, "old", &[0.6, 0.8])
    };
    store.upsert((1..=6).map(as_read).collect()).unwrap();
    let ids: Vec<ItemId> = (1..=6).map(ItemId::from).collect();
    let read = store.get(&ids, true).unwrap();
    let replacements = |read: &[StoredItem]| -> Vec<Replacement> {
        let all = read.iter().map(|item| Replacement {
            read: item.clone(),
            model_version: "new".to_owned(),
            embedding: vec![0.0, 0.6, 0.8],
        });
        all.collect()
    };
    // Others delete, embed, label and describe anew.
    store.delete(&[2.into()]).unwrap();
    let embedded = Item {
        embedding: vec![0.8, 0.6],
        ..as_read(3)
    };
    let labelled = Item {
        label: None,
        ..as_read(4)
    };
    let mut described = as_read(5);
    described.payload.insert("more".to_owned(), json!(true));
    store.upsert(vec![embedded, labelled, described]).unwrap();

    assert_eq!(store.replace_unchanged(Vec::new()).unwrap(), []);
    let changed = [2.into(), 3.into(), 4.into(), 5.into()];
    let all = replacements(&read);
    assert_eq!(store.replace_unchanged(all.clone()).unwrap(), changed);
    // A write whose confirmation was lost comes again.
    assert_eq!(store.replace_unchanged(all).unwrap(), changed);
    let now = store.get(&ids, true).unwrap();
    let spaces: Vec<&str> = now.iter().map(|item| &*item.model_version).collect();
    assert_eq!(spaces, ["new", "old", "old", "old", "new"]);
    assert_eq!(now[0].embedding.as_deref(), Some(&[0.0, 0.6, 0.8][..]));
    assert_eq!(
        (now[0].label, &now[0].payload),
        (Some(3), &as_read(1).payload)
    );
    assert_eq!(
        counts(store),
        [("new".to_owned(), 2), ("old".to_owned(), 3)]
    );
    // One that cannot be stored keeps the others from being stored.
    let now = store.get(&ids, true).unwrap();
    let mut bad = replacements(&now[1..3]);
    bad[1].embedding = vec![1.0, 1.0, 1.0];
    assert!(store.replace_unchanged(bad).unwrap_err().is_invalid_input());
    assert_eq!(store.get(&ids, true).unwrap(), now);
}

fn pages_visit_every_item_once(store: &dyn VectorStore) {
    let mut items = on_a_half_circle(40);
    items.push(item("text", "a", &[1.0, 0.0]));
    store.upsert(items.iter().rev().cloned().collect()).unwrap();
    for limit in [1, 7, 41, 1000] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store
                .scroll(after.as_ref(), limit, &Filter::default(), true)
                .unwrap();
            assert!(page.items.len() <= limit);
            assert!(page.items.iter().all(|item| item.embedding.is_some()));
            seen.extend(page.items.into_iter().map(|item| item.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let expected: Vec<ItemId> = items.iter().map(|item| item.id.clone()).collect();
        assert_eq!(seen, expected);
    }
    for limit in [0, MAX_LIMIT + 1] {
        let refused = store.scroll(None, limit, &Filter::default(), false);
        assert!(refused.unwrap_err().is_invalid_input());
    }
}

fn search_pages_and_deletion_agree_on_filters(store: &dyn VectorStore) {
    let items = on_a_half_circle(30);
    let filters = [
        Filter {
            model_versions: Some(vec!["b".to_owned(), "unknown".to_owned()]),
            ..Filter::default()
        },
        Filter {
            labels: Some(LabelFilter::any_of([3, 4])),
            ..Filter::default()
        },
        Filter {
            labels: Some(LabelFilter {
                from: Some(2),
                to: Some(3),
                ..LabelFilter::default()
            }),
            ..Filter::default()
        },
        Filter {
            payload: Some(object(json!({"third": true}))),
            ..Filter::default()
        },
        Filter {
            ids: Some(vec![5.into(), 9.into(), "9".into(), 100.into()]),
            payload: Some(object(json!({"third": true}))),
            ..Filter::default()
        },
        Filter {
            ids: Some(Vec::new()),
            ..Filter::default()
        },
    ];
    for filter in filters {
        store.upsert(items.clone()).unwrap();
        let passing: Vec<ItemId> = items
            .iter()
            .filter(|i| filter.matches(&i.id, &i.model_version, i.label, &i.payload))
            .map(|item| item.id.clone())
            .collect();
        let page = store.scroll(None, MAX_LIMIT, &filter, false).unwrap();
        let listed: Vec<ItemId> = page.items.into_iter().map(|item| item.id).collect();
        assert_eq!(listed, passing, "{filter:?}");
        let mut found = ids(&search(store, &["a", "b"], &[1.0, 0.0], MAX_LIMIT, &filter));
        found.sort();
        assert_eq!(found, passing, "{filter:?}");
        assert_eq!(
            store.delete_where(&filter).unwrap(),
            passing.len(),
            "{filter:?}"
        );
        assert!(store.get(&passing, false).unwrap().is_empty());
    }
    let refused = store.delete_where(&Filter::default());
    assert!(
        matches!(refused, Err(GalleryError::EmptyFilter)),
        "{refused:?}"
    );
    assert!(store.delete_where(&Filter::everything()).unwrap() > 0);
    assert_eq!(counts(store), []);
}

fn the_best_come_first_and_equals_in_the_order_of_their_ids(store: &dyn VectorStore) {
    let filter = Filter::default();
    assert!(search(store, &["a"], &[1.0, 0.0], 5, &filter).is_empty());
    let equals = ["y", "x"].map(|id| item(id, "a", &[0.6, 0.8]));
    let numbers = [30, 4, 20].map(|id: u64| item(id, "b", &[0.6, 0.8]));
    store
        .upsert(equals.into_iter().chain(numbers).collect())
        .unwrap();
    store
        .upsert(vec![item(50, "b", &[0.0, 1.0]), item(51, "a", &[1.0, 0.0])])
        .unwrap();
    let hits = search(store, &["a", "b"], &[0.6, 0.8], 10, &filter);
    let expected: [ItemId; 7] = [
        4.into(),
        20.into(),
        30.into(),
        "x".into(),
        "y".into(),
        50.into(),
        51.into(),
    ];
    assert_eq!(ids(&hits), expected);
    assert!((hits[0].score - 1.0).abs() < 1e-5 && (hits[5].score - 0.8).abs() < 1e-5);
    assert_eq!(
        (&*hits[0].model_version, &*hits[3].model_version),
        ("b", "a")
    );
    assert_eq!(
        ids(&search(store, &["a", "b"], &[0.6, 0.8], 2, &filter)),
        expected[..2]
    );

    // Many queries at once, over the index or not, are each answered as if alone.
    let queries = [[0.6, 0.8], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]];
    for exact in [true, false] {
        let found = store.search(&SearchRequest {
            spaces: &[space("a"), space("b")],
            queries: queries.as_flattened(),
            dim: 2,
            limit: 3,
            filter: &filter,
            exact,
        });
        let found = found.unwrap();
        assert_eq!(found.len(), queries.len());
        for (query, hits) in queries.iter().zip(found) {
            let alone = search(store, &["a", "b"], query, 3, &filter);
            assert_eq!(ids(&hits), ids(&alone), "{query:?}");
        }
    }
}

fn searches_that_make_no_sense_are_refused(store: &dyn VectorStore) {
    store.upsert(vec![item(1, "a", &[1.0, 0.0])]).unwrap();
    let filter = Filter::default();
    let spaces = [space("a")];
    let request = |queries, dim, limit| SearchRequest {
        spaces: &spaces,
        queries,
        dim,
        limit,
        filter: &filter,
        exact: false,
    };
    assert!(store.search(&request(&[], 2, 1)).unwrap().is_empty());
    for request in [
        request(&[1.0, 0.0], 2, 0),
        request(&[1.0, 0.0], 2, MAX_LIMIT + 1),
        request(&[1.0, 0.0], 0, 1),
        request(&[1.0], 1, 1),
        request(&[1.0, 0.0, 1.0], 2, 1),
        request(&[f32::NAN, 0.0], 2, 1),
        request(&[3.0, 4.0], 2, 1),
    ] {
        let error = store.search(&request).expect_err(&format!("{request:?}"));
        assert!(error.is_invalid_input(), "{error}");
    }
}

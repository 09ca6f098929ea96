//! Filters of every shape, held against a reading of their JSON that shares no code with the crate.

use std::collections::BTreeSet;

use perennial_gallery::{
    EmbeddedGallery, Filter, GalleryError, Item, ItemId, MAX_LIMIT, Maintenance, VectorStore,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::fixtures::*;

/// Every list may come out empty, and every condition may be absent.
fn conditions() -> impl Strategy<Value = Value> {
    let list = |entries: BoxedStrategy<Value>| prop::collection::vec(entries, 0..3);
    let versions = list(prop_oneof![Just(json!("v0001")), Just(json!("v0003"))].boxed());
    let ids = list(prop_oneof![(0u64..12).prop_map(|id| json!(id)), Just(json!("7"))].boxed());
    let any_of = list((0u32..6).prop_map(|label| json!(label)).boxed());
    let bound = || prop::option::of(0u32..6);
    let labels = (prop::option::of(any_of), bound(), bound()).prop_map(|(any_of, from, to)| {
        object([
            ("any_of", any_of.map(Value::from)),
            ("from", from.map(Value::from)),
            ("to", to.map(Value::from)),
        ])
    });
    let pair = prop_oneof![
        Just(json!({"third": true})),
        Just(json!({"third": false, "name": "item 4"})),
        Just(json!({"third": []})),
        Just(json!({})),
    ];
    (
        prop::option::of(versions),
        prop::option::of(labels),
        prop::option::of(pair),
        prop::option::of(ids),
    )
        .prop_map(|(versions, labels, payload, ids)| {
            object([
                ("model_versions", versions.map(Value::from)),
                ("labels", labels),
                ("payload", payload),
                ("ids", ids.map(Value::from)),
            ])
        })
}

fn object<const N: usize>(entries: [(&str, Option<Value>); N]) -> Value {
    let entries = entries
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(entries.collect::<Map<_, _>>())
}

fn passes(conditions: &Value, item: &Item) -> bool {
    let listed = |list: &Value, value: &Value| list.as_array().unwrap().contains(value);
    let id = serde_json::to_value(&item.id).unwrap();
    conditions
        .as_object()
        .unwrap()
        .iter()
        .all(|(key, condition)| match key.as_str() {
            "model_versions" => listed(condition, &json!(item.model_version)),
            "ids" => listed(condition, &id),
            "payload" => {
                let pairs = condition.as_object().unwrap();
                !pairs.is_empty()
                    && pairs
                        .iter()
                        .all(|(key, value)| item.payload.get(key) == Some(value))
            }
            "labels" => {
                let of_label = condition.as_object().unwrap();
                item.label.is_some_and(|label| {
                    !of_label.is_empty()
                        && of_label.iter().all(|(key, bound)| match key.as_str() {
                            "any_of" => listed(bound, &json!(label)),
                            "from" => u64::from(label) >= bound.as_u64().unwrap(),
                            _ => u64::from(label) <= bound.as_u64().unwrap(),
                        })
                })
            }
            _ => unreachable!(),
        })
}

fn filled(folder: &std::path::Path) -> (EmbeddedGallery, Vec<Item>) {
    let gallery = open(folder);
    let mut items = items(12, 4, 21);
    items.push(Item {
        id: "7".into(),
        ..items[8].clone()
    });
    gallery.upsert(items.clone()).unwrap();
    (gallery, items)
}

fn id_set(ids: impl IntoIterator<Item = ItemId>) -> BTreeSet<ItemId> {
    ids.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn search_pages_and_deletion_agree(conditions in conditions()) {
        let folder = tempfile::tempdir().unwrap();
        let (gallery, items) = filled(folder.path());
        let filter: Filter = serde_json::from_value(conditions.clone()).unwrap();
        let passing = id_set(items.iter().filter(|item| passes(&conditions, item)).map(|item| item.id.clone()));
        if filter.matches_nothing() {
            prop_assert!(passing.is_empty());
        }

        let page = gallery.scroll(None, MAX_LIMIT, &filter, false).unwrap();
        prop_assert_eq!(id_set(page.items.into_iter().map(|item| item.id)), passing.clone());
        for exact in [true, false] {
            for queries in [1, 5] {
                let queries = items[0].embedding.repeat(queries);
                for hits in search_all(&gallery, &queries, 4, MAX_LIMIT, &filter, exact).unwrap() {
                    prop_assert_eq!(id_set(ids(&hits)), passing.clone());
                }
            }
        }

        let deleted = gallery.delete_where(&filter);
        let left = gallery.stats().unwrap().items as usize;
        if conditions == json!({}) {
            prop_assert!(matches!(deleted, Err(GalleryError::EmptyFilter)));
            prop_assert_eq!(left, items.len());
        } else {
            prop_assert_eq!(deleted.unwrap(), passing.len());
            prop_assert_eq!(left, items.len() - passing.len());
        }
    }
}

#[test]
fn nothing_that_selects_by_nothing_deletes() {
    let folder = tempfile::tempdir().unwrap();
    let (gallery, items) = filled(folder.path());
    for conditions in [
        json!({"labels": {"any_of": []}}),
        json!({"labels": {}}),
        json!({"ids": []}),
        json!({"model_versions": []}),
        json!({"payload": {}}),
        json!({"labels": {"any_of": [], "from": 0, "to": 9}}),
        json!({"model_versions": ["v0001"], "ids": []}),
        json!({"payload": {"third": true}, "labels": {"any_of": []}}),
    ] {
        let mut filter: Filter = serde_json::from_value(conditions.clone()).unwrap();
        assert_eq!(gallery.delete_where(&filter).unwrap(), 0, "{conditions}");
        // Nor where everything is said to be meant.
        filter.everything = true;
        assert_eq!(gallery.delete_where(&filter).unwrap(), 0, "{conditions}");
        assert_eq!(gallery.stats().unwrap().items as usize, items.len());
    }
    let error = gallery.delete_where(&Filter::default()).unwrap_err();
    assert!(
        error.is_invalid_input() && error.to_string().contains("no condition"),
        "{error}"
    );
    assert_eq!(gallery.stats().unwrap().items as usize, items.len());
}

#[test]
fn payloads_that_are_equal_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    let stored = [json!(-0.0), json!(0.0), json!([{"x": -0.0}]), json!(0)];
    let items = (0..).zip(&stored).map(|(id, value)| Item {
        payload: payload(json!({"value": value})),
        ..item(id as u64, vec![1.0, 0.0])
    });
    gallery.upsert(items.collect()).unwrap();
    for (wanted, found) in [
        (json!(0.0), vec![0, 1]),
        (json!(-0.0), vec![0, 1]),
        (json!([{"x": 0.0}]), vec![2]),
        (json!(0), vec![3]),
    ] {
        let filter = Filter {
            payload: Some(payload(json!({"value": wanted}))),
            ..Filter::default()
        };
        let found: Vec<ItemId> = found.into_iter().map(|id: u64| id.into()).collect();
        assert_eq!(ids(&search(&gallery, &[1.0, 0.0], 10, &filter)), found);
        let page = gallery.scroll(None, 10, &filter, false).unwrap();
        let of_page: Vec<ItemId> = page.items.into_iter().map(|item| item.id).collect();
        assert_eq!(of_page, found);
    }
}

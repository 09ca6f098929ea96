//! Filters in the database mean what they mean in memory, whatever the payload holds.

use perennial_gallery::{Filter, GalleryError, Item, ItemId, LabelFilter, VectorStore};
use serde_json::{Value, json};

use super::stock::open;
use crate::database::database;
use crate::items::{everything, find, item, object, vector};

fn values() -> Vec<Value> {
    vec![
        json!(1),
        json!(1.0),
        json!(-1),
        json!(true),
        json!("1"),
        json!("a\0b"),
        json!("ü'\"\\"),
        json!(1e16),
        json!(10_000_000_000_000_000u64),
        json!(0.1),
        json!(1e-300),
        json!(1.5e300),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(null),
        json!([1]),
        json!([1, 2]),
        json!({"b": 2, "a": 1}),
        json!({"a": 1}),
        json!({}),
    ]
}

#[test]
fn payloads_come_back_as_they_were_and_match_only_what_is_equal() {
    let Some(database) = database() else { return };
    let store = open(&database);
    let stored: Vec<Item> = values()
        .into_iter()
        .zip(0u64..)
        .map(|(value, id)| Item {
            payload: object(json!({"value": value, "other": id, "zero\0": -0.0})),
            label: Some(u32::MAX - id as u32),
            ..item(id, "v", vector(id, 4))
        })
        .collect();
    store.upsert(stored.clone()).unwrap();
    for (item, stored) in everything(&store).iter().zip(&stored) {
        assert_eq!((&item.payload, item.label), (&stored.payload, stored.label));
        assert_eq!(item.embedding.as_ref(), Some(&stored.embedding));
    }
    let filter = |value: &Value| Filter {
        payload: Some(object(json!({ "value": value, "zero\0": 0.0 }))),
        ..Filter::default()
    };
    for value in &values() {
        let filter = filter(value);
        let passing: Vec<ItemId> = stored
            .iter()
            .filter(|i| filter.matches(&i.id, &i.model_version, i.label, &i.payload))
            .map(|item| item.id.clone())
            .collect();
        assert_eq!(passing.len(), 1, "{value}");
        let page = store.scroll(None, 100, &filter, false).unwrap();
        let listed: Vec<ItemId> = page.items.into_iter().map(|item| item.id).collect();
        assert_eq!(listed, passing, "{value}");
        let found = find(&store, "v", &vector(1, 4), 100, &filter, true);
        assert_eq!((found.len(), &found[0].id), (1, &passing[0]), "{value}");
    }
    for value in &values() {
        assert_eq!(store.delete_where(&filter(value)).unwrap(), 1, "{value}");
    }
    assert!(store.spaces().unwrap().is_empty());
}

#[test]
fn conditions_that_are_there_but_empty_select_nothing() {
    let Some(database) = database() else { return };
    let store = open(&database);
    let none = |text: Value| serde_json::from_value::<Filter>(text).unwrap();
    store
        .upsert(vec![Item {
            label: Some(3),
            payload: object(json!({"none": []})),
            ..item("x", "v", vector(1, 4))
        }])
        .unwrap();
    for text in [
        json!({"ids": []}),
        json!({"model_versions": []}),
        json!({"model_versions": ["unknown"]}),
        json!({"labels": {}}),
        json!({"labels": {"any_of": [], "from": 0}}),
        json!({"payload": {}}),
        json!({"payload": {"none": {}}}),
    ] {
        let filter = none(text.clone());
        assert_eq!(store.delete_where(&filter).unwrap(), 0, "{text}");
        assert!(
            store
                .scroll(None, 5, &filter, false)
                .unwrap()
                .items
                .is_empty()
        );
        assert!(find(&store, "v", &vector(1, 4), 5, &filter, true).is_empty());
    }
    let error = store.delete_where(&Filter::default()).unwrap_err();
    assert!(matches!(error, GalleryError::EmptyFilter));
    let labelled = Filter {
        labels: Some(LabelFilter {
            from: Some(3),
            to: Some(3),
            ..LabelFilter::default()
        }),
        payload: Some(object(json!({"none": []}))),
        ..Filter::default()
    };
    assert_eq!(
        find(&store, "v", &vector(1, 4), 5, &labelled, true).len(),
        1
    );
}

#[test]
fn ids_of_both_kinds_are_in_the_order_of_the_embedded_engine() {
    let Some(database) = database() else { return };
    let store = open(&database);
    let mut ids: Vec<ItemId> = vec![
        u64::MAX.into(),
        0.into(),
        (1u64 << 63).into(),
        255.into(),
        256.into(),
        "".into(),
        "Z".into(),
        "a".into(),
        "ä".into(),
        "a\u{10ffff}".into(),
        "10".into(),
        "9".into(),
    ];
    ids.retain(|id| id.check().is_ok());
    let stored = ids.iter().map(|id| item(id.clone(), "v", vector(1, 3)));
    store.upsert(stored.collect()).unwrap();
    ids.sort();
    let listed: Vec<ItemId> = everything(&store).into_iter().map(|item| item.id).collect();
    assert_eq!(listed, ids);
    // All have one similarity: the ids decide.
    let found = find(&store, "v", &vector(1, 3), 100, &Filter::default(), true);
    let found: Vec<ItemId> = found.into_iter().map(|hit| hit.id).collect();
    assert_eq!(found, ids);
}

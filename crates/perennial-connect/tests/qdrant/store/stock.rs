//! Stores, items to fill them with, and what is true of the points of every gallery.

use std::collections::{BTreeMap, HashMap};

use perennial_connect::{QdrantStore, StoreOptions};
use perennial_core::SpaceId;
use perennial_gallery::{Filter, Hit, Item, ItemId, SearchRequest, StoredItem, VectorStore};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use crate::cluster::Cluster;
use crate::double::{Id, State};

/// The gallery of a test.
pub const GALLERY: &str = "items";

pub fn open(cluster: &Cluster) -> QdrantStore {
    open_with(cluster, |_| {})
}

pub fn open_with(cluster: &Cluster, change: impl FnOnce(&mut StoreOptions)) -> QdrantStore {
    let mut options = Cluster::gallery_options();
    change(&mut options);
    QdrantStore::open(&cluster.gallery(GALLERY), &options).unwrap()
}

pub fn space(name: &str) -> SpaceId {
    SpaceId::new(name).unwrap()
}

/// A seeded unit vector.
pub fn vector(seed: u64, dim: usize) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f64> = (0..dim).map(|_| random.random_range(-1.0..1.0)).collect();
    let norm = values.iter().map(|value| value * value).sum::<f64>().sqrt();
    values.iter().map(|value| (value / norm) as f32).collect()
}

pub fn item(id: impl Into<ItemId>, space: &str, embedding: Vec<f32>) -> Item {
    Item {
        id: id.into(),
        embedding,
        model_version: space.to_owned(),
        label: None,
        payload: Map::new(),
    }
}

/// An item whose payload says which vector it has.
pub fn marked(id: u64, mark: u64) -> Item {
    let (space, dim) = [("a", 4), ("b", 4), ("c", 6)][mark as usize % 3];
    Item {
        payload: object(json!({"mark": mark})),
        ..item(id, space, vector(mark * 1000 + id, dim))
    }
}

/// Every item is one that [`marked`] has made, and whole.
pub fn assert_marked(items: &[StoredItem]) {
    for found in items {
        let ItemId::Number(id) = found.id else {
            panic!("{found:?}")
        };
        let stored = marked(id, found.payload["mark"].as_u64().unwrap());
        assert_eq!(found.embedding.as_ref(), Some(&stored.embedding));
        assert_eq!(found.model_version, stored.model_version);
    }
}

pub fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// Items 0 to `n`, with the vectors of their ids.
pub fn items(n: u64, space: &str, dim: usize) -> Vec<Item> {
    let item = |id: u64| Item {
        label: Some(id as u32 % 5),
        payload: object(json!({"third": id.is_multiple_of(3)})),
        ..item(id, space, vector(id, dim))
    };
    (0..n).map(item).collect()
}

pub fn find(
    store: &dyn VectorStore,
    name: &str,
    query: &[f32],
    limit: usize,
    filter: &Filter,
    exact: bool,
) -> Vec<Hit> {
    let found = store.search(&SearchRequest {
        spaces: &[space(name)],
        queries: query,
        dim: query.len(),
        limit,
        filter,
        exact,
    });
    found.unwrap().remove(0)
}

pub fn everything(store: &dyn VectorStore) -> Vec<StoredItem> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store
            .scroll(after.as_ref(), 1000, &Filter::default(), true)
            .unwrap();
        all.extend(page.items);
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

pub fn gallery_name(cluster: &Cluster) -> String {
    format!("{}_{GALLERY}", cluster.name)
}

/// The payload of the head.
pub fn head<'a>(state: &'a mut State, cluster: &Cluster) -> &'a mut Map<String, Value> {
    let head = state.collections.get_mut(&gallery_name(cluster)).unwrap();
    &mut head.points.get_mut(&Id::Number(1)).unwrap().payload
}

/// Lets the turn of a process that is gone end, as if its lease had run out.
pub fn let_turn_run_out(cluster: &Cluster) {
    let mut state = cluster.inside().state();
    head(&mut state, cluster).insert("until".to_owned(), json!(0));
}

/// The counts are those of the points that count, and no item has two of them.
pub fn assert_counted(cluster: &Cluster) {
    let mut state = cluster.inside().state();
    let head = head(&mut state, cluster).clone();
    let generation = head["state"]["generation"].as_u64().unwrap();
    let aborted: Vec<u64> = head["aborted"]
        .as_array()
        .unwrap()
        .iter()
        .map(|aborted| aborted["generation"].as_u64().unwrap())
        .collect();
    let counts = |value: &Value| {
        let value = value.as_u64();
        value.is_some_and(|value| value <= generation && !aborted.contains(&value))
    };
    let mut seen: HashMap<String, String> = HashMap::new();
    let spaces: BTreeMap<String, Value> =
        serde_json::from_value(head["state"]["spaces"].clone()).unwrap();
    for (name, known) in spaces {
        let mut items = 0;
        if let Some(suffix) = known["collection"].as_str() {
            let collection = &state.collections[&format!("{}.{suffix}", gallery_name(cluster))];
            for (id, point) in &collection.points {
                let until = point.payload.get("until").unwrap_or(&Value::Null);
                if counts(&point.payload["from"]) && !counts(until) {
                    items += 1;
                    let key = point.payload["key"].as_str().unwrap();
                    let other = seen.insert(key.to_owned(), name.clone());
                    assert_eq!(other, None, "{key} in {name} as {id:?}");
                    assert_eq!(point.dense[""].len() as u64, known["dim"].as_u64().unwrap());
                }
            }
        }
        assert_eq!(known["items"], items, "{name}");
    }
}

//! Items to fill a store with, and how they are looked for.

use perennial_core::SpaceId;
use perennial_gallery::{Filter, Hit, Item, ItemId, SearchRequest, StoredItem, VectorStore};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

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

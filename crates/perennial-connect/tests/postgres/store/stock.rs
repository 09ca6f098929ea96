//! Stores, and items to fill them with.

use perennial_connect::{PostgresStore, StoreOptions};
use perennial_core::SpaceId;
use perennial_gallery::{Filter, Hit, Item, ItemId, SearchRequest, StoredItem, VectorStore};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};

use crate::database::Database;

pub fn open(database: &Database) -> PostgresStore {
    open_with(database, |_| {})
}

pub fn open_with(database: &Database, change: impl FnOnce(&mut StoreOptions)) -> PostgresStore {
    let mut options = StoreOptions::default();
    change(&mut options);
    PostgresStore::open(&database.address(), &options).unwrap()
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

pub fn payload(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// Items 0 to `n`, with the vectors of their ids.
pub fn items(n: u64, space: &str, dim: usize) -> Vec<Item> {
    let item = |id: u64| Item {
        label: Some(id as u32 % 5),
        payload: payload(serde_json::json!({"third": id.is_multiple_of(3)})),
        ..item(id, space, vector(id, dim))
    };
    (0..n).map(item).collect()
}

pub fn fill(store: &dyn VectorStore, items: Vec<Item>) {
    for some in items.chunks(5000) {
        store.upsert(some.to_vec()).unwrap();
    }
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

/// The counts are those of the rows, and every item is of a space that there is.
pub fn assert_counted(database: &Database) {
    let wrong = database.all(
        "SELECT concat(s.name, ': ', s.items, ' but ', count(i.key)) FROM perennial.perennial_spaces s \
         LEFT JOIN perennial.perennial_items i ON i.space = s.number GROUP BY s.number HAVING s.items <> count(i.key)",
    );
    assert!(wrong.is_empty(), "{wrong:?}");
    let wrong = database.all(
        "SELECT i.key::text FROM perennial.perennial_items i JOIN perennial.perennial_spaces s ON s.number = i.space \
         WHERE s.dim <> vector_dims(i.embedding)",
    );
    assert!(wrong.is_empty(), "{wrong:?}");
}

//! Items and questions that the tests of stores share.

use perennial_core::SpaceId;
use serde_json::{Map, Value, json};

use crate::filter::Filter;
use crate::item::{Hit, Item, ItemId};
use crate::store::{Maintenance, SearchRequest, Snapshots, VectorStore};

/// A store with all three traits.
pub(super) trait Whole: VectorStore + Snapshots + Maintenance {}

impl<S: VectorStore + Snapshots + Maintenance> Whole for S {}

pub(super) fn item(id: impl Into<ItemId>, space: &str, embedding: &[f32]) -> Item {
    Item {
        id: id.into(),
        embedding: embedding.to_vec(),
        model_version: space.to_owned(),
        label: None,
        payload: Map::new(),
    }
}

/// Items 0..n on a half circle, in two spaces by turns, with labels and payloads.
pub(super) fn on_a_half_circle(n: u64) -> Vec<Item> {
    let item = |id: u64| {
        let angle = id as f32 / n as f32 * std::f32::consts::PI;
        Item {
            label: (!id.is_multiple_of(5)).then_some(id as u32 % 5),
            payload: object(json!({"third": id.is_multiple_of(3), "name": format!("item {id}")})),
            ..item(id, ["a", "b"][id as usize % 2], &[angle.cos(), angle.sin()])
        }
    };
    (0..n).map(item).collect()
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

pub(super) fn space(id: &str) -> SpaceId {
    SpaceId::new(id).unwrap()
}

/// The hits of one query in some spaces.
pub(super) fn search(
    store: &dyn VectorStore,
    spaces: &[&str],
    query: &[f32],
    limit: usize,
    filter: &Filter,
) -> Vec<Hit> {
    let spaces: Vec<SpaceId> = spaces.iter().map(|id| space(id)).collect();
    let found = store.search(&SearchRequest {
        spaces: &spaces,
        queries: query,
        dim: query.len(),
        limit,
        filter,
        exact: true,
    });
    let mut found = found.unwrap();
    assert_eq!(found.len(), 1, "one list of hits for one query");
    found.remove(0)
}

pub(super) fn ids(hits: &[Hit]) -> Vec<ItemId> {
    hits.iter().map(|hit| hit.id.clone()).collect()
}

/// Items by space; spaces without items are left out.
pub(super) fn counts(store: &dyn VectorStore) -> Vec<(String, u64)> {
    let spaces = store.spaces().unwrap().into_iter();
    let with_items = spaces.filter(|stats| stats.items > 0);
    with_items
        .map(|stats| (stats.space.id.to_string(), stats.items))
        .collect()
}

//! Stores, and what is true of the points of every gallery.

use std::collections::{BTreeMap, HashMap};

use perennial_connect::{QdrantStore, StoreOptions};
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

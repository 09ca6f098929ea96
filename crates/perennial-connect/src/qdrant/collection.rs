//! Collections: what they are, and how one like another is made.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::client::{Client, collection_path};
use super::failure::Failure;
use super::point::{Selection, scroll};
use crate::error::ConnectError;

/// Values of vectors that unit vectors would be rounded to nothing in.
const WHOLE_NUMBERS: &str = "uint8";

/// Ids that are read at a time to count them.
const COUNTED_AT_ONCE: usize = 4096;

/// A vector of a collection.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct VectorParams {
    pub(super) size: u64,
    /// `Cosine`, `Dot`, `Euclid` or `Manhattan`.
    pub(super) distance: String,
    #[serde(default)]
    datatype: Option<String>,
    #[serde(default)]
    multivector_config: Option<Value>,
}

impl VectorParams {
    /// How values are stored.
    pub(super) fn datatype(&self) -> &str {
        self.datatype.as_deref().unwrap_or("float32")
    }

    /// Bytes of a value.
    pub(super) fn value_bytes(&self) -> u64 {
        match self.datatype() {
            "float16" => 2,
            WHOLE_NUMBERS => 1,
            _ => 4,
        }
    }

    /// Whether a smaller distance or score is the better one.
    pub(super) fn smaller_is_nearer(&self) -> bool {
        ["Euclid", "Manhattan"].contains(&&*self.distance)
    }

    /// Whether its values are whole numbers.
    pub(super) fn is_whole(&self) -> bool {
        self.datatype() == WHOLE_NUMBERS
    }
}

/// A collection as the server describes it.
#[derive(Debug, Clone)]
pub(crate) struct Collection {
    pub(super) name: String,
    pub(super) points: Option<u64>,
    /// `green` when everything is indexed.
    pub(super) status: String,
    /// By name; the one without a name has the empty one.
    pub(super) vectors: BTreeMap<String, VectorParams>,
    config: Map<String, Value>,
    payload_schema: Map<String, Value>,
}

#[derive(Deserialize)]
struct Info {
    status: String,
    #[serde(default)]
    points_count: Option<u64>,
    config: Map<String, Value>,
    #[serde(default)]
    payload_schema: Map<String, Value>,
}

impl Collection {
    /// Looks a collection up.
    pub(super) fn find(client: &Client, name: &str) -> Result<Option<Self>, ConnectError> {
        let info: Info = match client.get(&collection_path(name)) {
            Ok(info) => info,
            Err(Failure::Missing(_)) => return Ok(None),
            Err(failure) => return Err(failure.into()),
        };
        let vectors = info
            .config
            .get("params")
            .and_then(|params| params.get("vectors"));
        Ok(Some(Self {
            name: name.to_owned(),
            points: info.points_count,
            status: info.status,
            vectors: vectors_of(vectors.unwrap_or(&Value::Null)),
            config: info.config,
            payload_schema: info.payload_schema,
        }))
    }

    /// The name of the vector that is meant: the one that is named, or the only one there is.
    ///
    /// # Errors
    /// [`ConnectError::State`] if there is none of this name, or several to choose from, or one that is not a single dense vector.
    pub(super) fn chosen(&self, asked: Option<&str>) -> Result<String, ConnectError> {
        let state = |problem: String| ConnectError::State(problem);
        let names: Vec<&str> = self
            .vectors
            .keys()
            .map(|name| {
                if name.is_empty() {
                    "(without a name)"
                } else {
                    name
                }
            })
            .collect();
        let all = names.join(", ");
        let name = match asked {
            Some(name) => name,
            None => match &self.vectors.keys().collect::<Vec<_>>()[..] {
                [only] => only.as_str(),
                [] => {
                    return Err(state(format!(
                        "collection {} has no dense vectors",
                        self.name
                    )));
                }
                _ => {
                    return Err(ConnectError::Usage(format!(
                        "collection {} has several vectors; name one with --vector-column: {all}",
                        self.name
                    )));
                }
            },
        };
        let params = self.vectors.get(name).ok_or_else(|| {
            state(format!(
                "collection {} has no vector {name}; its vectors are {all}",
                self.name
            ))
        })?;
        if params.multivector_config.is_some() {
            return Err(state(format!(
                "vector {name:?} of collection {} has several vectors a point, which no bridge takes",
                self.name
            )));
        }
        Ok(name.to_owned())
    }

    /// The condition that a point has a vector; null where every point must have it.
    pub(super) fn has_vector(&self, name: &str) -> Value {
        match self.vectors.len() {
            1 if name.is_empty() => Value::Null,
            _ => json!({"must": [{"has_vector": name}]}),
        }
    }

    /// Whether strict mode forbids writes by a filter of a field without an index. Copies take it over.
    pub(super) fn demands_indexes(&self) -> bool {
        let strict = self.config.get("strict_mode_config");
        let is = |key: &str, wanted: bool| {
            strict.and_then(|strict| strict.get(key)) == Some(&json!(wanted))
        };
        is("enabled", true) && is("unindexed_filtering_update", false)
    }

    /// How many shards and replicas it has.
    pub(super) fn storage(&self) -> String {
        let number = |key: &str| self.param(key).and_then(Value::as_u64).unwrap_or(1);
        format!(
            "{} shards, replication factor {}, write consistency factor {}",
            number("shard_number"),
            number("replication_factor"),
            number("write_consistency_factor")
        )
    }

    /// Refuses what cannot be copied point by point.
    pub(super) fn check_copyable(&self) -> Result<(), ConnectError> {
        match self.param("sharding_method").and_then(Value::as_str) {
            Some("custom") => Err(ConnectError::State(format!(
                "collection {} is sharded by keys of its own, which copies would not keep",
                self.name
            ))),
            _ => Ok(()),
        }
    }

    /// The settings of everything, as the server has them.
    pub(super) fn config(&self) -> &Map<String, Value> {
        &self.config
    }

    fn param(&self, key: &str) -> Option<&Value> {
        self.config.get("params")?.get(key)
    }

    /// A collection like this one with another size of one vector, as the server is asked for it.
    ///
    /// Parameters go over as they are, also those that are not known here.
    pub(super) fn like(&self, vector: &str, dim: usize) -> Value {
        let mut body = match self.config.get("params") {
            Some(Value::Object(params)) => params.clone(),
            _ => Map::new(),
        };
        for (key, value) in &self.config {
            let key = match key.as_str() {
                "params" => continue,
                "optimizer_config" => "optimizers_config",
                key => key,
            };
            body.insert(key.to_owned(), value.clone());
        }
        let params = body.get_mut("vectors").and_then(|vectors| match vector {
            "" => Some(vectors),
            name => vectors.get_mut(name),
        });
        if let Some(Value::Object(params)) = params {
            params.insert("size".to_owned(), json!(dim));
            if params.get("datatype") == Some(&json!(WHOLE_NUMBERS)) {
                params.remove("datatype");
            }
        }
        let mut body = Value::Object(body);
        drop_nulls(&mut body);
        body
    }

    /// A collection of notes with as many replicas as this one, as the server is asked for it.
    pub(super) fn notes(&self) -> Value {
        let mut body = json!({
            "vectors": {"size": 1, "distance": "Dot"},
            "shard_number": 1,
            "replication_factor": self.param("replication_factor"),
            "write_consistency_factor": self.param("write_consistency_factor"),
        });
        drop_nulls(&mut body);
        body
    }

    /// Gives a collection the payload indexes of this one.
    pub(super) fn copy_indexes(&self, client: &Client, to: &str) -> Result<(), ConnectError> {
        let path = format!("{}/index?wait=true", collection_path(to));
        for (field, schema) in &self.payload_schema {
            let with_params = schema.get("params").filter(|params| params.is_object());
            let Some(schema) = with_params.or(schema.get("data_type")) else {
                continue;
            };
            let mut schema = schema.clone();
            drop_nulls(&mut schema);
            let body = json!({"field_name": field, "field_schema": schema});
            client.send::<Value>("PUT", &path, &body)?;
        }
        Ok(())
    }
}

/// Vectors by name, from parameters of one or of several.
fn vectors_of(params: &Value) -> BTreeMap<String, VectorParams> {
    if let Ok(one) = VectorParams::deserialize(params) {
        return BTreeMap::from([(String::new(), one)]);
    }
    let named = params.as_object().into_iter().flatten();
    named
        .filter_map(|(name, params)| {
            let params = VectorParams::deserialize(params).ok()?;
            Some((name.clone(), params))
        })
        .collect()
}

fn drop_nulls(value: &mut Value) {
    if let Value::Object(object) = value {
        object.retain(|_, value| !value.is_null());
        object.values_mut().for_each(drop_nulls);
    }
}

/// Makes a collection.
pub(super) fn create(client: &Client, name: &str, like: &Value) -> Result<(), ConnectError> {
    Ok(client
        .send::<Value>("PUT", &collection_path(name), like)
        .map(drop)?)
}

/// Drops a collection, which need not be there.
pub(super) fn delete(client: &Client, name: &str) -> Result<(), ConnectError> {
    match client.ask::<Value>("DELETE", &collection_path(name), None) {
        Ok(_) | Err(Failure::Missing(_)) => Ok(()),
        Err(failure) => Err(failure.into()),
    }
}

/// Points of a collection that meet a condition, counted one by one: by the server, or here where it counts nothing exactly.
pub(super) fn count(client: &Client, name: &str, filter: &Value) -> Result<u64, Failure> {
    #[derive(Deserialize)]
    struct Count {
        count: u64,
    }
    let mut body = json!({"exact": true});
    if !filter.is_null() {
        body["filter"] = filter.clone();
    }
    let path = format!("{}/points/count", collection_path(name));
    match client.read::<Count>(&path, &body) {
        Err(Failure::Inexact(_)) => {
            let selection = Selection {
                filter: filter.clone(),
                ..Selection::ids()
            };
            let (mut count, mut from, mut at_once) = (0, None, COUNTED_AT_ONCE);
            loop {
                let page = scroll(client, name, &selection, from.as_ref(), &mut at_once)
                    .map_err(Failure::Other)?;
                count += page.points.len() as u64;
                from = page.next_page_offset;
                if from.is_none() {
                    return Ok(count);
                }
            }
        }
        counted => Ok(counted?.count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collection(config: Value) -> Collection {
        let vectors = vectors_of(&config["params"]["vectors"]);
        Collection {
            name: "items".to_owned(),
            points: None,
            status: "green".to_owned(),
            vectors,
            config: config.as_object().unwrap().clone(),
            payload_schema: Map::new(),
        }
    }

    #[test]
    fn a_copy_has_the_parameters_of_its_original() {
        let original = collection(json!({
            "params": {
                "vectors": {"text": {"size": 8, "distance": "Cosine", "on_disk": true}, "image": {"size": 3, "distance": "Dot"}},
                "shard_number": 4, "replication_factor": 2, "write_consistency_factor": 2, "invented_later": {"x": 1}
            },
            "hnsw_config": {"m": 32, "payload_m": null},
            "optimizer_config": {"indexing_threshold": 100},
            "quantization_config": null
        }));
        let like = original.like("text", 4);
        assert_eq!(
            like,
            json!({
                "vectors": {"text": {"size": 4, "distance": "Cosine", "on_disk": true}, "image": {"size": 3, "distance": "Dot"}},
                "shard_number": 4, "replication_factor": 2, "write_consistency_factor": 2, "invented_later": {"x": 1},
                "hnsw_config": {"m": 32},
                "optimizers_config": {"indexing_threshold": 100}
            })
        );
        assert_eq!(
            original.storage(),
            "4 shards, replication factor 2, write consistency factor 2"
        );
        assert!(
            original
                .chosen(None)
                .unwrap_err()
                .to_string()
                .contains("image, text")
        );
        assert_eq!(original.chosen(Some("text")).unwrap(), "text");
        assert!(original.chosen(Some("texts")).is_err());
    }

    #[test]
    fn vectors_that_cannot_be_migrated_are_refused() {
        let one = collection(
            json!({"params": {"vectors": {"size": 8, "distance": "Euclid", "datatype": "uint8"}}}),
        );
        assert_eq!(one.chosen(None).unwrap(), "");
        assert!(one.vectors[""].smaller_is_nearer());
        // Unit vectors are no whole numbers.
        assert_eq!(
            one.like("", 4)["vectors"],
            json!({"size": 4, "distance": "Euclid"})
        );
        let none = collection(json!({"params": {"vectors": {}}}));
        assert!(none.chosen(None).is_err());
        let many = collection(
            json!({"params": {"vectors": {"size": 8, "distance": "Dot", "multivector_config": {"comparator": "max_sim"}}}}),
        );
        assert!(many.chosen(None).is_err());
        let custom = collection(json!({"params": {"vectors": {}, "sharding_method": "custom"}}));
        assert!(custom.check_copyable().is_err());
    }
}

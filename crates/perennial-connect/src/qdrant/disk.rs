//! What copies take on disk, estimated from what their collection says of itself: servers tell no sizes.

use serde_json::{Map, Value};

use super::collection::Collection;
use super::point::Point;
use crate::engine::IndexRow;
use crate::error::ConnectError;

/// Links of a point at the lowest level of a graph are twice this number, where the server says none.
const USUAL_M: u64 = 16;
/// Bytes of a link.
const LINK: f64 = 4.0;
/// Megabytes of a write-ahead log's segment, where the server says none.
const USUAL_LOG: u64 = 32;

/// An estimate.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) index: IndexRow,
    pub(super) beside_row_bytes: u64,
    pub(super) replicas: u64,
    pub(super) assumptions: Vec<String>,
}

/// For copies with a new vector in the place of this one, by some of the points.
pub(super) fn estimate(
    collection: &Collection,
    vector: &str,
    points: Vec<Point>,
) -> Result<Disk, ConnectError> {
    let config = collection.config();
    let count = points.len() as u64;
    let mut payload = 0;
    let mut others = 0;
    for point in points {
        let (_, carried) = point.parts(vector)?;
        let fields = carried.payload.iter();
        payload += fields
            .map(|(name, value)| name.len() + value.get().len())
            .sum::<usize>() as u64;
        for (name, value) in &carried.others {
            others += match collection.vectors.get(name) {
                Some(params) => params.size * params.value_bytes(),
                // A sparse one.
                None => value.get().len() as u64,
            };
        }
    }
    let mut index = index_row(config, vector);
    for (name, params) in &collection.vectors {
        if name != vector {
            index.links += index_row(config, name).bytes(params.size);
        }
    }
    let number = |key: &str| param(config, key).and_then(Value::as_u64).unwrap_or(1);
    let replicas = number("replication_factor").max(1);
    let mut assumptions = vec![
        format!("payload and other vectors are as large as those of the first {count} points, payload as JSON"),
        "every vector is in a graph, whose links are stored as whole numbers of 32 bits, 2 m of them and some on higher levels; segments below the indexing threshold have none"
            .to_owned(),
        format!(
            "not counted: payload indexes, write-ahead logs ({} MB or more for each of {} shards), and the room in which segments are merged, up to the size of the largest",
            config
                .get("wal_config")
                .and_then(|wal| wal.get("wal_capacity_mb"))
                .and_then(Value::as_u64)
                .unwrap_or(USUAL_LOG),
            number("shard_number").max(1) * replicas
        ),
    ];
    if index.value > 0.0 {
        assumptions.push(format!(
            "the index holds quantised vectors of {} bytes a value",
            index.value
        ));
    }
    let on_disk = setting(config, vector, "on_disk").and_then(Value::as_bool);
    assumptions.push(match on_disk {
        Some(true) => "vectors are on disk alone (on_disk)".to_owned(),
        _ => "vectors are in memory as well (no on_disk): the nodes need as much memory for them"
            .to_owned(),
    });
    Ok(Disk {
        index,
        beside_row_bytes: (payload + others).div_ceil(count.max(1)),
        replicas,
        assumptions,
    })
}

/// What the graph and the quantised vectors of one vector take.
fn index_row(config: &Map<String, Value>, vector: &str) -> IndexRow {
    let m = |of: Option<&Value>| of?.get("m")?.as_u64();
    let own = m(setting(config, vector, "hnsw_config"));
    let m = own
        .or_else(|| m(config.get("hnsw_config")))
        .unwrap_or(USUAL_M) as f64;
    let quantised = setting(config, vector, "quantization_config");
    let quantised = quantised.or(config.get("quantization_config"));
    IndexRow {
        // A point is on each next level with a probability of 1 / m.
        links: match m > 1.0 {
            true => LINK * (2.0 * m + m / (m - 1.0)),
            false => LINK * 2.0 * m,
        },
        value: quantised.map_or(0.0, quantised_bytes),
    }
}

/// Bytes of a quantised value.
fn quantised_bytes(config: &Value) -> f64 {
    let text = |kind: &str, key: &str| config[kind][key].as_str().unwrap_or_default();
    if config["binary"].is_object() {
        return match text("binary", "encoding") {
            "two_bits" => 0.25,
            "one_and_half_bits" => 0.1875,
            _ => 0.125,
        };
    }
    if config["product"].is_object() {
        let factor = text("product", "compression").strip_prefix('x');
        let factor = factor.and_then(|factor| factor.parse::<f64>().ok());
        return 4.0 / factor.filter(|&factor| factor >= 1.0).unwrap_or(4.0);
    }
    match config.as_object().is_some_and(|kinds| !kinds.is_empty()) {
        // `scalar`, and kinds that are not known here.
        true => 1.0,
        false => 0.0,
    }
}

/// A setting of one vector; nothing where it has none of its own.
fn setting<'a>(config: &'a Map<String, Value>, vector: &str, key: &str) -> Option<&'a Value> {
    let vectors = param(config, "vectors")?;
    let own = match vector {
        "" => vectors,
        name => vectors.get(name)?,
    };
    own.get(key).filter(|value| !value.is_null())
}

fn param<'a>(config: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    config.get("params")?.get(key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(config: Value, vector: &str) -> IndexRow {
        index_row(config.as_object().unwrap(), vector)
    }

    #[test]
    fn an_index_is_its_links_and_the_quantised_vectors() {
        let plain = row(
            json!({"params": {"vectors": {"size": 8}}, "hnsw_config": {"m": 2}, "quantization_config": null}),
            "",
        );
        // 4 links below and 2 / (2 - 1) above.
        assert_eq!(
            plain,
            IndexRow {
                links: 24.0,
                value: 0.0
            }
        );
        assert_eq!(plain.bytes(768), 24.0);
        let config = json!({
            "params": {"vectors": {
                "text": {"size": 8, "hnsw_config": {"m": 0}, "quantization_config": {"product": {"compression": "x16"}}},
                "image": {"size": 8, "hnsw_config": {"ef_construct": 9}}
            }},
            "hnsw_config": {"m": 2}, "quantization_config": {"scalar": {"type": "int8"}}
        });
        assert_eq!(
            row(config.clone(), "text"),
            IndexRow {
                links: 0.0,
                value: 0.25
            }
        );
        let image = row(config, "image");
        assert_eq!(
            image,
            IndexRow {
                links: 24.0,
                value: 1.0
            }
        );
        assert_eq!(image.bytes(100), 124.0);
    }

    #[test]
    fn quantised_values_have_their_bytes() {
        for (config, bytes) in [
            (json!({"binary": {"always_ram": true}}), 0.125),
            (json!({"binary": {"encoding": "two_bits"}}), 0.25),
            (json!({"product": {"compression": "x64"}}), 0.0625),
            (json!({"product": {"compression": "x0"}}), 1.0),
            (json!({"scalar": {"type": "int8"}}), 1.0),
            (json!({"invented_later": {}}), 1.0),
            (json!({}), 0.0),
        ] {
            assert_eq!(quantised_bytes(&config), bytes, "{config}");
        }
    }
}

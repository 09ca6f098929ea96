//! Points of a space as the server sends them, and as they are sent to it.

use std::io::Write;

use perennial_gallery::{Hit, Item, ItemId, StoredItem};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::order::{field, id_of, key, pieces, place};
use crate::failure::{Failure, damaged};
use crate::pairs::digests;
use crate::qdrant::{PointId, hyphenated};

/// A page of a space, in the order of its points or of a field.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    pub(super) points: Vec<Row>,
    #[serde(default)]
    pub(super) next_page_offset: Option<PointId>,
}

/// A point, with as much of it as was asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Row {
    pub(super) id: PointId,
    #[serde(default)]
    pub(super) score: f32,
    #[serde(default)]
    payload: Option<Fields>,
    #[serde(default)]
    pub(super) vector: Option<Vec<f32>>,
}

#[derive(Debug, Default, Deserialize)]
struct Fields {
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    label: Option<u32>,
    #[serde(default)]
    payload: Option<String>,
}

impl Row {
    pub(super) fn item_id(&self) -> Result<ItemId, Failure> {
        let key = self
            .payload
            .as_ref()
            .and_then(|fields| fields.key.as_deref());
        id_of(key.ok_or_else(|| damaged("a point has no key"))?).map_err(damaged)
    }

    fn label(&self) -> Option<u32> {
        self.payload.as_ref()?.label
    }

    fn content(&self) -> Result<Map<String, Value>, Failure> {
        let fields = self.payload.as_ref();
        let text = fields.and_then(|fields| fields.payload.as_deref());
        let text = text.ok_or_else(|| damaged("a point has no payload"))?;
        serde_json::from_str(text).map_err(|error| damaged(format!("a payload: {error}")))
    }

    /// The vector, of the length that those of its space have.
    pub(super) fn take_vector(&mut self, dim: usize) -> Result<Vec<f32>, Failure> {
        let vector = self.vector.take();
        vector
            .filter(|vector| vector.len() == dim)
            .ok_or_else(|| damaged(format!("a point does not have a vector of {dim} values")))
    }

    /// The item, of a space.
    pub(super) fn item(
        mut self,
        space: &str,
        dim: usize,
        with_embedding: bool,
    ) -> Result<StoredItem, Failure> {
        Ok(StoredItem {
            id: self.item_id()?,
            model_version: space.to_owned(),
            label: self.label(),
            payload: self.content()?,
            embedding: match with_embedding {
                true => Some(self.take_vector(dim)?),
                false => None,
            },
        })
    }

    pub(super) fn hit(&self, space: &str, score: f32) -> Result<Hit, Failure> {
        Ok(Hit {
            id: self.item_id()?,
            score,
            model_version: space.to_owned(),
            label: self.label(),
            payload: self.content()?,
        })
    }
}

/// The point that an item has when a generation stores it: the number of the generation, and 80 bits of the SHA-256 of its key. So no two
/// generations share a point, and within one, whoever writes it sees all of its points.
pub(super) fn point_id(id: &ItemId, generation: u64) -> PointId {
    let digest = Sha256::digest(key(id));
    let mut digits = format!("{:012x}", generation & 0xffff_ffff_ffff);
    for byte in &digest[..10] {
        digits.push_str(&format!("{byte:02x}"));
    }
    PointId::Uuid(hyphenated(&digits))
}

/// Appends the point of an item, as JSON.
pub(super) fn put(
    item: &Item,
    point: &PointId,
    generation: u64,
    body: &mut Vec<u8>,
) -> Result<(), Failure> {
    let mut payload = json!({
        "key": key(&item.id),
        "from": generation,
        "payload": serde_json::to_string(&item.payload).map_err(damaged)?,
        "pairs": digests(&item.payload),
        "place": place(key(&item.id).as_bytes()),
    });
    if let Some(label) = item.label {
        payload["label"] = json!(label);
    }
    for (level, piece) in pieces(&item.id).into_iter().enumerate() {
        payload[field(level)] = json!(piece);
    }
    // Writing to memory does not fail.
    let _ = write!(body, "{{\"id\":{},\"vector\":", json!(point));
    serde_json::to_writer(&mut *body, &item.embedding).map_err(damaged)?;
    let _ = write!(body, ",\"payload\":{payload}}}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_comes_back_as_the_item_that_it_was() {
        let item = Item {
            id: "ä\"1".into(),
            embedding: vec![0.6, 0.8],
            model_version: "v1".to_owned(),
            label: Some(u32::MAX),
            payload: json!({"n": 1.0, "m": 1, "big": u64::MAX})
                .as_object()
                .unwrap()
                .clone(),
        };
        let point = point_id(&item.id, 7);
        let mut body = Vec::new();
        put(&item, &point, 7, &mut body).unwrap();
        let sent: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(sent["payload"]["from"], 7);
        let row: Row = serde_json::from_slice(&body).unwrap();
        let stored = row.item("v1", 2, true).unwrap();
        assert_eq!((&stored.id, stored.label), (&item.id, item.label));
        assert_eq!(
            (stored.payload, stored.embedding),
            (item.payload, Some(item.embedding))
        );
        let row: Row = serde_json::from_slice(&body).unwrap();
        assert!(row.item("v1", 3, true).is_err());
    }

    #[test]
    fn points_differ_between_ids_and_between_generations() {
        let of = |id: ItemId, generation| point_id(&id, generation);
        assert_ne!(of(1.into(), 1), of(1.into(), 2));
        assert_ne!(of(1.into(), 1), of("1".into(), 1));
        assert_eq!(of(1.into(), 1), of(1.into(), 1));
        let PointId::Uuid(text) = of("a".into(), 0x1234) else {
            panic!()
        };
        assert!(text.starts_with("00000000-1234-"), "{text}");
    }
}

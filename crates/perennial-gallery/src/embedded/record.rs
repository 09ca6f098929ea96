//! One item as bytes, on disk and in snapshots.
//!
//! Little-endian: checksum `u32` of all that follows, version `u32`, label flag `u8`, label `u32`, id length `u16`, id key,
//! payload length `u32`, payload as JSON, and the embedding as `f32` to the end.

use perennial_core::item_id::{ItemId, MAX_ID_BYTES};
use serde_json::{Map, Value};

use crate::error::GalleryError;
use crate::id_key::{id_key, key_id};
use crate::item::Item;
use crate::limits::{MAX_DIM, MAX_PAYLOAD_BYTES};

/// The largest record there can be.
pub(crate) const MAX_RECORD_BYTES: usize =
    4 + 4 + 5 + 2 + 1 + MAX_ID_BYTES + 4 + MAX_PAYLOAD_BYTES + 4 * MAX_DIM;

/// A record whose checksum and structure hold, still as bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) version: u32,
    pub(crate) label: Option<u32>,
    pub(crate) id_key: &'a [u8],
    payload: &'a [u8],
    embedding: &'a [u8],
}

/// Encodes an item that was checked before.
pub(crate) fn encode(item: &Item, version: u32) -> Result<Vec<u8>, GalleryError> {
    let payload = serde_json::to_vec(&item.payload).unwrap_or_default();
    if payload.is_empty() || payload.len() > MAX_PAYLOAD_BYTES {
        return Err(GalleryError::PayloadTooLarge {
            id: item.id.clone(),
            bytes: payload.len(),
        });
    }
    let id = id_key(&item.id);
    let mut bytes = Vec::with_capacity(24 + id.len() + payload.len() + 4 * item.embedding.len());
    bytes.extend([0; 4]);
    bytes.extend(version.to_le_bytes());
    bytes.push(u8::from(item.label.is_some()));
    bytes.extend(item.label.unwrap_or(0).to_le_bytes());
    // A checked id is far shorter than what 16 bits can say, and a payload than 32.
    bytes.extend((id.len() as u16).to_le_bytes());
    bytes.extend(&id);
    bytes.extend((payload.len() as u32).to_le_bytes());
    bytes.extend(&payload);
    for value in &item.embedding {
        bytes.extend(value.to_le_bytes());
    }
    seal(&mut bytes);
    Ok(bytes)
}

fn seal(bytes: &mut [u8]) {
    let checksum = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
}

impl<'a> Record<'a> {
    /// Reads the structure of a record; invalid bytes give an error.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, String> {
        const CUT: &str = "a record is cut off";
        let (checksum, rest) = bytes.split_first_chunk().ok_or(CUT)?;
        if u32::from_le_bytes(*checksum) != crc32fast::hash(rest) {
            return Err("a record does not match its checksum".to_owned());
        }
        let (version, rest) = rest.split_first_chunk().ok_or(CUT)?;
        let (&[flag], rest) = rest.split_first_chunk().ok_or(CUT)?;
        let (label, rest) = rest.split_first_chunk().ok_or(CUT)?;
        let label = match flag {
            0 => None,
            1 => Some(u32::from_le_bytes(*label)),
            _ => return Err("a record has an unknown label flag".to_owned()),
        };
        let (length, rest) = rest.split_first_chunk().ok_or(CUT)?;
        let (id_key, rest) = rest
            .split_at_checked(usize::from(u16::from_le_bytes(*length)))
            .ok_or(CUT)?;
        let (length, rest) = rest.split_first_chunk().ok_or(CUT)?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_PAYLOAD_BYTES {
            return Err(format!("a record has a payload of {length} bytes"));
        }
        let (payload, embedding) = rest.split_at_checked(length).ok_or(CUT)?;
        let dim = embedding.len() / 4;
        if embedding.len() % 4 != 0 || dim == 0 || dim > MAX_DIM {
            return Err(format!(
                "a record ends with {} bytes of vector",
                embedding.len()
            ));
        }
        Ok(Self {
            version: u32::from_le_bytes(*version),
            label,
            id_key,
            payload,
            embedding,
        })
    }

    pub(crate) fn id(&self) -> Result<ItemId, String> {
        key_id(self.id_key)
    }

    pub(crate) fn payload(&self) -> Result<Map<String, Value>, String> {
        // Often there is none, and a start reads those of all items.
        if self.payload == b"{}" {
            return Ok(Map::new());
        }
        serde_json::from_slice(self.payload)
            .map_err(|error| format!("a payload is not JSON: {error}"))
    }

    pub(crate) fn dim(&self) -> usize {
        self.embedding.len() / 4
    }

    pub(crate) fn embedding(&self) -> impl ExactSizeIterator<Item = f32> + 'a {
        let (values, _) = self.embedding.as_chunks();
        values.iter().map(|bytes| f32::from_le_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn item(id: ItemId, label: Option<u32>, embedding: Vec<f32>) -> Item {
        let payload = json!({"name": "ü", "n": [1, 2.5, null]});
        Item {
            id,
            embedding,
            model_version: "v0001".to_owned(),
            label,
            payload: payload.as_object().unwrap().clone(),
        }
    }

    fn ids() -> impl Strategy<Value = ItemId> {
        prop_oneof![
            any::<u64>().prop_map(ItemId::Number),
            "[a-zäß/ ]{1,20}".prop_map(ItemId::Text),
        ]
    }

    proptest! {
        #[test]
        fn records_read_back(id in ids(), label: Option<u32>, version: u32, vector in prop::collection::vec(any::<f32>(), 1..40)) {
            let item = item(id, label, vector);
            let bytes = encode(&item, version).unwrap();
            prop_assert!(bytes.len() <= MAX_RECORD_BYTES);
            let record = Record::decode(&bytes).unwrap();
            prop_assert_eq!((record.version, record.label), (version, label));
            prop_assert_eq!(record.id().unwrap(), item.id);
            prop_assert_eq!(record.payload().unwrap(), item.payload);
            let bits = |v: f32| v.to_bits();
            let read: Vec<u32> = record.embedding().map(bits).collect();
            prop_assert_eq!(read, item.embedding.into_iter().map(bits).collect::<Vec<_>>());
        }

        #[test]
        fn any_flipped_or_missing_byte_is_noticed(at: prop::sample::Index, flip in 1u8.., id in ids()) {
            let bytes = encode(&item(id, Some(3), vec![0.6, 0.8]), 0).unwrap();
            let at = at.index(bytes.len());
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            prop_assert!(Record::decode(&damaged).is_err());
            prop_assert!(Record::decode(&bytes[..at]).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 4..200), sealed: bool) {
            if sealed {
                seal(&mut bytes);
            }
            if let Ok(record) = Record::decode(&bytes) {
                let _ = (record.id(), record.payload(), record.embedding().count());
            }
        }
    }
}

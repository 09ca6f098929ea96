//! From an original to the item's new embedding, and the write that never overwrites a newer item.

use std::fmt::Display;

use perennial_core::sha256_hex;
use perennial_encode::{DecodeLimits, Input, InputType, Picture, PrepareError, Prepared};
use perennial_gallery::{GalleryError, ItemId, Replacement, StoredItem, VectorStore};
use serde_json::Value;

use super::failure::{Failure, FailureReason};
use super::original::Original;
use super::stored_hash::stored_sha256;
use crate::loaded_model::LoadedModel;

/// The payload's keys that say which picture was stored, as `gallery add` writes them.
const WIDTH: &str = "width";
const HEIGHT: &str = "height";

/// Prepares an item's original for a version, if it is the one that was stored: by the file's SHA-256 where the payload has it, otherwise, for
/// pictures, by width and height where it has those. A text that the item holds is its own.
///
/// # Errors
/// [`FailureReason::OtherOriginal`], [`FailureReason::OtherModality`] or [`FailureReason::Undecodable`].
pub fn prepared_of(
    item: &StoredItem,
    original: &Original,
    model: &LoadedModel,
    limits: DecodeLimits,
) -> Result<Prepared, Failure> {
    let unusable = |error: &PrepareError| {
        let reason = match error {
            PrepareError::Modality { .. } => FailureReason::OtherModality,
            _ => FailureReason::Undecodable,
        };
        Failure::new(reason, error.to_string())
    };
    let input = match original {
        Original::Picture(file) => {
            check_picture(item, file, limits)?;
            Input::Picture { file, limits }
        }
        Original::Text(text) | Original::Held(text) => {
            if let (Original::Text(_), Some(stored)) = (original, stored_sha256(item)) {
                check_sha256(stored, text.as_bytes())?;
            }
            Input::Text {
                // A mark of some editors, which is no part of the text.
                text: text.strip_prefix('\u{feff}').unwrap_or(text),
                input_type: InputType::Document,
            }
        }
    };
    model.prepare(input).map_err(|error| unusable(&error))
}

fn check_sha256(stored: &str, original: &[u8]) -> Result<(), Failure> {
    match stored.eq_ignore_ascii_case(&sha256_hex(original)) {
        true => Ok(()),
        false => Err(Failure::new(
            FailureReason::OtherOriginal,
            "its SHA-256 is not the stored one",
        )),
    }
}

fn check_picture(item: &StoredItem, original: &[u8], limits: DecodeLimits) -> Result<(), Failure> {
    let other = |problem: String| Failure::new(FailureReason::OtherOriginal, problem);
    let undecodable =
        |error: &dyn Display| Failure::new(FailureReason::Undecodable, error.to_string());
    if let Some(stored) = stored_sha256(item) {
        check_sha256(stored, original)?;
    } else {
        let side = |key: &str| item.payload.get(key).and_then(Value::as_u64);
        let stored = (side(WIDTH), side(HEIGHT));
        if stored != (None, None) {
            let picture = Picture::decode(original, limits).map_err(|error| undecodable(&error))?;
            let found = (u64::from(picture.width()), u64::from(picture.height()));
            let differs = |stored: Option<u64>, found: u64| stored.is_some_and(|s| s != found);
            if differs(stored.0, found.0) || differs(stored.1, found.1) {
                return Err(other(format!(
                    "it is {} x {} pixels, not as large as the stored one",
                    found.0, found.1
                )));
            }
        }
    }
    Ok(())
}

/// An item with its new embedding.
#[derive(Debug, Clone)]
pub struct Reembedded {
    /// The item as it was read, with its embedding then.
    pub item: StoredItem,
    /// Its embedding by the live version.
    pub embedding: Vec<f32>,
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Items that are in the live version's space now.
    pub done: Vec<ItemId>,
    /// Items that were changed or deleted since they were read; they are as whoever did that left them.
    pub changed: Vec<ItemId>,
}

/// Gives items their new embeddings, and keeps their labels and payloads. All are written at once; each leaves its old space in the same
/// transaction. An item that is no longer what was read is left alone, whoever changed it: the store compares and writes in one step.
///
/// # Errors
/// Those of the gallery; nothing is written then.
pub fn replace_unchanged(
    store: &dyn VectorStore,
    version: &str,
    batch: Vec<Reembedded>,
) -> Result<Replaced, GalleryError> {
    let ids: Vec<ItemId> = batch.iter().map(|one| one.item.id.clone()).collect();
    let batch = batch.into_iter().map(|one| Replacement {
        read: one.item,
        model_version: version.to_owned(),
        embedding: one.embedding,
    });
    let changed = store.replace_unchanged(batch.collect())?;
    let done = ids.into_iter().filter(|id| !changed.contains(id));
    Ok(Replaced {
        done: done.collect(),
        changed,
    })
}

#[cfg(test)]
mod tests {
    use perennial_gallery::{EmbeddedGallery, GalleryConfig, Item};
    use serde_json::{Map, json};

    use super::*;

    #[test]
    fn only_what_is_still_the_same_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedGallery::open(folder.path(), GalleryConfig::default()).unwrap();
        let item = |id: u64, embedding: &[f32], label: Option<u32>| Item {
            id: id.into(),
            embedding: embedding.to_vec(),
            model_version: "v0001".to_owned(),
            label,
            payload: Map::from_iter([("file".to_owned(), json!(format!("{id}.png")))]),
        };
        let ids: Vec<ItemId> = (1..=5u64).map(ItemId::from).collect();
        let items = (1..=5).map(|id| item(id, &[1.0, 0.0], Some(7)));
        store.upsert(items.collect()).unwrap();
        let read = store.get(&ids, true).unwrap();

        // Meanwhile, others delete, embed, label and describe anew.
        store.delete(&[2.into()]).unwrap();
        store.upsert(vec![item(3, &[0.0, 1.0], Some(7))]).unwrap();
        store.upsert(vec![item(4, &[1.0, 0.0], None)]).unwrap();
        let mut described = item(5, &[1.0, 0.0], Some(7));
        described.payload.insert("new".to_owned(), json!(true));
        store.upsert(vec![described]).unwrap();

        let batch = read.into_iter().map(|item| Reembedded {
            item,
            embedding: vec![0.6, 0.0, 0.8],
        });
        let replaced = replace_unchanged(&store, "v0002", batch.collect()).unwrap();
        assert_eq!(replaced.done, [1.into()]);
        assert_eq!(replaced.changed, [2.into(), 3.into(), 4.into(), 5.into()]);
        let now = store.get(&ids, true).unwrap();
        assert_eq!(now.len(), 4);
        assert_eq!(
            (&*now[0].model_version, now[0].label, &now[0].payload),
            ("v0002", Some(7), &item(1, &[], None).payload)
        );
        assert_eq!(now[0].embedding.as_deref(), Some(&[0.6, 0.0, 0.8][..]));
        assert!(now[1..].iter().all(|item| item.model_version == "v0001"));
    }
}

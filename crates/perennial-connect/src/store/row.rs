//! Rows of `perennial_items`, read and checked.

use perennial_gallery::id_key::key_id;
use perennial_gallery::{Hit, ItemId, StoredItem};
use serde_json::{Map, Value};
use tokio_postgres::Row;

use super::spaces::Spaces;
use crate::failure::{Failure, damaged};
use crate::postgres::{Raw, VectorType, read_vector};

/// The columns that every item is read from.
pub(super) const COLUMNS: &str = "key, space, label, payload";

/// The columns with the vector, where it is wanted.
pub(super) fn columns(with_embeddings: bool) -> String {
    match with_embeddings {
        true => format!("{COLUMNS}, embedding"),
        false => COLUMNS.to_owned(),
    }
}

/// The key of a row of [`COLUMNS`].
pub(super) fn key(row: &Row) -> Result<&[u8], Failure> {
    Ok(row.try_get(0)?)
}

fn id(row: &Row) -> Result<ItemId, Failure> {
    key_id(key(row)?).map_err(damaged)
}

fn label(row: &Row) -> Result<Option<u32>, Failure> {
    let label: Option<i64> = row.try_get(2)?;
    let label = label.map(|label| u32::try_from(label).map_err(|_| damaged("a label")));
    label.transpose()
}

fn payload(row: &Row) -> Result<Map<String, Value>, Failure> {
    let raw: Raw<'_> = row.try_get(3)?;
    serde_json::from_slice(raw.0).map_err(|error| damaged(format!("a payload: {error}")))
}

/// Appends the vector in a column.
pub(super) fn vector(row: &Row, column: usize, out: &mut Vec<f32>) -> Result<(), Failure> {
    let raw: Raw<'_> = row.try_get(column)?;
    read_vector(VectorType::Vector, raw.0, out)?;
    Ok(())
}

/// An item, from a row of [`columns`].
pub(super) fn item(
    row: &Row,
    spaces: &Spaces,
    with_embedding: bool,
) -> Result<StoredItem, Failure> {
    let embedding = match with_embedding {
        true => {
            let mut values = Vec::new();
            vector(row, 4, &mut values)?;
            Some(values)
        }
        false => None,
    };
    Ok(StoredItem {
        id: id(row)?,
        model_version: spaces.name(row.try_get(1)?)?.to_owned(),
        label: label(row)?,
        payload: payload(row)?,
        embedding,
    })
}

/// A hit, from a row of [`COLUMNS`] and the negative inner product.
pub(super) fn hit(row: &Row, spaces: &Spaces) -> Result<Hit, Failure> {
    let distance: f64 = row.try_get(4)?;
    Ok(Hit {
        id: id(row)?,
        // Not -0.0, which would come after 0.0.
        score: (0.0 - distance) as f32,
        model_version: spaces.name(row.try_get(1)?)?.to_owned(),
        label: label(row)?,
        payload: payload(row)?,
    })
}

//! Stored items and search hits.

pub use perennial_core::ItemId;
use perennial_core::check_name;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::bounded_json;
use crate::error::GalleryError;
use crate::limits::{MAX_DIM, MAX_PAYLOAD_BYTES, MAX_PAYLOAD_DEPTH, NORM_TOLERANCE};
use crate::payload::{is_within, json_size};

/// One item on its way into the gallery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Under which it is found again; an item of the same id is replaced.
    pub id: ItemId,
    /// A unit vector, `[dim]`.
    pub embedding: Vec<f32>,
    /// The model version that produced the embedding.
    pub model_version: String,
    /// The class, where it is known.
    #[serde(default)]
    pub label: Option<u32>,
    /// Anything else worth keeping, at most [`MAX_PAYLOAD_BYTES`] as compact JSON, and [`MAX_PAYLOAD_DEPTH`] objects and lists inside one another.
    #[serde(default, deserialize_with = "bounded_json::payload")]
    pub payload: Map<String, Value>,
}

impl Item {
    /// Says whether the item can be stored in a gallery whose vectors have this dimension, once there is one.
    ///
    /// # Errors
    /// The first thing wrong with id, version, vector or payload, naming the item.
    pub fn check(&self, dim: Option<usize>) -> Result<(), GalleryError> {
        self.id.check()?;
        check_name(&self.model_version).map_err(|source| GalleryError::InvalidVersion {
            id: self.id.clone(),
            source,
        })?;
        check_vector(&self.embedding, dim, || format!("item {}", self.id))?;
        let id = || self.id.clone();
        // First, since everything else goes into it as deep as it is.
        if !is_within(&self.payload, MAX_PAYLOAD_DEPTH) {
            return Err(GalleryError::PayloadTooDeep { id: id() });
        }
        match json_size(&self.payload) {
            ..=MAX_PAYLOAD_BYTES => Ok(()),
            bytes => Err(GalleryError::PayloadTooLarge { id: id(), bytes }),
        }
    }
}

/// Says whether a vector is a unit vector of the right dimension; `what` names it.
pub(crate) fn check_vector(
    vector: &[f32],
    dim: Option<usize>,
    what: impl Fn() -> String,
) -> Result<(), GalleryError> {
    let found = vector.len();
    if let Some(expected) = dim.filter(|&dim| dim != found) {
        let what = what();
        return Err(GalleryError::WrongDimension {
            what,
            found,
            expected,
        });
    }
    if found == 0 || found > MAX_DIM {
        return Err(GalleryError::UnsupportedDimension {
            what: what(),
            found,
        });
    }
    if let Some(index) = vector.iter().position(|value| !value.is_finite()) {
        return Err(GalleryError::NonFinite {
            what: what(),
            index,
        });
    }
    let square: f64 = vector.iter().map(|&value| f64::from(value).powi(2)).sum();
    let norm = square.sqrt() as f32;
    if (norm - 1.0).abs() > NORM_TOLERANCE {
        return Err(GalleryError::NotUnit { what: what(), norm });
    }
    Ok(())
}

/// One item as the gallery holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredItem {
    /// Under which it is found.
    pub id: ItemId,
    /// The model version that produced the embedding.
    pub model_version: String,
    /// The class, where it is known.
    pub label: Option<u32>,
    /// What was stored with it.
    pub payload: Map<String, Value>,
    /// The unit vector, `[dim]`, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<Vec<f32>>,
}

/// One search result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// The item found.
    pub id: ItemId,
    /// Its cosine similarity to the query, computed in f32.
    pub score: f32,
    /// The model version that produced its embedding.
    pub model_version: String,
    /// Its class, where it is known.
    pub label: Option<u32>,
    /// What was stored with it.
    pub payload: Map<String, Value>,
}

/// The simplex that the embeddings of one gallery share. Only models of one simplex can be compatible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimplexIdentity {
    /// Prototypes of the simplex, `K`; its embeddings have `K - 1` dimensions.
    pub vertices: usize,
}

impl SimplexIdentity {
    /// The dimension of embeddings in this simplex.
    ///
    /// # Errors
    /// [`GalleryError::InvalidIdentity`] where no such simplex exists or its dimension exceeds [`MAX_DIM`].
    pub fn dim(&self) -> Result<usize, GalleryError> {
        match self.vertices {
            2.. if self.vertices - 1 <= MAX_DIM => Ok(self.vertices - 1),
            vertices => Err(GalleryError::InvalidIdentity { vertices }),
        }
    }
}

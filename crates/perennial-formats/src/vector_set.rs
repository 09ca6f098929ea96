//! Vectors with what is known about their items.

use perennial_core::{ItemId, SpaceId};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::label::Label;

/// What a user stores beside a vector: a JSON object.
pub type Payload = Map<String, Value>;

/// Vectors, ids and labels that do not belong together, or a vector that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VectorSetError {
    /// Vectors of dimension 0.
    #[error("vectors need at least 1 dimension")]
    ZeroDim,
    /// Values that cannot be split into rows.
    #[error("{values} values cannot be split into rows of {dim}")]
    PartialRow {
        /// The number of values.
        values: usize,
        /// The dimension.
        dim: usize,
    },
    /// As many ids, labels or payloads as there are vectors are needed.
    #[error("{found} {what} for {rows} vectors; give one for each")]
    Length {
        /// What was counted.
        what: &'static str,
        /// The number of vectors.
        rows: usize,
        /// The number found.
        found: usize,
    },
    /// A value that is NaN, infinite, or too large for 32 bits.
    #[error("row {} holds a value that is NaN, infinite or too large for f32; correct or remove the row", place(*row, id.as_ref()))]
    NonFinite {
        /// Position of the row, from 0.
        row: u64,
        /// Its id, where it has one.
        id: Option<ItemId>,
    },
    /// A vector of zeros has no direction, so nothing is similar to it.
    #[error("row {} holds nothing but zeros, which have no direction; remove the row", place(*row, id.as_ref()))]
    Zero {
        /// Position of the row, from 0.
        row: u64,
        /// Its id, where it has one.
        id: Option<ItemId>,
    },
    /// Sets that cannot be joined.
    #[error("{0}")]
    Join(String),
}

fn place(row: u64, id: Option<&ItemId>) -> String {
    match id {
        Some(id) => format!("{row} (id {id})"),
        None => row.to_string(),
    }
}

/// Vectors as a file holds them (raw or of unit length), with ids, labels, payload and space where the file has them.
///
/// Every instance holds whole rows of finite values and as many ids, labels and payloads as rows. Ids need not be unique.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSet {
    dim: usize,
    vectors: Vec<f32>,
    ids: Option<Vec<ItemId>>,
    labels: Option<Vec<Label>>,
    payload: Option<Vec<Payload>>,
    space: Option<SpaceId>,
}

/// The parts of a [`VectorSet`], one entry for each row.
#[derive(Debug, Clone, PartialEq)]
pub struct Parts {
    /// The length of each vector.
    pub dim: usize,
    /// `[n, dim]`, row-major.
    pub vectors: Vec<f32>,
    /// `[n]`
    pub ids: Option<Vec<ItemId>>,
    /// `[n]`
    pub labels: Option<Vec<Label>>,
    /// `[n]`
    pub payload: Option<Vec<Payload>>,
    /// What the vectors are of.
    pub space: Option<SpaceId>,
}

impl VectorSet {
    /// Takes vectors of which nothing else is known.
    ///
    /// **Shapes**: `vectors` is `[n, dim]`, row-major; `n` may be 0.
    ///
    /// # Errors
    /// Dimension 0, an incomplete row, a value that is not finite.
    pub fn new(dim: usize, vectors: Vec<f32>) -> Result<Self, VectorSetError> {
        Self::from_parts(Parts {
            dim,
            vectors,
            ids: None,
            labels: None,
            payload: None,
            space: None,
        })
    }

    /// Takes everything at once.
    ///
    /// # Errors
    /// Those of [`new`](Self::new), and a number of ids, labels or payloads that is not the number of rows.
    pub fn from_parts(parts: Parts) -> Result<Self, VectorSetError> {
        Self::read_at(parts, 0)
    }

    /// [`from_parts`](Self::from_parts) for a part of a file; errors count rows from the file's start.
    pub(crate) fn read_at(parts: Parts, first_row: u64) -> Result<Self, VectorSetError> {
        let Parts {
            dim,
            vectors,
            ids,
            labels,
            payload,
            space,
        } = parts;
        if dim == 0 {
            return Err(VectorSetError::ZeroDim);
        }
        if !vectors.len().is_multiple_of(dim) {
            return Err(VectorSetError::PartialRow {
                values: vectors.len(),
                dim,
            });
        }
        let rows = vectors.len() / dim;
        for (what, found) in [
            ("ids", ids.as_ref().map(Vec::len)),
            ("labels", labels.as_ref().map(Vec::len)),
            ("payloads", payload.as_ref().map(Vec::len)),
        ] {
            if let Some(found) = found.filter(|&found| found != rows) {
                return Err(VectorSetError::Length { what, rows, found });
            }
        }
        let broken = vectors
            .chunks_exact(dim)
            .position(|row| !row.iter().all(|value| value.is_finite()));
        if let Some(row) = broken {
            return Err(VectorSetError::NonFinite {
                row: first_row + row as u64,
                id: ids.map(|mut ids| ids.swap_remove(row)),
            });
        }
        Ok(Self {
            dim,
            vectors,
            ids,
            labels,
            payload,
            space,
        })
    }

    /// Gives each vector an id.
    ///
    /// # Errors
    /// [`VectorSetError::Length`].
    pub fn with_ids(self, ids: Vec<ItemId>) -> Result<Self, VectorSetError> {
        check_length("ids", self.len(), ids.len())?;
        Ok(Self {
            ids: Some(ids),
            ..self
        })
    }

    /// Gives each vector a label.
    ///
    /// # Errors
    /// [`VectorSetError::Length`].
    pub fn with_labels(self, labels: Vec<Label>) -> Result<Self, VectorSetError> {
        check_length("labels", self.len(), labels.len())?;
        Ok(Self {
            labels: Some(labels),
            ..self
        })
    }

    /// Gives each vector a payload.
    ///
    /// # Errors
    /// [`VectorSetError::Length`].
    pub fn with_payload(self, payload: Vec<Payload>) -> Result<Self, VectorSetError> {
        check_length("payloads", self.len(), payload.len())?;
        Ok(Self {
            payload: Some(payload),
            ..self
        })
    }

    /// Says what the vectors are of.
    pub fn with_space(self, space: Option<SpaceId>) -> Self {
        Self { space, ..self }
    }

    /// Puts other vectors in the place of these, such as the same items in another space; ids, labels and payload stay.
    ///
    /// **Shapes**: `vectors` is `[n, dim]`, row-major, with the same `n`.
    ///
    /// # Errors
    /// Those of [`from_parts`](Self::from_parts), and another number of rows.
    pub fn replace_vectors(
        self,
        dim: usize,
        vectors: Vec<f32>,
        space: Option<SpaceId>,
    ) -> Result<Self, VectorSetError> {
        let rows = self.len();
        let set = Self::from_parts(Parts {
            dim,
            vectors,
            space,
            ..self.into_parts()
        })?;
        check_length("new vectors", rows, set.len())?;
        Ok(set)
    }

    /// The length of each vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The number of vectors.
    pub fn len(&self) -> usize {
        self.vectors.len() / self.dim
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.vectors.is_empty()
    }

    /// All vectors, `[n, dim]` row-major.
    pub fn vectors(&self) -> &[f32] {
        &self.vectors
    }

    /// One vector.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn row(&self, index: usize) -> &[f32] {
        &self.vectors[index * self.dim..][..self.dim]
    }

    /// The id of each vector.
    pub fn ids(&self) -> Option<&[ItemId]> {
        self.ids.as_deref()
    }

    /// The label of each vector.
    pub fn labels(&self) -> Option<&[Label]> {
        self.labels.as_deref()
    }

    /// The payload of each vector.
    pub fn payload(&self) -> Option<&[Payload]> {
        self.payload.as_deref()
    }

    /// What the vectors are of, where that is known.
    pub fn space(&self) -> Option<&SpaceId> {
        self.space.as_ref()
    }

    /// Gives the parts away.
    pub fn into_parts(self) -> Parts {
        Parts {
            dim: self.dim,
            vectors: self.vectors,
            ids: self.ids,
            labels: self.labels,
            payload: self.payload,
            space: self.space,
        }
    }

    /// Refuses vectors without a direction. Readers accept them, because not everything that is stored is searched.
    ///
    /// # Errors
    /// [`VectorSetError::Zero`] with the first row of zeros and its id.
    pub fn check_directions(&self) -> Result<(), VectorSetError> {
        let zero = self
            .vectors
            .chunks_exact(self.dim)
            .position(|row| row.iter().all(|&value| value == 0.0));
        match zero {
            None => Ok(()),
            Some(row) => Err(VectorSetError::Zero {
                row: row as u64,
                id: self.ids.as_ref().map(|ids| ids[row].clone()),
            }),
        }
    }

    /// Adds the rows of another set at the end. Rows without payload get an empty one when others have one.
    ///
    /// # Errors
    /// [`VectorSetError::Join`] for another dimension or space, and when only one of the two has ids or labels.
    pub fn append(&mut self, other: Self) -> Result<(), VectorSetError> {
        let refuse = |problem: String| Err(VectorSetError::Join(problem));
        if self.dim != other.dim {
            return refuse(format!(
                "vectors of {} and of {} values cannot be joined",
                self.dim, other.dim
            ));
        }
        if self.space != other.space {
            return refuse("vectors of different spaces cannot be joined".to_owned());
        }
        for (what, one, another) in [
            ("ids", self.ids.is_some(), other.ids.is_some()),
            ("labels", self.labels.is_some(), other.labels.is_some()),
        ] {
            if one != another {
                return refuse(format!(
                    "only some of the rows have {what}; give all of them {what}, or none"
                ));
            }
        }
        let (rows, more) = (self.len(), other.len());
        if self.payload.is_some() || other.payload.is_some() {
            let payload = self
                .payload
                .get_or_insert_with(|| vec![Payload::new(); rows]);
            payload.extend(other.payload.unwrap_or_else(|| vec![Payload::new(); more]));
        }
        self.vectors.extend_from_slice(&other.vectors);
        if let (Some(ids), Some(more)) = (&mut self.ids, other.ids) {
            ids.extend(more);
        }
        if let (Some(labels), Some(more)) = (&mut self.labels, other.labels) {
            labels.extend(more);
        }
        Ok(())
    }
}

fn check_length(what: &'static str, rows: usize, found: usize) -> Result<(), VectorSetError> {
    if rows == found {
        return Ok(());
    }
    Err(VectorSetError::Length { what, rows, found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_belong_together_is_refused() {
        assert_eq!(VectorSet::new(0, vec![]), Err(VectorSetError::ZeroDim));
        assert!(VectorSet::new(2, vec![1.0; 3]).is_err());
        let set = VectorSet::new(2, vec![1.0; 4]).unwrap();
        let error = set.clone().with_ids(vec![1.into()]).unwrap_err();
        assert_eq!(error.to_string(), "1 ids for 2 vectors; give one for each");
        assert!(set.clone().with_labels(vec![]).is_err());
        assert!(set.clone().with_payload(vec![]).is_err());
        assert!(set.clone().replace_vectors(3, vec![0.0; 3], None).is_err());
        let moved = set.replace_vectors(1, vec![5.0, 6.0], None).unwrap();
        assert_eq!((moved.dim(), moved.row(1)), (1, &[6.0][..]));
    }

    #[test]
    fn bad_rows_are_named() {
        for broken in [f32::NAN, f32::INFINITY] {
            let error = VectorSet::new(1, vec![0.0, broken]).unwrap_err();
            assert!(error.to_string().starts_with("row 1 holds"), "{error}");
        }
        let set = VectorSet::new(2, vec![1.0, 0.0, 0.0, -0.0]).unwrap();
        assert!(set.check_directions().is_err());
        let set = set.with_ids(vec![7.into(), "b".into()]).unwrap();
        let error = set.check_directions().unwrap_err().to_string();
        assert!(error.starts_with("row 1 (id b) holds"), "{error}");
    }

    #[test]
    fn sets_are_joined() {
        let set = || VectorSet::new(1, vec![1.0]).unwrap();
        let payload: Payload = [("a".to_owned(), Value::from(1))].into_iter().collect();
        let mut joined = set();
        joined
            .append(set().with_payload(vec![payload.clone()]).unwrap())
            .unwrap();
        assert_eq!(joined.payload().unwrap(), [Payload::new(), payload]);
        assert!(joined.append(VectorSet::new(2, vec![]).unwrap()).is_err());
        assert!(
            joined
                .append(set().with_ids(vec![1.into()]).unwrap())
                .is_err()
        );
        let named = set().with_space(Some(SpaceId::new("a").unwrap()));
        assert!(joined.append(named).is_err());
        assert_eq!(joined.len(), 2);
    }
}

//! Unit-length embeddings with their ids, optional labels and the model version that produced them.

use rayon::prelude::*;
use thiserror::Error;

use crate::name::{NameError, check_name};
use crate::similarity::{self, SimilarityError};

/// How far a row's length may be from 1: far above f32 rounding, far below any vector that was not normalised.
pub const UNIT_TOLERANCE: f64 = 1e-3;

/// Embeddings that are inconsistent.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EmbeddingsError {
    /// Vectors of dimension 0.
    #[error("embeddings need at least 1 dimension")]
    ZeroDim,
    /// The number of values, ids or labels does not match.
    #[error("{what}: expected {expected}, got {actual}")]
    Length {
        /// What was counted.
        what: &'static str,
        /// The number that fits the other arguments.
        expected: usize,
        /// The number given.
        actual: usize,
    },
    /// A row without a direction.
    #[error(transparent)]
    Similarity(#[from] SimilarityError),
    /// A row that was not normalised.
    #[error("row {row} has length {norm:.6} instead of 1; normalise the features first")]
    NotUnit {
        /// Position of the row, from 0.
        row: usize,
        /// Its Euclidean length.
        norm: f64,
    },
    /// A model version name that cannot be stored.
    #[error("model version: {0}")]
    VersionName(#[from] NameError),
}

/// A set of unit-length embeddings. Every instance holds matching lengths and finite rows of length 1 within
/// [`UNIT_TOLERANCE`], but for those of [`with_missing`](Self::with_missing), which may have rows of zeros.
///
/// Ids are the caller's; they need not be unique.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    model_version: String,
    dim: usize,
    vectors: Vec<f32>,
    ids: Vec<u64>,
    labels: Option<Vec<u32>>,
    /// Positions of the rows of zeros, ascending.
    missing: Vec<usize>,
}

impl Embeddings {
    /// Takes vectors that already have unit length.
    ///
    /// **Shapes**: `vectors` is `[n, dim]`, row-major; `ids` and `labels` are `[n]`.
    ///
    /// # Errors
    /// Lengths that do not match, a row that is not finite or not of unit length, an unusable version name.
    pub fn new(
        model_version: impl Into<String>,
        dim: usize,
        vectors: Vec<f32>,
        ids: Vec<u64>,
        labels: Option<Vec<u32>>,
    ) -> Result<Self, EmbeddingsError> {
        let embeddings = Self::with_lengths(model_version.into(), dim, vectors, ids, labels)?;
        embeddings.check_unit_rows(false)?;
        Ok(embeddings)
    }

    /// As [`new`](Self::new), where a row of zeros stands for an input that has no embedding: for measurements, which count it as a miss.
    ///
    /// # Errors
    /// As [`new`](Self::new), but for rows of zeros.
    pub fn with_missing(
        model_version: impl Into<String>,
        dim: usize,
        vectors: Vec<f32>,
        ids: Vec<u64>,
        labels: Option<Vec<u32>>,
    ) -> Result<Self, EmbeddingsError> {
        let mut embeddings = Self::with_lengths(model_version.into(), dim, vectors, ids, labels)?;
        embeddings.check_unit_rows(true)?;
        let rows = embeddings.vectors.chunks_exact(dim).enumerate();
        let missing = rows.filter(|(_, row)| is_missing(row));
        embeddings.missing = missing.map(|(row, _)| row).collect();
        Ok(embeddings)
    }

    /// Takes raw features and scales every row to unit length.
    ///
    /// **Shapes**: `features` is `[n, dim]`, row-major; `ids` and `labels` are `[n]`.
    ///
    /// # Errors
    /// Lengths that do not match, a row that is not finite or has length 0, an unusable version name.
    pub fn normalized(
        model_version: impl Into<String>,
        dim: usize,
        features: Vec<f32>,
        ids: Vec<u64>,
        labels: Option<Vec<u32>>,
    ) -> Result<Self, EmbeddingsError> {
        let mut embeddings = Self::with_lengths(model_version.into(), dim, features, ids, labels)?;
        similarity::normalize_rows(&mut embeddings.vectors, dim)?;
        Ok(embeddings)
    }

    /// The number of embeddings.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The length of each embedding.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// One embedding.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn row(&self, index: usize) -> &[f32] {
        &self.vectors[index * self.dim..][..self.dim]
    }

    /// All embeddings, `[n, d]` row-major.
    pub fn vectors(&self) -> &[f32] {
        &self.vectors
    }

    /// The caller's id of each embedding.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// The class label of each embedding, where known.
    pub fn labels(&self) -> Option<&[u32]> {
        self.labels.as_deref()
    }

    /// Positions of the inputs without an embedding, ascending: their rows are zeros. Empty unless the set was made by
    /// [`with_missing`](Self::with_missing).
    pub fn missing(&self) -> &[usize] {
        &self.missing
    }

    /// The name of the model version that produced the embeddings.
    pub fn model_version(&self) -> &str {
        &self.model_version
    }

    fn with_lengths(
        model_version: String,
        dim: usize,
        vectors: Vec<f32>,
        ids: Vec<u64>,
        labels: Option<Vec<u32>>,
    ) -> Result<Self, EmbeddingsError> {
        if dim == 0 {
            return Err(EmbeddingsError::ZeroDim);
        }
        check_name(&model_version)?;
        let count = ids.len();
        check_length(
            "values for the ids given",
            count.saturating_mul(dim),
            vectors.len(),
        )?;
        if let Some(labels) = &labels {
            check_length("labels for the ids given", count, labels.len())?;
        }
        Ok(Self {
            model_version,
            dim,
            vectors,
            ids,
            labels,
            missing: Vec::new(),
        })
    }

    fn check_unit_rows(&self, may_be_missing: bool) -> Result<(), EmbeddingsError> {
        let lowest = self
            .vectors
            .par_chunks_exact(self.dim)
            .enumerate()
            .with_min_len(64)
            .filter(|(_, vector)| !(may_be_missing && is_missing(vector)))
            .map(|(row, vector)| (row, similarity::norm(vector)))
            .filter(|(_, norm)| !norm.is_finite() || (norm - 1.0).abs() > UNIT_TOLERANCE)
            .min_by_key(|(row, _)| *row);
        match lowest {
            None => Ok(()),
            Some((row, norm)) if norm.is_finite() => Err(EmbeddingsError::NotUnit { row, norm }),
            Some((row, _)) => Err(SimilarityError::NonFinite { row }.into()),
        }
    }
}

fn is_missing(row: &[f32]) -> bool {
    row.iter().all(|&value| value == 0.0)
}

fn check_length(what: &'static str, expected: usize, actual: usize) -> Result<(), EmbeddingsError> {
    if expected == actual {
        return Ok(());
    }
    Err(EmbeddingsError::Length {
        what,
        expected,
        actual,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accessors_return_what_went_in() {
        let vectors = vec![0.6, 0.8, 0.0, -1.0];
        let set = Embeddings::new(
            "v0001",
            2,
            vectors.clone(),
            vec![7, u64::MAX],
            Some(vec![3, 4]),
        )
        .unwrap();
        assert_eq!((set.len(), set.dim(), set.is_empty()), (2, 2, false));
        assert_eq!(
            (set.row(1), set.vectors()),
            (&[0.0, -1.0][..], &vectors[..])
        );
        assert_eq!(
            (set.ids(), set.labels()),
            (&[7, u64::MAX][..], Some(&[3, 4][..]))
        );
        assert_eq!(set.model_version(), "v0001");
    }

    #[test]
    fn mismatched_lengths_are_refused() {
        let error = Embeddings::new("v", 2, vec![1.0, 0.0, 1.0], vec![1], None).unwrap_err();
        assert!(
            matches!(
                error,
                EmbeddingsError::Length {
                    expected: 2,
                    actual: 3,
                    ..
                }
            ),
            "{error}"
        );
        let error = Embeddings::new("v", 1, vec![1.0], vec![1], Some(vec![])).unwrap_err();
        assert!(
            matches!(
                error,
                EmbeddingsError::Length {
                    expected: 1,
                    actual: 0,
                    ..
                }
            ),
            "{error}"
        );
        let error = Embeddings::new("v", 0, vec![], vec![], None).unwrap_err();
        assert!(matches!(error, EmbeddingsError::ZeroDim));
        let error = Embeddings::new("v", usize::MAX, vec![1.0], vec![1, 2], None).unwrap_err();
        assert!(matches!(error, EmbeddingsError::Length { .. }), "{error}");
    }

    #[test]
    fn rows_off_the_unit_sphere_are_named() {
        let check = |second: f32| Embeddings::new("v", 1, vec![1.0, second], vec![1, 2], None);
        assert!(check(-1.0009).is_ok());
        assert!(matches!(
            check(1.002),
            Err(EmbeddingsError::NotUnit { row: 1, .. })
        ));
        for broken in [f32::NAN, f32::INFINITY] {
            let expected = SimilarityError::NonFinite { row: 1 };
            assert!(matches!(check(broken), Err(EmbeddingsError::Similarity(e)) if e == expected));
        }
    }

    #[test]
    fn rows_of_zeros_are_inputs_without_an_embedding_where_they_may_be() {
        let rows = vec![0.6, 0.8, 0.0, -0.0, -1.0, 0.0, 0.0, 0.0];
        let set = Embeddings::with_missing("v", 2, rows.clone(), vec![1, 2, 3, 4], None).unwrap();
        assert_eq!((set.missing(), set.vectors()), (&[1, 3][..], &rows[..]));
        let error = Embeddings::new("v", 2, rows, vec![1, 2, 3, 4], None).unwrap_err();
        assert!(matches!(error, EmbeddingsError::NotUnit { row: 1, .. }));
        for broken in [f32::NAN, 0.5] {
            let rows = vec![0.0, 0.0, broken, 0.0];
            assert!(Embeddings::with_missing("v", 2, rows, vec![1, 2], None).is_err());
        }
        let whole = Embeddings::with_missing("v", 1, vec![1.0], vec![1], None).unwrap();
        assert_eq!(
            whole,
            Embeddings::new("v", 1, vec![1.0], vec![1], None).unwrap()
        );
    }

    #[test]
    fn features_are_normalised() {
        let set =
            Embeddings::normalized("v", 2, vec![3.0, 4.0, 0.0, -0.1], vec![1, 2], None).unwrap();
        assert_eq!(set.vectors(), [0.6, 0.8, 0.0, -1.0]);
        let error =
            Embeddings::normalized("v", 2, vec![3.0, 4.0, 0.0, 0.0], vec![1, 2], None).unwrap_err();
        assert!(error.to_string().starts_with("row 1 "), "{error}");
    }

    #[test]
    fn version_names_must_be_printable() {
        for name in ["", "a\nb"] {
            let error = Embeddings::new(name, 1, vec![], vec![], None).unwrap_err();
            assert!(matches!(error, EmbeddingsError::VersionName(_)), "{name:?}");
        }
    }
}

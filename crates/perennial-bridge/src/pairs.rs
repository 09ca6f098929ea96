//! What a bridge is fitted on.

use perennial_core::SimilarityError;
use rayon::prelude::*;

use crate::error::{BridgeError, Side};

/// The same inputs, embedded by both encoders: row `i` of one side belongs to row `i` of the other.
#[derive(Debug, Clone, Copy)]
pub struct Pairs<'a> {
    from: &'a [f32],
    from_dim: usize,
    to: &'a [f32],
    to_dim: usize,
}

impl<'a> Pairs<'a> {
    /// Checks the rows. They may have any length above 0.
    ///
    /// **Shapes**: `from` `[n, from_dim]`, `to` `[n, to_dim]`.
    ///
    /// # Errors
    /// No rows, different numbers of rows, an incomplete row, or a row that is not finite or has length 0: the first such row of `from`,
    /// then of `to`.
    pub fn new(
        from: &'a [f32],
        from_dim: usize,
        to: &'a [f32],
        to_dim: usize,
    ) -> Result<Self, BridgeError> {
        let counts = [(Side::From, from, from_dim), (Side::To, to, to_dim)]
            .map(|(side, rows, dim)| whole_rows(side, rows, dim));
        let [from_rows, to_rows] = counts;
        let (from_rows, to_rows) = (from_rows?, to_rows?);
        if from_rows != to_rows {
            return Err(BridgeError::RowCounts {
                from: from_rows,
                to: to_rows,
            });
        }
        if from_rows == 0 {
            return Err(BridgeError::NoPairs);
        }
        check_rows(Side::From, from, from_dim)?;
        check_rows(Side::To, to, to_dim)?;
        Ok(Self {
            from,
            from_dim,
            to,
            to_dim,
        })
    }

    /// The number of pairs, at least 1.
    pub fn count(&self) -> usize {
        self.from.len() / self.from_dim
    }

    /// The embeddings of the source, `[n, from_dim]`.
    pub fn from(&self) -> &'a [f32] {
        self.from
    }

    /// The embeddings of the target, `[n, to_dim]`.
    pub fn to(&self) -> &'a [f32] {
        self.to
    }

    /// The dimension of the source.
    pub fn from_dim(&self) -> usize {
        self.from_dim
    }

    /// The dimension of the target.
    pub fn to_dim(&self) -> usize {
        self.to_dim
    }
}

/// Embeddings of one side with a label each, for a fit from labels alone.
#[derive(Debug, Clone, Copy)]
pub struct Labelled<'a> {
    /// `[n, dim]`, of any length above 0.
    pub rows: &'a [f32],
    /// Values per row.
    pub dim: usize,
    /// `[n]`; the labels of both sides mean the same classes.
    pub labels: &'a [u32],
}

impl Labelled<'_> {
    pub(crate) fn check(&self, side: Side) -> Result<(), BridgeError> {
        let rows = whole_rows(side, self.rows, self.dim)?;
        if rows != self.labels.len() {
            return Err(BridgeError::LabelCount {
                side,
                rows,
                labels: self.labels.len(),
            });
        }
        check_rows(side, self.rows, self.dim)
    }
}

/// The number of rows.
pub(crate) fn whole_rows(side: Side, rows: &[f32], dim: usize) -> Result<usize, BridgeError> {
    if dim == 0 || !rows.len().is_multiple_of(dim) {
        let length = rows.len();
        return Err(BridgeError::Rows {
            side,
            source: SimilarityError::PartialRow { length, dim },
        });
    }
    Ok(rows.len() / dim)
}

fn check_rows(side: Side, rows: &[f32], dim: usize) -> Result<(), BridgeError> {
    let lowest = rows
        .par_chunks_exact(dim)
        .enumerate()
        .with_min_len(64)
        .filter_map(|(row, vector)| {
            let (mut zero, mut finite) = (true, true);
            for value in vector {
                zero &= *value == 0.0;
                finite &= value.is_finite();
            }
            match (finite, zero) {
                (false, _) => Some(SimilarityError::NonFinite { row }),
                (_, true) => Some(SimilarityError::Zero { row }),
                _ => None,
            }
            .map(|error| (row, error))
        })
        .min_by_key(|(row, _)| *row);
    lowest.map_or(Ok(()), |(_, source)| {
        Err(BridgeError::Rows { side, source })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(from: &[f32], to: &[f32]) -> String {
        Pairs::new(from, 2, to, 3).unwrap_err().to_string()
    }

    #[test]
    fn the_side_and_the_row_of_a_bad_row_are_named() {
        let (from, to) = ([1.0; 6], [1.0; 9]);
        assert_eq!(Pairs::new(&from, 2, &to, 3).unwrap().count(), 3);
        let mut bad = to;
        bad[7] = f32::NAN;
        let message = problem(&from, &bad);
        assert!(
            message.contains("`to`") && message.contains("row 2"),
            "{message}"
        );
        let mut bad = from;
        bad[2..4].fill(0.0);
        let message = problem(&bad, &to);
        assert!(
            message.contains("`from`") && message.contains("row 1"),
            "{message}"
        );
    }

    #[test]
    fn rows_must_be_whole_and_as_many_on_both_sides() {
        assert!(problem(&[1.0; 5], &[1.0; 9]).contains("5 values"));
        assert!(problem(&[1.0; 4], &[1.0; 9]).contains("2 rows of `from`"));
        assert!(problem(&[], &[]).contains("no pairs"));
        assert!(Pairs::new(&[], 0, &[], 0).is_err());
    }
}

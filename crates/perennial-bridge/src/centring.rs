//! Unit length and centring.
//!
//! The mean of unit vectors is a direction that all of them share and that says nothing about any of them. Without it, cosines spread over
//! the whole range, and a map has to match what differs between items only.

use perennial_core::SimilarityError;
use rayon::prelude::*;

use crate::error::{BridgeError, Side};

/// Rows per partial sum; fixed, so that a mean does not depend on the number of threads.
const CHUNK_ROWS: usize = 512;

/// The mean of the rows' unit vectors, in f64. The rows are finite and have a direction.
pub(crate) fn mean_of_units(rows: &[f32], dim: usize) -> Vec<f64> {
    let sums: Vec<Vec<f64>> = rows
        .par_chunks(CHUNK_ROWS * dim)
        .map(|chunk| {
            let mut sum = vec![0.0; dim];
            for row in chunk.chunks_exact(dim) {
                let length = length(row);
                for (sum, value) in sum.iter_mut().zip(row) {
                    *sum += f64::from(*value) / length;
                }
            }
            sum
        })
        .collect();
    let count = (rows.len() / dim) as f64;
    let mut mean = vec![0.0; dim];
    for sum in sums {
        for (mean, sum) in mean.iter_mut().zip(sum) {
            *mean += sum / count;
        }
    }
    mean
}

/// The centring of one space: a row becomes `unit(unit(x) - mean)`, where the mean is that of unit rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Centring {
    mean: Vec<f32>,
}

impl Centring {
    /// The mean of the unit vectors of `rows`.
    ///
    /// **Shapes**: `rows` is `[n, dim]`, row-major, and need not be normalised.
    ///
    /// # Errors
    /// No rows, and the first row without a direction.
    pub fn fit(rows: &[f32], dim: usize) -> Result<Self, BridgeError> {
        let mut units = rows.to_vec();
        perennial_core::normalize_rows(&mut units, dim).map_err(|source| BridgeError::Rows {
            side: Side::From,
            source,
        })?;
        if units.is_empty() {
            return Err(BridgeError::NoPairs);
        }
        let mean = mean_of_units(&units, dim);
        Self::new(mean.iter().map(|value| *value as f32).collect())
    }

    /// From a mean that was kept.
    ///
    /// **Shapes**: `mean` is `[dim]`.
    ///
    /// # Errors
    /// A mean with a value that is not finite, as row 0.
    pub fn new(mean: Vec<f32>) -> Result<Self, BridgeError> {
        if mean.iter().all(|value| value.is_finite()) {
            return Ok(Self { mean });
        }
        Err(BridgeError::Rows {
            side: Side::From,
            source: SimilarityError::NonFinite { row: 0 },
        })
    }

    /// The mean, `[dim]`.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Centres rows in place.
    ///
    /// **Shapes**: `rows` is `[n, dim]`, row-major.
    ///
    /// # Errors
    /// The first row without a direction, before or after the mean is subtracted, and values that are no whole rows.
    pub fn apply(&self, rows: &mut [f32]) -> Result<(), BridgeError> {
        let dim = self.mean.len();
        if dim == 0 || !rows.len().is_multiple_of(dim) {
            return Err(BridgeError::Rows {
                side: Side::From,
                source: SimilarityError::PartialRow {
                    length: rows.len(),
                    dim,
                },
            });
        }
        rows.chunks_exact_mut(dim)
            .enumerate()
            .try_for_each(|(row, values)| centre_row(Side::From, row, values, Some(&self.mean)))
    }
}

/// Rows of one side of a fit, each `unit(unit(x) - mean)`, or `unit(x)` without a mean.
#[derive(Clone, Copy)]
pub(crate) struct CentredRows<'a> {
    pub(crate) side: Side,
    pub(crate) rows: &'a [f32],
    pub(crate) dim: usize,
    pub(crate) mean: Option<&'a [f64]>,
}

impl CentredRows<'_> {
    /// Fills `values` with `count` rows from row `first` on.
    pub(crate) fn fill(
        &self,
        first: usize,
        count: usize,
        values: &mut Vec<f64>,
    ) -> Result<(), BridgeError> {
        let dim = self.dim;
        values.resize(count * dim, 0.0);
        let rows = &self.rows[first * dim..][..count * dim];
        let lowest = values
            .par_chunks_exact_mut(dim)
            .zip(rows.par_chunks_exact(dim))
            .enumerate()
            .with_min_len(32)
            .filter_map(|(row, (target, source))| {
                (!centre_f64(source, self.mean, target)).then_some(first + row)
            })
            .min();
        match lowest {
            None => Ok(()),
            Some(row) => Err(BridgeError::NoDirection {
                side: self.side,
                row,
            }),
        }
    }
}

/// False if nothing but rounding is left of the row.
fn centre_f64(row: &[f32], mean: Option<&[f64]>, target: &mut [f64]) -> bool {
    let length = length(row);
    for (target, value) in target.iter_mut().zip(row) {
        *target = f64::from(*value) / length;
    }
    let Some(mean) = mean else { return true };
    for (target, mean) in target.iter_mut().zip(mean) {
        *target -= mean;
    }
    let length = target.iter().map(|value| value * value).sum::<f64>().sqrt();
    for target in target.iter_mut() {
        *target /= length;
    }
    length > RESIDUE
}

/// What rounding to f32 leaves of a unit vector minus itself.
const RESIDUE: f64 = 1e-6;

/// Scales a row to unit length, and with a mean to `unit(unit(x) - mean)`. `row` is its number in errors.
pub(crate) fn centre_row(
    side: Side,
    row: usize,
    values: &mut [f32],
    mean: Option<&[f32]>,
) -> Result<(), BridgeError> {
    unit_row(side, row, values)?;
    match mean {
        None => Ok(()),
        Some(mean) => subtract_row(side, row, values, mean),
    }
}

/// `unit(x - mean)` of a row of unit length.
pub(crate) fn subtract_row(
    side: Side,
    row: usize,
    values: &mut [f32],
    mean: &[f32],
) -> Result<(), BridgeError> {
    for (value, mean) in values.iter_mut().zip(mean) {
        *value -= mean;
    }
    if length(values) <= RESIDUE {
        return Err(BridgeError::NoDirection { side, row });
    }
    unit_row(side, row, values)
}

pub(crate) fn unit_row(side: Side, row: usize, values: &mut [f32]) -> Result<(), BridgeError> {
    perennial_core::normalize_in_place(values).map_err(|source| BridgeError::Rows {
        side,
        source: match source {
            SimilarityError::Zero { .. } => SimilarityError::Zero { row },
            SimilarityError::NonFinite { .. } => SimilarityError::NonFinite { row },
            other => other,
        },
    })
}

/// Euclidean length in f64, with a sum whose order depends on the number of values only.
fn length(row: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let (blocks, rest) = row.as_chunks::<8>();
    for block in blocks {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane += f64::from(*value) * f64::from(*value);
        }
    }
    let rest: f64 = rest
        .iter()
        .map(|&value| f64::from(value) * f64::from(value))
        .sum();
    (lanes.iter().sum::<f64>() + rest).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centred_rows_are_units_without_the_mean() {
        let rows = [3.0, 0.0, 0.0, 0.5];
        let mean = mean_of_units(&rows, 2);
        assert_eq!(mean, [0.5, 0.5]);
        let mut row = [3.0, 0.0];
        centre_row(Side::From, 0, &mut row, Some(&[0.5, 0.5])).unwrap();
        let half = 0.5f32.sqrt();
        assert!((row[0] - half).abs() < 1e-6 && (row[1] + half).abs() < 1e-6);
        let centred = CentredRows {
            side: Side::From,
            rows: &rows,
            dim: 2,
            mean: Some(&mean),
        };
        let mut values = Vec::new();
        centred.fill(0, 1, &mut values).unwrap();
        assert!((values[0] - f64::from(row[0])).abs() < 1e-6);
    }

    #[test]
    fn a_kept_mean_centres_as_a_fit_does() {
        let rows = [3.0, 0.0, 0.0, 0.5, 1.0, 1.0];
        let centring = Centring::fit(&rows, 2).unwrap();
        let mean = mean_of_units(&rows, 2);
        let mut found = rows;
        centring.apply(&mut found).unwrap();
        let centred = CentredRows {
            side: Side::From,
            rows: &rows,
            dim: 2,
            mean: Some(&mean),
        };
        let mut expected = Vec::new();
        centred.fill(0, 3, &mut expected).unwrap();
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-6);
        }
        assert_eq!(Centring::new(centring.mean().to_vec()).unwrap(), centring);
        assert!(Centring::fit(&[], 2).is_err());
        assert!(Centring::new(vec![f32::NAN]).is_err());
        assert!(centring.apply(&mut [1.0]).is_err());
        assert!(centring.apply(&mut [1.0, 1.0, 0.0, 0.0]).is_err());
    }

    #[test]
    fn a_row_that_is_the_mean_is_named() {
        let rows = [1.0, 2.0, 2.0, 4.0];
        let mean = mean_of_units(&rows, 2);
        let centred = CentredRows {
            side: Side::To,
            rows: &rows,
            dim: 2,
            mean: Some(&mean),
        };
        let error = centred.fill(0, 2, &mut Vec::new()).unwrap_err();
        assert!(matches!(
            error,
            BridgeError::NoDirection {
                side: Side::To,
                row: 0
            }
        ));
    }
}

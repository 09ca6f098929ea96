//! Small passes over values: transposition, sums, scaling.

use perennial_core::instructions::arch;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::buffers;

/// Rows of the result that one task of a transposition writes, and so values that it reads at a time.
const STRIP: usize = 16;

/// Values that one task adds.
const BLOCK: usize = 1 << 14;

/// The transposed matrix. It brings images `[batch, channels, height, width]`, as a matrix `[batch * channels, height * width]`, into
/// the kernels' layout.
///
/// # Shapes
///
/// - values: `[rows, columns]`
/// - result: `[columns, rows]`
pub fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    assert_eq!(values.len(), rows * columns, "values are whole rows");
    let mut result = buffers::buffer(values.len());
    if values.is_empty() {
        return result;
    }
    result
        .par_chunks_mut(STRIP * rows)
        .enumerate()
        .for_each(|(strip, result)| {
            let first = strip * STRIP;
            let width = result.len() / rows;
            for (row, values) in values.chunks_exact(columns).enumerate() {
                for (at, value) in values[first..first + width].iter().enumerate() {
                    result[at * rows + row] = *value;
                }
            }
        });
    result
}

/// Adds values one by one.
///
/// # Shapes
///
/// - values (changed), others: the same number
pub fn add(values: &mut [f32], others: &[f32]) {
    assert_eq!(values.len(), others.len(), "as many values");
    values
        .par_chunks_mut(BLOCK)
        .zip(others.par_chunks(BLOCK))
        .for_each(|(values, row)| arch().dispatch(Add { values, row }));
}

/// Adds one row to every row.
///
/// # Shapes
///
/// - values (changed): `[rows, columns]`, row: `[columns]`
pub fn add_row(values: &mut [f32], row: &[f32]) {
    assert!(
        values.len().is_multiple_of(row.len().max(1)),
        "values are whole rows"
    );
    for values in values.chunks_exact_mut(row.len().max(1)) {
        arch().dispatch(Add { values, row });
    }
}

/// `values += row`.
struct Add<'a> {
    values: &'a mut [f32],
    row: &'a [f32],
}

impl WithSimd for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (value, row) in self.values.iter_mut().zip(self.row) {
            *value += row;
        }
    }
}

/// Multiplies every value by the factor.
pub fn scale(values: &mut [f32], factor: f32) {
    arch().dispatch(Scale { values, factor });
}

struct Scale<'a> {
    values: &'a mut [f32],
    factor: f32,
}

impl WithSimd for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for value in self.values.iter_mut() {
            *value *= self.factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_value_moves_to_its_mirrored_place(rows in 0usize..40, columns in 0usize..70) {
            let values: Vec<f32> = (0..rows * columns).map(|at| at as f32).collect();
            let found = transpose(&values, rows, columns);
            for row in 0..rows {
                for column in 0..columns {
                    prop_assert_eq!(found[column * rows + row], values[row * columns + column]);
                }
            }
            prop_assert_eq!(transpose(&found, columns, rows), values);
        }
    }

    #[test]
    fn rows_are_added_and_summed() {
        let mut values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        add_row(&mut values, &[10.0, 20.0]);
        assert_eq!(values, [11.0, 22.0, 13.0, 24.0, 15.0, 26.0]);
        add(&mut values, &[-1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
        assert_eq!(values, [10.0, 22.0, 14.0, 24.0, 16.0, 26.0]);
        scale(&mut values, 0.5);
        assert_eq!(values, [5.0, 11.0, 7.0, 12.0, 8.0, 13.0]);
    }
}

//! Cosine similarity of vectors: unit length first, then a dot product.

use rayon::prelude::*;
use thiserror::Error;

/// Independent partial sums, so that the compiler may keep them in one vector register.
const LANES: usize = 8;

/// A vector whose direction is undefined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SimilarityError {
    /// The row holds a NaN or an infinity.
    #[error(
        "row {row} holds a value that is not finite; check the model and its input for NaN or overflow"
    )]
    NonFinite {
        /// Position of the row, from 0.
        row: usize,
    },
    /// Every entry of the row is 0.
    #[error("row {row} has length 0 and no direction; drop it or check the model that produced it")]
    Zero {
        /// Position of the row, from 0.
        row: usize,
    },
    /// The data cannot be split into rows.
    #[error("{length} values cannot be split into rows of {dim}")]
    PartialRow {
        /// Values given.
        length: usize,
        /// Values per row.
        dim: usize,
    },
}

/// The dot product of two vectors: their cosine similarity, in [-1, 1], when both have unit length.
///
/// **Shapes**: both `[d]`.
///
/// # Panics
/// When the lengths differ.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(
        a.len(),
        b.len(),
        "dot product of vectors of different length"
    );
    let mut lanes = [0.0f32; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    lanes.iter().sum::<f32>() + rest
}

/// The dot products of every query with every row, on the calling thread.
///
/// **Shapes**: `queries` `[n, dim]`, `rows` `[m, dim]`, `products` `[n, m]`; `dim` above 0.
///
/// # Panics
/// When the slices do not have these shapes.
pub fn dot_products(queries: &[f32], rows: &[f32], dim: usize, products: &mut [f32]) {
    let (query_count, row_count) = (queries.len() / dim, rows.len() / dim);
    assert_eq!(queries.len(), query_count * dim);
    assert_eq!(rows.len(), row_count * dim);
    assert_eq!(products.len(), query_count * row_count);
    // SAFETY: the three assertions bound every element that the strides reach (all strides are positive, the largest offset is
    // the last element of its slice), slices are shorter than isize::MAX, and `products` is borrowed mutably, so it overlaps
    // neither.
    unsafe {
        gemm::gemm(
            row_count,
            query_count,
            dim,
            products.as_mut_ptr(),
            row_count as isize,
            1,
            false,
            rows.as_ptr(),
            1,
            dim as isize,
            queries.as_ptr(),
            dim as isize,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Scales one vector to unit length.
///
/// **Shapes**: `[d]`.
///
/// # Errors
/// A vector of length 0 or with a value that is not finite; it is left as it was, and the error names row 0.
pub fn normalize_in_place(vector: &mut [f32]) -> Result<(), SimilarityError> {
    normalize_row(0, vector)
}

/// Scales every row to unit length, in parallel.
///
/// **Shapes**: `rows` is `[n, dim]`, row-major.
///
/// # Errors
/// The lowest row of length 0 or with a value that is not finite, or values that cannot be split into rows. Rows
/// named by no error may already be scaled.
pub fn normalize_rows(rows: &mut [f32], dim: usize) -> Result<(), SimilarityError> {
    if dim == 0 || !rows.len().is_multiple_of(dim) {
        return Err(SimilarityError::PartialRow {
            length: rows.len(),
            dim,
        });
    }
    let lowest = rows
        .par_chunks_exact_mut(dim)
        .enumerate()
        .with_min_len(64)
        .filter_map(|(row, vector)| Some((row, normalize_row(row, vector).err()?)))
        .min_by_key(|(row, _)| *row);
    lowest.map_or(Ok(()), |(_, error)| Err(error))
}

fn normalize_row(row: usize, vector: &mut [f32]) -> Result<(), SimilarityError> {
    let norm = norm(vector);
    if !norm.is_finite() {
        return Err(SimilarityError::NonFinite { row });
    }
    if norm == 0.0 {
        return Err(SimilarityError::Zero { row });
    }
    for value in vector {
        // The division stays in f64: the reciprocal of a very short vector's norm exceeds f32.
        *value = (f64::from(*value) / norm) as f32;
    }
    Ok(())
}

/// Euclidean length in f64, which no finite f32 vector overflows; not finite if any entry is not.
pub(crate) fn norm(vector: &[f32]) -> f64 {
    sum(vector, |value| value * value).sqrt()
}

/// The sum of `term` over all values, in f64 and in an order that depends on the length only.
pub(crate) fn sum(values: &[f32], term: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0f64; LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] += term(f64::from(block[lane]));
        }
    }
    let rest: f64 = rest.iter().map(|&value| term(f64::from(value))).sum();
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dot_covers_blocks_and_rest() {
        for length in [0, 1, 7, 8, 9, 31] {
            let a: Vec<f32> = (0..length).map(|i| i as f32).collect();
            let expected: f32 = a.iter().map(|x| 2.0 * x).sum();
            assert_eq!(dot(&a, &vec![2.0; length]), expected);
        }
    }

    #[test]
    fn products_of_all_pairs_are_those_of_each() {
        // Small integers, so that every order of addition gives the same sum.
        let values = |count: usize, step: usize| -> Vec<f32> {
            (0..count).map(|i| (i * step % 7) as f32 - 3.0).collect()
        };
        for (queries, rows, dim) in [(1, 1, 1), (3, 5, 9), (0, 2, 4), (2, 0, 4)] {
            let (a, b) = (values(queries * dim, 3), values(rows * dim, 5));
            let mut products = vec![f32::NAN; queries * rows];
            dot_products(&a, &b, dim, &mut products);
            let pairs = a
                .chunks(dim)
                .flat_map(|query| b.chunks(dim).map(move |row| dot(query, row)));
            assert!(products.into_iter().eq(pairs));
        }
    }

    #[test]
    #[should_panic(expected = "assertion")]
    fn products_of_other_shapes_are_refused() {
        dot_products(&[1.0; 6], &[1.0; 6], 3, &mut [0.0; 3]);
    }

    #[test]
    fn extreme_vectors_are_normalised() {
        for scale in [f32::MAX, f32::MIN_POSITIVE, 1e-45] {
            let mut vector = [scale, 0.0, -scale];
            normalize_in_place(&mut vector).unwrap();
            assert!((norm(&vector) - 1.0).abs() < 1e-6, "{scale}: {vector:?}");
        }
    }

    #[test]
    fn the_lowest_broken_row_is_named() {
        let mut rows = vec![1.0; 1000 * 3];
        rows[700 * 3 + 1] = f32::NAN;
        rows[400 * 3] = f32::INFINITY;
        rows[900 * 3..901 * 3].fill(0.0);
        assert_eq!(
            normalize_rows(&mut rows.clone(), 3),
            Err(SimilarityError::NonFinite { row: 400 })
        );
        rows[400 * 3] = 1.0;
        rows[700 * 3 + 1] = 1.0;
        assert_eq!(
            normalize_rows(&mut rows, 3),
            Err(SimilarityError::Zero { row: 900 })
        );
    }

    #[test]
    fn a_broken_vector_is_left_as_it_was() {
        let mut vector = [3.0, f32::INFINITY];
        assert!(normalize_in_place(&mut vector).is_err());
        assert_eq!(vector, [3.0, f32::INFINITY]);
    }

    #[test]
    fn partial_rows_are_refused() {
        for dim in [0, 4] {
            let error = normalize_rows(&mut [1.0; 7], dim).unwrap_err();
            assert_eq!(error, SimilarityError::PartialRow { length: 7, dim });
        }
        assert_eq!(normalize_rows(&mut [], 4), Ok(()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn rows_keep_their_direction(vector in prop::collection::vec(-1e3f32..1e3, 1..40)) {
            prop_assume!(vector.iter().any(|value| value.abs() > 1e-3));
            let mut unit = vector.clone();
            normalize_in_place(&mut unit).unwrap();
            prop_assert!((norm(&unit) - 1.0).abs() < 1e-6);
            let length = norm(&vector);
            prop_assert!((f64::from(dot(&unit, &vector)) / length - 1.0).abs() < 1e-5);
        }

        #[test]
        fn dot_agrees_with_f64(
            pairs in prop::collection::vec((-1.0f32..1.0, -1.0f32..1.0), 0..100),
        ) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let exact: f64 = a.iter().zip(&b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
            prop_assert!((f64::from(dot(&a, &b)) - exact).abs() < 1e-5);
        }
    }
}

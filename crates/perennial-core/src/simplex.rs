//! Class prototypes at the vertices of a regular simplex, in closed form.
//!
//! `K` unit vectors in `d = K - 1` dimensions with pairwise cosine `-1/d`. In the canonical orientation every row but
//! the last is `diagonal * e_i + offset * 1` and the last is `last * 1`, so logits, gradient and nearest vertex cost
//! O(K) per sample and the `K x d` matrix is never stored.
//!
//! **Source**: arXiv 2405.02581, the d-Simplex fixed classifier.

use rayon::prelude::*;
use thiserror::Error;

use crate::similarity::sum;

/// Enough for any set of classes, and small enough to bound the memory that a hostile model file can request.
pub const MAX_VERTICES: usize = 1 << 24;

/// Rows handled by one parallel job, so that a training batch is not split into jobs shorter than their overhead.
const ROWS_PER_JOB: usize = 64;

/// A simplex that cannot exist, or classes that do not fit on it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SimplexError {
    /// Two vertices are the fewest that tell classes apart.
    #[error("a simplex needs at least 2 vertices, got {vertices}")]
    TooFewVertices {
        /// Vertices asked for.
        vertices: usize,
    },
    /// More vertices than [`MAX_VERTICES`].
    #[error("a simplex of {vertices} vertices exceeds the limit of {MAX_VERTICES}")]
    TooManyVertices {
        /// Vertices asked for.
        vertices: usize,
    },
    /// Pre-trained and local classes claim the same vertices, or more than there are.
    #[error(
        "{pretrained} pre-trained classes take vertices {} and {local} local classes take vertices {}, which collide \
         on a simplex of {vertices}; pre-train with at least {} vertices, or use fewer classes",
        front_range(*pretrained),
        back_range(*vertices, *local),
        pretrained.saturating_add(*local)
    )]
    Collision {
        /// Vertices of the simplex.
        vertices: usize,
        /// Pre-trained classes, placed from the front.
        pretrained: usize,
        /// Local classes, placed from the back.
        local: usize,
    },
}

fn front_range(classes: usize) -> String {
    format!("0..{classes}")
}

fn back_range(vertices: usize, classes: usize) -> String {
    match vertices.checked_sub(classes) {
        Some(first) => format!("{first}..{vertices}"),
        None => format!("0..{vertices} and {} more", classes - vertices),
    }
}

/// The three numbers that describe all prototypes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coefficients {
    /// Added to entry `i` of row `i`, for every row but the last.
    pub diagonal: f64,
    /// Every entry of every row but the last.
    pub offset: f64,
    /// Every entry of the last row.
    pub last: f64,
}

/// A regular simplex of `K` unit-length prototypes in `K - 1` dimensions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Simplex {
    vertices: usize,
    coefficients: Coefficients,
}

impl Simplex {
    /// The simplex of `vertices` prototypes, in `vertices - 1` dimensions.
    ///
    /// # Errors
    /// Fewer than 2 or more than [`MAX_VERTICES`] vertices.
    pub fn new(vertices: usize) -> Result<Self, SimplexError> {
        if vertices < 2 {
            return Err(SimplexError::TooFewVertices { vertices });
        }
        if vertices > MAX_VERTICES {
            return Err(SimplexError::TooManyVertices { vertices });
        }
        let d = (vertices - 1) as f64;
        // Centring leaves every vertex at distance sqrt(d / (d + 1)), and the centred rows sum to 0 in each dimension.
        let diagonal = ((d + 1.0) / d).sqrt();
        let last = -d.sqrt().recip();
        let offset = -(diagonal + last) / d;
        Ok(Self {
            vertices,
            coefficients: Coefficients {
                diagonal,
                offset,
                last,
            },
        })
    }

    /// The number of prototypes, `K`.
    pub fn vertices(&self) -> usize {
        self.vertices
    }

    /// The dimension of the features, `d = K - 1`.
    pub fn dim(&self) -> usize {
        self.vertices - 1
    }

    /// The closed form of all prototypes.
    pub fn coefficients(&self) -> Coefficients {
        self.coefficients
    }

    /// One prototype as a vector of length [`dim`](Self::dim).
    ///
    /// # Panics
    /// When `vertex` is not below [`vertices`](Self::vertices).
    pub fn prototype(&self, vertex: usize) -> Vec<f32> {
        assert!(
            vertex < self.vertices,
            "vertex {vertex} of a simplex of {}",
            self.vertices
        );
        let Coefficients {
            diagonal,
            offset,
            last,
        } = self.coefficients;
        if vertex == self.dim() {
            return vec![last as f32; self.dim()];
        }
        let mut prototype = vec![offset as f32; self.dim()];
        prototype[vertex] = (diagonal + offset) as f32;
        prototype
    }

    /// Logits: the dot product of every feature vector with every prototype. Features are used as they are, not
    /// normalised.
    ///
    /// **Shapes**: `features` is `[n, d]`, `out` is `[n, K]`, both row-major.
    ///
    /// # Panics
    /// When the lengths are not those of one batch.
    pub fn logits(&self, features: &[f32], out: &mut [f32]) {
        self.assert_batch(features.len(), out.len());
        let Coefficients {
            diagonal,
            offset,
            last,
        } = self.coefficients;
        features
            .par_chunks_exact(self.dim())
            .zip(out.par_chunks_exact_mut(self.vertices))
            .with_min_len(ROWS_PER_JOB)
            .for_each(|(feature, logits)| {
                let total = sum(feature, |value| value);
                let shared = offset * total;
                let (last_logit, logits) = split_last_mut(logits);
                for (logit, &value) in logits.iter_mut().zip(feature) {
                    *logit = (diagonal * f64::from(value) + shared) as f32;
                }
                *last_logit = (last * total) as f32;
            });
    }

    /// The gradient of a loss with respect to the features, given its gradient with respect to the logits. Overwrites
    /// `grad_features`.
    ///
    /// **Shapes**: `grad_logits` is `[n, K]`, `grad_features` is `[n, d]`, both row-major.
    ///
    /// # Panics
    /// When the lengths are not those of one batch.
    pub fn logits_backward(&self, grad_logits: &[f32], grad_features: &mut [f32]) {
        self.assert_batch(grad_features.len(), grad_logits.len());
        let Coefficients {
            diagonal,
            offset,
            last,
        } = self.coefficients;
        let d = self.dim();
        grad_logits
            .par_chunks_exact(self.vertices)
            .zip(grad_features.par_chunks_exact_mut(d))
            .with_min_len(ROWS_PER_JOB)
            .for_each(|(logits, features)| {
                let shared =
                    offset * sum(&logits[..d], |value| value) + last * f64::from(logits[d]);
                for (feature, &value) in features.iter_mut().zip(logits) {
                    *feature = (diagonal * f64::from(value) + shared) as f32;
                }
            });
    }

    /// The vertex with the largest logit for one feature vector; of equal ones the lowest. Prototypes have equal
    /// length, so this is also the vertex at the smallest angle. NaN entries are never the largest.
    ///
    /// **Shapes**: `feature` is `[d]`.
    ///
    /// # Panics
    /// When the feature does not have [`dim`](Self::dim) entries.
    pub fn nearest(&self, feature: &[f32]) -> usize {
        assert_eq!(feature.len(), self.dim(), "feature length");
        let Coefficients {
            diagonal,
            offset,
            last,
        } = self.coefficients;
        let (vertex, largest) =
            feature
                .iter()
                .enumerate()
                .fold((0, f32::NEG_INFINITY), |best, (index, &value)| {
                    if value > best.1 { (index, value) } else { best }
                });
        let total = sum(feature, |value| value);
        let is_last = last * total > diagonal * f64::from(largest) + offset * total;
        if is_last { self.dim() } else { vertex }
    }

    fn assert_batch(&self, features: usize, logits: usize) {
        let (d, k) = (self.dim(), self.vertices);
        assert!(
            features.is_multiple_of(d) && logits.is_multiple_of(k) && features / d == logits / k,
            "{features} features and {logits} logits are not one batch of [n, {d}] and [n, {k}]"
        );
    }
}

fn split_last_mut(row: &mut [f32]) -> (&mut f32, &mut [f32]) {
    row.split_last_mut()
        .expect("a row has one logit per vertex, and there are at least 2")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::similarity::dot;

    fn golden(key: &str) -> Vec<Vec<f64>> {
        let file: Value = serde_json::from_str(include_str!("../testdata/simplex.json")).unwrap();
        serde_json::from_value(file["prototypes"][key].clone()).unwrap()
    }

    fn golden_row(key: &str) -> Vec<f64> {
        let file: Value = serde_json::from_str(include_str!("../testdata/simplex.json")).unwrap();
        serde_json::from_value(file["prototypes"][key].clone()).unwrap()
    }

    /// Entry `column` of prototype `row` in f64.
    fn entry(simplex: &Simplex, row: usize, column: usize) -> f64 {
        let c = simplex.coefficients();
        if row == simplex.dim() {
            c.last
        } else {
            c.offset + if row == column { c.diagonal } else { 0.0 }
        }
    }

    #[test]
    fn coefficients_reproduce_the_golden_prototypes() {
        for vertices in [2, 3, 5, 11] {
            let simplex = Simplex::new(vertices).unwrap();
            for (row, golden) in golden(&vertices.to_string()).iter().enumerate() {
                assert_eq!(golden.len(), simplex.dim());
                for (column, golden) in golden.iter().enumerate() {
                    assert!((entry(&simplex, row, column) - golden).abs() < 1e-15);
                }
            }
        }
        let simplex = Simplex::new(100).unwrap();
        for (row, key) in [(0, "100_first_row_head"), (99, "100_last_row_head")] {
            for (column, golden) in golden_row(key).iter().enumerate() {
                assert!((entry(&simplex, row, column) - golden).abs() < 1e-15);
            }
        }
    }

    #[test]
    fn prototypes_have_unit_length_and_equal_angles() {
        for vertices in [2, 3, 11, 64] {
            let simplex = Simplex::new(vertices).unwrap();
            let prototypes: Vec<_> = (0..vertices)
                .map(|vertex| simplex.prototype(vertex))
                .collect();
            for (i, a) in prototypes.iter().enumerate() {
                for (j, b) in prototypes.iter().enumerate() {
                    let expected = if i == j {
                        1.0
                    } else {
                        -1.0 / simplex.dim() as f32
                    };
                    assert!(
                        (dot(a, b) - expected).abs() < 1e-6,
                        "K {vertices}, {i} and {j}"
                    );
                }
            }
        }
    }

    #[test]
    fn coefficients_stay_exact_for_many_vertices() {
        for vertices in [1024, 1_000_000, MAX_VERTICES] {
            let simplex = Simplex::new(vertices).unwrap();
            let c = simplex.coefficients();
            let d = simplex.dim() as f64;
            let unit = (c.diagonal + c.offset).powi(2) + (d - 1.0) * c.offset.powi(2);
            assert!((unit - 1.0).abs() < 1e-12);
            assert!((d * c.last.powi(2) - 1.0).abs() < 1e-12);
            let cosine = c.last * (c.diagonal + d * c.offset);
            assert!((cosine + 1.0 / d).abs() < 1e-12);
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        assert_eq!(
            Simplex::new(1),
            Err(SimplexError::TooFewVertices { vertices: 1 })
        );
        assert!(Simplex::new(0).is_err());
        assert!(Simplex::new(usize::MAX).is_err());
    }

    #[test]
    #[should_panic(expected = "not one batch")]
    fn logits_of_mismatched_buffers_panic() {
        Simplex::new(4).unwrap().logits(&[0.0; 6], &mut [0.0; 4]);
    }

    #[test]
    fn every_prototype_is_nearest_to_itself() {
        for vertices in [2, 3, 7] {
            let simplex = Simplex::new(vertices).unwrap();
            for vertex in 0..vertices {
                assert_eq!(simplex.nearest(&simplex.prototype(vertex)), vertex);
            }
            assert_eq!(simplex.nearest(&vec![f32::NAN; vertices - 1]), 0);
        }
    }

    /// A simplex and a batch of vectors of its dimension or its vertex count, long enough for several parallel jobs.
    fn batches() -> impl Strategy<Value = (Simplex, Vec<f32>, Vec<f32>)> {
        (2usize..24, 0usize..80).prop_flat_map(|(vertices, rows)| {
            let values = |count| prop::collection::vec(-4.0f32..4.0, count);
            let simplex = Simplex::new(vertices).unwrap();
            (
                Just(simplex),
                values(rows * (vertices - 1)),
                values(rows * vertices),
            )
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn closed_form_agrees_with_the_dense_product((simplex, features, grads) in batches()) {
            let (d, k) = (simplex.dim(), simplex.vertices());
            let mut logits = vec![f32::NAN; grads.len()];
            simplex.logits(&features, &mut logits);
            for (feature, logits) in features.chunks_exact(d).zip(logits.chunks_exact(k)) {
                let dense: Vec<f64> = (0..k)
                    .map(|v| (0..d).map(|i| entry(&simplex, v, i) * f64::from(feature[i])).sum())
                    .collect();
                for (logit, dense) in logits.iter().zip(&dense) {
                    prop_assert!((f64::from(*logit) - dense).abs() < 1e-5);
                }
                let largest = dense.iter().copied().fold(f64::MIN, f64::max);
                prop_assert!(largest - dense[simplex.nearest(feature)] < 1e-9);
            }

            let mut grad_features = vec![f32::NAN; features.len()];
            simplex.logits_backward(&grads, &mut grad_features);
            for (grad, grad_feature) in grads.chunks_exact(k).zip(grad_features.chunks_exact(d)) {
                for (i, value) in grad_feature.iter().enumerate() {
                    let dense: f64 = (0..k).map(|v| entry(&simplex, v, i) * f64::from(grad[v])).sum();
                    prop_assert!((f64::from(*value) - dense).abs() < 1e-5);
                }
            }
        }
    }
}

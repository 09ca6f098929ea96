//! A bridge and a linear layer: a layer as a bridge, and folding a bridge into the last layer of an encoder.

use perennial_core::SpaceRef;

use crate::bridge::{Bridge, Part, Step};
use crate::error::BridgeError;
use crate::linear_algebra::{from_f32, product, to_f32};
use crate::product::Matrix;
use crate::recipe::Recipe;
use crate::record::FitRecord;

impl Bridge {
    /// A linear layer without bias that was trained on labels, as a bridge that does not centre. Its record is empty.
    ///
    /// **Shapes**: `weight` is `[to.dim, from.dim]`, row-major.
    ///
    /// # Errors
    /// [`BridgeError::Recipe`] for weights of another shape or that are not finite.
    pub fn of_layer(weight: &[f32], from: SpaceRef, to: SpaceRef) -> Result<Self, BridgeError> {
        let refused = |problem: String| BridgeError::Recipe {
            recipe: Recipe::Head.to_string(),
            problem,
        };
        let (inputs, outputs) = (from.dim, to.dim);
        if weight.is_empty() || Some(weight.len()) != inputs.checked_mul(outputs) {
            return Err(refused(format!(
                "a layer from {inputs} to {outputs} dimensions has weights [{outputs}, {inputs}], but {} values were given",
                weight.len()
            )));
        }
        if weight.iter().any(|value| !value.is_finite()) {
            return Err(refused("a weight is not finite; train it anew".to_owned()));
        }
        let transposed: Vec<f32> = (0..inputs)
            .flat_map(|input| weight.iter().skip(input).step_by(inputs).copied())
            .collect();
        Ok(Self {
            from,
            to,
            parts: vec![Part {
                recipe: Recipe::Head,
                inverted: false,
            }],
            steps: vec![Step::Linear(Matrix::new(inputs, outputs, &transposed))],
            to_mean: None,
            record: FitRecord::default(),
            inputs: None,
        })
    }

    /// The weights of a linear embedding layer whose outputs are those of the given layer, followed by this bridge, up to their length.
    ///
    /// Exact only for a bridge without centring ([`fit_uncentred`](crate::fit_uncentred)). The layer computes `e = W x + b`, and the bridge scales
    /// `e` to unit length first. Without a mean, `unit(unit(e) M) = unit(e M)`: a length does not matter to what follows, and
    /// `W' = M^T W`, `b' = M^T b`. With a mean, `unit(e) - m` is parallel to `e - |e| m`, and `|e|` is not linear in `x`: no layer's weights
    /// compute it. Without centring, item-level retrieval was measured to be worse, so measure before and after.
    ///
    /// **Shapes**: `weight` `[from_dim, inputs]` row-major, `bias` `[from_dim]`; the result `[to_dim, inputs]` and, with a bias, `[to_dim]`.
    ///
    /// # Errors
    /// [`BridgeError::Unsupported`] for a bridge that centres, or for weights of another shape.
    pub fn fold(
        &self,
        weight: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<(Vec<f32>, Option<Vec<f32>>), BridgeError> {
        let unsupported = |problem: String| BridgeError::Unsupported {
            kind: self.describe(),
            problem,
        };
        let dim = self.from.dim;
        if weight.is_empty()
            || !weight.len().is_multiple_of(dim)
            || bias.is_some_and(|bias| bias.len() != dim)
        {
            return Err(unsupported(format!(
                "from {dim} dimensions cannot be folded into this layer; its weight must be [{dim}, inputs] and its bias [{dim}]"
            )));
        }
        // A bias is one more input that is always 1.
        let inputs = weight.len() / dim;
        let columns = inputs + usize::from(bias.is_some());
        let mut folded = from_f32(dim, inputs, weight);
        if let Some(bias) = bias {
            folded.resize_with(dim, columns, |i, _| f64::from(bias[i]));
        }
        for step in &self.steps {
            let Step::Linear(matrix) = step else {
                return Err(unsupported(
                    "that centres cannot be folded into a layer; fit it without centring"
                        .to_owned(),
                ));
            };
            let values = from_f32(matrix.rows(), matrix.columns(), &matrix.values());
            folded = product(values.transpose(), folded.as_ref());
        }
        if self.to_mean.is_some() {
            return Err(unsupported(
                "whose target is centred cannot be folded into a layer; fit it without centring"
                    .to_owned(),
            ));
        }
        let weight = to_f32(folded.subcols(0, inputs));
        let bias = bias.map(|_| to_f32(folded.subcols(inputs, 1)));
        Ok((weight, bias))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_a_bridge_that_maps_folds_and_is_stored() {
        let weight = [1.0, 2.0, 0.0, 0.0, -1.0, 0.5];
        let space = SpaceRef::unnamed;
        let bridge = Bridge::of_layer(&weight, space(3), space(2)).unwrap();
        assert_eq!(bridge.describe(), "head");
        let mut mapped = Vec::new();
        bridge.apply(&[2.0, 0.0, 4.0], &mut mapped).unwrap();
        let half = 0.5f32.sqrt();
        assert!(
            mapped.iter().all(|value| (value - half).abs() < 1e-6),
            "{mapped:?}"
        );
        let identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        assert_eq!(bridge.fold(&identity, None).unwrap().0, weight);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bridge");
        bridge.write(&path).unwrap();
        assert_eq!(Bridge::read(&path).unwrap(), bridge);
    }

    #[test]
    fn layers_that_cannot_be_bridges_are_refused() {
        let space = SpaceRef::unnamed;
        for (weight, inputs) in [(vec![1.0; 5], 3), (vec![f32::NAN; 6], 3), (vec![], 0)] {
            assert!(Bridge::of_layer(&weight, space(inputs), space(2)).is_err());
        }
        let rows = [1.0, 0.0, 0.0, 1.0];
        let pairs = crate::Pairs::new(&rows, 2, &rows, 2).unwrap();
        let error = crate::fit(&pairs, &Recipe::Head, space(2), space(2)).unwrap_err();
        assert!(error.to_string().contains("fit-head"), "{error}");
    }
}

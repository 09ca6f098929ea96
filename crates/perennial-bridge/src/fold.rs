//! Folding a bridge into the last layer of an encoder.

use crate::bridge::{Bridge, Step};
use crate::error::BridgeError;
use crate::linear_algebra::{from_f32, product, to_f32};

impl Bridge {
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

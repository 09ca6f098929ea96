//! A convolution whose weights no longer change.

use crate::convolution::{Convolution, Epilogue};
use crate::gather_product::{self, Term};
use crate::packed_weights::PackedWeights;

/// A convolution with fixed weights, rearranged once for all forward passes: at small batches, rearranging costs more than
/// multiplying.
pub struct FrozenConvolution {
    geometry: Convolution,
    /// Whether the input is gathered into rows first; `terms` and `weights` then belong to what is left to do.
    gathers: bool,
    terms: Vec<Vec<Term>>,
    weights: PackedWeights,
    shift: Vec<f32>,
    relu: bool,
}

impl std::fmt::Debug for FrozenConvolution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrozenConvolution")
            .field("geometry", &self.geometry)
            .field("relu", &self.relu)
            .finish_non_exhaustive()
    }
}

impl FrozenConvolution {
    /// Takes weights, what is added to every output channel, and whether a ReLU follows. The geometry's batch does not count.
    ///
    /// # Shapes
    ///
    /// - weight: `[out_channels, in_channels, kernel_height, kernel_width]`
    /// - shift: `[out_channels]`
    pub fn new(geometry: Convolution, weight: &[f32], shift: Vec<f32>, relu: bool) -> Self {
        assert_eq!(weight.len(), geometry.weight_len(), "weight length");
        assert_eq!(shift.len(), geometry.out_channels, "shift length");
        let gathers = geometry.gathers();
        let (terms, weights) = if gathers {
            let pointwise = geometry.pointwise();
            pointwise.prepared(&geometry.tap_major(weight))
        } else {
            geometry.prepared(weight)
        };
        Self {
            geometry,
            gathers,
            terms,
            weights,
            shift,
            relu,
        }
    }

    /// Height and width of the output map.
    pub fn output(&self) -> [usize; 2] {
        self.geometry.output()
    }

    /// Channels written.
    pub fn out_channels(&self) -> usize {
        self.geometry.out_channels
    }

    /// Applies it, adds the shift and the residual, and cuts off below zero where a ReLU follows.
    ///
    /// # Shapes
    ///
    /// - input: `[in_height, in_width, batch, in_channels]`
    /// - residual, result: `[out_height, out_width, batch, out_channels]`
    pub fn forward(&self, batch: usize, input: &[f32], residual: Option<&[f32]>) -> Vec<f32> {
        let geometry = Convolution {
            batch,
            ..self.geometry
        };
        assert_eq!(input.len(), geometry.input_len(), "input length");
        let mut output = vec![0.0; geometry.output_len()];
        assert!(
            residual.is_none_or(|residual| residual.len() == output.len()),
            "residual length"
        );
        let gathered;
        let input = if self.gathers {
            gathered = geometry.gathered(input);
            &gathered
        } else {
            input
        };
        let epilogue = Epilogue {
            shift: &self.shift,
            residual,
            relu: self.relu,
        };
        gather_product::product(
            input,
            batch,
            &self.terms,
            &self.weights,
            Some(epilogue),
            &mut output,
        );
        output
    }
}

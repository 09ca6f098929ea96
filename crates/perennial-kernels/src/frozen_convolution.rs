//! A convolution whose weights no longer change.

use crate::buffers;
use crate::gather_product::Epilogue;
use crate::gather_product::{self, Source, Term};
use crate::geometry::Convolution;
use crate::grouped::{self, Bundle};
use crate::packed_weights::PackedWeights;
use crate::two_by_two::{self, TwoByTwo};
use crate::winograd::{self, Winograd};

/// The batch for which the way of computing is chosen, whatever the batch is: an image has the same embedding in any batch.
const USUAL_BATCH: usize = 8;

/// A convolution with fixed weights, rearranged once for all forward passes: at small batches, rearranging costs more than
/// multiplying.
pub struct FrozenConvolution {
    geometry: Convolution,
    plan: Plan,
    shift: Vec<f32>,
    relu: bool,
}

/// How outputs are computed.
enum Plan {
    /// What every position is summed from.
    Slabs(Vec<Vec<Term>>, PackedWeights),
    /// The same by whole kernel rows.
    Rows(Vec<Vec<Term>>, PackedWeights),
    Winograd(Winograd),
    TwoByTwo(TwoByTwo),
    Groups(Vec<Vec<Term>>, Vec<Bundle>),
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
    /// - weight: `[kernel_height, kernel_width, in_channels / groups, out_channels]`
    /// - shift: `[out_channels]`
    pub fn new(geometry: Convolution, weight: &[f32], shift: Vec<f32>, relu: bool) -> Self {
        assert_eq!(weight.len(), geometry.weight_len(), "weight length");
        assert_eq!(shift.len(), geometry.out_channels, "shift length");
        let plan = if geometry.groups > 1 {
            let (terms, used) = geometry.terms();
            let bundles = geometry.bundled(weight, &used).into_iter();
            Plan::Groups(terms, bundles.map(Bundle::lasting).collect())
        } else if geometry.takes_rows() {
            let (terms, weights) = geometry.prepared_rows(weight);
            Plan::Rows(terms, weights.lasting())
        } else if winograd::suits_lasting(&geometry, USUAL_BATCH) {
            Plan::Winograd(Winograd::forward(&geometry, weight).lasting())
        } else if two_by_two::suits(&geometry) {
            Plan::TwoByTwo(TwoByTwo::forward(&geometry, weight).lasting())
        } else {
            let (terms, weights) = geometry.prepared(weight);
            Plan::Slabs(terms, weights.lasting())
        };
        Self {
            geometry,
            plan,
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

    /// Multiplications and additions for one image, padding counted as if it were pixels.
    pub fn operations(&self) -> f64 {
        let [height, width] = self.output();
        2.0 * (height * width) as f64 * self.geometry.weight_len() as f64
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
        let mut output = buffers::buffer(geometry.output_len());
        assert!(
            residual.is_none_or(|residual| residual.len() == output.len()),
            "residual length"
        );
        let epilogue = Some(Epilogue {
            shift: &self.shift,
            residual,
            relu: self.relu,
        });
        match &self.plan {
            Plan::Slabs(terms, weights) => {
                let source = Source::dense(input, batch, geometry.in_channels);
                gather_product::product(source, batch, terms, weights, epilogue, &mut output);
            }
            Plan::Rows(terms, weights) => {
                geometry.row_product(input, terms, weights, epilogue, &mut output);
            }
            Plan::Groups(terms, bundles) => {
                let source = Source::dense(input, batch, geometry.in_channels);
                grouped::product(source, batch, terms, bundles, epilogue, &mut output);
            }
            Plan::Winograd(winograd) => winograd.apply(batch, input, epilogue, &mut output),
            Plan::TwoByTwo(map) => map.apply(batch, input, epilogue, &mut output),
        }
        output
    }
}

//! Sharpness-aware minimisation: gradients from the point near the weights where the loss is highest to first order.

use burn::module::Module;
use burn::tensor::{Gradients, Tensor};

use crate::named_tensors::NamedTensors;
use crate::network::Network;
use crate::state_dict::{MapTensor, NamedMapper};

/// The smallest length that a gradient is divided by.
const SHORTEST: f64 = 1e-12;

/// A network moved by `radius` along its gradient, and the weights that it had. Parameters whose name `moves` refuses stay where they are, and
/// do not count.
///
/// **Source**: P. Foret et al., arXiv 2010.01412, equation 2 with `p = 2`.
pub(crate) fn ascended(
    network: Network,
    gradients: &Gradients,
    moves: fn(&str) -> bool,
    radius: f64,
) -> (Network, NamedTensors) {
    let mut length = SquaredLength {
        gradients,
        moves,
        sum: None,
    };
    let network = network.map(&mut NamedMapper::new(&mut length));
    let Some(squares) = length.sum else {
        return (network, NamedTensors::default());
    };
    let mut ascent = Ascent {
        gradients,
        moves,
        factor: squares
            .sqrt()
            .add_scalar(SHORTEST)
            .recip()
            .mul_scalar(radius),
        weights: NamedTensors::default(),
    };
    let network = network.map(&mut NamedMapper::new(&mut ascent));
    (network, ascent.weights)
}

struct SquaredLength<'a> {
    gradients: &'a Gradients,
    moves: fn(&str) -> bool,
    /// `[1]`, on the device.
    sum: Option<Tensor<1>>,
}

impl MapTensor for &mut SquaredLength<'_> {
    fn map<const D: usize>(&mut self, name: String, tensor: Tensor<D>) -> Tensor<D> {
        if (self.moves)(&name)
            && let Some(gradient) = tensor.grad(self.gradients)
        {
            let squares = gradient.square().sum();
            self.sum = Some(match self.sum.take() {
                Some(sum) => sum + squares,
                None => squares,
            });
        }
        tensor
    }
}

struct Ascent<'a> {
    gradients: &'a Gradients,
    moves: fn(&str) -> bool,
    factor: Tensor<1>,
    weights: NamedTensors,
}

impl MapTensor for &mut Ascent<'_> {
    fn map<const D: usize>(&mut self, name: String, tensor: Tensor<D>) -> Tensor<D> {
        if !(self.moves)(&name) {
            return tensor;
        }
        let Some(gradient) = tensor.grad(self.gradients) else {
            return tensor;
        };
        let weights = tensor.inner();
        let factor: Tensor<D> = self.factor.clone().reshape([1; D]);
        let moved = weights.clone() + gradient * factor;
        self.weights.insert(name, weights);
        Tensor::from_inner(moved).require_grad()
    }
}

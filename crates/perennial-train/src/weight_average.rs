//! A moving average of the weights in training.

use burn::tensor::{Device, Tensor};

use crate::named_tensors::NamedTensors;
use crate::network::Network;
use crate::state_dict::{MapTensor, NamedMapper, StateDict, state_dict};

/// The exponential moving average of all weights and running statistics over the steps of a task:
/// `average = decay * average + (1 - decay) * weights`. It begins as the weights of the task's start, which have a share of
/// `decay^n` in it after `n` steps.
///
/// **Source**: averaging of the iterates, B. T. Polyak and A. B. Juditsky, *SIAM J. Control Optim.* 30 (1992); its exponential form as in
/// A. Tarvainen and H. Valpola, arXiv 1703.01780.
#[derive(Debug)]
pub(crate) struct WeightAverage {
    decay: f64,
    tensors: NamedTensors,
}

impl WeightAverage {
    /// Begins with a network's weights.
    pub fn new(decay: f64, network: &Network, device: &Device) -> Self {
        Self::restored(decay, state_dict(network), device)
    }

    /// Goes on with the average of a checkpoint.
    pub fn restored(decay: f64, state: StateDict, device: &Device) -> Self {
        Self {
            decay,
            tensors: NamedTensors::restored(state, device),
        }
    }

    /// Takes in the weights after a step, of a network without gradients.
    pub fn update(&mut self, network: Network) {
        use burn::module::Module;
        let _ = network.map(&mut NamedMapper::new(self));
    }

    /// The average on the host.
    pub fn state(&self) -> StateDict {
        self.tensors.state()
    }
}

impl MapTensor for &mut WeightAverage {
    fn map<const D: usize>(&mut self, name: String, tensor: Tensor<D>) -> Tensor<D> {
        let average = match self.tensors.take(&name, tensor.dims()) {
            Some(average) => {
                average.mul_scalar(self.decay) + tensor.clone().mul_scalar(1.0 - self.decay)
            }
            None => tensor.clone(),
        };
        self.tensors.insert(name, average);
        tensor
    }
}

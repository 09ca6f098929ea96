//! SGD with momentum and weight decay, and schedules of its learning rate.
//!
//! burn's optimizer keys its state by random parameter ids and applies weight decay to everything; the recipe exempts
//! biases and norms, and a checkpoint must find its state again by name.

use burn::backend::Dispatch;
use burn::module::Module;
use burn::tensor::{Gradients, Tensor};
use serde::{Deserialize, Serialize};

use crate::fused::{FusedLayers, SgdRates};
use crate::named_tensors::NamedTensors;
use crate::network::Path;
use crate::state_dict::{MapTensor, NamedMapper, StateDict};

/// The optimizer's state: one velocity per parameter, by name.
///
/// `velocity = momentum * velocity + gradient + weight_decay * parameter`, `parameter -= learning_rate * velocity`;
/// the first velocity is the gradient itself, and only parameters of two or more dimensions decay.
#[derive(Debug)]
pub struct Sgd {
    momentum: f64,
    weight_decay: f64,
    velocity: NamedTensors,
}

struct Step<'a> {
    sgd: &'a mut Sgd,
    learning_rate: f64,
    gradients: &'a mut Gradients,
    /// Weights that the gradients are applied to in place of those that they were computed at.
    weights: NamedTensors,
    moves: fn(&str) -> bool,
}

impl MapTensor for Step<'_> {
    fn map<const D: usize>(&mut self, name: String, tensor: Tensor<D>) -> Tensor<D> {
        let Some(gradient) = tensor.grad_remove(self.gradients) else {
            return tensor;
        };
        let shape = tensor.dims();
        let parameter = match self.weights.take(&name, shape) {
            Some(weights) => weights,
            None => tensor.inner(),
        };
        if !(self.moves)(&name) {
            return Tensor::from_inner(parameter).require_grad();
        }
        let velocity = match self.sgd.velocity.take(&name, shape) {
            Some(velocity) => velocity,
            None => parameter.zeros_like(),
        };
        let decay = if D >= 2 { self.sgd.weight_decay } else { 0.0 };
        let (parameter, velocity) = match Path::for_device(&parameter.device()) {
            Path::Fused => {
                let rates = SgdRates {
                    momentum: self.sgd.momentum as f32,
                    weight_decay: decay as f32,
                    learning_rate: self.learning_rate as f32,
                };
                let (parameter, velocity) = <Dispatch as FusedLayers>::sgd_step(
                    parameter.into_dispatch(),
                    velocity.into_dispatch(),
                    gradient.into_dispatch(),
                    rates,
                );
                (
                    Tensor::from_dispatch(parameter),
                    Tensor::from_dispatch(velocity),
                )
            }
            Path::Plain => {
                let gradient = gradient + parameter.clone().mul_scalar(decay);
                let velocity = velocity.mul_scalar(self.sgd.momentum) + gradient;
                let parameter = parameter - velocity.clone().mul_scalar(self.learning_rate);
                (parameter, velocity)
            }
        };
        self.sgd.velocity.insert(name, velocity);
        Tensor::from_inner(parameter).require_grad()
    }
}

impl Sgd {
    /// No velocity yet.
    pub fn new(momentum: f64, weight_decay: f64) -> Self {
        Self {
            momentum,
            weight_decay,
            velocity: NamedTensors::default(),
        }
    }

    /// One step over every parameter that has a gradient.
    pub fn step<M: Module>(
        &mut self,
        module: M,
        gradients: &mut Gradients,
        learning_rate: f64,
    ) -> M {
        self.step_from(
            NamedTensors::default(),
            |_| true,
            module,
            gradients,
            learning_rate,
        )
    }

    /// The same, for gradients that were computed elsewhere than at `weights`: these take the place of the module's own parameters
    /// first. Parameters whose name `moves` refuses stay as they are.
    pub(crate) fn step_from<M: Module>(
        &mut self,
        weights: NamedTensors,
        moves: fn(&str) -> bool,
        module: M,
        gradients: &mut Gradients,
        learning_rate: f64,
    ) -> M {
        module.map(&mut NamedMapper::new(Step {
            sgd: self,
            learning_rate,
            gradients,
            weights,
            moves,
        }))
    }

    /// Velocities on the host, for a checkpoint.
    pub fn state(&self) -> StateDict {
        self.velocity.state()
    }

    /// Takes velocities from a checkpoint.
    pub fn restore(&mut self, state: StateDict, device: &burn::tensor::Device) {
        self.velocity = NamedTensors::restored(state, device);
    }
}

/// Learning rate of an epoch (0-based): a half cosine from `first` down to `last`, stepped once per epoch.
///
/// **Source**: the released recipe; `golden/cosine_schedule.json`.
pub fn cosine_learning_rate(epoch: usize, epochs: usize, first: f64, last: f64) -> f64 {
    let progress = epoch as f64 / epochs.max(1) as f64;
    last + (first - last) * (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0
}

/// How the learning rate goes over a task, stepped once per epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// By [`cosine_learning_rate`]: as published.
    #[default]
    Cosine,
    /// In equal steps from the first rate down to the last one.
    Linear,
    /// The first rate in every epoch; there is no last one.
    Constant,
}

impl Schedule {
    /// Learning rate of an epoch (0-based), from `first` towards `last`, which an epoch after the last one would have.
    pub fn learning_rate(self, epoch: usize, epochs: usize, first: f64, last: f64) -> f64 {
        match self {
            Self::Cosine => cosine_learning_rate(epoch, epochs, first, last),
            Self::Linear => first + (last - first) * epoch as f64 / epochs.max(1) as f64,
            Self::Constant => first,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_begin_at_the_first_rate_and_go_their_ways() {
        let rates = |schedule: Schedule| {
            [0, 1, 2, 4].map(|epoch| schedule.learning_rate(epoch, 4, 0.5, 0.25))
        };
        assert_eq!(rates(Schedule::Linear), [0.5, 0.4375, 0.375, 0.25]);
        assert_eq!(rates(Schedule::Constant), [0.5; 4]);
        let cosine = rates(Schedule::Cosine);
        assert_eq!([cosine[0], cosine[3]], [0.5, 0.25]);
        assert!((cosine[2] - 0.375).abs() < 1e-15);
        // Half a cosine stays near the first rate for longer than a line.
        assert!(cosine[1] > 0.46);
    }

    #[test]
    fn schedule_matches_the_golden_values() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../testdata/cosine_schedule.json")).unwrap();
        let rates = golden["lr"].as_array().unwrap();
        assert_eq!(rates.len(), 70);
        for (epoch, expected) in rates.iter().enumerate() {
            let found = cosine_learning_rate(epoch, 70, 1e-3, 1e-5);
            assert!(
                (found - expected.as_f64().unwrap()).abs() < 1e-15,
                "epoch {epoch}: {found}"
            );
        }
    }
}

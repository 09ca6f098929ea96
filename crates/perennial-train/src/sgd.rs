//! SGD with momentum and weight decay, and the cosine schedule of the recipe.
//!
//! burn's optimizer keys its state by random parameter ids and applies weight decay to everything; the recipe exempts
//! biases and norms, and a checkpoint must find its state again by name.

use std::collections::BTreeMap;

use burn::backend::Dispatch;
use burn::module::Module;
use burn::tensor::{Gradients, Tensor, TensorData};

use crate::fused::{FusedLayers, SgdRates};
use crate::network::Path;
use crate::state_dict::{MapTensor, NamedMapper, StateDict, StateTensor, data};

/// The optimizer's state: one velocity per parameter, by name.
///
/// `velocity = momentum * velocity + gradient + weight_decay * parameter`, `parameter -= learning_rate * velocity`;
/// the first velocity is the gradient itself, and only parameters of two or more dimensions decay.
#[derive(Debug)]
pub struct Sgd {
    momentum: f64,
    weight_decay: f64,
    velocity: BTreeMap<String, Velocity>,
}

/// A velocity on the device. Kernels keep their rank: reshaping would undo the order in memory that they share with their weights.
#[derive(Debug)]
enum Velocity {
    Kernel(Tensor<4>),
    Flat {
        shape: Vec<usize>,
        values: Tensor<1>,
    },
}

impl Velocity {
    fn new<const D: usize>(tensor: Tensor<D>) -> Self {
        let shape = tensor.dims();
        if D == 4 {
            return Self::Kernel(Tensor::from_dispatch(tensor.into_dispatch()));
        }
        Self::Flat {
            values: tensor.reshape([shape.iter().product::<usize>()]),
            shape: shape.to_vec(),
        }
    }

    fn into_tensor<const D: usize>(self, shape: [usize; D]) -> Tensor<D> {
        match self {
            Self::Kernel(tensor) if D == 4 => Tensor::from_dispatch(tensor.into_dispatch()),
            Self::Kernel(tensor) => tensor.reshape(shape),
            Self::Flat { values, .. } => values.reshape(shape),
        }
    }

    fn state(&self) -> StateTensor {
        let (shape, data) = match self {
            Self::Kernel(tensor) => (tensor.dims().to_vec(), data(tensor.clone())),
            Self::Flat { shape, values } => (shape.clone(), values.clone().into_data()),
        };
        let values = data.convert::<f32>().try_into_vec();
        StateTensor {
            shape,
            values: values.unwrap_or_default(),
        }
    }

    fn restored(state: StateTensor, device: &burn::tensor::Device) -> Self {
        let StateTensor { shape, values } = state;
        let flat = [values.len()];
        match shape.as_slice() {
            &[a, b, c, d] => Self::Kernel(Tensor::from_data(
                TensorData::new(values, [a, b, c, d]),
                device,
            )),
            _ => Self::Flat {
                shape,
                values: Tensor::from_data(TensorData::new(values, flat), device),
            },
        }
    }
}

struct Step<'a> {
    sgd: &'a mut Sgd,
    learning_rate: f64,
    gradients: &'a mut Gradients,
}

impl MapTensor for Step<'_> {
    fn map<const D: usize>(&mut self, name: String, tensor: Tensor<D>) -> Tensor<D> {
        let Some(gradient) = tensor.grad_remove(self.gradients) else {
            return tensor;
        };
        let parameter = tensor.inner();
        let shape = parameter.dims();
        let velocity = match self.sgd.velocity.remove(&name) {
            Some(velocity) => velocity.into_tensor(shape),
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
        self.sgd.velocity.insert(name, Velocity::new(velocity));
        Tensor::from_inner(parameter).require_grad()
    }
}

impl Sgd {
    /// No velocity yet.
    pub fn new(momentum: f64, weight_decay: f64) -> Self {
        Self {
            momentum,
            weight_decay,
            velocity: BTreeMap::new(),
        }
    }

    /// One step over every parameter that has a gradient.
    pub fn step<M: Module>(
        &mut self,
        module: M,
        gradients: &mut Gradients,
        learning_rate: f64,
    ) -> M {
        module.map(&mut NamedMapper::new(Step {
            sgd: self,
            learning_rate,
            gradients,
        }))
    }

    /// Velocities on the host, for a checkpoint.
    pub fn state(&self) -> StateDict {
        let velocities = self.velocity.iter();
        velocities
            .map(|(name, velocity)| (name.clone(), velocity.state()))
            .collect()
    }

    /// Takes velocities from a checkpoint.
    pub fn restore(&mut self, state: StateDict, device: &burn::tensor::Device) {
        let device = device.clone().without_autodiff();
        let restored = |(name, state)| (name, Velocity::restored(state, &device));
        self.velocity = state.into_iter().map(restored).collect();
    }
}

/// Learning rate of an epoch (0-based): a half cosine from `first` down to `last`, stepped once per epoch.
///
/// **Source**: the released recipe; `golden/cosine_schedule.json`.
pub fn cosine_learning_rate(epoch: usize, epochs: usize, first: f64, last: f64) -> f64 {
    let progress = epoch as f64 / epochs.max(1) as f64;
    last + (first - last) * (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

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

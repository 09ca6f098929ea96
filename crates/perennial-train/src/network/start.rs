//! Starting weights: drawn from a seed, or left unset where weights are loaded or only names and shapes are asked for.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Where a new network's weights come from, and the device that they lie on.
///
/// Draws follow one another in the order in which a network is built: the same seed gives the same weights on every device and with
/// any number of threads.
#[derive(Debug)]
pub struct Start {
    rng: Option<ChaCha8Rng>,
    device: Device,
}

impl Start {
    /// Weights drawn from a seed.
    pub fn random(seed: u64, device: &Device) -> Self {
        Self {
            rng: Some(ChaCha8Rng::seed_from_u64(seed)),
            device: device.clone(),
        }
    }

    /// Weights that are zeros, and take memory only when they are read: whoever loads others, or compares shapes, pays nothing for
    /// them.
    pub fn unset(device: &Device) -> Self {
        Self {
            rng: None,
            device: device.clone(),
        }
    }

    /// Where the weights lie.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The same value everywhere.
    pub fn filled<const D: usize>(&mut self, shape: [usize; D], value: f64) -> Param<Tensor<D>> {
        match self.rng {
            Some(_) => Param::from_tensor(Tensor::full(shape, value, &self.device)),
            None => self.unset_parameter(shape),
        }
    }

    /// Draws from a normal distribution around zero.
    pub fn normal<const D: usize>(
        &mut self,
        shape: [usize; D],
        deviation: f64,
    ) -> Param<Tensor<D>> {
        self.drawn(shape, |rng| (standard_normal(rng) * deviation) as f32)
    }

    /// Draws from a normal distribution around zero; what lies more than two deviations away is drawn again.
    pub fn truncated_normal<const D: usize>(
        &mut self,
        shape: [usize; D],
        deviation: f64,
    ) -> Param<Tensor<D>> {
        self.drawn(shape, |rng| {
            loop {
                let value = standard_normal(rng);
                if value.abs() <= 2.0 {
                    return (value * deviation) as f32;
                }
            }
        })
    }

    /// Draws from `-bound..bound`.
    pub fn uniform<const D: usize>(&mut self, shape: [usize; D], bound: f32) -> Param<Tensor<D>> {
        self.drawn(shape, |rng| rng.random_range(-bound..bound))
    }

    fn drawn<const D: usize>(
        &mut self,
        shape: [usize; D],
        draw: impl Fn(&mut ChaCha8Rng) -> f32,
    ) -> Param<Tensor<D>> {
        let Some(rng) = &mut self.rng else {
            return self.unset_parameter(shape);
        };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| draw(rng)).collect();
        Param::from_tensor(Tensor::from_data(
            TensorData::new(values, shape),
            &self.device,
        ))
    }

    fn unset_parameter<const D: usize>(&self, shape: [usize; D]) -> Param<Tensor<D>> {
        Param::uninitialized(
            ParamId::new(),
            move |device: &Device, with_gradient| {
                Tensor::zeros(shape, device).set_require_grad(with_gradient)
            },
            self.device.clone(),
            true,
            shape.into(),
        )
    }
}

/// PyTorch's default for a linear layer of so many inputs: weights are uniform in plus or minus this.
pub(crate) fn linear_bound(inputs: usize) -> f32 {
    1.0 / (inputs as f32).sqrt()
}

/// One draw by the Box-Muller transform.
fn standard_normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (2.0 * std::f64::consts::PI * rng.random::<f64>()).cos()
}

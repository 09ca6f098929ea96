//! Tensors of the ranks that parameters have, by name, on their device: velocities, averages, weights that are put back.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};

use crate::state_dict::{StateDict, StateTensor, data};

/// Tensors by the names of the parameters that they belong to.
#[derive(Debug, Default)]
pub(crate) struct NamedTensors(BTreeMap<String, Held>);

/// A tensor without its rank in the type. Kernels keep it: reshaping would undo the order in memory that they share with their weights.
#[derive(Debug)]
enum Held {
    Kernel(Tensor<4>),
    Flat {
        shape: Vec<usize>,
        values: Tensor<1>,
    },
}

impl NamedTensors {
    /// Keeps a tensor under a name, in the place of an earlier one.
    pub fn insert<const D: usize>(&mut self, name: String, tensor: Tensor<D>) {
        let shape = tensor.dims();
        let held = if D == 4 {
            Held::Kernel(Tensor::from_dispatch(tensor.into_dispatch()))
        } else {
            Held::Flat {
                values: tensor.reshape([shape.iter().product::<usize>()]),
                shape: shape.to_vec(),
            }
        };
        self.0.insert(name, held);
    }

    /// Gives a tensor back, if there is one under the name; the caller knows its shape.
    pub fn take<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Option<Tensor<D>> {
        Some(match self.0.remove(name)? {
            Held::Kernel(tensor) if D == 4 => Tensor::from_dispatch(tensor.into_dispatch()),
            Held::Kernel(tensor) => tensor.reshape(shape),
            Held::Flat { values, .. } => values.reshape(shape),
        })
    }

    /// The tensors on the host, for a checkpoint.
    pub fn state(&self) -> StateDict {
        let tensors = self.0.iter();
        tensors
            .map(|(name, held)| (name.clone(), held.state()))
            .collect()
    }

    /// Tensors from a checkpoint, on a device.
    pub fn restored(state: StateDict, device: &Device) -> Self {
        let device = device.clone().without_autodiff();
        let restored = |(name, state)| (name, Held::restored(state, &device));
        Self(state.into_iter().map(restored).collect())
    }
}

impl Held {
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

    fn restored(state: StateTensor, device: &Device) -> Self {
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

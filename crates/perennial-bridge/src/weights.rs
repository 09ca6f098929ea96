//! The weights file of a bridge, as [`WEIGHTS_FILE`](crate::WEIGHTS_FILE) describes it.

use perennial_core::sha256_hex;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::bridge::{Bridge, Step};
use crate::product::Matrix;

const TO_MEAN: &str = "to_mean";

/// The shape of a step, as `bridge.toml` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Centre { dim: usize },
    Linear { from: usize, to: usize },
}

impl Shape {
    pub(crate) fn of(step: &Step) -> Self {
        match step {
            Step::Centre(mean) => Shape::Centre { dim: mean.len() },
            Step::Linear(matrix) => Shape::Linear {
                from: matrix.rows(),
                to: matrix.columns(),
            },
        }
    }

    fn dims(self) -> Vec<usize> {
        match self {
            Shape::Centre { dim } => vec![dim],
            Shape::Linear { from, to } => vec![from, to],
        }
    }

    pub(crate) fn values(self) -> usize {
        self.dims().iter().product()
    }
}

fn name(step: usize) -> String {
    format!("step{step}")
}

/// The file's bytes; equal bridges give equal bytes.
pub(crate) fn to_bytes(bridge: &Bridge) -> Vec<u8> {
    let bytes = |values: &[f32]| {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = bridge
        .steps
        .iter()
        .enumerate()
        .map(|(at, step)| {
            let values = match step {
                Step::Centre(mean) => bytes(mean),
                Step::Linear(matrix) => bytes(&matrix.values()),
            };
            (name(at), Shape::of(step).dims(), values)
        })
        .collect();
    if let Some(mean) = &bridge.to_mean {
        tensors.push((TO_MEAN.to_owned(), vec![mean.len()], bytes(mean)));
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes)
            .expect("every shape is that of its values");
        (name.as_str(), view)
    });
    safetensors::serialize(views, None).expect("names and shapes of the tensors are valid")
}

/// The steps and the target's mean; `bytes` were read from a file of a limited size.
pub(crate) fn from_bytes(
    bytes: &[u8],
    sha256: &str,
    shapes: &[Shape],
    to_mean: Option<usize>,
) -> Result<(Vec<Step>, Option<Vec<f32>>), String> {
    if sha256_hex(bytes) != sha256 {
        return Err("is not the file that belongs to bridge.toml: its SHA-256 differs; copy the whole folder again".to_owned());
    }
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| format!("is not a safetensors file: {error}"))?;
    let expected = shapes.len() + usize::from(to_mean.is_some());
    if file.len() != expected {
        return Err(format!(
            "holds {} tensors, but bridge.toml describes {expected}",
            file.len()
        ));
    }
    let values = |name: &str, shape: &[usize]| {
        let tensor = file
            .tensor(name)
            .map_err(|_| format!("lacks the tensor `{name}`"))?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
            return Err(format!(
                "tensor `{name}` is {} {:?}, expected F32 {shape:?}",
                tensor.dtype(),
                tensor.shape()
            ));
        }
        let values: Vec<f32> = tensor
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        if values.iter().all(|value| value.is_finite()) {
            Ok(values)
        } else {
            Err(format!("tensor `{name}` holds a value that is not finite"))
        }
    };
    let steps = shapes
        .iter()
        .enumerate()
        .map(|(at, shape)| {
            let values = values(&name(at), &shape.dims())?;
            Ok(match *shape {
                Shape::Centre { .. } => Step::Centre(values),
                Shape::Linear { from, to } => Step::Linear(Matrix::new(from, to, &values)),
            })
        })
        .collect::<Result<Vec<Step>, String>>()?;
    let to_mean = to_mean.map(|dim| values(TO_MEAN, &[dim])).transpose()?;
    Ok((steps, to_mean))
}

//! The weights file of a bridge, as [`WEIGHTS_FILE`](crate::WEIGHTS_FILE) describes it.

use perennial_core::sha256_hex;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::bridge::{Bridge, Step};
use crate::fit_inputs::{FitInputs, Hashes};
use crate::product::Matrix;

const TO_MEAN: &str = "to_mean";
const FIT_FROM: &str = "fit_from_rows";
const FIT_TO: &str = "fit_to_rows";
const FIT_IDS: &str = "fit_ids";

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
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = bridge
        .steps
        .iter()
        .enumerate()
        .map(|(at, step)| {
            let values = match step {
                Step::Centre(mean) => bytes(mean),
                Step::Linear(matrix) => bytes(&matrix.values()),
            };
            (name(at), Dtype::F32, Shape::of(step).dims(), values)
        })
        .collect();
    if let Some(mean) = &bridge.to_mean {
        tensors.push((
            TO_MEAN.to_owned(),
            Dtype::F32,
            vec![mean.len()],
            bytes(mean),
        ));
    }
    if let Some(FitInputs { from, to, ids }) = &bridge.inputs {
        for (name, hashes) in [(FIT_FROM, from), (FIT_TO, to), (FIT_IDS, ids)] {
            let hashes = hashes.as_slice();
            let bytes = hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect();
            tensors.push((name.to_owned(), Dtype::U64, vec![hashes.len()], bytes));
        }
    }
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, shape.clone(), bytes)
            .expect("every shape is that of its values");
        (name.as_str(), view)
    });
    safetensors::serialize(views, None).expect("names and shapes of the tensors are valid")
}

/// What the file holds.
pub(crate) struct Weights {
    pub(crate) steps: Vec<Step>,
    pub(crate) to_mean: Option<Vec<f32>>,
    pub(crate) inputs: Option<FitInputs>,
}

/// Reads the file; `bytes` were read from a file of a limited size. `inputs` says whether it holds hashes of what was fitted on.
pub(crate) fn from_bytes(
    bytes: &[u8],
    sha256: &str,
    shapes: &[Shape],
    to_mean: Option<usize>,
    inputs: bool,
) -> Result<Weights, String> {
    if sha256_hex(bytes) != sha256 {
        return Err("is not the file that belongs to bridge.toml: its SHA-256 differs; copy the whole folder again".to_owned());
    }
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| format!("is not a safetensors file: {error}"))?;
    let expected = shapes.len() + usize::from(to_mean.is_some()) + 3 * usize::from(inputs);
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
    let hashes = |name: &str| {
        let tensor = file
            .tensor(name)
            .map_err(|_| format!("lacks the tensor `{name}`"))?;
        if tensor.dtype() != Dtype::U64 || tensor.shape().len() != 1 {
            return Err(format!(
                "tensor `{name}` is {} {:?}, expected U64 [n]",
                tensor.dtype(),
                tensor.shape()
            ));
        }
        let (hashes, _) = tensor.data().as_chunks::<8>();
        Hashes::of_file(
            hashes
                .iter()
                .map(|bytes| u64::from_le_bytes(*bytes))
                .collect(),
        )
        .ok_or_else(|| format!("tensor `{name}` holds too many hashes, or they are not ascending"))
    };
    let inputs = match inputs {
        true => Some(FitInputs {
            from: hashes(FIT_FROM)?,
            to: hashes(FIT_TO)?,
            ids: hashes(FIT_IDS)?,
        }),
        false => None,
    };
    Ok(Weights {
        steps,
        to_mean,
        inputs,
    })
}

//! Parameters by their PyTorch names: export, strict import, and the safetensors bytes of a model version.

use std::collections::BTreeMap;

use burn::backend::Dispatch;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::fused::FusedLayers;
use crate::import::{Mismatch, Shapes};
use crate::network::Path;

/// One named tensor on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct StateTensor {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Values, row-major.
    pub values: Vec<f32>,
}

/// All parameters and running statistics of a module, by name.
pub type StateDict = BTreeMap<String, StateTensor>;

/// Why weights do not fit the network, or the file is not a valid checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The tensors are not those of the network.
    #[error("the weights do not fit the network: {0}; check the architecture")]
    Mismatch(Mismatch),
    /// A tensor has other sizes than the network's.
    #[error(
        "tensor {name} has shape {found:?}, the network needs {expected:?}: check width, stem and vertices"
    )]
    Shape {
        /// The tensor.
        name: String,
        /// What the network has.
        expected: Vec<usize>,
        /// What the file has.
        found: Vec<usize>,
    },
    /// A number in the weights is NaN or infinite.
    #[error("tensor {name} holds a value that is not finite")]
    NotFinite {
        /// The tensor.
        name: String,
    },
    /// A running variance is negative.
    #[error(
        "tensor {name} holds the variance {value}: a variance cannot be negative, so the file is damaged or this is not a running variance"
    )]
    NegativeVariance {
        /// The tensor.
        name: String,
        /// The first such value.
        value: f32,
    },
    /// A classifier in the checkpoint is not the simplex that it should be.
    #[error(
        "tensor {name} is not the {vertices}-vertex simplex: the checkpoint was trained with other prototypes"
    )]
    NotSimplex {
        /// The tensor.
        name: String,
        /// Vertices expected.
        vertices: usize,
    },
    /// A tensor has an unsupported number type.
    #[error("tensor {name} is {dtype}: convert the checkpoint to float32")]
    Dtype {
        /// The tensor.
        name: String,
        /// Its number type.
        dtype: String,
    },
    /// The file cannot be parsed.
    #[error("{source_name} is not a readable checkpoint: {problem}")]
    Format {
        /// Where the bytes came from.
        source_name: String,
        /// What is wrong.
        problem: String,
    },
    /// The weights of a file or a version.
    #[error("{place}: {problem}")]
    Of {
        /// The file or the version.
        place: String,
        /// What is wrong.
        problem: Box<WeightsError>,
    },
}

impl WeightsError {
    /// The same, said of a file or a version.
    #[must_use]
    pub fn of(self, place: impl Into<String>) -> Self {
        Self::Of {
            place: place.into(),
            problem: Box::new(self),
        }
    }

    /// The same about a tensor that is called otherwise elsewhere.
    pub(crate) fn with_name(mut self, rename: impl Fn(&str) -> String) -> Self {
        if let Self::NotFinite { name } | Self::NegativeVariance { name, .. } = &mut self {
            *name = rename(name);
        }
        self
    }
}

/// A tensor's values in the order of its axes.
pub(crate) fn data<const D: usize>(tensor: Tensor<D>) -> TensorData {
    let tensor = match Path::for_device(&tensor.device()) {
        Path::Fused if D == 4 => Tensor::<D>::from_dispatch(
            <Dispatch as FusedLayers>::usual_order(tensor.into_dispatch()),
        ),
        _ => tensor,
    };
    tensor.into_data()
}

/// Follows a traversal's path and turns it into the PyTorch name.
#[derive(Default)]
struct NamePath(Vec<Option<String>>);

impl NamePath {
    fn enter(&mut self, name: &str, container: &str) {
        let outer = self.0.iter().flatten().next_back();
        let official = match (container, name) {
            // PyTorch only numbers what stands in a sequence.
            ("Struct:ConvNorm", "conv") => "0".to_owned(),
            ("Struct:ConvNorm", "norm") => "1".to_owned(),
            // torchvision's RegNets say a stage's name again.
            ("Vec", number) => match outer.and_then(|name| name.strip_prefix("block")) {
                Some(stage) if stage.parse::<usize>().is_ok() => format!("block{stage}-{number}"),
                _ => number.to_owned(),
            },
            _ => name.to_owned(),
        };
        // A backbone's kind is not part of PyTorch's names.
        self.0
            .push((!container.starts_with("Enum:")).then_some(official));
    }

    fn exit(&mut self) {
        self.0.pop();
    }

    fn name(&self) -> String {
        let parts = self.0.iter().flatten().map(String::as_str);
        parts.collect::<Vec<_>>().join(".")
    }
}

/// A traversal that hands every float tensor, with its name, to a closure and stores what it gives back.
pub(crate) struct NamedMapper<F> {
    path: NamePath,
    each: F,
}

/// What [`NamedMapper`] calls; a trait because closures cannot be generic over the rank.
pub(crate) trait MapTensor {
    /// The tensor to store in place of `tensor`.
    fn map<const D: usize>(&mut self, name: String, tensor: Tensor<D>) -> Tensor<D>;
}

impl<F: MapTensor> NamedMapper<F> {
    pub(crate) fn new(each: F) -> Self {
        Self {
            path: NamePath::default(),
            each,
        }
    }
}

impl<F: MapTensor> ModuleMapper for NamedMapper<F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        param.map(|tensor| self.each.map(name, tensor))
    }
}

#[derive(Default)]
struct Collector {
    path: NamePath,
    tensors: Vec<(String, Vec<usize>, Option<TensorData>)>,
    with_values: bool,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // Weights that are not set yet take no memory if only their shapes are asked for.
        let shape = param.lazy_shape().to_vec();
        let data = self.with_values.then(|| data(param.val()));
        self.tensors.push((self.path.name(), shape, data));
    }
}

/// Copies every tensor of a module to the host.
pub fn state_dict(module: &impl Module) -> StateDict {
    let mut collector = Collector {
        with_values: true,
        ..Default::default()
    };
    module.visit(&mut collector);
    let entries = collector.tensors.into_iter().map(|(name, shape, data)| {
        let values = data
            .and_then(|data| data.convert::<f32>().try_into_vec::<f32>().ok())
            .unwrap_or_default();
        (name, StateTensor { shape, values })
    });
    entries.collect()
}

/// Names and shapes of a module's tensors; weights that are not set yet stay so.
pub fn shapes(module: &impl Module) -> Shapes {
    let mut collector = Collector::default();
    module.visit(&mut collector);
    let tensors = collector.tensors.into_iter();
    tensors.map(|(name, shape, _)| (name, shape)).collect()
}

struct Loader(StateDict);

impl MapTensor for Loader {
    fn map<const D: usize>(&mut self, name: String, tensor: Tensor<D>) -> Tensor<D> {
        let Some(state) = self.0.remove(&name) else {
            return tensor;
        };
        let new = Tensor::from_data(TensorData::new(state.values, state.shape), &tensor.device());
        new.set_require_grad(tensor.is_require_grad())
    }
}

/// Fills a module with the given tensors: all of them, and no others.
///
/// # Errors
///
/// Missing, surplus and misshapen tensors, or one with a value that cannot be right, by name; the module is then given up
/// unchanged.
pub fn load_state_dict<M: Module>(module: M, state: StateDict) -> Result<M, WeightsError> {
    let expected = shapes(&module);
    let found = state
        .iter()
        .map(|(name, tensor)| (name, tensor.shape.as_slice()));
    if let Some(mismatch) = Mismatch::between(&expected, found) {
        return Err(WeightsError::Mismatch(mismatch));
    }
    check_values(&state)?;
    Ok(module.map(&mut NamedMapper::new(Loader(state))))
}

/// Rejects values that are impossible in a trained network.
///
/// # Errors
///
/// [`WeightsError::NotFinite`] and [`WeightsError::NegativeVariance`], with the tensor's name.
pub fn check_values(state: &StateDict) -> Result<(), WeightsError> {
    for (name, tensor) in state {
        if tensor.values.iter().any(|value| !value.is_finite()) {
            return Err(WeightsError::NotFinite { name: name.clone() });
        }
        let negative = tensor.values.iter().find(|value| **value < 0.0);
        if let Some(&value) = negative.filter(|_| name.ends_with("running_var")) {
            return Err(WeightsError::NegativeVariance {
                name: name.clone(),
                value,
            });
        }
    }
    Ok(())
}

/// The safetensors bytes of a state dict, with optional metadata.
///
/// # Errors
///
/// Only if the format cannot express it, which no state dict of a network meets.
pub fn to_safetensors(
    state: &StateDict,
    metadata: Option<std::collections::HashMap<String, String>>,
) -> Result<Vec<u8>, WeightsError> {
    let format = |error: safetensors::SafeTensorError| WeightsError::Format {
        source_name: "the network's state".into(),
        problem: error.to_string(),
    };
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = state
        .iter()
        .map(|(name, tensor)| {
            (
                name,
                &tensor.shape,
                tensor
                    .values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect(),
            )
        })
        .collect();
    let views: Vec<(&str, TensorView<'_>)> = bytes
        .iter()
        .map(|(name, shape, bytes)| {
            TensorView::new(Dtype::F32, (*shape).clone(), bytes).map(|view| (name.as_str(), view))
        })
        .collect::<Result<_, _>>()
        .map_err(format)?;
    safetensors::serialize(views, metadata).map_err(format)
}

/// Reads a state dict from safetensors bytes; integer counters such as `num_batches_tracked` are left out.
///
/// # Errors
///
/// Malformed bytes, or a float tensor that is neither f32 nor f64.
pub fn from_safetensors(bytes: &[u8], source_name: &str) -> Result<StateDict, WeightsError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| WeightsError::Format {
        source_name: source_name.to_owned(),
        problem: error.to_string(),
    })?;
    let mut state = StateDict::new();
    for (name, view) in file.iter() {
        if is_counter(name) {
            continue;
        }
        let values = match view.dtype() {
            Dtype::F32 => floats(view.data(), f32::from_le_bytes),
            Dtype::F64 => floats(view.data(), |bytes| f64::from_le_bytes(bytes) as f32),
            other => {
                return Err(WeightsError::Dtype {
                    name: name.to_owned(),
                    dtype: format!("{other:?}"),
                });
            }
        };
        state.insert(
            name.to_owned(),
            StateTensor {
                shape: view.shape().to_vec(),
                values,
            },
        );
    }
    Ok(state)
}

/// Whether a tensor is PyTorch's batch-norm step counter, which nothing here uses.
pub(crate) fn is_counter(name: &str) -> bool {
    name.ends_with("num_batches_tracked")
}

/// Little-endian numbers of `N` bytes each.
pub(crate) fn floats<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|chunk| convert(*chunk)).collect()
}

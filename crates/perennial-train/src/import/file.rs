//! A checkpoint file before its weights are read: the names, shapes and number types that it declares.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::path::Path;

use half::{bf16, f16};
use pytorch_reader::{DType, PickleValue, PytorchReader};
use safetensors::{Dtype, SafeTensors};

use super::error::ImportError;
use crate::state_dict::{StateTensor, WeightsError, floats};

/// The largest checkpoint that is read.
pub const MAX_CHECKPOINT_BYTES: u64 = 4 << 30;

/// A strided view lets a small file declare huge tensors; weights do not grow by more than this when they are read.
const MAX_GROWTH: u64 = 16;
const ALWAYS_ALLOWED_BYTES: u64 = 1 << 20;

/// What a file says about one of its tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorHeader {
    /// Sizes, outermost first; empty for a single number.
    pub shape: Vec<usize>,
    /// Number type.
    pub number: NumberType,
    /// Bytes of its values.
    pub bytes: u64,
}

/// Number types, as far as weights are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NumberType {
    /// 64-bit floating point.
    F64,
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point of IEEE 754.
    F16,
    /// The upper half of a 32-bit number.
    Bf16,
    /// Whole numbers or truth values, by name: counters and indices, never weights.
    Integer(String),
    /// Any other type, by name.
    Other(String),
}

impl NumberType {
    /// The name in messages.
    pub fn name(&self) -> &str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Integer(name) | Self::Other(name) => name,
        }
    }
}

/// An opened checkpoint: what it declares is known, no weight has been read.
pub struct CheckpointFile {
    name: String,
    size: u64,
    headers: BTreeMap<String, TensorHeader>,
    /// Dotted names that stand for two tensors, because a dictionary's keys hold dots as well.
    ambiguous: BTreeSet<String>,
    metadata: BTreeMap<String, String>,
    content: Content,
}

enum Content {
    PyTorch(HashMap<String, pytorch_reader::Tensor>),
    Safetensors(Vec<u8>),
}

impl CheckpointFile {
    /// Opens a PyTorch file (whatever its ending) or a safetensors file. Dictionaries inside dictionaries are named with dots:
    /// `state_dict.conv1.weight`.
    ///
    /// Nothing in the file is executed: the pickle is parsed as data, and objects other than dictionaries, lists and tensors are
    /// passed over.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, is larger than [`MAX_CHECKPOINT_BYTES`], or is neither of the two formats.
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        let name = path.display().to_string();
        let broken = |problem: String| WeightsError::Format {
            source_name: name.clone(),
            problem,
        };
        let metadata = fs_err::metadata(path).map_err(|error| broken(error.to_string()))?;
        // Opening a pipe would wait for somebody who writes to it.
        if !metadata.is_file() {
            return Err(broken("it is not a regular file".to_owned()).into());
        }
        let size = metadata.len();
        if size > MAX_CHECKPOINT_BYTES {
            return Err(broken(format!(
                "{size} bytes, more than the limit of {MAX_CHECKPOINT_BYTES}"
            ))
            .into());
        }
        let file = if is_safetensors(path).map_err(|error| broken(error.to_string()))? {
            let bytes = perennial_core::read_at_most(path, MAX_CHECKPOINT_BYTES)
                .map_err(|error| broken(error.to_string()))?;
            Self::from_safetensors(name.clone(), size, bytes)
        } else {
            Self::from_pytorch(name.clone(), size, path)
        };
        let file = file.map_err(broken)?;
        if file.headers.is_empty() {
            return Err(broken("it holds no tensors".into()).into());
        }
        Ok(file)
    }

    fn from_safetensors(name: String, size: u64, bytes: Vec<u8>) -> Result<Self, String> {
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| error.to_string())?;
        let headers = header.tensors().into_iter().map(|(name, info)| {
            let [start, end] = [info.data_offsets.0, info.data_offsets.1];
            let header = TensorHeader {
                shape: info.shape.clone(),
                number: safetensors_number(info.dtype),
                bytes: end.saturating_sub(start) as u64,
            };
            (name, header)
        });
        Ok(Self {
            name,
            size,
            headers: headers.collect(),
            ambiguous: BTreeSet::new(),
            metadata: header.metadata().iter().flatten().map(owned).collect(),
            content: Content::Safetensors(bytes),
        })
    }

    fn from_pytorch(name: String, size: u64, path: &Path) -> Result<Self, String> {
        let reader = PytorchReader::new(path).map_err(|error| error.to_string())?;
        // The reader keeps an arbitrary one of the tensors with the same dotted name.
        let tree =
            PytorchReader::read_pickle_data(path, None).map_err(|error| error.to_string())?;
        let mut seen = BTreeSet::new();
        let mut ambiguous = BTreeSet::new();
        each_tensor(&tree, &mut Vec::new(), &mut |name| {
            if !seen.insert(name.clone()) {
                ambiguous.insert(name);
            }
        });
        let tensors = reader.into_tensors();
        let headers = tensors.iter().map(|(name, tensor)| {
            let header = TensorHeader {
                shape: tensor.shape().to_vec(),
                number: pytorch_number(tensor.dtype()),
                bytes: tensor.byte_len() as u64,
            };
            (name.clone(), header)
        });
        Ok(Self {
            name,
            size,
            headers: headers.collect(),
            ambiguous,
            metadata: BTreeMap::new(),
            content: Content::PyTorch(tensors),
        })
    }

    /// The file's name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every tensor's header by its dotted name.
    pub fn headers(&self) -> &BTreeMap<String, TensorHeader> {
        &self.headers
    }

    /// The text entries of a safetensors header; none for a PyTorch file.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Refuses names that stand for two tensors, and tensors that would need far more memory than the file has bytes.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Format`], which names the tensor or the bytes.
    pub(super) fn check<'a>(
        &self,
        names: impl Iterator<Item = &'a String>,
    ) -> Result<(), WeightsError> {
        let broken = |problem: String| WeightsError::Format {
            source_name: self.name.clone(),
            problem,
        };
        let mut declared = 0_u64;
        for name in names {
            if self.ambiguous.contains(name) {
                return Err(broken(format!(
                    "two of its tensors have the dotted name {name}, so the name is ambiguous"
                )));
            }
            declared = declared.saturating_add(self.headers.get(name).map_or(0, |h| h.bytes));
        }
        let limit = self
            .size
            .saturating_mul(MAX_GROWTH)
            .saturating_add(ALWAYS_ALLOWED_BYTES)
            .min(MAX_CHECKPOINT_BYTES);
        if declared > limit {
            return Err(broken(format!(
                "its weights declare {declared} bytes, which a file of {} bytes does not hold",
                self.size
            )));
        }
        Ok(())
    }

    /// Reads one tensor as 32-bit numbers.
    pub(super) fn read(&self, name: &str) -> Result<StateTensor, WeightsError> {
        let broken = |problem: String| WeightsError::Format {
            source_name: self.name.clone(),
            problem: format!("tensor {name}: {problem}"),
        };
        let header = self
            .headers
            .get(name)
            .ok_or_else(|| broken("it is missing".into()))?;
        let convert = |bytes: &[u8]| match &header.number {
            NumberType::F32 => Some(floats(bytes, f32::from_le_bytes)),
            NumberType::F64 => Some(floats(bytes, |bytes| f64::from_le_bytes(bytes) as f32)),
            NumberType::F16 => Some(floats(bytes, |bytes| f16::from_le_bytes(bytes).to_f32())),
            NumberType::Bf16 => Some(floats(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32())),
            NumberType::Integer(_) | NumberType::Other(_) => None,
        };
        let values = match &self.content {
            Content::PyTorch(tensors) => {
                let tensor = tensors
                    .get(name)
                    .ok_or_else(|| broken("it is missing".into()))?;
                convert(&tensor.read().map_err(|error| broken(error.to_string()))?)
            }
            Content::Safetensors(bytes) => {
                let file = SafeTensors::deserialize(bytes);
                let view = file.as_ref().map_err(|error| broken(error.to_string()));
                let tensor = view?
                    .tensor(name)
                    .map_err(|error| broken(error.to_string()))?;
                convert(tensor.data())
            }
        };
        let values = values.ok_or_else(|| WeightsError::Dtype {
            name: name.to_owned(),
            dtype: header.number.name().to_owned(),
        })?;
        Ok(StateTensor {
            shape: header.shape.clone(),
            values,
        })
    }
}

impl std::fmt::Debug for CheckpointFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointFile")
            .field("name", &self.name)
            .field("tensors", &self.headers.len())
            .finish_non_exhaustive()
    }
}

fn owned((key, value): (&String, &String)) -> (String, String) {
    (key.clone(), value.clone())
}

/// Safetensors by its ending, or by its content: an 8-byte length and the brace of a JSON object.
fn is_safetensors(path: &Path) -> std::io::Result<bool> {
    if path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"))
    {
        return Ok(true);
    }
    let mut start = Vec::new();
    fs_err::File::open(path)?.take(9).read_to_end(&mut start)?;
    // A pickle's first byte is 0x80 and a ZIP file's a P; neither has a brace at this place.
    Ok(start.len() == 9 && start[8] == b'{' && start[7] == 0)
}

/// Calls `each` with the dotted name of every tensor.
fn each_tensor(value: &PickleValue, path: &mut Vec<String>, each: &mut impl FnMut(String)) {
    match value {
        PickleValue::Dict(entries) => {
            for (key, value) in entries {
                path.push(key.clone());
                each_tensor(value, path, each);
                path.pop();
            }
        }
        PickleValue::List(items) => {
            for (index, value) in items.iter().enumerate() {
                path.push(index.to_string());
                each_tensor(value, path, each);
                path.pop();
            }
        }
        PickleValue::Unsupported(kind) if kind == "torch.Tensor" => each(path.join(".")),
        _ => {}
    }
}

fn safetensors_number(dtype: Dtype) -> NumberType {
    match dtype {
        Dtype::F64 => NumberType::F64,
        Dtype::F32 => NumberType::F32,
        Dtype::F16 => NumberType::F16,
        Dtype::BF16 => NumberType::Bf16,
        Dtype::BOOL
        | Dtype::U8
        | Dtype::I8
        | Dtype::U16
        | Dtype::I16
        | Dtype::U32
        | Dtype::I32
        | Dtype::U64
        | Dtype::I64 => NumberType::Integer(format!("{dtype:?}")),
        other => NumberType::Other(format!("{other:?}")),
    }
}

fn pytorch_number(dtype: DType) -> NumberType {
    match dtype {
        DType::F64 => NumberType::F64,
        DType::F32 => NumberType::F32,
        DType::F16 => NumberType::F16,
        DType::BF16 => NumberType::Bf16,
        integer => NumberType::Integer(format!("{integer:?}")),
    }
}

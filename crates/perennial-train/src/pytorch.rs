//! Checkpoints of other tools: PyTorch `.pt`/`.pth` state dicts and safetensors with the official key names.

use std::path::Path;

use perennial_core::Simplex;
use pytorch_reader::{DType, PytorchReader};

use crate::state_dict::{
    StateDict, StateTensor, WeightsError, floats, from_safetensors, is_counter,
};

/// The largest checkpoint that is read.
pub const MAX_CHECKPOINT_BYTES: u64 = 4 << 30;

/// Reads a checkpoint file and brings its keys to Perennial's names: common wrappers (`net.`, `module.`, `model.`,
/// `state_dict.`) are removed, and a bare backbone gets its `backbone.` prefix.
///
/// Nothing in the file is executed: the pickle is parsed as data.
///
/// # Errors
///
/// An unreadable file, or a tensor that is neither f32 nor f64.
pub fn read_checkpoint(path: &Path) -> Result<StateDict, WeightsError> {
    let name = path.display().to_string();
    let broken = |problem: String| WeightsError::Format {
        source_name: name.clone(),
        problem,
    };
    let size = fs_err::metadata(path)
        .map_err(|error| broken(error.to_string()))?
        .len();
    if size > MAX_CHECKPOINT_BYTES {
        return Err(broken(format!(
            "{size} bytes, more than the limit of {MAX_CHECKPOINT_BYTES}"
        )));
    }
    let state = if path
        .extension()
        .is_some_and(|extension| extension == "safetensors")
    {
        let bytes = perennial_core::read_at_most(path, MAX_CHECKPOINT_BYTES)
            .map_err(|error| broken(error.to_string()))?;
        from_safetensors(&bytes, &name)?
    } else {
        let reader = PytorchReader::new(path).map_err(|error| broken(error.to_string()))?;
        // A strided view lets a small file declare huge tensors.
        let sizes = reader
            .tensors()
            .values()
            .map(|tensor| tensor.byte_len() as u64);
        let declared = sizes.fold(0_u64, u64::saturating_add);
        if declared > MAX_CHECKPOINT_BYTES {
            return Err(broken(format!(
                "its tensors declare {declared} bytes, more than {MAX_CHECKPOINT_BYTES}"
            )));
        }
        let mut state = StateDict::new();
        for (key, tensor) in reader.tensors() {
            if is_counter(key) {
                continue;
            }
            let bytes = tensor
                .read()
                .map_err(|error| broken(format!("tensor {key}: {error}")))?;
            let values = match tensor.dtype() {
                DType::F32 => floats(&bytes, f32::from_le_bytes),
                DType::F64 => floats(&bytes, |bytes| f64::from_le_bytes(bytes) as f32),
                other => {
                    return Err(WeightsError::Dtype {
                        name: key.clone(),
                        dtype: format!("{other:?}"),
                    });
                }
            };
            state.insert(
                key.clone(),
                StateTensor {
                    shape: tensor.shape().to_vec(),
                    values,
                },
            );
        }
        state
    };
    if state.is_empty() {
        return Err(broken("it holds no tensors".into()));
    }
    Ok(with_own_names(state))
}

fn with_own_names(mut state: StateDict) -> StateDict {
    while let Some(prefix) = ["net.", "module.", "model.", "state_dict."]
        .into_iter()
        .find(|prefix| state.keys().all(|key| key.starts_with(prefix)))
    {
        state = state
            .into_iter()
            .map(|(key, value)| (key[prefix.len()..].to_owned(), value))
            .collect();
    }
    if state.contains_key("conv1.weight") {
        state = state
            .into_iter()
            .map(|(key, value)| {
                // torchvision's classifier is `fc`; the released checkpoints number theirs.
                if let Some(rest) = key.strip_prefix("fc.") {
                    (format!("fc2.{rest}"), value)
                } else if key.starts_with("fc") {
                    (key, value)
                } else {
                    (format!("backbone.{key}"), value)
                }
            })
            .collect();
    }
    state
}

/// Removes a checkpoint's frozen simplex classifier (`fc2.weight`) after checking that it is one.
///
/// # Errors
///
/// [`WeightsError::NotSimplex`] if the stored prototypes differ from the closed form by more than 1e-4.
pub fn take_simplex_classifier(
    state: &mut StateDict,
    simplex: Simplex,
) -> Result<(), WeightsError> {
    const NAME: &str = "fc2.weight";
    let Some(stored) = state.remove(NAME) else {
        return Ok(());
    };
    let same_shape = stored.shape == [simplex.vertices(), simplex.dim()];
    let same = same_shape
        && stored
            .values
            .chunks_exact(simplex.dim())
            .enumerate()
            .all(|(vertex, row)| {
                row.iter()
                    .zip(simplex.prototype(vertex))
                    .all(|(stored, exact)| (stored - exact).abs() <= 1e-4)
            });
    if same {
        Ok(())
    } else {
        Err(WeightsError::NotSimplex {
            name: NAME.into(),
            vertices: simplex.vertices(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_tools_become_our_own() {
        let state = |keys: &[&str]| -> StateDict {
            let tensor = StateTensor {
                shape: vec![1],
                values: vec![0.0],
            };
            let named = keys.iter().map(|key| ((*key).to_owned(), tensor.clone()));
            named.collect()
        };
        for (theirs, ours) in [
            (
                ["module.conv1.weight", "module.fc.bias"],
                ["backbone.conv1.weight", "fc2.bias"],
            ),
            (
                ["conv1.weight", "fc1.weight"],
                ["backbone.conv1.weight", "fc1.weight"],
            ),
            (
                ["net.backbone.conv1.weight", "net.fc2.weight"],
                ["backbone.conv1.weight", "fc2.weight"],
            ),
        ] {
            let names = with_own_names(state(&theirs));
            assert!(names.keys().eq(ours), "{:?}", names.keys());
        }
    }
}

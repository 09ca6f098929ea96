//! Centred versions: the mean of the training images' embeddings, kept with the weights and subtracted from every embedding.
//!
//! Embeddings of one model share a direction that says nothing about any of them; without it, cosines spread over the whole range. The
//! formula is that of bridges, `unit(unit(x) - mean)`, and so is the code ([`Centring`]).

use perennial_bridge::Centring;
use perennial_core::ModelVersion;

use crate::TrainError;
use crate::state_dict::{StateDict, StateTensor};

/// The mean's name among the tensors of `weights.safetensors`; `centred = true` in `model.toml` says that it is there.
const MEAN: &str = "embedding_mean";

/// Keeps the mean of unit embeddings, `[images, dim]`, with the weights.
pub(crate) fn keep_mean(
    state: &mut StateDict,
    embeddings: &[f32],
    dim: usize,
) -> Result<(), TrainError> {
    let centring = Centring::fit(embeddings, dim).map_err(|error| TrainError::Embedding {
        problem: error.to_string(),
    })?;
    let mean = StateTensor {
        shape: vec![dim],
        values: centring.mean().to_vec(),
    };
    state.insert(MEAN.to_owned(), mean);
    Ok(())
}

/// Takes the mean out of a version's tensors, which are the network's alone after that.
///
/// # Errors
///
/// A centred version without a mean that fits it.
pub(crate) fn take_mean(
    state: &mut StateDict,
    version: &ModelVersion,
) -> Result<Option<Centring>, TrainError> {
    if !version.centred {
        // A tensor of this name is then one too many, and the network's loader says so.
        return Ok(None);
    }
    let refused = |problem: String| TrainError::Version {
        version: version.name.clone(),
        problem: format!("it is centred, but {problem}; publish or import it anew"),
    };
    let mean = state
        .remove(MEAN)
        .ok_or_else(|| refused(format!("its weights have no tensor {MEAN}")))?;
    if mean.shape != [version.dim] {
        let problem = format!("{MEAN} has shape {:?} for dim {}", mean.shape, version.dim);
        return Err(refused(problem));
    }
    let centring = Centring::new(mean.values).map_err(|error| refused(error.to_string()))?;
    Ok(Some(centring))
}

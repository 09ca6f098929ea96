//! Embeddings of a training set's images, without augmentation.

use burn::tensor::{Device, Tensor, TensorData};
use perennial_core::normalize_rows;
use perennial_data::{ImageSet, Pipeline};

use crate::TrainError;
use crate::network::FrozenNetwork;

/// Images per forward pass.
const CHUNK: usize = 256;

/// Unit embeddings of the images at `images`, and their length: `[images.len(), dim]`.
///
/// # Errors
///
/// An embedding without direction, which a diverged network gives.
pub(crate) fn unit_embeddings(
    network: &FrozenNetwork,
    set: &ImageSet,
    images: &[usize],
    pipeline: &Pipeline,
    device: &Device,
) -> Result<(Vec<f32>, usize), TrainError> {
    let (mut embeddings, dim) = embeddings(network, set, images, pipeline, device)?;
    normalize_rows(&mut embeddings, dim.max(1)).map_err(|error| TrainError::Embedding {
        problem: error.to_string(),
    })?;
    Ok((embeddings, dim))
}

/// Embeddings of the length that the network gives them.
///
/// # Errors
///
/// A device that does not hand out its results.
pub(crate) fn embeddings(
    network: &FrozenNetwork,
    set: &ImageSet,
    images: &[usize],
    pipeline: &Pipeline,
    device: &Device,
) -> Result<(Vec<f32>, usize), TrainError> {
    let [channels, height, width] = set.shape();
    let [height, width] = pipeline.side.map_or([height, width], |side| [side; 2]);
    let (mut embeddings, mut pixels, mut dim) = (Vec::new(), Vec::new(), 0);
    for chunk in images.chunks(CHUNK) {
        pipeline.batch(set, chunk, 0, &mut pixels)?;
        let data = TensorData::new(pixels.clone(), [chunk.len(), channels, height, width]);
        let output = network.forward(Tensor::from_data(data, device));
        dim = output.dims()[1];
        let values = output.into_data().convert::<f32>().try_into_vec::<f32>();
        embeddings.extend(values.map_err(|error| TrainError::Device {
            name: format!("{device:?}"),
            problem: format!("embeddings could not be read ({error:?})"),
        })?);
    }
    Ok((embeddings, dim))
}

//! Embeddings of a training set's images, without augmentation.

use burn::tensor::{Device, Tensor, TensorData};
use perennial_core::normalize_rows;
use perennial_data::{ImageSet, Pipeline};

use crate::TrainError;
use crate::network::FrozenNetwork;

/// Images per forward pass.
const CHUNK: usize = 256;

/// Unit embeddings of those of a task's images that have one, which those whose embedding is all zeros have not.
pub(crate) struct KnownEmbeddings {
    /// `[images with an embedding, dim]`
    pub rows: Vec<f32>,
    /// Length of a row.
    pub dim: usize,
    /// Which of the images have one.
    pub known: Vec<bool>,
}

/// See [`KnownEmbeddings`].
///
/// # Errors
///
/// An embedding that is not finite, which a diverged network gives.
pub(crate) fn known_unit_embeddings(
    network: &FrozenNetwork,
    set: &ImageSet,
    images: &[usize],
    pipeline: &Pipeline,
    device: &Device,
) -> Result<KnownEmbeddings, TrainError> {
    let (embeddings, dim) = embeddings(network, set, images, pipeline, device)?;
    let known = have_direction(&embeddings, dim);
    let mut rows = chosen_rows(&embeddings, dim, &known);
    normalize_rows(&mut rows, dim.max(1)).map_err(|error| TrainError::Embedding {
        problem: error.to_string(),
    })?;
    Ok(KnownEmbeddings { rows, dim, known })
}

/// Which rows are not all zeros: the images that have an embedding.
pub(crate) fn have_direction(rows: &[f32], dim: usize) -> Vec<bool> {
    let rows = rows.chunks_exact(dim.max(1));
    rows.map(|row| row.iter().any(|&value| value != 0.0))
        .collect()
}

/// The rows whose flag is set.
pub(crate) fn chosen_rows(rows: &[f32], dim: usize, chosen: &[bool]) -> Vec<f32> {
    let rows = rows.chunks_exact(dim.max(1)).zip(chosen);
    let rows = rows.filter(|(_, chosen)| **chosen);
    rows.flat_map(|(row, _)| row).copied().collect()
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

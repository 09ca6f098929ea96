//! From images to embeddings, with a version of the registry.

use anyhow::Context;
use perennial_core::{Embeddings, ModelVersion, Registry};
use perennial_data::ImageSet;
use perennial_encode::{EncodeError, Input, Prepared, Values};
use perennial_upgrade::LoadedModel;
use rayon::prelude::*;

use crate::arguments::GlobalArguments;
use crate::model_loading::VersionLoader;

/// Bytes of prepared pictures per call of the encoder, between two checks for Ctrl-C.
const BATCH_BYTES: usize = 32 << 20;
/// The most pictures or texts of such a call.
const MAX_BATCH: usize = 512;

/// Tokens of one call, where each text counts as long as the longest of them.
const BATCH_TOKENS: usize = 16_384;
/// Texts of one call.
const BATCH_TEXTS: usize = 128;

/// Pictures or texts that are embedded at once.
pub fn batch(version: &ModelVersion) -> usize {
    let picture = version.picture_size();
    let bytes = picture.map_or(0, |[height, width]| 4 * 3 * height * width);
    (BATCH_BYTES / bytes.max(1)).clamp(8, MAX_BATCH)
}

/// Loads a version and embeds a whole set. `images_done` is called after every batch; its error ends the work. Ids are positions in the set.
pub fn embed(
    registry: &Registry,
    version: &ModelVersion,
    global: &GlobalArguments,
    set: &ImageSet,
    images_done: impl FnMut(usize) -> anyhow::Result<()>,
) -> anyhow::Result<Embeddings> {
    embed_with(&load(registry, version, global)?, set, images_done)
}

/// The same for a measurement: images without an embedding are [missing](Embeddings::missing) instead of an error.
pub fn embed_with_missing(
    registry: &Registry,
    version: &ModelVersion,
    global: &GlobalArguments,
    set: &ImageSet,
    images_done: impl FnMut(usize) -> anyhow::Result<()>,
) -> anyhow::Result<Embeddings> {
    let model = load(registry, version, global)?;
    let vectors = vectors(&model, set, LoadedModel::encode_with_missing, images_done)?;
    let ids = (0..set.len() as u64).collect();
    let labels = Some(set.labels().to_vec());
    let (name, dim) = (version.name.as_str(), version.dim);
    Ok(Embeddings::with_missing(name, dim, vectors, ids, labels)?)
}

fn load(
    registry: &Registry,
    version: &ModelVersion,
    global: &GlobalArguments,
) -> anyhow::Result<LoadedModel> {
    let loader = VersionLoader::of(global)?;
    Ok(LoadedModel::load(&loader, registry, version.clone())?)
}

/// The same with a version that is loaded already. Images of another size than the version's are scaled to it.
pub fn embed_with(
    model: &LoadedModel,
    set: &ImageSet,
    images_done: impl FnMut(usize) -> anyhow::Result<()>,
) -> anyhow::Result<Embeddings> {
    let vectors = vectors(model, set, LoadedModel::encode, images_done)?;
    let ids = (0..set.len() as u64).collect();
    let labels = Some(set.labels().to_vec());
    let (name, dim) = (model.name(), model.version.dim);
    Ok(Embeddings::new(name, dim, vectors, ids, labels)?)
}

fn vectors(
    model: &LoadedModel,
    set: &ImageSet,
    encode: fn(&LoadedModel, &[Prepared]) -> Result<Vec<f32>, EncodeError>,
    mut images_done: impl FnMut(usize) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<f32>> {
    let version = &model.version;
    let mut vectors = Vec::with_capacity(set.len() * version.dim);
    let positions: Vec<usize> = (0..set.len()).collect();
    for batch in positions.chunks(batch(version)) {
        let place = || format!("{} on images from {} on", version.name, batch[0]);
        let prepare = |&index: &usize| {
            let (pixels, shape) = (set.image(index), set.shape());
            model.prepare(Input::Pixels { pixels, shape })
        };
        let prepared = batch.par_iter().map(prepare);
        let prepared: Vec<Prepared> = prepared.collect::<Result<_, _>>().with_context(place)?;
        vectors.extend(encode(model, &prepared).with_context(place)?);
        images_done(batch.len())?;
    }
    Ok(vectors)
}

/// Encodes inputs in batches of similar length; rows come in the order of the inputs. `batch_done` is called after every batch; its error ends
/// the work.
///
/// **Shapes**: the result is `[inputs.len(), d]`.
pub fn encode_by_length(
    model: &LoadedModel,
    inputs: &[Prepared],
    mut batch_done: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Vec<f32>> {
    let length = |input: &Prepared| match &input.values {
        Values::Tokens(tokens) => tokens.len(),
        Values::Pixels(_) | Values::Text(_) => 0,
    };
    let mut order: Vec<usize> = (0..inputs.len()).collect();
    order.sort_by_key(|&place| length(&inputs[place]));
    let dim = model.version.dim;
    let mut vectors = vec![0.0; inputs.len() * dim];
    let mut rest = order.as_slice();
    let pictures = batch(&model.version);
    while !rest.is_empty() {
        // The last one is the longest.
        let fits = |&count: &usize| match length(&inputs[rest[count - 1]]) {
            0 => count <= pictures,
            longest => count <= BATCH_TEXTS && count * longest <= BATCH_TOKENS,
        };
        let count = (1..=rest.len()).take_while(fits).last().unwrap_or(1);
        let (now, later) = rest.split_at(count);
        let batch: Vec<Prepared> = now.iter().map(|&place| inputs[place].clone()).collect();
        let encoded = model.encode(&batch)?;
        for (&place, row) in now.iter().zip(encoded.chunks_exact(dim)) {
            vectors[place * dim..][..dim].copy_from_slice(row);
        }
        batch_done()?;
        rest = later;
    }
    Ok(vectors)
}

//! Images to embeddings: one pass of one version over one set.

use anyhow::Context;
use perennial_core::{Embeddings, Encoder, ModelVersion, Registry};
use perennial_data::{ImageSet, Preprocessing};
use perennial_train::{DeviceChoice, TrainedEncoder};

use crate::exit_status::usage;

/// Images per call of the encoder, between two looks at Ctrl-C.
const BATCH: usize = 512;

/// Loads a version and embeds a whole set. `images_done` hears of every batch and may end the work. Ids are positions in the set.
pub fn embed(
    registry: &Registry,
    version: &ModelVersion,
    device: DeviceChoice,
    set: &ImageSet,
    images_done: impl FnMut(usize) -> anyhow::Result<()>,
) -> anyhow::Result<Embeddings> {
    check_shape(version, set)?;
    let encoder = TrainedEncoder::load(registry, version.clone(), &device.open()?)?;
    embed_with(&encoder, version, set, images_done)
}

/// The same with a version that is loaded already.
pub fn embed_with(
    encoder: &TrainedEncoder,
    version: &ModelVersion,
    set: &ImageSet,
    mut images_done: impl FnMut(usize) -> anyhow::Result<()>,
) -> anyhow::Result<Embeddings> {
    check_shape(version, set)?;
    let preprocessing = Preprocessing::try_from(&version.preprocessing)
        .with_context(|| format!("version {}", version.name))?;
    let mut vectors = Vec::with_capacity(set.len() * version.dim);
    let mut pixels = Vec::new();
    let positions: Vec<usize> = (0..set.len()).collect();
    for batch in positions.chunks(BATCH) {
        preprocessing.normalize(set, batch, &mut pixels)?;
        let embedded = encoder.encode(&pixels);
        vectors.extend(
            embedded.with_context(|| format!("{} on images from {} on", version.name, batch[0]))?,
        );
        images_done(batch.len())?;
    }
    let ids = (0..set.len() as u64).collect();
    Ok(Embeddings::new(
        version.name.as_str(),
        version.dim,
        vectors,
        ids,
        Some(set.labels().to_vec()),
    )?)
}

fn check_shape(version: &ModelVersion, set: &ImageSet) -> anyhow::Result<()> {
    let expected = version.architecture.input;
    if set.shape() == expected {
        return Ok(());
    }
    let text = |[channels, height, width]: [usize; 3]| format!("{channels}x{height}x{width}");
    Err(usage(format!(
        "version {} takes images of {} (channels, height, width), {} has {}",
        version.name,
        text(expected),
        set.name(),
        text(set.shape())
    )))
}

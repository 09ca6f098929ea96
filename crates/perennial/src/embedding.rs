//! From images to embeddings, with the preprocessing of a version.

use std::borrow::Cow;

use anyhow::Context;
use perennial_core::{Embeddings, Encoder, ModelVersion, Registry};
use perennial_data::{ImageSet, Preprocessing};
use perennial_encode::{grey, scale_square};
use perennial_train::{DeviceChoice, TrainedEncoder};

use crate::exit_status::usage;

/// Bytes of prepared pixels per call of the encoder, between two checks for Ctrl-C.
const BATCH_BYTES: usize = 32 << 20;
/// The most images of such a call.
const MAX_BATCH: usize = 512;

/// The preprocessing of a version: side, channels, normalisation.
#[derive(Clone, Debug)]
pub struct Preparation {
    preprocessing: Preprocessing,
    channels: usize,
    side: usize,
}

impl Preparation {
    /// **Errors**: a version that takes no square images of 1 or 3 channels.
    pub fn of(version: &ModelVersion) -> anyhow::Result<Self> {
        let [channels, height, width] = version.architecture.input;
        if !matches!(channels, 1 | 3) || height != width {
            return Err(usage(format!(
                "version {} takes inputs of {channels}x{height}x{width} (channels, height, width); pictures become squares of 1 or 3 channels",
                version.name
            )));
        }
        let preprocessing = Preprocessing::try_from(&version.preprocessing)
            .with_context(|| format!("version {}", version.name))?;
        Ok(Self {
            preprocessing,
            channels,
            side: height,
        })
    }

    /// The side of the squares, in pixels.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Images that are embedded at once.
    pub fn batch(&self) -> usize {
        let image = 4 * self.channels * self.side * self.side;
        (BATCH_BYTES / image.max(1)).clamp(8, MAX_BATCH)
    }

    /// Normalises a square.
    ///
    /// **Shapes**: `square` is `[3, side, side]`; `[channels, side, side]` is appended.
    pub fn append(&self, square: &[u8], pixels: &mut Vec<f32>) {
        match self.channels {
            1 => self.preprocessing.append(&grey(square), 1, pixels),
            _ => self.preprocessing.append(square, 3, pixels),
        }
    }

    /// Scales, where that is needed, and normalises an image of a set.
    fn append_image(
        &self,
        set: &ImageSet,
        index: usize,
        pixels: &mut Vec<f32>,
    ) -> anyhow::Result<()> {
        let [channels, height, width] = set.shape();
        let image = set.image(index);
        let rgb = match channels {
            3 => Cow::Borrowed(image),
            _ => Cow::Owned(image.repeat(3)),
        };
        let square = match [height, width] == [self.side; 2] {
            true => rgb,
            false => Cow::Owned(scale_square(&rgb, [height, width], self.side)?),
        };
        self.append(&square, pixels);
        Ok(())
    }
}

/// Loads a version and embeds a whole set. `images_done` is called after every batch; its error ends the work. Ids are positions in the set.
pub fn embed(
    registry: &Registry,
    version: &ModelVersion,
    device: DeviceChoice,
    set: &ImageSet,
    images_done: impl FnMut(usize) -> anyhow::Result<()>,
) -> anyhow::Result<Embeddings> {
    Preparation::of(version)?;
    let encoder = TrainedEncoder::load(registry, version.clone(), &device.open()?)?;
    embed_with(&encoder, version, set, images_done)
}

/// The same with a version that is loaded already. Images of another size than the version's are scaled to it.
pub fn embed_with(
    encoder: &TrainedEncoder,
    version: &ModelVersion,
    set: &ImageSet,
    mut images_done: impl FnMut(usize) -> anyhow::Result<()>,
) -> anyhow::Result<Embeddings> {
    let preparation = Preparation::of(version)?;
    let as_it_is = set.shape() == version.architecture.input;
    let mut vectors = Vec::with_capacity(set.len() * version.dim);
    let mut pixels = Vec::new();
    let positions: Vec<usize> = (0..set.len()).collect();
    for batch in positions.chunks(preparation.batch()) {
        if as_it_is {
            preparation
                .preprocessing
                .normalize(set, batch, &mut pixels)?;
        } else {
            pixels.clear();
            for &index in batch {
                preparation.append_image(set, index, &mut pixels)?;
            }
        }
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

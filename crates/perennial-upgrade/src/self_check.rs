//! The self-check of an encoder before its version becomes live.

use crate::loaded_model::LoadedModel;

/// Images of the check.
const PROBES: usize = 5;

/// How far two encodings of one image may be apart, as the length of their difference: f32 rounding of another summation
/// order, and nothing more.
const TOLERANCE: f64 = 1e-3;

/// Encodes probes alone and together: embeddings must be finite, of unit length, of the version's dimension, and must not depend
/// on what else is in the batch. Blocks for two forward passes; the first of a network is its warm-up as well.
///
/// **Errors**: what is wrong, in words.
pub fn run(model: &LoadedModel) -> Result<(), String> {
    let probes = probes(model);
    let together = model.encode(&probes).map_err(|error| error.to_string())?;
    let image_len = model.image_len();
    let dim = model.version.dim;
    for (index, image) in probes.chunks_exact(image_len).enumerate() {
        let alone = model.encode(image).map_err(|error| error.to_string())?;
        let distance: f64 = alone
            .iter()
            .zip(&together[index * dim..][..dim])
            .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
            .sum::<f64>()
            .sqrt();
        if distance > TOLERANCE {
            return Err(format!(
                "the embedding of probe {index} depends on the batch: alone and in a batch of {PROBES}, it differs by {distance:.2e}"
            ));
        }
    }
    Ok(())
}

/// One black image, for the warm-up.
///
/// **Errors**: what is wrong, in words.
pub fn warm_up(model: &LoadedModel) -> Result<(), String> {
    let [channels, height, width] = model.version.architecture.input;
    let mut pixels = Vec::with_capacity(model.image_len());
    let black = vec![0; channels * height * width];
    model.preprocessing.append(&black, channels, &mut pixels);
    match model.encoder.encode(&pixels) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Images that are the same in every process: waves of different lengths and directions.
///
/// **Shapes**: `[PROBES, c, h, w]`.
fn probes(model: &LoadedModel) -> Vec<f32> {
    let [channels, height, width] = model.version.architecture.input;
    let mut pixels = Vec::with_capacity(PROBES * model.image_len());
    for probe in 0..PROBES {
        let mut bytes = Vec::with_capacity(channels * height * width);
        for channel in 0..channels {
            for y in 0..height {
                for x in 0..width {
                    let phase = x * (probe + 1) + y * (PROBES - probe) + 7 * channel;
                    let wave = (phase as f32 * 0.37).sin();
                    bytes.push((127.5 + 127.5 * wave) as u8);
                }
            }
        }
        model.preprocessing.append(&bytes, channels, &mut pixels);
    }
    pixels
}

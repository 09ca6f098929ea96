//! The self-check of an encoder before its version becomes live.

use crate::fixed_inputs::{FixedInput, in_memory, plain};
use crate::loaded_model::LoadedModel;
use crate::query_cost;
use perennial_encode::Prepared;

/// How far two encodings of one input may be apart, as the length of their difference: f32 rounding of another summation
/// order, and nothing more.
const TOLERANCE: f64 = 1e-3;

/// Encodes fixed pictures, texts or both, alone and together: embeddings must be finite, of unit length, of the version's dimension, and must
/// not depend on what else is in the batch. Blocks for one forward pass of all
/// of them and one of each; the first is the warm-up of a network as well.
///
/// **Errors**: what is wrong, in words.
pub fn run(model: &LoadedModel) -> Result<(), String> {
    let probes = prepared(model, &in_memory(model))?;
    let together = model.encode(&probes).map_err(|error| error.to_string())?;
    let dim = model.version.dim;
    let tolerance = model.own_tolerance().unwrap_or(TOLERANCE);
    for (index, probe) in probes.iter().enumerate() {
        let alone = model.encode(std::slice::from_ref(probe));
        let alone = alone.map_err(|error| error.to_string())?;
        let distance: f64 = alone
            .iter()
            .zip(&together[index * dim..][..dim])
            .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
            .sum::<f64>()
            .sqrt();
        if distance > tolerance {
            return Err(format!(
                "the embedding of probe {index} depends on the batch: alone and in a batch of {}, it differs by {distance:.2e} (limit {tolerance:.0e})",
                probes.len()
            ));
        }
    }
    // While it is warm, and so that a rollback to it has the figure at once.
    query_cost::milliseconds(model);
    Ok(())
}

/// One black image, one short text, or both, for the warm-up. Says what was encoded.
///
/// **Errors**: what is wrong, in words.
pub fn warm_up(model: &LoadedModel) -> Result<String, String> {
    let inputs = plain(model);
    let batch = prepared(model, &inputs)?;
    // A black image need not have an embedding of unit length.
    model
        .encoder
        .encode(&batch)
        .map_err(|error| error.to_string())?;
    let words = inputs.iter().map(|input| match input {
        FixedInput::Text(_) => "one short text",
        _ => "one black image",
    });
    let words: Vec<&str> = words.collect();
    Ok(format!("{} encoded", words.join(" and ")))
}

fn prepared(model: &LoadedModel, inputs: &[FixedInput]) -> Result<Vec<Prepared>, String> {
    inputs
        .iter()
        .map(|input| model.prepare(input.as_input()))
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}

//! Probes: a few pictures and texts, with the embeddings that an encoder once gave them, and their file.

use std::collections::HashMap;

use perennial_encode::{EncodeError, Prepared};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use thiserror::Error;

use crate::fixed_inputs::{FixedInput, files};
use crate::loaded_model::LoadedModel;

/// Inputs that a file may hold.
const MAX_PROBES: usize = 64;
/// The largest file that is read.
pub(crate) const MAX_FILE_BYTES: u64 = 16 << 20;
/// How far an embedding may be from the recorded one, as the length of their difference. Another device or batch rounds by less;
/// a similarity changes by at most this much. An embedding service has a limit of its own.
const TOLERANCE: f64 = 1e-2;

/// Files of pictures alone, which programs before 0.3 read as well.
const PICTURES: &str = "1";
/// Files with texts.
const WITH_TEXTS: &str = "2";

/// A probe that cannot be embedded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProbeInputError {
    /// A probe that is no picture any more, or not for this program.
    #[error("probe {probe} {problem}")]
    Input {
        /// Position of the probe, from 0.
        probe: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The encoder fails on the probes.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Pictures and texts, and their embeddings.
pub struct Probes {
    inputs: Vec<FixedInput>,
    /// `[inputs, d]`.
    embeddings: Vec<f32>,
}

/// How far the embeddings of today are from the recorded ones.
pub(crate) enum Compared {
    /// Within the tolerance; the largest length of a difference.
    Same(f64),
    /// The first probe beyond it.
    Changed {
        probe: usize,
        distance: f64,
        tolerance: f64,
    },
}

impl Probes {
    /// Fixed inputs, with the embeddings that a version gives them now.
    pub(crate) fn generated(model: &LoadedModel) -> Result<Self, ProbeInputError> {
        let inputs = files(model).map_err(|error| ProbeInputError::Input {
            probe: 0,
            problem: error.to_string(),
        })?;
        let embeddings = encode(model, &inputs)?;
        Ok(Self { inputs, embeddings })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.inputs.len()
    }

    /// Embeds the inputs again.
    pub(crate) fn compare(&self, model: &LoadedModel) -> Result<Compared, ProbeInputError> {
        let now = encode(model, &self.inputs)?;
        let dim = model.version.dim;
        let rows = now
            .chunks_exact(dim)
            .zip(self.embeddings.chunks_exact(dim))
            .enumerate();
        let tolerance = model.own_tolerance().unwrap_or(TOLERANCE);
        let mut largest = 0.0;
        for (probe, (a, b)) in rows {
            let squares = a.iter().zip(b);
            let distance = squares
                .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
                .sum::<f64>()
                .sqrt();
            if distance > tolerance {
                return Ok(Compared::Changed {
                    probe,
                    distance,
                    tolerance,
                });
            }
            largest = f64::max(largest, distance);
        }
        Ok(Compared::Same(largest))
    }

    /// A file of a format, with more about it.
    pub(crate) fn to_bytes(
        &self,
        format: &str,
        dim: usize,
        metadata: &[(&str, &str)],
    ) -> std::io::Result<Vec<u8>> {
        let values: Vec<u8> = self
            .embeddings
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let shape = vec![self.inputs.len(), dim];
        let wrong = std::io::Error::other;
        let mut tensors = vec![(
            "embeddings".to_owned(),
            TensorView::new(Dtype::F32, shape, &values).map_err(wrong)?,
        )];
        let mut format_version = PICTURES;
        for (index, input) in self.inputs.iter().enumerate() {
            let (kind, bytes) = match input {
                FixedInput::Picture(file) => ("image", file.as_slice()),
                FixedInput::Text(text) => {
                    format_version = WITH_TEXTS;
                    ("text", text.as_bytes())
                }
                FixedInput::Pixels { .. } => continue,
            };
            let view = TensorView::new(Dtype::U8, vec![bytes.len()], bytes).map_err(wrong)?;
            tensors.push((format!("{kind}_{index}"), view));
        }
        let own = [
            ("format", format),
            ("format_version", format_version),
            ("program_version", env!("CARGO_PKG_VERSION")),
        ];
        let metadata: HashMap<String, String> = own
            .iter()
            .chain(metadata)
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        safetensors::serialize(tensors, Some(metadata)).map_err(wrong)
    }

    /// The probes of a file for embeddings of `dim` values, or what is wrong with it.
    pub(crate) fn from_bytes(bytes: &[u8], dim: usize) -> Result<Self, String> {
        let file = SafeTensors::deserialize(bytes).map_err(broken)?;
        let embeddings = file.tensor("embeddings").map_err(broken)?;
        let &[count, found] = embeddings.shape() else {
            return Err("has embeddings that are not a matrix".to_owned());
        };
        let fits = found == dim && (1..=MAX_PROBES).contains(&count);
        if !fits || embeddings.dtype() != Dtype::F32 {
            return Err(format!("has embeddings of shape [{count}, {found}]"));
        }
        let (values, _) = embeddings.data().as_chunks::<4>();
        let embeddings: Vec<f32> = values.iter().map(|&b| f32::from_le_bytes(b)).collect();
        if embeddings.iter().any(|value| !value.is_finite()) {
            return Err("has embeddings that are not finite".to_owned());
        }
        let inputs = (0..count)
            .map(|index| input(&file, index))
            .collect::<Result<_, String>>()?;
        Ok(Self { inputs, embeddings })
    }
}

/// What a file says about itself, where its format is the one that is expected.
pub(crate) fn metadata(bytes: &[u8], format: &str) -> Result<HashMap<String, String>, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let is = |key: &str, known: &[&str]| {
        let found = metadata.get(key).map(String::as_str);
        found.is_some_and(|found| known.contains(&found))
    };
    if !is("format", &[format]) || !is("format_version", &[PICTURES, WITH_TEXTS]) {
        return Err("does not have a probe format that this program reads".to_owned());
    }
    Ok(metadata)
}

fn broken(error: safetensors::SafeTensorError) -> String {
    format!("is not a safetensors file: {error}")
}

fn input(file: &SafeTensors<'_>, index: usize) -> Result<FixedInput, String> {
    let is_text = file.tensor(&format!("text_{index}")).is_ok();
    let kind = if is_text { "text" } else { "image" };
    let tensor = file.tensor(&format!("{kind}_{index}")).map_err(broken)?;
    if tensor.dtype() != Dtype::U8 {
        return Err(format!("has an {kind} of type {}", tensor.dtype()));
    }
    let bytes = tensor.data().to_vec();
    match is_text {
        true => String::from_utf8(bytes)
            .map(FixedInput::Text)
            .map_err(|_| "has a text that is not UTF-8".to_owned()),
        false => Ok(FixedInput::Picture(bytes)),
    }
}

/// Embeds pictures and texts the way a request's are embedded.
///
/// **Shapes**: the result is `[n, d]`.
fn encode(model: &LoadedModel, inputs: &[FixedInput]) -> Result<Vec<f32>, ProbeInputError> {
    let prepared = inputs.iter().enumerate().map(|(probe, input)| {
        let prepared = model.prepare(input.as_input());
        prepared.map_err(|error| ProbeInputError::Input {
            probe,
            problem: format!("cannot be prepared: {error}"),
        })
    });
    let prepared = prepared.collect::<Result<Vec<Prepared>, _>>()?;
    Ok(model.encode(&prepared)?)
}

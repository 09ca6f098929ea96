//! The first runs of an encoder: how long its embeddings are, and whether it takes what its description promises.

use std::path::PathBuf;
use std::sync::Arc;

use perennial_core::{EncoderKind, OutsideEncoder, read_at_most};

use super::error::ImportError;
use crate::graph_runtime::GraphRuntime;
use crate::input::{Prepared, Values};
use crate::onnx::Session;
use crate::outside_model::OutsideModel;

/// Tokens above which the longest text is not tried: it would take long.
const LONGEST: usize = 1024;

/// An encoder's files where they are now.
pub(super) struct Source {
    /// Names in the version's folder, and where the files are.
    pub files: Vec<(String, PathBuf)>,
    /// Graphs that are loaded already, by name.
    pub sessions: Vec<(String, Arc<Session>)>,
}

/// The encoder as it will be loaded, but for its dimension.
pub(super) fn load(
    spec: &OutsideEncoder,
    source: &Source,
    runtime: &GraphRuntime,
) -> Result<OutsideModel, ImportError> {
    let read = |name: &str, limit: u64| match source.files.iter().find(|(file, _)| file == name) {
        Some((_, path)) => read_at_most(path, limit),
        None => Err(std::io::ErrorKind::NotFound.into()),
    };
    Ok(OutsideModel::from_files(
        "the encoder",
        1,
        spec,
        &read,
        source.sessions.clone(),
        runtime,
    )?)
}

/// Values of an embedding.
pub(super) fn dim(spec: &OutsideEncoder, model: &OutsideModel) -> Result<usize, ImportError> {
    let run = |values: Values| {
        model
            .raw(&Prepared { values })
            .map(|vector| vector.len())
            .map_err(|error| ImportError::Run(error.to_string()))
    };
    let mut dims = Vec::new();
    if let Some(image) = &spec.image {
        let [height, width] = image.preparation.size;
        dims.push(run(Values::Pixels(vec![
            0.0;
            image.preparation.channels.count()
                * height
                * width
        ]))?);
    }
    if let Some(text) = &spec.text {
        // Token 0 is in every table.
        dims.push(run(Values::Tokens(vec![0; 4]))?);
        // More tokens than the graph has positions for fail here, not with the first long text.
        if spec.kind == EncoderKind::Onnx && text.max_tokens <= LONGEST {
            run(Values::Tokens(vec![0; text.max_tokens])).map_err(|error| ImportError::Option {
                option: "max-tokens",
                problem: format!(
                    "a text of {} tokens fails ({error}); say how many the graph takes",
                    text.max_tokens
                ),
            })?;
        }
    }
    match dims.as_slice() {
        [image, text] if image != text => Err(ImportError::Towers {
            image: *image,
            text: *text,
        }),
        [0, ..] | [] => Err(ImportError::Run("it gives nothing".to_owned())),
        [dim, ..] => Ok(*dim),
    }
}

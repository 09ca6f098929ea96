//! Which outputs of a graph are embeddings.

use perennial_core::Pooling;

use super::error::ImportError;
use crate::onnx::Description;
use crate::outside_model::LoadModelError;

/// Outputs that are embeddings by their names alone, of pictures, of texts.
const IMAGE: [&str; 1] = ["image_embeds"];
const TEXT: [&str; 2] = ["text_embeds", "sentence_embedding"];
/// Outputs with one vector a token, which become an embedding by pooling.
const TOKENS: [&str; 2] = ["last_hidden_state", "token_embeddings"];

/// The output of each tower in the graph: the one that is asked for, or those that can only be meant.
pub(super) fn outputs(
    graph: &Description,
    asked: Option<&str>,
    pooling: Option<Pooling>,
) -> Result<Vec<String>, ImportError> {
    if let Some(asked) = asked {
        return Ok(vec![
            graph
                .output(asked)
                .map_err(LoadModelError::from)?
                .name
                .clone(),
        ]);
    }
    let names: Vec<&str> = graph
        .outputs()
        .iter()
        .map(|output| output.name.as_str())
        .collect();
    if let [only] = names.as_slice() {
        return Ok(vec![(*only).to_owned()]);
    }
    let first = |wanted: &[&str]| {
        wanted
            .iter()
            .find(|name| names.contains(name))
            .map(|name| (*name).to_owned())
    };
    let mut chosen: Vec<String> = first(&IMAGE).into_iter().chain(first(&TEXT)).collect();
    if chosen.is_empty() && pooling.is_some_and(|pooling| pooling != Pooling::None) {
        chosen.extend(first(&TOKENS));
    }
    if chosen.is_empty() {
        return Err(ImportError::Option {
            option: "output",
            problem: format!(
                "{} has several outputs, {}; say which is the embedding",
                graph.file(),
                names.join(", ")
            ),
        });
    }
    Ok(chosen)
}

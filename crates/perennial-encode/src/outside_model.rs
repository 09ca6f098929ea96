//! Encoders of other programs, loaded from their files.

use std::path::Path;
use std::sync::Arc;

use perennial_core::{EncoderKind, Modality, OutsideEncoder, normalize_in_place, read_at_most};
use thiserror::Error;

use crate::codec::Picture;
use crate::encoder::{EncodeError, Encoder, PrepareError};
use crate::graph_runtime::GraphRuntime;
use crate::head::{Head, HeadError, MAX_HEAD_BYTES};
use crate::input::{Input, Prepared, Values};
use crate::onnx::{
    GraphError, ImageGraph, MAX_EXTERNAL_BYTES, MAX_GRAPH_BYTES, Session, TextGraph,
};
use crate::preparation::{prepare_picture, prepare_pixels};
use crate::text::{MAX_TOKENIZER_BYTES, TextPreparation, TokenizerError};
use crate::token_table::{MAX_TABLE_BYTES, TableError, TokenTable};

/// An encoder that cannot be loaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadModelError {
    /// A file that is missing, or larger than any such file.
    #[error("{file} cannot be read: {source}")]
    Read {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The graph cannot be used.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The table of token vectors cannot be used.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The linear layer cannot be used.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Another number of values than the version has.
    #[error("{file} gives embeddings of {actual} values, not of {expected}")]
    Dim {
        /// The file of the graph or table.
        file: String,
        /// The dimension of the version.
        expected: usize,
        /// Values of an embedding.
        actual: usize,
    },
    /// The description has no tower, or one of another kind.
    #[error("the encoder's description does not fit its kind: {0}")]
    Description(&'static str),
}

/// An encoder of another program: pictures, texts, or both into one space.
pub struct OutsideModel {
    name: String,
    dim: usize,
    spec: OutsideEncoder,
    image: Option<ImageGraph>,
    text: Option<(TextPreparation, TextNetwork)>,
    head: Option<Head>,
}

enum TextNetwork {
    Graph(TextGraph),
    Table(TokenTable),
}

impl TextNetwork {
    /// Rows of its table of token vectors, if they are known.
    fn rows(&self) -> Option<u64> {
        match self {
            Self::Graph(graph) => graph.rows(),
            Self::Table(table) => Some(table.rows() as u64),
        }
    }
}

/// The content of a file of the encoder by name, of at most so many bytes.
pub(crate) type ReadFile<'a> = dyn Fn(&str, u64) -> std::io::Result<Vec<u8>> + 'a;

impl OutsideModel {
    /// Loads an encoder from the folder with its files; their sizes and hashes have been compared with the description by then. Its graphs, if it
    /// has some, are run by `runtime`.
    ///
    /// # Errors
    /// See [`LoadModelError`]. The length of a graph's output is not compared with `dim`; another one is found with the first embedding.
    pub fn load(
        name: &str,
        dim: usize,
        spec: &OutsideEncoder,
        folder: &Path,
        runtime: &GraphRuntime,
    ) -> Result<Self, LoadModelError> {
        if dim == 0 {
            return Err(LoadModelError::Description(
                "an embedding has at least one value",
            ));
        }
        let read = |file: &str, limit: u64| {
            // The description's own check is stricter; this one guards against a description that nobody checked.
            if file.contains(['/', '\\', ':']) || file.starts_with('.') {
                return Err(std::io::Error::other(
                    "it is not a plain name of a file in the encoder's folder",
                ));
            }
            // A graph names its data itself, and only what the description lists has been compared with a hash.
            if !spec.files.iter().any(|listed| listed.name == file) {
                return Err(std::io::Error::new(
                    std::io::ErrorKind::NotFound,
                    "it is not listed in encoder.files",
                ));
            }
            read_at_most(folder.join(file), limit)
        };
        let model = Self::from_files(name, dim, spec, &read, Vec::new(), runtime)?;
        match (&model.text, &spec.text) {
            (Some((_, TextNetwork::Table(table))), Some(tower))
                if table.dim() != model.tower_dim() =>
            {
                Err(LoadModelError::Dim {
                    file: tower.graph.file.clone(),
                    expected: model.tower_dim(),
                    actual: table.dim(),
                })
            }
            _ => Ok(model),
        }
    }

    /// Loads an encoder whose files are found by their names, but for the graphs that are loaded already.
    pub(crate) fn from_files(
        name: &str,
        dim: usize,
        spec: &OutsideEncoder,
        read: &ReadFile<'_>,
        mut sessions: Vec<(String, Arc<Session>)>,
        runtime: &GraphRuntime,
    ) -> Result<Self, LoadModelError> {
        let content = |file: &str, limit: u64| {
            read(file, limit).map_err(|source| LoadModelError::Read {
                file: file.to_owned(),
                source,
            })
        };
        // Both towers of some encoders lie in one graph.
        let mut session = |file: &str| -> Result<Arc<Session>, LoadModelError> {
            if let Some((_, session)) = sessions.iter().find(|(name, _)| name == file) {
                return Ok(session.clone());
            }
            let image = spec.image.iter().map(|tower| &tower.graph);
            let text = spec.text.iter().map(|tower| &tower.graph);
            let outputs = image.chain(text).filter(|graph| graph.file == file);
            let outputs: Vec<&str> = outputs.map(|graph| graph.output.as_str()).collect();
            let content = content(file, MAX_GRAPH_BYTES)?;
            let session = Arc::new(load_session(file, content, read, &outputs, runtime)?);
            sessions.push((file.to_owned(), session.clone()));
            Ok(session)
        };
        if spec.kind == EncoderKind::Endpoint {
            return Err(LoadModelError::Description(
                "an embedding service has no files to be loaded from",
            ));
        }
        let image = match (&spec.image, spec.kind) {
            (None, _) => None,
            (Some(tower), EncoderKind::Onnx) => {
                Some(ImageGraph::new(session(&tower.graph.file)?, tower)?)
            }
            (Some(_), _) => {
                return Err(LoadModelError::Description(
                    "a table of tokens embeds texts only",
                ));
            }
        };
        let text = match &spec.text {
            None => None,
            Some(tower) => {
                let tokenizer = content(&tower.tokenizer, MAX_TOKENIZER_BYTES)?;
                let preparation =
                    TextPreparation::read(&tokenizer, tower, spec.kind == EncoderKind::Onnx)?;
                let network = match spec.kind {
                    EncoderKind::Onnx => {
                        let graph = TextGraph::new(
                            session(&tower.graph.file)?,
                            tower,
                            preparation.padding(),
                        )?;
                        TextNetwork::Graph(graph)
                    }
                    _ => {
                        let file = &tower.graph.file;
                        let table = TokenTable::read(
                            file,
                            &content(file, MAX_TABLE_BYTES)?,
                            &tower.graph.output,
                        )?;
                        TextNetwork::Table(table)
                    }
                };
                if let Some(rows) = network.rows() {
                    preparation.check_rows(&tower.tokenizer, rows)?;
                }
                Some((preparation, network))
            }
        };
        if image.is_none() && text.is_none() {
            return Err(LoadModelError::Description(
                "it has neither a tower for pictures nor one for texts",
            ));
        }
        let head = match &spec.head {
            None => None,
            Some(head) if head.inputs == 0 => {
                return Err(LoadModelError::Description(
                    "its linear layer has at least one input",
                ));
            }
            Some(head) => Some(Head::read(
                &head.file,
                &content(&head.file, MAX_HEAD_BYTES)?,
                [dim, head.inputs],
            )?),
        };
        Ok(Self {
            name: name.to_owned(),
            dim,
            spec: spec.clone(),
            image,
            text,
            head,
        })
    }

    /// The tokenizer of an encoder of texts, and the rows of its table of token vectors, if they are known.
    pub(crate) fn tokenizer(&self) -> Option<(&TextPreparation, Option<u64>)> {
        let (preparation, network) = self.text.as_ref()?;
        Some((preparation, network.rows()))
    }

    /// The length of a row that the towers give.
    fn tower_dim(&self) -> usize {
        self.head.as_ref().map_or(self.dim, Head::inputs)
    }

    /// Raw vectors of a batch that is of one kind.
    fn pictures(&self, batch: &[(usize, &[f32])]) -> Result<Vec<f32>, EncodeError> {
        let Some(graph) = &self.image else {
            return Err(prepared(
                batch,
                "it is a picture, and this encoder embeds texts",
            ));
        };
        if let Some((input, values)) = batch.iter().find(|(_, values)| values.len() != graph.len())
        {
            let problem = format!("it has {} values, not {}", values.len(), graph.len());
            return Err(EncodeError::Prepared {
                input: *input,
                problem,
            });
        }
        let pictures: Vec<&[f32]> = batch.iter().map(|(_, values)| *values).collect();
        graph
            .embed(&pictures)
            .map_err(|error| EncodeError::Backend(error.to_string()))
    }

    fn texts(&self, batch: &[(usize, &[u32])]) -> Result<Vec<f32>, EncodeError> {
        let (Some((_, network)), Some(tower)) = (&self.text, &self.spec.text) else {
            return Err(prepared(
                batch,
                "it is a text, and this encoder embeds pictures",
            ));
        };
        if let Some((input, tokens)) = batch
            .iter()
            .find(|(_, tokens)| !(1..=tower.max_tokens).contains(&tokens.len()))
        {
            let problem = format!(
                "it has {} tokens, not 1 to {}",
                tokens.len(),
                tower.max_tokens
            );
            return Err(EncodeError::Prepared {
                input: *input,
                problem,
            });
        }
        match network {
            TextNetwork::Graph(graph) => {
                let rows = graph.rows().unwrap_or(u64::from(u32::MAX));
                if let Some((input, _)) = batch
                    .iter()
                    .find(|(_, tokens)| tokens.iter().any(|&token| u64::from(token) >= rows))
                {
                    let problem =
                        format!("it has a token beyond the {rows} that the encoder knows");
                    return Err(EncodeError::Prepared {
                        input: *input,
                        problem,
                    });
                }
                let texts: Vec<&[u32]> = batch.iter().map(|(_, tokens)| *tokens).collect();
                graph
                    .embed(&texts)
                    .map_err(|error| EncodeError::Backend(error.to_string()))
            }
            TextNetwork::Table(table) => {
                let mut rows = Vec::with_capacity(batch.len() * table.dim());
                for (input, tokens) in batch {
                    let mean = table.mean(tokens).ok_or_else(|| EncodeError::Prepared {
                        input: *input,
                        problem: format!(
                            "it has a token beyond the {} that the table holds",
                            table.rows()
                        ),
                    })?;
                    rows.extend(mean);
                }
                Ok(rows)
            }
        }
    }

    /// Embeddings of inputs of one kind, as they come out: the length of a vector is what the graph gives.
    pub(crate) fn raw(&self, input: &Prepared) -> Result<Vec<f32>, EncodeError> {
        match &input.values {
            Values::Pixels(pixels) => self.pictures(&[(0, pixels)]),
            Values::Tokens(tokens) => self.texts(&[(0, tokens)]),
            Values::Text(_) => Err(unsplit(0)),
        }
    }

    fn place(
        &self,
        positions: impl Iterator<Item = usize>,
        rows: &[f32],
        into: &mut [f32],
    ) -> Result<(), EncodeError> {
        let (positions, dim): (Vec<usize>, usize) = (positions.collect(), self.tower_dim());
        if rows.len() != positions.len() * dim {
            let values = rows.len() / positions.len().max(1);
            return Err(EncodeError::Backend(format!(
                "it gives embeddings of {values} values, not of {dim}"
            )));
        }
        for (position, row) in positions.into_iter().zip(rows.chunks_exact(dim)) {
            into[position * dim..(position + 1) * dim].copy_from_slice(row);
        }
        Ok(())
    }
}

impl Encoder for OutsideModel {
    fn model_version(&self) -> &str {
        &self.name
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn accepts(&self) -> &[Modality] {
        self.spec.accepts()
    }

    fn prepare(&self, input: Input<'_>) -> Result<Prepared, PrepareError> {
        self.check_modality(&input)?;
        let values = match (input, &self.spec.image, &self.text) {
            (Input::Picture { file, limits }, Some(tower), _) => Values::Pixels(prepare_picture(
                &Picture::decode(file, limits)?,
                &tower.preparation,
            )?),
            (Input::Decoded(picture), Some(tower), _) => {
                Values::Pixels(prepare_picture(picture, &tower.preparation)?)
            }
            (Input::Pixels { pixels, shape }, Some(tower), _) => {
                Values::Pixels(prepare_pixels(pixels, shape, &tower.preparation)?)
            }
            (Input::Text { text, input_type }, _, Some((preparation, _))) => {
                Values::Tokens(preparation.tokens(text, input_type)?)
            }
            // The check above has compared the input with the towers that there are.
            _ => {
                return Err(PrepareError::Text(
                    "the encoder has no tower for this input".to_owned(),
                ));
            }
        };
        Ok(Prepared { values })
    }

    fn encode(&self, batch: &[Prepared]) -> Result<Vec<f32>, EncodeError> {
        let (mut pictures, mut texts) = (Vec::new(), Vec::new());
        for (position, input) in batch.iter().enumerate() {
            match &input.values {
                Values::Pixels(pixels) => pictures.push((position, pixels.as_slice())),
                Values::Tokens(tokens) => texts.push((position, tokens.as_slice())),
                Values::Text(_) => return Err(unsplit(position)),
            }
        }
        let mut rows = vec![0.0; batch.len() * self.tower_dim()];
        if !pictures.is_empty() {
            let vectors = self.pictures(&pictures)?;
            self.place(
                pictures.iter().map(|(position, _)| *position),
                &vectors,
                &mut rows,
            )?;
        }
        if !texts.is_empty() {
            let vectors = self.texts(&texts)?;
            self.place(
                texts.iter().map(|(position, _)| *position),
                &vectors,
                &mut rows,
            )?;
        }
        unit_rows(&mut rows, self.tower_dim())?;
        if let Some(head) = &self.head {
            rows = head.apply(&rows);
            unit_rows(&mut rows, self.dim)?;
        }
        Ok(rows)
    }
}

fn unit_rows(rows: &mut [f32], dim: usize) -> Result<(), EncodeError> {
    for (input, row) in rows.chunks_exact_mut(dim).enumerate() {
        normalize_in_place(row).map_err(|_| EncodeError::NonFinite { input })?;
    }
    Ok(())
}

/// The first input of a batch was prepared by another encoder.
fn prepared<T>(batch: &[(usize, T)], problem: &str) -> EncodeError {
    let input = batch.first().map_or(0, |(position, _)| *position);
    EncodeError::Prepared {
        input,
        problem: problem.to_owned(),
    }
}

fn unsplit(input: usize) -> EncodeError {
    EncodeError::Prepared {
        input,
        problem: "it is a text that is not split into tokens".to_owned(),
    }
}

/// Loads a graph for these outputs, and the files with tensors that it names.
pub(crate) fn load_session(
    file: &str,
    content: Vec<u8>,
    read: &ReadFile<'_>,
    outputs: &[&str],
    runtime: &GraphRuntime,
) -> Result<Session, GraphError> {
    let external = |name: &str| {
        read(name, MAX_EXTERNAL_BYTES).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => GraphError::ExternalMissing {
                file: file.to_owned(),
                missing: name.to_owned(),
            },
            _ => GraphError::Runtime {
                file: file.to_owned(),
                problem: format!("{name} cannot be read: {error}"),
            },
        })
    };
    Session::load(file, content, external, outputs, runtime)
}

#[cfg(test)]
mod runtime_tests;
#[cfg(test)]
mod tests;

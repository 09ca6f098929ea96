//! What an encoder of another program is: read from a graph, or from a folder in the layout of a model hub.
//!
//! Everything is asked for or found, and [`ImportedEncoder::findings`] says where. What is neither is an error that says how to give it.
//!
//! | what | where it is looked for, in this order |
//! |---|---|
//! | graph | [`ImportOptions::graph`]; `vision_model.onnx` with `text_model.onnx`; `model.onnx`; the only `.onnx` file; in the folder and in its `onnx/` |
//! | output | [`ImportOptions::output`]; the only one; `image_embeds`, `text_embeds`, `sentence_embedding`; with a pooling, `last_hidden_state` or `token_embeddings` |
//! | pooling | [`ImportOptions::pooling`]; `1_Pooling/config.json`; none, if the output has one vector an input |
//! | preparation of pictures | [`ImportOptions::preparation`]; `preprocessor_config.json`, `processor_config.json`, `data_config.json`, `config.json` |
//! | tokenizer | [`ImportOptions::tokenizer`]; `tokenizer.json` |
//! | tokens | [`ImportOptions::max_tokens`]; `max_seq_length` of `sentence_bert_config.json`; `model_max_length` of `tokenizer_config.json` |
//! | prefixes | [`ImportOptions::query_prefix`], [`ImportOptions::document_prefix`]; `prompts` of `config_sentence_transformers.json`; none |
//! | dimension | one run of the graph on a plain input |
//!
//! Without a graph, a safetensors file with one table `[vocabulary, d]` beside a tokenizer is an encoder of the kind
//! [`TokenTable`](EncoderKind::TokenTable). Weights of a network alone are not: export them to ONNX (`docs/encoders.md` says how).

mod error;
mod folder;
mod json;
mod options;
mod probe;
mod sentences;
mod tokenizer_check;

use std::path::{Path, PathBuf};

use perennial_core::{
    EncoderKind, Graph, ImagePreparation, ImageTower, OutsideEncoder, Pooling, TextTower,
    read_at_most,
};

use crate::graph_runtime::GraphRuntime;
use crate::onnx::{Description, GraphError, MAX_GRAPH_BYTES, Session};
use crate::outside_model::{LoadModelError, load_session};
use crate::presets::{PresetError, from_config, preset};
use crate::token_table::{MAX_TABLE_BYTES, TokenTable};
pub use error::ImportError;
use folder::Folder;
pub use options::{ImportOptions, PreparationChoice};
use probe::Source;

/// An encoder that can be published as a version.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedEncoder {
    /// The `[encoder]` table of `model.toml`. Its `files` are empty: whoever copies the files writes their sizes and hashes.
    pub spec: OutsideEncoder,
    /// Values of an embedding.
    pub dim: usize,
    /// Its files: the name in the version's folder, and where the file is now.
    pub files: Vec<(String, PathBuf)>,
    /// What was found and where, a line each, for people.
    pub findings: Vec<String>,
}

/// The name of a tokenizer among a version's files.
const TOKENIZER: &str = "tokenizer.json";
/// The name of a table among a version's files.
const TABLE: &str = "table.safetensors";

/// Reads what an encoder is, from an ONNX file, a safetensors table, or a folder. Loads it and runs it on a few short inputs, and on the
/// longest text if that has at most 1,024 tokens.
///
/// # Errors
/// See [`ImportError`]: what is missing and how to say it, files and keys that do not fit, a graph that cannot be used.
pub fn read(path: &Path, options: &ImportOptions) -> Result<ImportedEncoder, ImportError> {
    let folder = Folder::open(path, options)?;
    let mut import = Import {
        folder,
        options,
        findings: Vec::new(),
    };
    let (spec, source) = match import.folder.table.clone() {
        Some(table) => import.table(table)?,
        None => import.graphs()?,
    };
    let model = probe::load(&spec, &source, &options.runtime)?;
    if let Some((tokenizer, rows)) = model.tokenizer()
        && let Some((_, path)) = source.files.iter().find(|(name, _)| name == TOKENIZER)
    {
        let named = options.tokenizer.is_some();
        let finding = tokenizer_check::check(&import.folder, path, named, tokenizer, rows)?;
        import.findings.extend(finding);
    }
    let dim = probe::dim(&spec, &model)?;
    import.findings.push(format!("dimension {dim}: from a run"));
    Ok(ImportedEncoder {
        spec,
        dim,
        files: source.files,
        findings: import.findings,
    })
}

struct Import<'a> {
    folder: Folder,
    options: &'a ImportOptions,
    findings: Vec<String>,
}

impl Import<'_> {
    fn table(&mut self, path: PathBuf) -> Result<(OutsideEncoder, Source), ImportError> {
        let shown = path.display().to_string();
        let content = read_at_most(&path, MAX_TABLE_BYTES).map_err(|source| ImportError::Read {
            path: path.clone(),
            source,
        })?;
        let tensor = match &self.options.output {
            Some(tensor) => tensor.clone(),
            None => {
                TokenTable::only(&shown, &content).map_err(|error| ImportError::WeightsAlone {
                    path: path.clone(),
                    problem: error.to_string(),
                })?
            }
        };
        if let Some(pooling) = self
            .options
            .pooling
            .filter(|pooling| *pooling != Pooling::Mean)
        {
            return Err(ImportError::Option {
                option: "pooling",
                problem: format!(
                    "{pooling:?} does not apply to a table, whose vectors are averaged"
                ),
            });
        }
        self.findings
            .push(format!("table of token vectors {tensor}: {shown}"));
        let mut files = vec![(TABLE.to_owned(), path)];
        let graph = Graph {
            file: TABLE.to_owned(),
            output: tensor,
            pooling: Pooling::Mean,
        };
        let text = self.text_tower(graph, &mut files)?;
        let spec = OutsideEncoder {
            kind: EncoderKind::TokenTable,
            image: None,
            text: Some(text),
            head: None,
            endpoint: None,
            files: Vec::new(),
        };
        Ok((
            spec,
            Source {
                files,
                sessions: Vec::new(),
            },
        ))
    }

    fn graphs(&mut self) -> Result<(OutsideEncoder, Source), ImportError> {
        if self.options.runtime != GraphRuntime::Rten {
            let name = self.options.runtime.open().map_err(GraphError::from);
            let name = name.map_err(LoadModelError::from)?;
            self.findings.push(format!("runs in {name}"));
        }
        let mut spec = OutsideEncoder {
            kind: EncoderKind::Onnx,
            image: None,
            text: None,
            head: None,
            endpoint: None,
            files: Vec::new(),
        };
        let mut source = Source {
            files: Vec::new(),
            sessions: Vec::new(),
        };
        for path in self.folder.graphs.clone() {
            let file = plain_name(&path)?;
            let content = read_at_most(&path, MAX_GRAPH_BYTES).map_err(|source| {
                let path = path.clone();
                ImportError::Read { path, source }
            })?;
            let graph = Description::read(&file, &content).map_err(LoadModelError::from)?;
            let pooling = match self.options.pooling {
                Some(pooling) => Some(pooling),
                None => self.folder.pooling()?,
            };
            let asked = self.options.output.as_deref();
            let outputs = sentences::outputs(&graph, asked, pooling)?;
            let session = self.load(&path, &file, content, &outputs, &mut source)?;
            self.findings
                .push(format!("graph {file}: {}", path.display()));
            for output in outputs {
                let needed: Vec<&str> = session
                    .about()
                    .needed(&output)
                    .iter()
                    .map(|input| input.name.as_str())
                    .collect();
                if needed.contains(&"input_ids") {
                    let pooling = self.pooling(session.about(), &output)?;
                    self.folder.check_modules(&output)?;
                    let graph = Graph {
                        file: file.clone(),
                        output,
                        pooling,
                    };
                    spec.text = Some(self.text_tower(graph, &mut source.files)?);
                } else {
                    let pooling = self.options.pooling.unwrap_or_default();
                    let graph = Graph {
                        file: file.clone(),
                        output,
                        pooling,
                    };
                    let preparation = self.preparation(session.about(), &graph.output)?;
                    spec.image = Some(ImageTower { graph, preparation });
                }
            }
            source.sessions.push((file, session.into()));
        }
        Ok((spec, source))
    }

    fn load(
        &self,
        path: &Path,
        file: &str,
        content: Vec<u8>,
        outputs: &[String],
        source: &mut Source,
    ) -> Result<Session, ImportError> {
        let beside = path.parent().unwrap_or(Path::new("")).to_owned();
        let external = std::cell::RefCell::new(Vec::new());
        let read = |name: &str, limit: u64| {
            let path = beside.join(name);
            external.borrow_mut().push((name.to_owned(), path.clone()));
            read_at_most(path, limit)
        };
        let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let session = load_session(file, content, &read, &outputs, &self.options.runtime)
            .map_err(LoadModelError::from)?;
        source.files.push((file.to_owned(), path.to_owned()));
        source.files.extend(external.into_inner());
        Ok(session)
    }

    fn pooling(&mut self, graph: &Description, output: &str) -> Result<Pooling, ImportError> {
        if let Some(pooling) = self.options.pooling {
            return Ok(pooling);
        }
        let declared = graph.output(output).map_err(LoadModelError::from)?;
        if declared
            .shape
            .as_ref()
            .is_some_and(|shape| shape.len() == 2)
        {
            return Ok(Pooling::None);
        }
        match self.folder.pooling()? {
            Some(pooling) => {
                self.findings
                    .push(format!("pooling {pooling:?}: 1_Pooling/config.json"));
                Ok(pooling)
            }
            None => Err(ImportError::Needed {
                what: "how the vectors of all tokens become one",
                looked: "1_Pooling/config.json",
                option: "pooling (mean, cls or last_token)",
            }),
        }
    }

    fn preparation(
        &mut self,
        graph: &Description,
        output: &str,
    ) -> Result<ImagePreparation, ImportError> {
        let spec = match &self.options.preparation {
            Some(PreparationChoice::Spec(spec)) => spec.clone(),
            Some(PreparationChoice::File(path)) => from_config(path)?,
            Some(PreparationChoice::Preset(name, size)) => {
                let side = size.or_else(|| declared_side(graph, output));
                self.findings.push(match side {
                    Some(side) => format!("preparation {name} at {side} pixels"),
                    None => format!("preparation {name} at 224 pixels: the preset's own size, as the graph takes any"),
                });
                preset(name, side)?
            }
            None => {
                let (file, spec) = self.found_preparation()?;
                self.findings
                    .push(format!("preparation of pictures: {file}"));
                spec
            }
        };
        Ok(spec)
    }

    fn found_preparation(&self) -> Result<(&'static str, ImagePreparation), ImportError> {
        for name in [
            "preprocessor_config.json",
            "processor_config.json",
            "data_config.json",
            "config.json",
        ] {
            let Some(path) = self.folder.file(name) else {
                continue;
            };
            match from_config(&path) {
                Ok(spec) => return Ok((name, spec)),
                // Files of these names say other things in other repositories.
                Err(PresetError::Other { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ImportError::Needed {
            what: "how pictures are prepared",
            looked: "preprocessor_config.json, data_config.json and config.json with pretrained_cfg",
            option: "preprocess (timm, clip, torchvision or a file)",
        })
    }

    fn text_tower(
        &mut self,
        graph: Graph,
        files: &mut Vec<(String, PathBuf)>,
    ) -> Result<TextTower, ImportError> {
        let needed = |what, looked, option| ImportError::Needed {
            what,
            looked,
            option,
        };
        let tokenizer = match &self.options.tokenizer {
            Some(path) => path.clone(),
            None => self.folder.file(TOKENIZER).ok_or_else(|| {
                needed(
                    "how texts are split into tokens",
                    TOKENIZER,
                    "tokenizer (a tokenizer.json)",
                )
            })?,
        };
        self.findings
            .push(format!("tokenizer: {}", tokenizer.display()));
        files.push((TOKENIZER.to_owned(), tokenizer));
        let max_tokens = match self.options.max_tokens {
            Some(tokens) => tokens,
            None => {
                let (tokens, file) = self.folder.max_tokens()?.ok_or_else(|| {
                    needed(
                        "after how many tokens a text is cut",
                        "sentence_bert_config.json and tokenizer_config.json",
                        "max-tokens",
                    )
                })?;
                self.findings
                    .push(format!("at most {tokens} tokens: {file}"));
                tokens
            }
        };
        let prompts = self.folder.prompts()?;
        let mut prefix =
            |given: &Option<String>, found: Option<String>, of: &str| match (given, found) {
                (Some(given), _) => given.clone(),
                (None, Some(found)) => {
                    self.findings.push(format!(
                        "in front of {of} {found:?}: config_sentence_transformers.json"
                    ));
                    found
                }
                (None, None) => String::new(),
            };
        let query_prefix = prefix(&self.options.query_prefix, prompts.query, "queries");
        let document_prefix = prefix(&self.options.document_prefix, prompts.document, "documents");
        Ok(TextTower {
            graph,
            tokenizer: TOKENIZER.to_owned(),
            max_tokens,
            query_prefix,
            document_prefix,
        })
    }
}

/// The side of the square that the graph takes, if it takes one size only.
fn declared_side(graph: &Description, output: &str) -> Option<usize> {
    let needed = graph.needed(output);
    match needed.first()?.shape.as_deref()? {
        [_, _, Some(height), Some(width)] if height == width => usize::try_from(*height).ok(),
        _ => None,
    }
}

/// A file's name alone, which must be one that a version can have.
fn plain_name(path: &Path) -> Result<String, ImportError> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .filter(|name| !name.starts_with('.'));
    name.map(str::to_owned).ok_or_else(|| ImportError::Option {
        option: "graph",
        problem: format!(
            "{} has no name that can be kept; rename the file",
            path.display()
        ),
    })
}

#[cfg(test)]
mod tests;

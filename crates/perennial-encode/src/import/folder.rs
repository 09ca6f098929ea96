//! A folder in the layout of a model hub: where its parts lie, and what its configuration says about texts.

use std::path::{Path, PathBuf};

use perennial_core::Pooling;
use serde_json::Value;

use super::error::ImportError;
use super::json::Config;
use super::options::ImportOptions;

/// Files in a folder that are looked at.
const MAX_ENTRIES: usize = 4096;
/// Some tokenizers write an enormous number where there is no limit.
const MAX_TOKENS: u64 = 1 << 16;

/// An encoder's folder, or the lone file that it is.
pub(super) struct Folder {
    /// `None` for a lone file: nothing beside it is looked at.
    root: Option<PathBuf>,
    /// The graphs to import.
    pub graphs: Vec<PathBuf>,
    /// The table to import, if there is no graph.
    pub table: Option<PathBuf>,
}

/// What is put in front of texts.
#[derive(Default)]
pub(super) struct Prompts {
    pub query: Option<String>,
    pub document: Option<String>,
}

impl Folder {
    /// Finds the graphs or the table.
    pub(super) fn open(path: &Path, options: &ImportOptions) -> Result<Self, ImportError> {
        let read = |source| ImportError::Read {
            path: path.to_owned(),
            source,
        };
        let extension = |path: &Path, wanted: &str| {
            path.extension()
                .is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
        };
        if !fs_err::metadata(path).map_err(read)?.is_dir() {
            if options.graph.is_some() {
                let problem = format!(
                    "{} is a file, not a folder with several graphs",
                    path.display()
                );
                return Err(ImportError::Option {
                    option: "graph",
                    problem,
                });
            }
            let table = extension(path, "safetensors").then(|| path.to_owned());
            let graphs = if table.is_some() {
                Vec::new()
            } else {
                vec![path.to_owned()]
            };
            return Ok(Self {
                root: None,
                graphs,
                table,
            });
        }
        let root = Some(path.to_owned());
        if let Some(graph) = &options.graph {
            let inside = graph.is_relative()
                && !graph
                    .components()
                    .any(|part| matches!(part, std::path::Component::ParentDir));
            if !inside {
                return Err(ImportError::Option {
                    option: "graph",
                    problem: format!("{} is not inside the folder", graph.display()),
                });
            }
            return Ok(Self {
                root,
                graphs: vec![path.join(graph)],
                table: None,
            });
        }
        let mut files = entries(path)?;
        files.extend(entries(&path.join("onnx")).unwrap_or_default());
        let found: Vec<PathBuf> = files
            .iter()
            .filter(|file| extension(file, "onnx"))
            .cloned()
            .collect();
        if !found.is_empty() {
            return Ok(Self {
                root,
                graphs: choose(path, found)?,
                table: None,
            });
        }
        let tables: Vec<&PathBuf> = files
            .iter()
            .filter(|file| extension(file, "safetensors"))
            .collect();
        // The name that hubs give it, where there are others beside it.
        let model: Vec<&PathBuf> = tables
            .iter()
            .copied()
            .filter(|file| name(file) == "model.safetensors")
            .collect();
        let tables = if model.is_empty() { tables } else { model };
        match tables.as_slice() {
            [table] => Ok(Self {
                root,
                graphs: Vec::new(),
                table: Some((*table).clone()),
            }),
            _ => {
                let weights = |file: &&PathBuf| {
                    ["bin", "pt", "pth", "safetensors", "h5", "msgpack", "gguf"]
                        .iter()
                        .any(|kind| extension(file, kind))
                };
                let found = files.iter().find(weights).map(|file| name(file).to_owned());
                Err(ImportError::NoGraph {
                    path: path.to_owned(),
                    found,
                })
            }
        }
    }

    /// A file of the folder, if it is there.
    pub(super) fn file(&self, name: &str) -> Option<PathBuf> {
        let path = self.root.as_ref()?.join(name);
        path.is_file().then_some(path)
    }

    /// A configuration file of the folder, if it is there.
    pub(super) fn config(&self, name: &str) -> Result<Option<Config>, ImportError> {
        self.file(name).map(|path| Config::read(&path)).transpose()
    }

    /// What `1_Pooling/config.json` says.
    pub(super) fn pooling(&self) -> Result<Option<Pooling>, ImportError> {
        let Some(config) = self.config("1_Pooling/config.json")? else {
            return Ok(None);
        };
        let known = [
            ("mean", "pooling_mode_mean_tokens", Pooling::Mean),
            ("cls", "pooling_mode_cls_token", Pooling::Cls),
            ("lasttoken", "pooling_mode_lasttoken", Pooling::LastToken),
        ];
        let mut chosen = None;
        if let Some(mode) = config.text("pooling_mode")? {
            let Some((_, _, pooling)) = known.iter().find(|(name, _, _)| *name == mode) else {
                return Err(config.error(
                    "pooling_mode",
                    format!("is {mode:?}; supported are mean, cls and lasttoken"),
                ));
            };
            chosen = Some(*pooling);
        }
        for key in config.flags_beginning("pooling_mode_")? {
            match known.iter().find(|(_, name, _)| *name == key) {
                Some((_, _, pooling)) if chosen.is_none_or(|chosen| chosen == *pooling) => {
                    chosen = Some(*pooling)
                }
                Some(_) => {
                    return Err(config.error(&key, "cannot be true together with another pooling"));
                }
                None => {
                    return Err(config.error(
                        &key,
                        "is not supported; supported are mean, cls and last token",
                    ));
                }
            }
        }
        if config.get("include_prompt").and_then(Value::as_bool) == Some(false) {
            return Err(config.error("include_prompt", "is false, and leaving a prompt out of the mean is not supported; export with the pooling in the graph"));
        }
        match chosen {
            Some(pooling) => Ok(Some(pooling)),
            None => Err(config.error(
                "pooling_mode_mean_tokens",
                "is not true, nor is any other pooling",
            )),
        }
    }

    /// Refuses steps behind the pooling that the output does not contain.
    pub(super) fn check_modules(&self, output: &str) -> Result<(), ImportError> {
        let Some(path) = self.file("modules.json") else {
            return Ok(());
        };
        if output == "sentence_embedding" {
            return Ok(());
        }
        let modules = Config::value(&path)?;
        for module in modules.as_array().into_iter().flatten() {
            let kind = module
                .get("type")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let kind = kind.rsplit('.').next().unwrap_or_default();
            if !matches!(kind, "Transformer" | "Pooling" | "Normalize") {
                let problem = format!(
                    "lists the step {kind:?}, which is not in output {output}; export the whole encoder, with the output sentence_embedding"
                );
                return Err(ImportError::Key {
                    path,
                    key: "type".to_owned(),
                    problem,
                });
            }
        }
        Ok(())
    }

    /// The smallest number of tokens that the configuration names, and the file that does.
    pub(super) fn max_tokens(&self) -> Result<Option<(usize, &'static str)>, ImportError> {
        let mut found = None;
        for (file, key) in [
            ("sentence_bert_config.json", "max_seq_length"),
            ("tokenizer_config.json", "model_max_length"),
        ] {
            let Some(config) = self.config(file)? else {
                continue;
            };
            let Some(value) = config.get(key) else {
                continue;
            };
            let Some(tokens) = value.as_f64() else {
                return Err(config.error(key, "must be a number"));
            };
            if tokens < 1.0 {
                return Err(config.error(key, "must be at least 1"));
            }
            let smaller = found.is_none_or(|(smallest, _)| tokens < smallest as f64);
            if tokens <= MAX_TOKENS as f64 && smaller {
                found = Some((tokens as usize, file));
            }
        }
        Ok(found)
    }

    /// What `config_sentence_transformers.json` puts in front of texts.
    pub(super) fn prompts(&self) -> Result<Prompts, ImportError> {
        let mut found = Prompts::default();
        let Some(config) = self.config("config_sentence_transformers.json")? else {
            return Ok(found);
        };
        let Some(prompts) = config.get("prompts") else {
            return Ok(found);
        };
        let Some(prompts) = prompts.as_object() else {
            return Err(config.error("prompts", "must be an object"));
        };
        let text = |name: &str| match prompts.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_str() {
                Some(text) => Ok(Some(text.to_owned()).filter(|text| !text.is_empty())),
                None => Err(config.error(&format!("prompts.{name}"), "must be a text")),
            },
        };
        let default = config
            .text("default_prompt_name")?
            .map(text)
            .transpose()?
            .flatten();
        let first = |names: &[&str]| {
            names
                .iter()
                .map(|name| text(name))
                .find(|text| !matches!(text, Ok(None)))
                .unwrap_or(Ok(None))
        };
        found.query = first(&["query", "search_query"])?.or_else(|| default.clone());
        found.document = first(&["document", "passage", "search_document"])?.or(default);
        Ok(found)
    }
}

/// The files of a folder, in the order of their names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let read = |source| ImportError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs_err::read_dir(folder).map_err(read)?.take(MAX_ENTRIES) {
        let path = entry.map_err(read)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

/// The graphs to import, of those that there are.
fn choose(folder: &Path, found: Vec<PathBuf>) -> Result<Vec<PathBuf>, ImportError> {
    let named = |wanted: &str| {
        found
            .iter()
            .filter(|path| name(path) == wanted)
            .cloned()
            .collect::<Vec<_>>()
    };
    let (vision, text, model) = (
        named("vision_model.onnx"),
        named("text_model.onnx"),
        named("model.onnx"),
    );
    if let ([vision], [text]) = (vision.as_slice(), text.as_slice()) {
        return Ok(vec![vision.clone(), text.clone()]);
    }
    for single in [&model, &found] {
        if let [single] = single.as_slice() {
            return Ok(vec![single.clone()]);
        }
    }
    let graphs = found
        .iter()
        .map(|path| {
            path.strip_prefix(folder)
                .unwrap_or(path)
                .display()
                .to_string()
        })
        .collect();
    Err(ImportError::SeveralGraphs {
        path: folder.to_owned(),
        graphs,
    })
}

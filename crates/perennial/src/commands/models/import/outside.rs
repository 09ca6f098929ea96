//! Importing the encoder of another program: an ONNX graph, or a folder in the layout of a model hub.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

/// What is said about an encoder, instead of being looked for beside its graph.
#[derive(Debug, clap::Args)]
#[cfg_attr(
    feature = "onnx",
    command(next_help_heading = "Encoders of other programs (a .onnx file or a folder)")
)]
#[cfg_attr(
    not(feature = "onnx"),
    command(next_help_heading = "Encoders of other programs (in a build with --features onnx)")
)]
pub struct OutsideArguments {
    /// How pictures are prepared: timm, clip, torchvision, or a file such as preprocessor_config.json [default: the file in the encoder's
    /// folder; beside a lone .onnx file no configuration is read]
    #[arg(long, value_name = "NAME|FILE")]
    preprocess: Option<String>,
    /// Graph of a folder that holds several, such as onnx/model_quantized.onnx
    #[arg(long, value_name = "FILE")]
    graph: Option<PathBuf>,
    /// Output of the graph that is the embedding [default: the only one, or by the usual names]
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// How one vector per token becomes one per text [default: 1_Pooling/config.json]
    #[arg(long, value_enum)]
    pooling: Option<PoolingArgument>,
    /// Tokenizer of a text encoder [default: tokenizer.json in the encoder's folder]
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Tokens after which a text is cut [default: the configuration in the encoder's folder]
    #[arg(long, value_name = "TOKENS")]
    max_tokens: Option<usize>,
    /// Put in front of queries, such as "query: " [default: the configuration in the encoder's folder]
    #[arg(long, value_name = "TEXT")]
    pub(super) query_prefix: Option<String>,
    /// Put in front of documents, such as "passage: " [default: the configuration in the encoder's folder]
    #[arg(long, value_name = "TEXT")]
    pub(super) document_prefix: Option<String>,
    /// Where the encoder comes from or what it was trained on, in words [default: the name of the file, folder or model]
    #[arg(long, value_name = "TEXT")]
    pub(super) origin: Option<String>,
}

/// How one vector per token becomes one per text.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum PoolingArgument {
    /// The output has one vector per text already
    None,
    /// Mean over the tokens
    Mean,
    /// First token
    Cls,
    /// Last token
    LastToken,
}

/// Whether a path is that of an encoder of another program, and not of a checkpoint of a supported network.
pub fn is_outside(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    path.is_dir() || ending.is_some_and(|ending| ending.eq_ignore_ascii_case("onnx"))
}

#[cfg(feature = "onnx")]
pub use with::run;
#[cfg(not(feature = "onnx"))]
pub use without::run;

#[cfg(not(feature = "onnx"))]
mod without {
    use std::path::Path;

    use super::OutsideArguments;
    use crate::arguments::GlobalArguments;
    use crate::exit_status::{ExitStatus, usage};
    use crate::terminal::Terminal;

    /// **Errors**: always, in this build.
    pub fn run(
        path: &Path,
        _: &OutsideArguments,
        _: Option<usize>,
        _: Option<&str>,
        _: &GlobalArguments,
        _: &Terminal,
    ) -> anyhow::Result<ExitStatus> {
        Err(usage(format!(
            "{}: encoders of other programs need a program that was built with the feature `onnx` (cargo build --features onnx)",
            path.display()
        )))
    }
}

#[cfg(feature = "onnx")]
mod with {
    use std::path::Path;

    use perennial_core::outside_encoder::CANARY_FILE;
    use perennial_core::{
        EncoderFile, EncoderKind, Modality, Pooling, Role, VersionDraft, VersionEncoder,
    };
    use perennial_encode::import::{
        ImportError, ImportOptions, ImportedEncoder, PreparationChoice, read,
    };
    use perennial_encode::presets::NAMES;
    use serde::Serialize;

    use super::{OutsideArguments, PoolingArgument};
    use crate::arguments::GlobalArguments;
    use crate::exit_status::{ExitStatus, usage};
    use crate::outside_publishing::publish_outside;
    use crate::terminal::Terminal;

    #[derive(Serialize)]
    struct Answer<'a> {
        version: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        alias: Option<&'a str>,
        path: &'a Path,
        kind: EncoderKind,
        accepts: &'static [Modality],
        dim: usize,
        findings: &'a [String],
        files: &'a [EncoderFile],
        weights_sha256: &'a str,
    }

    pub fn run(
        path: &Path,
        arguments: &OutsideArguments,
        size: Option<usize>,
        alias: Option<&str>,
        global: &GlobalArguments,
        terminal: &Terminal,
    ) -> anyhow::Result<ExitStatus> {
        let imported =
            read(path, &arguments.options(size, global)).map_err(|error| explained(error, path))?;
        let draft = draft(&imported, path, arguments.origin.as_deref());
        let registry = global.create_registry()?;
        let name = path.display().to_string();
        let version = publish_outside(&registry, draft, imported.files, &name, global)?;
        if let Some(alias) = alias {
            registry.set_alias(alias, &version.name)?;
        }
        let Some(outside) = version.outside() else {
            anyhow::bail!("{} was published without its encoder", version.name);
        };
        let answer = Answer {
            version: &version.name,
            alias,
            path,
            kind: outside.kind,
            accepts: version.accepts(),
            dim: version.dim,
            findings: &imported.findings,
            files: &outside.files,
            weights_sha256: &version.weights_sha256,
        };
        terminal.result(&answer, |_| text(&answer))?;
        Ok(ExitStatus::Done)
    }

    /// What an argument can say is wrong usage, in the words of the command line.
    fn explained(error: ImportError, path: &Path) -> anyhow::Error {
        match error {
            ImportError::Needed {
                what,
                looked,
                option,
            } => {
                let alone = match path.is_file() {
                    true => {
                        "; beside a lone file no configuration is read: give its folder, if one is there"
                    }
                    false => "",
                };
                let option = option.replace('_', "-");
                usage(format!(
                    "it is not known {what}: nothing is said by {looked}; say it with --{option}{alone}"
                ))
            }
            ImportError::Option { option, problem } => usage(format!("--{option}: {problem}")),
            ImportError::SeveralGraphs { path, graphs } => usage(format!(
                "{} holds several graphs: {}; say which with --graph",
                path.display(),
                graphs.join(", ")
            )),
            other => other.into(),
        }
    }

    impl OutsideArguments {
        fn options(&self, size: Option<usize>, global: &GlobalArguments) -> ImportOptions {
            let preparation =
                self.preprocess
                    .as_ref()
                    .map(|given| match NAMES.contains(&given.as_str()) {
                        true => PreparationChoice::Preset(given.clone(), size),
                        false => PreparationChoice::File(given.into()),
                    });
            ImportOptions {
                graph: self.graph.clone(),
                output: self.output.clone(),
                pooling: self.pooling.map(|pooling| match pooling {
                    PoolingArgument::None => Pooling::None,
                    PoolingArgument::Mean => Pooling::Mean,
                    PoolingArgument::Cls => Pooling::Cls,
                    PoolingArgument::LastToken => Pooling::LastToken,
                }),
                preparation,
                tokenizer: self.tokenizer.clone(),
                max_tokens: self.max_tokens,
                query_prefix: self.query_prefix.clone(),
                document_prefix: self.document_prefix.clone(),
                runtime: global.onnxruntime.clone().into(),
            }
        }
    }

    fn draft(imported: &ImportedEncoder, path: &Path, origin: Option<&str>) -> VersionDraft {
        let data = origin.map(str::to_owned).unwrap_or_else(|| {
            let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            let name = whole.file_name().unwrap_or_default().to_string_lossy();
            let plain = name.chars().map(|c| if c.is_control() { ' ' } else { c });
            format!("imported from {}", plain.take(255).collect::<String>())
        });
        let method = match imported.spec.kind {
            EncoderKind::TokenTable => "token table",
            _ => "onnx",
        };
        VersionDraft {
            dim: imported.dim,
            encoder: VersionEncoder::Outside(imported.spec.clone()),
            centred: false,
            parent: None,
            role: Role::Imported,
            method: method.to_owned(),
            data,
            seed: 0,
            created: perennial_train::now(),
        }
    }

    fn text(answer: &Answer<'_>) -> String {
        let accepts = answer.accepts.iter().map(|modality| match modality {
            Modality::Image => "pictures",
            _ => "texts",
        });
        let accepts: Vec<&str> = accepts.collect();
        let bytes: u64 = answer.files.iter().map(|file| file.bytes).sum();
        let mut lines = vec![format!(
            "{} from {}: embeds {}, dimension {}, {} files, {:.1} MB",
            answer.version,
            answer.path.display(),
            accepts.join(" and "),
            answer.dim,
            answer.files.len(),
            bytes as f64 / 1e6
        )];
        lines.extend(answer.findings.iter().cloned());
        lines.push(format!(
            "canaries: embeddings of fixed inputs, recorded in {CANARY_FILE} and compared at every load"
        ));
        lines.join("\n")
    }
}

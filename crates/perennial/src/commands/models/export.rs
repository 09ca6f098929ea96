//! `perennial models export`.

use std::path::{Path, PathBuf};

use perennial_core::{FileKind, ModelVersion, Output, Registry, holds};
use perennial_encode::OPSET;
use perennial_train::{OnnxExport, export_onnx, trained_network};
use serde::Serialize;

use crate::exit_status::{ExitStatus, usage};
use crate::terminal::Terminal;

/// Where `models import` looks for the preparation of pictures.
const PREPROCESSOR: &str = "preprocessor_config.json";
/// How a graph begins that this program wrote: the format's version, and the producer's name.
const GRAPH: FileKind = FileKind {
    name: "an ONNX file that Perennial wrote",
    recognise: |head| head.starts_with(b"\x08\x08\x12\x09perennial"),
};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Version name or alias: one that was trained here
    version: String,
    /// File to write: pixels [batch, channels, height, width] in, embeddings [batch, dim] of unit length out. How pictures become pixels goes into
    /// preprocessor_config.json beside it
    #[arg(long, value_name = "FILE")]
    onnx: PathBuf,
}

#[derive(Serialize)]
struct Answer<'a> {
    version: &'a str,
    onnx: &'a Path,
    /// None for networks of one channel, and beside what is no file.
    preprocessor: Option<&'a Path>,
    opset: u64,
    /// Channels, height and width.
    input: [usize; 3],
    dim: usize,
    bytes: usize,
}

pub fn run(
    arguments: &Arguments,
    registry: &Registry,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let version = registry.get(&arguments.version)?;
    refuse_outside(registry, &version)?;
    let input = trained_network(&version)?.architecture.input;
    if arguments.onnx.file_name() == Some(PREPROCESSOR.as_ref()) {
        return Err(usage(format!(
            "--onnx {}: this name is that of the preparation beside the graph; name the graph model.onnx",
            arguments.onnx.display()
        )));
    }
    let output = Output::prepare_kind(&arguments.onnx, GRAPH)?;
    let OnnxExport {
        graph,
        preprocessor,
    } = export_onnx(registry, &version)?;
    let streamed = output.is_stdout();
    let beside = arguments.onnx.with_file_name(PREPROCESSOR);
    let preprocessor = match &preprocessor {
        // Nothing belongs beside a device or a pipe.
        Some(content) if output.file().is_some() => prepare_preprocessor(&beside, content)?,
        _ => None,
    };
    let written = preprocessor.is_some();
    let bytes = graph.len();
    output.commit(graph)?;
    if let Some((output, content)) = preprocessor {
        output.commit(content)?;
    }
    if streamed {
        return Ok(ExitStatus::Done);
    }
    let answer = Answer {
        version: &version.name,
        onnx: &arguments.onnx,
        preprocessor: written.then_some(beside.as_path()),
        opset: OPSET,
        input,
        dim: version.dim,
        bytes,
    };
    terminal.result(&answer, |_| text(&answer))?;
    Ok(ExitStatus::Done)
}

/// An encoder of another program is a file of that program already.
fn refuse_outside(registry: &Registry, version: &ModelVersion) -> anyhow::Result<()> {
    let Some(outside) = version.outside() else {
        return Ok(());
    };
    if let Some(endpoint) = &outside.endpoint {
        return Err(usage(format!(
            "{} is an embedding service ({}), whose network is not here",
            version.name, endpoint.url
        )));
    }
    let towers = [
        outside.image.as_ref().map(|tower| &tower.graph.file),
        outside.text.as_ref().map(|tower| &tower.graph.file),
    ];
    let mut files: Vec<String> = towers
        .into_iter()
        .flatten()
        .map(|file| registry.file_path(version, file).display().to_string())
        .collect();
    files.dedup();
    let layer = match &outside.head {
        Some(head) => format!(
            "; the linear layer behind it is in {}",
            registry.file_path(version, &head.file).display()
        ),
        None => String::new(),
    };
    Err(usage(format!(
        "{} has the encoder of another program, whose files are as they were imported: {}{layer}",
        version.name,
        files.join(" and ")
    )))
}

/// The file beside the graph. One that says something else is the user's, or another export's.
fn prepare_preprocessor<'a>(
    path: &Path,
    content: &'a str,
) -> anyhow::Result<Option<(Output, &'a str)>> {
    match holds(path, content.as_bytes()) {
        Ok(false) => {
            return Err(usage(format!(
                "{} says something else than this version needs; export into a folder of its own",
                path.display()
            )));
        }
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    Ok(Some((Output::prepare(path)?, content)))
}

fn text(answer: &Answer<'_>) -> String {
    let [channels, height, width] = answer.input;
    let mut text = format!(
        "{} as {}: opset {}, pixels [batch, {channels}, {height}, {width}] to embeddings [batch, {}], {:.1} MB\n",
        answer.version,
        answer.onnx.display(),
        answer.opset,
        answer.dim,
        answer.bytes as f64 / 1e6
    );
    match answer.preprocessor {
        Some(path) => text.push_str(&format!("preparation of pictures: {}\n", path.display())),
        None if channels != 1 => {
            text.push_str("preparation of pictures: as in model.toml; nothing was written beside a device or a pipe\n")
        }
        None => text.push_str(
            "preparation of pictures: brightness, (pixel / 255 - mean) / std as in model.toml; no preprocessor_config.json says this\n",
        ),
    }
    text
}

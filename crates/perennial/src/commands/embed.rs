//! `perennial embed`: a set of images as an embeddings file.

use std::path::{Path, PathBuf};

use perennial_core::{Embeddings, Encoder, FileKind, ModelVersion, Output, Registry};
use perennial_data::ContentHash;
use perennial_data::folder::LabelledFolder;
use perennial_data::pictures::LeftOut;
use perennial_formats::{EMBEDDINGS_FILE_KIND, write_embeddings};
use perennial_train::TrainedEncoder;
use serde::Serialize;
use serde_json::json;

use crate::arguments::GlobalArguments;
use crate::embedding::{Preparation, embed};
use crate::exit_status::{ExitStatus, usage};
use crate::interrupt::Interrupt;
use crate::left_out::{self, LeftOutAnswer};
use crate::progress::CountedProgress;
use crate::set_argument::SetArgument;
use crate::terminal::Terminal;

/// The file of `--rows`.
const ROWS: FileKind = FileKind {
    name: "a list of rows",
    recognise: |head| head.starts_with(b"{\"file\":"),
};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Version name or alias
    version: String,
    /// Images to embed: SET:SPLIT, or folder:DIR for all pictures below a folder
    #[arg(long, value_name = "SET")]
    set: SetArgument,
    /// Safetensors file to write; may be a device or a pipe, and - is standard output
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// With folder:DIR: also write the file name and label of each row to this file, one JSON object per line
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
    /// With folder:DIR: stop at the first unusable picture instead of skipping and listing it
    #[arg(long)]
    strict: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    version: &'a str,
    set: String,
    set_sha256: String,
    count: usize,
    dim: usize,
    seconds: f64,
    images_per_second: f64,
    file: &'a PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<LeftOutAnswer>,
}

/// The result of one pass over a set.
struct Embedded {
    embeddings: Embeddings,
    set_sha256: String,
    seconds: f64,
    /// Of a folder.
    left_out: Option<LeftOut>,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let folder = arguments.set.folder();
    if folder.is_none() && (arguments.strict || arguments.rows.is_some()) {
        return Err(usage("--strict and --rows require --set folder:DIR"));
    }
    let registry = global.open_registry()?;
    let version = registry.get(&arguments.version)?;
    let output = Output::prepare_kind(&arguments.out, EMBEDDINGS_FILE_KIND)?;
    let rows = arguments.rows.as_ref();
    if rows == Some(&arguments.out) {
        return Err(usage(
            "--out and --rows name the same file; name two different files",
        ));
    }
    let rows = rows
        .map(|file| Output::prepare_kind(file, ROWS))
        .transpose()?;
    let to_stdout = output.is_stdout();
    let interrupt = Interrupt::listen()?;
    let embedded = match folder {
        Some(folder) => arguments.embed_folder(
            folder, rows, &registry, &version, global, interrupt, terminal,
        )?,
        None => arguments.embed_set(&registry, &version, global, interrupt, terminal)?,
    };
    let embeddings = &embedded.embeddings;
    write_embeddings(embeddings, output)?;
    let answer = Answer {
        version: &version.name,
        set: arguments.set.0.describe(),
        set_sha256: embedded.set_sha256,
        count: embeddings.len(),
        dim: embeddings.dim(),
        seconds: embedded.seconds,
        images_per_second: embeddings.len() as f64 / embedded.seconds.max(1e-9),
        file: &arguments.out,
        left_out: embedded.left_out.as_ref().map(LeftOutAnswer::from),
    };
    let text = || {
        let mut text = format!(
            "{}: {} embeddings of dimension {} by {}, {:.0} images/s\n",
            answer.file.display(),
            answer.count,
            answer.dim,
            answer.version,
            answer.images_per_second
        );
        if let Some(left_out) = embedded.left_out.as_ref().filter(|files| !files.is_empty()) {
            text.push_str(&format!("{:>8}  left out\n", left_out.len()));
            text.push_str(&left_out::lines(left_out, "  "));
        }
        text
    };
    if to_stdout {
        // stdout holds the embeddings.
        terminal.say(text().trim_end());
    } else {
        terminal.result(&answer, |_| text())?;
    }
    Ok(ExitStatus::Done)
}

impl Arguments {
    fn embed_set(
        &self,
        registry: &Registry,
        version: &ModelVersion,
        global: &GlobalArguments,
        interrupt: Interrupt,
        terminal: &Terminal,
    ) -> anyhow::Result<Embedded> {
        let config = &self.set.0;
        let set = config.load(&global.data)?;
        let title = format!("{} on {}", version.name, config.describe());
        let progress = CountedProgress::new(terminal, title, set.len() as u64, "images");
        let embeddings = embed(registry, version, global.device, &set, |images| {
            progress.advance(images as u64);
            interrupt.check()
        })?;
        Ok(Embedded {
            embeddings,
            set_sha256: set.content_sha256(),
            seconds: progress.finish().as_secs_f64(),
            left_out: None,
        })
    }

    #[allow(clippy::too_many_arguments)]
    /// A few pictures at a time, scaled to what the version takes; rows come in the order of the paths.
    fn embed_folder(
        &self,
        path: &Path,
        rows_output: Option<Output>,
        registry: &Registry,
        version: &ModelVersion,
        global: &GlobalArguments,
        interrupt: Interrupt,
        terminal: &Terminal,
    ) -> anyhow::Result<Embedded> {
        let preparation = Preparation::of(version)?;
        let side = preparation.side();
        let mut folder = LabelledFolder::list(path)?.strict(self.strict);
        let encoder = TrainedEncoder::load(registry, version.clone(), &global.device.open()?)?;
        let title = format!("{} on {}", version.name, path.display());
        let progress = CountedProgress::new(terminal, title, folder.len() as u64, "files");
        let mut content = ContentHash::new([3, side, side]);
        let (mut vectors, mut labels, mut rows) = (Vec::new(), Vec::new(), String::new());
        let mut pixels = Vec::new();
        folder.squares(side, |squares| {
            for squares in squares.chunks(preparation.batch()) {
                pixels.clear();
                for square in squares {
                    preparation.append(&square.pixels, &mut pixels);
                    content.add(square.label, &square.pixels);
                    if self.rows.is_some() {
                        let row = json!({"row": labels.len(), "file": square.file, "label": square.label});
                        rows.push_str(&format!("{row}\n"));
                    }
                    labels.push(square.label);
                }
                vectors.extend(encoder.encode(&pixels)?);
                progress.advance(squares.len() as u64);
                interrupt.check()?;
            }
            anyhow::Ok(())
        })?;
        let seconds = progress.finish().as_secs_f64();
        if let Some(output) = rows_output {
            output.commit(rows)?;
        }
        let ids = (0..labels.len() as u64).collect();
        let labels = folder.has_classes().then_some(labels);
        let name = version.name.as_str();
        Ok(Embedded {
            embeddings: Embeddings::new(name, version.dim, vectors, ids, labels)?,
            set_sha256: content.finish(),
            seconds,
            left_out: Some(folder.left_out().clone()),
        })
    }
}

//! `perennial embed`: images or texts as a file of embeddings.

mod apart;
mod embedded;
mod file_state;
mod folder;
mod journal;
mod origin;
mod refused;
mod table;

use std::path::{Path, PathBuf};

use clap::{ArgGroup, ValueEnum};
use perennial_core::{
    Embeddings, FileKind, ItemId, Modality, ModelVersion, Output, Registry, SpaceId,
};
use perennial_data::pictures::LeftOut;
use perennial_encode::InputType;
use perennial_formats::{
    EMBEDDINGS_FILE_KIND, Format, Header, TextColumns, VectorSet, create, write_embeddings,
};
use perennial_upgrade::LoadedModel;
use serde::Serialize;

use self::apart::check_apart;
use self::embedded::Embedded;
use self::folder::Folder;
use self::table::{Content, Done, Part, Table, header};
use crate::arguments::GlobalArguments;
use crate::embedding::embed;
use crate::exit_status::{ExitStatus, InterruptedError, usage};
use crate::interrupt::Interrupt;
use crate::left_out::{self, LeftOutAnswer};
use crate::model_loading::VersionLoader;
use crate::probe::load_set;
use crate::progress::CountedProgress;
use crate::resume_command::same_command;
use crate::set_argument::SetArgument;
use crate::terminal::Terminal;

/// The file of `--rows`.
const ROWS: FileKind = FileKind {
    name: "a list of rows",
    recognise: |head| head.starts_with(b"{\"file\":"),
};

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("inputs").required(true).args(["set", "table"]))]
pub struct Arguments {
    /// Version name or alias
    version: String,
    /// Images to embed: SET:SPLIT, or folder:DIR for all pictures below a folder
    #[arg(long, value_name = "SET")]
    set: Option<SetArgument>,
    /// Table to embed, of texts or of paths of pictures: JSONL, CSV or TSV with a header line, or Parquet
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// With --table: column with the texts
    #[arg(
        long,
        value_name = "COLUMN",
        default_value = "text",
        requires = "table"
    )]
    text_column: String,
    /// With --table: column with the paths of pictures, absolute or from the table's folder on, instead of texts
    #[arg(
        long,
        value_name = "COLUMN",
        requires = "table",
        conflicts_with = "text_column"
    )]
    path_column: Option<String>,
    /// With --table: column with the ids [default: row numbers from 0]
    #[arg(long, value_name = "COLUMN", requires = "table")]
    id_column: Option<String>,
    /// With --table: whether the texts are queries or documents, for encoders that were trained with different words in front of them
    #[arg(
        long = "as",
        value_enum,
        value_name = "TYPE",
        default_value = "document",
        requires = "table",
        conflicts_with = "path_column"
    )]
    input_type: TextType,
    /// File to write. Its ending says in which format: .safetensors (and any other ending), .npy, .npz, .parquet, .jsonl or .csv. May be a device
    /// or a pipe, and - is standard output, in safetensors format
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// With folder:DIR: also write the file name and label of each row to this file, one JSON object per line
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
    /// With folder:DIR or --path-column: stop at the first unusable picture instead of skipping and listing it
    #[arg(long)]
    strict: bool,
}

/// What texts are.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum TextType {
    Query,
    Document,
}

#[derive(Serialize)]
struct TableAnswer<'a> {
    version: &'a str,
    table: &'a Path,
    /// Rows with embeddings.
    count: u64,
    /// Rows that an interrupted run had done.
    done_before: u64,
    dim: usize,
    seconds: f64,
    rows_per_second: f64,
    /// The part of the time in which the model had work; the rest was spent waiting for rows, and writing.
    model_share: f64,
    file: &'a Path,
    /// Of pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<LeftOutAnswer>,
}

#[derive(Serialize)]
struct Answer<'a> {
    version: &'a str,
    set: String,
    set_sha256: String,
    count: usize,
    /// Images that an interrupted run had done.
    done_before: usize,
    dim: usize,
    seconds: f64,
    images_per_second: f64,
    /// Of a folder: the part of the time in which the model had work; the rest was spent waiting for pictures, and writing.
    #[serde(skip_serializing_if = "Option::is_none")]
    model_share: Option<f64>,
    file: &'a PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<LeftOutAnswer>,
}

/// The end of an interrupted run.
#[derive(Serialize)]
struct Stopped<'a> {
    status: &'static str,
    unfinished: &'a Path,
    resume: &'a str,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    match &arguments.set {
        Some(set) => arguments.embed_pictures(set, global, terminal),
        None => arguments.embed_table(global, terminal),
    }
}

/// Ends work of which a part is done and kept: says how to go on after Ctrl-C.
///
/// **Errors**: the error, unless it is that of Ctrl-C and something is kept.
fn stopped(
    error: anyhow::Error,
    unfinished: Option<&Path>,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let interrupted = error.chain().any(|cause| cause.is::<InterruptedError>());
    let Some(unfinished) = unfinished.filter(|path| interrupted && path.exists()) else {
        return Err(error);
    };
    let resume = same_command();
    terminal.say("interrupted; what is done is kept, and this command goes on from there:");
    let stopped = Stopped {
        status: "interrupted",
        unfinished,
        resume: &resume,
    };
    terminal.result(&stopped, |_| format!("{resume}\n"))?;
    Ok(ExitStatus::Interrupted)
}

impl Arguments {
    /// A set, or the pictures of a folder.
    fn embed_pictures(
        &self,
        set: &SetArgument,
        global: &GlobalArguments,
        terminal: &Terminal,
    ) -> anyhow::Result<ExitStatus> {
        let arguments = self;
        let folder = set.folder_for_a_version()?;
        if folder.is_none() && (arguments.strict || arguments.rows.is_some()) {
            return Err(usage("--strict and --rows require --set folder:DIR"));
        }
        let registry = global.open_registry()?;
        let version = registry.get(&arguments.version)?;
        let format = other_format(&arguments.out);
        let kind = format.map_or(EMBEDDINGS_FILE_KIND, Format::file_kind);
        let output = Output::prepare_kind(&arguments.out, kind)?;
        let rows = arguments.rows.as_ref();
        let rows = rows
            .map(|file| Output::prepare_kind(file, ROWS))
            .transpose()?;
        let unfinished = journal::path_of(&output);
        check_apart(&output, rows.as_ref(), unfinished.as_deref())?;
        let to_stdout = output.is_stdout();
        let interrupt = Interrupt::listen()?;
        let (embedded, journal) = match folder {
            Some(path) => {
                let loader = VersionLoader::of(global)?;
                let model = LoadedModel::load(&loader, &registry, version.clone())?;
                let folder = Folder {
                    path,
                    strict: arguments.strict,
                    place: global.place(&version),
                    journal: unfinished.clone(),
                    out: output.file().map(Path::to_owned),
                    rows,
                };
                match folder.embed(&model, interrupt, terminal) {
                    Ok(done) => done,
                    Err(error) => return stopped(error, unfinished.as_deref(), terminal),
                }
            }
            None => (
                arguments.embed_set(set, &registry, &version, global, interrupt, terminal)?,
                None,
            ),
        };
        let embeddings = &embedded.embeddings;
        match format {
            Some(format) => write_as(embeddings, embedded.files.as_deref(), output, format)?,
            None => write_embeddings(embeddings, output)?,
        }
        if let Some(journal) = journal {
            journal.remove()?;
        }
        let new = embeddings.len() - embedded.earlier;
        let answer = Answer {
            version: &version.name,
            set: set.0.describe(),
            set_sha256: embedded.set_sha256,
            count: embeddings.len(),
            done_before: embedded.earlier,
            dim: embeddings.dim(),
            seconds: embedded.seconds,
            images_per_second: new as f64 / embedded.seconds.max(1e-9),
            model_share: embedded
                .model_seconds
                .map(|model| share(model, embedded.seconds)),
            file: &arguments.out,
            left_out: embedded.left_out.as_ref().map(LeftOutAnswer::from),
        };
        let text = || {
            let busy = answer.model_share.map_or_else(String::new, busy);
            let mut text = format!(
                "{}: {} embeddings of dimension {} by {}, {:.0} images/s{busy}\n",
                answer.file.display(),
                answer.count,
                answer.dim,
                answer.version,
                answer.images_per_second
            );
            if let Some(left_out) = &embedded.left_out {
                text.push_str(&told(left_out));
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

    /// A column of a table.
    fn embed_table(
        &self,
        global: &GlobalArguments,
        terminal: &Terminal,
    ) -> anyhow::Result<ExitStatus> {
        let Some(path) = &self.table else {
            return Err(usage("nothing to embed; pass --set or --table"));
        };
        if self.rows.is_some() {
            return Err(usage("--rows requires --set folder:DIR"));
        }
        if self.strict && self.path_column.is_none() {
            return Err(usage(
                "--strict is about pictures; it requires --path-column or --set folder:DIR",
            ));
        }
        let registry = global.open_registry()?;
        let version = registry.get(&self.version)?;
        let (content, column) = match &self.path_column {
            Some(column) => (Content::Paths, column),
            None => (Content::Texts(self.input_type.into()), &self.text_column),
        };
        let needed = match content {
            Content::Texts(_) => Modality::Text,
            Content::Paths => Modality::Image,
        };
        if !version.accepts().contains(&needed) {
            return Err(usage(match content {
                Content::Texts(_) => format!(
                    "version {} embeds pictures, not texts; name the column of their paths with --path-column",
                    version.name
                ),
                Content::Paths => format!("version {} embeds texts, not pictures", version.name),
            }));
        }
        let format = other_format(&self.out).unwrap_or(Format::Safetensors);
        let output = Output::prepare_kind(&self.out, format.file_kind())?;
        let to_stdout = output.is_stdout();
        let table = Table {
            path,
            columns: TextColumns {
                text: column.clone(),
                id: self.id_column.clone(),
            },
            content,
            strict: self.strict,
        };
        let interrupt = Interrupt::listen()?;
        let rows = table.check(interrupt)?;
        let loader = VersionLoader::of(global)?;
        let model = LoadedModel::load(&loader, &registry, version)?;
        let dim = model.version.dim;
        let done = match journal::path_of(&output) {
            // Rows go out as they come, and how many pictures are readable is known at the end.
            None => {
                let known = (content != Content::Paths).then_some(rows);
                let mut writer = create(output, format, &header(&model.version, known, format))?;
                let mut first = 0;
                let keep = |part: Part, vectors: Vec<f32>| {
                    let next = first + part.rows();
                    if !vectors.is_empty() {
                        writer.write(&part.with(vectors, dim, first)?)?;
                    }
                    first = next;
                    Ok(())
                };
                let done = table.embed(&model, Done::default(), rows, keep, interrupt, terminal)?;
                table.check_some(&done)?;
                writer.finish()?;
                done
            }
            Some(unfinished) => {
                let (place, path) = (&global.place(&model.version), unfinished.as_path());
                let done = table
                    .embed_resumably(&model, rows, (path, place), interrupt, terminal)
                    .and_then(|(journal, done)| {
                        let header = header(&model.version, Some(done.count()), format);
                        journal.write_to(create(output, format, &header)?, dim)?;
                        Ok(done)
                    });
                match done {
                    Ok(done) => done,
                    Err(error) => return stopped(error, Some(path), terminal),
                }
            }
        };
        let answer = TableAnswer {
            version: model.name(),
            table: path,
            count: done.count(),
            done_before: done.earlier,
            dim,
            seconds: done.seconds,
            rows_per_second: (done.rows - done.earlier) as f64 / done.seconds.max(1e-9),
            model_share: share(done.model_seconds, done.seconds),
            file: &self.out,
            left_out: (content == Content::Paths).then(|| LeftOutAnswer::from(&done.left_out)),
        };
        let text = || {
            let line = format!(
                "{}: {} embeddings of dimension {} by {}, {:.0} rows/s{}\n",
                answer.file.display(),
                answer.count,
                answer.dim,
                answer.version,
                answer.rows_per_second,
                busy(answer.model_share)
            );
            line + &told(&done.left_out)
        };
        match to_stdout {
            // stdout holds the embeddings.
            true => terminal.say(text().trim_end()),
            false => terminal.result(&answer, |_| text())?,
        }
        Ok(ExitStatus::Done)
    }

    fn embed_set(
        &self,
        set: &SetArgument,
        registry: &Registry,
        version: &ModelVersion,
        global: &GlobalArguments,
        interrupt: Interrupt,
        terminal: &Terminal,
    ) -> anyhow::Result<Embedded> {
        let config = &set.0;
        let set = load_set(config, &global.data, std::slice::from_ref(version))?;
        let title = format!("{} on {}", version.name, config.describe());
        let progress = CountedProgress::new(terminal, title, set.len() as u64, "images");
        let embeddings = embed(registry, version, global, &set, |images| {
            progress.advance(images as u64);
            interrupt.check()
        })?;
        Ok(Embedded {
            embeddings,
            set_sha256: set.content_sha256(),
            seconds: progress.finish().as_secs_f64(),
            model_seconds: None,
            earlier: 0,
            files: None,
            left_out: None,
        })
    }
}

impl From<TextType> for InputType {
    fn from(given: TextType) -> Self {
        match given {
            TextType::Query => Self::Query,
            TextType::Document => Self::Document,
        }
    }
}

/// The part of the time in which the model had work; 0 where nothing was left to do.
fn share(model_seconds: f64, seconds: f64) -> f64 {
    (model_seconds / seconds.max(1e-9)).min(1.0)
}

fn busy(share: f64) -> String {
    format!(", the model busy for {:.0} % of the time", 100.0 * share)
}

/// The files that were left out, as lines of text; nothing where there are none.
fn told(left_out: &LeftOut) -> String {
    match left_out.len() {
        0 => String::new(),
        count => format!("{count:>8}  left out\n{}", left_out::lines(left_out, "  ")),
    }
}

/// The format that the ending of a file stands for, if it is another than safetensors.
fn other_format(path: &Path) -> Option<Format> {
    let format = Format::of_ending(path).ok()?;
    (format != Format::Safetensors).then_some(format)
}

/// Writes embeddings with their labels; of a folder, the ids are the paths of its files.
fn write_as(
    embeddings: &Embeddings,
    files: Option<&[String]>,
    output: Output,
    format: Format,
) -> anyhow::Result<()> {
    let ids: Vec<ItemId> = match files {
        Some(files) => files.iter().cloned().map(ItemId::Text).collect(),
        None => embeddings.ids().iter().map(|&id| id.into()).collect(),
    };
    let mut set = VectorSet::new(embeddings.dim(), embeddings.vectors().to_vec())?.with_ids(ids)?;
    if let Some(labels) = embeddings.labels() {
        set = set.with_labels(labels.iter().map(|&label| label.into()).collect())?;
    }
    let header = Header {
        dim: embeddings.dim(),
        rows: Some(embeddings.len() as u64),
        space: SpaceId::new(embeddings.model_version()).ok(),
        format,
    };
    let mut writer = create(output, format, &header)?;
    writer.write(&set)?;
    Ok(writer.finish()?)
}

//! `perennial embed`: images or texts as a file of embeddings.

mod table;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use perennial_core::{
    Embeddings, FileKind, ItemId, Modality, ModelVersion, Output, Registry, SpaceId,
};
use perennial_data::ContentHash;
use perennial_data::folder::LabelledFolder;
use perennial_data::pictures::{LeftOut, LeftOutFile, PictureFile, Reason};
use perennial_encode::{Input, InputType, Prepared};
use perennial_formats::{
    EMBEDDINGS_FILE_KIND, Format, Header, TextColumns, VectorSet, create, write_embeddings,
};
use perennial_upgrade::LoadedModel;
use serde::Serialize;
use serde_json::json;

use self::table::{Content, Table, header};
use crate::arguments::GlobalArguments;
use crate::embedding::{batch, embed};
use crate::exit_status::{ExitStatus, usage};
use crate::interrupt::Interrupt;
use crate::left_out::{self, LeftOutAnswer};
use crate::model_loading::VersionLoader;
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
    #[arg(
        long,
        value_name = "SET",
        required_unless_present = "table",
        conflicts_with = "table"
    )]
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
    /// With folder:DIR: stop at the first unusable picture instead of skipping and listing it
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
    count: u64,
    dim: usize,
    seconds: f64,
    rows_per_second: f64,
    file: &'a Path,
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
    /// Of a folder: the file of each row.
    files: Option<Vec<String>>,
    /// Of a folder.
    left_out: Option<LeftOut>,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let Some(set) = &arguments.set else {
        return arguments.embed_table(global, terminal);
    };
    let folder = set.folder();
    if folder.is_none() && (arguments.strict || arguments.rows.is_some()) {
        return Err(usage("--strict and --rows require --set folder:DIR"));
    }
    let registry = global.open_registry()?;
    let version = registry.get(&arguments.version)?;
    let format = other_format(&arguments.out);
    let kind = format.map_or(EMBEDDINGS_FILE_KIND, Format::file_kind);
    let output = Output::prepare_kind(&arguments.out, kind)?;
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
        None => arguments.embed_set(set, &registry, &version, global, interrupt, terminal)?,
    };
    let embeddings = &embedded.embeddings;
    match format {
        Some(format) => write_as(embeddings, embedded.files.as_deref(), output, format)?,
        None => write_embeddings(embeddings, output)?,
    }
    let answer = Answer {
        version: &version.name,
        set: set.0.describe(),
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
    /// A column of a table.
    fn embed_table(
        &self,
        global: &GlobalArguments,
        terminal: &Terminal,
    ) -> anyhow::Result<ExitStatus> {
        let Some(path) = &self.table else {
            return Err(usage("nothing to embed; pass --set or --table"));
        };
        if self.strict || self.rows.is_some() {
            return Err(usage("--strict and --rows require --set folder:DIR"));
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
        };
        let interrupt = Interrupt::listen()?;
        let rows = table.check()?;
        let loader = VersionLoader(global.device.open()?);
        let model = LoadedModel::load(&loader, &registry, version)?;
        let header = header(&model.version, rows, format);
        let mut writer = create(output, format, &header)?;
        let seconds = table.embed(&model, rows, writer.as_mut(), interrupt, terminal)?;
        writer.finish()?;
        let answer = TableAnswer {
            version: model.name(),
            table: path,
            count: rows,
            dim: model.version.dim,
            seconds,
            rows_per_second: rows as f64 / seconds.max(1e-9),
            file: &self.out,
        };
        let text = || {
            format!(
                "{}: {} embeddings of dimension {} by {}, {:.0} rows/s",
                answer.file.display(),
                answer.count,
                answer.dim,
                answer.version,
                answer.rows_per_second
            )
        };
        match to_stdout {
            // stdout holds the embeddings.
            true => terminal.say(text()),
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
            files: None,
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
        let mut folder = LabelledFolder::list(path)?.strict(self.strict);
        let loader = VersionLoader(global.device.open()?);
        let model = LoadedModel::load(&loader, registry, version.clone())?;
        let Some([side, _]) = version.picture_size() else {
            return Err(usage(format!(
                "version {} embeds texts, not pictures",
                version.name
            )));
        };
        let title = format!("{} on {}", version.name, path.display());
        let progress = CountedProgress::new(terminal, title, folder.len() as u64, "files");
        let mut content = ContentHash::new([3, side, side]);
        let (mut vectors, mut labels, mut rows) = (Vec::new(), Vec::new(), String::new());
        let mut files = Vec::new();
        let prepare = |file: &PictureFile| prepare(&model, file);
        folder.each(batch(version), prepare, |pictures| {
            let count = pictures.len();
            let mut prepared = Vec::with_capacity(count);
            for picture in pictures {
                let (ready, hashed) = picture.content;
                prepared.push(ready);
                content.add(picture.label, &hashed);
                if self.rows.is_some() {
                    let row =
                        json!({"row": labels.len(), "file": picture.file, "label": picture.label});
                    rows.push_str(&format!("{row}\n"));
                }
                labels.push(picture.label);
                files.push(picture.file);
            }
            vectors.extend(model.encode(&prepared)?);
            progress.advance(count as u64);
            interrupt.check()
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
            files: Some(files),
            left_out: Some(folder.left_out().clone()),
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

/// A picture ready for a model, and what stands for it in the set's hash: of a network that was trained here, the square that it is given, as in
/// the hash of the same pictures as a set; otherwise the file.
fn prepare(model: &LoadedModel, file: &PictureFile) -> Result<(Prepared, Vec<u8>), LeftOutFile> {
    let refused = |problem: String| LeftOutFile {
        file: file.relative().to_owned(),
        reason: Reason::TooLarge,
        problem,
    };
    let bytes = file.read()?;
    let picture = file.decode(&bytes)?;
    let own = model.version.network().is_some();
    let side = model.version.picture_size().map(|[side, _]| side);
    let (prepared, hashed) = match side.filter(|_| own) {
        Some(side) => {
            let square = picture.square(side);
            let square = square.map_err(|error| refused(error.to_string()))?;
            let (pixels, shape) = (square.as_slice(), [3, side, side]);
            (model.prepare(Input::Pixels { pixels, shape }), square)
        }
        None => {
            let sha256 = perennial_core::sha256_hex(&bytes).into_bytes();
            (model.prepare(Input::Decoded(&picture)), sha256)
        }
    };
    let prepared = prepared.map_err(|error| refused(error.to_string()))?;
    Ok((prepared, hashed))
}

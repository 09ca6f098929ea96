//! Embedding the pictures of a folder.

use std::path::{Path, PathBuf};
use std::time::Instant;

use perennial_core::{Embeddings, Output, sha256_hex};
use perennial_data::ContentHash;
use perennial_data::folder::LabelledFolder;
use perennial_data::pictures::{LeftOutFile, PictureFile, Reason};
use perennial_encode::{Input, Prepared};
use perennial_upgrade::LoadedModel;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::embedded::Embedded;
use super::file_state::states;
use super::journal::{Journal, aside};
use super::origin::Origin;
use super::refused::Refused;
use crate::embedding::batch;
use crate::exit_status::usage;
use crate::interrupt::Interrupt;
use crate::progress::CountedProgress;
use crate::terminal::Terminal;

/// A folder, and what is wanted of it.
pub struct Folder<'a> {
    pub path: &'a Path,
    pub strict: bool,
    /// Where it is embedded.
    pub place: String,
    /// Where what is done is kept; `None` where the result is no file.
    pub journal: Option<PathBuf>,
    /// The file of the result, if it is one. In the folder it is none of the pictures' files.
    pub out: Option<PathBuf>,
    /// The file of `--rows`.
    pub rows: Option<Output>,
}

/// What the journal keeps of a batch beside its vectors.
#[derive(Serialize, Deserialize)]
pub struct Batch {
    /// Files that were looked at.
    seen: usize,
    /// Those that are pictures.
    files: Vec<String>,
    left_out: Vec<Refused>,
    /// The state that the files had before they were read.
    state: String,
    /// The state of the set's hash after them.
    hashed: String,
}

/// What is done up to now.
struct Done {
    vectors: Vec<f32>,
    labels: Vec<u32>,
    files: Vec<String>,
    content: ContentHash,
}

impl Folder<'_> {
    /// A few pictures at a time, scaled to what the version takes; rows come in the order of the paths.
    pub fn embed(
        self,
        model: &LoadedModel,
        interrupt: Interrupt,
        terminal: &Terminal,
    ) -> anyhow::Result<(Embedded, Option<Journal<Batch>>)> {
        let version = &model.version;
        let Some([side, _]) = version.picture_size() else {
            return Err(usage(format!(
                "version {} embeds texts, not pictures",
                version.name
            )));
        };
        let mut folder = LabelledFolder::list(self.path)?.strict(self.strict);
        let shape = [3, side, side];
        let mut done = Done {
            vectors: Vec::new(),
            labels: Vec::new(),
            files: Vec::new(),
            content: ContentHash::new(shape),
        };
        // What this command writes, now or in an earlier run, changes nothing about the pictures.
        let rows_file = self.rows.as_ref().and_then(Output::file);
        for own in [self.out.as_deref(), rows_file].into_iter().flatten() {
            folder.forget(own);
        }
        let size = batch(version);
        let (mut seen, mut hashed) = (0, None);
        let mut before = Vec::new();
        let mut journal = match self.journal {
            None => None,
            Some(path) => {
                folder.forget(&path);
                for other in aside(&path).filter(|other| other.exists()) {
                    folder.forget(&other);
                }
                // Strict or not, the rows are the same.
                let origin = Origin::new(version, self.place, listing(&folder), String::new());
                before = folder.files().chunks(size).map(batch_state).collect();
                let mut states = before.iter();
                let total = folder.len();
                let open = Journal::open(path, &origin, terminal, |batch: Batch, vectors| {
                    let left_out = batch.left_out.iter().map(Refused::left_out);
                    let Some(left_out) = left_out.collect::<Option<Vec<_>>>() else {
                        return Ok(false);
                    };
                    if states.next() != Some(&batch.state) {
                        return Ok(false);
                    }
                    let rows = batch.files.len();
                    if vectors.len() != rows * version.dim || batch.seen > total - seen {
                        return Ok(false);
                    }
                    if ContentHash::go_on(shape, Vec::new(), &batch.hashed).is_none() {
                        return Ok(false);
                    }
                    let labels = folder.skip(batch.seen, &batch.files, left_out);
                    seen += batch.seen;
                    done.vectors.extend(vectors);
                    done.labels.extend(labels);
                    done.files.extend(batch.files);
                    hashed = Some(batch.hashed);
                    Ok(true)
                });
                Some(open?)
            }
        };
        let content =
            hashed.and_then(|hashed| ContentHash::go_on(shape, done.labels.clone(), &hashed));
        if let Some(content) = content {
            done.content = content;
            terminal.say(format_args!(
                "{seen} of {} files were done by an earlier run",
                folder.len()
            ));
        }
        let earlier = done.files.len();
        let title = format!("{} on {}", version.name, self.path.display());
        let progress = CountedProgress::new(terminal, title, folder.len() as u64, "files");
        let progress = progress.after(seen as u64);
        let prepare = |file: &PictureFile| prepare(model, file);
        let mut states = before.into_iter().skip(seen / size);
        let mut model_seconds = 0.0;
        let walked = folder.each(size, prepare, |portion| {
            let count = portion.pictures.len();
            let looked_at = count + portion.left_out.len();
            let mut prepared = Vec::with_capacity(count);
            let first = done.files.len();
            for picture in portion.pictures {
                let (ready, hashed) = picture.content;
                prepared.push(ready);
                done.content.add(picture.label, &hashed);
                done.labels.push(picture.label);
                done.files.push(picture.file);
            }
            let begun = Instant::now();
            let vectors = model.encode(&prepared)?;
            model_seconds += begun.elapsed().as_secs_f64();
            if let Some(journal) = &mut journal {
                let batch = Batch {
                    seen: looked_at,
                    files: done.files[first..].to_vec(),
                    left_out: portion.left_out.iter().map(Refused::from).collect(),
                    state: states.next().unwrap_or_default(),
                    hashed: done.content.state(),
                };
                journal.add(&batch, &vectors)?;
            }
            done.vectors.extend(vectors);
            progress.advance(looked_at as u64);
            interrupt.check()
        });
        if walked.is_err()
            && done.files.is_empty()
            && let Some(journal) = journal.take()
        {
            // Files that are no pictures are looked at quickly.
            journal.remove()?;
        }
        walked?;
        let seconds = progress.finish().as_secs_f64();
        if let Some(output) = self.rows {
            let rows = done.files.iter().zip(&done.labels).enumerate();
            let lines = rows.map(|(row, (file, label))| {
                format!("{}\n", json!({"row": row, "file": file, "label": label}))
            });
            output.commit(lines.collect::<String>())?;
        }
        let ids = (0..done.labels.len() as u64).collect();
        let labels = folder.has_classes().then_some(done.labels);
        let name = version.name.as_str();
        let embedded = Embedded {
            embeddings: Embeddings::new(name, version.dim, done.vectors, ids, labels)?,
            set_sha256: done.content.finish(),
            seconds,
            model_seconds: Some(model_seconds),
            earlier,
            files: Some(done.files),
            left_out: Some(folder.left_out().clone()),
        };
        Ok((embedded, journal))
    }
}

/// A hash of the names of a folder's files.
fn listing(folder: &LabelledFolder) -> String {
    let lines = folder
        .files()
        .iter()
        .map(|file| format!("{}\n", file.relative()));
    sha256_hex(lines.collect::<String>().as_bytes())
}

fn batch_state(files: &[PictureFile]) -> String {
    states(files.iter().map(|file| (file.relative(), file.path())))
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
            let sha256 = sha256_hex(&bytes).into_bytes();
            (model.prepare(Input::Decoded(&picture)), sha256)
        }
    };
    let prepared = prepared.map_err(|error| refused(error.to_string()))?;
    Ok((prepared, hashed))
}

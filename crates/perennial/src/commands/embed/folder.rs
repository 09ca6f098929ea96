//! Embedding the pictures of a folder.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use perennial_core::{Embeddings, Output, sha256_hex};
use perennial_data::ContentHash;
use perennial_data::folder::LabelledFolder;
use perennial_data::pictures::{LeftOutFile, PictureFile, Reason};
use perennial_encode::{Input, Prepared};
use perennial_upgrade::LoadedModel;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::embedded::Embedded;
use super::journal::{Journal, Origin};
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
    /// The state of the set's hash after them.
    hashed: String,
}

#[derive(Serialize, Deserialize)]
struct Refused {
    file: String,
    reason: String,
    problem: String,
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
        let (mut seen, mut state) = (0, None);
        let mut journal = match self.journal {
            None => None,
            Some(path) => {
                folder.forget(&path);
                let options = json!({"strict": self.strict}).to_string();
                let origin = Origin::new(version, self.place, listing(&folder), options);
                let total = folder.len();
                let open = Journal::open(path, &origin, terminal, |batch: Batch, vectors| {
                    let Some(left_out) = batch.left_out() else {
                        return Ok(false);
                    };
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
                    state = Some(batch.hashed);
                    Ok(true)
                });
                Some(open?)
            }
        };
        let content =
            state.and_then(|state| ContentHash::go_on(shape, done.labels.clone(), &state));
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
        folder.each(batch(version), prepare, |portion| {
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
            let vectors = model.encode(&prepared)?;
            if let Some(journal) = &mut journal {
                let batch = Batch {
                    seen: looked_at,
                    files: done.files[first..].to_vec(),
                    left_out: portion.left_out.iter().map(Refused::from).collect(),
                    hashed: done.content.state(),
                };
                journal.add(&batch, &vectors)?;
            }
            done.vectors.extend(vectors);
            progress.advance(looked_at as u64);
            interrupt.check()
        })?;
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
            earlier,
            files: Some(done.files),
            left_out: Some(folder.left_out().clone()),
        };
        Ok((embedded, journal))
    }
}

impl Batch {
    fn left_out(&self) -> Option<Vec<LeftOutFile>> {
        let file = |refused: &Refused| {
            Some(LeftOutFile {
                file: refused.file.clone(),
                reason: Reason::of_name(&refused.reason)?,
                problem: refused.problem.clone(),
            })
        };
        self.left_out.iter().map(file).collect()
    }
}

impl From<&LeftOutFile> for Refused {
    fn from(file: &LeftOutFile) -> Self {
        Self {
            file: file.file.clone(),
            reason: file.reason.name().to_owned(),
            problem: file.problem.clone(),
        }
    }
}

/// What stands for the content of a folder before it is read: names, sizes and times of the last change.
fn listing(folder: &LabelledFolder) -> String {
    let mut lines = String::new();
    for file in folder.files() {
        lines.push_str(&format!("{}\t{}\n", file.relative(), state(file.path())));
    }
    sha256_hex(lines.as_bytes())
}

/// The size of a file and when it was last changed. A file that cannot be looked at has a state as well.
pub fn state(path: &Path) -> String {
    let Ok(found) = std::fs::metadata(path) else {
        return "unreadable".to_owned();
    };
    let changed = found.modified().ok();
    let since = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    format!(
        "{} {}",
        found.len(),
        since.map_or(0, |since| since.as_nanos())
    )
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

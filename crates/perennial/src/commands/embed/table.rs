//! Embedding a column of a table: texts, or paths of pictures.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use anyhow::Context;
use perennial_core::{ItemId, ModelVersion, sha256_hex};
use perennial_data::pictures::{LeftOut, LeftOutFile, PictureFile, Reason};
use perennial_encode::{Input, InputType, Prepared};
use perennial_formats::{
    Format, Header, TextColumns, TextReader, TextRow, VectorSet, VectorWriter, open_texts,
};
use perennial_upgrade::LoadedModel;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::file_state::states;
use super::journal::Journal;
use super::origin::Origin;
use super::refused::Refused;
use crate::embedding::{batch, encode_by_length};
use crate::exit_status::usage;
use crate::interrupt::Interrupt;
use crate::progress::CountedProgress;
use crate::terminal::Terminal;

/// Rows that are read and prepared at once, while the encoder has those before. Texts of similar length are encoded together, which more of them make possible.
const ROWS: usize = 2048;

/// Portions of rows that wait for the encoder, beside the one that is being prepared.
const WAITING: usize = 1;

/// Bytes of a table that are hashed at once.
const PIECE: u64 = 1 << 20;
/// Rows named in one message.
const NAMED: usize = 5;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Texts, which are queries or documents.
    Texts(InputType),
    /// Paths of picture files, from the table's folder on.
    Paths,
}

/// A table and its columns.
pub struct Table<'a> {
    pub path: &'a Path,
    pub columns: TextColumns,
    pub content: Content,
    /// Whether a picture that cannot be used ends the work. It is left out otherwise.
    pub strict: bool,
}

/// Some rows of the result.
#[derive(Serialize, Deserialize)]
pub struct Part {
    /// Rows of the table that were looked at.
    rows: u64,
    /// Of those with embeddings. `None` for texts without a column of ids: row numbers.
    ids: Option<Vec<ItemId>>,
    /// Those of pictures that cannot be used.
    left_out: Vec<Refused>,
    /// The state that the pictures' files had before they were read; empty for texts.
    state: String,
}

/// Rows that are ready for the encoder.
struct Portion {
    rows: Vec<TextRow>,
    prepared: Vec<Result<Prepared, LeftOutFile>>,
}

/// What was made of a table.
#[derive(Default)]
pub struct Done {
    /// Rows of the table that were looked at.
    pub rows: u64,
    /// Those of them that an earlier run had done.
    pub earlier: u64,
    pub left_out: LeftOut,
    /// Of this run.
    pub seconds: f64,
    /// Those of them that the model took, or waited for the processor.
    pub model_seconds: f64,
}

impl Part {
    /// The same with vectors, ready to be written. `first` is the number of its first row.
    pub fn with(self, vectors: Vec<f32>, dim: usize, first: u64) -> anyhow::Result<VectorSet> {
        let numbers = || (first..first + self.rows).map(ItemId::Number).collect();
        let ids = self.ids.unwrap_or_else(numbers);
        Ok(VectorSet::new(dim, vectors)?.with_ids(ids)?)
    }

    /// Rows of the table.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// What is left out, if it has as many vectors as it must have.
    fn checked(&self, vectors: usize, dim: usize) -> Option<Vec<LeftOutFile>> {
        let left_out: Vec<_> = self
            .left_out
            .iter()
            .map(Refused::left_out)
            .collect::<Option<_>>()?;
        let count = self.rows.checked_sub(left_out.len() as u64)?;
        let whole = count.checked_mul(dim as u64) == Some(vectors as u64)
            && self
                .ids
                .as_ref()
                .is_none_or(|ids| ids.len() as u64 == count);
        whole.then_some(left_out)
    }
}

impl Done {
    /// Rows of the result.
    pub fn count(&self) -> u64 {
        self.rows - self.left_out.len() as u64
    }
}

impl Journal<Part> {
    /// Writes the finished result, and removes the journal.
    pub fn write_to(self, mut writer: Box<dyn VectorWriter>, dim: usize) -> anyhow::Result<()> {
        let mut first = 0;
        self.replay(|part, vectors| {
            let next = first + part.rows;
            // A part without any picture has nothing to write.
            if !vectors.is_empty() {
                writer.write(&part.with(vectors, dim, first)?)?;
            }
            first = next;
            Ok(())
        })?;
        writer.finish()?;
        self.remove()
    }
}

impl Table<'_> {
    /// Reads the whole table once, so that an error in its last row comes before hours of work, and counts its rows.
    pub fn check(&self, interrupt: Interrupt) -> anyhow::Result<u64> {
        let mut reader = self.open()?;
        let (mut rows, mut empty) = (0, Vec::new());
        while let Some(batch) = reader.next(ROWS)? {
            if self.content != Content::Paths {
                let numbered = (rows..).zip(&batch);
                let blank = numbered.filter(|(_, row)| row.text.trim().is_empty());
                empty.extend(blank.map(|(number, _)| number));
            }
            rows += batch.len() as u64;
            interrupt.check()?;
        }
        if rows == 0 {
            return Err(usage(format!("{}: holds no rows", self.path.display())));
        }
        // Told before any work: whoever mends the table has another table, and begins anew.
        if !empty.is_empty() {
            let named: Vec<String> = empty.iter().take(NAMED).map(ToString::to_string).collect();
            let more = match empty.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            return Err(usage(format!(
                "{}: the text is empty in row {}{more} (counted from 0), and an empty text has no embedding; remove these rows, or fill them",
                self.path.display(),
                named.join(", ")
            )));
        }
        Ok(rows)
    }

    /// A hash of the file; of paths of pictures, also the states of the pictures' files, one hash for each `size` rows.
    fn input(&self, size: usize, interrupt: Interrupt) -> anyhow::Result<(String, Vec<String>)> {
        let mut file = File::open(self.path).with_context(|| self.path.display().to_string())?;
        // Of one piece after the other, as tables may be larger than memory.
        let (mut sha256, mut piece) = (String::new(), Vec::new());
        loop {
            piece.clear();
            piece.extend_from_slice(sha256.as_bytes());
            if (&mut file).take(PIECE).read_to_end(&mut piece)? == 0 {
                break;
            }
            sha256 = sha256_hex(&piece);
            interrupt.check()?;
        }
        let mut found = Vec::new();
        if self.content == Content::Paths {
            let mut reader = self.open()?;
            while let Some(rows) = reader.next(size)? {
                let files: Vec<PictureFile> = rows.iter().map(|row| self.file(row)).collect();
                found.push(states(
                    files.iter().map(|file| (file.relative(), file.path())),
                ));
                interrupt.check()?;
            }
        }
        Ok((sha256, found))
    }

    fn file(&self, row: &TextRow) -> PictureFile {
        PictureFile::new(self.folder().join(&row.text), row.text.clone())
    }

    /// Rows that are read and prepared at once.
    fn size(&self, version: &ModelVersion) -> usize {
        match self.content {
            Content::Texts(_) => ROWS,
            Content::Paths => batch(version),
        }
    }

    /// Where paths begin.
    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    fn open(&self) -> anyhow::Result<Box<dyn TextReader>> {
        Ok(open_texts(self.path, &self.columns)?)
    }

    /// Embeds what the journal at a path does not hold yet, at a place, of a table of that many rows. Gives the journal, which then holds all rows.
    pub fn embed_resumably(
        &self,
        model: &LoadedModel,
        rows: u64,
        (path, place): (&Path, &str),
        interrupt: Interrupt,
        terminal: &Terminal,
    ) -> anyhow::Result<(Journal<Part>, Done)> {
        let size = self.size(&model.version);
        let before = self.input(size, interrupt)?;
        let options = json!({
            "column": self.columns.text,
            "id": self.columns.id,
            "content": format!("{:?}", self.content),
        });
        let (sha256, states) = &before;
        let origin = Origin::new(&model.version, place, sha256.clone(), options.to_string());
        let mut done = Done::default();
        let mut next = states.iter();
        let take = |part: Part, vectors: Vec<f32>| {
            let state = next.next().map_or("", String::as_str);
            let Some(left_out) = part.checked(vectors.len(), model.version.dim) else {
                return Ok(false);
            };
            if part.state != state || part.rows > rows - done.rows {
                return Ok(false);
            }
            done.rows += part.rows;
            done.left_out.extend(left_out);
            Ok(true)
        };
        let mut journal = Journal::open(path.to_owned(), &origin, terminal, take)?;
        done.earlier = done.rows;
        if done.earlier > 0 {
            terminal.say(format_args!(
                "{} of {rows} rows were done by an earlier run",
                done.earlier
            ));
        }
        let mut next = states.iter().skip(done.rows.div_ceil(size as u64) as usize);
        let keep = |part: Part, vectors: Vec<f32>| {
            let state = next.next().cloned().unwrap_or_default();
            journal.add(&Part { state, ..part }, &vectors)
        };
        let done = self.embed(model, done, rows, keep, interrupt, terminal)?;
        if self.input(size, interrupt)? != before {
            anyhow::bail!(
                "{} or a picture that it names changed while it was embedded; give the same command again, which goes on from what is unchanged",
                self.path.display()
            );
        }
        if let Err(error) = self.check_some(&done) {
            journal.remove()?;
            return Err(error);
        }
        Ok((journal, done))
    }

    /// Embeds the rows after those that are done, of `rows` in all, and gives them to `keep` in their order.
    pub fn embed(
        &self,
        model: &LoadedModel,
        mut done: Done,
        rows: u64,
        mut keep: impl FnMut(Part, Vec<f32>) -> anyhow::Result<()>,
        interrupt: Interrupt,
        terminal: &Terminal,
    ) -> anyhow::Result<Done> {
        let (title, unit) = match self.content {
            Content::Texts(_) => ("texts", "texts"),
            Content::Paths => ("pictures", "images"),
        };
        let title = format!("{} on {title} of {}", model.name(), self.path.display());
        let progress = CountedProgress::new(terminal, title, rows, unit).after(done.rows);
        let size = self.size(&model.version);
        self.check_strict(&done.left_out)?;
        let mut reader = self.open()?;
        // The same steps as when they were embedded, so that the rest comes in the same batches as in one run.
        let mut skipped = 0;
        while skipped < done.rows
            && let Some(rows) = reader.next(size)?
        {
            skipped += rows.len() as u64;
        }
        if skipped != done.rows {
            anyhow::bail!(
                "{}: the rows that are done end within a batch; remove the unfinished result to begin anew",
                self.path.display()
            );
        }
        let started = done.rows;
        std::thread::scope(|scope| {
            let (sender, portions) = sync_channel(WAITING);
            scope.spawn(move || self.prepare_all(model, reader, started, &sender));
            for portion in portions {
                let portion = portion?;
                let first = done.rows;
                let count = portion.rows.len() as u64;
                let (mut inputs, mut ids) = (Vec::with_capacity(portion.rows.len()), Vec::new());
                let mut left_out = Vec::new();
                for ((row, prepared), number) in
                    portion.rows.into_iter().zip(portion.prepared).zip(first..)
                {
                    match prepared {
                        Ok(ready) => {
                            inputs.push(ready);
                            ids.push(row.id.unwrap_or(ItemId::Number(number)));
                        }
                        Err(refused) => {
                            left_out.push(Refused::from(&refused));
                            done.left_out.add(refused);
                        }
                    }
                }
                self.check_strict(&done.left_out)?;
                interrupt.check()?;
                let begun = Instant::now();
                let vectors = encode_by_length(model, &inputs, || interrupt.check())
                    .with_context(|| format!("{} from row {first} on", self.path.display()))?;
                done.model_seconds += begun.elapsed().as_secs_f64();
                // Where rows are left out, the numbers of the others are no longer their places.
                let named = self.columns.id.is_some() || self.content == Content::Paths;
                let part = Part {
                    rows: count,
                    ids: named.then_some(ids),
                    left_out,
                    state: String::new(),
                };
                keep(part, vectors)?;
                done.rows += count;
                progress.advance(count);
                interrupt.check()?;
            }
            anyhow::Ok(())
        })?;
        done.seconds = progress.finish().as_secs_f64();
        Ok(done)
    }

    /// Whether there is anything to write.
    pub fn check_some(&self, done: &Done) -> anyhow::Result<()> {
        if done.count() > 0 {
            return Ok(());
        }
        let left_out = done.left_out.summary().unwrap_or_default();
        anyhow::bail!(
            "{}: names no readable picture; {left_out}",
            self.path.display()
        )
    }

    fn check_strict(&self, left_out: &LeftOut) -> anyhow::Result<()> {
        match left_out.files().first() {
            Some(first) if self.strict => anyhow::bail!(
                "{}: {first}; mend it and give the same command again, or leave out --strict: either goes on from the rows that are done",
                self.path.display()
            ),
            _ => Ok(()),
        }
    }

    /// Reads and prepares the rows of a reader, the first of which has the number `first`, and sends them; after an error nothing more.
    fn prepare_all(
        &self,
        model: &LoadedModel,
        mut reader: Box<dyn TextReader>,
        mut first: u64,
        sender: &SyncSender<anyhow::Result<Portion>>,
    ) {
        let size = self.size(&model.version);
        let mut next = || {
            let Some(rows) = reader.next(size)? else {
                return Ok(None);
            };
            let prepared = self.prepare(model, &rows, first)?;
            first += rows.len() as u64;
            Ok(Some(Portion { rows, prepared }))
        };
        while let Some(portion) = next().transpose() {
            let last = portion.is_err();
            // The receiver is dropped after an error of its own.
            if sender.send(portion).is_err() || last {
                return;
            }
        }
    }

    /// On all cores. `first` is the number of the first row. A picture that cannot be used is told with its row.
    fn prepare(
        &self,
        model: &LoadedModel,
        rows: &[TextRow],
        first: u64,
    ) -> anyhow::Result<Vec<Result<Prepared, LeftOutFile>>> {
        let prepare = |(row, number): (&TextRow, u64)| match self.content {
            Content::Texts(input_type) => {
                let text = &row.text;
                let prepared = model.prepare(Input::Text { text, input_type });
                let place = || format!("{}: row {number}", self.path.display());
                prepared.map(Ok).with_context(place)
            }
            Content::Paths => Ok(picture(model, &self.file(row)).map_err(|refused| {
                let problem = format!("{} (row {number})", refused.problem);
                LeftOutFile { problem, ..refused }
            })),
        };
        let numbered: Vec<_> = rows.iter().zip(first..).collect();
        numbered.into_par_iter().map(prepare).collect()
    }
}

fn picture(model: &LoadedModel, file: &PictureFile) -> Result<Prepared, LeftOutFile> {
    let picture = file.picture()?;
    let prepared = model.prepare(Input::Decoded(&picture));
    prepared.map_err(|error| LeftOutFile {
        file: file.relative().to_owned(),
        reason: Reason::TooLarge,
        problem: error.to_string(),
    })
}

/// What a file of a version's embeddings says about itself.
pub fn header(version: &ModelVersion, rows: Option<u64>, format: Format) -> Header {
    Header {
        dim: version.dim,
        rows,
        space: version.space().id,
        format,
    }
}

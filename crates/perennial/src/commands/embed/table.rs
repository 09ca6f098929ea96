//! Embedding a column of a table: texts, or paths of pictures.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use perennial_core::{ItemId, ModelVersion, read_at_most, sha256_hex};
use perennial_data::pictures::MAX_FILE_BYTES;
use perennial_encode::{DecodeLimits, Input, InputType, Prepared};
use perennial_formats::{
    Header, TextColumns, TextReader, TextRow, VectorSet, VectorWriter, open_texts,
};
use perennial_upgrade::LoadedModel;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::folder::state;
use super::journal::{Journal, Origin};
use crate::embedding::{batch, encode_by_length};
use crate::exit_status::usage;
use crate::interrupt::Interrupt;
use crate::progress::CountedProgress;
use crate::terminal::Terminal;

/// Rows that are read and prepared at once. Texts of similar length are encoded together, which more of them make possible.
const ROWS: usize = 2048;

/// Bytes of a table that are hashed at once.
const PIECE: u64 = 1 << 20;

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
}

/// Some rows of the result.
#[derive(Serialize, Deserialize)]
pub struct Part {
    pub rows: u64,
    /// Where a column was named for them; row numbers otherwise.
    pub ids: Option<Vec<ItemId>>,
}

impl Part {
    /// The same with vectors, ready to be written. `first` is the number of its first row.
    pub fn with(self, vectors: Vec<f32>, dim: usize, first: u64) -> anyhow::Result<VectorSet> {
        let numbers = || (first..first + self.rows).map(ItemId::Number).collect();
        let ids = self.ids.unwrap_or_else(numbers);
        Ok(VectorSet::new(dim, vectors)?.with_ids(ids)?)
    }
}

impl Journal<Part> {
    /// Writes the finished result, and removes the journal.
    pub fn write_to(self, mut writer: Box<dyn VectorWriter>, dim: usize) -> anyhow::Result<()> {
        let mut first = 0;
        self.replay(|part, vectors| {
            let next = first + part.rows;
            writer.write(&part.with(vectors, dim, first)?)?;
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
        let mut rows = 0;
        while let Some(batch) = reader.next(ROWS)? {
            rows += batch.len() as u64;
            interrupt.check()?;
        }
        if rows == 0 {
            return Err(usage(format!("{}: holds no rows", self.path.display())));
        }
        Ok(rows)
    }

    /// A hash of the file; of paths of pictures, also of the pictures' sizes and times of the last change.
    pub fn sha256(&self, interrupt: Interrupt) -> anyhow::Result<String> {
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
        if self.content != Content::Paths {
            return Ok(sha256);
        }
        let mut states = sha256;
        let mut reader = self.open()?;
        while let Some(batch) = reader.next(ROWS)? {
            // One hash over all would need them all in memory.
            let lines: String = batch.iter().map(|row| self.state(row)).collect();
            states = sha256_hex(format!("{states}\n{lines}").as_bytes());
            interrupt.check()?;
        }
        Ok(states)
    }

    fn state(&self, row: &TextRow) -> String {
        let path = self.folder().join(&row.text);
        format!("{}\t{}\n", path.display(), state(&path))
    }

    /// Where paths begin.
    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    fn open(&self) -> anyhow::Result<Box<dyn TextReader>> {
        Ok(open_texts(self.path, &self.columns)?)
    }

    /// Embeds what the journal at a path does not hold yet, at a place. Gives the journal, which then holds all rows, with the seconds that it took and
    /// the rows that an earlier run had done.
    pub fn embed_resumably(
        &self,
        model: &LoadedModel,
        rows: u64,
        (path, place): (&Path, &str),
        interrupt: Interrupt,
        terminal: &Terminal,
    ) -> anyhow::Result<(Journal<Part>, f64, u64)> {
        let sha256 = self.sha256(interrupt)?;
        let options = json!({
            "column": self.columns.text,
            "id": self.columns.id,
            "content": format!("{:?}", self.content),
        });
        let origin = Origin::new(&model.version, place, sha256.clone(), options.to_string());
        let mut done = 0;
        let take = |part: Part, vectors: Vec<f32>| {
            let values = part.rows.checked_mul(model.version.dim as u64);
            let whole = values == Some(vectors.len() as u64)
                && part
                    .ids
                    .as_ref()
                    .is_none_or(|ids| ids.len() as u64 == part.rows);
            done += if whole { part.rows } else { 0 };
            Ok(whole)
        };
        let mut journal = Journal::open(path.to_owned(), &origin, terminal, take)?;
        if done > 0 {
            terminal.say(format_args!(
                "{done} of {rows} rows were done by an earlier run"
            ));
        }
        let keep = |part: Part, vectors: Vec<f32>| journal.add(&part, &vectors);
        let seconds = self.embed(model, (done, rows), keep, interrupt, terminal)?;
        if self.sha256(interrupt)? != sha256 {
            anyhow::bail!(
                "{} changed while it was embedded; embed it again",
                self.path.display()
            );
        }
        Ok((journal, seconds, done))
    }

    /// Embeds the rows from `done` on, of `rows` in all, and gives them to `keep` in their order. Says how many seconds it took.
    pub fn embed(
        &self,
        model: &LoadedModel,
        (mut done, rows): (u64, u64),
        mut keep: impl FnMut(Part, Vec<f32>) -> anyhow::Result<()>,
        interrupt: Interrupt,
        terminal: &Terminal,
    ) -> anyhow::Result<f64> {
        let (title, unit) = match self.content {
            Content::Texts(_) => ("texts", "texts"),
            Content::Paths => ("pictures", "images"),
        };
        let title = format!("{} on {title} of {}", model.name(), self.path.display());
        let progress = CountedProgress::new(terminal, title, rows, unit).after(done);
        let most = match self.content {
            Content::Texts(_) => ROWS,
            Content::Paths => batch(&model.version),
        };
        let mut reader = self.open()?;
        // The same steps as when they were embedded, so that the rest comes in the same batches as in one run.
        let mut skipped = 0;
        while skipped < done
            && let Some(rows) = reader.next(most)?
        {
            skipped += rows.len() as u64;
        }
        if skipped != done {
            anyhow::bail!(
                "{}: the rows that are done end within a batch; remove the unfinished result to begin anew",
                self.path.display()
            );
        }
        while let Some(rows) = reader.next(most)? {
            let prepared = self.prepare(model, &rows, done)?;
            interrupt.check()?;
            let vectors = encode_by_length(model, &prepared, || interrupt.check())
                .with_context(|| format!("{} from row {done} on", self.path.display()))?;
            let count = rows.len() as u64;
            let named = self.columns.id.is_some();
            let part = Part {
                rows: count,
                ids: named.then(|| rows.into_iter().filter_map(|row| row.id).collect()),
            };
            keep(part, vectors)?;
            done += count;
            progress.advance(count);
            interrupt.check()?;
        }
        Ok(progress.finish().as_secs_f64())
    }

    /// On all cores. `first` is the number of the first row.
    fn prepare(
        &self,
        model: &LoadedModel,
        rows: &[TextRow],
        first: u64,
    ) -> anyhow::Result<Vec<Prepared>> {
        let folder = self.folder();
        let prepare = |(number, row): (usize, &TextRow)| {
            let prepared = match self.content {
                Content::Texts(input_type) => model
                    .prepare(Input::Text {
                        text: &row.text,
                        input_type,
                    })
                    .map_err(anyhow::Error::from),
                Content::Paths => picture(model, &folder.join(&row.text)),
            };
            prepared
                .with_context(|| format!("{}: row {}", self.path.display(), first + number as u64))
        };
        rows.par_iter().enumerate().map(prepare).collect()
    }
}

fn picture(model: &LoadedModel, path: &PathBuf) -> anyhow::Result<Prepared> {
    let file = read_at_most(path, MAX_FILE_BYTES)?;
    let prepared = model.prepare(Input::Picture {
        file: &file,
        limits: DecodeLimits::FILES,
    });
    prepared.with_context(|| path.display().to_string())
}

/// What a file of a version's embeddings says about itself.
pub fn header(version: &ModelVersion, rows: u64, format: perennial_formats::Format) -> Header {
    Header {
        dim: version.dim,
        rows: Some(rows),
        space: version.space().id,
        format,
    }
}

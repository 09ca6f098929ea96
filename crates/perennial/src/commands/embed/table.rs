//! Embedding a column of a table: texts, or paths of pictures.

use std::path::{Path, PathBuf};

use anyhow::Context;
use perennial_core::{ItemId, ModelVersion, read_at_most};
use perennial_data::pictures::MAX_FILE_BYTES;
use perennial_encode::{DecodeLimits, Input, InputType, Prepared};
use perennial_formats::{
    Header, TextColumns, TextReader, TextRow, VectorSet, VectorWriter, open_texts,
};
use perennial_upgrade::LoadedModel;
use rayon::prelude::*;

use crate::embedding::{batch, encode_by_length};
use crate::exit_status::usage;
use crate::interrupt::Interrupt;
use crate::progress::CountedProgress;
use crate::terminal::Terminal;

/// Rows that are read and prepared at once. Texts of similar length are encoded together, which more of them make possible.
const ROWS: usize = 2048;

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

impl Table<'_> {
    /// Reads the whole table once, so that an error in its last row comes before hours of work, and counts its rows.
    pub fn check(&self) -> anyhow::Result<u64> {
        let mut reader = self.open()?;
        let mut rows = 0;
        while let Some(batch) = reader.next(ROWS)? {
            rows += batch.len() as u64;
        }
        if rows == 0 {
            return Err(usage(format!("{}: holds no rows", self.path.display())));
        }
        Ok(rows)
    }

    fn open(&self) -> anyhow::Result<Box<dyn TextReader>> {
        Ok(open_texts(self.path, &self.columns)?)
    }

    /// Embeds all rows, of which there are so many, and writes them in their order. Says how many seconds it took.
    pub fn embed(
        &self,
        model: &LoadedModel,
        rows: u64,
        writer: &mut dyn VectorWriter,
        interrupt: Interrupt,
        terminal: &Terminal,
    ) -> anyhow::Result<f64> {
        let (title, unit) = match self.content {
            Content::Texts(_) => ("texts", "texts"),
            Content::Paths => ("pictures", "images"),
        };
        let title = format!("{} on {title} of {}", model.name(), self.path.display());
        let progress = CountedProgress::new(terminal, title, rows, unit);
        let most = match self.content {
            Content::Texts(_) => ROWS,
            Content::Paths => batch(&model.version),
        };
        let mut reader = self.open()?;
        let mut done = 0;
        while let Some(rows) = reader.next(most)? {
            let prepared = self.prepare(model, &rows, done)?;
            let vectors = encode_by_length(model, &prepared)
                .with_context(|| format!("{} from row {done} on", self.path.display()))?;
            let count = rows.len() as u64;
            let ids = rows
                .into_iter()
                .zip(done..)
                .map(|(row, number)| match row.id {
                    Some(id) => id,
                    None => ItemId::Number(number),
                });
            let set = VectorSet::new(model.version.dim, vectors)?.with_ids(ids.collect())?;
            writer.write(&set)?;
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
        let folder = self.path.parent().unwrap_or(Path::new(""));
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

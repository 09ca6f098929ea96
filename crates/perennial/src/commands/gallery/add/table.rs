//! Storing the texts of a table: each row becomes an item with its text in the payload.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context;
use perennial_core::ItemId;
use perennial_encode::{Input, InputType, Prepared};
use perennial_formats::{TextColumns, TextRow, open_texts};
use perennial_gallery::limits::MAX_PAYLOAD_BYTES;
use perennial_gallery::{EmbeddedGallery, Item, Maintenance, VectorStore};
use perennial_upgrade::LoadedModel;
use perennial_upgrade::backfill::{TEXT, TEXT_CUT, looks_cut};
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::admission::Admission;
use super::origin::{ORIGIN, check_origin};
use super::remote::Remote;
use crate::embedding::encode_by_length;
use crate::exit_status::usage;
use crate::interrupt::Interrupt;
use crate::progress::CountedProgress;
use crate::terminal::Terminal;

/// Rows of one durable write.
const ROWS: usize = 512;
/// Rows of one request to a service.
const SENT: usize = 100;
/// Bytes of a text that are kept in the payload; longer ones are cut there, but embedded whole.
const KEPT_BYTES: usize = MAX_PAYLOAD_BYTES / 4;

/// A table of texts to store.
#[derive(Debug, clap::Args)]
pub struct TableArguments {
    /// Table of texts to embed and store: JSONL, CSV or TSV with a header line, or Parquet
    #[arg(long, value_name = "FILE")]
    pub table: Option<PathBuf>,
    /// With --table: column with the texts
    #[arg(
        long,
        value_name = "COLUMN",
        default_value = "text",
        requires = "table"
    )]
    pub text_column: String,
    /// With --table: column with the ids [default: FILE/ROW, with rows counted from 0]
    #[arg(long, value_name = "COLUMN", requires = "table")]
    pub id_column: Option<String>,
}

/// A table, and how its rows are named.
pub struct TextTable<'a> {
    path: &'a Path,
    columns: TextColumns,
    prefix: String,
    origin: String,
}

/// A row to store.
struct Row {
    id: ItemId,
    text: String,
    payload: Map<String, Value>,
}

impl<'a> TextTable<'a> {
    pub fn new(path: &'a Path, arguments: &TableArguments, prefix: Option<&str>) -> Self {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Self {
            path,
            columns: TextColumns {
                text: arguments.text_column.clone(),
                id: arguments.id_column.clone(),
            },
            prefix: prefix.unwrap_or(&name).to_owned(),
            origin: format!("table:{}", path.display()),
        }
    }

    /// Reads the whole table once, so that an error in its last row comes before the first is stored. Returns the number of rows.
    pub fn check(&self) -> anyhow::Result<u64> {
        let mut reader = open_texts(self.path, &self.columns)?;
        let mut count = 0;
        let mut ids = BTreeSet::new();
        while let Some(rows) = reader.next(ROWS)? {
            for row in rows {
                if row.text.trim().is_empty() {
                    return Err(usage(format!(
                        "{}: row {count}: the text is empty, and an empty text has no embedding; remove the row, or fill it",
                        self.path.display()
                    )));
                }
                let id = self.row(row, count).id;
                id.check()?;
                // The later row would take the place of the earlier one.
                if self.columns.id.is_some() && !ids.insert(id.clone()) {
                    return Err(usage(format!(
                        "{}: row {count}: the id {id} occurs before; every row needs an id of its own",
                        self.path.display()
                    )));
                }
                count += 1;
            }
        }
        Ok(count)
    }

    fn row(&self, row: TextRow, number: u64) -> Row {
        let id = match row.id {
            Some(id) => id,
            None => ItemId::Text(format!("{}/{number}", self.prefix)),
        };
        let mut payload = Map::new();
        let kept = shortened(&row.text);
        let cut = kept != row.text;
        if cut || looks_cut(&kept) {
            payload.insert(TEXT_CUT.to_owned(), json!(cut));
        }
        payload.insert(TEXT.to_owned(), json!(kept));
        payload.insert(ORIGIN.to_owned(), json!(self.origin));
        Row {
            id,
            text: row.text,
            payload,
        }
    }

    /// Calls `store` with all rows, of which there are `rows`, at most `most` at a time; it returns how many were new and how many took the place of another.
    fn each(
        &self,
        (rows, most): (u64, usize),
        interrupt: Interrupt,
        terminal: &Terminal,
        version: &str,
        mut store: impl FnMut(Vec<Row>) -> anyhow::Result<(usize, usize)>,
    ) -> anyhow::Result<(usize, usize)> {
        let title = format!("{version} on {}", self.path.display());
        let progress = CountedProgress::new(terminal, title, rows, "texts");
        let mut reader = open_texts(self.path, &self.columns)?;
        let (mut inserted, mut replaced, mut done) = (0, 0, 0);
        while let Some(rows) = reader.next(most)? {
            let count = rows.len() as u64;
            let rows = rows.into_iter().zip(done..);
            let stored = store(rows.map(|(row, number)| self.row(row, number)).collect())?;
            inserted += stored.0;
            replaced += stored.1;
            done += count;
            progress.advance(count);
            interrupt.check()?;
        }
        progress.finish();
        Ok((inserted, replaced))
    }

    /// Embeds with a loaded version and stores in the gallery of a folder.
    pub fn store(
        &self,
        rows: u64,
        (gallery, admission): (&EmbeddedGallery, &Admission<'_>),
        model: &LoadedModel,
        interrupt: Interrupt,
        terminal: &Terminal,
    ) -> anyhow::Result<(usize, usize)> {
        let stored = self.each((rows, ROWS), interrupt, terminal, model.name(), |rows| {
            let ids: Vec<ItemId> = rows.iter().map(|row| row.id.clone()).collect();
            for item in gallery.get(&ids, false)? {
                check_origin(&item, &self.origin)?;
            }
            let prepare = |row: &Row| {
                let prepared = model.prepare(Input::Text {
                    text: &row.text,
                    input_type: InputType::Document,
                });
                prepared.with_context(|| format!("{}: {}", self.path.display(), row.id))
            };
            let prepared: Vec<Prepared> = rows
                .par_iter()
                .map(prepare)
                .collect::<anyhow::Result<_>>()?;
            let vectors = encode_by_length(model, &prepared, || interrupt.check())?;
            let vectors = vectors.chunks_exact(model.version.dim);
            let items = rows.into_iter().zip(vectors).map(|(row, vector)| Item {
                id: row.id,
                embedding: vector.to_vec(),
                model_version: model.name().to_owned(),
                label: None,
                payload: row.payload,
            });
            let stored = gallery.upsert(items.collect())?;
            admission.written();
            Ok((stored.inserted, stored.replaced))
        })?;
        gallery.flush()?;
        Ok(stored)
    }

    /// Sends the texts to a service, whose live version embeds them.
    pub fn send(
        &self,
        rows: u64,
        service: &Remote<'_>,
        version: &str,
        interrupt: Interrupt,
        terminal: &Terminal,
    ) -> anyhow::Result<(usize, usize)> {
        self.each((rows, SENT), interrupt, terminal, version, |rows| {
            let ids: Vec<&ItemId> = rows.iter().map(|row| &row.id).collect();
            service.check_origins(&ids, &self.origin)?;
            let items = rows.iter().map(|row| {
                json!({
                    "id": row.id,
                    "text": row.text,
                    "model_version": version,
                    "payload": row.payload,
                })
            });
            service.store_items(items.collect())
        })
    }
}

/// The start of a text that is too long for a payload.
fn shortened(text: &str) -> String {
    // In JSON, a control character takes six bytes.
    let escaped = serde_json::to_string(text).map_or(usize::MAX, |json| json.len());
    if escaped <= KEPT_BYTES {
        return text.to_owned();
    }
    let mut end = text.len().min(KEPT_BYTES / 6);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_occurs_twice_is_refused_before_a_row_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, "id,text\n1,a\n2,b\n1,c\n").unwrap();
        let mut arguments = TableArguments {
            table: Some(path.clone()),
            text_column: "text".to_owned(),
            id_column: Some("id".to_owned()),
        };
        let table = TextTable::new(&path, &arguments, None);
        let error = table.check().unwrap_err().to_string();
        assert!(
            error.contains("row 2") && error.contains("the id 1"),
            "{error}"
        );
        arguments.id_column = None;
        let table = TextTable::new(&path, &arguments, None);
        assert_eq!(table.check().unwrap(), 3);
    }

    #[test]
    fn long_texts_are_cut_in_the_payload() {
        assert_eq!(shortened("größer"), "größer");
        for text in [
            "ö".repeat(20_000),
            "\u{1}".repeat(20_000),
            "a".repeat(20_000),
        ] {
            let short = shortened(&text);
            assert!(short.ends_with('…') && text.starts_with(short.trim_end_matches('…')));
            assert!(serde_json::to_string(&short).unwrap().len() <= KEPT_BYTES + 8);
        }
    }
}

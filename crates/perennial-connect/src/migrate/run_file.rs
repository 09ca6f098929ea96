//! New embeddings from a file of re-embedded items, by id, in the order of the file.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use fs_err::File;
use perennial_core::ItemId;
use perennial_core::checksum::sha256_of;
use perennial_formats::VectorSet;
use tokio_postgres::{Client, Statement};

use super::batch::batch_rows;
use super::pace::Pace;
use super::run_request::Done;
use super::session::{Session, within};
use super::state::{Migration, Progress};
use super::write::{Copies, CopyWriter};
use crate::error::ConnectError;
use crate::observer::Observer;
use crate::postgres::{Raw, RawValue, VectorTable, quote, transaction_id};

/// The rows of a table that a batch's ids name.
struct Lookup(Statement);

impl Lookup {
    async fn new(client: &Client, table: &VectorTable) -> Result<Self, ConnectError> {
        let key = quote(&table.key);
        let query = format!(
            "SELECT u.place, t.{key}, t.xmin FROM unnest($1::text[]) WITH ORDINALITY AS u(id, place) \
             JOIN {} t ON t.{key} = u.id::{}",
            table.sql(),
            table.key_type
        );
        Ok(Self(client.prepare(&query).await?))
    }

    /// Rows of the set with their key and the transaction that wrote it. Of several rows with one id, only the last.
    async fn find(
        &self,
        client: &Client,
        ids: &[ItemId],
    ) -> Result<Vec<(usize, RawValue, u32)>, ConnectError> {
        let ids: Vec<String> = ids
            .iter()
            .map(|id| match id {
                ItemId::Number(number) => number.to_string(),
                ItemId::Text(text) => text.clone(),
            })
            .collect();
        let mut found: HashMap<RawValue, (usize, u32)> = HashMap::new();
        for row in client.query(&self.0, &[&ids]).await? {
            let place: i64 = row.try_get(0)?;
            let place = (place - 1) as usize;
            let key = RawValue(row.try_get::<_, Raw<'_>>(1)?.0.to_vec());
            let source = transaction_id(row.try_get::<_, Raw<'_>>(2)?)?;
            let last = found.entry(key).or_insert((place, source));
            if place >= last.0 {
                *last = (place, source);
            }
        }
        let mut found: Vec<(usize, RawValue, u32)> = found
            .into_iter()
            .map(|(key, (place, source))| (place, key, source))
            .collect();
        found.sort_unstable_by_key(|&(place, ..)| place);
        Ok(found)
    }
}

/// Copies the rows of a file. A file that was read before continues where it stopped; any other starts at its first row.
pub(super) async fn run_file(
    session: &mut Session,
    table: &VectorTable,
    migration: &Migration,
    path: &Path,
    rate: Option<f64>,
    observer: &mut dyn Observer,
    done: &mut Done,
) -> Result<(), ConnectError> {
    let sha256 = sha256_of(&mut File::open(path)?)?;
    let mut reader = perennial_formats::open(path)?;
    let header = reader.header().clone();
    if header.dim != migration.dim {
        return Err(ConnectError::Usage(format!(
            "{} holds vectors of {} values, and {} is for {}; use another --name for another encoder",
            path.display(),
            header.dim,
            migration.copies,
            migration.dim
        )));
    }
    let rows = batch_rows(header.dim, rate);
    let mut place = 0;
    if let Some((file, rows_done)) = &migration.file
        && *file == sha256
    {
        while place < *rows_done {
            let most = (*rows_done - place).min(rows as u64) as usize;
            let Some(skipped) = reader.next(most)? else {
                break;
            };
            place += skipped.len() as u64;
        }
    }
    let Session {
        reader: client,
        writer,
    } = session;
    let lookup = Lookup::new(client, table).await?;
    let mut sink = CopyWriter::new(table, migration, migration.file.is_none());
    let mut pace = Pace::new(rate)?;
    let begun = Instant::now();
    let seconds = done.seconds;
    while let Some(set) = reader.next(rows)? {
        let Some(ids) = set.ids() else {
            return Err(ConnectError::Usage(format!(
                "{} has no ids, so its vectors belong to no rows; write them as npz, jsonl, csv, safetensors or Parquet with ids",
                path.display()
            )));
        };
        let found = within(lookup.find(client, ids)).await?;
        done.unknown += (set.len().saturating_sub(distinct(&set, found.len()))) as u64;
        let mut keys = Vec::with_capacity(found.len());
        let mut sources = Vec::with_capacity(found.len());
        let mut vectors = Vec::with_capacity(found.len() * set.dim());
        for (place, key, source) in found {
            let vector = set.row(place);
            if vector.iter().all(|&value| value == 0.0) {
                done.skipped.direction += 1;
                continue;
            }
            keys.push(key);
            sources.push(source);
            vectors.extend_from_slice(vector);
        }
        place += set.len() as u64;
        let progress = Progress::File {
            sha256: sha256.clone(),
            rows: place,
        };
        let copies = Copies {
            keys: &keys,
            sources: &sources,
            vectors: &vectors,
            without: &[],
        };
        within(sink.write(writer, &copies, &progress)).await?;
        done.written += keys.len() as u64;
        done.seconds = seconds + begun.elapsed().as_secs_f64();
        observer.rows(place, header.rows);
        pace.after(set.len(), observer).await?;
    }
    Ok(())
}

/// How many rows of a set are accounted for if so many keys were found: all rows that repeat a later row's id are.
fn distinct(set: &VectorSet, found: usize) -> usize {
    let ids = set.ids().unwrap_or_default();
    let different: std::collections::HashSet<&ItemId> = ids.iter().collect();
    found + (ids.len() - different.len())
}

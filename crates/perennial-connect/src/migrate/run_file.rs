//! New embeddings from a file of re-embedded items, by id, in the order of the file.

use std::path::Path;
use std::time::Instant;

use fs_err::File;
use perennial_core::ItemId;
use perennial_core::checksum::sha256_of;
use perennial_formats::VectorSet;

use super::run_request::Done;
use crate::engine::{Copies, Copying, Migration, Pace, Progress, batch_rows};
use crate::error::ConnectError;
use crate::observer::Observer;

/// Copies the rows of a file. A file that was read before continues where it stopped; any other starts at its first row.
pub(super) async fn run_file<E: Copying>(
    engine: &mut E,
    migration: &Migration<E::Key>,
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
    let lookup = engine.lookup(migration).await?;
    let mut writer = engine.writer(migration, migration.file.is_none());
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
        let found = engine.look_up(&lookup, ids).await?;
        let unknown = set.len().saturating_sub(distinct(&set, found.len()));
        let mut without_direction = 0;
        let mut keys = Vec::with_capacity(found.len());
        let mut sources = Vec::with_capacity(found.len());
        let mut vectors = Vec::with_capacity(found.len() * set.dim());
        for found in found {
            let vector = set.row(found.place);
            if vector.iter().all(|&value| value == 0.0) {
                without_direction += 1;
                continue;
            }
            keys.push(found.key);
            sources.push(found.source);
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
        engine.write(&mut writer, &copies, &progress).await?;
        // Counted once it is written: after trouble with the server the same rows come again.
        done.written += keys.len() as u64;
        done.unknown += unknown as u64;
        done.skipped.direction += without_direction;
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

//! Rows of a database as the stored gallery of `advise` and `certify`.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::Write;

use perennial_connect::migrate::{self, Sample, SampleRequest};
use perennial_core::{ItemId, sha256_hex};
use perennial_formats::{Judgements, Label, VectorSet};
use perennial_upgrade::{Rows, Source};

use super::database_arguments::{ColumnArguments, DatabaseArguments, RateArguments};
use super::failure::failed;
use super::follow::Follow;
use crate::exit_status::usage;
use crate::stored_gallery::{SpaceOption, StoredGallery};
use crate::terminal::Terminal;
use crate::vector_argument::{VectorLoader, Vectors, positions};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Database")]
pub struct GalleryRowsArguments {
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    columns: ColumnArguments,
    /// Column, or field of the payload, whose values are the rows' classes; a field within fields, or within a JSON column, as metadata.category
    #[arg(long, value_name = "COLUMN", help_heading = "Database")]
    label_column: Option<String>,
    /// Rows that are measured on: those whose keys have the smallest hashes with --seed, as `migrate export` chooses them, so that each row has the
    /// same chance. Rows that --relevance calls right come on top. The rows' vectors are held in memory
    #[arg(long, value_name = "N", default_value_t = 10_000, help_heading = "Database",
        value_parser = clap::value_parser!(u64).range(1..))]
    sample: u64,
    /// Rows of the sample that may lack a vector in --new-gallery; they are left out
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Database")]
    allow_missing: u64,
    #[command(flatten)]
    rate: RateArguments,
}

/// The rows of one command.
pub struct DatabaseGallery<'a> {
    arguments: &'a GalleryRowsArguments,
    seed: i64,
    of: Cell<Option<u64>>,
}

impl<'a> DatabaseGallery<'a> {
    pub fn new(arguments: &'a GalleryRowsArguments, seed: u64) -> anyhow::Result<Self> {
        let seed = i64::try_from(seed)
            .map_err(|_| usage(format!("--seed {seed}: use at most {}", i64::MAX)))?;
        Ok(Self {
            arguments,
            seed,
            of: Cell::new(None),
        })
    }
}

impl StoredGallery for DatabaseGallery<'_> {
    fn load(
        &self,
        loader: &VectorLoader<'_>,
        space: SpaceOption<'_>,
        judgements: Option<&Judgements>,
    ) -> anyhow::Result<Vectors> {
        let arguments = self.arguments;
        let (address, table) = arguments.database.index()?;
        let request = SampleRequest {
            table,
            key: arguments.columns.id_column.clone(),
            vector: arguments.columns.vector_column.clone(),
            label: arguments.label_column.clone(),
            space: space.1.cloned(),
            count: arguments.sample,
            seed: self.seed,
            also: judgements.map(right_items).unwrap_or_default(),
            rate: arguments.rate.rate,
        };
        let terminal = loader.terminal;
        let mut follow = Follow::heard_by(loader.interrupt, terminal, "sampling");
        let sample = migrate::sample(&address, &request, &mut follow).map_err(failed)?;
        follow.finish();
        self.of.set(Some(sample.of));
        terminal.say(told(&sample, &request));
        let name = match &*sample.vector {
            "" => sample.table.clone(),
            vector => format!("{}.{vector}", sample.table),
        };
        let source = Source {
            name: format!(
                "{name}: {} of {} rows, seed {}",
                sample.set.len(),
                sample.of,
                self.seed
            ),
            sha256: content_hash(&sample.set),
            rows: sample.set.len() as u64,
        };
        let vectors = Vectors {
            rows: Rows::of(&sample.set),
            ids: sample.set.ids().map(<[ItemId]>::to_vec),
            labels: sample.set.labels().map(<[Label]>::to_vec),
            pictures: None,
            source,
            name,
        };
        let argument = vectors.name.clone();
        loader.of_space(vectors, &argument, space)
    }

    fn meet(
        &self,
        old: &mut Vectors,
        new: &mut Vectors,
        terminal: &Terminal,
    ) -> anyhow::Result<()> {
        let Some(new_ids) = &new.ids else {
            return Err(usage(format!(
                "{} has no ids, so its vectors belong to no rows; write it as npz, jsonl, csv, safetensors or Parquet with ids, or pass --gallery-ids",
                new.name
            )));
        };
        let places = positions(new, new_ids)?;
        let sampled = old.rows.len();
        let both: Vec<(usize, usize)> = old
            .ids
            .iter()
            .flatten()
            .enumerate()
            .filter_map(|(row, id)| Some((row, *places.get(id)?)))
            .collect();
        let missing = (sampled - both.len()) as u64;
        if missing > self.arguments.allow_missing || both.is_empty() {
            return Err(usage(format!(
                "{missing} of {sampled} sampled rows have no vector in {}; embed the rows that `perennial migrate export` writes with the same \
                 --sample, --seed, --label-column and --relevance, or leave out as many with --allow-missing",
                new.name
            )));
        }
        if missing > 0 {
            terminal.say(format_args!(
                "left out: {missing} sampled rows without a vector in {}",
                new.name
            ));
        }
        let (rows, places): (Vec<usize>, Vec<usize>) = both.into_iter().unzip();
        select(old, &rows);
        select(new, &places);
        if old.labels.is_none() {
            old.labels.clone_from(&new.labels);
        }
        Ok(())
    }

    fn items(&self) -> Option<u64> {
        self.of.get()
    }

    fn labels_option(&self) -> &'static str {
        "--label-column COLUMN"
    }
}

/// The items that judgements call right for some query.
pub fn right_items(judgements: &Judgements) -> Vec<ItemId> {
    let all = judgements.queries().flat_map(|query| judgements.of(query));
    let right = all.filter(|(_, grade)| *grade > 0).map(|(item, _)| item);
    let different: BTreeSet<&ItemId> = right.collect();
    different.into_iter().cloned().collect()
}

/// How the rows were chosen.
fn told(sample: &Sample, request: &SampleRequest) -> String {
    let mut text = format!(
        "measuring on {} of {} rows of {}: the {} whose keys have the smallest hashes with seed {}",
        sample.set.len(),
        sample.of,
        sample.table,
        request.count.min(sample.of),
        request.seed
    );
    if !request.also.is_empty() {
        text.push_str(", and all that are judged right");
    }
    let left_out = [
        (sample.without_label, "without a label"),
        (sample.skipped.dimension, "of another dimension"),
        (sample.skipped.direction, "without a direction"),
    ];
    for (count, what) in left_out.into_iter().filter(|&(count, _)| count > 0) {
        let _ = write!(text, "; left out: {count} {what}");
    }
    text
}

/// SHA-256 of ids, labels and vectors: what stands for a file's in a certificate.
fn content_hash(set: &VectorSet) -> String {
    let mut bytes = Vec::with_capacity(size_of_val(set.vectors()));
    for (row, id) in set.ids().unwrap_or_default().iter().enumerate() {
        bytes.extend_from_slice(id.to_string().as_bytes());
        bytes.push(0);
        if let Some(labels) = set.labels() {
            bytes.extend_from_slice(labels[row].to_string().as_bytes());
        }
        bytes.push(0);
        bytes.extend(set.row(row).iter().flat_map(|value| value.to_le_bytes()));
    }
    sha256_hex(&bytes)
}

fn select(vectors: &mut Vectors, rows: &[usize]) {
    vectors.rows = vectors.rows.select(rows);
    if let Some(ids) = &mut vectors.ids {
        *ids = rows.iter().map(|&row| ids[row].clone()).collect();
    }
    if let Some(labels) = &mut vectors.labels {
        *labels = rows.iter().map(|&row| labels[row].clone()).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_rows_changes_with_all_of_them() {
        let set = |id: u64, label: i64, value: f32| {
            VectorSet::new(1, vec![value])
                .unwrap()
                .with_ids(vec![ItemId::Number(id)])
                .unwrap()
                .with_labels(vec![Label::Number(label)])
                .unwrap()
        };
        let base = content_hash(&set(1, 2, 3.0));
        assert_eq!(base, content_hash(&set(1, 2, 3.0)));
        for other in [set(2, 2, 3.0), set(1, 3, 3.0), set(1, 2, 4.0)] {
            assert_ne!(base, content_hash(&other));
        }
    }
}

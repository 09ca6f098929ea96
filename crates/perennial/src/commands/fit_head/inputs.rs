//! What a layer is trained on: features, classes, and embeddings of the same inputs by an older version.

use std::collections::BTreeSet;

use perennial_bridge::{Bridge, FitInputs, FitRecord, Matching};
use perennial_core::{ItemId, SpaceRef};
use perennial_formats::Label;
use perennial_train::head::{HeadConfig, HeadError, HeadObserver, HeadRows, fit_head};
use perennial_upgrade::{Rows, Source};

use crate::arguments::GlobalArguments;
use crate::exit_status::{InterruptedError, usage};
use crate::row_pairs::RowPairs;
use crate::vector_argument::Vectors;

/// Ids that an error names.
const SHOWN_IDS: usize = 5;

/// Rows that belong together one to one.
pub struct Inputs {
    pub features: Rows,
    pub reference: Option<Rows>,
    /// The class of each row.
    pub classes: Vec<u32>,
    /// One more than the highest class.
    pub class_count: usize,
    /// Labels by class, where they are texts.
    pub names: Option<Vec<Label>>,
    /// Rows of the features and of the reference that have no counterpart.
    pub unpaired: Option<[usize; 2]>,
    /// Whether rows were matched by id; none without a reference.
    by_id: Option<bool>,
    ids: Option<Vec<ItemId>>,
    source: Source,
    reference_source: Option<Source>,
}

impl Inputs {
    /// Matches features, labels and reference.
    pub fn of(
        features: Vectors,
        reference: Option<Vectors>,
        by_id: Option<bool>,
        skip_unpaired: bool,
    ) -> anyhow::Result<Self> {
        let Some(labels) = &features.labels else {
            return Err(usage(format!(
                "{}: has no labels, which a layer onto the simplex is trained on; pass --labels FILE",
                features.name
            )));
        };
        let (rows, reference_rows, by_id, unpaired) = match &reference {
            None => {
                let all: Vec<usize> = (0..features.rows.len()).collect();
                (all, Vec::new(), None, None)
            }
            Some(reference) => {
                let pairs = RowPairs::find(&features, reference, by_id)?;
                let (rows, others): (Vec<usize>, Vec<usize>) =
                    pairs.rows.iter().map(|&[own, other]| (own, other)).unzip();
                let unpaired = [
                    features.rows.len() - rows.len(),
                    reference.rows.len() - others.len(),
                ];
                if unpaired[0] > 0 && !skip_unpaired {
                    return Err(unpaired_error(&features, reference, &rows));
                }
                (rows, others, Some(pairs.by_id), Some(unpaired))
            }
        };
        let labels: Vec<&Label> = rows.iter().map(|&row| &labels[row]).collect();
        let (classes, names) = classes(&features.name, &labels, &rows)?;
        let whole = rows.len() == features.rows.len();
        let chosen = |ids: &Vec<ItemId>| rows.iter().map(|&row| ids[row].clone()).collect();
        Ok(Self {
            class_count: classes.iter().max().map_or(0, |&class| class as usize + 1),
            classes,
            names,
            unpaired,
            by_id,
            ids: features.ids.as_ref().map(chosen),
            // Not copied where all rows are used: a hundred thousand of 768 values are 300 MB.
            features: match whole {
                true => features.rows,
                false => features.rows.select(&rows),
            },
            source: features.source,
            reference_source: reference.as_ref().map(|reference| reference.source.clone()),
            reference: reference.map(|reference| reference.rows.select(&reference_rows)),
        })
    }

    /// Trains on some of the rows.
    pub fn train(
        &self,
        config: &HeadConfig,
        fit: &[usize],
        global: &GlobalArguments,
        observer: &mut dyn HeadObserver,
    ) -> anyhow::Result<Vec<f32>> {
        let labels: Vec<u32> = fit.iter().map(|&row| self.classes[row]).collect();
        let reference = self.reference.as_ref().map(|rows| rows.select(fit).values);
        let rows = HeadRows {
            features: self.features.select(fit).values,
            dim: self.features.dim,
            labels: &labels,
            reference: reference.as_deref(),
        };
        fit_head(config, rows, &global.device.open()?, observer).map_err(stopped)
    }

    /// The layer as a bridge into a space, with the record of what it was trained on.
    pub fn bridge(&self, weight: &[f32], fit: &[usize], to: SpaceRef) -> anyhow::Result<Bridge> {
        let sha256 = [
            Some(self.source.sha256.clone()),
            self.reference_source
                .as_ref()
                .map(|source| source.sha256.clone()),
        ];
        let features = self.features.select(fit);
        let reference = self.reference.as_ref().map(|rows| rows.select(fit).values);
        let ids = self
            .ids
            .iter()
            .flat_map(|ids| fit.iter().map(|&row| &ids[row]));
        let inputs = FitInputs::of(
            &features.values,
            features.dim,
            &reference.unwrap_or_default(),
            to.dim,
        );
        Ok(Bridge::of_layer(weight, features.space, to)?
            .with_fit_record(record(fit.len(), self.by_id, sha256))?
            .with_fit_inputs(inputs.with_ids(ids)))
    }

    /// The method of a version's training.
    pub fn method(&self) -> &'static str {
        match &self.reference {
            Some(_) => "hoc head",
            None => "simplex head",
        }
    }

    /// What a version was trained on, in words.
    pub fn describe(&self, rows: usize) -> String {
        let reference = match &self.reference_source {
            Some(source) => format!(", against {}", source.name),
            None => String::new(),
        };
        let text = format!(
            "{rows} embeddings of {} classes, {}{reference}",
            self.class_count, self.source.name
        );
        text.replace(char::is_control, " ")
    }
}

/// The class of each row, and the labels by class where they are texts: numbers are classes themselves, texts are numbered in their order.
fn classes(
    name: &str,
    labels: &[&Label],
    rows: &[usize],
) -> anyhow::Result<(Vec<u32>, Option<Vec<Label>>)> {
    let numbers = labels
        .iter()
        .zip(rows)
        .map(|(label, row)| match label {
            Label::Number(number) => u32::try_from(*number).map(Some).map_err(|_| {
                usage(format!(
                    "{name}: label {number} of row {row} is no class: classes are numbered from 0, or named by texts"
                ))
            }),
            Label::Text(_) => Ok(None),
        })
        .collect::<anyhow::Result<Vec<Option<u32>>>>()?;
    if let Some(classes) = numbers.into_iter().collect::<Option<Vec<u32>>>() {
        return Ok((classes, None));
    }
    let names: BTreeSet<&Label> = labels.iter().copied().collect();
    let names: Vec<Label> = names.into_iter().cloned().collect();
    let class = |label: &&Label| {
        let found = names.binary_search(label);
        found.expect("every label is among the names") as u32
    };
    Ok((labels.iter().map(class).collect(), Some(names)))
}

/// **Inputs**: the ascending rows of the features that have a counterpart.
fn unpaired_error(features: &Vectors, reference: &Vectors, paired: &[usize]) -> anyhow::Error {
    let missing = others(features.rows.len(), paired);
    let ids: Vec<String> = missing
        .iter()
        .take(SHOWN_IDS)
        .filter_map(|&row| Some(features.ids.as_ref()?[row].to_string()))
        .collect();
    let more = if missing.len() > ids.len() {
        ", ..."
    } else {
        ""
    };
    usage(format!(
        "{} of {} items of {} have no embedding in {} ({}{more}); embed them with the older version too, or leave them out with --skip-unpaired",
        missing.len(),
        features.rows.len(),
        features.name,
        reference.name,
        ids.join(", ")
    ))
}

/// Rows of `0..count` that are not among the ascending ones given.
pub fn others(count: usize, held_out: &[usize]) -> Vec<usize> {
    let mut held_out = held_out.iter().peekable();
    let kept = |row: &usize| match held_out.peek() {
        Some(next) if *next == row => {
            held_out.next();
            false
        }
        _ => true,
    };
    (0..count).filter(kept).collect()
}

/// With the program's own error for Ctrl-C.
fn stopped(error: HeadError) -> anyhow::Error {
    match error {
        HeadError::Interrupted => InterruptedError.into(),
        other => other.into(),
    }
}

/// What a layer was matched by, for its record.
fn matched(by_id: Option<bool>) -> Matching {
    match by_id {
        Some(true) => Matching::Id,
        Some(false) => Matching::Row,
        None => Matching::Label,
    }
}

/// The record of a fit on so many rows.
fn record(rows: usize, by_id: Option<bool>, sha256: [Option<String>; 2]) -> FitRecord {
    let [from_sha256, to_sha256] = sha256;
    FitRecord {
        pairs: rows,
        matched: matched(by_id),
        from_sha256,
        to_sha256,
        created: Some(perennial_train::now()),
        ..FitRecord::default()
    }
}

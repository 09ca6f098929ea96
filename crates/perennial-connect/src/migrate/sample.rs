//! Rows of an index as the stored gallery of a measurement: a seeded sample, in memory.

use perennial_core::{ItemId, SpaceId};
use perennial_formats::{Parts, VectorSet};

use super::dispatch::dispatch;
use super::export::{ExportRequest, Rowset};
use crate::address::Address;
use crate::engine::{Looking, Rows, Skipped, again};
use crate::error::ConnectError;
use crate::observer::Observer;
use crate::qualified_name::QualifiedName;

/// A sample.
#[derive(Debug, Clone)]
pub struct SampleRequest {
    /// The table or collection.
    pub table: QualifiedName,
    /// The column of its key: `id` without one. Points of Qdrant have their id.
    pub key: Option<String>,
    /// Its column of vectors, `embedding` without one; in Qdrant the name of the vector, the only one there is without one.
    pub vector: Option<String>,
    /// A column, or a field of the payload, that becomes the label; a field within fields as `metadata.category`.
    pub label: Option<String>,
    /// The name of the space.
    pub space: Option<SpaceId>,
    /// How many rows, which bounds the memory.
    pub count: u64,
    /// The seed.
    pub seed: i64,
    /// Rows that are in it in any case, by id. Ids without a row are left out.
    pub also: Vec<ItemId>,
    /// The most rows per second.
    pub rate: Option<f64>,
}

/// Rows of an index.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The table with its schema, or the collection.
    pub table: String,
    /// The column of vectors, or the name of the vector.
    pub vector: String,
    /// How many rows with a vector there are.
    pub of: u64,
    /// The rows, with ids.
    pub set: VectorSet,
    /// Rows that are not among them: another dimension than the first, or no direction.
    pub skipped: Skipped,
    /// Rows that are not among them, because they have no label.
    pub without_label: u64,
}

/// Reads the rows whose keys have the smallest seeded hashes, and those that are asked for by id. It only reads.
///
/// Every row has the same chance: the server looks at all keys (of Qdrant, the program does) and orders them by a hash, whatever the order in which
/// rows lie. Vectors are read of the chosen rows alone. The same keys and seed give the same sample, which is that of
/// [`export`](super::export()).
///
/// # Errors
/// [`ConnectError`]; [`ConnectError::State`] if no row can be used.
pub fn sample(
    address: &Address,
    request: &SampleRequest,
    observer: &mut dyn Observer,
) -> Result<Sample, ConnectError> {
    dispatch!(address, sample_in(request, observer))
}

async fn sample_in<E: Looking>(
    address: &E::Address,
    request: &SampleRequest,
    observer: &mut dyn Observer,
) -> Result<Sample, ConnectError> {
    let export = ExportRequest {
        table: request.table.clone(),
        key: request.key.clone(),
        vector: request.vector.clone(),
        label: request.label.clone(),
        space: request.space.clone(),
        rows: Rows::Sample {
            count: request.count,
            seed: request.seed,
            also: request.also.clone(),
        },
        rate: request.rate,
        patience: ExportRequest::PATIENCE,
    };
    let mut rows = Rowset::<E>::open(address, &export, observer).await?;
    let survey = again(&mut rows.engine, observer, async |engine: &mut E| {
        engine.survey(0).await
    })
    .await?;
    let mut reading = rows.begin(None, observer).await?;
    let dim = rows.report.dim;
    let mut parts = Parts {
        dim,
        vectors: Vec::new(),
        ids: Some(Vec::new()),
        labels: request.label.is_some().then(Vec::new),
        payload: None,
        space: request.space.clone(),
    };
    let mut skipped = Skipped::default();
    while let Some(step) = rows.next(&mut reading, observer).await? {
        let Some(set) = step.set else {
            continue;
        };
        let (ids, labels) = (set.ids().unwrap_or_default(), set.labels());
        for (row, id) in ids.iter().enumerate() {
            let vector = set.row(row);
            if !has_direction(vector) {
                skipped.direction += 1;
                continue;
            }
            parts.vectors.extend_from_slice(vector);
            parts.ids.get_or_insert_default().push(id.clone());
            if let (Some(all), Some(labels)) = (&mut parts.labels, labels) {
                all.push(labels[row].clone());
            }
        }
    }
    rows.check_labels().await?;
    skipped.dimension = rows.report.skipped.dimension;
    if parts.vectors.is_empty() {
        return Err(ConnectError::State(format!(
            "no row of {} can be measured with: {} have no label, {} another dimension, {} no direction",
            survey.name, rows.report.without_label, skipped.dimension, skipped.direction
        )));
    }
    Ok(Sample {
        table: survey.name,
        vector: rows.engine.vector().to_owned(),
        of: survey.with_vector,
        set: VectorSet::from_parts(parts)?,
        skipped,
        without_label: rows.report.without_label,
    })
}

fn has_direction(vector: &[f32]) -> bool {
    vector.iter().all(|value| value.is_finite()) && vector.iter().any(|&value| value != 0.0)
}

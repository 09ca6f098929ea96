//! Rows of an index to a file of vectors.

use perennial_core::{Output, SpaceId};
use perennial_formats::{Format, Header, Parts, VectorSet, VectorWriter, create};
use serde::Serialize;

use super::dispatch::dispatch;
use crate::address::Address;
use crate::engine::{Access, Exported, Looking, Pace, Rows, Skipped, Target, batch_rows, required};
use crate::error::ConnectError;
use crate::observer::Observer;
use crate::qualified_name::QualifiedName;

/// An export.
#[derive(Debug, Clone)]
pub struct ExportRequest {
    /// The table or collection.
    pub table: QualifiedName,
    /// The column of its key, which becomes the id: `id` without one. Points of Qdrant have their id.
    pub key: Option<String>,
    /// Its column of vectors, `embedding` without one; in Qdrant the name of the vector, the only one there is without one.
    pub vector: Option<String>,
    /// A column, or a key of the payload, that becomes the label.
    pub label: Option<String>,
    /// The name of the space in the file.
    pub space: Option<SpaceId>,
    /// Which rows.
    pub rows: Rows,
    /// The most rows per second.
    pub rate: Option<f64>,
}

/// What was exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportReport {
    /// Rows in the file.
    pub rows: u64,
    /// Their dimension.
    pub dim: usize,
    /// Rows that are not: another dimension than the first.
    pub skipped: Skipped,
    /// Rows that are not, because they have no label.
    pub without_label: u64,
}

/// Writes rows to a file, in the order of their key, each as it is when its batch is read. It only reads.
///
/// Numbers from 0 to 2^64 become ids that are numbers, and all other keys texts.
///
/// # Errors
/// [`ConnectError`]; a file of that name then stays as it was.
pub fn export(
    address: &Address,
    request: &ExportRequest,
    output: Output,
    format: Format,
    observer: &mut dyn Observer,
) -> Result<ExportReport, ConnectError> {
    dispatch!(address, export_in(request, output, format, observer))
}

async fn export_in<E: Looking>(
    address: &E::Address,
    request: &ExportRequest,
    output: Output,
    format: Format,
    observer: &mut dyn Observer,
) -> Result<ExportReport, ConnectError> {
    let target = Target {
        table: &request.table,
        key: request.key.as_deref(),
        vector: request.vector.as_deref(),
        rate: request.rate,
    };
    let mut engine = E::open(address, &target, Access::Read).await?;
    let migration = match &request.rows {
        Rows::Pending(name) => Some(required(engine.find(name).await?, &request.table, name)?),
        Rows::All | Rows::Sample { .. } => None,
    };
    let dim = match engine.dim() {
        Some(dim) => dim,
        None => engine.first_dim().await?,
    };
    let header = Header {
        dim,
        rows: None,
        space: request.space.clone(),
        format,
    };
    let at_once = batch_rows(dim, request.rate);
    let label = request.label.as_deref();
    let mut export = engine
        .export(&request.rows, migration.as_ref(), label, at_once)
        .await?;
    let mut file = File {
        writer: create(output, format, &header)?,
        dim,
        labelled: request.label.is_some(),
        space: request.space.clone(),
        report: ExportReport {
            rows: 0,
            dim,
            skipped: Skipped::default(),
            without_label: 0,
        },
    };
    let total = match request.rows {
        Rows::All => engine.estimated_rows(),
        Rows::Sample { count, .. } => Some(count),
        Rows::Pending(_) => None,
    };
    let mut pace = Pace::new(request.rate)?;
    while let Some(rows) = engine.next_exported(&mut export).await? {
        let count = rows.len();
        file.add(rows)?;
        observer.rows(file.report.rows, total);
        pace.after(count, observer).await?;
    }
    let report = file.report.clone();
    file.writer.finish()?;
    Ok(report)
}

/// The file as it grows.
struct File {
    writer: Box<dyn VectorWriter>,
    dim: usize,
    labelled: bool,
    space: Option<SpaceId>,
    report: ExportReport,
}

impl File {
    fn add(&mut self, rows: Vec<Exported>) -> Result<(), ConnectError> {
        let mut ids = Vec::with_capacity(rows.len());
        let mut labels = Vec::new();
        let mut vectors = Vec::with_capacity(rows.len() * self.dim);
        for row in rows {
            if self.labelled && row.label.is_none() {
                self.report.without_label += 1;
                continue;
            }
            if row.vector.len() != self.dim {
                self.report.skipped.dimension += 1;
                continue;
            }
            vectors.extend_from_slice(&row.vector);
            ids.push(row.id);
            labels.extend(row.label);
        }
        if ids.is_empty() {
            return Ok(());
        }
        let set = VectorSet::from_parts(Parts {
            dim: self.dim,
            vectors,
            ids: Some(ids),
            labels: self.labelled.then_some(labels),
            payload: None,
            space: self.space.clone(),
        })?;
        self.report.rows += set.len() as u64;
        Ok(self.writer.write(&set)?)
    }
}

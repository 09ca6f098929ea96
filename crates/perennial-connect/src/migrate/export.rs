//! Rows of an index to a file of vectors.

use perennial_core::{Output, SpaceId};
use perennial_formats::{Format, Header, Parts, VectorSet, create};
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
#[non_exhaustive]
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
    let mut rows = Rowset::<E>::open(address, request).await?;
    let header = Header {
        dim: rows.report.dim,
        rows: None,
        space: request.space.clone(),
        format,
    };
    let mut export = rows.begin().await?;
    let mut writer = create(output, format, &header)?;
    while let Some(set) = rows.next(&mut export, observer).await? {
        writer.write(&set)?;
    }
    writer.finish()?;
    Ok(rows.report)
}

/// The rows of a request as they are read, batch by batch.
pub(super) struct Rowset<'a, E> {
    pub(super) engine: E,
    pub(super) report: ExportReport,
    request: &'a ExportRequest,
    total: Option<u64>,
    pace: Pace,
}

impl<'a, E: Looking> Rowset<'a, E> {
    /// Reaches the index.
    pub(super) async fn open(
        address: &E::Address,
        request: &'a ExportRequest,
    ) -> Result<Self, ConnectError> {
        let target = Target {
            table: &request.table,
            key: request.key.as_deref(),
            vector: request.vector.as_deref(),
            rate: request.rate,
        };
        let engine = E::open(address, &target, Access::Read).await?;
        let dim = match engine.dim() {
            Some(dim) => dim,
            None => engine.first_dim().await?,
        };
        let total = match request.rows {
            Rows::All => engine.estimated_rows(),
            Rows::Sample { count, .. } => Some(count),
            Rows::Pending(_) => None,
        };
        Ok(Self {
            engine,
            report: ExportReport {
                rows: 0,
                dim,
                skipped: Skipped::default(),
                without_label: 0,
            },
            request,
            total,
            pace: Pace::new(request.rate)?,
        })
    }

    /// Chooses the rows.
    pub(super) async fn begin(&mut self) -> Result<E::Export, ConnectError> {
        let request = self.request;
        let migration = match &request.rows {
            Rows::Pending(name) => Some(required(
                self.engine.find(name).await?,
                &request.table,
                name,
            )?),
            Rows::All | Rows::Sample { .. } => None,
        };
        let at_once = batch_rows(self.report.dim, request.rate);
        let label = request.label.as_deref();
        let migration = migration.as_ref();
        self.engine
            .export(&request.rows, migration, label, at_once)
            .await
    }

    /// The next rows; nothing at the end.
    pub(super) async fn next(
        &mut self,
        export: &mut E::Export,
        observer: &mut dyn Observer,
    ) -> Result<Option<VectorSet>, ConnectError> {
        loop {
            let Some(rows) = self.engine.next_exported(export).await? else {
                return Ok(None);
            };
            let count = rows.len();
            let set = self.set(rows)?;
            observer.rows(self.report.rows, self.total);
            self.pace.after(count, observer).await?;
            if set.is_some() {
                return Ok(set);
            }
        }
    }

    /// The rows that files hold; nothing where there are none.
    fn set(&mut self, rows: Vec<Exported>) -> Result<Option<VectorSet>, ConnectError> {
        let dim = self.report.dim;
        let labelled = self.request.label.is_some();
        let mut ids = Vec::with_capacity(rows.len());
        let mut labels = Vec::new();
        let mut vectors = Vec::with_capacity(rows.len() * dim);
        for row in rows {
            if labelled && row.label.is_none() {
                self.report.without_label += 1;
                continue;
            }
            if row.vector.len() != dim {
                self.report.skipped.dimension += 1;
                continue;
            }
            vectors.extend_from_slice(&row.vector);
            ids.push(row.id);
            labels.extend(row.label);
        }
        if ids.is_empty() {
            return Ok(None);
        }
        let set = VectorSet::from_parts(Parts {
            dim,
            vectors,
            ids: Some(ids),
            labels: labelled.then_some(labels),
            payload: None,
            space: self.request.space.clone(),
        })?;
        self.report.rows += set.len() as u64;
        Ok(Some(set))
    }
}

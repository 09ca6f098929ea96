//! Rows of an index to a file of vectors.

use std::time::Duration;

use perennial_core::{Output, SpaceId};
use perennial_formats::{Format, Header, Parts, VectorSet, create};
use serde::Serialize;
use serde_json::{Value, json};

use super::dispatch::dispatch;
use super::partial::{Partial, Reached};
use crate::address::Address;
use crate::engine::{
    Access, Exported, Looking, PATIENCE, Pace, Patience, Rows, Skipped, Target, batch_rows,
    required,
};
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
    /// A column, or a field of the payload, that becomes the label; a field within fields as `metadata.category`.
    pub label: Option<String>,
    /// The name of the space in the file.
    pub space: Option<SpaceId>,
    /// Which rows.
    pub rows: Rows,
    /// The most rows per second.
    pub rate: Option<f64>,
    /// How long a server that is gone is tried again, counted from the last batch.
    pub patience: Duration,
}

impl ExportRequest {
    /// The patience of an export that nothing else is said for.
    pub const PATIENCE: Duration = PATIENCE;
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
/// A connection that breaks is opened again, and reading goes on after the last row that came. Rows lie in a file `OUTPUT.partial` until all are there;
/// where an export ends early, the same request goes on after them. Rows that do not change meanwhile are in the result exactly once. A sample, and what does
/// not go to a file, begins again.
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
    let mut rows = Rowset::<E>::open(address, request, observer).await?;
    let place = match request.rows {
        Rows::All | Rows::Pending(_) => output.file(),
        Rows::Sample { .. } => None,
    };
    let Some(place) = place else {
        let done = at_once(&mut rows, output, format, observer).await;
        if done.as_ref().is_err_and(broken_off) {
            observer.note(
                "nothing is kept of a sample, nor of what does not go to a file: the same command starts over",
            );
        }
        return done;
    };
    let mut partial = Partial::open(place, &what::<E>(address, &rows), rows.report.dim)?;
    if let Err(error) = read(&mut rows, &mut partial, observer).await {
        let (kept, path) = (rows.report.rows, partial.path().to_owned());
        if partial.leave() {
            observer.note(&format!(
                "{} holds the {kept} rows that were read; the same command goes on after them",
                path.display()
            ));
        }
        return Err(error);
    }
    let header = Header {
        dim: rows.report.dim,
        rows: Some(rows.report.rows),
        space: request.space.clone(),
        format,
    };
    let mut writer = create(output, format, &header)?;
    let given = partial.each(request.space.as_ref(), |set| Ok(writer.write(&set)?))?;
    writer.finish()?;
    given.remove()?;
    Ok(rows.report)
}

/// Writes rows as they come.
async fn at_once<E: Looking>(
    rows: &mut Rowset<'_, E>,
    output: Output,
    format: Format,
    observer: &mut dyn Observer,
) -> Result<ExportReport, ConnectError> {
    let header = Header {
        dim: rows.report.dim,
        rows: None,
        space: rows.request.space.clone(),
        format,
    };
    let mut export = rows.begin(None, observer).await?;
    let mut writer = create(output, format, &header)?;
    while let Some(step) = rows.next(&mut export, observer).await? {
        if let Some(set) = step.set {
            writer.write(&set)?;
        }
    }
    rows.check_labels().await?;
    writer.finish()?;
    Ok(rows.report.clone())
}

/// Whether the same may come to its end when it is tried again.
fn broken_off(error: &ConnectError) -> bool {
    error.may_pass() || matches!(error, ConnectError::Interrupted)
}

/// Reads all rows that are not in the file yet.
async fn read<E: Looking>(
    rows: &mut Rowset<'_, E>,
    partial: &mut Partial,
    observer: &mut dyn Observer,
) -> Result<(), ConnectError> {
    let mut from = None;
    if let Some(reached) = partial.reached() {
        rows.report.rows = reached.rows;
        rows.report.skipped.dimension = reached.dimension;
        rows.report.without_label = reached.without_label;
        observer.note(&format!(
            "going on after {} rows that {} holds of an export that ended early; remove it to start over",
            reached.rows,
            partial.path().display()
        ));
        match &reached.place {
            Some(place) => from = Some(place.clone()),
            None => return Ok(()),
        }
    }
    let mut export = rows.begin(from.as_deref(), observer).await?;
    while let Some(step) = rows.next(&mut export, observer).await? {
        let reached = Reached {
            rows: rows.report.rows,
            dimension: rows.report.skipped.dimension,
            without_label: rows.report.without_label,
            place: step.place,
        };
        partial.keep(step.set.as_ref(), reached)?;
    }
    rows.check_labels().await
}

/// What the rows of an export depend on.
fn what<E: Looking>(address: &E::Address, rows: &Rowset<'_, E>) -> Value {
    let request = rows.request;
    json!({
        "database": address.to_string(),
        "table": request.table.to_string(),
        "key": rows.engine.key(),
        "vector": rows.engine.vector(),
        "label": request.label,
        "dim": rows.report.dim,
        "pending": match &request.rows {
            Rows::Pending(name) => Some(name),
            Rows::All | Rows::Sample { .. } => None,
        },
    })
}

/// The rows of a request as they are read, batch by batch.
pub(super) struct Rowset<'a, E> {
    pub(super) engine: E,
    pub(super) report: ExportReport,
    request: &'a ExportRequest,
    total: Option<u64>,
    pace: Pace,
    /// Rows of the last batch.
    last: usize,
    patience: Patience,
}

/// What one batch gives.
pub(super) struct Step {
    /// The rows that files hold; nothing where there are none.
    pub(super) set: Option<VectorSet>,
    /// Where reading goes on; nothing at the end.
    place: Option<String>,
}

impl<'a, E: Looking> Rowset<'a, E> {
    /// Reaches the index.
    pub(super) async fn open(
        address: &E::Address,
        request: &'a ExportRequest,
        observer: &dyn Observer,
    ) -> Result<Self, ConnectError> {
        let target = Target {
            table: &request.table,
            key: request.key.as_deref(),
            vector: request.vector.as_deref(),
            rate: request.rate,
            patience: request.patience,
        };
        let mut engine = E::open(address, &target, Access::Read).await?;
        engine.heed(observer.stop_signal());
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
            last: 0,
            patience: Patience::of(request.patience),
        })
    }

    /// Chooses the rows, those from a place on where one is given.
    pub(super) async fn begin(
        &mut self,
        from: Option<&str>,
        observer: &mut dyn Observer,
    ) -> Result<E::Export, ConnectError> {
        loop {
            match self.chosen(from).await {
                Err(error) => self.patience.after(error, observer).await?,
                export => return export,
            }
            self.patience.reconnect(&mut self.engine, observer).await?;
        }
    }

    async fn chosen(&mut self, from: Option<&str>) -> Result<E::Export, ConnectError> {
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
            .export(&request.rows, migration, label, at_once, from)
            .await
    }

    /// The next rows; nothing at the end.
    pub(super) async fn next(
        &mut self,
        export: &mut E::Export,
        observer: &mut dyn Observer,
    ) -> Result<Option<Step>, ConnectError> {
        self.pace
            .after(std::mem::take(&mut self.last), observer)
            .await?;
        let rows = loop {
            match self.engine.next_exported(export).await {
                Ok(Some(rows)) => break rows,
                Ok(None) => return Ok(None),
                Err(error) => self.patience.after(error, observer).await?,
            }
            self.patience.reconnect(&mut self.engine, observer).await?;
            self.engine.resume(export);
        };
        self.patience.progress();
        self.last = rows.len();
        let set = self.set(rows)?;
        observer.rows(self.report.rows, self.total);
        Ok(Some(Step {
            set,
            place: self.engine.place(export),
        }))
    }

    /// Refuses a label that no row has.
    pub(super) async fn check_labels(&mut self) -> Result<(), ConnectError> {
        let Some(label) = &self.request.label else {
            return Ok(());
        };
        if self.report.rows > 0 || self.report.without_label == 0 {
            return Ok(());
        }
        Err(ConnectError::Usage(format!(
            "none of {} rows has a label in {label}; {}",
            self.report.without_label,
            self.engine.labels_there().await?
        )))
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

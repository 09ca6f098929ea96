//! Do the copies hold what they should, and does their index find it?

use perennial_bridge::Bridge;
use perennial_formats::VectorSet;
use serde::Serialize;

use super::dispatch::dispatch;
use super::recall::recall;
use crate::address::Address;
use crate::engine::{Access, Looking, Migration, Origin, Showing, Standing};
use crate::error::ConnectError;
use crate::observer::Observer;
use crate::qualified_name::QualifiedName;

/// A verification.
#[derive(Debug, Clone)]
pub struct VerifyRequest<'a> {
    /// The migrated table or collection.
    pub table: QualifiedName,
    /// The migration.
    pub name: String,
    /// The bridge of mapped copies: a sample is mapped again and compared.
    pub bridge: Option<&'a Bridge>,
    /// Queries in the new space; without them, stored copies are searched with.
    pub queries: Option<&'a VectorSet>,
    /// Copies of the sample that is mapped again.
    pub sample: u64,
    /// Queries of the recall, where none are given.
    pub searches: u64,
    /// Nearest items of each query.
    pub k: u32,
    /// The smallest recall that passes, from 0 to 1.
    pub min_recall: f64,
    /// The seed of both samples.
    pub seed: i64,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerifyReport {
    /// Rows and copies.
    pub standing: Standing,
    /// Copies that were mapped again.
    pub compared: u64,
    /// Of those, copies that differ.
    pub different: u64,
    /// The largest difference of a value.
    pub largest_difference: f32,
    /// The mean share of the exactly nearest that the index finds; nothing without an index.
    pub recall: Option<f64>,
    /// Queries of that.
    pub searches: u64,
    /// What is wrong, one line each; empty if nothing is.
    pub problems: Vec<String>,
}

/// Counts rows and copies, maps a sample again, and measures the recall of the copies' index. It only reads.
///
/// # Errors
/// [`ConnectError`]; that something is wrong is no error but in the report.
pub fn verify(
    address: &Address,
    request: &VerifyRequest<'_>,
    observer: &mut dyn Observer,
) -> Result<VerifyReport, ConnectError> {
    dispatch!(address, verify_in(request, observer))
}

async fn verify_in<E: Looking + Showing>(
    address: &E::Address,
    request: &VerifyRequest<'_>,
    observer: &mut dyn Observer,
) -> Result<VerifyReport, ConnectError> {
    let (mut engine, migration) =
        E::open_migration(address, &request.table, &request.name, Access::Read).await?;
    let mut report = VerifyReport {
        standing: engine.standing(&migration).await?,
        compared: 0,
        different: 0,
        largest_difference: 0.0,
        recall: None,
        searches: 0,
        problems: Vec::new(),
    };
    if let Some(bridge) = request.bridge {
        compare(&mut engine, &migration, bridge, request, &mut report).await?;
    }
    if observer.stopped() {
        return Err(ConnectError::Interrupted);
    }
    if let Some(search) = engine.search(&migration).await? {
        let queries = match request.queries {
            Some(set) if set.dim() != migration.dim => {
                return Err(ConnectError::Usage(format!(
                    "the queries have {} dimensions, and the new vectors {}",
                    set.dim(),
                    migration.dim
                )));
            }
            Some(set) => {
                let rows = set.vectors().chunks_exact(set.dim());
                rows.map(<[f32]>::to_vec).collect()
            }
            None => {
                engine
                    .sample(&search, request.searches, request.seed)
                    .await?
            }
        };
        report.searches = queries.len() as u64;
        let k = request.k.max(1);
        report.recall = Some(recall(&mut engine, &search, &queries, k).await?);
    }
    report.problems = problems(&report, request, E::RECALL_REMEDY);
    Ok(report)
}

/// Maps a sample of old vectors again and compares.
async fn compare<E: Looking>(
    engine: &mut E,
    migration: &Migration<E::Key>,
    bridge: &Bridge,
    request: &VerifyRequest<'_>,
    report: &mut VerifyReport,
) -> Result<(), ConnectError> {
    match &migration.origin {
        Origin::Bridge { bridge: was, .. } if *was == bridge.sha256() => {}
        Origin::Bridge { bridge: was, .. } => {
            return Err(ConnectError::Usage(format!(
                "the copies were made by the bridge {was}, and this one is {}",
                bridge.sha256()
            )));
        }
        Origin::Files => {
            return Err(ConnectError::Usage(
                "the copies come from files of new embeddings, and no bridge made them".to_owned(),
            ));
        }
    }
    let allowed = engine.rounding();
    let mut mapped = Vec::new();
    for pair in engine
        .pairs(migration, request.sample, request.seed)
        .await?
    {
        report.compared += 1;
        let right = pair.old.len() == bridge.from().dim && pair.copy.len() == bridge.to().dim;
        if !right || bridge.apply(&pair.old, &mut mapped).is_err() {
            report.different += 1;
            continue;
        }
        let differences = pair.copy.iter().zip(&mapped).map(|(a, b)| (a - b).abs());
        let largest = differences.fold(0.0, f32::max);
        report.largest_difference = report.largest_difference.max(largest);
        report.different += u64::from(largest > allowed);
    }
    Ok(())
}

fn problems(report: &VerifyReport, request: &VerifyRequest<'_>, remedy: &str) -> Vec<String> {
    let standing = &report.standing;
    let mut problems = Vec::new();
    if standing.missing > 0 {
        problems.push(format!(
            "{} rows have no copy; run again, or export them with `migrate export --pending`",
            standing.missing
        ));
    }
    if standing.changed > 0 {
        problems.push(format!(
            "{} rows were written after their copy was made; run again, or export them with `migrate export --pending`",
            standing.changed
        ));
    }
    if standing.orphaned > 0 {
        problems.push(format!(
            "{} copies have no row any more; run again to remove them",
            standing.orphaned
        ));
    }
    if report.different > 0 {
        problems.push(format!(
            "{} of {} copies are not what the bridge makes of the old vectors; clean and run again",
            report.different, report.compared
        ));
    }
    if let Some(recall) = report.recall
        && recall < request.min_recall
    {
        problems.push(format!(
            "the index finds {recall:.4} of the nearest {}, less than {}; {remedy}",
            request.k, request.min_recall
        ));
    }
    problems
}

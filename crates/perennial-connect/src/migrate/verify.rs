//! Do the copies hold what they should, and does their index find it?

use std::path::PathBuf;

use perennial_bridge::Bridge;
use perennial_formats::VectorSet;
use serde::Serialize;

use super::compare::{Compared, compare_files, compare_mapped};
use super::dispatch::dispatch;
use super::recall::recall;
use crate::address::Address;
use crate::engine::{Access, Looking, Showing, Standing, again};
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
    /// The files of copies that come from files, in the order of their runs: a sample of their vectors is compared.
    pub files: &'a [PathBuf],
    /// Queries in the new space; without them, stored copies are searched with.
    pub queries: Option<&'a VectorSet>,
    /// Copies of the sample that is mapped again, or compared with the files.
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
#[non_exhaustive]
pub struct VerifyReport {
    /// Rows and copies.
    pub standing: Standing,
    /// Copies that were compared with what the bridge makes of their old vectors again, or with the files.
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

/// Counts rows and copies, compares a sample with what it was made from, and measures the recall of the copies' index. It only reads.
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
    engine.heed(observer.stop_signal());
    let standing = async |engine: &mut E| engine.standing(&migration).await;
    let mut report = VerifyReport {
        standing: again(&mut engine, observer, standing).await?,
        compared: 0,
        different: 0,
        largest_difference: 0.0,
        recall: None,
        searches: 0,
        problems: Vec::new(),
    };
    if let Some(bridge) = request.bridge {
        let sample = (request.sample, request.seed);
        report.add(compare_mapped(&mut engine, &migration, bridge, sample, observer).await?);
    }
    if !request.files.is_empty() {
        let sample = (request.sample, request.seed);
        report.add(compare_files(&mut engine, &migration, request.files, sample, observer).await?);
    }
    if observer.stopped() {
        return Err(ConnectError::Interrupted);
    }
    let search = async |engine: &mut E| engine.search(&migration).await;
    if let Some(search) = again(&mut engine, observer, search).await? {
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
                let sample = async |engine: &mut E| {
                    engine.sample(&search, request.searches, request.seed).await
                };
                again(&mut engine, observer, sample).await?
            }
        };
        report.searches = queries.len() as u64;
        let k = request.k.max(1);
        report.recall = Some(recall(&mut engine, &search, &queries, k, observer).await?);
    }
    report.problems = problems(&report, request, E::RECALL_REMEDY);
    Ok(report)
}

impl VerifyReport {
    fn add(&mut self, found: Compared) {
        self.compared += found.compared;
        self.different += found.different;
        self.largest_difference = self.largest_difference.max(found.largest);
    }
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
            "{} of {} copies are not what {}; clean and run again",
            report.different,
            report.compared,
            match request.files.is_empty() {
                true => "the bridge makes of the old vectors",
                false => "the files hold",
            }
        ));
    }
    if report.compared == 0 && !request.files.is_empty() && request.sample > 0 {
        problems.push("no copy has an id of the files".to_owned());
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

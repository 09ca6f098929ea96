//! Do the copies hold what they should, and does their index find it?

use perennial_bridge::Bridge;
use perennial_formats::VectorSet;
use serde::Serialize;

use super::copy_index::copies_of;
use super::opened::open;
use super::recall::{given, recall, sampled};
use super::standing::Standing;
use super::state::{Migration, Origin};
use crate::error::ConnectError;
use crate::observer::Observer;
use crate::postgres::{
    Address, QualifiedName, Raw, VectorTable, connect, quote, read_vector, wait,
};

/// The largest difference of a value that rounding explains, for 32 and for 16 bits.
const ROUNDING: [f32; 2] = [1e-4, 1e-3];

/// A verification.
#[derive(Debug, Clone)]
pub struct VerifyRequest<'a> {
    /// The migrated table.
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
    wait(async {
        let mut client = connect(address).await?;
        client
            .batch_execute("SET default_transaction_read_only = on")
            .await?;
        let (table, migration) = open(&client, &request.table, &request.name).await?;
        let mut report = VerifyReport {
            standing: Standing::of(&client, &table, &migration).await?,
            compared: 0,
            different: 0,
            largest_difference: 0.0,
            recall: None,
            searches: 0,
            problems: Vec::new(),
        };
        if let Some(bridge) = request.bridge {
            compare(&client, &table, &migration, bridge, request, &mut report).await?;
        }
        if observer.stopped() {
            return Err(ConnectError::Interrupted);
        }
        let copies = copies_of(&client, &migration).await?;
        let index = copies.indexes.first();
        if let Some(operator) = index.and_then(|index| index.operator()) {
            let queries = match request.queries {
                Some(set) if set.dim() != migration.dim => {
                    return Err(ConnectError::Usage(format!(
                        "the queries have {} dimensions, and the new vectors {}",
                        set.dim(),
                        migration.dim
                    )));
                }
                Some(set) => given(copies.kind, set)?,
                None => sampled(&client, &copies, request.searches, request.seed).await?,
            };
            report.searches = queries.len() as u64;
            let k = i64::from(request.k.max(1));
            report.recall = Some(recall(&mut client, &copies, operator, &queries, k).await?);
        }
        report.problems = problems(&report, request);
        Ok(report)
    })
}

/// Maps a sample of old vectors again and compares.
async fn compare(
    client: &tokio_postgres::Client,
    table: &VectorTable,
    migration: &Migration,
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
    let (key, vector) = (quote(&table.key), quote(&table.vector));
    let query = format!(
        "SELECT t.{vector}, s.{vector} FROM {rows} t JOIN {copies} s ON s.{key} = t.{key} WHERE s.perennial_source = t.xmin AND s.{key} IN \
         (SELECT {key} FROM {copies} ORDER BY hashtextextended({key}::text, $1), {key} LIMIT $2)",
        rows = table.sql(),
        copies = migration.copies.sql()
    );
    let most = request.sample.min(1 << 20) as i64;
    let allowed = match table.kind.value_bytes() {
        4 => ROUNDING[0],
        _ => ROUNDING[1],
    };
    let (mut old, mut stored, mut mapped) = (Vec::new(), Vec::new(), Vec::new());
    for row in client.query(&query, &[&request.seed, &most]).await? {
        old.clear();
        stored.clear();
        let dim = read_vector(table.kind, row.try_get::<_, Raw<'_>>(0)?.0, &mut old)?;
        read_vector(table.kind, row.try_get::<_, Raw<'_>>(1)?.0, &mut stored)?;
        report.compared += 1;
        if dim != bridge.from().dim || bridge.apply(&old, &mut mapped).is_err() {
            report.different += 1;
            continue;
        }
        let differences = stored.iter().zip(&mapped).map(|(a, b)| (a - b).abs());
        let largest = differences.fold(0.0, f32::max);
        report.largest_difference = report.largest_difference.max(largest);
        report.different += u64::from(largest > allowed);
    }
    Ok(())
}

fn problems(report: &VerifyReport, request: &VerifyRequest<'_>) -> Vec<String> {
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
            "the index finds {recall:.4} of the nearest {}, less than {}; raise hnsw.ef_search or ivfflat.probes, or build it with higher settings",
            request.k, request.min_recall
        ));
    }
    problems
}

//! What a migration will take, before anything is written.

use std::collections::BTreeMap;

use perennial_bridge::Bridge;
use perennial_upgrade::MappedPermission;
use serde::Serialize;

use super::dispatch::dispatch;
use super::rate_probe::{MeasuredRates, measure};
use crate::address::Address;
use crate::engine::{Access, Copying, IndexFacts, Looking, PATIENCE, Survey, Target};
use crate::error::ConnectError;
use crate::qualified_name::QualifiedName;

/// Vectors of a column without a dimension that are looked at.
const LOOKED_AT: u64 = 10_000;

/// A plan of a migration.
#[derive(Debug, Clone)]
pub struct PlanRequest<'a> {
    /// The table or collection.
    pub table: QualifiedName,
    /// The column of its key: `id` without one. Points of Qdrant have their id.
    pub key: Option<String>,
    /// Its column of vectors, `embedding` without one; in Qdrant the name of the vector, the only one there is without one.
    pub vector: Option<String>,
    /// The dimension of the new vectors; with a bridge, the bridge's.
    pub new_dim: Option<usize>,
    /// The bridge of mapped copies.
    pub bridge: Option<&'a Bridge>,
    /// What allows mapped copies.
    pub permission: Option<&'a MappedPermission>,
    /// The most rows per second.
    pub rate: Option<f64>,
}

/// What a migration will take.
#[derive(Debug, Clone, Serialize)]
pub struct PlanReport {
    /// The table with its schema, or the collection.
    pub table: String,
    /// Its rows.
    pub rows: u64,
    /// Rows without a vector.
    pub without_vector: u64,
    /// Numbers of vectors by dimension, of some of the vectors where the column demands no dimension.
    pub dimensions: BTreeMap<u64, u64>,
    /// How values are stored: `vector` or `halfvec`, or a datatype of Qdrant.
    pub vector_type: String,
    /// The approximate indexes of the old vectors.
    pub indexes: Vec<IndexFacts>,
    /// Bytes of the table, with indexes and long values, where the database says it.
    pub table_bytes: Option<u64>,
    /// Shards and replicas, which the copies get as well.
    pub storage: Option<String>,
    /// Dimensions of the new vectors.
    pub new_dim: usize,
    /// `mapped`, where a certificate was given, else `side by side`.
    pub way: &'static str,
    /// What allows mapped copies.
    pub certified: Option<String>,
    /// Bytes of the copies' vectors and keys, estimated, stored once.
    pub copies_bytes: u64,
    /// Bytes of what copies hold beside that: payload and other vectors, where they hold any.
    pub beside_bytes: u64,
    /// Bytes of their index, estimated by that of the old vectors where its size is known, else by its settings.
    pub index_bytes: Option<u64>,
    /// How many times all of it is stored.
    pub replicas: u64,
    /// Bytes of all of it in all replicas.
    pub disk_bytes: u64,
    /// What these estimates rest on.
    pub assumptions: Vec<String>,
    /// Rates measured here.
    pub rates: Option<MeasuredRates>,
    /// Seconds of copying at these rates, below the rate that was given.
    pub seconds: Option<f64>,
    /// What stands in the way, or should be known.
    pub warnings: Vec<String>,
}

/// Looks at an index and says what its migration will take. It only reads, but for a temporary table in its own session.
///
/// # Errors
/// [`ConnectError`].
pub fn plan(address: &Address, request: &PlanRequest<'_>) -> Result<PlanReport, ConnectError> {
    dispatch!(address, plan_in(request))
}

async fn plan_in<E: Copying + Looking>(
    address: &E::Address,
    request: &PlanRequest<'_>,
) -> Result<PlanReport, ConnectError> {
    let target = Target {
        table: &request.table,
        key: request.key.as_deref(),
        vector: request.vector.as_deref(),
        rate: request.rate,
        patience: PATIENCE,
    };
    let mut engine = E::open(address, &target, Access::Probe).await?;
    let survey = engine.survey(LOOKED_AT).await?;
    let most_frequent = survey.dimensions.iter().max_by_key(|&(_, count)| *count);
    let dim = most_frequent.map_or(0, |(&dim, _)| dim as usize);
    let new_dim = request.bridge.map(|bridge| bridge.to().dim);
    let new_dim = new_dim.or(request.new_dim).unwrap_or(dim);
    let warnings = warnings(&survey, request, dim);
    let usable = request.bridge.filter(|bridge| bridge.from().dim == dim);
    let rates = match dim > 0 && new_dim > 0 {
        true => measure(&mut engine, dim, usable, new_dim).await?,
        false => None,
    };
    let seconds = rates.map(|rates| {
        let most = request.rate.unwrap_or(f64::INFINITY);
        survey.with_vector as f64 / rates.together().min(most)
    });
    let row_bytes = new_dim as u64 * survey.value_bytes + survey.row_overhead;
    let share = new_dim as f64 / dim.max(1) as f64;
    let index_bytes = match survey.indexes.first() {
        None => Some(0),
        Some(index) => match (index.bytes, survey.index_row) {
            (Some(bytes), _) => Some((bytes as f64 * share) as u64),
            (None, Some(row)) => {
                Some((survey.with_vector as f64 * row.bytes(new_dim as u64)) as u64)
            }
            (None, None) => None,
        },
    };
    let copies_bytes = survey.with_vector * row_bytes;
    let beside_bytes = survey.with_vector * survey.beside_row_bytes;
    let once = copies_bytes + beside_bytes + index_bytes.unwrap_or(0);
    Ok(PlanReport {
        table: survey.name,
        rows: survey.rows,
        without_vector: survey.rows.saturating_sub(survey.with_vector),
        dimensions: survey.dimensions,
        vector_type: survey.vector_type,
        indexes: survey.indexes,
        table_bytes: survey.bytes,
        storage: survey.storage,
        new_dim,
        way: match request.permission {
            Some(_) => "mapped",
            None => "side by side",
        },
        certified: request
            .permission
            .map(|permission| permission.basis.clone()),
        copies_bytes,
        beside_bytes,
        index_bytes,
        replicas: survey.replicas,
        disk_bytes: once.saturating_mul(survey.replicas),
        assumptions: survey.assumptions,
        rates,
        seconds,
        warnings,
    })
}

fn warnings(survey: &Survey, request: &PlanRequest<'_>, dim: usize) -> Vec<String> {
    let mut warnings = survey.warnings.clone();
    if survey.dimensions.len() > 1 {
        warnings.push(
            "the vectors have several dimensions; those of another than the bridge takes get no copy"
                .to_owned(),
        );
    }
    if survey.with_vector == 0 {
        warnings.push(format!("{} holds no vectors", survey.name));
    }
    if request.bridge.is_some() && request.permission.is_none() {
        warnings.push(
            "no certificate was given, and without one nothing is mapped; measure with `perennial certify --route mapped --bridge`"
                .to_owned(),
        );
    }
    if let [first, _, ..] = &survey.indexes[..] {
        warnings.push(format!(
            "the old vectors have {} approximate indexes; the new ones get one like {}",
            survey.indexes.len(),
            first.name
        ));
    }
    if let Some(bridge) = request.bridge
        && bridge.from().dim != dim
    {
        warnings.push(format!(
            "the bridge takes vectors of {} dimensions, and most of the stored ones have {dim}",
            bridge.from().dim
        ));
    }
    warnings
}

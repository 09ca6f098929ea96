//! Counts and sizes of a table, for a plan.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::identifier::quote;
use super::partition_sizes::with_partitions;
use super::table::VectorTable;
use crate::engine::{IndexFacts, Survey};
use crate::error::ConnectError;

/// Bytes of a row beside its vector: the key, the header, the line pointer, the transaction id, the entry of the key's index.
const ROW_OVERHEAD: u64 = 8 + 64;

/// Counts and describes.
pub(super) async fn survey(
    client: &Client,
    table: &VectorTable,
    limit: u64,
) -> Result<Survey, ConnectError> {
    let query = format!(
        "SELECT count(*), count({}), {} FROM {}",
        quote(&table.vector),
        with_partitions("pg_total_relation_size", "$1::oid"),
        table.sql()
    );
    let row = client.query_one(&query, &[&table.oid]).await?;
    let count = |index: usize| -> Result<u64, ConnectError> {
        Ok(row.try_get::<_, i64>(index)?.max(0) as u64)
    };
    let with_vector = count(1)?;
    let indexes = table.indexes.iter().map(|index| IndexFacts {
        name: index.name.clone(),
        method: index.method.clone(),
        operators: index.operators.clone(),
        bytes: u64::try_from(index.bytes).ok(),
    });
    Ok(Survey {
        name: format!("{}.{}", table.schema, table.name),
        rows: count(0)?,
        with_vector,
        dimensions: dimensions(client, table, with_vector, limit).await?,
        index_row: None,
        beside_row_bytes: 0,
        replicas: 1,
        assumptions: assumptions(table),
        vector_type: table.kind.name().to_owned(),
        value_bytes: table.kind.value_bytes() as u64,
        row_overhead: ROW_OVERHEAD,
        indexes: indexes.collect(),
        bytes: Some(count(2)?),
        storage: None,
        warnings: warnings(client, table).await?,
    })
}

fn assumptions(table: &VectorTable) -> Vec<String> {
    let mut assumptions = vec![format!(
        "a copy takes {ROW_OVERHEAD} bytes beside its vector: key, header, the key's index"
    )];
    if let Some(index) = table.indexes.first() {
        assumptions.push(format!(
            "the index is as large as {}, in proportion to the dimension",
            index.name
        ));
    }
    assumptions
}

async fn dimensions(
    client: &Client,
    table: &VectorTable,
    with_vector: u64,
    limit: u64,
) -> Result<BTreeMap<u64, u64>, ConnectError> {
    if let Some(dim) = table.dim {
        return Ok(BTreeMap::from([(dim as u64, with_vector)]));
    }
    let (key, vector) = (quote(&table.key), quote(&table.vector));
    let query = format!(
        "SELECT {}.vector_dims({vector}), count(*) FROM (SELECT {vector} FROM {} WHERE {vector} IS NOT NULL \
         ORDER BY hashtextextended({key}::text, 0) LIMIT $1) looked GROUP BY 1",
        quote(&table.vector_schema),
        table.sql()
    );
    let rows = client.query(&query, &[&(limit as i64)]).await?;
    rows.iter()
        .map(|row| {
            let (dim, count): (i32, i64) = (row.try_get(0)?, row.try_get(1)?);
            Ok((dim.max(0) as u64, count.max(0) as u64))
        })
        .collect()
}

async fn warnings(client: &Client, table: &VectorTable) -> Result<Vec<String>, ConnectError> {
    let mut warnings = Vec::new();
    let row = client
        .query_one(
            "SELECT has_schema_privilege($1, 'CREATE'), pg_is_in_recovery()",
            &[&table.schema],
        )
        .await?;
    if !row.try_get::<_, bool>(0)? {
        warnings.push(format!(
            "the role may not make tables in schema {}; a run needs CREATE on it",
            table.schema
        ));
    }
    if row.try_get::<_, bool>(1)? {
        warnings.push(
            "this server is a standby, which cannot be written; run against the primary".to_owned(),
        );
    }
    Ok(warnings)
}

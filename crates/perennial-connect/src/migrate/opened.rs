//! A migration that is there already: found by its table and name.

use tokio_postgres::Client;

use super::state::Migration;
use crate::error::ConnectError;
use crate::postgres::{QualifiedName, Target, VectorTable};

/// The migration and the table that it migrates.
///
/// # Errors
/// [`ConnectError::State`] if there is no such table or migration.
pub(super) async fn open(
    client: &Client,
    table: &QualifiedName,
    name: &str,
) -> Result<(VectorTable, Migration), ConnectError> {
    let migration = find(client, table, name).await?;
    let target = Target {
        table,
        key: &migration.key,
        vector: &migration.vector,
    };
    let found = VectorTable::find(client, target).await?;
    Ok((found, migration))
}

/// The migration alone; its table must be there.
///
/// # Errors
/// Those of [`open`].
pub(super) async fn find(
    client: &Client,
    table: &QualifiedName,
    name: &str,
) -> Result<Migration, ConnectError> {
    let row = client
        .query_opt(
            "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)",
            &[&table.sql()],
        )
        .await?;
    let missing = || {
        ConnectError::State(format!(
            "there is no migration {name} of {table}; begin it with `migrate run`"
        ))
    };
    let row = row.ok_or_else(missing)?;
    let (schema, plain): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    Migration::find(client, &schema, &plain, name)
        .await?
        .ok_or_else(missing)
}

/// Whether something of this name is in the database.
pub(super) async fn exists(client: &Client, name: &QualifiedName) -> Result<bool, ConnectError> {
    let row = client
        .query_one("SELECT to_regclass($1) IS NOT NULL", &[&name.sql()])
        .await?;
    Ok(row.try_get(0)?)
}

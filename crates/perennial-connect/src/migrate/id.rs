//! Which migration is meant.

use crate::error::ConnectError;
use crate::postgres::{QualifiedName, check_identifier};

/// The name of the table in which copies of a migration are kept: that of the migrated table, `_`, and that of the migration.
pub(super) fn copy_table(table: &str, migration: &str) -> Result<String, ConnectError> {
    let name = format!("{table}_{migration}");
    check_identifier("the table of the copies", &name).map_err(|error| {
        ConnectError::Usage(format!("{error}; choose a shorter name for the migration"))
    })?;
    Ok(name)
}

/// What a message calls a migration.
pub(super) fn shown(table: &QualifiedName, migration: &str) -> String {
    format!("migration {migration} of {table}")
}

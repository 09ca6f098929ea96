//! Which migration is meant.

use crate::qualified_name::QualifiedName;

/// The name under which copies of a migration are kept: that of the migrated table or collection, `_`, and that of the migration.
pub(crate) fn copies_name(table: &str, migration: &str) -> String {
    format!("{table}_{migration}")
}

/// What a message calls a migration.
pub(crate) fn shown(table: &QualifiedName, migration: &str) -> String {
    format!("migration {migration} of {table}")
}

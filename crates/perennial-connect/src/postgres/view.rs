//! The view that applications read: all columns of the migrated table, with the old vectors or the new ones.

use super::identifier::quote;
use super::table::VectorTable;
use super::wire::RawValue;
use crate::engine::{Migration, Shown};
use crate::qualified_name::QualifiedName;

/// The statement that makes a view show old or new vectors.
///
/// A view's columns keep their types for ever, and `vector(384)` is another type than `vector(256)`: so the view shows vectors without a
/// dimension. Indexes are used all the same. A row without a copy is not in a view of new vectors, since it could not be found by them.
pub(super) fn statement(
    table: &VectorTable,
    migration: &Migration<RawValue>,
    view: &QualifiedName,
    shown: Shown,
) -> String {
    let (key, vector) = (quote(&table.key), quote(&table.vector));
    let (alias, from) = match shown {
        Shown::Old => ("t", format!("{} t", table.sql())),
        Shown::New => (
            "s",
            format!(
                "{} t JOIN {} s ON s.{key} = t.{key}",
                table.sql(),
                migration.copies.sql()
            ),
        ),
    };
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|column| match *column == table.vector {
            true => format!(
                "{alias}.{vector}::{}.{} AS {vector}",
                quote(&table.vector_schema),
                table.kind.name()
            ),
            false => format!("t.{}", quote(column)),
        })
        .collect();
    format!(
        "CREATE OR REPLACE VIEW {} AS SELECT {} FROM {from}",
        view.sql(),
        columns.join(", ")
    )
}

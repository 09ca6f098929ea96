//! Counts, and the view that shows old vectors or new ones.

use std::time::Duration;

use super::engine::Postgres;
use super::identifier::quote;
use super::state::{forget, migration_of_view, note_view};
use super::view::statement;
use super::wire::RawValue;
use crate::engine::{Migration, Showing, Shown, Standing};
use crate::error::ConnectError;
use crate::qualified_name::QualifiedName;

impl Showing for Postgres {
    /// Programs write into the table, whatever the view shows.
    const WRITES_FOLLOW: bool = false;

    /// Reads all keys of both tables, and no vectors.
    async fn standing(
        &mut self,
        migration: &Migration<RawValue>,
    ) -> Result<Standing, ConnectError> {
        let (key, vector) = (quote(&self.table.key), quote(&self.table.vector));
        let (rows, copies) = (self.table.sql(), migration.copies.sql());
        let query = format!(
            "SELECT count(*), count(*) FILTER (WHERE t.{vector} IS NULL), count(*) FILTER (WHERE t.{vector} IS NOT NULL AND s.{key} IS NULL), \
             count(*) FILTER (WHERE s.perennial_source <> t.xmin), (SELECT count(*) FROM {copies}), \
             (SELECT count(*) FROM {copies} WHERE perennial_source IS NULL), \
             (SELECT count(*) FROM {copies} o WHERE NOT EXISTS (SELECT FROM {rows} g WHERE g.{key} = o.{key})) \
             FROM {rows} t LEFT JOIN {copies} s ON s.{key} = t.{key}"
        );
        let row = self.reader.query_one(&query, &[]).await?;
        let count = |index: usize| -> Result<u64, ConnectError> {
            Ok(row.try_get::<_, i64>(index)?.max(0) as u64)
        };
        Ok(Standing {
            rows: count(0)?,
            without_vector: count(1)?,
            missing: count(2)?,
            changed: count(3)?,
            copies: count(4)?,
            written_by_application: count(5)?,
            orphaned: count(6)?,
        })
    }

    /// With its schema: a later session may have another search path, and must not make a second view of that name.
    async fn placed(&self, view: &QualifiedName) -> Result<QualifiedName, ConnectError> {
        if view.schema.is_some() {
            return Ok(view.clone());
        }
        let row = self
            .reader
            .query_one(
                "SELECT coalesce((SELECT n.nspname::text FROM pg_catalog.pg_class c \
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)), current_schema()::text)",
                &[&view.sql()],
            )
            .await?;
        let schema: Option<String> = row.try_get(0)?;
        if schema.is_none() {
            return Err(ConnectError::Usage(format!(
                "the search path has no schema for the view {view}; name it as SCHEMA.VIEW"
            )));
        }
        Ok(QualifiedName {
            schema,
            name: view.name.clone(),
        })
    }

    async fn check_view(
        &self,
        _: &Migration<RawValue>,
        view: &QualifiedName,
    ) -> Result<(), ConnectError> {
        if let Some(of) = migration_of_view(&self.reader, &self.table.schema, view).await? {
            return Err(ConnectError::State(format!(
                "{view} is the view of migration {of}, which alone can switch it; choose another name for the view of this one"
            )));
        }
        let row = self
            .reader
            .query_one("SELECT to_regclass($1) IS NOT NULL", &[&view.sql()])
            .await?;
        if !row.try_get::<_, bool>(0)? {
            return Ok(());
        }
        Err(ConnectError::State(format!(
            "{view} exists already, and no migration made it; choose another name for the view"
        )))
    }

    /// In one transaction; the view is made if it is not there. Rights on the view stay.
    async fn show(
        &mut self,
        migration: &Migration<RawValue>,
        view: &QualifiedName,
        shown: Shown,
        lock_timeout: Duration,
    ) -> Result<(), ConnectError> {
        let table = self.table.clone();
        let transaction = self.writer().transaction().await?;
        // A number, so nothing is spliced that could be more than one.
        transaction
            .batch_execute(&format!(
                "SET LOCAL lock_timeout = {}",
                lock_timeout.as_millis().clamp(1, 3_600_000)
            ))
            .await?;
        transaction
            .batch_execute(&statement(&table, migration, view, shown))
            .await?;
        let to_new = shown == Shown::New;
        note_view(&transaction, &table, &migration.name, view, to_new).await?;
        Ok(transaction.commit().await?)
    }

    async fn remove(&mut self, migration: &Migration<RawValue>) -> Result<(), ConnectError> {
        let table = self.table.clone();
        let transaction = self.writer().transaction().await?;
        transaction
            .batch_execute(&format!("DROP TABLE {}", migration.copies.sql()))
            .await?;
        forget(&transaction, &table.schema, &table.name, &migration.name).await?;
        Ok(transaction.commit().await?)
    }
}

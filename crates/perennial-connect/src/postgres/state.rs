//! What the database knows about a migration: one row of a table of ours, beside the migrated one.

use tokio_postgres::{Client, GenericClient, Row};

use super::identifier::quote;
use super::table::VectorTable;
use super::wire::RawValue;
use crate::engine::{Migration, Origin, Progress, copies_name};
use crate::error::ConnectError;
use crate::qualified_name::{QualifiedName, check_identifier};

/// The table of migrations, in the schema of the migrated table.
const TABLE: &str = "perennial_migrations";

fn table_of(schema: &str) -> String {
    format!("{}.{}", quote(schema), quote(TABLE))
}

/// Looks a migration up by the migrated table.
pub(super) async fn find_migration(
    client: &Client,
    schema: &str,
    table: &str,
    name: &str,
) -> Result<Option<Migration<RawValue>>, ConnectError> {
    let row = client
        .query_one("SELECT to_regclass($1) IS NOT NULL", &[&table_of(schema)])
        .await?;
    if !row.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let query = format!(
        "SELECT key_column, vector_column, copies, dimension, bridge, certificate, first_pass_done, last_key, file, file_rows, \
         view_schema, view_name, shows_new FROM {} WHERE source_table = $1 AND name = $2",
        table_of(schema)
    );
    let row = client.query_opt(&query, &[&table, &name]).await?;
    row.map(|row| migration_of(&row, schema, name)).transpose()
}

fn migration_of(row: &Row, schema: &str, name: &str) -> Result<Migration<RawValue>, ConnectError> {
    let bridge: Option<String> = row.try_get(4)?;
    let certificate: Option<String> = row.try_get(5)?;
    let dim: i32 = row.try_get(3)?;
    let file: Option<String> = row.try_get(8)?;
    let file_rows: i64 = row.try_get(9)?;
    let view: Option<String> = row.try_get(11)?;
    let shows_new: bool = row.try_get(12)?;
    let view_schema: Option<String> = row.try_get(10)?;
    Ok(Migration {
        name: name.to_owned(),
        key: row.try_get(0)?,
        vector: row.try_get(1)?,
        copies: QualifiedName {
            schema: Some(schema.to_owned()),
            name: row.try_get(2)?,
        },
        dim: usize::try_from(dim)
            .map_err(|_| ConnectError::Value(format!("a migration of {dim} dimensions")))?,
        origin: Origin::of(bridge, certificate),
        first_pass_done: row.try_get(6)?,
        place: row.try_get::<_, Option<Vec<u8>>>(7)?.map(RawValue),
        file: file.map(|file| (file, file_rows.max(0) as u64)),
        view: view.map(|name| {
            let schema = view_schema;
            (QualifiedName { schema, name }, shows_new)
        }),
    })
}

/// Makes the table of the copies and notes the migration, in one transaction.
///
/// # Errors
/// [`ConnectError::State`] if a table of that name is there and is not ours.
pub(super) async fn begin_migration(
    client: &mut Client,
    table: &VectorTable,
    name: &str,
    dim: usize,
    origin: &Origin,
) -> Result<(), ConnectError> {
    let copies = copies_name(&table.name, name);
    check_identifier("the table of the copies", &copies).map_err(|error| {
        ConnectError::Usage(format!("{error}; choose a shorter name for the migration"))
    })?;
    let copies_sql = format!("{}.{}", quote(&table.schema), quote(&copies));
    let (key, vector) = (quote(&table.key), quote(&table.vector));
    let transaction = client.transaction().await?;
    let row = transaction
        .query_one("SELECT to_regclass($1) IS NOT NULL", &[&copies_sql])
        .await?;
    if row.try_get(0)? {
        return Err(ConnectError::State(format!(
            "{}.{copies} exists already, and no migration of this name made it; choose another --name, or drop it",
            table.schema
        )));
    }
    let of_migrations = table_of(&table.schema);
    transaction
        .batch_execute(&format!(
            "CREATE TABLE IF NOT EXISTS {of_migrations} (source_table text NOT NULL, name text NOT NULL, key_column text NOT NULL, \
             vector_column text NOT NULL, copies text NOT NULL, dimension integer NOT NULL, bridge text, certificate text, \
             first_pass_done boolean NOT NULL DEFAULT false, last_key bytea, file text, file_rows bigint NOT NULL DEFAULT 0, \
             rows_written bigint NOT NULL DEFAULT 0, view_schema text, view_name text, shows_new boolean NOT NULL DEFAULT false, \
             created_at timestamptz NOT NULL DEFAULT now(), written_at timestamptz, PRIMARY KEY (source_table, name)); \
             CREATE TABLE {copies_sql} AS SELECT t.{key}, t.xmin AS perennial_source, NULL::{} AS {vector} FROM {} t WITH NO DATA; \
             ALTER TABLE {copies_sql} ADD PRIMARY KEY ({key}), ALTER COLUMN {vector} SET NOT NULL",
            table.vector_type(dim),
            table.sql()
        ))
        .await?;
    let (bridge, certificate) = origin.hashes();
    let dimension = i32::try_from(dim)
        .map_err(|_| ConnectError::Usage(format!("{dim} dimensions are too many")))?;
    let insert = format!(
        "INSERT INTO {of_migrations} (source_table, name, key_column, vector_column, copies, dimension, bridge, certificate) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
    );
    transaction
        .execute(
            &insert,
            &[
                &table.name,
                &name,
                &table.key,
                &table.vector,
                &copies,
                &dimension,
                &bridge,
                &certificate,
            ],
        )
        .await?;
    Ok(transaction.commit().await?)
}

/// Notes progress.
pub(super) async fn note(
    client: &impl GenericClient,
    table: &VectorTable,
    migration: &str,
    progress: &Progress<RawValue>,
    written: u64,
) -> Result<(), ConnectError> {
    let written = written as i64;
    let update = |set: &str| {
        format!(
            "UPDATE {} SET rows_written = rows_written + $3, written_at = now(){set} WHERE source_table = $1 AND name = $2",
            table_of(&table.schema)
        )
    };
    let changed = match progress {
        Progress::Rows => {
            client
                .execute(&update(""), &[&table.name, &migration, &written])
                .await?
        }
        Progress::Place(key) => {
            client
                .execute(
                    &update(", last_key = $4"),
                    &[&table.name, &migration, &written, &key.0],
                )
                .await?
        }
        Progress::FirstPass => {
            client
                .execute(
                    &update(", first_pass_done = true, last_key = NULL"),
                    &[&table.name, &migration, &written],
                )
                .await?
        }
        Progress::File { sha256, rows } => {
            client
                .execute(
                    &update(", file = $4, file_rows = $5"),
                    &[&table.name, &migration, &written, sha256, &(*rows as i64)],
                )
                .await?
        }
    };
    if changed == 1 {
        return Ok(());
    }
    Err(ConnectError::State(format!(
        "migration {migration} of {}.{} is gone; somebody cleaned it while it ran",
        table.schema, table.name
    )))
}

/// Notes which vectors a view shows.
pub(super) async fn note_view(
    client: &impl GenericClient,
    table: &VectorTable,
    migration: &str,
    view: &QualifiedName,
    shows_new: bool,
) -> Result<(), ConnectError> {
    let update = format!(
        "UPDATE {} SET view_schema = $3, view_name = $4, shows_new = $5 WHERE source_table = $1 AND name = $2",
        table_of(&table.schema)
    );
    client
        .execute(
            &update,
            &[
                &table.name,
                &migration,
                &view.schema,
                &view.name,
                &shows_new,
            ],
        )
        .await?;
    Ok(())
}

/// The migration that a view belongs to, by its name and its table.
pub(super) async fn migration_of_view(
    client: &Client,
    schema: &str,
    view: &QualifiedName,
) -> Result<Option<String>, ConnectError> {
    let query = format!(
        "SELECT name, source_table FROM {} WHERE view_schema = $1 AND view_name = $2",
        table_of(schema)
    );
    let found = client.query(&query, &[&view.schema, &view.name]).await?;
    let named = |row: &Row| -> Result<String, ConnectError> {
        let (name, table): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        Ok(format!("{name} of {schema}.{table}"))
    };
    found.first().map(named).transpose()
}

/// Removes a migration's row, and the table of migrations with the last of them.
pub(super) async fn forget(
    client: &impl GenericClient,
    schema: &str,
    table: &str,
    migration: &str,
) -> Result<(), ConnectError> {
    let of_migrations = table_of(schema);
    // A migration that another session is beginning must not be dropped with the table: its row shows only when that session is done.
    client
        .batch_execute(&format!(
            "LOCK TABLE {of_migrations} IN ACCESS EXCLUSIVE MODE"
        ))
        .await?;
    let delete = format!("DELETE FROM {of_migrations} WHERE source_table = $1 AND name = $2");
    client.execute(&delete, &[&table, &migration]).await?;
    let left = client
        .query_one(&format!("SELECT count(*) FROM {of_migrations}"), &[])
        .await?;
    if left.try_get::<_, i64>(0)? == 0 {
        client
            .batch_execute(&format!("DROP TABLE {of_migrations}"))
            .await?;
    }
    Ok(())
}

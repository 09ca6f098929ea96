//! A session with one table: a connection that reads it, one that writes copies, and one that reads ahead of that.

use tokio_postgres::Client;

use super::address::PostgresAddress;
use super::connection::connect_for_migration;
use super::session::lock;
use super::state::{begin_migration, find_migration};
use super::table::VectorTable;
use super::wire::RawValue;
use crate::engine::{Access, Engine, Migration, Origin, Target, required};
use crate::error::ConnectError;
use crate::qualified_name::QualifiedName;

/// The usual names of a key and of a column of vectors.
const KEY: &str = "id";
const VECTOR: &str = "embedding";

/// A session with a table.
pub(crate) struct Postgres {
    pub(super) table: VectorTable,
    pub(super) reader: Client,
    writer: Option<Client>,
    address: PostgresAddress,
    access: Access,
    /// Whether rows are read ahead, on a connection of their own: not by a rate, and not where nothing is written.
    reads_ahead: bool,
}

impl Postgres {
    /// The connections that read and write.
    pub(super) fn both(&mut self) -> (&Client, &mut Client) {
        let writer = self.writer.as_mut();
        (
            &self.reader,
            writer.expect("whoever writes opened the session for writing"),
        )
    }

    /// A further connection, where rows are read ahead.
    pub(super) async fn ahead(&self) -> Result<Option<Client>, ConnectError> {
        match self.reads_ahead {
            true => Ok(Some(connect_for_migration(&self.address).await?)),
            false => Ok(None),
        }
    }

    /// The table as it is now.
    async fn found(&self) -> Result<VectorTable, ConnectError> {
        let table = &self.table;
        let place = QualifiedName {
            schema: Some(table.schema.clone()),
            name: table.name.clone(),
        };
        VectorTable::find(&self.reader, &place, &table.key, &table.vector).await
    }

    /// The connection that writes.
    pub(super) fn writer(&mut self) -> &mut Client {
        self.both().1
    }
}

async fn reader(address: &PostgresAddress, access: Access) -> Result<Client, ConnectError> {
    let reader = connect_for_migration(address).await?;
    if access == Access::Read {
        reader
            .batch_execute("SET default_transaction_read_only = on")
            .await?;
    }
    Ok(reader)
}

async fn writer(address: &PostgresAddress, access: Access) -> Result<Option<Client>, ConnectError> {
    Ok(match access {
        Access::Write => Some(connect_for_migration(address).await?),
        Access::Read | Access::Probe => None,
    })
}

impl Engine for Postgres {
    type Address = PostgresAddress;
    type Key = RawValue;
    /// The id of the transaction that wrote the row.
    type Source = u32;

    async fn open(
        address: &PostgresAddress,
        target: &Target<'_>,
        access: Access,
    ) -> Result<Self, ConnectError> {
        let reader = reader(address, access).await?;
        let writer = writer(address, access).await?;
        let (key, vector) = (target.key.unwrap_or(KEY), target.vector.unwrap_or(VECTOR));
        let table = VectorTable::find(&reader, target.table, key, vector).await?;
        Ok(Self {
            table,
            reader,
            writer,
            address: address.clone(),
            access,
            reads_ahead: access == Access::Write && target.rate.is_none(),
        })
    }

    async fn open_migration(
        address: &PostgresAddress,
        table: &QualifiedName,
        name: &str,
        access: Access,
    ) -> Result<(Self, Migration<RawValue>), ConnectError> {
        let reader = reader(address, access).await?;
        let row = reader
            .query_opt(
                "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c \
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)",
                &[&table.sql()],
            )
            .await?;
        let found = match row {
            Some(row) => {
                let (schema, plain): (String, String) = (row.try_get(0)?, row.try_get(1)?);
                find_migration(&reader, &schema, &plain, name).await?
            }
            None => None,
        };
        let migration = required(found, table, name)?;
        let (key, vector) = (&migration.key, &migration.vector);
        let engine = Self {
            table: VectorTable::find(&reader, table, key, vector).await?,
            writer: writer(address, access).await?,
            reader,
            address: address.clone(),
            access,
            reads_ahead: false,
        };
        Ok((engine, migration))
    }

    async fn reconnect(&mut self) -> Result<(), ConnectError> {
        self.reader = reader(&self.address, self.access).await?;
        let was = self.table.clone();
        let now = self.found().await?;
        if (&now.key_type, now.kind, now.dim) != (&was.key_type, was.kind, was.dim) {
            return Err(ConnectError::State(format!(
                "the columns of {}.{} changed their types while the connection was broken; start over",
                was.schema, was.name
            )));
        }
        self.table = now;
        Ok(())
    }

    fn vector(&self) -> &str {
        &self.table.vector
    }

    fn key(&self) -> &str {
        &self.table.key
    }

    fn dim(&self) -> Option<usize> {
        self.table.dim
    }

    fn estimated_rows(&self) -> Option<u64> {
        self.table.estimated_rows
    }

    async fn find(&self, name: &str) -> Result<Option<Migration<RawValue>>, ConnectError> {
        find_migration(&self.reader, &self.table.schema, &self.table.name, name).await
    }

    async fn begin(&mut self, name: &str, dim: usize, origin: &Origin) -> Result<(), ConnectError> {
        let table = self.table.clone();
        begin_migration(self.writer(), &table, name, dim, origin).await
    }

    async fn lock(&mut self, name: &str) -> Result<(), ConnectError> {
        let table = self.table.clone();
        lock(self.writer(), &table, name).await?;
        // Whoever held the lock before may have waited for long, and columns may have come meanwhile.
        self.table = self.found().await?;
        Ok(())
    }

    /// The lock goes with the connection.
    async fn release(&mut self) {}
}

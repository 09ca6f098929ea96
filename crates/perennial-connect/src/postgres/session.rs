//! The lock of a migration, and the end of a wait.

use std::future::Future;
use std::time::Duration;

use tokio_postgres::Client;

use super::table::VectorTable;
use crate::error::ConnectError;

/// How long a run waits for the lock of an earlier one, whose session may take a while to notice that its client is gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long one statement may take. A server that hangs without closing its connections is noticed by this alone.
const STATEMENT: Duration = Duration::from_secs(900);

/// Takes the lock of a migration for the life of a connection.
///
/// # Errors
/// [`ConnectError::Busy`] if another session holds it.
pub(super) async fn lock(
    client: &Client,
    table: &VectorTable,
    migration: &str,
) -> Result<(), ConnectError> {
    let what = format!("perennial:{}.{}:{migration}", table.schema, table.name);
    let begun = tokio::time::Instant::now();
    loop {
        let row = client
            .query_one(
                "SELECT pg_try_advisory_lock(hashtextextended($1, 0))",
                &[&what],
            )
            .await?;
        if row.try_get(0)? {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(ConnectError::Busy(format!(
                "another process works at migration {migration} of {}.{}; wait for it, or stop it",
                table.schema, table.name
            )));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Gives up waiting for an answer after a long while.
///
/// # Errors
/// Those of the operation, and [`ConnectError::Connection`] if it does not end.
pub(super) async fn within<T>(
    operation: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    match tokio::time::timeout(STATEMENT, operation).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::Connection {
            server: "the database".to_owned(),
            problem: format!("gave no answer for {} s", STATEMENT.as_secs()),
        }),
    }
}

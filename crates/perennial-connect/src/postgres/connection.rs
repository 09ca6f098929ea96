//! Connections.

use tokio_postgres::{CancelToken, Client};

use super::address::PostgresAddress;
use crate::error::ConnectError;

/// What every session sets: waiting for locks has an end, since whoever waits for a lock holds up others; and the server notices within minutes
/// when the network to this client is gone, since the session holds the migration's lock until then.
const SESSION: &str = "SET client_min_messages = warning; SET lock_timeout = '30s'; \
    SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10";

/// What sessions of migrations set besides. Limits of time that a role has for its programs would end a count or a sort of a large table, as they
/// would a dump; each statement of a run has its own. And where policies hide rows, statements fail: rows that are hidden would pass for rows that
/// are gone, and their copies be removed.
const MIGRATION: &str = "SET statement_timeout = 0; SET row_security = off; \
    SELECT set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name IN ('transaction_timeout', \
    'idle_in_transaction_session_timeout', 'idle_session_timeout')";

/// Connects for a step of a migration.
pub(super) async fn connect_for_migration(
    address: &PostgresAddress,
) -> Result<Client, ConnectError> {
    let client = connect(address).await?;
    client.batch_execute(MIGRATION).await?;
    Ok(client)
}

/// Connects. The connection ends when the client is dropped.
pub(crate) async fn connect(address: &PostgresAddress) -> Result<Client, ConnectError> {
    let named = |error: ConnectError| match error {
        ConnectError::Connection { problem, .. } => ConnectError::Connection {
            server: address.to_string(),
            problem,
        },
        other => other,
    };
    #[cfg(feature = "tls")]
    let result = address.config().connect(super::tls::Tls::new()).await;
    #[cfg(not(feature = "tls"))]
    let result = address.config().connect(tokio_postgres::NoTls).await;
    let (client, connection) = result.map_err(|error| named(error.into()))?;
    tokio::spawn(async move {
        // Whoever waits for an answer gets the error as well.
        if let Err(error) = connection.await {
            tracing::debug!("the connection to the database ended: {error}");
        }
    });
    client
        .batch_execute(SESSION)
        .await
        .map_err(|error| named(error.into()))?;
    Ok(client)
}

/// Asks the server to stop what a connection has it do. That it cannot be asked is no error: it stops later by itself.
pub(crate) async fn cancel(token: &CancelToken) {
    #[cfg(feature = "tls")]
    let asked = token.cancel_query(super::tls::Tls::new()).await;
    #[cfg(not(feature = "tls"))]
    let asked = token.cancel_query(tokio_postgres::NoTls).await;
    if let Err(error) = asked {
        tracing::debug!("the database could not be asked to stop: {error}");
    }
}

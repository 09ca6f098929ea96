//! Everything of a migration is removed: the copies with their index, and what we know about them.

use serde::Serialize;

use super::id::shown;
use super::opened::open;
use super::session::lock;
use super::state::forget;
use crate::error::ConnectError;
use crate::postgres::{Address, QualifiedName, connect, wait};

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CleanReport {
    /// The table of the copies.
    pub dropped: String,
    /// The view, which stays and shows the old vectors.
    pub view: Option<String>,
}

/// Removes a migration. The migrated table stays as it is, and a view stays, showing the old vectors.
///
/// # Errors
/// [`ConnectError::Refused`] while a view shows the new vectors.
pub fn clean(
    address: &Address,
    table: &QualifiedName,
    name: &str,
) -> Result<CleanReport, ConnectError> {
    wait(async {
        let mut client = connect(address).await?;
        let (found, _) = open(&client, table, name).await?;
        lock(&client, &found, name).await?;
        // Whoever held the lock before may have switched the view.
        let (found, migration) = open(&client, table, name).await?;
        if let Some((view, true)) = &migration.view {
            return Err(ConnectError::Refused(format!(
                "view {view} shows the vectors of {}; take it back first with `migrate rollback`",
                shown(table, name)
            )));
        }
        let transaction = client.transaction().await?;
        transaction
            .batch_execute(&format!("DROP TABLE {}", migration.copies.sql()))
            .await?;
        forget(&transaction, &found.schema, &found.name, name).await?;
        transaction.commit().await?;
        Ok(CleanReport {
            dropped: migration.copies.to_string(),
            view: migration.view.map(|(view, _)| view.to_string()),
        })
    })
}

//! Everything of a migration is removed: the copies with their index, and what we know about them.

use serde::Serialize;

use super::dispatch::dispatch;
use crate::address::Address;
use crate::engine::{Access, Showing, required, shown};
use crate::error::ConnectError;
use crate::qualified_name::QualifiedName;

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CleanReport {
    /// Where the copies were.
    pub dropped: String,
    /// The view, which stays and shows the old vectors.
    pub view: Option<String>,
}

/// Removes a migration. What was migrated stays as it is, and a view or alias stays, showing the old vectors.
///
/// # Errors
/// [`ConnectError::Refused`] while a view shows the new vectors.
pub fn clean(
    address: &Address,
    table: &QualifiedName,
    name: &str,
) -> Result<CleanReport, ConnectError> {
    dispatch!(address, clean_in(table, name))
}

async fn clean_in<E: Showing>(
    address: &E::Address,
    table: &QualifiedName,
    name: &str,
) -> Result<CleanReport, ConnectError> {
    let (mut engine, _) = E::open_migration(address, table, name, Access::Write).await?;
    engine.lock(name).await?;
    let result = locked(&mut engine, table, name).await;
    engine.release().await;
    result
}

async fn locked<E: Showing>(
    engine: &mut E,
    table: &QualifiedName,
    name: &str,
) -> Result<CleanReport, ConnectError> {
    // Whoever held the lock before may have switched the view.
    let migration = required(engine.find(name).await?, table, name)?;
    if let Some((view, true)) = &migration.view {
        return Err(ConnectError::Refused(format!(
            "{view} shows the vectors of {}; take it back first with `migrate rollback`",
            shown(table, name)
        )));
    }
    engine.remove(&migration).await?;
    Ok(CleanReport {
        dropped: migration.copies.to_string(),
        view: migration.view.map(|(view, _)| view.to_string()),
    })
}

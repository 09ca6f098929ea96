//! A view shows the new vectors, or the old ones again.

use std::time::Duration;

use serde::Serialize;
use tokio_postgres::Client;

use super::id::shown;
use super::opened::{exists, open};
use super::session::lock;
use super::standing::Standing;
use super::state::note_view;
use super::view::{Shown, statement};
use crate::error::ConnectError;
use crate::postgres::{Address, QualifiedName, connect, wait};

/// A switch of a view.
#[derive(Debug, Clone)]
pub struct SwitchRequest {
    /// The migrated table.
    pub table: QualifiedName,
    /// The migration.
    pub name: String,
    /// The view that applications read; without one, that of the last switch.
    pub view: Option<QualifiedName>,
    /// Whether the view is to show the new vectors.
    pub to_new: bool,
    /// How many rows may lack an up-to-date copy. They are not found by the new vectors, or by outdated ones.
    pub allow_pending: u64,
    /// How long to wait for sessions that read the view, before giving up.
    pub lock_timeout: Duration,
}

/// What a switch did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SwitchReport {
    /// The view.
    pub view: String,
    /// `new` or `old`.
    pub shows: &'static str,
    /// Rows and copies before the switch to new vectors.
    pub standing: Option<Standing>,
}

/// Makes a view show old or new vectors, in one transaction; the view is made if it is not there. Rights on the view stay.
///
/// Sessions see the one or the other and never neither. Before it shows new vectors, it is checked that the rows have copies.
///
/// # Errors
/// [`ConnectError::Refused`] if rows lack copies, [`ConnectError::State`] if something else has the view's name.
pub fn switch(address: &Address, request: &SwitchRequest) -> Result<SwitchReport, ConnectError> {
    wait(async {
        let mut client = connect(address).await?;
        let (table, _) = open(&client, &request.table, &request.name).await?;
        lock(&client, &table, &request.name).await?;
        // Whoever held the lock before may have switched the view.
        let (table, migration) = open(&client, &request.table, &request.name).await?;
        let ours = migration.view.as_ref().map(|(view, _)| view);
        let asked = match &request.view {
            Some(view) => Some(placed(&client, view).await?),
            None => None,
        };
        let view = asked.as_ref().or(ours).ok_or_else(|| {
            ConnectError::Usage(format!(
                "{} has no view yet; name the one that applications shall read with --view",
                shown(&request.table, &request.name)
            ))
        })?;
        if ours.is_some_and(|ours| ours != view) {
            return Err(ConnectError::State(format!(
                "{} has the view {} already; switch that one",
                shown(&request.table, &request.name),
                ours.map(ToString::to_string).unwrap_or_default()
            )));
        }
        if ours.is_none() && exists(&client, view).await? {
            return Err(ConnectError::State(format!(
                "{view} exists already, and no migration made it; choose another name for the view"
            )));
        }
        let mut standing = None;
        if request.to_new {
            let now = Standing::of(&client, &table, &migration).await?;
            if now.pending() > request.allow_pending {
                return Err(ConnectError::Refused(format!(
                    "{} rows have no copy and {} were written after theirs was made; run again to catch up, or allow as many with --allow-pending",
                    now.missing, now.changed
                )));
            }
            standing = Some(now);
        }
        let to = match request.to_new {
            true => Shown::New,
            false => Shown::Old,
        };
        let transaction = client.transaction().await?;
        // A number, so nothing is spliced that could be more than one.
        transaction
            .batch_execute(&format!(
                "SET LOCAL lock_timeout = {}",
                request.lock_timeout.as_millis().clamp(1, 3_600_000)
            ))
            .await?;
        transaction
            .batch_execute(&statement(&table, &migration, view, to))
            .await?;
        note_view(&transaction, &table, &request.name, view, request.to_new).await?;
        transaction.commit().await?;
        Ok(SwitchReport {
            view: view.to_string(),
            shows: if request.to_new { "new" } else { "old" },
            standing,
        })
    })
}

/// The view with its schema: a later session may have another search path, and must not make a second view of that name.
async fn placed(client: &Client, view: &QualifiedName) -> Result<QualifiedName, ConnectError> {
    if view.schema.is_some() {
        return Ok(view.clone());
    }
    let row = client
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

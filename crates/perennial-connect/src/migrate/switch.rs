//! A view, or an alias, shows the new vectors, or the old ones again.

use std::time::Duration;

use serde::Serialize;

use super::dispatch::dispatch;
use crate::address::Address;
use crate::engine::{Access, Copying, Migration, Showing, Shown, Standing, required, shown};
use crate::error::ConnectError;
use crate::observer::Silent;
use crate::qualified_name::QualifiedName;

/// A switch of a view.
#[derive(Debug, Clone)]
pub struct SwitchRequest {
    /// The migrated table or collection.
    pub table: QualifiedName,
    /// The migration.
    pub name: String,
    /// The view or alias that applications read; without one, that of the last switch.
    pub view: Option<QualifiedName>,
    /// Whether the view is to show the new vectors.
    pub to_new: bool,
    /// How many rows may lack an up-to-date copy. They are not found by the new vectors, or by outdated ones.
    pub allow_pending: u64,
    /// How long to wait for sessions that read the view, before giving up. An alias waits for nobody.
    pub lock_timeout: Duration,
}

/// What a switch did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SwitchReport {
    /// The view.
    pub view: String,
    /// `new` or `old`.
    pub shows: &'static str,
    /// Rows and copies before the switch to new vectors.
    pub standing: Option<Standing>,
    /// Rows that were written to the old vectors while the alias moved and lack an up-to-date copy, beyond those that were allowed to. Nothing
    /// where programs write elsewhere, as in PostgreSQL.
    pub late: Option<u64>,
}

/// Makes a view show old or new vectors, in one step; it is made if it is not there. Rights on a view stay.
///
/// Programs see the one or the other and never neither. Before it shows new vectors, it is checked that the rows have copies.
///
/// # Errors
/// [`ConnectError::Refused`] if rows lack copies, [`ConnectError::State`] if something else has the view's name.
pub fn switch(address: &Address, request: &SwitchRequest) -> Result<SwitchReport, ConnectError> {
    dispatch!(address, switch_in(request))
}

async fn switch_in<E: Copying + Showing>(
    address: &E::Address,
    request: &SwitchRequest,
) -> Result<SwitchReport, ConnectError> {
    let (table, name) = (&request.table, &request.name);
    let (mut engine, _) = E::open_migration(address, table, name, Access::Write).await?;
    engine.lock(name).await?;
    let result = locked(&mut engine, request).await;
    engine.release().await;
    result
}

async fn locked<E: Copying + Showing>(
    engine: &mut E,
    request: &SwitchRequest,
) -> Result<SwitchReport, ConnectError> {
    let (table, name) = (&request.table, &request.name);
    // Whoever held the lock before may have switched the view.
    let migration = required(engine.find(name).await?, table, name)?;
    let view = view(engine, &migration, request).await?;
    let mut standing = None;
    if request.to_new {
        if E::WRITES_FOLLOW {
            // No row hides a copy that is shown by itself.
            engine.remove_gone(&migration, &Silent).await?;
        }
        let now = engine.standing(&migration).await?;
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
    let timeout = request.lock_timeout;
    engine.show(&migration, &view, to, timeout).await?;
    let late = match standing {
        Some(before) if E::WRITES_FOLLOW => {
            engine.remove_gone(&migration, &Silent).await?;
            let after = engine.standing(&migration).await?;
            Some(after.pending().saturating_sub(before.pending()))
        }
        _ => None,
    };
    Ok(SwitchReport {
        view: view.to_string(),
        shows: if request.to_new { "new" } else { "old" },
        standing,
        late,
    })
}

/// The view to switch: the one that is asked for, or that of the last switch.
async fn view<E: Showing>(
    engine: &E,
    migration: &Migration<E::Key>,
    request: &SwitchRequest,
) -> Result<QualifiedName, ConnectError> {
    let which = shown(&request.table, &request.name);
    let asked = match &request.view {
        Some(view) => Some(engine.placed(view).await?),
        None => None,
    };
    match (migration.view.as_ref().map(|(view, _)| view), asked) {
        (None, None) => Err(ConnectError::Usage(format!(
            "{which} has no view yet; name the one that applications shall read with --view"
        ))),
        (Some(ours), Some(asked)) if *ours != asked => Err(ConnectError::State(format!(
            "{which} has the view {ours} already; switch that one"
        ))),
        (Some(ours), _) => Ok(ours.clone()),
        (None, Some(asked)) => {
            engine.check_view(migration, &asked).await?;
            Ok(asked)
        }
    }
}

//! The approximate index of the copies: like the one that the old vectors have.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::connection::cancel;
use super::identifier::{literal, quote};
use super::table::{VectorIndex, VectorTable};
use super::wire::RawValue;
use crate::engine::Migration;
use crate::error::ConnectError;
use crate::observer::Observer;
use crate::qualified_name::check_identifier;

/// How often a long build looks whether it shall stop.
const ATTENTION: Duration = Duration::from_millis(200);

/// The copies as a table with vectors.
pub(super) async fn copies_of(
    client: &Client,
    migration: &Migration<RawValue>,
) -> Result<VectorTable, ConnectError> {
    VectorTable::find(client, &migration.copies, &migration.key, &migration.vector).await
}

/// Builds the index of the copies if the old vectors have one and the copies have none; returns the seconds that it took.
///
/// It is built with the method, operators and settings of the first index of the old vectors. Writes to the copies wait meanwhile; the
/// migrated table is not concerned.
pub(super) async fn build(
    client: &mut Client,
    table: &VectorTable,
    migration: &Migration<RawValue>,
    observer: &mut dyn Observer,
) -> Result<Option<f64>, ConnectError> {
    let Some(like) = table.indexes.first() else {
        return Ok(None);
    };
    if !copies_of(client, migration).await?.indexes.is_empty() {
        return Ok(None);
    }
    observer.note(&format!(
        "building an index of the new vectors like {} ({})",
        like.name, like.method
    ));
    let begun = Instant::now();
    let create = statement(like, migration)?;
    let token = client.cancel_token();
    let transaction = client.transaction().await?;
    transaction
        .batch_execute("SET LOCAL statement_timeout = 0")
        .await?;
    {
        let mut building = std::pin::pin!(transaction.batch_execute(&create));
        loop {
            tokio::select! {
                built = &mut building => break built?,
                () = tokio::time::sleep(ATTENTION) => {}
            }
            if observer.stopped() {
                // Otherwise the server would go on building for nobody.
                cancel(&token).await;
                return Err(ConnectError::Interrupted);
            }
        }
    }
    transaction.commit().await?;
    Ok(Some(begun.elapsed().as_secs_f64()))
}

fn statement(like: &VectorIndex, migration: &Migration<RawValue>) -> Result<String, ConnectError> {
    let mut options = Vec::new();
    for option in &like.options {
        let (name, value) = option.split_once('=').unwrap_or((option, "true"));
        check_identifier("the index option", name)?;
        options.push(format!("{} = {}", quote(name), literal(value)));
    }
    let with = match options.is_empty() {
        true => String::new(),
        false => format!(" WITH ({})", options.join(", ")),
    };
    Ok(format!(
        "CREATE INDEX ON {} USING {} ({} {}.{}){with}",
        migration.copies.sql(),
        quote(&like.method),
        quote(&migration.vector),
        quote(&like.operators_schema),
        quote(&like.operators)
    ))
}

//! An export over several connections: its queries, and the place that it goes on from.

use tokio_postgres::{Client, Statement};

use super::table::VectorTable;
use super::wire::RawValue;
use crate::error::ConnectError;

/// A query that is prepared anew on every connection.
pub(crate) struct Query {
    sql: String,
    prepared: Option<Statement>,
}

impl Query {
    pub(super) fn new(sql: String) -> Self {
        Self {
            sql,
            prepared: None,
        }
    }

    pub(super) async fn on(&mut self, client: &Client) -> Result<Statement, ConnectError> {
        if let Some(prepared) = &self.prepared {
            return Ok(prepared.clone());
        }
        let prepared = client.prepare(&self.sql).await?;
        Ok(self.prepared.insert(prepared).clone())
    }

    /// What was prepared was lost with its connection.
    pub(super) fn forget(&mut self) {
        self.prepared = None;
    }
}

/// A key as the place of an export: its bytes, with the type that they are of.
pub(super) fn place_text(key: &RawValue, table: &VectorTable) -> String {
    let mut text = format!("{}:", table.key_type);
    for byte in &key.0 {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

pub(super) fn place_of(text: &str, table: &VectorTable) -> Result<RawValue, ConnectError> {
    let bytes = text
        .strip_prefix(&table.key_type)
        .and_then(|rest| rest.strip_prefix(':'))
        .and_then(|digits| {
            let pairs = digits.as_bytes().chunks(2);
            let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            pairs.map(byte).collect::<Option<Vec<u8>>>()
        });
    bytes.map(RawValue).ok_or_else(|| {
        ConnectError::State(format!(
            "the export ended at {text:?}, which is no key of type {}; the type of {} was changed: remove the partial file and start over",
            table.key_type, table.key
        ))
    })
}

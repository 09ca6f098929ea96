//! Rows of an index to a file of vectors.

use perennial_core::{ItemId, Output, SpaceId};
use perennial_formats::{Format, Header, Label, Parts, VectorSet, VectorWriter, create};
use serde::Serialize;
use tokio_postgres::{Client, Row};

use super::batch::{Skipped, batch_rows};
use super::opened::find;
use super::pace::Pace;
use super::session::within;
use crate::error::ConnectError;
use crate::observer::Observer;
use crate::postgres::{
    Address, KeyArray, QualifiedName, Raw, RawValue, Target, VectorTable, connect, quote,
    read_vector, wait,
};

/// Which rows are exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// All with a vector.
    All,
    /// A sample without repetition. The same rows give the same sample of a seed, wherever they lie.
    Sample {
        /// How many.
        count: u64,
        /// The seed.
        seed: i64,
    },
    /// Those without a copy of this migration, and those that were written since it was made: what is to be embedded again.
    Pending(String),
}

/// An export.
#[derive(Debug, Clone)]
pub struct ExportRequest {
    /// The table.
    pub table: QualifiedName,
    /// Its key, which becomes the id.
    pub key: String,
    /// Its column of vectors.
    pub vector: String,
    /// A column that becomes the label.
    pub label: Option<String>,
    /// The name of the space in the file.
    pub space: Option<SpaceId>,
    /// Which rows.
    pub rows: Rows,
    /// The most rows per second.
    pub rate: Option<f64>,
}

/// What was exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportReport {
    /// Rows in the file.
    pub rows: u64,
    /// Their dimension.
    pub dim: usize,
    /// Rows that are not: another dimension than the first.
    pub skipped: Skipped,
    /// Rows that are not, because they have no label.
    pub without_label: u64,
}

/// Writes rows to a file, in the order of their key, each as it is when its batch is read. It only reads.
///
/// Numbers from 0 to 2^64 become ids that are numbers, and all other keys texts.
///
/// # Errors
/// [`ConnectError`]; a file of that name then stays as it was.
pub fn export(
    address: &Address,
    request: &ExportRequest,
    output: Output,
    format: Format,
    observer: &mut dyn Observer,
) -> Result<ExportReport, ConnectError> {
    wait(async {
        let client = connect(address).await?;
        client
            .batch_execute("SET default_transaction_read_only = on")
            .await?;
        let target = Target {
            table: &request.table,
            key: &request.key,
            vector: &request.vector,
        };
        let table = VectorTable::find(&client, target).await?;
        if let Some(label) = &request.label
            && !table.columns.contains(label)
        {
            return Err(ConnectError::State(format!(
                "{} has no column {label}; its columns are {}",
                request.table,
                table.columns.join(", ")
            )));
        }
        let dim = dimension(&client, &table).await?;
        let header = Header {
            dim,
            rows: None,
            space: request.space.clone(),
            format,
        };
        let mut file = File {
            writer: create(output, format, &header)?,
            table: &table,
            dim,
            labelled: request.label.is_some(),
            space: request.space.clone(),
            report: ExportReport {
                rows: 0,
                dim,
                skipped: Skipped::default(),
                without_label: 0,
            },
        };
        match request.rows {
            Rows::Sample { count, seed } => {
                sample(&client, &table, request, (count, seed), &mut file, observer).await?;
            }
            Rows::All | Rows::Pending(_) => {
                in_order(&client, &table, request, &mut file, observer).await?;
            }
        }
        let report = file.report.clone();
        file.writer.finish()?;
        Ok(report)
    })
}

/// The columns that are read, as SQL has them.
fn selected(table: &VectorTable, label: Option<&str>) -> String {
    let (key, vector) = (quote(&table.key), quote(&table.vector));
    let label = label.map_or("NULL".to_owned(), |label| format!("t.{}", quote(label)));
    format!("t.{key}, t.{key}::text, t.{vector}, {label}::text")
}

/// All rows, or the pending ones, by their key.
async fn in_order(
    client: &Client,
    table: &VectorTable,
    request: &ExportRequest,
    file: &mut File<'_>,
    observer: &mut dyn Observer,
) -> Result<(), ConnectError> {
    let (key, vector) = (quote(&table.key), quote(&table.vector));
    let mut from = format!("{} t", table.sql());
    let mut condition = format!("t.{vector} IS NOT NULL");
    if let Rows::Pending(name) = &request.rows {
        let migration = find(client, &request.table, name).await?;
        from += &format!(
            " LEFT JOIN {} s ON s.{key} = t.{key}",
            migration.copies.sql()
        );
        condition += &format!(" AND (s.{key} IS NULL OR s.perennial_source <> t.xmin)");
    }
    let select = format!(
        "SELECT {} FROM {from} WHERE {condition}",
        selected(table, request.label.as_deref())
    );
    let first = client
        .prepare(&format!("{select} ORDER BY t.{key} LIMIT $1"))
        .await?;
    let after = client
        .prepare(&format!(
            "{select} AND t.{key} > $1 ORDER BY t.{key} LIMIT $2"
        ))
        .await?;
    let limit = batch_rows(file.dim, request.rate);
    let mut pace = Pace::new(request.rate)?;
    let mut last: Option<RawValue> = None;
    loop {
        let most = limit as i64;
        let read = async {
            Ok(match &last {
                None => client.query(&first, &[&most]).await?,
                Some(key) => client.query(&after, &[key, &most]).await?,
            })
        };
        let rows = within(read).await?;
        last = match rows.last() {
            Some(row) => Some(RawValue(row.try_get::<_, Raw<'_>>(0)?.0.to_vec())),
            None => return Ok(()),
        };
        file.add(&rows)?;
        let total = table.estimated_rows.filter(|_| request.rows == Rows::All);
        observer.rows(file.report.rows, total);
        pace.after(rows.len(), observer).await?;
        if rows.len() < limit {
            return Ok(());
        }
    }
}

/// A seeded sample. The server orders keys by a hash, so that the sample depends on keys alone.
async fn sample(
    client: &Client,
    table: &VectorTable,
    request: &ExportRequest,
    (count, seed): (u64, i64),
    file: &mut File<'_>,
    observer: &mut dyn Observer,
) -> Result<(), ConnectError> {
    let (key, vector) = (quote(&table.key), quote(&table.vector));
    let choose = format!(
        "SELECT t.{key} FROM {} t WHERE t.{vector} IS NOT NULL ORDER BY hashtextextended(t.{key}::text, $1), t.{key} LIMIT $2",
        table.sql()
    );
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let rows = within(async { Ok(client.query(&choose, &[&seed, &count]).await?) }).await?;
    let keys: Result<Vec<RawValue>, ConnectError> = rows
        .iter()
        .map(|row| Ok(RawValue(row.try_get::<_, Raw<'_>>(0)?.0.to_vec())))
        .collect();
    let keys = keys?;
    let fetch = client
        .prepare(&format!(
            "SELECT {} FROM {} t WHERE t.{key} = ANY($1) AND t.{vector} IS NOT NULL ORDER BY t.{key}",
            selected(table, request.label.as_deref()),
            table.sql()
        ))
        .await?;
    let mut pace = Pace::new(request.rate)?;
    for some in keys.chunks(batch_rows(file.dim, request.rate)) {
        let read = async { Ok(client.query(&fetch, &[&KeyArray(some)]).await?) };
        file.add(&within(read).await?)?;
        observer.rows(file.report.rows, Some(keys.len() as u64));
        pace.after(some.len(), observer).await?;
    }
    Ok(())
}

/// The dimension of the column, or that of its first vector.
async fn dimension(client: &Client, table: &VectorTable) -> Result<usize, ConnectError> {
    if let Some(dim) = table.dim {
        return Ok(dim);
    }
    let (key, vector) = (quote(&table.key), quote(&table.vector));
    let query = format!(
        "SELECT {}.vector_dims({vector}) FROM {} WHERE {vector} IS NOT NULL ORDER BY {key} LIMIT 1",
        quote(&table.vector_schema),
        table.sql()
    );
    let row = client.query_opt(&query, &[]).await?.ok_or_else(|| {
        ConnectError::State(format!("{}.{} holds no vectors", table.schema, table.name))
    })?;
    Ok(row.try_get::<_, i32>(0)?.max(0) as usize)
}

/// The file as it grows.
struct File<'a> {
    writer: Box<dyn VectorWriter>,
    table: &'a VectorTable,
    dim: usize,
    labelled: bool,
    space: Option<SpaceId>,
    report: ExportReport,
}

impl File<'_> {
    fn add(&mut self, rows: &[Row]) -> Result<(), ConnectError> {
        let mut ids = Vec::with_capacity(rows.len());
        let mut labels = Vec::new();
        let mut vectors = Vec::with_capacity(rows.len() * self.dim);
        for row in rows {
            let id: String = row.try_get(1)?;
            let label: Option<String> = row.try_get(3)?;
            if self.labelled && label.is_none() {
                self.report.without_label += 1;
                continue;
            }
            let before = vectors.len();
            let raw: Raw<'_> = row.try_get(2)?;
            if read_vector(self.table.kind, raw.0, &mut vectors)? != self.dim {
                vectors.truncate(before);
                self.report.skipped.dimension += 1;
                continue;
            }
            ids.push(item_id(id)?);
            if let Some(label) = label {
                labels.push(read_label(label)?);
            }
        }
        if ids.is_empty() {
            return Ok(());
        }
        let set = VectorSet::from_parts(Parts {
            dim: self.dim,
            vectors,
            ids: Some(ids),
            labels: self.labelled.then_some(labels),
            payload: None,
            space: self.space.clone(),
        })?;
        self.report.rows += set.len() as u64;
        Ok(self.writer.write(&set)?)
    }
}

/// A key as an id: what is written as numbers are is a number.
fn item_id(text: String) -> Result<ItemId, ConnectError> {
    let number = text
        .parse()
        .ok()
        .filter(|number: &u64| number.to_string() == text);
    let id = number.map_or(ItemId::Text(text), ItemId::Number);
    id.check()
        .map_err(|error| ConnectError::Value(format!("a key that files cannot hold: {error}")))?;
    Ok(id)
}

fn read_label(text: String) -> Result<Label, ConnectError> {
    let number = text
        .parse()
        .ok()
        .filter(|number: &i64| number.to_string() == text);
    let label = number.map_or(Label::Text(text), Label::Number);
    label
        .check()
        .map_err(|error| ConnectError::Value(format!("a label that files cannot hold: {error}")))?;
    Ok(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_ids() {
        let id = |text: &str| item_id(text.to_owned()).ok();
        assert_eq!(id("12"), Some(ItemId::Number(12)));
        assert_eq!(id("-12"), Some(ItemId::Text("-12".to_owned())));
        assert_eq!(id("012"), Some(ItemId::Text("012".to_owned())));
        assert_eq!(id(""), None);
        assert_eq!(read_label("-3".to_owned()).unwrap(), Label::Number(-3));
        assert!(read_label("a\nb".to_owned()).is_err());
    }
}

//! A table with vectors, as the server's catalog describes it.

use tokio_postgres::Client;

use super::identifier::quote;
use super::partition_sizes::with_partitions;
use super::vector_type::VectorType;
use crate::error::ConnectError;
use crate::qualified_name::QualifiedName;

/// A column.
#[derive(Debug, Clone)]
struct Column {
    name: String,
    position: i16,
    type_name: String,
    type_schema: String,
    /// As SQL has it, qualified where it must be.
    type_sql: String,
    modifier: i32,
    not_null: bool,
}

/// An approximate index of vectors.
#[derive(Debug, Clone)]
pub(crate) struct VectorIndex {
    pub(crate) name: String,
    /// `hnsw` or `ivfflat`.
    pub(crate) method: String,
    /// What it orders by, such as `vector_cosine_ops`.
    pub(crate) operators: String,
    pub(crate) operators_schema: String,
    /// Its settings, such as `m=16`.
    pub(crate) options: Vec<String>,
    pub(crate) bytes: i64,
}

impl VectorIndex {
    /// The operator that an index orders by.
    pub(crate) fn operator(&self) -> Option<&'static str> {
        operator(&self.operators)
    }
}

/// The operator of a class of operators.
fn operator(class: &str) -> Option<&'static str> {
    let (_, distance) = class.split_once('_')?;
    match distance {
        "cosine_ops" => Some("<=>"),
        "l2_ops" => Some("<->"),
        "ip_ops" => Some("<#>"),
        "l1_ops" => Some("<+>"),
        _ => None,
    }
}

/// A table with a key and a column of vectors.
#[derive(Debug, Clone)]
pub(crate) struct VectorTable {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) key: String,
    /// The key's type, as SQL has it.
    pub(crate) key_type: String,
    pub(crate) vector: String,
    pub(crate) kind: VectorType,
    /// The schema that pgvector is installed in.
    pub(crate) vector_schema: String,
    /// The dimension that the column demands, where it demands one.
    pub(crate) dim: Option<usize>,
    /// All columns in their order.
    pub(crate) columns: Vec<String>,
    /// Those of them that hold JSON.
    pub(crate) json_columns: Vec<String>,
    /// Approximate indexes of the vectors.
    pub(crate) indexes: Vec<VectorIndex>,
    /// Rows by the server's statistics, where it has any.
    pub(crate) estimated_rows: Option<u64>,
}

impl VectorTable {
    /// Looks a table up and checks that it can be read row by row.
    pub(crate) async fn find(
        client: &Client,
        table: &QualifiedName,
        key: &str,
        vector: &str,
    ) -> Result<Self, ConnectError> {
        let state = |problem: String| ConnectError::State(problem);
        let found = client
            .query_opt(
                "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.reltuples, has_table_privilege(c.oid, 'SELECT') \
                 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)",
                &[&table.sql()],
            )
            .await?
            .ok_or_else(|| {
                state(format!(
                    "there is no table {table}; name it as SCHEMA.TABLE, with capitals as they are"
                ))
            })?;
        let (oid, schema, name): (u32, String, String) =
            (found.try_get(0)?, found.try_get(1)?, found.try_get(2)?);
        let relation: String = found.try_get(3)?;
        if !["r", "p"].contains(&relation.as_str()) {
            return Err(state(format!(
                "{table} is no table but a view, an index or the like; name the table that holds the vectors"
            )));
        }
        if !found.try_get::<_, bool>(5)? {
            return Err(state(format!(
                "the role may not read {table}; GRANT SELECT on it"
            )));
        }
        let estimated: f32 = found.try_get(4)?;
        let columns = columns(client, oid).await?;
        let column = |what: &str, name: &str| {
            columns
                .iter()
                .find(|column| column.name == name)
                .ok_or_else(|| {
                    let all: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
                    state(format!(
                        "{table} has no {what} column {name}; its columns are {}",
                        all.join(", ")
                    ))
                })
        };
        let key_column = column("key", key)?;
        let vector_column = column("vector", vector)?;
        let kind = VectorType::of(&vector_column.type_name).ok_or_else(|| {
            state(format!(
                "column {vector} of {table} is of type {}; vectors are read from vector and halfvec of pgvector",
                vector_column.type_sql
            ))
        })?;
        if !key_column.not_null || !is_unique(client, oid, key_column.position).await? {
            return Err(state(format!(
                "column {key} of {table} is not NOT NULL with a unique index of its own, so rows cannot be told apart by it; name the primary key"
            )));
        }
        Ok(Self {
            oid,
            schema,
            name,
            key: key.to_owned(),
            key_type: key_column.type_sql.clone(),
            vector: vector.to_owned(),
            kind,
            vector_schema: vector_column.type_schema.clone(),
            dim: usize::try_from(vector_column.modifier)
                .ok()
                .filter(|&dim| dim > 0),
            indexes: indexes(client, oid, vector_column.position).await?,
            json_columns: columns
                .iter()
                .filter(|column| ["json", "jsonb"].contains(&&*column.type_name))
                .map(|column| column.name.clone())
                .collect(),
            columns: columns.into_iter().map(|column| column.name).collect(),
            estimated_rows: (estimated >= 0.0).then_some(estimated as u64),
        })
    }

    /// Its name, qualified, as SQL has it.
    pub(crate) fn sql(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.name))
    }

    /// The type of its vectors with another dimension, as SQL has it.
    pub(crate) fn vector_type(&self, dim: usize) -> String {
        format!("{}.{}({dim})", quote(&self.vector_schema), self.kind.name())
    }

    /// The operator of an index's order, as SQL has it wherever pgvector is installed.
    pub(crate) fn operator_sql(&self, operator: &str) -> String {
        format!("OPERATOR({}.{operator})", quote(&self.vector_schema))
    }
}

async fn columns(client: &Client, oid: u32) -> Result<Vec<Column>, ConnectError> {
    let rows = client
        .query(
            "SELECT a.attname::text, a.attnum, t.typname::text, n.nspname::text, format_type(a.atttypid, -1), a.atttypmod, a.attnotnull \
             FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
             JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
             WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            &[&oid],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Column {
                name: row.try_get(0)?,
                position: row.try_get(1)?,
                type_name: row.try_get(2)?,
                type_schema: row.try_get(3)?,
                type_sql: row.try_get(4)?,
                modifier: row.try_get(5)?,
                not_null: row.try_get(6)?,
            })
        })
        .collect()
}

async fn is_unique(client: &Client, oid: u32, position: i16) -> Result<bool, ConnectError> {
    let row = client
        .query_one(
            "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_index i WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid \
             AND i.indpred IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = $2)",
            &[&oid, &position],
        )
        .await?;
    Ok(row.try_get(0)?)
}

async fn indexes(
    client: &Client,
    oid: u32,
    position: i16,
) -> Result<Vec<VectorIndex>, ConnectError> {
    let size = with_partitions("pg_relation_size", "c.oid");
    let rows = client
        .query(
            &format!("SELECT c.relname::text, m.amname::text, o.opcname::text, n.nspname::text, coalesce(c.reloptions, '{{}}'), {size} \
             FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am m ON m.oid = c.relam \
             JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[0] JOIN pg_catalog.pg_namespace n ON n.oid = o.opcnamespace \
             WHERE i.indrelid = $1 AND i.indkey[0] = $2 AND i.indisvalid AND m.amname IN ('hnsw', 'ivfflat') ORDER BY c.relname"),
            &[&oid, &position],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(VectorIndex {
                name: row.try_get(0)?,
                method: row.try_get(1)?,
                operators: row.try_get(2)?,
                operators_schema: row.try_get(3)?,
                options: row.try_get(4)?,
                bytes: row.try_get(5)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_order_by_the_operator_of_their_class() {
        assert_eq!(operator("vector_cosine_ops"), Some("<=>"));
        assert_eq!(operator("halfvec_l2_ops"), Some("<->"));
        assert_eq!(operator("bit_hamming_ops"), None);
    }
}

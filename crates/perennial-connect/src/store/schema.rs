//! The gallery's tables: making them, and knowing those of another version.

use perennial_gallery::GalleryError;
use tokio_postgres::Row;

use super::search::MAX_INDEXED_IN_FULL;
use super::session::{Bound, Session};
use super::spaces::MAX_INDEXED;
use crate::error::ConnectError;
use crate::failure::Failure;
use crate::postgres::{literal, quote};
use crate::store_options::StoreOptions;

/// The format of the tables.
const FORMAT: i32 = 1;

/// What was found in a database.
pub(super) struct Found {
    /// Where the types of pgvector are.
    pub(super) vector_schema: String,
    /// Whether its approximate searches can go on where a filter leaves too few.
    pub(super) iterative_scans: bool,
    /// The most dimensions that it indexes.
    pub(super) max_indexed: usize,
}

/// Looks at the database, and makes the tables where there are none.
pub(super) fn prepare(
    session: &Session,
    server: &str,
    options: &StoreOptions,
) -> Result<Found, Failure> {
    let encoding = one(session.query("SELECT current_setting('server_encoding')", &[])?)?;
    let encoding: String = encoding.try_get(0)?;
    if encoding != "UTF8" {
        return Err(state(format!(
            "it stores texts as {encoding}; use a database with ENCODING 'UTF8'"
        )));
    }
    let (vector_schema, version) = match extension(session)? {
        Some(found) => found,
        None if options.read_only => return Err(no_extension("")),
        None => {
            // Its owner may, where pgvector is installed on the server. Another service may come first.
            let made = session.batch("CREATE EXTENSION IF NOT EXISTS vector");
            extension(session)?.ok_or_else(|| match made {
                Err(Failure::Database(ConnectError::Server { message, .. })) => {
                    no_extension(&format!(" ({message})"))
                }
                _ => no_extension(""),
            })?
        }
    };
    let tables = quote(&options.schema);
    let meta = format!("{tables}.perennial_meta");
    // Not to_regclass, which may not see what another session has just made.
    let exists = |session: &Session| -> Result<bool, Failure> {
        let found = session.query(
            "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = 'perennial_meta'",
            &[&options.schema],
        )?;
        Ok(!found.is_empty())
    };
    if !exists(session)? {
        if options.read_only {
            return Err(state(format!(
                "there is no gallery in its schema {}; check store.schema, or start a service that may write once",
                options.schema
            )));
        }
        session.transaction(
            "BEGIN ISOLATION LEVEL READ COMMITTED",
            Bound::Usual,
            |session| {
                // Services that start at once make the tables once.
                session.query(
                    "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
                    &[&format!("perennial gallery {}", options.schema)],
                )?;
                if exists(session)? {
                    return Ok(());
                }
                make(session, &options.schema, &vector_schema)
            },
        )?;
    }
    let format = one(session.query(&format!("SELECT format FROM {meta}"), &[])?)?;
    let format: i32 = format.try_get(0)?;
    if format != FORMAT {
        return Err(Failure::Refused(GalleryError::Format {
            path: format!("{server}, schema {}", options.schema).into(),
            found: u64::try_from(format).unwrap_or(0),
            expected: FORMAT as u64,
        }));
    }
    Ok(Found {
        vector_schema,
        iterative_scans: is_at_least(&version, (0, 8)),
        max_indexed: max_indexed(&version),
    })
}

/// The schema and the version of pgvector in this database.
fn extension(session: &Session) -> Result<Option<(String, String)>, Failure> {
    let rows = session.query(
        "SELECT n.nspname, e.extversion FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'",
        &[],
    )?;
    match rows.first() {
        Some(row) => Ok(Some((row.try_get(0)?, row.try_get(1)?))),
        None => Ok(None),
    }
}

fn no_extension(why: &str) -> Failure {
    state(format!(
        "it does not have the extension pgvector{why}; install pgvector on the server, and run CREATE EXTENSION vector in this database as its owner"
    ))
}

fn make(session: &Session, schema: &str, vector_schema: &str) -> Result<(), Failure> {
    let known = session.query("SELECT FROM pg_namespace WHERE nspname = $1", &[&schema])?;
    let (name, vector) = (quote(schema), quote(vector_schema));
    if known.is_empty() {
        session.batch(&format!("CREATE SCHEMA {name}"))?;
    }
    let program = literal(concat!("perennial ", env!("CARGO_PKG_VERSION")));
    session.batch(&format!(
        "CREATE TABLE {name}.perennial_meta (singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton), format integer NOT NULL, made_by text NOT NULL); \
         INSERT INTO {name}.perennial_meta (format, made_by) VALUES ({FORMAT}, {program}); \
         CREATE TABLE {name}.perennial_spaces (number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text COLLATE \"C\" NOT NULL UNIQUE, \
             dim integer NOT NULL, vertices integer, items bigint NOT NULL DEFAULT 0); \
         CREATE TABLE {name}.perennial_items (key bytea PRIMARY KEY, space integer NOT NULL REFERENCES {name}.perennial_spaces, \
             label bigint, payload json NOT NULL, pairs uuid[] NOT NULL, place bigint NOT NULL, embedding {vector}.vector NOT NULL) \
             WITH (toast_tuple_target = 8160); \
         CREATE INDEX perennial_items_place ON {name}.perennial_items (space, place); \
         COMMENT ON TABLE {name}.perennial_items IS \
             'items of a gallery of perennial; write to it by the service alone, which counts them in perennial_spaces'"
    ))
}

/// The index came with 0.5; vectors of 16-bit values, of which it takes twice as many dimensions, with 0.7.
fn max_indexed(version: &str) -> usize {
    if is_at_least(version, (0, 7)) {
        MAX_INDEXED
    } else if is_at_least(version, (0, 5)) {
        MAX_INDEXED_IN_FULL
    } else {
        0
    }
}

fn is_at_least(version: &str, least: (u32, u32)) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let major = parts.next().flatten().unwrap_or(0);
    let minor = parts.next().flatten().unwrap_or(0);
    (major, minor) >= least
}

pub(super) fn one(rows: Vec<Row>) -> Result<Row, Failure> {
    let mut rows = rows.into_iter();
    match (rows.next(), rows.next()) {
        (Some(row), None) => Ok(row),
        _ => Err(state(
            "a question with one answer had another number of them",
        )),
    }
}

fn state(problem: impl Into<String>) -> Failure {
    Failure::Database(ConnectError::State(problem.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, has) in [
            ("0.8.0", true),
            ("0.10", true),
            ("1.0", true),
            ("0.7.4", false),
            ("", false),
        ] {
            assert_eq!(is_at_least(version, (0, 8)), has, "{version}");
        }
        let most = [
            ("0.8.1", 4000),
            ("0.7.0", 4000),
            ("0.6.2", 2000),
            ("0.4.4", 0),
        ];
        for (version, dimensions) in most {
            assert_eq!(max_indexed(version), dimensions, "{version}");
        }
    }
}

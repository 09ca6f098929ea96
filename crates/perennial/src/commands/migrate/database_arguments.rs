//! Which database, which table, which migration.

use std::path::PathBuf;

use perennial_connect::{Address, QualifiedName};
use perennial_core::read_at_most;

use super::failure::failed;
use crate::exit_status::usage;

/// The environment variable with a URL; not clap's, which would show its value in the help.
const URL_VARIABLE: &str = "PERENNIAL_DATABASE_URL";
const MAX_URL_BYTES: u64 = 1 << 16;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseArguments {
    /// postgres://USER@HOST:PORT/DATABASE, with ?sslmode=require for TLS; the password comes from PGPASSWORD. Or qdrant://HOST:PORT/COLLECTION,
    /// qdrants:// for TLS; the API key comes from QDRANT_API_KEY [default: PERENNIAL_DATABASE_URL, which may hold the password]
    #[arg(value_name = "URL", conflicts_with = "url_file")]
    url: Option<String>,
    /// File with the URL, which may hold the password
    #[arg(long, value_name = "FILE")]
    url_file: Option<PathBuf>,
    /// The table with the vectors, as TABLE or SCHEMA.TABLE; in Qdrant the URL names the collection
    #[arg(long, value_name = "TABLE", value_parser = table)]
    table: Option<QualifiedName>,
}

/// The columns of a table that no migration knows yet.
#[derive(Debug, clap::Args)]
pub struct ColumnArguments {
    /// Its key, NOT NULL with a unique index: a number, a uuid, a text or any other type; points of Qdrant have none [default: id]
    #[arg(long, value_name = "COLUMN", help_heading = "Database")]
    pub id_column: Option<String>,
    /// Its column of vectors, of type vector or halfvec [default: embedding]; in Qdrant the name of the vector [default: the only one]
    #[arg(
        long,
        visible_alias = "vector",
        value_name = "COLUMN",
        help_heading = "Database"
    )]
    pub vector_column: Option<String>,
}

/// The name of a migration.
#[derive(Debug, clap::Args)]
pub struct NameArguments {
    /// Name of the migration; its table is TABLE_NAME, its collection COLLECTION_NAME
    #[arg(long, default_value = "new")]
    pub name: String,
}

/// A rate on the command line.
#[derive(Debug, clap::Args)]
pub struct RateArguments {
    /// Most rows per second [default: as fast as the database answers]
    #[arg(long, value_name = "ROWS", value_parser = rate)]
    pub rate: Option<f64>,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("use a number of rows per second above 0".to_owned()),
    }
}

/// A table on the command line.
pub fn table(text: &str) -> Result<QualifiedName, String> {
    text.parse::<QualifiedName>()
        .map_err(|error| error.to_string())
}

impl DatabaseArguments {
    /// Where the index is: the database, and the table or collection.
    pub fn index(&self) -> anyhow::Result<(Address, QualifiedName)> {
        let address = match (&self.url, &self.url_file) {
            (Some(url), _) => Address::without_password(url),
            (None, Some(path)) => {
                let bytes = read_at_most(path, MAX_URL_BYTES)?;
                Address::new(&String::from_utf8_lossy(&bytes))
            }
            (None, None) => match std::env::var(URL_VARIABLE) {
                Ok(url) => Address::new(&url),
                Err(_) => {
                    return Err(usage(format!(
                        "which database? Pass its URL, --url-file, or {URL_VARIABLE}"
                    )));
                }
            },
        };
        let address = address
            .and_then(|address| address.with_secret(|name| std::env::var(name).ok()))
            .map_err(failed)?;
        let table = match (address.collection(), &self.table) {
            (Some(_), Some(_)) => {
                return Err(usage(
                    "the URL names the collection already; leave --table out",
                ));
            }
            (Some(collection), None) => collection,
            (None, Some(table)) => table.clone(),
            (None, None) => return Err(usage("which table holds the vectors? Pass --table")),
        };
        Ok((address, table))
    }
}

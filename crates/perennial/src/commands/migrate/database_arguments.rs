//! Which database, which table, which migration.

use std::path::PathBuf;

use perennial_connect::{Address, QualifiedName};
use perennial_core::read_at_most;

use super::failure::failed;
use crate::exit_status::usage;

/// The environment variable with a URL; not clap's, which would show its value in the help.
const URL_VARIABLE: &str = "PERENNIAL_DATABASE_URL";
const PASSWORD_VARIABLE: &str = "PGPASSWORD";
const MAX_URL_BYTES: u64 = 1 << 16;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseArguments {
    /// postgres://USER@HOST:PORT/DATABASE, with ?sslmode=require for TLS; the password comes from PGPASSWORD [default: PERENNIAL_DATABASE_URL,
    /// which may hold the password]
    #[arg(value_name = "URL", conflicts_with = "url_file")]
    url: Option<String>,
    /// File with the URL, which may hold the password
    #[arg(long, value_name = "FILE")]
    url_file: Option<PathBuf>,
    /// The table with the vectors, as TABLE or SCHEMA.TABLE
    #[arg(long, value_name = "TABLE", value_parser = table)]
    pub table: QualifiedName,
}

/// The columns of a table that no migration knows yet.
#[derive(Debug, clap::Args)]
pub struct ColumnArguments {
    /// Its key, NOT NULL with a unique index: a number, a uuid, a text or any other type
    #[arg(
        long,
        value_name = "COLUMN",
        default_value = "id",
        help_heading = "Database"
    )]
    pub id_column: String,
    /// Its column of vectors, of type vector or halfvec
    #[arg(
        long,
        value_name = "COLUMN",
        default_value = "embedding",
        help_heading = "Database"
    )]
    pub vector_column: String,
}

/// The name of a migration.
#[derive(Debug, clap::Args)]
pub struct NameArguments {
    /// Name of the migration; its table is TABLE_NAME
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
    /// Where the database is.
    pub fn address(&self) -> anyhow::Result<Address> {
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
        let password = std::env::var(PASSWORD_VARIABLE).ok();
        Ok(address.map_err(failed)?.or_password(password))
    }
}

//! A gallery in a database: its settings, and opening it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use perennial_serve::ServedStore;
use serde::{Deserialize, Serialize, Serializer};

use crate::exit_status::usage;

/// A gallery in PostgreSQL with pgvector or in Qdrant, in the place of one in the gallery's folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSettings {
    pub url: DatabaseUrl,
    #[serde(default = "schema")]
    pub schema: String,
    #[serde(default = "connections")]
    pub connections: usize,
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: f64,
    /// Number of items from which on a space gets an HNSW index; 0 for never.
    #[serde(default)]
    pub hnsw_from: u64,
    /// Shards and replicas of new collections of Qdrant; 0 for what the server takes.
    #[serde(default)]
    pub shards: u32,
    #[serde(default)]
    pub replicas: u32,
}

/// In the folder of a gallery that lies in a database: which one, so that no command takes the gallery for one that is not there.
const NOTE: &str = "database.toml";

/// Refuses to work on a folder whose gallery lies in a database, while no service shows it.
pub fn refuse_folder_of_database(folder: &Path) -> anyhow::Result<()> {
    if !folder.join(NOTE).exists() {
        return Ok(());
    }
    Err(usage(format!(
        "the gallery of {} lies in a database, which {} names: start its service, or pass --server; if it is not used any more, remove that file",
        folder.display(),
        folder.join(NOTE).display()
    )))
}

/// The environment variable with a URL; not clap's where it matters that the URL stands on the command line.
const URL_VARIABLE: &str = "PERENNIAL_STORE";

/// The database in which a command finds the gallery, in the place of its folder.
#[derive(Debug, clap::Args)]
pub struct DatabaseArguments {
    /// Work on the gallery in this database, postgres://USER@HOST:PORT/DATABASE or qdrant://HOST:PORT/NAME; the password comes from PGPASSWORD, the key from
    /// QDRANT_API_KEY [default with --store-schema: PERENNIAL_STORE, which may hold the password]
    #[cfg_attr(
        not(any(feature = "pgvector", feature = "qdrant")),
        doc = "(this build has no databases; build with --features pgvector or qdrant)"
    )]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Schema of the gallery in a PostgreSQL [default: perennial]
    #[arg(long, value_name = "NAME")]
    store_schema: Option<String>,
}

impl DatabaseArguments {
    /// The database, if one is named; checked.
    pub fn settings(&self) -> anyhow::Result<Option<DatabaseSettings>> {
        let named = self.store.clone();
        let on_command_line = named.is_some();
        if !on_command_line
            && self.store_schema.is_none()
            && std::env::var_os(URL_VARIABLE).is_some()
        {
            // Everything in the gallery is replaced, so a variable that was set for the service does not decide where.
            return Err(usage(format!(
                "{URL_VARIABLE} names a database: pass --store-schema as well to restore into the gallery there, or unset the variable to restore into \
                 the folder's gallery"
            )));
        }
        let Some(url) = named.or_else(|| std::env::var(URL_VARIABLE).ok()) else {
            // The work would be done on the folder's gallery instead.
            if self.store_schema.is_some() {
                return Err(usage(format!(
                    "--store-schema names a schema of a database; name the database as well, with --store or in {URL_VARIABLE}"
                )));
            }
            return Ok(None);
        };
        let settings = DatabaseSettings::at(url, self.store_schema.clone());
        settings.check(on_command_line)?;
        Ok(Some(settings))
    }
}

fn schema() -> String {
    "perennial".to_owned()
}

fn connections() -> usize {
    8
}

fn timeout_seconds() -> f64 {
    60.0
}

/// A URL that may hold a password, which is not shown.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(
    #[cfg_attr(
        not(any(feature = "pgvector", feature = "qdrant")),
        allow(dead_code, reason = "a build without databases reads no URL")
    )]
    String,
);

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(not(any(feature = "pgvector", feature = "qdrant")))]
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("...")
    }
}

#[cfg(any(feature = "pgvector", feature = "qdrant"))]
impl fmt::Display for DatabaseUrl {
    /// Without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match perennial_connect::Address::new(&self.0) {
            Ok(address) => f.write_str(&address.url()),
            Err(_) => f.write_str("..."),
        }
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(not(any(feature = "pgvector", feature = "qdrant")))]
fn not_built_in() -> anyhow::Error {
    usage(
        "store.url: this build has no galleries in databases; build with --features pgvector or qdrant (or full)",
    )
}

impl DatabaseSettings {
    fn at(url: String, schema: Option<String>) -> Self {
        Self {
            url: DatabaseUrl(url),
            schema: schema.unwrap_or_else(self::schema),
            connections: connections(),
            timeout_seconds: timeout_seconds(),
            hnsw_from: 0,
            shards: 0,
            replicas: 0,
        }
    }

    /// Refuses what cannot work; `on_command_line` says where the URL stands.
    #[cfg(not(any(feature = "pgvector", feature = "qdrant")))]
    pub fn check(&self, _on_command_line: bool) -> anyhow::Result<()> {
        Err(not_built_in())
    }

    /// Refuses what cannot work; `on_command_line` says where the URL stands.
    #[cfg(any(feature = "pgvector", feature = "qdrant"))]
    pub fn check(&self, on_command_line: bool) -> anyhow::Result<()> {
        use perennial_connect::Address;

        let address = match on_command_line {
            true => Address::without_password(&self.url.0),
            false => Address::new(&self.url.0),
        };
        if address
            .as_ref()
            .is_ok_and(|address| address.collection().is_some())
            && self.schema != self::schema()
        {
            return Err(usage(
                "store.schema: Qdrant has no schemas; the URL names the gallery, qdrant://HOST:PORT/NAME",
            ));
        }
        if let Err(error) = address {
            let problem = match on_command_line {
                // Its message names the ways of another command.
                true if Address::new(&self.url.0).is_ok() => {
                    "a password on the command line can be read by every user of this machine in the list of processes; pass it by PGPASSWORD, \
                     or the whole URL by PERENNIAL_STORE or the configuration file, and change that password"
                        .to_owned()
                }
                _ => error.to_string(),
            };
            return Err(usage(format!("store.url: {problem}")));
        }
        let seconds = self.timeout_seconds;
        if !(seconds.is_finite() && (1.0..=86_400.0).contains(&seconds)) {
            return Err(usage("store.timeout_seconds: must be 1 to 86400"));
        }
        let checked = self.options(false).check();
        checked.map_err(|error| usage(error.to_string()))
    }

    #[cfg(any(feature = "pgvector", feature = "qdrant"))]
    fn options(&self, read_only: bool) -> perennial_connect::StoreOptions {
        let mut options = perennial_connect::StoreOptions::default();
        options.schema.clone_from(&self.schema);
        options.connections = self.connections;
        options.timeout = std::time::Duration::from_secs_f64(self.timeout_seconds);
        options.read_only = read_only;
        options.hnsw_from = self.hnsw_from;
        options.shards = self.shards;
        options.replicas = self.replicas;
        options
    }

    #[cfg(not(any(feature = "pgvector", feature = "qdrant")))]
    pub fn open(&self, _read_only: bool, _folder: &Path) -> anyhow::Result<Arc<dyn ServedStore>> {
        Err(not_built_in())
    }

    /// Opens the gallery. Its folder holds what is not in the database: policy, accepted pairs, probes.
    #[cfg(any(feature = "pgvector", feature = "qdrant"))]
    pub fn open(&self, read_only: bool, folder: &Path) -> anyhow::Result<Arc<dyn ServedStore>> {
        use perennial_connect::Address;
        use perennial_gallery::{EmbeddedGallery, GalleryError};

        if EmbeddedGallery::exists(folder) {
            tracing::warn!(
                folder = %folder.display(),
                "this folder holds a gallery as well, which is not served; `perennial gallery snapshot` and `perennial gallery restore --store` bring \
                 its items into the database"
            );
        }
        if !read_only {
            fs_err::create_dir_all(folder)?;
        }
        let options = self.options(read_only);
        let address = Address::new(&self.url.0).map_err(|error| usage(error.to_string()))?;
        let address = address
            .with_secret(|name| std::env::var(name).ok())
            .map_err(|error| usage(error.to_string()))?;
        let opened = open_at(&address, &options);
        let (store, server) = opened.map_err(|error| match error {
            GalleryError::InvalidConfig { .. } => usage(error.to_string()),
            error => error.into(),
        })?;
        if !read_only {
            let note = format!("database = {server:?}\nschema = {:?}\n", self.schema);
            perennial_core::write_atomically(folder.join(NOTE), note)?;
        }
        tracing::info!(
            database = server,
            schema = self.schema,
            "the gallery lies in a database"
        );
        Ok(store)
    }
}

/// The store of a database, and what the database is called.
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
fn open_at(
    address: &perennial_connect::Address,
    options: &perennial_connect::StoreOptions,
) -> Result<(Arc<dyn ServedStore>, String), perennial_gallery::GalleryError> {
    #[cfg(feature = "pgvector")]
    if address.collection().is_none() {
        let store = perennial_connect::PostgresStore::open(address, options)?;
        let server = store.server().to_owned();
        return Ok((Arc::new(store), server));
    }
    #[cfg(feature = "qdrant")]
    {
        let store = perennial_connect::QdrantStore::open(address, options)?;
        let server = store.server().to_owned();
        Ok((Arc::new(store), server))
    }
    #[cfg(not(feature = "qdrant"))]
    Err(perennial_gallery::GalleryError::InvalidConfig {
        key: "store.url",
        problem: "this build knows no Qdrant; build with --features qdrant".to_owned(),
    })
}

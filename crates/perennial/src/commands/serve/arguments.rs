//! The options of `perennial serve`.

use std::path::PathBuf;

use crate::gallery_folder::GalleryArguments;
use crate::terminal::LogFormat;

/// The configuration file with every key, explained.
pub(super) const EXAMPLE: &str = include_str!("../../../serve.toml");

const SIGNALS: &str = "Signals: SIGTERM and Ctrl-C finish the running requests and stop the service; SIGHUP reloads the keys file and the TLS \
                       certificate.\nAll settings: `perennial serve --print-config`; explained: `perennial serve --explain-config`";

#[derive(Debug, clap::Args)]
#[command(after_help = SIGNALS)]
#[allow(
    dead_code,
    reason = "most are read by their ids, with the layer that they came from"
)]
pub struct Arguments {
    #[command(flatten)]
    gallery: GalleryArguments,
    /// Configuration file, for all settings including the options of this command; --explain-config explains every key
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Keep the gallery in PostgreSQL with pgvector, postgres://USER@HOST:PORT/DATABASE, or in Qdrant, qdrant://HOST:PORT/NAME, and only policy and probes in
    /// its folder; the password comes from PGPASSWORD, or with the whole URL from PERENNIAL_STORE or the configuration file, the key from QDRANT_API_KEY
    #[cfg_attr(
        not(any(feature = "pgvector", feature = "qdrant")),
        doc = "(this build has no databases; build with --features pgvector or qdrant)"
    )]
    #[arg(
        long,
        env = "PERENNIAL_STORE",
        hide_env_values = true,
        value_name = "URL"
    )]
    store: Option<String>,
    /// IP address and port to listen on; port 0 picks a free port [default: 127.0.0.1:7700]
    #[arg(long, env = "PERENNIAL_LISTEN", value_name = "HOST:PORT")]
    listen: Option<String>,
    /// File of API keys, one `read KEY` or `write KEY` per line; PERENNIAL_READ_KEY and PERENNIAL_WRITE_KEY add one key each
    #[arg(long, env = "PERENNIAL_KEYS", value_name = "FILE")]
    keys: Option<PathBuf>,
    /// TLS certificate chain, PEM
    #[cfg_attr(
        not(feature = "tls"),
        doc = "(this build has no TLS; build with --features tls)"
    )]
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// Private key of the TLS certificate, PEM
    #[cfg_attr(
        not(feature = "tls"),
        doc = "(this build has no TLS; build with --features tls)"
    )]
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Folder for snapshots of the gallery; without it, snapshots are disabled
    #[arg(long, value_name = "DIR")]
    snapshots: Option<PathBuf>,
    /// Serve searches only and reject changes with 403; the gallery may be on a read-only disk
    #[arg(long)]
    read_only: bool,
    /// Allow searches between versions that are not certified for each other (logged, and shown on the page)
    #[arg(long)]
    force_uncertified: bool,
    /// Answer all requests for embeddings in this space, a model version or a registered space: documents by its own encoder, queries by
    /// the certified route from the new one. For an index that other programs keep
    #[arg(long, value_name = "SPACE")]
    answer_in: Option<String>,
    /// The new encoder for --answer-in: live, or the name of an upstream [default: live]
    #[arg(long, value_name = "NAME")]
    answer_from: Option<String>,
    /// What answers queries while no route is certified for --answer-in: old, the old encoder alone [default: refuse to start]
    #[arg(long, value_name = "WHAT")]
    answer_uncertified: Option<String>,
    /// Format of the log on stderr: text, or json for one JSON object per line [default: text]
    #[arg(long, env = "PERENNIAL_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<String>,
    /// Set a key of the configuration, such as batching.max_batch=64; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// Print the resolved configuration and exit
    #[arg(long)]
    pub(super) print_config: bool,
    /// Print a configuration file with every key and what it means, to begin with, and exit
    #[arg(long)]
    pub explain_config: bool,
}

impl Arguments {
    /// The log format for errors in the settings.
    pub fn log_format(&self) -> LogFormat {
        match self.log_format.as_deref() {
            Some("json") => LogFormat::Json,
            _ => LogFormat::TimedText,
        }
    }
}

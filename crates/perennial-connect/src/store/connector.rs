//! How connections to the gallery's database are opened.

use std::sync::Arc;
use std::time::Duration;

use perennial_gallery::GalleryError;

use super::schema;
use super::session::Session;
use crate::failure::Failure;
use crate::postgres::{PostgresAddress, literal, quote};
use crate::store_options::StoreOptions;

/// What a session sets before it looks around.
const BARE: &str = "SET statement_timeout = '60s'";

/// Approximate searches of pgvector that stop with the candidates that they have found.
const HNSW: &str = "SET LOCAL hnsw.ef_search = {}";
/// From pgvector 0.8 on, they go on until enough pass the filter.
const HNSW_ITERATIVE: &str =
    "SET LOCAL hnsw.ef_search = {}; SET LOCAL hnsw.iterative_scan = strict_order";

#[derive(Debug, Clone)]
pub(super) struct Connector(Arc<Prepared>);

#[derive(Debug)]
struct Prepared {
    address: PostgresAddress,
    server: String,
    setup: String,
    timeout: Duration,
    hnsw_settings: &'static str,
    max_indexed: usize,
}

impl Connector {
    /// Connects once, makes the tables where there are none, and checks those that are there.
    ///
    /// # Errors
    /// Those of `PostgresStore::open`.
    pub(super) fn prepare(
        address: &PostgresAddress,
        options: &StoreOptions,
    ) -> Result<Self, GalleryError> {
        let server = address.to_string();
        let looked = Session::open(address, BARE, options.timeout, HNSW)
            .map_err(Failure::from)
            .and_then(|session| schema::prepare(&session, &server, options));
        let found = looked.map_err(|failure| failure.into_gallery(&server))?;
        let setup = format!(
            "SET search_path = {}, {}; SET statement_timeout = '{}ms'; SET idle_in_transaction_session_timeout = '120s'; \
             SET jit = off; SET plan_cache_mode = force_custom_plan; SET default_transaction_read_only = {}; \
             SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = {}",
            quote(&options.schema),
            quote(&found.vector_schema),
            options.timeout.as_millis(),
            if options.read_only { "on" } else { "off" },
            // A write is durable when it returns, whatever the database's own setting is.
            literal("off"),
        );
        Ok(Self(Arc::new(Prepared {
            address: address.clone(),
            server,
            setup,
            timeout: options.timeout,
            max_indexed: found.max_indexed,
            hnsw_settings: if found.iterative_scans {
                HNSW_ITERATIVE
            } else {
                HNSW
            },
        })))
    }

    /// A new connection.
    ///
    /// # Errors
    /// Those of the connection.
    pub(super) fn open(&self) -> Result<Session, Failure> {
        let Prepared {
            address,
            setup,
            timeout,
            hnsw_settings,
            ..
        } = &*self.0;
        Ok(Session::open(address, setup, *timeout, hnsw_settings)?)
    }

    pub(super) fn server(&self) -> &str {
        &self.0.server
    }

    /// The most dimensions that the server's pgvector indexes.
    pub(super) fn max_indexed(&self) -> usize {
        self.0.max_indexed
    }

    pub(super) fn timeout(&self) -> Duration {
        self.0.timeout
    }
}

//! The real router on a loopback port, with a tiny encoder and a gallery in memory.

#![allow(clippy::unwrap_used)]

mod backfill;
mod backfill_downloads;
mod backfill_pushed;
mod bodies;
mod client;
mod clients;
mod connections;
mod cut_off;
mod documented;
mod drain;
mod encoder;
mod endpoint_kinds;
mod endpoint_versions;
mod endpoints;
mod filters;
mod gallery;
mod harness;
mod keys;
mod limits;
mod mapped_routes;
mod mapped_vectors;
mod memory_store;
mod mixed;
mod model_uploads;
mod models;
mod moving_items;
mod probes;
mod proxy;
mod read_only;
mod reloads;
mod revocation;
mod route_swaps;
mod routes;
mod shared_store;
mod starting;
mod swaps;
mod text_backfill;
mod texts;
#[cfg(feature = "tls")]
mod tls;
mod tried_versions;
mod two_stage;
mod upstream_double;

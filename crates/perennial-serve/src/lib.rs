//! The HTTP service: one gallery, many model versions, hot swap without re-embedding.
//!
//! - [`serve`], or [`Server`] in two steps, with a [`ServeConfig`] and [`Keys`]; [`application`] for a server of one's own.
//! - [`EncoderLoader`]: what the binary supplies, so that this crate knows no tensor framework.
//! - [`CompatibilityCheck`]: the one question whether two versions may meet; [`RegistryRecords`] answers it from what
//!   `evaluate` measured.
//! - [`Reloader`]: new keys and certificates for a service that runs.
//! - [`openapi()`]: the document of all routes, generated from the handlers.
//!
//! One request sees exactly one [`Snapshot`]. A swap prepares the next one beside it and then moves a pointer.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod batcher;
mod body;
mod certificate;
pub mod client_address;
mod client_limits;
pub mod compatibility;
pub mod config;
mod connections;
pub mod error;
mod images;
pub mod keys;
pub mod live;
pub mod openapi;
mod process;
mod receive;
mod recent;
pub mod reload;
mod request_log;
mod router;
mod routes;
mod self_check;
mod server;
mod service;
mod stored_probes;
mod swap;
mod telemetry;
mod tls;

pub use client_address::AddressRange;
pub use compatibility::{
    Certified, CompatibilityCheck, NotCertified, RegistryRecords, newer_first,
};
pub use config::{Batching, Limits, ServeConfig, Timeouts, TlsFiles};
pub use error::ServeError;
pub use keys::{KEY_VARIABLES, Keys, Scope};
pub use live::{EncoderLoader, LIVE_ALIAS, LoadError, PREVIOUS_ALIAS, Snapshot};
pub use openapi::openapi;
pub use reload::{Reloaded, Reloader};
pub use server::{Server, application, serve};

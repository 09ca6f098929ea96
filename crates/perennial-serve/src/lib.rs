#![doc = include_str!("../README.md")]
//! # What is here
//!
//! - [`serve`], or [`Listening`] and [`Server`] in steps, with a [`ServeConfig`] and [`Keys`]; [`application`] for a server of one's own.
//! - [`perennial_upgrade`] decides which versions may be searched together and what a promotion checks.
//! - [`Reloader`]: new keys and certificates for a service that runs.
//! - [`openapi()`]: the document of all routes, generated from the handlers.
//! - Features: `tls` for HTTPS, `swagger` for the viewer of the document at `/docs`.
//!
//! One request sees exactly one [`LoadedModel`](perennial_upgrade::LoadedModel). A swap prepares the next one beside it and then moves a pointer.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod admission;
mod answering;
mod as_if_live;
mod authorize;
mod backfill;
mod batch_size;
mod batcher;
mod blocking;
mod body;
#[cfg(feature = "tls")]
mod certificate;
pub mod client_address;
mod client_limits;
pub mod config;
mod connections;
mod downloads;
mod durations;
mod encoders;
mod endpoint_drift;
mod endpoint_loading;
pub mod error;
mod gallery;
mod images;
mod incompatible;
mod inference;
mod input_type;
pub mod keys;
mod lifecycle;
mod live;
mod mapped_vectors;
mod metrics_page;
mod mixed_search;
mod multipart;
mod next_request;
mod openapi;
mod planning;
mod port;
mod preparing;
mod process;
mod readiness;
mod receive;
mod recent;
mod reembedding;
pub mod reload;
mod request_id;
mod request_log;
mod router;
mod routes;
mod samples;
mod second_stages;
mod served_store;
mod server;
mod service;
mod service_failure;
mod starting;
mod storing;
mod supervised;
mod swap;
mod telemetry;
#[cfg_attr(not(feature = "tls"), path = "no_tls.rs")]
mod tls;
mod transport;
mod trials;
mod tried;
mod two_stage;
mod upstream;
mod versions;
mod writes;

pub use client_address::AddressRange;
pub use config::{AnswerUncertified, Batching, Limits, ServeConfig, Timeouts, TlsFiles};
pub use downloads::Downloads;
pub use error::ServeError;
pub use keys::{KEY_VARIABLES, Keys, Scope};
pub use reload::{Reloaded, Reloader};
pub use router::openapi;
pub use served_store::ServedStore;
pub use server::{Listening, Server, application, serve};
pub use upstream::{UpstreamConfig, UpstreamKey};

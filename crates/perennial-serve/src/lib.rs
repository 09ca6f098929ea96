//! The HTTP service: one gallery, many model versions, hot swap without re-embedding.
//!
//! - [`serve`], or [`Server`] in two steps, with a [`ServeConfig`] and [`Keys`]; [`application`] for a server of one's own.
//! - The rule which versions may meet, and what a promotion checks, is [`perennial_upgrade`]'s; this crate only asks it.
//! - [`openapi()`]: the document of all routes, generated from the handlers.
//!
//! One request sees exactly one [`LoadedModel`](perennial_upgrade::LoadedModel). A swap prepares the next one beside it and then moves a pointer.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod batcher;
mod body;
pub mod config;
mod connections;
pub mod error;
mod images;
pub mod keys;
mod live;
pub mod openapi;
mod recent;
mod request_log;
mod router;
mod routes;
mod server;
mod service;
mod swap;
mod telemetry;
mod tls;

pub use config::{Batching, Limits, ServeConfig, Timeouts, TlsFiles};
pub use error::ServeError;
pub use keys::{KEY_VARIABLES, Keys, Scope};
pub use openapi::openapi;
pub use server::{Server, application, serve};

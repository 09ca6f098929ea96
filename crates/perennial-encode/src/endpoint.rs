//! Embedding services that are asked over HTTP, in the protocols of OpenAI and of text-embeddings-inference.
//!
//! A [`Client`] is what a version whose encoder is such a service ([`EndpointEncoder`]) and a service in front of others share: requests, their
//! repetitions, and the checks of what comes back.

mod address;
mod client;
mod encoder;
mod failure;
mod openai;
mod places;
mod request;
mod rows;
mod secret;
mod tei;
#[cfg(feature = "tls")]
pub mod trust;

pub use address::Address;
pub use client::{Attempt, Client, Shown};
pub use encoder::EndpointEncoder;
pub use failure::Failure;
pub use request::{Asked, Embedded, TruncationDirection};
pub use secret::Secret;

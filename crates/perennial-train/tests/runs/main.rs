//! Runs on tiny generated sets.

#![allow(clippy::unwrap_used)]

mod bench;
mod methods;
mod run;

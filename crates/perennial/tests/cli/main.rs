//! The built program, run as people and scripts run it.

#![allow(clippy::unwrap_used)]

mod bench;
mod client;
mod configuration;
mod evaluation;
mod experiments;
mod full_disk;
mod gallery;
mod load;
mod logs;
mod malformed;
mod measures;
mod models;
mod outputs;
mod own_files;
mod pictures;
mod runs;
mod service;
mod speed;

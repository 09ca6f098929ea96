//! The built program, run as people and scripts run it.

#![allow(clippy::unwrap_used)]

mod bench;
mod compaction;
mod configuration;
mod contrib;
mod evaluation;
mod experiments;
mod full_disk;
mod gallery;
mod load;
mod logs;
mod malformed;
mod measures;
mod models;
mod read_only;
mod reload;
mod runs;
mod selection;
mod serve_settings;
mod service;
mod speed;

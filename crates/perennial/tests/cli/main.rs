//! The built program, run as people and scripts run it.

#![allow(clippy::unwrap_used)]

mod backfill;
mod bench;
mod benchmark;
mod bridges;
#[cfg(feature = "onnx")]
mod canaries;
mod certificates;
mod client;
mod client_connection;
mod compaction;
mod compare;
mod configuration;
#[cfg(all(feature = "tls", feature = "onnx"))]
mod contrib;
mod data_sets;
#[cfg(feature = "pgvector")]
mod database_gallery;
#[cfg(feature = "pgvector")]
mod database_measures;
mod embed_resumed;
mod encoders;
#[cfg(feature = "onnx")]
mod endpoint;
mod evaluation;
mod experiments;
#[cfg(feature = "onnx")]
mod exported;
mod full_disk;
mod gallery;
mod gallery_routes;
#[cfg(feature = "onnxruntime")]
mod graph_runtimes;
mod heads;
mod help;
mod killed_additions;
mod killed_mapped;
#[cfg(not(any(feature = "fetch", feature = "tls")))]
mod lean;
mod load;
mod logs;
mod malformed;
mod measured_sets;
mod measures;
#[cfg(all(feature = "pgvector", feature = "qdrant"))]
mod migrate;
#[cfg(feature = "pgvector")]
mod migrations;
mod models;
#[cfg(feature = "onnx")]
mod onnx;
mod outputs;
mod own_files;
mod pictures;
mod promotion;
#[cfg(feature = "qdrant")]
#[path = "../../../perennial-connect/tests/qdrant/double.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the tests of stores use more of it"
)]
mod qdrant_double;
#[cfg(feature = "qdrant")]
mod qdrant_gallery;
mod read_only;
#[cfg(feature = "tls")]
mod reload;
mod runs;
mod selection;
mod serve_settings;
mod service;
mod slots;
mod speed;
mod tables;

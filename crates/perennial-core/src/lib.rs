#![doc = include_str!("../README.md")]
//! # What is here
//!
//! - [`Simplex`]: the fixed class prototypes in closed form, with logits, gradient and nearest vertex in O(K) per sample.
//! - [`VertexMap`] and [`check_disjoint`]: which class owns which prototype, for pre-training and for local tasks.
//! - [`dot`], [`normalize_rows`]: cosine similarity of unit vectors.
//! - [`Embeddings`]: unit vectors with ids, labels and the version that produced them.
//! - [`OutsideEncoder`]: how a version without a network of our own computes embeddings.
//! - [`ModelVersion`], [`VersionDraft`], [`Registry`]: immutable model versions in a folder, and mutable aliases.
//! - [`CompatibilityRecords`]: the measured pairs of versions and their results.
//! - [`instructions`]: which of the processor's vector instructions inner loops use.
//! - [`Output`]: a place for a result, checked before the work and written after it.
//! - [`WorkingFolder`]: a folder that is removed even if its process is killed.
//! - [`write_atomically`], [`read_at_most`], [`sha256_hex`]: atomic writes and bounded reads of files.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod atomic;
pub mod bounded_read;
pub mod checksum;
mod classifier;
pub mod compatibility;
mod durable;
pub mod embeddings;
mod encoder_rules;
pub mod endpoint;
mod file_lock;
pub mod instructions;
pub mod item_id;
pub mod name;
mod network_rules;
pub mod output;
pub mod outside_encoder;
mod quiet_panic;
pub mod registry;
pub mod similarity;
pub mod simplex;
pub mod space;
pub mod version;
mod version_toml;
pub mod vertex_map;
pub mod working_folder;

pub use atomic::{write_atomically, write_atomically_with};
pub use bounded_read::{holds, read_at_most, read_text_at_most};
pub use checksum::{sha256_hex, short_hash};
pub use classifier::{Classifier, ClassifierKind};
pub use compatibility::{
    CompatibilityError, CompatibilityRecord, CompatibilityRecords, ConfidenceInterval, Flips,
    Interval, ProbeSet, TieRule, Verdict,
};
pub use durable::{move_durably, remove_durably, remove_partial_files};
pub use embeddings::{Embeddings, EmbeddingsError};
pub use endpoint::{Endpoint, EndpointAccess, EndpointApi, EndpointKey, EndpointSpace};
pub use item_id::{ItemId, ItemIdError};
pub use name::{MAX_NAME_BYTES, NameError, check_name};
pub use output::{FileKind, Output, OutputError, OutputFile};
pub use outside_encoder::{
    ChannelOrder, EncoderFile, EncoderHead, EncoderKind, Graph, ImagePreparation, ImageTower,
    Interpolation, OutsideEncoder, Pooling, Resize, TextTower,
};
pub use quiet_panic::catch_quietly;
pub use registry::{Registry, RegistryError, Slot, SlotPlace, SlotRequest, SpaceSpec};
pub use similarity::{SimilarityError, dot, dot_products, normalize_in_place, normalize_rows};
pub use simplex::{Coefficients, Simplex, SimplexError};
pub use space::{Metric, Modality, SpaceId, SpaceMismatch, SpaceRef};
pub use version::{
    Architecture, EmbeddingSource, ModelVersion, Preprocessing, Role, TrainedNetwork, VersionDraft,
    VersionEncoder, VersionError,
};
pub use vertex_map::{VertexEnd, VertexMap, check_disjoint};
pub use working_folder::WorkingFolder;

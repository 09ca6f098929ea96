#![doc = include_str!("../README.md")]
//! # What is here
//!
//! - [`ImageSet`]: labelled images in memory as bytes.
//! - Readers for untrusted files: [`cifar`], [`tinyimagenet`], [`cub200`], [`celeba`], [`idx`] and [`folder`]. [`open`] finds a set by its name below a data folder.
//! - [`pictures`] reads whole folders of image files, a few at a time; `perennial_encode` decodes them.
//! - [`altered_copies`]: copies that look for their originals, for tests of item-like retrieval.
//! - [`generate`]: procedural images of any number of classes, for runs without data.
//! - [`Preprocessing`], [`Augmentation`] and [`Pipeline`]: bytes to normalised `f32` batches, parallel and reproducible from the
//!   seed; [`Prefetcher`] prepares them ahead of the training step.
//! - `fetch` (feature of that name): downloads the official CIFAR archives, resumes, verifies and unpacks them.
//!
//! Pixels are `u8` in `[image, channel, row, column]` order throughout, and labels are `u32` starting at 0.

#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod altered;
pub mod augment;
pub mod catalogue;
pub mod celeba;
pub mod cifar;
mod completeness;
pub mod cub200;
mod error;
#[cfg(feature = "fetch")]
pub mod fetch;
pub mod folder;
pub mod generated;
pub mod idx;
mod image_set;
mod listed;
pub mod pictures;
pub mod prefetch;
pub mod preprocessing;
mod record_file;
pub mod tinyimagenet;

pub use altered::{AlteredCopies, altered_copies};
pub use augment::{Augmentation, Pipeline};
pub use catalogue::{open, open_sized};
pub use completeness::{Completeness, official_images};
pub use error::DataError;
#[cfg(feature = "fetch")]
pub use fetch::{DatasetArchive, FetchError, fetch};
pub use generated::{GeneratedConfig, generate};
pub use image_set::{ContentHash, ImageSet};
pub use prefetch::{Batch, BatchPlan, Prefetcher};
pub use preprocessing::Preprocessing;

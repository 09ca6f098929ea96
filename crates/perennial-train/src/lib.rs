#![doc = include_str!("../README.md")]
//! # What is here
//!
//! - [`train`] runs an experiment: tasks of new classes, rehearsal memory, replacements by better models.
//! - [`pretrain`] trains one model on one set: the replacements.
//! - [`head`] trains a linear layer on features that do not change; [`with_head`] makes a version of it.
//! - [`TrainedEncoder`] is a registry version ready to embed images.
//! - [`import`] finds and reads other tools' weights, strictly; [`state_dict`] names a network's own.
//!
//! A method is an [`Objective`](objective::Objective): a classifier ([`class_scores`]), an earlier model that it refers to ([`earlier`]) and a
//! loss, made of [`losses`]. [`objective::OBJECTIVES`] lists them, and [`Learner`] trains a network with one.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod batches;
mod centring;
mod checkpoint;
pub mod class_scores;
pub mod classifier;
pub mod config;
mod device;
pub mod earlier;
mod encoder;
mod error;
mod folding;
mod fused;
pub mod head;
mod image_embeddings;
pub mod import;
mod learner;
pub mod losses;
mod metrics_log;
mod named_tensors;
pub mod network;
pub mod objective;
mod observer;
mod onnx_export;
mod run;
mod scenario;
mod seeds;
mod sgd;
mod sharpness;
mod softmax_shares;
pub mod state_dict;
mod versions;
mod vertex_places;
mod weight_average;

pub use burn::tensor::Device;

pub use batches::{epoch_plans, remember};
pub use checkpoint::Progress;
pub use config::{ExperimentConfig, PretrainConfig, SetConfig};
pub use device::DeviceChoice;
pub use encoder::{TrainedEncoder, network_config, trained_network};
pub use error::{GoodCheckpoint, TrainError};
pub use folding::{HeadVersion, check_foldable, fold, with_head};
pub use learner::{Learner, StepSums, Totals};
pub use observer::{EpochRecord, Observer, Silent, StepReport};
pub use onnx_export::{OnnxExport, export_onnx};
pub use run::{Outcome, RunPlaces, pretrain, train};
pub use scenario::{Scenario, Task};
pub use sgd::{Schedule, Sgd, cosine_learning_rate};
pub use softmax_shares::SoftmaxShares;
pub use state_dict::{StateDict, WeightsError};
pub use versions::{architecture, now, pretrained_difference};
pub use vertex_places::skipped_vertices;

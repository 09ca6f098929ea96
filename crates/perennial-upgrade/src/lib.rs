//! The rules of a gallery: which model versions may query which stored embeddings, and how the live version is replaced.
//!
//! - [`Policy`]: the certification rules of a gallery, `policy.toml` in its folder.
//! - [`CompatibilityCheck`]: whether a version is certified to query items of another; [`RegistryRecords`] decides by the
//!   compatibility records of `evaluate`, under the policy. [`Certification`] adds the pairs that were accepted by force.
//! - [`promotion`]: the one list of checks before a version becomes live, with and without a running service.
//! - [`Insertion`]: the checks before items are stored.
//! - [`LoadedModel`]: a version in memory; [`EncoderLoader`] supplies its network, so that this crate knows no tensor framework.
//!
//! The command line and the service both call these functions and have no other rules.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod accepted;
pub mod certification;
mod insertion;
mod loaded_model;
pub mod policy;
pub mod promotion;
mod records;
pub mod self_check;
pub mod stored_probes;

pub use certification::{Certification, Certified, CompatibilityCheck, NotCertified, Standing};
pub use insertion::Insertion;
pub use loaded_model::{EncoderLoader, LoadError, LoadedModel, simplex_of};
pub use policy::{EvaluationSet, Policy, PolicyError, Undecided};
pub use promotion::{
    Candidate, Check, LIVE_ALIAS, Outcome, PREVIOUS_ALIAS, Prepared, Stored, Verdict, keep_probes,
    move_live, prepare,
};
pub use records::RegistryRecords;
pub use stored_probes::StoredProbes;

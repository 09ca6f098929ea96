//! The rule over a gallery: which model versions may meet in it, and how the live version moves.
//!
//! - [`Policy`]: what a gallery demands, `policy.toml` in its folder.
//! - [`CompatibilityCheck`]: whether queries of one version may meet items of another; [`RegistryRecords`] answers from what
//!   `evaluate` measured, under the policy. [`Certification`] adds the pairs that were accepted by force.
//! - [`promotion`]: the one list of checks before a version becomes live, with and without a running service.
//! - [`Insertion`]: the checks before items are stored.
//! - [`LoadedModel`]: a version in memory; [`EncoderLoader`] supplies its network, so that this crate knows no tensor framework.
//!
//! The command line and the service call these functions and hold no rule of their own.

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

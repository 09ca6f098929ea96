#![doc = include_str!("../README.md")]
//! # What is here
//!
//! - [`Policy`]: the certification rules of a gallery, `policy.toml` in its folder.
//! - [`CompatibilityCheck`]: by which ways a version is certified to query items of another; [`RegistryRecords`] decides by the
//!   certificates and compatibility records of a registry, under the policy. [`Certification`] adds the pairs that were accepted by force.
//! - [`promotion`]: the one list of checks before a version becomes live, with and without a running service.
//! - [`Insertion`]: the checks before items are stored. [`SearchPlan`]: which stored spaces a search reaches, by which route; [`merge`]: one
//!   ranking from the hits of several spaces; [`rerank`]: its second stage.
//! - [`CertificateRequest`]: measures a search by route ([`Route`]) and writes down what follows ([`Certificate`]); [`Question`]: measures
//!   every way to handle an upgrade and says which one pays ([`Advice`]); [`select`]: the kind of a bridge by held-out retrieval.
//! - [`MappedPermission`]: whether an index that others own may be given copies of its vectors that a bridge mapped.
//! - [`compare_ranked`]: the answers of an index that others own, before and after a change.
//! - [`backfill`]: items of other spaces are embedded again by the live version, in the order that pays.
//! - [`LoadedModel`]: a version in memory; [`EncoderLoader`] supplies its encoder, so that this crate knows no tensor framework.
//!
//! The command line and the service both call these functions and have no other rules.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod accepted;
pub mod advise;
mod answer_group;
pub mod backfill;
mod bridge_map;
mod bridges;
mod canaries;
mod canary_inputs;
pub mod certificate;
pub mod certification;
mod certify;
pub mod chain;
pub mod evaluation_data;
mod expected_quality;
mod finding;
mod fit_overlap;
mod fixed_inputs;
mod import_canaries;
mod insertion;
mod loaded_model;
mod mapped_copies;
pub mod measured;
mod merge;
mod not_searched;
mod plan;
pub mod policy;
mod probe_file;
pub mod promotion;
mod public_text;
mod query_cost;
mod ranked;
mod recorded_merge;
mod records;
mod remedy;
pub mod report;
mod rerank;
pub mod route;
mod score;
pub mod selection;
pub mod self_check;
mod stored;
mod stored_certificates;
pub mod stored_probes;
mod thresholds;

pub use advise::{Advice, AdviceError, Question, Rates, TaskAdvice, Way, WayKind};
pub use answer_group::{AnswerGroup, Answers};
pub use bridge_map::BridgeMap;
pub use bridges::{BridgeRegistry, BridgeRegistryError};
pub use canaries::{CANARY_TOLERANCE, Canaries, CanaryError};
pub use canary_inputs::{CanaryInputs, CanaryInputsError};
pub use certificate::{BridgeUse, Certificate, CertificateError, Source, Sources, TaskResult};
pub use certification::{
    Certification, Certified, CertifiedWay, CompatibilityCheck, Need, NotCertified, Standing,
};
pub use certify::CertificateRequest;
pub use chain::{BridgePath, Chain, ChainRoute, ChainVersion, MissingRows, OldHalf, RouteResult};
pub use evaluation_data::{EvaluationData, FitPairs, Names, Rows, Task, Truth};
pub use expected_quality::ExpectedQuality;
pub use finding::Finding;
pub use import_canaries::{CanaryState, canaries_from, canaries_of, compare_canaries};
pub use insertion::Insertion;
pub use loaded_model::{EncoderLoader, LoadError, LoadedModel, simplex_of, store_space};
pub use mapped_copies::{MappedPermission, MappedRefused};
pub use measured::{Demands, DemandsError, MeasureError, Measured};
pub use merge::{
    MergedHit, PartHits, PartScale, SAMPLE_SEED, SAMPLE_VECTORS, ScoreCalibration, merge,
};
pub use not_searched::{LeftOutCause, NotSearched};
pub use plan::{Asking, PlannedPart, SearchPlan};
pub use policy::{EvaluationSet, Policy, PolicyError, Undecided};
pub use probe_file::{ProbeInputError, Probes};
pub use promotion::{
    Candidate, Check, LIVE_ALIAS, Outcome, PREVIOUS_ALIAS, Prepared, Verdict, go_live, keep_probes,
    prepare,
};
pub use public_text::without_folder;
pub use query_cost::{EncoderCost, QueryCost};
pub use ranked::{Ranked, RankedComparison, RankedGroup, compare_ranked};
pub use recorded_merge::{LinearScale, MergeKind, RecordedMerge};
pub use records::{RegistryRecords, recorded_finding};
pub use remedy::Remedy;
pub use rerank::rerank;
pub use route::{Route, RouteError, Search};
pub use score::{RankedBy, ScoreKind};
pub use selection::{DEFAULT_WEIGHT, Selection, SelectionError, Tried, dual_weight, select};
pub use stored::Stored;
pub use stored_certificates::StoredCertificates;
pub use stored_probes::StoredProbes;
pub use thresholds::{RateThreshold, Thresholds};

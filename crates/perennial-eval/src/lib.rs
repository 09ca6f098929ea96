#![doc = include_str!("../README.md")]
//! # What is here
//!
//! The input of everything here are [`perennial_core::Embeddings`]:
//!
//! 1. [`evaluate`] scores the queries of one model on the gallery of another (nearest class mean, CMC, mAP).
//! 2. [`Compatibility::new`] puts the tests of all pairs of versions together: [`CompatibilityMatrix`], [`Metrics`] and, for
//!    every pair, a [`PairComparison`] with margin and paired-[`Bootstrap`] interval. It is the content of
//!    `compatibility.json`.
//! 3. [`table::render`] shows it in a terminal, [`html::render`] as a self-contained page; the page of a certificate or advice for
//!    one upgrade is [`html::certificate_page`].
//! 4. [`MethodTable`] compares the reports of several methods and seeds, beside the [`published`] figures.
//!
//! For a single upgrade, on vectors of any origin: [`outcomes()`] gives every query's outcome for classes or single items
//! ([`Relevance`]), a [`Measure`] turns them into scores, [`compare_scores`] compares two results of the same queries, and
//! [`cannot_tell`] says what an evaluation set lacks.
//!
//! All figures are fractions; differences of figures are differences of fractions.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod bootstrap;
pub mod calibration;
pub mod certificate_table;
mod class_means;
pub mod comparison;
pub mod decision;
pub mod html;
pub mod known;
pub mod matrix;
pub mod mcnemar;
pub mod measure;
pub mod method_table;
pub mod metric_intervals;
pub mod metrics;
pub mod mixed;
pub mod outcomes;
pub mod paired;
pub mod pca;
pub mod provenance;
pub mod published;
mod ranking;
pub mod recovery;
pub mod relevance;
pub mod report;
pub mod retrieval;
mod score_rows;
pub mod search;
pub mod seed_summary;
pub mod sufficiency;
pub mod table;
pub mod text_table;
pub mod verdict_counts;

pub use bootstrap::{Bootstrap, BootstrapError};
pub use calibration::{CalibrationError, LogisticCalibration, Threshold};
pub use certificate_table::{CertifiedMeasure, ComparedCertificate};
pub use comparison::{ComparisonError, PairComparison, compare_pair, compare_pairs};
pub use decision::decide;
pub use known::{Known, KnownRelevance};
pub use matrix::{CompatibilityMatrix, MatrixError};
pub use mcnemar::McNemar;
pub use measure::{Measure, MeasureError};
pub use method_table::{Entry, MethodTable, MethodTableError, WorstPair};
pub use metric_intervals::{MetricIntervals, metric_intervals};
pub use metrics::{Averages, Metrics, metrics};
pub use mixed::{
    Merge, MixedError, MixedOutcomes, MixedTest, Partition, ShiftedMerge, answered_by,
    mixed_outcomes, mixed_outcomes_by,
};
pub use outcomes::{Outcomes, OutcomesError, Test, outcomes};
pub use paired::{PairedComparison, ScoresError, compare_scores};
pub use perennial_core::{ConfidenceInterval, Flips, Interval, ProbeSet, TieRule, Verdict};
pub use provenance::Provenance;
pub use recovery::{Recovery, upgrade_recovery};
pub use relevance::{Relevance, RelevanceError};
pub use report::{Compatibility, Missing, ReportError, SCHEMA_VERSION};
pub use retrieval::{Retrieval, RetrievalError, RetrievalScores, evaluate, nearest_class_means};
pub use search::{SearchError, TopK, map_query_scores, top_k};
pub use seed_summary::SeedSummary;
pub use sufficiency::{CannotTell, Requirements, cannot_tell};
pub use verdict_counts::VerdictCounts;

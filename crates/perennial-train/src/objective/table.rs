//! The table of all methods, and the `[method]` table of a configuration that is read by it.

use serde::{Deserialize, Serialize};

use super::{Bct, Cvs, Er, Fan, Fd, Hoc, Lce, Lwf, Objective, SimplexOnly};
use crate::TrainError;
use crate::class_scores::ClassifierSpec;
use perennial_core::Simplex;

/// A method: one row of [`OBJECTIVES`].
#[derive(Clone, Copy, Debug)]
pub struct ObjectiveEntry {
    /// Its name, the value of `method.kind`.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Where it was published.
    pub source: &'static str,
    default: fn() -> MethodConfig,
}

impl ObjectiveEntry {
    /// The method with its default options.
    pub fn method(&self) -> MethodConfig {
        (self.default)()
    }

    /// Its classifier, in words.
    pub fn classifier(&self) -> &'static str {
        self.method().objective().classifier().name()
    }

    /// Whether it refers to an earlier model, and so has no use in pre-training.
    pub fn refers(&self) -> bool {
        self.method().objective().refers().is_some()
    }
}

macro_rules! objectives {
    ($($name:literal => $variant:ident, $summary:literal, $source:literal;)+) => {
        /// The `[method]` table of a configuration: `kind` names the method, the other keys are its options.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum MethodConfig {
            $(
                #[doc = $summary]
                #[serde(rename = $name)]
                $variant($variant),
            )+
        }

        /// All methods. Names, help, error texts and the reader of configurations follow this table.
        pub const OBJECTIVES: &[ObjectiveEntry] = &[
            $(ObjectiveEntry {
                name: $name,
                summary: $summary,
                source: $source,
                default: || MethodConfig::$variant(<$variant>::default()),
            },)+
        ];

        impl MethodConfig {
            /// The name as configured.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)+
                }
            }

            /// What is trained.
            pub fn objective(&self) -> &dyn Objective {
                match self {
                    $(Self::$variant(options) => options,)+
                }
            }

            /// What is trained, for a [`Learner`](crate::Learner).
            pub fn boxed(self) -> Box<dyn Objective> {
                match self {
                    $(Self::$variant(options) => Box::new(options),)+
                }
            }
        }
    };
}

objectives! {
    "er" => Er,
        "Experience replay: a linear classifier that grows with the classes, and cross-entropy.",
        "the ordinary baseline";
    "simplex" => SimplexOnly,
        "The fixed simplex classifier and cross-entropy.",
        "arXiv 2405.02581";
    "hoc" => Hoc,
        "The simplex, and a contrastive term against the earlier model's embeddings.",
        "arXiv 2405.02581, L_HOC";
    "fd" => Fd,
        "The simplex, and the squared distance to the earlier model's embeddings of remembered images.",
        "arXiv 2211.09032 (CL²R), feature distillation";
    "lwf" => Lwf,
        "Experience replay, and distillation of the earlier model's class probabilities.",
        "arXiv 1606.09282, eq. 1-4";
    "fan" => Fan,
        "Experience replay, and distillation of the earlier model's class probabilities and of its embeddings.",
        "arXiv 2004.00713, training of the encoder";
    "bct" => Bct,
        "Experience replay, and cross-entropy under the earlier model's frozen classifier (influence loss).",
        "arXiv 2003.11942, influence loss";
    "lce" => Lce,
        "Experience replay; the classifier's rows are drawn to the earlier model's class centres, embeddings into their radius.",
        "arXiv 2108.01958, alignment and boundary loss";
    "cvs" => Cvs,
        "A cosine classifier, a triplet loss against the earlier model's embeddings, and old classes drawn to their centres.",
        "arXiv 2205.13384, the three losses";
}

impl MethodConfig {
    /// The simplex, for methods that have one.
    ///
    /// # Errors
    ///
    /// An invalid number of vertices.
    pub fn simplex(&self) -> Result<Option<Simplex>, TrainError> {
        match self.objective().classifier() {
            ClassifierSpec::Simplex(classifier) => Ok(Some(Simplex::new(classifier.vertices)?)),
            _ => Ok(None),
        }
    }

    /// Validates the values.
    ///
    /// # Errors
    ///
    /// The first key with an invalid value.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        self.objective().classifier().check()?;
        self.objective().check()
    }

    /// Refuses a method that refers to an earlier model.
    ///
    /// # Errors
    ///
    /// The key `method.kind`, with the methods that pre-train a model for this one.
    pub(crate) fn check_for_pretraining(&self) -> Result<(), TrainError> {
        let objective = self.objective();
        if objective.refers().is_none() {
            return Ok(());
        }
        let trained = self.simplex()?.is_none();
        let fitting = OBJECTIVES.iter().filter(|entry| {
            let other = entry.method();
            !entry.refers() && other.simplex().is_ok_and(|simplex| simplex.is_none()) == trained
        });
        let names: Vec<String> = fitting.map(|entry| format!("`{}`", entry.name)).collect();
        Err(TrainError::config(
            "method.kind",
            &format!(
                "`{}` needs an earlier model, which pre-training does not have: use {}",
                self.name(),
                names.join(" or ")
            ),
        ))
    }
}

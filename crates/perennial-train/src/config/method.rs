//! Which method: the classifier and the losses on it.

use perennial_core::Simplex;
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::losses::Masking;

/// Simplex vertices of the published recipe.
pub const DEFAULT_VERTICES: usize = 1024;

/// Vertices beyond which the embedding layer alone would fill the memory.
const MAX_VERTICES: usize = 65_536;

/// Far above any useful inverse temperature, far below the mask of the contrastive term.
const MAX_MU: f64 = 1e6;

/// A method: which classifier, and which losses on it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum MethodConfig {
    /// Experience replay: a growing linear classifier and cross-entropy. The ordinary baseline.
    Er {},
    /// The fixed simplex classifier and cross-entropy.
    Simplex {
        /// Simplex vertices `K`; embeddings have `K - 1` dimensions.
        #[serde(default = "default_vertices")]
        vertices: usize,
    },
    /// The fixed simplex classifier with cross-entropy and the contrastive term against an earlier model.
    Hoc {
        /// Simplex vertices `K`; embeddings have `K - 1` dimensions.
        #[serde(default = "default_vertices")]
        vertices: usize,
        /// Weight of the cross-entropy; the contrastive term has `1 - lambda`. A first task from random weights has
        /// no earlier model, and the cross-entropy alone, at weight 1.
        #[serde(default = "default_lambda")]
        lambda: f64,
        /// Inverse temperature of the contrastive term.
        #[serde(default = "default_mu")]
        mu: f64,
        /// Same-class pairs in the contrastive term.
        #[serde(default)]
        masking: Masking,
        /// Which earlier model the contrastive term refers to at a replacement.
        #[serde(default)]
        reference: Reference,
    },
}

/// Which earlier model is "old" in the contrastive term. The choices differ only at a replacement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reference {
    /// The version deployed before the task: the one that embedded the newest part of the gallery.
    #[default]
    Deployed,
    /// The model that the task starts from, so at a replacement the replacement itself: the released code's choice.
    Initial,
}

fn default_vertices() -> usize {
    DEFAULT_VERTICES
}

fn default_lambda() -> f64 {
    0.1
}

fn default_mu() -> f64 {
    10.0
}

impl MethodConfig {
    /// The name as configured.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Er {} => "er",
            Self::Simplex { .. } => "simplex",
            Self::Hoc { .. } => "hoc",
        }
    }

    /// The simplex, for methods that have one.
    ///
    /// # Errors
    ///
    /// An invalid number of vertices.
    pub fn simplex(&self) -> Result<Option<Simplex>, TrainError> {
        match *self {
            Self::Er {} => Ok(None),
            Self::Simplex { vertices } | Self::Hoc { vertices, .. } => {
                Ok(Some(Simplex::new(vertices)?))
            }
        }
    }

    /// Validates the values.
    ///
    /// # Errors
    ///
    /// The first key with an invalid value.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        if let Some(simplex) = self.simplex()?
            && simplex.vertices() > MAX_VERTICES
        {
            return Err(TrainError::config(
                "method.vertices",
                &format!("must be at most {MAX_VERTICES}, got {}", simplex.vertices()),
            ));
        }
        if let MethodConfig::Hoc { lambda, mu, .. } = *self {
            if !(0.0..=1.0).contains(&lambda) {
                return Err(TrainError::config(
                    "method.lambda",
                    &format!("must be within [0, 1], got {lambda}"),
                ));
            }
            if !(mu > 0.0 && mu <= MAX_MU) {
                return Err(TrainError::config(
                    "method.mu",
                    &format!("must be above 0 and at most {MAX_MU}, got {mu}"),
                ));
            }
        }
        Ok(())
    }
}

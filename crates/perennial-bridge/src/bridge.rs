//! The bridge itself: its ends, its steps, and what can be made of it.

use perennial_core::SpaceRef;

use crate::error::{BridgeError, Side};
use crate::fit_inputs::FitInputs;
use crate::linear_algebra::{from_f32, pseudo_inverse, to_f32};
use crate::product::Matrix;
use crate::recipe::{Kind, Recipe};
use crate::record::FitRecord;

/// A directed map from one space to another, immutable. See the [crate's page](crate) for its geometry.
#[derive(Debug, Clone, PartialEq)]
pub struct Bridge {
    pub(crate) from: SpaceRef,
    pub(crate) to: SpaceRef,
    pub(crate) parts: Vec<Part>,
    pub(crate) steps: Vec<Step>,
    /// The mean that rows of the target are centred with; nothing if the bridge gives rows that are not centred.
    pub(crate) to_mean: Option<Vec<f32>>,
    pub(crate) record: FitRecord,
    /// What it was fitted on, where that was recorded.
    pub(crate) inputs: Option<FitInputs>,
}

/// One fitted bridge of a chain, or the only one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// How it was fitted.
    pub recipe: Recipe,
    /// Whether it is used against the direction of its fit.
    pub inverted: bool,
}

/// What happens to a row of unit length; the result is scaled to unit length again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// A mean is subtracted.
    Centre(Vec<f32>),
    /// A matrix is multiplied with.
    Linear(Matrix),
}

impl Bridge {
    /// The space that it takes rows of.
    pub fn from(&self) -> &SpaceRef {
        &self.from
    }

    /// The space that it gives rows of.
    pub fn to(&self) -> &SpaceRef {
        &self.to
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self.parts.as_slice() {
            [part] => part.recipe.kind(),
            _ => Kind::Chain,
        }
    }

    /// How it was fitted: one part, or those of a chain in the order in which they are applied.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What it was fitted on, and how well it did.
    pub fn fit_record(&self) -> &FitRecord {
        &self.record
    }

    /// The same map with another record. The record is no part of what [`sha256`](Self::sha256) covers.
    ///
    /// # Errors
    /// A value that cannot be stored: a hash that is none, a weight outside of [0, 1], a text with control characters.
    pub fn with_fit_record(mut self, record: FitRecord) -> Result<Self, BridgeError> {
        if let Some(problem) = record.problem() {
            return Err(BridgeError::Recipe {
                recipe: self.describe(),
                problem,
            });
        }
        self.record = record;
        Ok(self)
    }

    /// What identifies the inputs that it was fitted on; nothing where that was not recorded, as by programs before this record.
    pub fn fit_inputs(&self) -> Option<&FitInputs> {
        self.inputs.as_ref()
    }

    /// The same map with a record of the inputs that it was fitted on. It is part of what [`sha256`](Self::sha256) covers.
    pub fn with_fit_inputs(mut self, inputs: FitInputs) -> Self {
        self.inputs = Some(inputs);
        self
    }

    /// Whether it has no weight that a fit, or an inverse, made too large for f32.
    pub(crate) fn is_finite(&self) -> bool {
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        let steps = self.steps.iter().all(|step| match step {
            Step::Centre(mean) => finite(mean),
            Step::Linear(matrix) => finite(&matrix.values()),
        });
        steps && self.to_mean.as_deref().is_none_or(finite)
    }

    /// The recipes of its parts, as one text.
    pub fn describe(&self) -> String {
        let parts = self.parts.iter().map(|part| {
            let inverted = if part.inverted { " inverted" } else { "" };
            format!("{}{inverted}", part.recipe)
        });
        parts.collect::<Vec<_>>().join(" then ")
    }

    /// The mean that rows of the source are centred with, `[from_dim]`; nothing if they are not centred.
    pub fn from_mean(&self) -> Option<&[f32]> {
        match self.steps.first() {
            Some(Step::Centre(mean)) => Some(mean),
            _ => None,
        }
    }

    /// The mean that stored rows of the target are centred with, `[to_dim]`; nothing if the bridge gives rows that are not centred.
    pub fn to_mean(&self) -> Option<&[f32]> {
        self.to_mean.as_deref()
    }

    /// The bridge of the other direction: the transpose where the map is orthogonal, and the Moore-Penrose inverse elsewhere. A map of
    /// fewer dimensions than the source loses directions, which no inverse brings back.
    ///
    /// The inverse takes raw rows of `to` and gives rows in the centred `from` space. Trials and the fitted dual weight belong to the
    /// direction of the fit and are left out.
    ///
    /// # Errors
    /// [`BridgeError::Unsupported`] for a chain that centres between its parts.
    pub fn inverse(&self) -> Result<Self, BridgeError> {
        let unsupported = |problem: &str| BridgeError::Unsupported {
            kind: self.describe(),
            problem: problem.to_owned(),
        };
        let mut steps = Vec::with_capacity(self.steps.len());
        if let Some(mean) = &self.to_mean {
            steps.push(Step::Centre(mean.clone()));
        }
        let inner = match self.steps.as_slice() {
            [Step::Centre(_), inner @ ..] => inner,
            all => all,
        };
        let orthogonal = self
            .parts
            .iter()
            .all(|part| part.recipe.kind() == Kind::Orthogonal);
        for step in inner.iter().rev() {
            let Step::Linear(matrix) = step else {
                return Err(unsupported(
                    "that centres between its parts has no inverse; fit the other direction instead",
                ));
            };
            let values = from_f32(matrix.rows(), matrix.columns(), &matrix.values());
            let inverse = if orthogonal {
                to_f32(values.transpose())
            } else {
                let inverse = pseudo_inverse(values.as_ref()).ok_or_else(|| {
                    unsupported("could not be inverted: the decomposition did not converge")
                })?;
                to_f32(inverse.as_ref())
            };
            steps.push(Step::Linear(Matrix::new(
                matrix.columns(),
                matrix.rows(),
                &inverse,
            )));
        }
        let parts = self.parts.iter().rev().map(|part| Part {
            recipe: part.recipe,
            inverted: !part.inverted,
        });
        Ok(Self {
            from: self.to.clone(),
            to: self.from.clone(),
            parts: parts.collect(),
            steps,
            to_mean: self.from_mean().map(<[f32]>::to_vec),
            record: FitRecord {
                from_sha256: self.record.to_sha256.clone(),
                to_sha256: self.record.from_sha256.clone(),
                dual_weight: None,
                trials: Vec::new(),
                ..self.record.clone()
            },
            inputs: self.inputs.clone().map(FitInputs::inverse),
        })
    }

    /// The chain of this bridge and `next`, which leads on from this one's target.
    ///
    /// This bridge's rows are centred already, so `next` does not centre them again: its own mean of the space between, from another fit
    /// set, is not used.
    ///
    /// # Errors
    /// [`BridgeError::Space`] if `next` does not start in the space where this one ends, [`BridgeError::Chain`] if only one of them centres
    /// the space between.
    pub fn then(&self, next: &Bridge) -> Result<Self, BridgeError> {
        next.from
            .accept(&self.to)
            .map_err(|source| BridgeError::Space {
                side: Side::From,
                source,
            })?;
        let unchanged = next.steps.is_empty();
        let (skipped, to_mean) = match (&self.to_mean, next.from_mean()) {
            // Coordinates that nothing changes keep their centre.
            (mean, None) if unchanged => (0, mean.clone()),
            (Some(_), Some(_)) => (1, next.to_mean.clone()),
            (None, _) => (0, next.to_mean.clone()),
            (Some(_), None) => {
                return Err(BridgeError::Chain {
                    problem: format!(
                        "the first one ({}) gives centred rows of {}, and the second one ({}) was fitted without centring; fit both alike",
                        self.describe(),
                        self.to,
                        next.describe()
                    ),
                });
            }
        };
        let (first, second) = (&self.record, &next.record);
        Ok(Self {
            from: self.from.clone(),
            to: next.to.clone(),
            parts: self.parts.iter().chain(&next.parts).copied().collect(),
            steps: self
                .steps
                .iter()
                .chain(&next.steps[skipped..])
                .cloned()
                .collect(),
            to_mean,
            record: FitRecord {
                pairs: first.pairs.min(second.pairs),
                // Of one rotation only.
                rank: None,
                matched: if first.pairs <= second.pairs {
                    first.matched
                } else {
                    second.matched
                },
                from_sha256: first.from_sha256.clone(),
                to_sha256: second.to_sha256.clone(),
                created: None,
                dual_weight: None,
                warnings: first
                    .warnings
                    .iter()
                    .chain(&second.warnings)
                    .cloned()
                    .collect(),
                trials: Vec::new(),
            },
            inputs: match (&self.inputs, &next.inputs) {
                (Some(first), Some(second)) => Some(first.then(second)),
                _ => None,
            },
        })
    }
}

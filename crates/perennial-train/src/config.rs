//! Configurations of experiments and pre-trainings: every hyper-parameter. Defaults are those of the published recipe, but for a few settings
//! where others measured better; [`Recipe`] says which are taken.
//!
//! Unknown keys are errors, and nothing set here is overridden later.

mod recipe;
mod replacement;
mod sets;
mod training;

use std::path::PathBuf;

use perennial_core::{EmbeddingSource, Registry};
use perennial_data::{Augmentation, Preprocessing};
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::network::NetworkConfig;

pub use crate::objective::MethodConfig;
pub use recipe::Recipe;
pub use replacement::{Entry, ReplacementConfig};
pub use sets::{EvaluationConfig, GeneratedTable, SetConfig};
pub use training::TrainingConfig;

/// A sequence of tasks with fine-tuning and replacements: `perennial train`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExperimentConfig {
    /// Names the run's folder.
    pub name: String,
    /// Seed of everything random: weights, class order, batches, augmentation, memory.
    #[serde(default)]
    pub seed: u64,
    /// Registry version or alias that the first task starts from; random weights without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_model: Option<String>,
    /// The owner of the registry's slot whose vertices the classes take, for methods on the simplex; the last vertices without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// Which values the keys have that are left out, for methods that measure better with others than the published ones; see
    /// [`completed`](Self::completed).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Recipe>,
    /// Where the training images come from.
    pub data: SetConfig,
    /// The encoder.
    pub network: NetworkConfig,
    /// Classifier and losses.
    pub method: MethodConfig,
    /// How classes are split into tasks.
    pub scenario: ScenarioConfig,
    /// Rehearsal memory.
    #[serde(default)]
    pub memory: MemoryConfig,
    /// Optimisation of each task.
    #[serde(default)]
    pub training: TrainingConfig,
    /// Image augmentation.
    #[serde(default)]
    pub augmentation: AugmentationConfig,
    /// Channel mean and deviation that images are normalised with.
    #[serde(default)]
    pub preprocessing: PreprocessingConfig,
    /// What a version does with its embeddings.
    #[serde(default, skip_serializing_if = "EmbeddingConfig::is_default")]
    pub embedding: EmbeddingConfig,
    /// Better models that replace the deployed one before given tasks.
    #[serde(default)]
    pub replacements: Vec<ReplacementConfig>,
    /// What `perennial evaluate` measures the versions on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<EvaluationConfig>,
}

/// The training of one model on one set: `perennial pretrain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    /// Names the run's folder and, unless `alias` says otherwise, the registry alias of the result.
    pub name: String,
    /// Seed of everything random.
    #[serde(default)]
    pub seed: u64,
    /// Registry alias of the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Where the training images come from.
    pub data: SetConfig,
    /// The encoder.
    pub network: NetworkConfig,
    /// Classifier and losses: a method that refers to no earlier model.
    pub method: MethodConfig,
    /// Optimisation.
    #[serde(default)]
    pub training: TrainingConfig,
    /// Image augmentation.
    #[serde(default)]
    pub augmentation: AugmentationConfig,
    /// Channel mean and deviation that images are normalised with.
    #[serde(default)]
    pub preprocessing: PreprocessingConfig,
    /// What a version does with its embeddings.
    #[serde(default, skip_serializing_if = "EmbeddingConfig::is_default")]
    pub embedding: EmbeddingConfig,
}

/// Class-incremental tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioConfig {
    /// Classes of the first task.
    pub initial_classes: usize,
    /// New classes of every later task.
    pub increment: usize,
    /// How many tasks; as many as the classes allow without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<usize>,
    /// In which order classes arrive.
    #[serde(default)]
    pub class_order: ClassOrder,
}

/// The order in which classes arrive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassOrder {
    /// By label: the published recipe.
    #[default]
    Natural,
    /// Shuffled by the experiment's seed.
    Seeded,
    /// One label per line in a file.
    File(PathBuf),
}

/// Rehearsal memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryConfig {
    /// Images kept of every finished class, chosen at random.
    pub images_per_class: usize,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            images_per_class: 20,
        }
    }
}

/// Augmentation of training images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentationConfig {
    /// Zero pixels around the image before the random crop.
    pub crop_padding: usize,
    /// Whether images are mirrored half of the time.
    pub horizontal_flip: bool,
}

impl Default for AugmentationConfig {
    fn default() -> Self {
        Self {
            crop_padding: 4,
            horizontal_flip: true,
        }
    }
}

impl From<AugmentationConfig> for Augmentation {
    fn from(config: AugmentationConfig) -> Self {
        Self {
            crop_padding: config.crop_padding,
            horizontal_flip: config.horizontal_flip,
        }
    }
}

/// Normalisation of images, in units of full brightness.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PreprocessingConfig {
    /// Channel means.
    pub mean: [f32; 3],
    /// Channel standard deviations.
    pub std: [f32; 3],
}

impl Default for PreprocessingConfig {
    /// CIFAR-100's: the recipe's, for every set.
    fn default() -> Self {
        Self {
            mean: [0.5071, 0.4867, 0.4408],
            std: [0.2675, 0.2565, 0.2761],
        }
    }
}

impl PreprocessingConfig {
    /// As `model.toml` records it.
    pub(crate) fn record(&self) -> perennial_core::Preprocessing {
        perennial_core::Preprocessing {
            mean: self.mean.to_vec(),
            std: self.std.to_vec(),
        }
    }

    /// The same as the data crate's type.
    ///
    /// # Errors
    ///
    /// A deviation that is not positive, or a value that is not finite.
    pub fn build(&self) -> Result<Preprocessing, TrainError> {
        Ok(Preprocessing::new(self.mean, self.std)?)
    }
}

/// What a version does with its embeddings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmbeddingConfig {
    /// Whether a version subtracts the mean embedding of its training images: `unit(unit(x) - mean)`. It keeps the mean with its weights.
    /// Losses see embeddings without it.
    pub centre: bool,
    /// What a version's embedding is, for methods on the simplex: the output of the embedding layer, or the features of the backbone in front
    /// of it. Losses see the layer's output in either case.
    #[serde(skip_serializing_if = "EmbeddingSource::is_layer")]
    pub source: EmbeddingSource,
    /// Whether the embedding layer of the simplex has a bias, of zeros in the beginning.
    #[serde(skip_serializing_if = "crate::objective::is_default")]
    pub bias: bool,
}

impl EmbeddingConfig {
    fn check(&self, method: &MethodConfig) -> Result<(), TrainError> {
        let features = self.source == EmbeddingSource::Features;
        for (key, value, asked) in [
            ("source", "\"features\"", features),
            ("bias", "true", self.bias),
        ] {
            if asked && method.simplex()?.is_none() {
                return Err(TrainError::config(
                    &format!("embedding.{key}"),
                    &format!(
                        "{value} is for methods on the simplex, and method.kind {} has no embedding layer: its embeddings are the backbone's features; remove the key",
                        method.name()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Left out of a written configuration then, whose text and hash stay those from before the table existed.
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl ExperimentConfig {
    /// The configuration with the values of its recipe in the place of keys that it leaves out; those of [`Recipe::Best`] without a recipe.
    ///
    /// For configurations as they are written by hand. That of a run has been completed, and stays as it is.
    pub fn completed(mut self) -> Self {
        let Some(best) = self.method.objective().best() else {
            // Both recipes are the same, and the text of a configuration is that of before there were recipes.
            self.recipe = None;
            return self;
        };
        if *self.recipe.get_or_insert_default() == Recipe::Best {
            self.training.start_share.get_or_insert(best.start_share);
            if best.bridged_replacements {
                for replacement in &mut self.replacements {
                    replacement.entry.get_or_insert(Entry::Bridged);
                }
            }
        }
        self
    }

    /// Validates the values.
    ///
    /// # Errors
    ///
    /// The first key with an invalid value, and the remedy.
    pub fn check(&self) -> Result<(), TrainError> {
        check_name(&self.name)?;
        self.training.check()?;
        self.network.check()?;
        self.method.check()?;
        self.embedding.check(&self.method)?;
        if self.scenario.initial_classes == 0 {
            return Err(TrainError::config(
                "scenario.initial_classes",
                "must be at least 1",
            ));
        }
        if self.scenario.increment == 0 {
            return Err(TrainError::config(
                "scenario.increment",
                "must be at least 1",
            ));
        }
        for (at, replacement) in self.replacements.iter().enumerate() {
            if replacement.before_task == 0 {
                return Err(TrainError::config(
                    &format!("replacements.{at}.before_task"),
                    "task 0 has no predecessor to replace: set `initial_model` instead",
                ));
            }
            if replacement.entry() == Entry::Bridged && self.method.simplex()?.is_none() {
                return Err(TrainError::config(
                    &format!("replacements.{at}.entry"),
                    &format!(
                        "bridged is for methods on the simplex, and method.kind {} has none: remove the key",
                        self.method.name()
                    ),
                ));
            }
            if self.replacements[..at]
                .iter()
                .any(|earlier| earlier.before_task == replacement.before_task)
            {
                return Err(TrainError::config(
                    &format!("replacements.{at}.before_task"),
                    &format!(
                        "two replacements have before_task {}; remove one",
                        replacement.before_task
                    ),
                ));
            }
        }
        self.preprocessing.build().map(|_| ())
    }
}

impl PretrainConfig {
    /// Validates the values.
    ///
    /// # Errors
    ///
    /// The first key with an invalid value, and the remedy.
    pub fn check(&self) -> Result<(), TrainError> {
        check_name(&self.name)?;
        self.training.check()?;
        self.network.check()?;
        self.method.check()?;
        self.method.check_for_pretraining()?;
        self.embedding.check(&self.method)?;
        if self.training.start_share.is_some_and(|share| share > 0.0) {
            return Err(TrainError::config(
                "training.start_share",
                "a pre-training starts from random weights, which are not worth keeping; remove it",
            ));
        }
        let key = if self.alias.is_some() {
            "alias"
        } else {
            "name"
        };
        Registry::check_alias(self.alias())
            .map_err(|error| TrainError::config(key, &error.to_string()))?;
        self.preprocessing.build().map(|_| ())
    }

    /// The registry alias of the result.
    pub fn alias(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.name)
    }
}

fn check_name(name: &str) -> Result<(), TrainError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(allowed) {
        return Err(TrainError::config(
            "name",
            &format!("{name:?}: use letters, digits, '-', '_' and '.'"),
        ));
    }
    Ok(())
}

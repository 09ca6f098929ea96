//! Configurations of experiments and pre-trainings: every hyper-parameter, with the published recipe as default.
//!
//! Unknown keys are errors, and nothing set here is overridden later.

use std::path::{Path, PathBuf};

use perennial_core::Simplex;
use perennial_data::{Augmentation, GeneratedConfig, ImageSet, Preprocessing};
use serde::{Deserialize, Serialize};

use crate::losses::Masking;
use crate::network::NetworkConfig;
use crate::TrainError;

/// Simplex vertices of the published recipe.
pub const DEFAULT_VERTICES: usize = 1024;

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
    /// `er` or `simplex`; `hoc` needs an earlier model.
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
}

/// An image set, or a part of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetConfig {
    /// `cifar10`, `cifar100`, `tinyimagenet32`, `generated` or `folder:PATH`.
    pub set: String,
    /// Which part of the set, such as `train`, `test` or `batch1`.
    #[serde(default = "default_split")]
    pub split: String,
    /// Only classes `[first, end)`, in label order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<[u32; 2]>,
    /// Only the first images of each class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images_per_class: Option<usize>,
    /// What to draw, for `set = "generated"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated: Option<GeneratedTable>,
}

/// The `generated` table of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneratedTable {
    /// Classes to draw.
    pub classes: usize,
    /// Images of each.
    pub images_per_class: usize,
    /// The first class; disjoint ranges are disjoint classes.
    #[serde(default)]
    pub first_class: u32,
    /// Which images of the classes.
    #[serde(default)]
    pub seed: u64,
}

fn default_split() -> String {
    "train".into()
}

impl SetConfig {
    /// Reads (or draws) the set. `root` is the folder that holds the downloaded sets.
    ///
    /// # Errors
    ///
    /// A missing or malformed file, or a selection that leaves nothing.
    pub fn load(&self, root: &Path) -> Result<ImageSet, TrainError> {
        let mut set = match &self.generated {
            Some(table) if self.set == "generated" => perennial_data::generate(&GeneratedConfig {
                classes: table.classes,
                images_per_class: table.images_per_class,
                size: 32,
                seed: table.seed,
                first_class: table.first_class,
            })?,
            Some(_) => {
                return Err(TrainError::config("data.generated", "belongs to set = \"generated\"; remove it"));
            }
            None if self.set == "generated" => {
                return Err(TrainError::config(
                    "data.generated",
                    "set = \"generated\" needs it: { classes = 20, images_per_class = 100 }",
                ));
            }
            None => perennial_data::open(root, &self.set, &self.split)?,
        };
        if set.channels() == 1 {
            set = set.into_rgb()?;
        }
        if let Some([first, end]) = self.classes {
            if first >= end || end as usize > set.classes() {
                return Err(TrainError::config(
                    "data.classes",
                    &format!("[{first}, {end}) is not a range within the set's {} classes", set.classes()),
                ));
            }
            set = set.filter_classes(first..end);
        }
        if let Some(count) = self.images_per_class {
            set = set.first_per_class(count);
        }
        if set.is_empty() {
            return Err(TrainError::config("data", "the selection leaves no images"));
        }
        Ok(set)
    }

    /// A short text that names the selection, for `model.toml`.
    pub fn describe(&self) -> String {
        let mut text = format!("{}/{}", self.set, self.split);
        if let Some([first, end]) = self.classes {
            text.push_str(&format!(" classes {first}..{end}"));
        }
        if let Some(count) = self.images_per_class {
            text.push_str(&format!(" first {count} per class"));
        }
        if let Some(table) = &self.generated {
            let end = table.first_class as usize + table.classes;
            text.push_str(&format!(" classes {}..{end} x {}", table.first_class, table.images_per_class));
        }
        text
    }
}

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
        /// Weight of the cross-entropy; the contrastive term has `1 - lambda`.
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

/// Which earlier model is "old" in the contrastive term. They differ at a replacement alone.
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
    /// A number of vertices that no simplex has.
    pub fn simplex(&self) -> Result<Option<Simplex>, TrainError> {
        match *self {
            Self::Er {} => Ok(None),
            Self::Simplex { vertices } | Self::Hoc { vertices, .. } => Ok(Some(Simplex::new(vertices)?)),
        }
    }
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
        Self { images_per_class: 20 }
    }
}

/// Optimisation of one task.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingConfig {
    /// Epochs per task.
    pub epochs: usize,
    /// Images per batch; half of them from memory once there is one.
    pub batch_size: usize,
    /// Learning rate of the first epoch.
    pub learning_rate: f64,
    /// Where the cosine would end after the last epoch.
    pub final_learning_rate: f64,
    /// SGD momentum, without dampening.
    pub momentum: f64,
    /// Weight decay of parameters with two or more dimensions.
    pub weight_decay: f64,
    /// A checkpoint is written after every so many epochs.
    pub checkpoint_epochs: usize,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            epochs: 70,
            batch_size: 128,
            learning_rate: 1e-3,
            final_learning_rate: 1e-5,
            momentum: 0.9,
            weight_decay: 5e-4,
            checkpoint_epochs: 1,
        }
    }
}

impl TrainingConfig {
    fn check(&self) -> Result<(), TrainError> {
        let positive = [("epochs", self.epochs), ("batch_size", self.batch_size), ("checkpoint_epochs", self.checkpoint_epochs)];
        for (key, value) in positive {
            if value == 0 {
                return Err(TrainError::config(&format!("training.{key}"), "must be at least 1"));
            }
        }
        if self.batch_size < 2 {
            return Err(TrainError::config("training.batch_size", "batch norm needs at least 2 images"));
        }
        let rates = [
            ("learning_rate", self.learning_rate),
            ("final_learning_rate", self.final_learning_rate),
            ("momentum", self.momentum),
            ("weight_decay", self.weight_decay),
        ];
        for (key, value) in rates {
            if !value.is_finite() || value < 0.0 {
                return Err(TrainError::config(&format!("training.{key}"), &format!("{value} is not a rate")));
            }
        }
        Ok(())
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
        Self { crop_padding: 4, horizontal_flip: true }
    }
}

impl From<AugmentationConfig> for Augmentation {
    fn from(config: AugmentationConfig) -> Self {
        Self { crop_padding: config.crop_padding, horizontal_flip: config.horizontal_flip }
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
        Self { mean: [0.5071, 0.4867, 0.4408], std: [0.2675, 0.2565, 0.2761] }
    }
}

impl PreprocessingConfig {
    /// As the data crate wants it.
    ///
    /// # Errors
    ///
    /// A deviation that is not positive, or a value that is not finite.
    pub fn build(&self) -> Result<Preprocessing, TrainError> {
        Ok(Preprocessing::new(self.mean, self.std)?)
    }
}

/// A replacement of the deployed model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplacementConfig {
    /// The task (0-based) that starts from the replacement.
    pub before_task: usize,
    /// Registry version or alias of the replacement.
    pub model: String,
}

/// The probe sets of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// Images that are searched for.
    pub queries: SetConfig,
    /// Images that are searched in.
    pub gallery: SetConfig,
}

impl ExperimentConfig {
    /// Checks what the type system cannot.
    ///
    /// # Errors
    ///
    /// The first key whose value cannot work, with what to do.
    pub fn check(&self) -> Result<(), TrainError> {
        check_name(&self.name)?;
        self.training.check()?;
        check_network(&self.network)?;
        check_method(&self.method)?;
        if self.scenario.initial_classes == 0 {
            return Err(TrainError::config("scenario.initial_classes", "must be at least 1"));
        }
        if self.scenario.increment == 0 {
            return Err(TrainError::config("scenario.increment", "must be at least 1"));
        }
        for (at, replacement) in self.replacements.iter().enumerate() {
            if replacement.before_task == 0 {
                return Err(TrainError::config(
                    "replacements.before_task",
                    "task 0 has nothing to replace: name its model as `initial_model`",
                ));
            }
            if self.replacements[..at].iter().any(|earlier| earlier.before_task == replacement.before_task) {
                return Err(TrainError::config(
                    "replacements.before_task",
                    &format!("task {} is named twice", replacement.before_task),
                ));
            }
        }
        self.preprocessing.build().map(|_| ())
    }
}

impl PretrainConfig {
    /// Checks what the type system cannot.
    ///
    /// # Errors
    ///
    /// The first key whose value cannot work, with what to do.
    pub fn check(&self) -> Result<(), TrainError> {
        check_name(&self.name)?;
        self.training.check()?;
        check_network(&self.network)?;
        check_method(&self.method)?;
        if let MethodConfig::Hoc { .. } = self.method {
            return Err(TrainError::config(
                "method.kind",
                "`hoc` compares with an earlier model, and pre-training has none: use `simplex`",
            ));
        }
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
        return Err(TrainError::config("name", &format!("{name:?}: use letters, digits, '-', '_' and '.'")));
    }
    Ok(())
}

fn check_network(network: &NetworkConfig) -> Result<(), TrainError> {
    if !(1..=1024).contains(&network.width) {
        return Err(TrainError::config("network.width", &format!("{} is not between 1 and 1024", network.width)));
    }
    Ok(())
}

fn check_method(method: &MethodConfig) -> Result<(), TrainError> {
    method.simplex()?;
    if let MethodConfig::Hoc { lambda, mu, .. } = *method {
        if !(0.0..=1.0).contains(&lambda) {
            return Err(TrainError::config("method.lambda", &format!("{lambda} is not a fraction in [0, 1]")));
        }
        if !mu.is_finite() || mu <= 0.0 {
            return Err(TrainError::config("method.mu", &format!("{mu} is not a positive inverse temperature")));
        }
    }
    Ok(())
}

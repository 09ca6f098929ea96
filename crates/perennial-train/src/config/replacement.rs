//! Replacements of the deployed model by better ones.

use serde::{Deserialize, Serialize};

/// A replacement of the deployed model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplacementConfig {
    /// The task (0-based) that starts from the replacement.
    pub before_task: usize,
    /// Registry version or alias of the replacement.
    pub model: String,
    /// How it comes onto the run's simplex; none is [`Entry::Pretrained`] in a completed configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<Entry>,
}

impl ReplacementConfig {
    /// How it comes onto the run's simplex.
    pub fn entry(&self) -> Entry {
        self.entry.unwrap_or_default()
    }
}

/// How a replacement's embeddings come onto the simplex of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// It was pre-trained on this simplex, as the published recipe has it.
    #[default]
    Pretrained,
    /// Any network: an orthogonal map from its embeddings to the deployed version's, fitted on the images of the task that begins, becomes
    /// its embedding layer. Fine-tuning then starts from there.
    Bridged,
}

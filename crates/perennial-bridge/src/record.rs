//! What a bridge was fitted on, and how well it did.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How the rows of the two sides were matched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Matching {
    /// By their order.
    #[default]
    Row,
    /// By the items' ids.
    Id,
    /// By the names of the files that were embedded.
    FileName,
    /// By label: the rows are class means of different items.
    Label,
}

/// One line of the table of what was tried when the bridge was chosen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// What was tried, such as `ridge:0.001` or `dual 0.5`.
    pub name: String,
    /// Measures by name, such as `recall@1`; fractions.
    pub values: BTreeMap<String, f64>,
}

/// What a bridge was fitted on, and how well it did. [`fit`](crate::fit) fills `pairs`, `rank`, `matched` and `warnings`; the rest is the caller's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitRecord {
    /// Pairs, or classes if `matched` is by label. Of a chain, those of its weakest part.
    pub pairs: usize,
    /// Of a rotation (`orthogonal`, `lambda_orthogonal`): the rank of the product of the two sides, in as many dimensions the pairs determine
    /// it. Where the smaller of the two spaces has more, the rest of the map is arbitrary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// How the rows of the two sides were matched.
    #[serde(default)]
    pub matched: Matching,
    /// SHA-256 of the file with the fit set's embeddings of the source, as 64 lower-case hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_sha256: Option<String>,
    /// The same for the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_sha256: Option<String>,
    /// When it was fitted, as UTC such as `2026-11-22T21:35:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The share of the old query in a dual query that did best on held-out queries, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dual_weight: Option<f64>,
    /// Doubts about the fit, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What was tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trials: Vec<Trial>,
}

const MAX_TEXT_BYTES: usize = 4096;

impl FitRecord {
    /// Says which key of the record cannot be stored, and why.
    pub(crate) fn problem(&self) -> Option<String> {
        for (key, hash) in [
            ("from_sha256", &self.from_sha256),
            ("to_sha256", &self.to_sha256),
        ] {
            let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            if hash
                .as_ref()
                .is_some_and(|hash| hash.len() != 64 || !hash.bytes().all(hex))
            {
                return Some(format!(
                    "fit.{key} must be 64 lower-case hexadecimal digits"
                ));
            }
        }
        for (key, count) in [("pairs", Some(self.pairs)), ("rank", self.rank)] {
            if count.is_some_and(|count| i64::try_from(count).is_err()) {
                return Some(format!(
                    "fit.{key} is larger than a number of the file can be"
                ));
            }
        }
        if self
            .dual_weight
            .is_some_and(|weight| !(0.0..=1.0).contains(&weight))
        {
            return Some("fit.dual_weight must be from 0 to 1".to_owned());
        }
        let mut values = self.trials.iter().flat_map(|trial| trial.values.values());
        if values.any(|value| !value.is_finite()) {
            return Some("fit.trials: every value must be finite".to_owned());
        }
        let texts = self.created.iter().chain(&self.warnings);
        let trials = self
            .trials
            .iter()
            .flat_map(|trial| trial.values.keys().chain([&trial.name]));
        for text in texts.chain(trials) {
            if text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control) {
                return Some(format!(
                    "fit: every text must be one line of at most {MAX_TEXT_BYTES} bytes"
                ));
            }
        }
        None
    }
}

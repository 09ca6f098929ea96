//! Why an item was not embedded again.

use serde::{Deserialize, Serialize};

/// Why an item was not embedded again. It is kept as it is, and not tried again until that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// The item's payload does not say where its original is.
    NoSource,
    /// There is no such original any more.
    Gone,
    /// The place is outside of what may be read.
    Refused,
    /// The place does not answer.
    Unreachable,
    /// It is there and cannot be read, or is too large.
    Unreadable,
    /// It is no picture that can be decoded, or no text.
    Undecodable,
    /// It is another picture or text than the one that was stored.
    #[serde(alias = "other_picture")]
    OtherOriginal,
    /// It is a text, and the live version embeds pictures, or the other way round.
    OtherModality,
    /// The live version has no embedding for it.
    NoEmbedding,
}

impl FailureReason {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::NoSource,
        Self::Gone,
        Self::Refused,
        Self::Unreachable,
        Self::Unreadable,
        Self::Undecodable,
        Self::OtherOriginal,
        Self::OtherModality,
        Self::NoEmbedding,
    ];

    /// Its name in JSON and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSource => "no_source",
            Self::Gone => "gone",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Unreadable => "unreadable",
            Self::Undecodable => "undecodable",
            Self::OtherOriginal => "other_original",
            Self::OtherModality => "other_modality",
            Self::NoEmbedding => "no_embedding",
        }
    }
}

/// The reason for one item, with what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}: {detail}", reason.name())]
pub struct Failure {
    /// The kind.
    pub reason: FailureReason,
    /// What was found, for people.
    pub detail: String,
}

impl Failure {
    /// A failure with a text of bounded length.
    pub fn new(reason: FailureReason, detail: impl Into<String>) -> Self {
        const MAX_CHARACTERS: usize = 300;
        let mut detail: String = detail.into();
        if let Some((end, _)) = detail.char_indices().nth(MAX_CHARACTERS) {
            detail.truncate(end);
        }
        Self { reason, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_bounded_and_reasons_have_one_name() {
        let failure = Failure::new(FailureReason::Gone, "ü".repeat(1000));
        assert_eq!(failure.detail.chars().count(), 300);
        for reason in FailureReason::ALL {
            assert_eq!(serde_json::json!(reason), reason.name());
        }
    }
}

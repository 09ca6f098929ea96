//! What a measurement says about an upgrade.

use std::fmt;

use perennial_core::Verdict;
use serde::{Deserialize, Serialize};

/// The result of a certification, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// At least as good as the old encoder's own queries: the whole interval of the margin is at or above what is demanded.
    Compatible,
    /// The interval contains what is demanded.
    Undecided,
    /// The evaluation set cannot answer the question.
    CannotTell,
    /// The whole interval is below what is demanded.
    Incompatible,
}

impl Finding {
    /// The worse of two.
    pub fn worst(self, other: Self) -> Self {
        self.max(other)
    }
}

impl From<Verdict> for Finding {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Compatible => Self::Compatible,
            Verdict::Undecided => Self::Undecided,
            Verdict::Incompatible => Self::Incompatible,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compatible => "compatible",
            Self::Undecided => "undecided",
            Self::CannotTell => "cannot tell",
            Self::Incompatible => "incompatible",
        })
    }
}

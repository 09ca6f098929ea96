//! Items that a search leaves out, and why.

use perennial_core::SpaceId;

/// Items that are not searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotSearched {
    /// Their space.
    pub space: SpaceId,
    /// How many there are.
    pub items: u64,
    /// The kind of reason.
    pub cause: LeftOutCause,
    /// Why.
    pub reason: String,
}

/// Why items are not searched, as one of few kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOutCause {
    /// No model version is live, so nothing embeds queries.
    NoLiveVersion,
    /// No route to them is certified, or a file that its certificate needs is gone.
    NotCertified,
    /// The certified routes, or the force that accepted the pair, lead from queries or to items of other dimensions.
    Dimension,
    /// The best certified route needs the encoder of the items, which cannot be used for the query.
    OldEncoder,
    /// The best certified route needs an index of mapped vectors, which is not built.
    MappedIndex,
}

impl LeftOutCause {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::NoLiveVersion,
        Self::NotCertified,
        Self::Dimension,
        Self::OldEncoder,
        Self::MappedIndex,
    ];

    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoLiveVersion => "no_live_version",
            Self::NotCertified => "not_certified",
            Self::Dimension => "dimension",
            Self::OldEncoder => "old_encoder",
            Self::MappedIndex => "mapped_index",
        }
    }
}

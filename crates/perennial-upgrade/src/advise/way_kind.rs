//! The kinds of ways to handle an upgrade.

use serde::{Deserialize, Serialize};

/// The kind of a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WayKind {
    /// Keep the old encoder.
    DoNothing,
    /// New queries on stored embeddings, as they are.
    SwapAsItIs,
    /// New queries through a bridge.
    Bridge,
    /// Old and bridged new query in one.
    DualQueries,
    /// Stored embeddings mapped into the new space.
    MapStored,
    /// The first hits' originals embedded by the new encoder and ranked again.
    TwoStage,
    /// Part of the gallery embedded again.
    ReembedShare,
    /// The whole gallery embedded again.
    ReembedAll,
}

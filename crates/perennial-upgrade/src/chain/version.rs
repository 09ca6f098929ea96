//! One version of a chain.

use crate::evaluation_data::Rows;

/// What a version of the chain embedded.
pub struct ChainVersion {
    /// Its name.
    pub name: String,
    /// The queries, as it embeds them.
    pub queries: Rows,
    /// The gallery, as it embeds it.
    pub gallery: Rows,
    /// Inputs outside of the evaluation set, the same for all versions, to fit bridges on.
    pub fit: Option<Rows>,
}

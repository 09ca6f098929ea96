//! Bridges as maps of stored vectors.

use std::fmt;
use std::sync::Arc;

use perennial_bridge::{Bridge, BridgeError};
use perennial_gallery::VectorMap;

/// A bridge from the space of stored vectors to that of the queries, under the hash of its content.
#[derive(Clone, PartialEq)]
pub struct BridgeMap {
    bridge: Arc<Bridge>,
    sha256: String,
}

impl BridgeMap {
    /// Hashes the bridge once, since every search asks for it.
    pub fn new(bridge: Arc<Bridge>) -> Self {
        let sha256 = bridge.sha256();
        Self { bridge, sha256 }
    }

    /// The bridge.
    pub fn bridge(&self) -> &Bridge {
        &self.bridge
    }

    /// Queries as they are compared with mapped vectors: centred as those are.
    ///
    /// **Shapes**: `queries` and the result `[n, output_dim]`; the result has unit rows.
    ///
    /// # Errors
    /// Rows of another dimension, or without a direction.
    pub fn queries(&self, queries: &[f32]) -> Result<Vec<f32>, BridgeError> {
        let mut centred = queries.to_vec();
        self.bridge.centre_to(&mut centred)?;
        Ok(centred)
    }

    /// Those of some vectors that the bridge does not refuse, mapped.
    ///
    /// **Shapes**: `vectors` `[n, input_dim]`, the result `[m, output_dim]`, `m <= n`, unit rows.
    pub fn mapped(&self, vectors: &[f32]) -> Vec<f32> {
        self.map_each(vectors)
            .into_iter()
            .flatten()
            .flatten()
            .collect()
    }
}

impl VectorMap for BridgeMap {
    fn key(&self) -> &str {
        &self.sha256
    }

    fn input_dim(&self) -> usize {
        self.bridge.from().dim
    }

    fn output_dim(&self) -> usize {
        self.bridge.to().dim
    }

    fn map(&self, vectors: &[f32], mapped: &mut Vec<f32>) -> Result<(), String> {
        let applied = self.bridge.apply(vectors, mapped);
        applied.map_err(|error| error.to_string())
    }
}

/// Without the bridge's weights.
impl fmt::Debug for BridgeMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.bridge.from(), self.bridge.to())
    }
}

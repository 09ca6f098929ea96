//! The options of a gallery in a database.

use std::time::Duration;

use perennial_gallery::GalleryError;

use crate::qualified_name::check_identifier;

/// How a gallery is kept in a database.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreOptions {
    /// The schema with the gallery's tables, which is made if need be. Each schema holds one gallery. In Qdrant, the address names the gallery instead.
    pub schema: String,
    /// The most connections at a time; one of them writes.
    pub connections: usize,
    /// How long one statement or request may take. In PostgreSQL, snapshots, restoring and deletions by a filter have an hour.
    pub timeout: Duration,
    /// Refuse writes, and make no tables. A standby server will do.
    pub read_only: bool,
    /// Number of items from which on a space gets an HNSW index; 0 for never. Indexes that are there are used in any case.
    pub hnsw_from: u64,
    /// Shards of new collections of Qdrant; 0 for what the server takes.
    pub shards: u32,
    /// Replicas of each shard of new collections of Qdrant, a majority of which confirms every write; 0 for what the server takes.
    pub replicas: u32,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            schema: "perennial".to_owned(),
            connections: 8,
            timeout: Duration::from_secs(60),
            read_only: false,
            hnsw_from: 0,
            shards: 0,
            replicas: 0,
        }
    }
}

impl StoreOptions {
    /// Whether a gallery can be kept so.
    ///
    /// # Errors
    /// [`GalleryError::InvalidConfig`], which names the setting.
    pub fn check(&self) -> Result<(), GalleryError> {
        let invalid = |key, problem: &str| {
            Err(GalleryError::InvalidConfig {
                key,
                problem: problem.to_owned(),
            })
        };
        if let Err(error) = check_identifier("the schema", &self.schema) {
            return invalid("store.schema", &error.to_string());
        }
        if !(2..=1000).contains(&self.connections) {
            return invalid("store.connections", "must be 2 to 1000");
        }
        for (key, count) in [
            ("store.shards", self.shards),
            ("store.replicas", self.replicas),
        ] {
            if count > 1000 {
                return invalid(key, "must be 0 to 1000");
            }
        }
        let seconds = Duration::from_secs(1)..=Duration::from_secs(86_400);
        if !seconds.contains(&self.timeout) {
            return invalid("store.timeout_seconds", "must be 1 to 86400");
        }
        Ok(())
    }
}

//! The gallery of a running service, over HTTP. The functions return the same values as the local gallery.

use perennial_gallery::{Filter, GalleryStats, Hit, SnapshotInfo};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::service_client::ServiceClient;

/// Results of a search, and the version that embedded its query.
#[derive(Debug, Serialize, Deserialize)]
pub struct Found {
    pub model_version: String,
    pub hits: Vec<Hit>,
    /// Stored items whose embeddings have another dimension than the query.
    #[serde(default)]
    pub not_searched: u64,
}

/// A snapshot in the service's own folder.
#[derive(Debug, Serialize, Deserialize)]
pub struct RemoteSnapshot {
    /// Its file name there.
    pub name: String,
    #[serde(flatten)]
    pub info: SnapshotInfo,
}

pub fn stats(client: &ServiceClient) -> anyhow::Result<GalleryStats> {
    client.get("/gallery/stats")?.read()
}

/// Writes a snapshot into the folder that the service was given for them.
pub fn snapshot(client: &ServiceClient) -> anyhow::Result<RemoteSnapshot> {
    client.post("/snapshots", &json!({}))?.read()
}

/// Deletes the items that pass the filter; with `all`, every item.
pub fn delete(client: &ServiceClient, filter: &Filter, all: bool) -> anyhow::Result<usize> {
    #[derive(Deserialize)]
    struct Answer {
        deleted: usize,
    }
    let filter = if all {
        // The service rejects a filter without condition, so that a missing condition cannot empty the gallery.
        let versions: Vec<String> = stats(client)?.per_version.into_keys().collect();
        if versions.is_empty() {
            return Ok(0);
        }
        json!({ "model_versions": versions })
    } else {
        json!(filter)
    };
    let answer: Answer = client
        .delete("/gallery/items", &json!({ "filter": filter }))?
        .read()?;
    Ok(answer.deleted)
}

/// Searches; `query` holds `image` or `id` and the settings of the search.
pub fn search(client: &ServiceClient, query: &Value) -> anyhow::Result<Found> {
    client.query("/search", query)?.read()
}

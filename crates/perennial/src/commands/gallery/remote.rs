//! The gallery of a running service, over HTTP. The functions return the same values as the local gallery.

use std::collections::BTreeMap;

use perennial_gallery::{Filter, GalleryStats, ItemId, SnapshotInfo};
use perennial_upgrade::{PlannedPart, Route, SearchPlan};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::service_client::ServiceClient;

/// Results of a search, and the version that embedded its query.
#[derive(Debug, Serialize, Deserialize)]
pub struct Found {
    pub model_version: String,
    /// Best first.
    pub hits: Vec<FoundHit>,
    /// How the parts of the gallery were searched.
    pub parts: Vec<FoundPart>,
    /// Stored items that no certified route leads to.
    pub not_searched: u64,
    /// The same by space.
    pub left_out: Vec<LeftOut>,
    /// What became of the first hits, where they were ranked anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_stage: Option<SecondStage>,
}

/// What became of the first hits of a two-stage search.
#[derive(Debug, Serialize, Deserialize)]
pub struct SecondStage {
    pub hits: usize,
    /// Hits that the live version had embedded already.
    pub known: usize,
    /// Hits that it embedded now.
    pub embedded: usize,
    /// Hits whose originals could not be used, by reason.
    pub failed: BTreeMap<String, u64>,
    pub out_of_time: usize,
    pub fetch_seconds: f64,
    pub embed_seconds: f64,
}

/// One item that was found.
#[derive(Debug, Serialize, Deserialize)]
pub struct FoundHit {
    pub id: ItemId,
    /// Cosine similarity to the query in the item's space.
    pub score: f32,
    /// What the similarity is of: `own_cosine`, `bridged_cosine`, `dual_cosine` or `mapped_cosine`.
    #[serde(default)]
    pub score_kind: String,
    /// The figure by which the hit has its place.
    #[serde(default)]
    pub ranked_by: String,
    /// The similarity less what is usual for the query in its part, in standard deviations.
    pub standard_score: f64,
    /// The similarity on the scale of the query's own space, where the measured merge of a route ranks by it.
    #[serde(default)]
    pub merged_score: Option<f64>,
    /// Cosine similarity to the query in the live version's space, of a two-stage search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_score: Option<f32>,
    pub space: String,
    pub route: String,
    /// The same as `space`.
    pub model_version: String,
    pub label: Option<u32>,
    pub payload: Map<String, Value>,
}

/// Spaces that were searched with the same vector.
#[derive(Debug, Serialize, Deserialize)]
pub struct FoundPart {
    pub spaces: Vec<String>,
    pub dim: usize,
    pub route: String,
    /// The share of the old encoder, of dual queries.
    pub weight: Option<f64>,
    pub items: u64,
    pub basis: String,
    pub undecided: bool,
    pub fallback: Option<String>,
    /// By what its hits are ranked together with hits of the query's own space.
    #[serde(default)]
    pub merge: Option<String>,
    /// What its hits gain there, standard deviations or similarity; none where nothing was measured.
    #[serde(default)]
    pub merge_shift: Option<f64>,
}

/// Items of a space that were not searched.
#[derive(Debug, Serialize, Deserialize)]
pub struct LeftOut {
    pub space: String,
    pub items: u64,
    pub reason: String,
    /// The command that measures what is missing.
    pub remedy: Option<String>,
}

impl LeftOut {
    /// All that a plan leaves out.
    pub fn of(plan: &SearchPlan) -> Vec<Self> {
        let left_out = plan.not_searched.iter().map(|left| {
            let mut pairs = plan.refused.iter();
            let pair = pairs.find(|pair| pair.gallery_version == left.space.as_str());
            Self {
                space: left.space.to_string(),
                items: left.items,
                reason: left.reason.clone(),
                remedy: pair.and_then(|pair| pair.remedy.as_ref().map(ToString::to_string)),
            }
        });
        left_out.collect()
    }
}

impl FoundPart {
    pub fn of(part: &PlannedPart) -> Self {
        let route = part.way.route();
        Self {
            spaces: part.spaces.iter().map(ToString::to_string).collect(),
            dim: part.dim,
            route: route.name().to_owned(),
            weight: match route {
                Route::Dual { weight } => Some(weight),
                _ => None,
            },
            items: part.items,
            basis: part.basis.clone(),
            undecided: part.undecided,
            fallback: part.fallback.clone(),
            merge: part.merge_name().map(str::to_owned),
            merge_shift: part.merge_shift(),
        }
    }
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

//! A bridge from 8 to 4 dimensions, and requests that use it.

use std::path::Path;
use std::sync::LazyLock;

use perennial_bridge::{Bridge, Pairs, Recipe, fit};
use perennial_connect::migrate::{RunReport, RunRequest, Source, run};
use perennial_connect::{ConnectError, Observer, Silent};
use perennial_core::SpaceRef;
use perennial_upgrade::MappedPermission;

use crate::cluster::Cluster;

/// The vector of an item, of unit length.
pub fn vector_of(id: u64) -> Vec<f32> {
    let values: Vec<f32> = (1..=8)
        .map(|j| (id as f64 * 12.9898 + f64::from(j) * 78.233).sin() as f32)
        .collect();
    let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
    values.iter().map(|value| value / length).collect()
}

pub static BRIDGE: LazyLock<Bridge> = LazyLock::new(|| {
    let old: Vec<f32> = (1..=64).flat_map(vector_of).collect();
    // Not a linear function of the old vectors, so that the bridge is an ordinary one.
    let new: Vec<f32> = (1..=64)
        .flat_map(|id| {
            let old = vector_of(id);
            [0, 2, 4, 6].map(|at| old[at] + 0.3 * old[at + 1] * old[at + 1])
        })
        .collect();
    let pairs = Pairs::new(&old, 8, &new, 4).unwrap();
    let recipe = Recipe::Orthogonal;
    fit(&pairs, &recipe, SpaceRef::unnamed(8), SpaceRef::unnamed(4)).unwrap()
});

static PERMISSION: LazyLock<MappedPermission> = LazyLock::new(|| MappedPermission {
    basis: "as the tests have it".to_owned(),
    undecided: false,
    certificate: "0".repeat(64),
});

pub fn mapped(old: &[f32]) -> Vec<f32> {
    let mut new = Vec::new();
    BRIDGE.apply(old, &mut new).unwrap();
    new
}

/// A mapped run of a cluster's collection.
pub fn request(cluster: &Cluster) -> RunRequest<'static> {
    RunRequest {
        table: cluster.table(),
        key: None,
        vector: None,
        name: "new".to_owned(),
        source: Source::Mapped {
            bridge: &BRIDGE,
            permission: &PERMISSION,
        },
        rate: None,
        index: true,
    }
}

/// A run from a file.
pub fn from_file(cluster: &Cluster, path: &Path) -> RunRequest<'static> {
    RunRequest {
        source: Source::File(path.to_owned()),
        ..request(cluster)
    }
}

pub fn run_quietly(cluster: &Cluster, request: &RunRequest<'_>) -> Result<RunReport, ConnectError> {
    run(&cluster.address(), request, &mut Silent)
}

pub fn run_watched(
    cluster: &Cluster,
    request: &RunRequest<'_>,
    observer: &mut dyn Observer,
) -> Result<RunReport, ConnectError> {
    run(&cluster.address(), request, observer)
}

/// Every point has the copy that its present vector makes, with its payload and other vectors, and there are no others but those of the application.
pub fn assert_copies_are_right(cluster: &Cluster, vector: &str) {
    let old = cluster.points(&cluster.name);
    let copies = cluster.points(&cluster.copies());
    for (id, copy) in &copies {
        let mut payload = copy.payload.clone();
        if payload.remove("perennial_source").is_none() {
            continue;
        }
        let point = old
            .get(id)
            .unwrap_or_else(|| panic!("{id} has a copy and is gone"));
        assert_eq!(payload, point.payload, "{id}");
        let wanted = mapped(&point.dense(vector));
        let near = copy
            .dense(vector)
            .iter()
            .zip(&wanted)
            .all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near, "{id}: {copy:?} {wanted:?}");
        if let (Some(old), Some(new)) = (point.vector.as_object(), copy.vector.as_object()) {
            let others = |vectors: &serde_json::Map<String, serde_json::Value>| {
                let mut others = vectors.clone();
                others.remove(vector);
                others
            };
            assert_eq!(others(old), others(new), "{id}");
        }
    }
    let missing: Vec<&String> = old.keys().filter(|id| !copies.contains_key(*id)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
